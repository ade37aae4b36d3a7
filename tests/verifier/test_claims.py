"""Claims that no exploration makes: each fits what arrives and is refused by one condition of the checker, or of a step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import pybpf
from pybpf import Certificate, CertificateError, VerifiedProgram
from pybpf.verifier.certificate import NOT_NULL, Edge, Point, PointerClaim
from pybpf.verifier.values import LENGTH, METADATA, Object, Target
from pybpf.verifier.view import top

QUESTION = ("at", 99)

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
    heads = [number for number, point in enumerate(points) if point.ghosts is not None]
    again = next(n for n in heads if any(n == e.target for p in points for e in p.edges if p.visits))
    points[again] = replace(points[again], visits=(heads[0],))
    refused(verified, replace(verified.certificate, points=tuple(points)), "visit")
