"""Programs as text with the verdict that they must get: see `case` for the format and ``cases/`` for the programs."""

from __future__ import annotations

import ast
import random
from dataclasses import replace
from pathlib import Path

import pytest

import fuzz.case
import pybpf.verifier
from fuzz.properties import check
from fuzz.statistics import Statistics
from pybpf import UnsupportedError, instantiate
from tests import linux
from tests.verifier.case import Case, all_cases

ALL = [pytest.param(case, id=f"{file}-{case.name.replace(' ', '-')}") for file, case in all_cases()]
ACCEPTED = [
    param for param in ALL if param.values[0].verdict == "accepted" and param.values[0].type().runnable
]

FOLLOWED = {
    "minus two past zero",
    "32-bit by one below an unknown",
    "32-bit by two below an unknown",
    "32-bit by one not above an unknown",
    "bound moves with the counter",
}
"""Loops of which Linux follows a million instructions before it gives up."""

LOADED = [
    pytest.param(*param.values, id=param.id, marks=pytest.mark.slow)
    if param.values[0].name in FOLLOWED
    else param
    for param in ALL
    if not param.values[0].options
    and not param.values[0].minimum_length
    and param.values[0].verdict in ("accepted", "rejected")
    and param.values[0].type().name in set(linux.NUMBERS) - set(linux.NOT_LOADED)
]
"""What Linux can be asked about: the case's policy is that of its type, and Linux's."""

PACKETS = [
    bytes(random.Random(length).randrange(256) for _ in range(length))
    for length in (0, 1, 13, 14, 20, 33, 34, 54, 60, 64, 100, 256, 1514)
] + [bytes(64), b"\xff" * 64, b"\x45" * 64]
"""Inputs of every length that the programs test for."""


@pytest.mark.parametrize("case", ALL)
def test_verdict(case: Case) -> None:
    """The verdict, and for a rejected program the reason and the instruction to blame."""
    assert case.said() == (case.verdict, case.reason, case.pc)


@linux.asks
@pytest.mark.parametrize("case", LOADED)
def test_linux_agrees(case: Case) -> None:
    """The verifier of the machine's own kernel gives the verdict, but for cases that say why it does not."""
    refused = linux.refusal(replace(case.program(), type=case.type()))
    agrees = (case.verdict == "rejected") == (refused is not None)
    assert agrees == (not case.linux), refused


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted_programs_run(case: Case) -> None:
    """An accepted program breaks no rule of the machine that checks every access, and keeps its bound on instructions."""
    verified = case.verify()
    try:
        instance = instantiate(verified, engine="interpreter", budget=verified.facts.max_instructions)
    except UnsupportedError as error:
        pytest.skip(f"{error}: it is verified only")
    for map_ in instance.maps.values():
        if not map_.spec.read_only:
            map_[bytes(map_.spec.key_size)] = _value(map_.spec.value_size)
    for packet in PACKETS:
        if len(packet) >= verified.type.minimum_length:
            instance.run(packet)


@pytest.mark.parametrize("case", ACCEPTED)
def test_runs_are_what_was_proved(case: Case) -> None:
    """Each state that a run is in lies inside one that was proved, and every fact holds on it."""
    type_ = case.type()
    packets = tuple(packet for packet in PACKETS[::3] if len(packet) >= type_.minimum_length)
    program = replace(case.program(), type=type_)
    entries = {
        spec.name: ((bytes(spec.key_size), _value(spec.value_size)),)
        for spec in program.maps
        if not spec.read_only
    }
    check(fuzz.case.Case(program, packets, entries), ("safe", "member", "facts"), Statistics())


def _value(size: int) -> bytes:
    return bytes(n & 0xFF for n in range(size))


def test_names_are_unique() -> None:
    """No two cases of a file have one name."""
    names = [(file, case.name) for file, case in all_cases()]
    assert len(names) == len(set(names))


SAID_ELSEWHERE = {
    "invalid-instruction": "test_rules: bytes that no text assembles to",
    "too-long": "test_rules: a million instructions are no text",
    "global-function": "test_global_functions: prototypes are BTF, which is no text",
    "loop-depth": "test_cfg: so many loops are no text",
}
"""Reasons that no case has, and where they are tested."""


def reasons() -> set[str]:
    """Every reason that the verifier's sources write down."""
    found = set()
    for path in sorted(Path(pybpf.verifier.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            if (
                named
                and node.func.id in ("Refusal", "StructureError")
                and isinstance(node.args[0], ast.Constant)
            ):
                found.add(node.args[0].value)
    return found


def test_every_reason_has_a_case() -> None:
    """No check without a program that it refuses, and no case for a check that is gone."""
    exercised = {case.reason for _, case in all_cases() if case.reason}
    assert exercised | set(SAID_ELSEWHERE) == reasons()


@pytest.mark.slow
@pytest.mark.parametrize("type", ["filter", "xdp", "memory", "socket_filter", "tc"])
def test_packet_types_have_cases_of_both_verdicts(type: str) -> None:
    """A verifier that accepts everything fails, and so does one that accepts nothing."""
    verdicts = {case.verdict for _, case in all_cases() if case.program().type == type}
    assert {"accepted", "rejected"} <= verdicts
