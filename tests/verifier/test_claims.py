"""Claims that no exploration makes: each fits what arrives and is refused by one condition of the checker, or of a step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

import pybpf
from pybpf import Certificate, CertificateError, Program, VerifiedProgram
from pybpf.isa import Kind
from pybpf.program_types import get
from pybpf.semantics import U32, U64
from pybpf.verifier.certificate import (
    NOT_NULL,
    Edge,
    Loop,
    NumberClaim,
    Point,
    PointerClaim,
    fingerprint,
)
from pybpf.verifier.scalar import Numbers
from pybpf.verifier.values import LENGTH, METADATA, Form, Object, Target
from pybpf.verifier.view import top

QUESTION = 99

TWO_WAYS = """
    .type xdp
    .map table array key=4 value=8 entries=1
      r6 = *(u32 *)(r1 + 0)
      r7 = *(u32 *)(r1 + 4)
      r8 = r6
      r9 = r1
      r5 = table ll
      r0 = *(u32 *)(r1 + 12)
      if r0 == 0 goto next
      r0 = 1
    next:
      r0 = *(u32 *)(r9 + 12)
      if r6 >= r7 goto out
      r0 = *(u8 *)(r8 + 0)
    out:
      r0 = 2
      exit
"""
NEXT = 9
"""The slot at which the two ways meet."""


def certified(text: str) -> VerifiedProgram:
    return pybpf.verify(pybpf.assemble(text), certificate=True)


def changed(certificate: Certificate, pc: int, index: int, claim: Any, **edge: Any) -> Certificate:
    """A certificate that claims something else of a cell at a slot, with edges that say more on their ways there."""
    there = {number for number, point in enumerate(certificate.points) if point.place == ((), pc)}

    def point(number: int, old: Point) -> Point:
        edges = tuple(replace(e, **edge) if e.target in there else e for e in old.edges)
        cells = {**old.cells, index: len(certificate.cells)} if number in there else old.cells
        return replace(old, cells=cells, edges=edges)

    points = tuple(point(number, old) for number, old in enumerate(certificate.points))
    return replace(certificate, points=points, cells=(*certificate.cells, claim))


def cell(certificate: Certificate, pc: int, index: int) -> Any:
    point = next(point for point in certificate.points if point.place == ((), pc))
    return certificate.cells[point.cells[index]]


def refused(verified: VerifiedProgram, certificate: Certificate, why: str) -> None:
    with pytest.raises(CertificateError, match=why):
        pybpf.check(verified.program, certificate)


def test_what_may_be_null_proves_nothing_of_the_packet() -> None:
    """Null is below the packet's end, whatever the packet's length."""
    verified = certified(TWO_WAYS)
    assert verified.certificate is not None
    claim = cell(verified.certificate, NEXT, 6)._replace(null=QUESTION)
    answers = {QUESTION: NOT_NULL}
    refused(
        verified, changed(verified.certificate, NEXT, 6, claim, answers=answers), "not proved to be as long"
    )


def test_fields_are_at_constant_offsets() -> None:
    """A pointer to the context that may have been moved is no pointer to its start."""
    verified = certified(TWO_WAYS)
    assert verified.certificate is not None
    certificate = verified.certificate
    moved = cell(certificate, NEXT, 9)._replace(variable=len(certificate.scalars), atoms=None)
    scalars = (*certificate.scalars, (top(64)._replace(umax=8, smin=0, smax=8), top(32)))
    refused(verified, changed(replace(certificate, scalars=scalars), NEXT, 9, moved), "context-access")


@pytest.mark.parametrize("atom", [LENGTH, METADATA])
def test_lengths_have_one_name(atom: str) -> None:
    """What is the packet's length at one point is its length at the next."""
    verified = certified(TWO_WAYS)
    assert verified.certificate is not None
    claim = cell(verified.certificate, NEXT, 6)
    refused(verified, changed(verified.certificate, NEXT, 6, claim, names={atom: ((), 0)}), "named anew")


