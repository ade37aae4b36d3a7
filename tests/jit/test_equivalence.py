"""Native code and the interpreter do the same: results, packets and maps, on random programs that were verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

import pybpf
from pybpf import (
    BudgetExceeded,
    DecodeError,
    PacketBatch,
    Program,
    UnsupportedError,
    VerifierError,
    jit,
    maps,
)
from pybpf.interpreter import Interpreter
from pybpf.jit import Level, Options
from tests.jit.programs import MAPS, ROOM, TYPE, texts
from tests.jit.traced import observed
from tests.verifier import test_linux_cases as linux_verifier

packets = st.lists(
    st.binary(min_size=ROOM, max_size=ROOM + 40) | st.binary(max_size=ROOM), min_size=1, max_size=4
)


def contents(made: list[maps.BpfMap]) -> list[dict[bytes, bytes]]:
    return [dict(map) for map in made]


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(texts(), packets, st.sampled_from(Level), st.sampled_from([True, True, False]))
def test_random_programs(text, samples, level, checks):
    program = Program.from_asm(text, TYPE, maps=MAPS)
    try:
        verified = pybpf.verify(program)
    except VerifierError as error:
        event(error.reason)
        assume(False)
    reference_maps = [maps.create(spec, seed=1) for spec in program.maps]
    native_maps = [maps.create(spec, seed=1) for spec in program.maps]
    interpreter = Interpreter(program, TYPE, reference_maps)
    native = jit.compile(verified, level, Options(checks=checks)).bind(native_maps)
    for packet in samples:
        expected, buffer = interpreter.run(packet), bytearray(packet)
        assert native.run(buffer) == expected.value
        assert bytes(buffer) == expected.packet
        assert contents(native_maps) == contents(reference_maps)
    many = samples * (300 // len(samples))
    results = np.empty(len(many), np.uint64)
    native.run_batch(PacketBatch.from_packets(many), results)
    assert results.tolist() == [interpreter.run(packet).value for packet in many]
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


SAMPLES = (bytes(64), bytes(range(1, 65)), b"\xff" * 100, b"", bytes(10))


def compare(case: Any) -> bool:
    """Run a case in both engines. Whether it could be run: not every case is accepted, or is of what native code knows."""
    type_ = linux_verifier.TYPES[case["prog_type"]]
    specs = {int(pc): linux_verifier.map_spec(key) for pc, key in case["maps"].items()}
    try:
        program = Program.from_bytes(bytes.fromhex(case["insns"]), type_, specs, name=case["id"])
        verified = pybpf.verify(program)
        natives = [jit.compile(verified, level) for level in Level]
    except (DecodeError, VerifierError, UnsupportedError, BudgetExceeded):
        return False
    reference_maps = [maps.create(spec, seed=1) for spec in program.maps]
    interpreter = Interpreter(program, type_, reference_maps, clock=lambda: 77)
    packets = [packet for packet in SAMPLES if len(packet) >= type_.minimum_length]
    expected = [interpreter.run(packet) for packet in packets]
    for native in natives:
        native_maps = [maps.create(spec, seed=1) for spec in program.maps]
        instance = native.bind(native_maps, clock=lambda: 77)
        for packet, outcome in zip(packets, expected, strict=True):
            buffer = bytearray(packet)
            assert (instance.run(buffer), bytes(buffer)) == (outcome.value, outcome.packet), case["id"]
        assert contents(native_maps) == contents(reference_maps), case["id"]
    return True


@pytest.mark.slow
@pytest.mark.skipif(not linux_verifier.CASES.exists(), reason="no vectors: they are not part of pybpf")
def test_accepted_cases_of_linux_verifier():
    """Programs written to be hard for a verifier: those that pass ours run the same in both engines and never trap."""
    assert sum(compare(case) for case in linux_verifier.cases()) >= 280
