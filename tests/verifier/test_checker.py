"""Certificates: every accepted program has one that proves it, none that is altered proves anything false, and an exploration that
goes wrong gets none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

import pybpf
from pybpf import BpfError, Certificate, CertificateError, InternalError, LinkError, Program, VerifiedProgram
from pybpf.verifier.certificate import NumberClaim, PointerClaim, fingerprint
from pybpf.verifier.cfg import Graph
from pybpf.verifier.explore import Effort
from pybpf.verifier.lattice import Lattice
from pybpf.verifier.view import constant
from tests.conftest import SHARED
from tests.verifier.case import Case, all_cases
from tests.verifier.test_corpus import FILES, Entry, entries, program

VERIFIER = import_module("pybpf.verifier.verification")
ACCEPTED = [
    pytest.param(case, id=f"{file}-{case.name.replace(' ', '-')}")
    for file, case in all_cases()
    if case.verdict == "accepted"
]
EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "objects").glob("*/*.o"))


def proves(verified: VerifiedProgram, again: Callable[[Certificate | bytes], VerifiedProgram]) -> None:
    """A certificate proves the same facts, from its bytes too."""
    assert verified.certificate is not None
    checked = again(verified.certificate.to_bytes())
    assert replace(checked.facts, explored=0) == replace(verified.facts, explored=0)
    assert checked.certificate == verified.certificate


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted_cases_have_certificates(case: Case) -> None:
    program, type_ = case.program(), case.type()
    verified = pybpf.verify(program, type_, certificate=True)
    proves(verified, lambda certificate: pybpf.check(program, certificate, type_))


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_examples_have_certificates(path: Any) -> None:
    for each in pybpf.load(path).programs.values():
        proves(pybpf.verify(each, certificate=True), lambda c, each=each: pybpf.check(each, c))


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "elf").exists(), reason="the corpus is not part of pybpf")
@pytest.mark.parametrize("file", FILES)
def test_accepted_programs_of_the_corpus_have_certificates(file: str) -> None:
    for entry in entries():
        if entry.file == file and (found := accepted(entry)) is not None:
            each, verified = found
            proves(verified, lambda c, each=each, e=entry: pybpf.check(each, c, e.type.lower()))


def accepted(entry: Entry) -> tuple[Program, VerifiedProgram] | None:
    try:
        found = program(entry)
        return found, pybpf.verify(found, entry.type.lower(), certificate=True)
    except InternalError:
        raise
    except (BpfError, LinkError):
        return None


def test_nothing_is_kept_unless_it_is_asked_for() -> None:
    assert pybpf.verify(Program.from_asm("r0 = 0\n exit", type="filter")).certificate is None


def test_a_certificate_is_the_same_every_time() -> None:
    """Also in another process, where strings hash otherwise: see test_certificate."""
    made = [certified(GUARDED).certificate for _ in range(2)]
    assert made[0] == made[1]


FAR_APART = """
    .type filter
      r7 = r2
      r9 = 0x8000000000000000 ll
      if r2 & -16 goto use
      r9 = r7
      r9 *= 14
      r9 += 1
    use:
      r8 = r9
      if r7 == 3 goto out
      r8 = 1
    out:
      r0 = r9
      r0 += r8
      exit
"""
"""Where two numbers meet that are as far apart as numbers are."""


def test_distances_are_numbers_of_64_bits() -> None:
    """What unknowns are at the end of an edge is a sum modulo 2**64, and is written as one."""
    program = pybpf.assemble(FAR_APART)
    with mock.patch.object(VERIFIER, "APART", (Effort((1, 1, 1, 1), 4),)):
        verified = pybpf.verify(program, certificate=True)
    proves(verified, lambda certificate: pybpf.check(program, certificate))


# Certificates that were altered

GUARDED = """
    .type xdp
    .map m hash key=4 value=8 entries=8
      r6 = *(u32 *)(r1 + 0)
      r7 = *(u32 *)(r1 + 4)
      r0 = r6
      r0 += 20
      if r0 > r7 goto out
      r8 = *(u8 *)(r6 + 0)
      r8 &= 7
      *(u32 *)(r10 - 4) = r8
      r2 = r10
      r2 += -4
      r1 = m ll
      call map_lookup_elem
      if r0 == 0 goto out
      r0 += r8
      r1 = *(u8 *)(r0 + 0)
      r6 += r8
      r1 = *(u8 *)(r6 + 12)
    out:
      r0 = 2
      exit
