"""What programs compute, by the vectors of Linux's lib/test_bpf.c: no verifier is involved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pybpf import Program
from pybpf.interpreter import Interpreter

CASES = Path(__file__).parents[2] / "shared/data/engine-cases.jsonl"

pytestmark = pytest.mark.skipif(
    not CASES.exists(), reason=f"no {CASES.name}: the vectors are not part of pybpf"
)

READS_UNINITIALISED = {"INT: XOR"}
"""Cases that compute with a register that nothing was written to: they need an interpreter that is not strict."""


def ebpf_cases() -> list[Any]:
    """The eBPF cases of the file; the first line describes the fields."""
    if not CASES.exists():
        return []
    lines = CASES.read_text().splitlines()[1:]
    return [case for case in map(json.loads, lines) if case["kind"] == "ebpf"]


@pytest.mark.parametrize("case", ebpf_cases(), ids=lambda case: case["descr"])
def test_interpreter_computes_what_linux_computes(case):
    program = Program.from_bytes(bytes.fromhex(case["insns"]), "memory", name=case["descr"])
    interpreter = Interpreter(program, strict=case["descr"] not in READS_UNINITIALISED)
    data = bytes.fromhex(case["data"])
    for size, expected in case["tests"]:
        assert interpreter.run(data[:size]).value & 0xFFFF_FFFF == expected
