"""Native code and the interpreter do the same: results, packets and maps, on random programs that were verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

import pybpf
from pybpf import Program, VerifierError, jit, maps
from pybpf.interpreter import Interpreter
from pybpf.jit import Level
from tests.jit.programs import MAPS, ROOM, TYPE, texts
from tests.jit.traced import observed

packets = st.lists(
    st.binary(min_size=ROOM, max_size=ROOM + 40) | st.binary(max_size=ROOM), min_size=1, max_size=4
)


def contents(made: list[maps.BpfMap]) -> list[dict[bytes, bytes]]:
    return [dict(map) for map in made]


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(texts(), packets, st.sampled_from(Level))
def test_random_programs(text, samples, level):
    program = Program.from_asm(text, TYPE, maps=MAPS)
    try:
        verified = pybpf.verify(program)
    except VerifierError as error:
        event(error.reason)
        assume(False)
    reference_maps = [maps.create(spec, seed=1) for spec in program.maps]
    native_maps = [maps.create(spec, seed=1) for spec in program.maps]
    interpreter = Interpreter(program, TYPE, reference_maps)
    native = jit.compile(verified, level).bind(native_maps)
    for packet in samples:
        expected, buffer = interpreter.run(packet), bytearray(packet)
        assert native.run(buffer) == expected.value
        assert bytes(buffer) == expected.packet
        assert contents(native_maps) == contents(reference_maps)


CASES = Path(__file__).parents[3] / "shared/data/engine-cases.jsonl"


def linux_cases() -> list[Any]:
    """The eBPF cases of Linux's lib/test_bpf.c; the first line describes the fields."""
    if not CASES.exists():
        return []
    return [case for case in map(json.loads, CASES.read_text().splitlines()[1:]) if case["kind"] == "ebpf"]


@pytest.mark.slow
@pytest.mark.skipif(not CASES.exists(), reason=f"no {CASES.name}: the vectors are not part of pybpf")
@pytest.mark.parametrize("case", linux_cases(), ids=lambda case: case["descr"])
def test_native_code_computes_what_linux_computes(case):
    """Linux's own vectors, which no verifier saw: the facts are what the interpreter was seen to do."""
    program = Program.from_bytes(bytes.fromhex(case["insns"]), "memory", name=case["descr"])
    data = bytes.fromhex(case["data"])
    samples = [data[:size] for size, _ in case["tests"]]
    for level in Level:
        native = jit.compile(observed(program, samples), level).bind()
        for (_, expected), sample in zip(case["tests"], samples, strict=True):
            assert native.run(bytearray(sample)) & 0xFFFF_FFFF == expected
