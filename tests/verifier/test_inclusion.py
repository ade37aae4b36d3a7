"""The rows of the table in docs/soundness.md: what a state claims, what arrives, and whether the one is included in the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from pybpf.semantics import U64
from pybpf.verifier.certificate import NOT_NULL, NULL, halved, place_of
from pybpf.verifier.inclusion import Claim, Inclusion, NotIncluded
from pybpf.verifier.state import CELLS, FIRST_SLOT, Frame, State
from pybpf.verifier.values import METADATA, Atom, Atoms, Cell, Form, Number, Object, Pointer, Target, Values

SHARED: Final = Values()
STRICT: Final = Values(leaks=False)
"""Where no address may become a number."""
X, Y, Z, Q, R = (("at", n) for n in range(1, 6))
HERE: Final = place_of(0, 1)
"""Register 1, in which most of what follows is."""
SLOT: Final = FIRST_SLOT
HALF: Final = 1 << 63


def included(
    claim: Mapping[int, Cell],
    arriving: Mapping[int, Cell],
    names: Mapping[Atom, Form] | None = None,
    answers: Mapping[Atom, Any] | None = None,
    *,
    values: Values = SHARED,
    proofs: tuple[Mapping[Atoms, int], Mapping[Atoms, int]] = ({}, {}),
    held: tuple[set[Atom], set[Atom]] = (set(), set()),
    callers: tuple[list[Mapping[int, Cell]], list[Mapping[int, Cell]]] = ((), ()),  # type: ignore[assignment]
) -> bool:
    """Whether what arrives is included in what is claimed; pairs are (claimed, arriving)."""
    frames = tuple(Frame(tuple(cells(frame)), 0) for frame in callers[1])
    state = State(cells(arriving), frames, dict(proofs[1]), (), frozenset(held[1]))
    try:
        Inclusion(values, state, names or {}, answers or {}).check(
            Claim((*callers[0], claim), proofs[0], frozenset(held[0]))
        )
    except NotIncluded:
        return False
    return True


def cells(some: Mapping[int, Cell]) -> list[Cell]:
    return [some.get(index) for index in range(CELLS)]


def number(low: int, high: int, *atoms: Atom, plus: int = 0) -> Number:
    return SHARED.number(SHARED.numbers.signed(low, high), (atoms, plus) if atoms else None)


def pointer(
    target: Target = Target.PACKET,
    offset: int = 0,
    by: tuple[int, int] | None = None,
    atoms: Atoms | None = (),
    null: Atom | None = None,
    number: int = 0,
) -> Pointer:
    variable = None if by is None else SHARED.numbers.signed(*by)
    return SHARED.pointer(target, number, offset, variable, atoms, null)


def thing(kind: str, reference: Atom | None = None, null: Atom | None = None) -> Pointer:
    return SHARED.pointer(Target.OBJECT, SHARED.object(Object(kind, reference=reference)), null=null)


def shifted(*inner: Atom, plus: int = 0, unsigned: bool = True, signs: bool = True) -> Atom:
    """A sum shifted left by two."""
    return ("lsh", inner, plus, 2, unsigned, signs)


def pieces(*parts: tuple[int, int, Number | Pointer]) -> Cell:
    return SHARED.pieces(parts)


ANY: Final = SHARED.unknown
FOURS: Final = SHARED.number(
    SHARED.numbers.alu("lsh", 64, SHARED.numbers.unsigned(0, 255), SHARED.numbers.constant(2)), None
)
"""Multiples of four that are not negative."""
SIGNED_FOURS: Final = SHARED.number(
    SHARED.numbers.alu("lsh", 64, SHARED.numbers.unknown, SHARED.numbers.constant(2)), None
)
FOURS_AND_ONE: Final = SHARED.number(
    SHARED.numbers.alu("add", 64, FOURS.scalar, SHARED.numbers.constant(1)), None
)
BYTE: Final = number(0, 255)

NUMBERS: Final = {
    "the same range": (number(0, 10), number(0, 10), {}, True),
    "a smaller range": (number(0, 10), number(3, 4), {}, True),
    "a larger range": (number(0, 10), number(0, 11), {}, False),
    "nothing": (ANY, None, {}, False),
    "an address as any number": (ANY, pointer(), {}, True),
    "an address as a number in a range": (number(0, HALF - 1), pointer(), {}, False),
    "an address as an unknown of its own": (
        SHARED.number(SHARED.numbers.unknown, ((X,), 0)),
        pointer(),
        {X: ((HERE,), 0)},
        True,
    ),
    "an address as another unknown": (
        SHARED.number(SHARED.numbers.unknown, ((X,), 0)),
        pointer(),
        {},
        False,
    ),
    "the same sum": (number(0, 255, X, plus=5), number(0, 255, X, plus=5), {}, True),
    "a sum at another distance": (number(0, 255, X, plus=5), number(0, 255, X, plus=6), {}, False),
    "another unknown": (number(0, 255, X, plus=5), number(0, 255, Y, plus=5), {}, False),
    "another unknown by its name": (
        number(0, 255, X, plus=5),
        number(0, 255, Y, plus=5),
        {X: ((Y,), 0)},
        True,
    ),
    "a sum of two by its name": (
        number(0, 255, X, plus=5),
        number(0, 255, Y, Z, plus=8),
        {X: ((Z, Y), 3)},
        True,
    ),
    "a sum of two at another distance": (
        number(0, 255, X, plus=5),
        number(0, 255, Y, Z, plus=8),
        {X: ((Z, Y), 4)},
        False,
    ),
    "the same cell under another name": (number(0, 255, X), number(0, 255, X), {X: ((), 0)}, False),
    "the same cell, others renamed": (number(0, 255, X), number(0, 255, X), {Y: ((), 0)}, True),
    "a constant": (number(0, 255, X, plus=5), SHARED.constant(12), {X: ((), 7)}, True),
    "another constant": (number(0, 255, X, plus=5), SHARED.constant(13), {X: ((), 7)}, False),
    "a negative constant": (number(-5, 5, X, plus=-1), SHARED.constant(U64), {X: ((), 0)}, True),
    "a constant as an unknown": (number(0, 255, X), SHARED.constant(7), {}, False),
    "a counter whose value is known": (
        number(0, 255, X, plus=1),
        SHARED.pinned(SHARED.numbers.constant(8), ((Y,), 1)),
        {X: ((Y,), 0)},
        True,
    ),
    "no identity": (number(0, 255, X, plus=5), BYTE, {X: ((HERE,), -5)}, True),
    "no identity and no name": (number(0, 255, X, plus=5), BYTE, {}, False),
    "no identity, the name of another place": (
        number(0, 255, X),
        BYTE,
        {X: ((place_of(0, 2),), 0)},
        False,
    ),
    "a shifted sum": (number(0, 2000, shifted(X)), number(0, 2000, shifted(X)), {Y: ((), 0)}, True),
    "a shifted sum by its name": (
        number(0, 2000, shifted(X)),
        number(0, 2000, shifted(Y, plus=1)),
        {X: ((Y,), 1)},
        True,
    ),
    "a shifted sum, less one": (
        number(0, 2000, shifted(X)),
        number(0, 2000, shifted(Y, plus=1)),
        {X: ((Y,), 0)},
        False,
    ),
    "a shifted constant": (number(0, 2000, shifted(X)), SHARED.constant(12), {X: ((), 3)}, True),
    "a shifted constant and one": (number(0, 2000, shifted(X)), SHARED.constant(13), {X: ((), 3)}, False),
    "a constant that loses unsigned bits": (
        SHARED.number(SHARED.numbers.unknown, ((shifted(X, signs=False),), 0)),
        SHARED.constant(0),
        {X: ((), 1 << 62)},
        False,
    ),
    "a constant that loses signed bits": (
        SHARED.number(SHARED.numbers.unknown, ((shifted(X, unsigned=False),), 0)),
        SHARED.constant(HALF),
        {X: ((), 1 << 61)},
        False,
    ),
    "a negative constant that loses no signed bits": (
        SHARED.number(SHARED.numbers.unknown, ((shifted(X, unsigned=False),), 0)),
        SHARED.constant(HALF),
        {X: ((), -(1 << 61))},
        True,
    ),
    "a constant that may lose bits": (
        SHARED.number(SHARED.numbers.unknown, ((shifted(X, unsigned=False, signs=False),), 0)),
        SHARED.constant(0),
        {X: ((), 1 << 62)},
        True,
    ),
    "a constant that just loses no unsigned bits": (
        SHARED.number(SHARED.numbers.unknown, ((shifted(X, signs=False),), 0)),
        SHARED.constant(3 << 62),
        {X: ((), 3 << 60)},
        True,
    ),
    "a multiple": (number(0, 2000, shifted(X)), FOURS, {X: ((halved(HERE),), 0)}, True),
    "no multiple": (number(0, 2000, shifted(X)), FOURS_AND_ONE, {X: ((halved(HERE),), 0)}, False),
    "a multiple and one": (
        number(0, 2000, shifted(X), plus=1),
        FOURS_AND_ONE,
        {X: ((halved(HERE),), 0)},
        True,
    ),
    "a multiple of a sum": (number(0, 2000, shifted(X, plus=3)), FOURS, {X: ((halved(HERE),), 0)}, True),
    "a multiple of two unknowns": (
        number(0, 2000, shifted(X, Y)),
        FOURS,
        {X: ((halved(HERE),), 0)},
        False,
    ),
    "a multiple and another unknown": (
        number(0, 2000, shifted(X), Y),
        FOURS,
        {X: ((halved(HERE),), 0)},
        False,
    ),
    "a multiple of what is elsewhere": (
        number(0, 2000, shifted(X)),
        FOURS,
        {X: ((halved(place_of(0, 2)),), 0)},
        False,
    ),
    "a multiple of an unknown by its own name": (number(0, 2000, shifted(X)), FOURS, {}, False),
    "a multiple that may be negative": (
        SHARED.number(SIGNED_FOURS.scalar, ((shifted(X),), 0)),
        SIGNED_FOURS,
        {X: ((halved(HERE),), 0)},
        False,
    ),
    "a multiple that may be negative, of unsigned bits alone": (
        SHARED.number(SIGNED_FOURS.scalar, ((shifted(X, signs=False),), 0)),
        SIGNED_FOURS,
        {X: ((halved(HERE),), 0)},
        True,
    ),
    "a multiple that may be negative, of signed bits alone": (
        SHARED.number(SIGNED_FOURS.scalar, ((shifted(X, unsigned=False),), 0)),
        SIGNED_FOURS,
        {X: ((halved(HERE),), 0)},
        True,
    ),
}
"""What is claimed of a register, what arrives there, under which names, and whether it is included."""


@pytest.mark.parametrize("row", NUMBERS.values(), ids=NUMBERS)
def test_numbers(row: tuple[Number, Cell, Mapping[Atom, Form], bool]) -> None:
    claim, arriving, names, expected = row
    assert included({1: claim}, {1: arriving}, names) is expected


def test_nothing_claimed() -> None:
    """Anything may be in a cell of which nothing is claimed."""
    assert included({}, {1: ANY, SLOT: pointer()})
    assert included({1: None}, {1: None})
    assert not included({1: None}, {1: ANY}), "a claim of nothing is no claim"


def test_an_unknown_is_one_number() -> None:
    """What has no identity can be one unknown only where it is."""
    both = {1: number(0, 255, X), 2: number(0, 255, X)}
    names: Mapping[Atom, Form] = {X: ((HERE,), 0)}
    assert included({1: both[1]}, {1: BYTE, 2: BYTE}, names)
    assert not included(both, {1: BYTE, 2: BYTE}, names)


def test_addresses_that_must_not_leak_are_no_numbers() -> None:
    unknown, address = STRICT.unknown, STRICT.pointer(Target.PACKET)
    assert not included({1: unknown}, {1: address}, values=STRICT)
    assert included({1: unknown}, {1: STRICT.constant(3)}, values=STRICT)


POINTERS: Final = {
    "the same": (pointer(), pointer(), {}, {}, True),
    "of another target": (pointer(), pointer(Target.PACKET_END), {}, {}, False),
    "of another map": (
        pointer(Target.MAP_VALUE),
        pointer(Target.MAP_VALUE, number=1),
        {},
        {},
        False,
    ),
    "at another place": (pointer(), pointer(offset=1), {}, {}, False),
    "a number": (pointer(), ANY, {}, {}, False),
    "null": (pointer(), SHARED.constant(0), {}, {}, False),
    "null where it may be": (pointer(null=Q), SHARED.constant(0), {}, {Q: NULL}, True),
    "null where it is not": (pointer(null=Q), SHARED.constant(0), {}, {Q: NOT_NULL}, False),
    "null without an answer": (pointer(null=Q), SHARED.constant(0), {}, {}, False),
    "one where it may be null": (pointer(null=Q), SHARED.constant(1), {}, {Q: NULL}, False),
    "an address of a frame that is there, null": (
        pointer(Target.STACK, null=Q),
        SHARED.constant(0),
        {},
        {Q: NULL},
        True,
    ),
    "an address of a frame that is not there, null": (
        pointer(Target.STACK, null=Q, number=1),
        SHARED.constant(0),
        {},
        {Q: NULL},
        False,
    ),
    "a value of any map, null": (
        pointer(Target.MAP_VALUE, null=Q, number=1),
        SHARED.constant(0),
        {},
        {Q: NULL},
        True,
    ),
    "null, by an answer to no question": (pointer(), SHARED.constant(0), {}, {None: NULL}, False),
    "the same question": (pointer(null=Q), pointer(null=Q), {}, {R: NULL}, True),
    "another question": (pointer(null=Q), pointer(null=R), {}, {}, False),
    "another question by its name": (pointer(null=Q), pointer(null=R), {}, {Q: R}, True),
    "the same cell, its question answered": (pointer(null=Q), pointer(null=Q), {}, {Q: NULL}, False),
    "may be null": (pointer(), pointer(null=Q), {}, {}, False),
    "is not null": (pointer(null=Q), pointer(), {}, {Q: NOT_NULL}, True),
    "is not null, without an answer": (pointer(null=Q), pointer(), {}, {}, False),
    "is not null where it is": (pointer(null=Q), pointer(), {}, {Q: NULL}, False),
    "moved by no more": (pointer(by=(0, 10), atoms=None), pointer(by=(0, 9), atoms=None), {}, {}, True),
    "moved by more": (pointer(by=(0, 10), atoms=None), pointer(by=(0, 11), atoms=None), {}, {}, False),
    "moved where it is not": (pointer(), pointer(by=(0, 1), atoms=None), {}, {}, False),
    "moved by a constant": (pointer(by=(0, 10), atoms=None), pointer(offset=10), {}, {}, True),
    "moved by too great a constant": (pointer(by=(0, 10), atoms=None), pointer(offset=11), {}, {}, False),
    "moved by a constant to the left": (pointer(by=(0, 10), atoms=None), pointer(offset=-1), {}, {}, False),
    "moved by both": (
        pointer(offset=4, by=(0, 10), atoms=None),
        pointer(offset=8, by=(0, 6), atoms=None),
        {},
        {},
        True,
    ),
    "moved by both and more": (
        pointer(offset=4, by=(0, 10), atoms=None),
        pointer(offset=8, by=(0, 7), atoms=None),
        {},
        {},
        False,
    ),
    "moved until it wraps": (
        pointer(by=(-HALF, HALF - 1), atoms=None),
        pointer(offset=1, by=(0, HALF - 1), atoms=None),
        {},
        {},
        False,
    ),
    "moved until it nearly wraps": (
        pointer(by=(-HALF, HALF - 1), atoms=None),
        pointer(offset=1, by=(0, HALF - 2), atoms=None),
        {},
        {},
        True,
    ),
    "moved down until it wraps": (
        pointer(by=(-HALF, HALF - 1), atoms=None),
        pointer(offset=-1, by=(-HALF, 0), atoms=None),
        {},
        {},
        False,
    ),
    "moved down until it nearly wraps": (
        pointer(by=(-HALF, HALF - 1), atoms=None),
        pointer(offset=-1, by=(1 - HALF, 0), atoms=None),
        {},
        {},
        True,
    ),
    "moved by the same unknown": (
        pointer(by=(0, 10), atoms=(X,)),
        pointer(by=(0, 9), atoms=(X,)),
        {},
        {},
        True,
    ),
    "moved by another unknown": (
        pointer(by=(0, 10), atoms=(X,)),
        pointer(by=(0, 10), atoms=(Y,)),
        {},
        {},
        False,
    ),
    "moved by another unknown by its name": (
        pointer(by=(0, 10), atoms=(X,)),
        pointer(by=(0, 10), atoms=(Y,)),
        {X: ((Y,), 0)},
        {},
        True,
    ),
    "moved by an unknown and one": (
        pointer(by=(0, 10), atoms=(X,)),
        pointer(offset=1, by=(0, 9), atoms=(X,)),
        {},
        {},
        False,
    ),
    "moved by an unknown and one, by its name": (
        pointer(by=(0, 10), atoms=(X,)),
        pointer(offset=1, by=(0, 9), atoms=(X,)),
        {X: ((X,), 1)},
        {},
        True,
    ),
    "moved by a constant as an unknown": (
        pointer(offset=2, by=(0, 10), atoms=(X,)),
        pointer(offset=7),
        {X: ((), 5)},
        {},
        True,
    ),
    "moved by another constant as an unknown": (
        pointer(offset=2, by=(0, 10), atoms=(X,)),
        pointer(offset=7),
        {X: ((), 7)},
        {},
        False,
    ),
    "moved by what has no identity": (
        pointer(by=(0, 10), atoms=(X,)),
        pointer(by=(0, 10), atoms=None),
        {X: ((HERE,), 0)},
        {},
        True,
    ),
    "moved by what has no identity and no name": (
        pointer(by=(0, 10), atoms=(X,)),
        pointer(by=(0, 10), atoms=None),
        {},
        {},
        False,
    ),
    "the same cell, its unknown renamed": (
        pointer(by=(0, 10), atoms=(X,)),
        pointer(by=(0, 10), atoms=(X,)),
        {X: ((), 0)},
        {},
        False,
    ),
    "the same structure": (thing("sock"), thing("sock"), {}, {Q: R}, True),
    "another structure": (thing("sock"), thing("tcp_sock"), {}, {}, False),
    "a structure that is held": (thing("sock", Q), thing("sock", Q), {}, {R: Q}, True),
    "a structure that is held by another call": (thing("sock", Q), thing("sock", R), {}, {}, False),
    "a structure that is held by another call, by its name": (
        thing("sock", Q),
        thing("sock", R),
        {},
        {Q: R},
        True,
    ),
    "a structure that is not held": (thing("sock", Q), thing("sock"), {}, {}, False),
    "the same cell, held by another call": (thing("sock", Q), thing("sock", Q), {}, {Q: R}, False),
}
"""What is claimed of a register, what arrives, names, answers to questions of null, and whether it is included."""


@pytest.mark.parametrize("row", POINTERS.values(), ids=POINTERS)
def test_pointers(row: tuple[Pointer, Cell, Mapping[Atom, Form], Mapping[Atom, Any], bool]) -> None:
    claim, arriving, names, answers, expected = row
    assert included({1: claim}, {1: arriving}, names, answers) is expected


WORD: Final = SHARED.bytes(4)
PART: Final = place_of(0, SLOT, 4)
SLOTS: Final = {
    "the same parts": (pieces((0, 4, BYTE), (4, 4, WORD)), pieces((0, 4, BYTE), (4, 4, WORD)), {}, True),
    "fewer parts": (pieces((0, 4, BYTE)), pieces((0, 4, BYTE), (4, 4, WORD)), {}, True),
    "a part that is not there": (pieces((0, 4, BYTE), (4, 4, WORD)), pieces((0, 4, BYTE)), {}, False),
    "a part of more members": (pieces((0, 4, BYTE)), pieces((0, 4, WORD)), {}, False),
    "a part of a whole": (pieces((0, 4, BYTE)), SHARED.constant(255), {}, True),
    "the lower part of a whole is not the upper": (
        pieces((0, 4, BYTE)),
        SHARED.constant(255 << 32),
        {},
        True,
    ),
    "a part of a whole with more members": (pieces((0, 4, BYTE)), SHARED.constant(256), {}, False),
    "a whole of parts": (
        number(0, (1 << 40) - 1),
        pieces((0, 4, SHARED.constant(7)), (4, 4, SHARED.constant(1))),
        {},
        True,
    ),
    "a whole of parts with more members": (number(0, 255), pieces((0, 4, WORD), (4, 4, WORD)), {}, False),
    "a whole of which a part is not there": (ANY, pieces((0, 4, WORD)), {}, False),
    "a part of nothing": (pieces((0, 4, WORD)), None, {}, False),
    "a part of an address": (pieces((0, 4, WORD)), pointer(), {}, True),
    "a part with an identity": (
        pieces((4, 4, number(0, 255, X))),
        pieces((4, 4, BYTE)),
        {X: ((PART,), 0)},
        True,
    ),
    "a part with the identity of another": (
        pieces((4, 4, number(0, 255, X))),
        pieces((4, 4, BYTE)),
        {X: ((place_of(0, SLOT),), 0)},
        False,
    ),
}


@pytest.mark.parametrize("row", SLOTS.values(), ids=SLOTS)
def test_slots(row: tuple[Cell, Cell, Mapping[Atom, Form], bool]) -> None:
    """Part by part, or what a load of a part's bytes would give."""
    claim, arriving, names, expected = row
    assert included({SLOT: claim}, {SLOT: arriving}, names) is expected