@pytest.mark.parametrize(
    "claim",
    [
        PointerClaim(Target.MAP, 1, None, 0, None, (), None),
        PointerClaim(Target.MAP_VALUE, 1, None, 0, None, (), None),
        PointerClaim(Target.FUNCTION, 1, None, 0, None, (), None),
        PointerClaim(Target.OBJECT, 0, None, 0, None, (), None),
        PointerClaim(Target.RECORD, 0, None, 0, None, (), None),
    ],
    ids=lambda claim: claim.target.value,
)
def test_what_pointers_point_into_is_there(claim: PointerClaim) -> None:
    """Of what is not there nothing can be said, even of what is never looked at."""
    verified = certified(TWO_WAYS)
    assert verified.certificate is not None
    unused = replace(verified.certificate, cells=(*verified.certificate.cells, claim))
    refused(verified, unused, "there is none")
    there = claim._replace(number=0, object=Object("sock"))
    pybpf.check(verified.program, replace(unused, cells=(*verified.certificate.cells, there)))


def test_a_type_without_a_context_has_no_pointer_to_one() -> None:
    verified = pybpf.verify(pybpf.assemble(".type filter\n r0 = 0\n exit"), certificate=True)
    assert verified.certificate is not None
    claim = PointerClaim(Target.CONTEXT, 0, None, 0, None, (), None)
    refused(verified, replace(verified.certificate, cells=(claim,)), "there is none")


def test_a_number_is_one_of_some() -> None:
    """A set of numbers without members would include nothing, and prove everything."""
    verified = certified(TWO_WAYS)
    assert verified.certificate is not None
    nothing = (top(64)._replace(umin=1, umax=0), top(32))
    refused(verified, replace(verified.certificate, scalars=(*verified.certificate.scalars, nothing)), "none")


def test_points_that_are_never_reached_are_no_claims() -> None:
    verified = certified(TWO_WAYS)
    assert verified.certificate is not None
    points = verified.certificate.points
    refused(
        verified, replace(verified.certificate, points=(*points, points[-1])), "1 points are never reached"
    )


def test_the_entry_is_the_program_s() -> None:
    """The first point is where the program starts, and claims no more than is known there."""
    verified = certified(TWO_WAYS)
    assert verified.certificate is not None
    certificate = verified.certificate
    refused(verified, replace(certificate, entry=Edge(len(certificate.points) - 1)), "leads to pc")
    first = certificate.points[0]
    points = (replace(first, proofs={(): 1}), *certificate.points[1:])
    refused(verified, replace(certificate, points=points), "not proved to be as long")


LOOP = """
    .type xdp
      r2 = *(u32 *)(r1 + 12)
      r1 = 0
    head:
      if r1 >= r2 goto out
      r1 += 1
      goto head
    out:
      r0 = 2
      exit
"""


def test_a_visit_is_not_inside_a_visit_of_the_same_head() -> None:
    """Then its ghosts would stand for what they were a turn before."""
    verified = certified(LOOP)
    assert verified.certificate is not None
    points = list(verified.certificate.points)
    first, second, *_ = (number for number, point in enumerate(points) if point.ghosts is not None)
    points[second] = replace(points[second], visits=(first,))
    refused(verified, replace(verified.certificate, points=tuple(points)), "visit inside a visit")


def test_what_was_checked_is_counted() -> None:
    """An instruction counts once in each point."""
    verified = certified(LOOP)
    assert verified.certificate is not None
    lengths = {0: 2, 2: 1, 3: 2, 5: 2}
    explored = sum(lengths[point.place[1]] for point in verified.certificate.points)
    assert pybpf.check(verified.program, verified.certificate).facts.explored == explored


# Loops: certificates made by hand

BACK = {
    "moves on": "r1 += 3",
    "stands": "r4 = 0",
    "moves back": "if r1 == 0 goto out\n r1 += -1",
    "is set anew": "r1 = r2\n r1 &= 63",
}
"""What the second way round the loop does to the cell that is said to move."""
GHOST: Form = (("g",), 0)
HEAD = frozenset({"g"})
CONTEXT = PointerClaim(Target.CONTEXT, 0, None, 0, None, (), None)
FRAME = PointerClaim(Target.STACK, 0, None, 0, None, (), None)


def between(low: int, high: int) -> Any:
    scalar = Numbers().unsigned(low, high)
    return scalar.wide, scalar.narrow


