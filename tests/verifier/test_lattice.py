"""States that cover others: no machine state is lost by a join, by widening, or by taking one state for another."""

from __future__ import annotations

import pytest

from pybpf import assemble
from pybpf.verifier.lattice import Lattice, relations, thresholds
from pybpf.verifier.state import CELLS, FIRST_SLOT, Frame, State
from pybpf.verifier.values import LENGTH, Cell, Pointer, Target, Values
from tests.verifier.states import Draw, stands_for

SEEDS = range(1500)
"""One pair of states each, drawn anew for each policy: a failure names its seed."""


@pytest.mark.slow
@pytest.mark.parametrize("leaks", [True, False])
def test_states_stand_for_what_they_were_drawn_around(leaks: bool) -> None:
    """The ground of the tests: the drawn machine state is one of the drawn abstract state."""
    for seed in SEEDS:
        machine, state = Draw(seed, Values(leaks=leaks)).state()
        assert stands_for(state, machine, leaks=leaks), seed


@pytest.mark.slow
@pytest.mark.parametrize("leaks", [True, False])
def test_a_join_holds_both(leaks: bool) -> None:
    """Whatever either state stands for, the join stands for too: relations, questions and proofs included."""
    for seed in SEEDS:
        draw = Draw(seed, Values(leaks=leaks))
        (first, a), (second, b) = draw.state(), draw.state()
        joined = Lattice(draw.values, leaks=leaks).join(a, b, 9)
        assert stands_for(joined, first, leaks=leaks), seed
        assert stands_for(joined, second, leaks=leaks), seed


@pytest.mark.slow
@pytest.mark.parametrize("leaks", [True, False])
def test_a_join_of_three_holds_all(leaks: bool) -> None:
    """Names that a join makes do not clash with those of the next one at the same place."""
    for seed in SEEDS:
        draw = Draw(seed, Values(leaks=leaks))
        lattice = Lattice(draw.values, leaks=leaks)
        drawn = [draw.state() for _ in range(3)]
        joined = lattice.join(lattice.join(drawn[0][1], drawn[1][1], 9), drawn[2][1], 9)
        assert all(stands_for(joined, machine, leaks=leaks) for machine, _ in drawn), seed


@pytest.mark.slow
@pytest.mark.parametrize("leaks", [True, False])
def test_a_covered_state_is_held(leaks: bool) -> None:
    """If one state covers another, it stands for what the other stands for.

    The first is a mixture of the second and of another, or of their joins, so that it often covers it, or nearly.
    """
    covered = 0
    for seed in SEEDS:
        draw = Draw(seed, Values(leaks=leaks))
        lattice, one_of = Lattice(draw.values, leaks=leaks), draw.random.choice
        (machine, new), (_, other) = draw.state(), draw.state()
        for old in (new, other, lattice.join(new, other, 9), lattice.join(other, new, 9)):
            cells = [one_of((x, x, x, y)) for x, y in zip(old.cells, new.cells, strict=True)]
            proofs = {atoms: size for atoms, size in old.proofs.items() if one_of((True, False))}
            mixed = State(cells, (), proofs)
            if lattice.covers(mixed, relations(mixed), new):
                covered += 1
                assert stands_for(mixed, machine, leaks=leaks), seed
    assert covered > len(SEEDS), "too few states were covered to say anything"


@pytest.mark.slow
def test_a_covered_state_is_held_where_only_relations_differ() -> None:
    """The same with all cells of one range, and the first the second with its registers exchanged: which unknown is where,
    and what is proved about it, is all that tells the two apart.
    """
    covered = 0
    for seed in SEEDS:
        draw = Draw(seed, Values(), alike=True)
        lattice, one_of = Lattice(draw.values, leaks=True), draw.random.choice
        machine, new = draw.state()
        for _ in range(8):
            old = draw.permuted(new)
            cells = [one_of((x, x, x, y)) for x, y in zip(old.cells, new.cells, strict=True)]
            proofs = {atoms: size for atoms, size in old.proofs.items() if one_of((True, False))}
            mixed = State(cells, (), proofs)
            if lattice.covers(mixed, relations(mixed), new):
                covered += 1
                assert stands_for(mixed, machine, leaks=True), seed
    assert covered > len(SEEDS), "too few states were covered to say anything"