"""

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


def certified(text: str) -> VerifiedProgram:
    return pybpf.verify(pybpf.assemble(text), certificate=True)


class Mutant(NamedTuple):
    """An altered certificate that is not inductive any more, and in what."""

    what: str
    certificate: Certificate


def mutants(certificate: Certificate) -> Iterator[Mutant]:
    """Alterations each of which makes a claim that the rest does not imply.

    Claims are made stronger only where one edge leads to a point that no widening made, and of what matters there: what arrives is then
    just what was claimed.
    """
    arrivals = Counter(edge.target for point in certificate.points for edge in point.edges)
    for number, point in enumerate(certificate.points):
        if point.edges:
            yield Mutant("edge dropped", altered(certificate, number, edges=point.edges[1:]))
            elsewhere = next(
                (
                    n
                    for n, p in enumerate(certificate.points)
                    if p.place != certificate.points[point.edges[0].target].place
                ),
                None,
            )
            if elsewhere is not None:
                edges = (replace(point.edges[0], target=elsewhere), *point.edges[1:])
                yield Mutant("edge bent", altered(certificate, number, edges=edges))
        if point.held:
            yield Mutant("held dropped", altered(certificate, number, held=frozenset()))
        if arrivals[number] != 1 or point.ghosts is not None:
            continue
        for atoms, size in point.proofs.items():
            yield Mutant(
                "proof enlarged", altered(certificate, number, proofs={**point.proofs, atoms: size + 1})
            )
        for index, cell in point.cells.items():
            yield from (
                Mutant(what, with_cell(certificate, number, index, claim, scalar))
                for what, claim, scalar in stronger(certificate, certificate.cells[cell])
            )
    for loop in certificate.loops:
        yield Mutant("direction turned", replace(certificate, loops=(replace(loop, rising=not loop.rising),)))
        yield Mutant("loop of nothing", replace(certificate, loops=(replace(loop, points=frozenset()),)))
        yield Mutant("other cell ranked", replace(certificate, loops=(replace(loop, cell=10),)))
    if certificate.loops:
        yield Mutant("loops dropped", replace(certificate, loops=()))


def altered(certificate: Certificate, number: int, **fields: Any) -> Certificate:
    points = list(certificate.points)
    points[number] = replace(points[number], **fields)
    return replace(certificate, points=tuple(points))


def with_cell(certificate: Certificate, number: int, index: int, claim: Any, scalar: Any) -> Certificate:
    """A certificate in which one cell of one point claims something of its own; a number of it may be a new one."""
    cells = {**certificate.points[number].cells, index: len(certificate.cells)}
    scalars = certificate.scalars if scalar is None else (*certificate.scalars, scalar)
    return altered(
        replace(certificate, cells=(*certificate.cells, claim), scalars=scalars), number, cells=cells
    )


def stronger(certificate: Certificate, claim: Any) -> Iterator[tuple[str, Any, Any]]:
    new = len(certificate.scalars)
    if isinstance(claim, NumberClaim):
        wide, narrow = certificate.scalars[claim.scalar]
        if wide.umin == wide.umax:
            other = wide.umin ^ 1
            yield "constant changed", claim._replace(scalar=new), (constant(64, other), constant(32, other))
        elif wide.umax not in ((1 << 64) - 1, (1 << 32) - 1, 0xFFFF, 0xFF) and wide.mask & 1:
            yield "range narrowed", claim._replace(scalar=new), (wide._replace(umax=wide.umax - 1), narrow)
    elif isinstance(claim, PointerClaim):
        yield "pointer moved", claim._replace(offset=claim.offset + 8), None
        if claim.null is not None:
            yield "question dropped", claim._replace(null=None), None


def still_proving(verified: VerifiedProgram, altered: Iterable[Mutant]) -> list[str]:
    """The altered certificates that are not refused."""
    found = []
    for what, mutant in altered:
        try:
            pybpf.check(verified.program, mutant, verified.type)
        except CertificateError:
            continue
        found.append(what)
    return found


@pytest.mark.parametrize("text", [GUARDED, LOOP], ids=["guarded", "loop"])
def test_altered_certificates_are_refused(text: str) -> None:
    verified = certified(text)
    assert verified.certificate is not None
    kinds = {mutant.what for mutant in mutants(verified.certificate)}
    assert len(kinds) >= 5
    assert still_proving(verified, mutants(verified.certificate)) == []


@pytest.mark.slow
@pytest.mark.parametrize("case", ACCEPTED)
def test_altered_certificates_of_cases_are_refused(case: Case) -> None:
    """A sample of the alterations of each case."""
    program, type_ = case.program(), case.type()
    verified = pybpf.verify(program, type_, certificate=True)
    assert verified.certificate is not None
    every = list(mutants(verified.certificate))
    assert still_proving(verified, every[:: len(every) // 16 + 1]) == []


def test_a_ghost_cannot_be_named_anew() -> None:
    """What the head of a loop has fixed would otherwise be whatever shows that the loop ends."""
    verified = certified(LOOP)
    assert verified.certificate is not None
    points = verified.certificate.points
    refused = 0
    for number, point in enumerate(points):
        for index, edge in enumerate(point.edges):
            for visit in points[edge.target].visits:
                for ghost in points[visit].ghosts or ():
                    edges = list(point.edges)
                    edges[index] = replace(edge, names={**edge.names, ghost: ((), 0)})
                    with pytest.raises(CertificateError, match="named anew"):
                        pybpf.check(
                            verified.program, altered(verified.certificate, number, edges=tuple(edges))
                        )
                    refused += 1
    assert refused


def test_a_visit_cannot_be_made_up() -> None:
    verified = certified(LOOP)
    assert verified.certificate is not None
    points = verified.certificate.points
    heads = [number for number, point in enumerate(points) if point.ghosts is not None]
    outside = next(n for n, p in enumerate(points) if n and p.ghosts is None and not p.visits)
    with pytest.raises(CertificateError, match="visit"):
        pybpf.check(verified.program, altered(verified.certificate, outside, visits=(heads[0],)))


def test_a_certificate_of_another_program_is_refused() -> None:
    """Also where it passes for one of this program: the bound is one byte short here."""
    verified = certified(GUARDED)
    assert verified.certificate is not None
    unsafe = pybpf.assemble(GUARDED.replace("r0 += 20", "r0 += 19"))
    with pytest.raises(CertificateError, match="another program"):
        pybpf.check(unsafe, verified.certificate)
    code = fingerprint(unsafe)
    with pytest.raises(CertificateError, match=r"packet"):
        pybpf.check(unsafe, replace(verified.certificate, program=code))


def flipped(data: bytes) -> Iterator[bytes]:
    """The bytes with one bit changed: in each byte another than in its neighbours."""
    for index in range(len(data)):
        changed = bytearray(data)
        changed[index] ^= 1 << 5 * index % 8
        yield bytes(changed)


@pytest.mark.slow
def test_flipped_bits_prove_no_unsafe_program() -> None:
    """A bit of each byte of a certificate flipped, checked against an unsafe program of the same shape: one error, and never a proof."""
    verified = certified(GUARDED)
    assert verified.certificate is not None
    unsafe = pybpf.assemble(GUARDED.replace("r0 += 20", "r0 += 19"))
    code = fingerprint(unsafe)
    data = replace(verified.certificate, program=code).to_bytes()
    for changed in flipped(data):
        with pytest.raises(CertificateError):
            pybpf.check(unsafe, changed)


@pytest.mark.slow
@pytest.mark.parametrize("text", [GUARDED, LOOP], ids=["guarded", "loop"])
def test_flipped_bits_never_crash(text: str) -> None:
    """A certificate with a bit flipped is refused, or is one more that proves the program."""
    verified = certified(text)
    assert verified.certificate is not None
    data = verified.certificate.to_bytes()
    refused = 0
    for changed in flipped(data):
        try:
            pybpf.check(verified.program, changed)
        except CertificateError:
            refused += 1
    assert refused > len(data) / 2


# Explorations that go wrong

TWO_WAYS = """
    .type xdp
      r6 = r1
      r7 = 4
      call get_prandom_u32
      if r0 == 0 goto low
      r7 = 400
    low:
      r2 = r10
      r2 += -8
      *(u64 *)(r10 - 8) = 0
      r2 += r7
      r0 = *(u8 *)(r2 + 0)
      r0 = 2
      exit
