"""A budget stops native code where the interpreter would: never before, and not more than a block of instructions early."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings

import pybpf
from pybpf import (
    ArgumentError,
    BudgetExceeded,
    Facts,
    Instance,
    PacketBatch,
    Program,
    VerifiedProgram,
    VerifierError,
    jit,
    maps,
)
from pybpf.interpreter import Interpreter
from pybpf.jit import Level, Options
from pybpf.program_types import MEMORY, XDP
from tests.jit.programs import MAPS, TYPE, texts
from tests.jit.test_equivalence import contents, packets

COUNTS = Options(counts=True)

BRANCHES = "r0 = 0\n if r2 < 2 goto out\n r0 = *(u8 *)(r1 + 1)\n if r0 > 5 goto out\n r0 += 1\nout:\n exit"
LOOP = "r0 = 0\n r3 = 0\nl:\n r0 += r3\n r3 += 1\n if r3 < 40 goto l\n exit"
CALLS = """
    r6 = r1
    r7 = 0
again:
    r1 = r7
    call square
    r7 += 1
    if r7 < 5 goto again
    exit
square:
    r0 = r1
    r0 *= r1
    if r0 > 3 goto out
    r0 += 1
out:
    exit
"""


def verified(text: str) -> VerifiedProgram:
    return pybpf.verify(Program.from_asm(text, MEMORY))


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("text", [BRANCHES, LOOP, CALLS], ids=["branches", "loop", "calls"])
@pytest.mark.parametrize("packet", [b"", b"aa", b"a\0"])
def test_run_that_takes_its_whole_budget_ends_and_none_that_takes_more(text, packet, level):
    proof = verified(text)
    native = jit.compile(proof, level, COUNTS)
    outcome = Interpreter(proof.program, MEMORY).run(packet)
    for budget in (outcome.executed, outcome.executed + 1, 2**63, None):
        assert native.bind(budget=budget).run(bytearray(packet)) == outcome.value
    for budget in range(outcome.executed):
        with pytest.raises(BudgetExceeded, match=r"pc \d+: still running after \d+ instructions") as raised:
            native.bind(budget=budget).run(bytearray(packet))
        assert raised.value.used <= budget
        assert raised.value.pc in proof.program.code
        with pytest.raises(BudgetExceeded):
            Interpreter(proof.program, MEMORY, budget=budget).run(packet)


@pytest.mark.slow
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(texts(), packets)
def test_native_code_counts_what_the_interpreter_executes(text, samples):
    program = Program.from_asm(text, TYPE, maps=MAPS)
    try:
        native = jit.compile(pybpf.verify(program), Level.QUICK, COUNTS)
    except VerifierError:
        assume(False)
    reference_maps = [maps.create(spec, seed=1) for spec in program.maps]
    native_maps = [maps.create(spec, seed=1) for spec in program.maps]
    interpreter = Interpreter(program, TYPE, reference_maps)
    for packet in samples:
        expected, buffer = interpreter.run(packet), bytearray(packet)
        assert native.bind(native_maps, budget=expected.executed).run(buffer) == expected.value
        assert bytes(buffer) == expected.packet
        assert contents(native_maps) == contents(reference_maps)
        spare_maps = [maps.create(spec, seed=1) for spec in program.maps]
        for map_, other in zip(spare_maps, native_maps, strict=True):
            map_.update(other)
        with pytest.raises(BudgetExceeded):
            native.bind(spare_maps, budget=expected.executed - 1).run(bytearray(packet))


def endless() -> Instance:
    """A program that no verifier accepts, as if one had: it ends only for an empty packet."""
    program = Program.from_asm("l:\n if r2 != 0 goto l\n r0 = 7\n exit", XDP.name)
    type = replace(XDP, entry=MEMORY.entry)
    proof = VerifiedProgram(program, type, Facts(reached=frozenset(program.code)))
    return pybpf.instantiate(proof, budget=1000)


def test_endless_program_is_stopped_however_it_is_run():
    fw = endless()
    batch = [b"", b"", b"a", b""]
    out = np.zeros(4, np.uint64)
    for _ in range(2):
        for run in (fw.run, fw.call):
            with pytest.raises(BudgetExceeded) as raised:
                run(b"a")
            assert (raised.value.used, raised.value.pc) == (1000, 0)
            assert run(b"") in (7, (7, b"", "7"))
        for form in (batch, PacketBatch.from_packets(batch)):
            out[:] = 0
            with pytest.raises(BudgetExceeded) as raised:
                fw.run_batch(form, out)
            assert raised.value.detail == "packet 2: still running after 1000 instructions"
            assert out.tolist() == [7, 7, 0, 0]


def test_each_run_has_the_whole_budget():
    proof = verified(LOOP)
    fw = pybpf.instantiate(proof, budget=123)
    assert proof.facts.max_instructions is not None
    assert proof.facts.max_instructions >= 123
    assert fw.run_batch([b""] * 5).tolist() == [780] * 5


def test_nothing_is_counted_where_the_budget_is_what_was_proved():
    proof = verified(LOOP)
    bound = proof.facts.max_instructions
    assert bound is not None
    made = [pybpf.instantiate(proof, budget=budget, level="quick") for budget in (None, bound, bound - 1)]
    programs = [instance._engine._native.native for instance in made]  # type: ignore[attr-defined]
    assert programs[0] is programs[1]
    assert [program.options.counts for program in programs] == [False, False, True]


def test_code_that_does_not_count_has_no_budget():
    with pytest.raises(pybpf.ArgumentError, match="the code counts no instructions"):
        jit.compile(verified(LOOP), Level.QUICK).bind(budget=5)


# Time


@pytest.mark.parametrize("engine", ["interpreter", "quick", "full"])
def test_time_that_is_over_stops_a_run_however_it_is_run(engine):
    """None at all: no run begins. The program would end at once."""
    fw = timed(verified("r0 = 5\n exit"), engine, 0)
    for run in (fw.run, fw.call, lambda packet: fw.run_batch([packet])):
        with pytest.raises(
            BudgetExceeded, match=r"pc 0: .*still running after 0 instructions, when its 0 s were over"
        ):
            run(b"a")
    with pytest.raises(BudgetExceeded, match=r"packet 0: .*over"):
        fw.run_batch(PacketBatch.from_packets([b"a", b"b"]))


@pytest.mark.parametrize("engine", ["interpreter", "quick", "full"])
def test_a_run_that_does_not_end_is_stopped_in_time(engine):
    """As if a verifier had accepted it. The next run has all of its time again."""
    program = Program.from_asm("l:\n if r2 != 0 goto l\n r0 = 7\n exit", XDP.name)
    proof = VerifiedProgram(program, replace(XDP, entry=MEMORY.entry), Facts(reached=frozenset(program.code)))
    if engine == "interpreter":
        proof = replace(
            proof, type=replace(proof.type, policy=replace(proof.type.policy, max_instructions=1 << 40))
        )
    fw = timed(proof, engine, 0.05)
    for _ in range(2):
        with pytest.raises(
            BudgetExceeded, match=r"still running after \d+ instructions, when its 0.05 s were over"
        ) as raised:
            fw.run(b"a")
        assert raised.value.used > 1000
        assert fw.call(b"") == 7


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("text", [BRANCHES, LOOP, CALLS], ids=["branches", "loop", "calls"])
@pytest.mark.parametrize("packet", [b"", b"aa", b"a\0"])
def test_instructions_are_counted_beside_the_time(text, packet, level):
    proof = verified(text)
    outcome = Interpreter(proof.program, MEMORY, seconds=3600).run(packet)
    native = jit.compile(proof, level, Options(counts=True, times=True))
    for budget in (outcome.executed, 1 << 20, None):
        assert native.bind(budget=budget, time=3600 * 10**9).run(bytearray(packet)) == outcome.value
    for budget in range(outcome.executed):
        with pytest.raises(BudgetExceeded, match=r"after \d+ instructions$") as raised:
            native.bind(budget=budget, time=3600 * 10**9).run(bytearray(packet))
        assert raised.value.used <= budget


def test_more_instructions_than_between_two_looks_at_the_clock():
    text = "r0 = 0\n r3 = 0\nl:\n r0 += r3\n r3 += 1\n if r3 < 100000 goto l\n exit"
    expected = sum(range(100000))
    for engine in ("interpreter", "quick", "full"):
        assert timed(verified(text), engine, 3600).call(b"") == expected


def test_programs_that_tell_the_time_themselves_are_timed():
    proof = pybpf.verify(Program.from_asm("call ktime_get_ns\n exit", "xdp"))
    for engine in ("interpreter", "quick", "full"):
        assert timed(proof, engine, 3600).call(b"") > 0


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1 << 40])
def test_time_that_nobody_can_give(seconds):
    with pytest.raises(ArgumentError, match="seconds"):
        pybpf.instantiate(verified(LOOP), seconds=seconds)


def timed(proof: VerifiedProgram, engine: str, seconds: float) -> Instance:
    if engine == "interpreter":
        return pybpf.instantiate(proof, engine="interpreter", seconds=seconds)
    return pybpf.instantiate(proof, level=engine, seconds=seconds)  # type: ignore[arg-type]