def two_ways_round(back: str) -> tuple[Program, Certificate]:
    """A loop with two ways round, and claims that are all true; and that r1 grows on each."""
    program = pybpf.assemble(f"""
        .type xdp
          r2 = *(u32 *)(r1 + 12)
          r1 = 0
        head:
          if r1 >= 100 goto out
          if r2 == 5 goto back
          r1 += 2
          goto head
        back:
          {BACK[back]}
          goto head
        out:
          r0 = 2
          exit
    """)
    renamed: dict[str, Form] = {
        "moves on": (("g",), 3),
        "stands": GHOST,
        "moves back": (("g",), -1),
        "is set anew": ((("at", 7),), 0),
    }
    cells = (CONTEXT, FRAME, NumberClaim(0, None), *(NumberClaim(scalar, GHOST) for scalar in (1, 2, 3)))
    context, frame, anything, at_head, inside, not_zero = range(6)
    scalars = (between(0, U32), between(0, 102), between(0, 99), between(1, 99))
    here = {1: inside, 2: anything, 10: frame}
    out = max(program.code) - 1
    round_again = Edge(1, {"g": renamed[back]})
    points = [
        Point(((), 0), {1: context, 10: frame}, edges=(Edge(1, {"g": ((), 0)}),)),
        Point(((), 2), {**here, 1: at_head}, ghosts=HEAD, edges=(Edge(2), Edge(4))),
        Point(((), 3), here, visits=(1,), edges=(Edge(3), Edge(5))),
        Point(((), 4), here, visits=(1,), edges=(Edge(1, {"g": (("g",), 2)}),)),
        Point(((), out), {10: frame}),
        Point(((), 6), here, visits=(1,), edges=(round_again,)),
    ]
    if back == "moves back":
        points[5] = replace(points[5], edges=(Edge(6), Edge(4)))
        points.append(Point(((), 7), {**here, 1: not_zero}, visits=(1,), edges=(round_again,)))
    loop = Loop(frozenset({1, 2, 3, 5, *range(6, len(points))}), 1, 1, "u", rising=True)
    return program, Certificate(fingerprint(program), scalars, cells, tuple(points), Edge(0), (loop,))