@pytest.mark.slow
@pytest.mark.parametrize("leaks", [True, False])
def test_widening_holds_both(leaks: bool) -> None:
    """A widened state stands for what both of its states stand for."""
    limits = thresholds(assemble("if r1 > 20 goto +0\n exit"))
    for seed in SEEDS:
        draw = Draw(seed, Values(leaks=leaks))
        (first, a), (second, b) = draw.state(), draw.state()
        widened = Lattice(draw.values, leaks=leaks).widen(a, b, 9, limits)
        assert stands_for(widened, first, leaks=leaks), seed
        assert stands_for(widened, second, leaks=leaks), seed


def test_every_state_covers_itself() -> None:
    """The order is reflexive."""
    for seed in range(200):
        draw = Draw(seed, Values())
        lattice, (_, state) = Lattice(draw.values, leaks=True), draw.state()
        assert lattice.covers(state, relations(state), state), seed


# What the order must refuse, case by case.


def state(values: Values, *cells: Cell, **proofs: int) -> State:
    """A state of registers, with so much of the packet proved."""
    return State([*cells, *[None] * (CELLS - len(cells))], (), {(): proofs["packet"]} if proofs else {})


def covers(values: Values, old: State, new: State, *, leaks: bool = True) -> bool:
    lattice = Lattice(values, leaks=leaks)
    return lattice.covers(old, relations(old), new)


def test_the_order_is_not_inverted() -> None:
    """A larger set covers a smaller one, not the other way round (a published fault of PREVAIL)."""
    values = Values()
    byte = state(values, values.number(values.numbers.unsigned(0, 255), None))
    five = state(values, values.constant(5))
    assert covers(values, byte, five)
    assert not covers(values, five, byte)


def test_less_proved_covers_more_proved() -> None:
    values = Values()
    assert covers(values, state(values, packet=14), state(values, packet=34))
    assert not covers(values, state(values, packet=34), state(values, packet=14))


def test_equal_unknowns_must_stay_equal() -> None:
    """Two registers with one unknown stand for fewer machines than two with one each."""
    values = Values()
    unknown = values.numbers.unknown
    same = state(values, *[values.number(unknown, ((("at", 1),), 0))] * 2)
    apart = state(
        values, values.number(unknown, ((("at", 1),), 0)), values.number(unknown, ((("at", 2),), 0))
    )
    assert covers(values, apart, same)
    assert not covers(values, same, apart)


def test_a_distance_must_stay_the_same() -> None:
    values = Values()
    unknown = values.numbers.unknown
    by_four = state(
        values, values.number(unknown, ((("at", 1),), 0)), values.number(unknown, ((("at", 1),), 4))
    )
    by_five = state(
        values, values.number(unknown, ((("at", 1),), 0)), values.number(unknown, ((("at", 1),), 5))
    )
    assert not covers(values, by_four, by_five)


def test_a_pointer_covers_what_it_may_be_and_not_what_an_addition_makes_of_it() -> None:
    """packet+24 - {0, 24} and the numbers between that differ in other bits: packet+0 is one of them, packet+8 is not, though the sum of
    24 and the set, as a set of its own, has 8 in it.
    """
    values = Values()
    numbers = values.numbers
    either = numbers.join(numbers.constant(0), numbers.constant(-24 & ((1 << 64) - 1)))
    old = state(values, values.pointer(Target.PACKET, 0, 24, either, None))
    at = {
        offset: state(values, values.pointer(Target.PACKET, 0, offset, None, None)) for offset in (0, 8, 24)
    }
    assert [offset for offset, new in at.items() if covers(values, old, new)] == [0, 24]


def test_a_number_is_not_the_length() -> None:
    """A test of the length would prove something of the packet."""
    values = Values()
    scalar = values.numbers.unsigned(0, 1500)
    length = state(values, values.number(scalar, ((LENGTH,), 0)))
    number = state(values, values.number(scalar, ((("at", 1),), 0)))
    assert covers(values, number, length)
    assert not covers(values, length, number)


def test_one_question_must_stay_one() -> None:
    """Testing one pointer answers for both; it must not where there are two questions."""
    values = Values()
    one = values.pointer(Target.MAP_VALUE, 0, null=("at", 1))
    two = values.pointer(Target.MAP_VALUE, 0, null=("at", 2))
    assert covers(values, state(values, one, two), state(values, one, one))
    assert not covers(values, state(values, one, one), state(values, one, two))