def test_parts_of_addresses_that_must_not_leak() -> None:
    """No byte of an address is claimed to be a number; those beside it may be."""
    word = STRICT.bytes(4)
    address = STRICT.pointer(Target.PACKET)
    beside = STRICT.pieces(((0, 4, word), (4, 2, STRICT.bytes(2)), (6, 2, STRICT.bytes(2))))
    assert not included({SLOT: STRICT.pieces(((0, 4, word),))}, {SLOT: address}, values=STRICT)
    assert not included({SLOT: STRICT.pieces(((4, 4, word),))}, {SLOT: address}, values=STRICT)
    assert included({SLOT: STRICT.pieces(((4, 4, word),))}, {SLOT: beside}, values=STRICT)


def test_frames() -> None:
    """There are as many, and each is included, under names of its own places."""
    frame = {6: number(0, 255, X)}
    assert included({}, {}, callers=([frame], [frame]))
    assert not included({}, {}, callers=([], [frame]))
    assert not included({}, {}, callers=([frame], []))
    assert not included({}, {}, callers=([frame], [{6: BYTE}]))
    assert included({}, {}, {X: ((place_of(0, 6),), 0)}, callers=([frame], [{6: BYTE}]))
    assert not included({}, {}, {X: ((place_of(1, 6),), 0)}, callers=([frame], [{6: BYTE}]))
    assert included(frame, {6: BYTE}, {X: ((place_of(1, 6),), 0)}, callers=([{}], [{}]))