"""
"""Reads beyond its frame on one of two paths."""

ENDLESS = """
    .type xdp
      r6 = 0
      r1 = 0
    head:
      if r1 == 5 goto out
      goto head
    out:
      r0 = 2
      exit
"""


CALLED_TWICE = """
    .type xdp
      r6 = r1
      call field
      r7 = r0
      r1 = r6
      call field
      if r0 == r7 goto out
      r9 = 0
      r1 = *(u8 *)(r9 + 0)
    out:
      r0 = 2
      exit
    field:
      r0 = *(u32 *)(r1 + 12)
      exit
"""
"""Reads through 0 if a field that is read twice has changed."""


def covers_all(self: Lattice, old: Any, kept: Any, new: Any) -> bool:
    return True


def first_of_two(self: Lattice, a: Any, b: Any, place: int) -> Any:
    return a.copy()


def always_moves(before: Any, after: Any) -> Any:
    return {(1, "u"): 1}


def always_ends(root: Any) -> int:
    return 10


LOOPS = import_module("pybpf.verifier.loops")
FAULTS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "every state covers every other": (
        Lattice,
        {"covers": covers_all, "may_cover": lambda *_: True},
        TWO_WAYS,
    ),
    "a join keeps one of two": (Lattice, {"join": first_of_two}, TWO_WAYS),
    "loops end unseen": (LOOPS, {"bound": always_ends}, ENDLESS),
    "what stands still moves": (LOOPS, {"change": always_moves}, ENDLESS),
    "nothing is executed twice": (Graph, {"executed_again": frozenset()}, CALLED_TWICE),
}
"""Where it goes wrong, and a program for which that matters. Liveness is not among them: what is dead may not be read."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_exploration_gets_no_certificate(fault: str) -> None:
    """The verdict alone is wrong, without anybody noticing; with a certificate it is not given."""
    where, broken, text = FAULTS[fault]
    program = pybpf.assemble(text)
    with pytest.raises(pybpf.VerifierError):
        pybpf.verify(program)
    ladder = (Effort((1, 1, 1, 1), 4),)
    with mock.patch.multiple(where, **broken), mock.patch.object(VERIFIER, "APART", ladder):
        pybpf.verify(program)
        with pytest.raises(InternalError, match="no certificate"):
            pybpf.verify(program, certificate=True)