def test_not_null_is_covered_by_maybe_null() -> None:
    values = Values()
    sure = values.pointer(Target.MAP_VALUE, 0)
    maybe = values.pointer(Target.MAP_VALUE, 0, null=("at", 1))
    assert covers(values, state(values, maybe), state(values, sure))
    assert covers(values, state(values, maybe), state(values, values.constant(0)))
    assert not covers(values, state(values, sure), state(values, maybe))


def test_targets_and_maps_are_told_apart() -> None:
    values = Values()
    first, second = values.pointer(Target.MAP_VALUE, 0), values.pointer(Target.MAP_VALUE, 1)
    assert not covers(values, state(values, first), state(values, second))
    assert not covers(values, state(values, first), state(values, values.pointer(Target.PACKET)))


def test_an_address_is_a_number_only_where_it_may_leak() -> None:
    values = Values()
    unknown, pointer = state(values, values.unknown), state(values, values.pointer(Target.PACKET))
    assert covers(values, unknown, pointer, leaks=True)
    assert not covers(values, unknown, pointer, leaks=False)
    byte = state(values, values.number(values.numbers.unsigned(0, 255), None))
    assert not covers(values, byte, pointer, leaks=True)


def test_nothing_is_covered_by_anything_written() -> None:
    """What was never written must not be read where it is taken for written."""
    values = Values()
    slot = [None] * FIRST_SLOT
    written, unwritten = state(values, *slot, values.unknown), state(values, *slot, None)
    assert covers(values, unwritten, written)
    assert not covers(values, written, unwritten)


def test_callers_must_be_the_same() -> None:
    """States of different calls are of different programs, and what the callers hold counts."""
    values = Values()

    def inside(call: int, *cells: Cell) -> State:
        inner = state(values, values.unknown)
        inner.frames = (Frame(tuple(state(values, *cells).cells), call),)
        return inner

    byte = values.number(values.numbers.unsigned(0, 255), None)
    assert covers(values, inside(3, values.unknown), inside(3, byte))
    assert not covers(values, inside(3, byte), inside(3, values.unknown))
    assert not covers(values, inside(3, byte), inside(4, byte))
    assert not covers(values, state(values, values.unknown), inside(3, byte))


def test_a_proof_of_one_path_is_no_proof_of_the_join() -> None:
    """The least that both prove is proved; of an unknown that one path knows nothing about, nothing is."""
    values = Values()
    lattice = Lattice(values, leaks=True)
    a, b = state(values, packet=34), state(values, packet=14)
    assert lattice.join(a, b, 9).proofs == {(): 14}
    a.prove((("at", 1),), 8)
    assert lattice.join(a, b, 9).proofs == {(): 14}


def test_joined_pointers_keep_what_is_proved_behind_both() -> None:
    """packet + 14 with 34 bytes, packet + v with v + 20 bytes: 20 bytes behind whichever it is."""
    values = Values()
    lattice = Lattice(values, leaks=True)
    variable = values.numbers.unsigned(0, 60)
    a = state(values, values.pointer(Target.PACKET, 0, 14), packet=34)
    b = state(values, values.pointer(Target.PACKET, 0, 0, variable, (("at", 1),)), packet=20)
    b.prove((("at", 1),), 20)
    joined = lattice.join(a, b, 9)
    pointer = joined.cells[0]
    assert isinstance(pointer, Pointer)
    assert joined.proved(pointer.atoms) - pointer.offset == 20


def test_an_unproved_pointer_proves_nothing_of_the_join() -> None:
    """Nothing is known to lie behind packet + v before it is compared, not even zero bytes."""
    values = Values()
    lattice = Lattice(values, leaks=True)
    a = state(values, values.pointer(Target.PACKET, 0, 100), packet=200)
    b = state(
        values,
        values.pointer(Target.PACKET, 0, -8, values.numbers.unsigned(8, 1000), (("at", 1),)),
        packet=20,
    )
    for joined in (lattice.join(a, b, 9), lattice.join(b, a, 9)):
        pointer = joined.cells[0]
        assert isinstance(pointer, Pointer)
        assert joined.proved(pointer.atoms) < -(1 << 29)
