"""Refused programs: which go wrong, and whether the path that a refusal names does."""

from __future__ import annotations

from dataclasses import replace

import pytest

import pybpf
from fuzz.case import Case
from fuzz.refusals import NoFault, Outcome, tried
from pybpf import VerifierError, assemble, program_types


def _refused(text: str, *packets: bytes) -> tuple[Case, VerifierError]:
    program = assemble(text)
    program = replace(program, type=program_types.get(program.type or ""))
    with pytest.raises(VerifierError) as caught:
        pybpf.verify(program)
    return Case(program, packets), caught.value


SHORT = ".type filter\n if r2 < 14 goto L1\n r0 = *(u8 *)(r1 + 14)\n exit\nL1:\n r0 = 0\n exit\n"
UNWRITTEN = ".type filter\n if r2 < 14 goto L1\n r0 = r3\n exit\nL1:\n r0 = 0\n exit\n"
HARMLESS = ".type filter\n r3 = r2\n r3 ^= 5\n r3 ^= r2\n if r3 == 5 goto L1\n r0 = *(u8 *)(r1 + 0)\n exit\nL1:\n r0 = 0\n exit\n"


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (SHORT, Outcome.FAULTS),
        (UNWRITTEN, Outcome.FAULTS),
        (HARMLESS, Outcome.HARMLESS),
        (".type filter\n r0 = 0\n goto -2\n", Outcome.NOT_RUN),
        (".type tc\n r0 = *(u8 *)(r1 + 1000)\n exit\n", Outcome.NOT_RUN),
    ],
)
def test_outcomes(text: str, outcome: Outcome) -> None:
    """Inputs at the boundaries of a program's own numbers are found; nothing is said of rules, and of what is not run."""
    assert tried(*_refused(text)) is outcome


def test_a_path_that_does_not_fail_is_told_of() -> None:
    """A refusal that claims an unwritten register where there is one that was written."""
    case, error = _refused(UNWRITTEN, bytes(20))
    good = assemble(UNWRITTEN.replace("r0 = r3", "r0 = r2"))
    with pytest.raises(NoFault, match="a packet of 20 bytes"):
        tried(replace(case, program=replace(good, type=case.program.type)), error)
