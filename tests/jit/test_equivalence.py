"""Native code and the interpreter do the same: results, packets and maps, on random programs that were verified."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

import pybpf
from pybpf import Program, VerifierError, maps
from pybpf.interpreter import Interpreter
from pybpf.jit import Level, compile
from tests.jit.programs import MAPS, ROOM, TYPE, texts

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
    native = compile(verified, level).bind(native_maps)
    for packet in samples:
        expected, buffer = interpreter.run(packet), bytearray(packet)
        assert native.run(buffer) == expected.value
        assert bytes(buffer) == expected.packet
        assert contents(native_maps) == contents(reference_maps)