def test_turns_are_bounded_by_the_least_step() -> None:
    """From 0 to 102 by at least 2: 52 edges that move and a stay more, of four instructions each; and two before and two behind."""
    program, certificate = two_ways_round("moves on")
    assert pybpf.check(program, certificate).facts.max_instructions == (102 // 2 + 1 + 1) * 4 + 2 + 2


def test_turns_are_bounded_by_all_claims_of_the_cell() -> None:
    """With two points for the head: the cell is at most 101 in the one, at least 3 in the other, and from 0 to 102 in all."""
    program, certificate = two_ways_round("moves on")
    _, head, *body = certificate.points
    into, add_two, out, add_three = body
    to_first, to_second = add_two.edges, (replace(add_three.edges[0], target=6),)
    scalars = (*certificate.scalars, between(0, 101), between(3, 102))
    cells = (*certificate.cells, NumberClaim(4, GHOST), NumberClaim(5, GHOST))
    first, second = len(certificate.cells), len(certificate.cells) + 1
    points = (
        certificate.points[0],
        replace(head, cells={**head.cells, 1: first}),
        into,
        replace(add_two, edges=to_first),
        out,
        replace(add_three, edges=to_second),
        replace(head, cells={**head.cells, 1: second}, edges=(Edge(7), Edge(4))),
        replace(into, visits=(6,), edges=(Edge(8), Edge(9))),
        replace(add_two, visits=(6,), edges=to_first),
        replace(add_three, visits=(6,), edges=to_second),
    )
    loop = replace(certificate.loops[0], points=frozenset({1, 2, 3, *range(5, 10)}))
    both = replace(certificate, points=points, scalars=scalars, cells=cells, loops=(loop,))
    bound = pybpf.check(program, both).facts.max_instructions
    assert bound is not None
    assert bound >= (102 // 2 + 1 + 1) * 4 + 2 + 2


def test_what_a_cell_is_a_sum_of_may_have_a_constant() -> None:
    """The distance between two sums of the same unknowns is that of their constants."""
    program, certificate = two_ways_round("moves on")
    cells = tuple(
        cell._replace(form=(("g",), 7)) if isinstance(cell, NumberClaim) and cell.form else cell
        for cell in certificate.cells
    )
    first = replace(certificate.points[0], edges=(Edge(1, {"g": ((), -7)}),))
    other = replace(certificate, cells=cells, points=(first, *certificate.points[1:]))
    assert pybpf.check(program, other).facts == pybpf.check(program, certificate).facts


@pytest.mark.parametrize("before", ["", "r3 = 0"])
def test_a_point_that_leads_to_itself_is_a_cycle(before: str) -> None:
    """The first point, or another."""
    program = pybpf.assemble(f"""
        .type xdp
          {before}
        head:
          r2 = *(u32 *)(r1 + 12)
          if r2 != 5 goto head
          r0 = 2
          exit
    """)
    head = 1 if before else 0
    here = {1: 0, 10: 1}
    points = (
        *([Point(((), 0), here, edges=(Edge(1),))] if before else []),
        Point(((), head), here, edges=(Edge(head + 1), Edge(head))),
        Point(((), head + 2), {10: 1}),
    )
    with pytest.raises(CertificateError, match="why the cycle of points"):
        pybpf.check(program, Certificate(fingerprint(program), (), (CONTEXT, FRAME), points, Edge(0)))


ONCE = """
    .type xdp
      r1 = 0
      r3 = -1
    head:
      if r1 >= 1 goto out
      r1 += 1
      r3 += 1
      goto head
    out:
      r0 = 2
      exit
"""


@pytest.mark.parametrize(
    ("order", "rising", "claimed", "why"),
    [
        ("s", True, True, ""),
        ("u", False, True, ""),
        ("s", False, True, "not known to move one way"),
        ("u", True, True, "not known to move one way"),
        ("s", True, False, "holds no number"),
    ],
)
def test_constants_move_by_their_difference(
    order: Literal["u", "s"], rising: bool, claimed: bool, why: str
) -> None:
    """From -1 to 0: up by one, or as unsigned numbers down by all there is. At the end of the way it must be claimed, too."""
    program = pybpf.assemble(ONCE)
    one, minus_one = between(1, 1), between(U64, U64)
    cells = (FRAME, *(NumberClaim(scalar, None) for scalar in range(3)))
    points = (
        Point(((), 0), {10: 0}, edges=(Edge(1),)),
        Point(((), 2), {1: 1, 3: 3, 10: 0}, ghosts=frozenset(), edges=(Edge(2),)),
        Point(((), 3), {1: 1, 3: 3, 10: 0}, visits=(1,), edges=(Edge(3),)),
        Point(((), 2), {1: 2, 10: 0, **({3: 1} if claimed else {})}, ghosts=frozenset(), edges=(Edge(4),)),
        Point(((), 6), {10: 0}),
    )
    loop = Loop(frozenset({1, 2, 3}), 1, 3, order, rising=rising)
    certificate = Certificate(
        fingerprint(program), (between(0, 0), one, minus_one), cells, points, Edge(0), (loop,)
    )
    if why:
        with pytest.raises(CertificateError, match=why):
            pybpf.check(program, certificate)
    else:
        pybpf.check(program, certificate)


def without(certificate: Certificate, **loop: Any) -> Certificate:
    return replace(certificate, loops=(replace(certificate.loops[0], **loop),))


@pytest.mark.parametrize(
    ("back", "why"),
    [
        ("stands", "no loop of the certificate explains why the cycle"),
        ("moves back", "not known to move one way"),
        ("is set anew", "not known to move one way"),
    ],
)
def test_a_cell_moves_one_way_on_every_way_round(back: str, why: str) -> None:
    with pytest.raises(CertificateError, match=why):
        pybpf.check(*two_ways_round(back))


def test_what_shows_the_end_of_a_loop() -> None:
    """The cell, its direction, the loop's points and the ghosts of its head."""
    program, certificate = two_ways_round("moves on")
    loop, points = certificate.loops[0], certificate.points
    none = tuple(replace(point, ghosts=point.ghosts and frozenset()) for point in points)
    for wrong, why in (
        (without(certificate, cell=2), "cell 2 is not known to move one way"),
        (without(certificate, cell=10), "cell 10 is not known to move one way"),
        (without(certificate, rising=False), "not known to move one way"),
        (without(certificate, points=loop.points - {5}), "why the cycle of points"),
        (replace(certificate, loops=(loop, loop)), "in two loops, or in one that is not around it"),
        (replace(certificate, points=none), "not known to move one way"),
    ):
        with pytest.raises(CertificateError, match=why):
            pybpf.check(program, wrong)
    assert pybpf.check(program, without(certificate, order="s")).facts.max_instructions


@pytest.mark.parametrize("order", ["u", "s"])
@pytest.mark.parametrize("step", [1, -1])
def test_a_cell_that_may_wrap_shows_no_end(order: Literal["u", "s"], step: int) -> None:
    """As it is with every number of 64 bits, which sooner or later is what it was."""
    program = pybpf.assemble(f"""
        .type xdp
          r2 = *(u32 *)(r1 + 12)
          r1 = 0
        head:
          if r2 == 5 goto out
          r1 += {step}
          goto head
        out:
          r0 = 2
          exit
    """)
    cells = (CONTEXT, FRAME, NumberClaim(0, None), NumberClaim(1, GHOST))
    here = {1: 3, 2: 2, 10: 1}
    points = (
        Point(((), 0), {1: 0, 10: 1}, edges=(Edge(1, {"g": ((), 0)}),)),
        Point(((), 2), here, ghosts=HEAD, edges=(Edge(2), Edge(3))),
        Point(((), 3), here, visits=(1,), edges=(Edge(1, {"g": (("g",), step)}),)),
        Point(((), 5), {10: 1}),
    )
    loop = Loop(frozenset({1, 2}), 1, 1, order, rising=step > 0)
    scalars = (between(0, U32), between(0, U64))
    with pytest.raises(CertificateError, match="not known to move one way"):
        pybpf.check(program, Certificate(fingerprint(program), scalars, cells, points, Edge(0), (loop,)))


FULL = {
    "up, unsigned": ("r1 = 0", "r1 == 0xffffffffffffffff", 1),
    "down, unsigned": ("r1 = 0xffffffffffffffff ll", "r1 == 0", -1),
    "up, signed": ("r1 = 0x8000000000000000 ll", "r1 s>= r3", 1),
    "down, signed": ("r1 = 0x7fffffffffffffff ll", "r1 s<= r4", -1),
}
"""A number's first value, the condition to leave the loop, and the step."""


@pytest.mark.parametrize("way", FULL)
def test_a_cell_that_takes_every_value_once(way: str) -> None:
    """From the least number to the greatest, or back: just so many turns, and no step wraps."""
    first, last, step = FULL[way]
    program = pybpf.assemble(f"""
        .type xdp
          r3 = 0x7fffffffffffffff ll
          r4 = 0x8000000000000000 ll
          {first}
        head:
          if {last.replace("0xffffffffffffffff", "-1")} goto out
          r1 += {step}
          goto head
        out:
          r0 = 2
          exit
    """)
    type_ = get("xdp")
    type_ = replace(type_, policy=replace(type_.policy, max_instructions=1 << 80))
    verified = pybpf.verify(program, type_, certificate=True)
    assert verified.certificate is not None
    found = pybpf.check(program, verified.certificate, type_).facts.max_instructions
    assert found is not None
    assert 3 << 64 <= found <= (3 << 64) + 1000
    assert found == verified.facts.max_instructions == pybpf.verify(program, type_).facts.max_instructions


RESET = """
    .type xdp
      r2 = *(u32 *)(r1 + 12)
      r1 = 0
    one:
      r1 += 1
      if r2 == 5 goto two
      r0 = 0
    two:
      r1 = 0
      if r2 != 7 goto one
      r0 = 2
      exit
"""


def test_a_cell_moves_since_the_visit_of_the_same_head() -> None:
    """It has grown whenever the run comes from the one head to the other, and is 0 again when it comes back: that shows no end."""
    program = pybpf.assemble(RESET)
    cells = (CONTEXT, FRAME, NumberClaim(0, None), NumberClaim(1, GHOST), NumberClaim(2, (("g",), 1)))
    here = {2: 2, 10: 1}
    points = (
        Point(((), 0), {1: 0, 10: 1}, edges=(Edge(1, {"g": ((), 0)}),)),
        Point(((), 2), {**here, 1: 3}, ghosts=HEAD, edges=(Edge(2), Edge(3))),
        Point(((), 4), {**here, 1: 4}, visits=(1,), edges=(Edge(3),)),
        Point(((), 5), {**here, 1: 4}, ghosts=frozenset(), edges=(Edge(4), Edge(1, {"g": ((), 0)}))),
        Point(((), 7), {10: 1}),
    )
    scalars = (between(0, U32), between(0, 100), between(1, 101))
    loop = Loop(frozenset({1, 2, 3}), 3, 1, "u", rising=True)
    with pytest.raises(CertificateError, match="not known to move one way"):
        pybpf.check(program, Certificate(fingerprint(program), scalars, cells, points, Edge(0), (loop,)))


def test_claims_are_not_about_what_instructions_define() -> None:
    """By the name of a load that is still to come, a byte that was loaded before would count as checked when that one is."""
    text = """
        .type filter
        .map table array key=4 value=16 entries=1
          r6 = r1
          r7 = r2
          r0 = 0
          if r2 < 2 goto out
          r9 = *(u8 *)(r1 + 0)
          *(u32 *)(r10 - 4) = 0
          r2 = r10
          r2 += -4
          r1 = table ll
          call map_lookup
          if r7 == 77 goto out
          r8 = r0
          r1 = *(u8 *)(r6 + 1)
          r2 = r9
          if {checked} > 3 goto out
          r8 += r9
          r0 = *(u8 *)(r8 + 0)
        out:
          r0 = 0
          exit
    """
    certificate = certified(text.format(checked="r2")).certificate
    unsafe = pybpf.assemble(text.format(checked="r1"))
    assert certificate is not None
    (load,) = (pc for pc, i in unsafe.code.items() if i.op.kind is Kind.LOAD and i.offset == 1)
    (first,) = (pc for pc, i in unsafe.code.items() if i.op.kind is Kind.LOAD and i.dst == 9)
    (name,) = (n for point in certificate.points for edge in point.edges for n in edge.names)

    def renamed(claim: Any) -> Any:
        return (
            claim._replace(form=((("at", load),), 0)) if claim == claim._replace(form=((name,), 0)) else claim
        )

    cells = tuple(renamed(claim) if isinstance(claim, NumberClaim) else claim for claim in certificate.cells)
    points = tuple(
        replace(
            point,
            edges=tuple(
                replace(edge, names={("at", load): ((("at", first),), 0)} if edge.names else {})
                for edge in point.edges
            ),
        )
        for point in certificate.points
    )
    wrong = replace(certificate, program=fingerprint(unsafe), cells=cells, points=points)
    with pytest.raises(CertificateError, match="no name of a certificate's own"):
        pybpf.check(unsafe, wrong)


def test_what_is_still_held_may_have_no_call() -> None:
    """A point says that something is held, and not which call gave it: the program is refused for it all the same."""
    text = """
        .type tc
          *(u64 *)(r10 - 16) = 0
          *(u64 *)(r10 - 8) = 0
          r2 = r10
          r2 += -16
          r3 = 12
          r4 = -1
          r5 = 0
          call sk_lookup_tcp
          if r0 == 0 goto out
          r1 = r0
          call {release}
        out:
          r0 = 0
          exit
    """
    certificate = certified(text.format(release="sk_release")).certificate
    unsafe = pybpf.assemble(text.format(release="sk_fullsock"))
    assert certificate is not None
    points = list(certificate.points)
    (acquired,) = (number for number, point in enumerate(points) if point.held)
    points[acquired] = replace(points[acquired], edges=(Edge(len(points)),))
    end = points[certificate.points[acquired].edges[0].target]
    points.append(replace(end, held=points[acquired].held))
    wrong = replace(certificate, program=fingerprint(unsafe), points=tuple(points))
    with pytest.raises(CertificateError, match="what a call before gave is not given back"):
        pybpf.check(unsafe, wrong.to_bytes())
