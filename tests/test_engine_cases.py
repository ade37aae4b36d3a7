"""What programs compute, by the vectors of Linux's lib/test_bpf.c: in the interpreter, in native code, verified or not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pybpf import Program, VerifierError, jit, verify
from pybpf.interpreter import Interpreter
from pybpf.jit import Level
from pybpf.jit.unproved import compile_unproved
from pybpf.program_types import MEMORY

CASES = Path(__file__).parents[2] / "shared/data/engine-cases.jsonl"

pytestmark = pytest.mark.skipif(
    not CASES.exists(), reason=f"no {CASES.name}: the vectors are not part of pybpf"
)

READS_UNINITIALISED = {"INT: XOR"}
"""Cases that compute with a register that nothing was written to: they need an interpreter that is not strict."""

NOT_VERIFIED = {
    "INT: XOR": "uninitialised-register",
    "JMP_EXIT": "unreachable",
    "Short relative jump: offset=0": "unreachable",
    "Short relative jump: offset=1": "unreachable",
    "Short relative jump: offset=3": "unreachable",
    "Short relative jump: offset=4": "unreachable",
}
"""Cases that no verifier accepts, and why: native code runs them unproved. All others are verified first."""


def ebpf_cases() -> list[Any]:
    """The eBPF cases of the file; the first line describes the fields."""
    if not CASES.exists():
        return []
    lines = CASES.read_text().splitlines()[1:]
    return [case for case in map(json.loads, lines) if case["kind"] == "ebpf"]


def program(case: Any) -> Program:
    return Program.from_bytes(bytes.fromhex(case["insns"]), "memory", name=case["descr"])


every_case = pytest.mark.parametrize("case", ebpf_cases(), ids=lambda case: case["descr"])


@every_case
def test_interpreter_computes_what_linux_computes(case):
    interpreter = Interpreter(program(case), strict=case["descr"] not in READS_UNINITIALISED)
    data = bytes.fromhex(case["data"])
    for size, expected in case["tests"]:
        assert interpreter.run(data[:size]).value & 0xFFFF_FFFF == expected


@every_case
def test_native_code_computes_what_linux_computes(case):
    """Optimised, from the verifier's facts; the few that it refuses are in a list, with its reason."""
    code = program(case)
    if reason := NOT_VERIFIED.get(case["descr"]):
        with pytest.raises(VerifierError) as raised:
            verify(code, policy=replace(MEMORY.policy, wide_shifts=True))
        assert raised.value.reason == reason
        native = compile_unproved(code, MEMORY, Level.FULL)
    else:
        native = jit.compile(verify(code, policy=replace(MEMORY.policy, wide_shifts=True)))
    run(native, case)


@every_case
def test_native_code_without_a_proof_computes_the_same(case):
    run(compile_unproved(program(case), MEMORY), case)


def run(native: jit.NativeProgram, case: Any) -> None:
    instance, data = native.bind(), bytes.fromhex(case["data"])
    for size, expected in case["tests"]:
        assert instance.run(bytearray(data[:size])) & 0xFFFF_FFFF == expected