HELD: Final = {
    "the same": ({Q}, {Q}, {}, True),
    "no more": ({Q}, set(), {}, False),
    "more": (set(), {Q}, {}, False),
    "something else": ({Q}, {R}, {}, False),
    "something by its name": ({Q}, {R}, {Q: R}, True),
    "one by two names": ({Q, R}, {R}, {Q: R}, False),
    "two by one name": ({Q, R}, {R, X}, {Q: R}, False),
}


@pytest.mark.parametrize("row", HELD.values(), ids=HELD)
def test_what_is_held(row: tuple[set[Atom], set[Atom], Mapping[Atom, Any], bool]) -> None:
    claimed, arriving, answers, expected = row
    assert included({}, {}, answers=answers, held=(claimed, arriving)) is expected


FAR: Final = 1 << 32
PROOFS: Final = {
    "the same": ({(X,): 10}, {(X,): 10}, {}, True),
    "more": ({(X,): 10}, {(X,): 11}, {}, True),
    "less": ({(X,): 10}, {(X,): 9}, {}, False),
    "none": ({(X,): 10}, {}, {}, False),
    "of the packet's start": ({(): 10}, {(): 10}, {}, True),
    "of another unknown": ({(X,): 10}, {(Y,): 10}, {}, False),
    "by another name": ({(X,): 10}, {(Y,): 15}, {X: ((Y,), 5)}, True),
    "by another name, one too few": ({(X,): 10}, {(Y,): 14}, {X: ((Y,), 5)}, False),
    "behind a number that may wrap downwards": ({(X,): 10}, {(Y,): 100}, {X: ((Y,), -1)}, False),
    "behind a constant": ({(X,): 10}, {(): 15}, {X: ((), 5)}, True),
    "behind a negative constant": ({(X,): 10}, {(): 9}, {X: ((), -1)}, True),
    "behind a negative constant, one too few": ({(X,): 10}, {(): 8}, {X: ((), -1)}, False),
    "of metadata": ({(METADATA,): 4}, {(METADATA,): 4}, {}, True),
    "of metadata, not of the packet": ({(METADATA,): 4}, {(): 4}, {}, False),
    "of metadata behind a negative constant": ({(METADATA, X): 4}, {(METADATA,): 3}, {X: ((), -1)}, True),
    "nearly far": ({(X,): 10}, {(Y,): FAR + 10}, {X: ((Y,), FAR - 1)}, True),
    "far": ({(X,): 10}, {(Y,): FAR + 10}, {X: ((Y,), FAR)}, False),
    "nearly far below": ({(X,): 10}, {(): 10}, {X: ((), 1 - FAR)}, True),
    "far below": ({(X,): 10}, {(): 10}, {X: ((), -FAR)}, False),
    "a long way": ({(X,): FAR - 1}, {(X,): FAR}, {}, True),
    "too long a way": ({(X,): FAR}, {(X,): FAR}, {}, False),
    "a long way back": ({(X,): 1 - FAR}, {(X,): 0}, {}, True),
    "too long a way back": ({(X,): -FAR}, {(X,): 0}, {}, False),
}


@pytest.mark.parametrize("row", PROOFS.values(), ids=PROOFS)
def test_proofs(row: tuple[Mapping[Atoms, int], Mapping[Atoms, int], Mapping[Atom, Form], bool]) -> None:
    claimed, arriving, names, expected = row
    assert included({}, {}, names, proofs=(claimed, arriving)) is expected
