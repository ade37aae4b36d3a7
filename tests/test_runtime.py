"""Instances: maps, clocks, engines, and what a run gives back."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest

import pybpf
from pybpf import (
    ArgumentError,
    BudgetExceeded,
    Facts,
    Instance,
    MapSpec,
    PacketBatch,
    Program,
    Result,
    Trap,
    VerifiedProgram,
    jit,
)
from pybpf import maps as map_types
from pybpf.program_types import FILTER, MEMORY, XDP, Context, Entry, Field, ProgramType

COUNTERS = MapSpec("counters", "array", key_size=4, value_size=8, max_entries=2)
FLOWS = MapSpec("flows", "hash", key_size=4, value_size=8, max_entries=100)
MAPS = {spec.name: spec for spec in (COUNTERS, FLOWS)}

COUNT = """
    *(u32 *)(r10 - 4) = 1
    r2 = r10
    r2 += -4
    r1 = counters ll
    call map_lookup
    if r0 == 0 goto out
    r1 = 1
    lock *(u64 *)(r0 + 0) += r1
    r0 = *(u64 *)(r0 + 0)
out:
    exit
"""
"""Returns how many packets have been seen."""

MARK = """
    r2 = *(u32 *)(r1 + 0)
    r3 = *(u32 *)(r1 + 4)
    r0 = 0
    r4 = r2
    r4 += 2
    if r4 > r3 goto out
    *(u16 *)(r2 + 0) = 0x4241
    r0 = 3
out:
    exit
"""
"""Writes AB at the front of a packet and sends it back."""


@pytest.fixture(params=["interpreter", "jit"])
def make(request):
    """Makes an instance of a program given as text; every test that asks for it runs with both engines."""

    def make_instance(text: str, type: ProgramType = FILTER, **options: object) -> Instance:
        verified = pybpf.verify(Program.from_asm(text, type, maps=MAPS))
        return pybpf.instantiate(verified, engine=request.param, **options)

    return make_instance


def unproved(text: str, type: ProgramType = FILTER) -> VerifiedProgram:
    """A program that no verifier accepts, as if one had: the interpreter needs no facts."""
    return VerifiedProgram(Program.from_asm(text, type, maps=MAPS), type, Facts())


def interpreted(text: str, type: ProgramType = FILTER, **options: object) -> Instance:
    return pybpf.instantiate(unproved(text, type), engine="interpreter", **options)  # type: ignore[arg-type]


# Results


def test_result_names_the_verdict(make):
    run = make("r0 = r2\n exit").run
    assert run(b"x") == Result(value=1, packet=b"x", verdict="match")
    assert run(b"xy") == Result(value=2, packet=b"xy", verdict="no match")


def test_result_holds_the_packet_as_the_program_left_it(make):
    packet = bytearray(b"--rest")
    assert make(MARK, XDP).run(packet) == Result(3, b"AB--rest"[:2] + b"rest", "TX")
    assert packet == b"--rest"
    assert make(MARK, XDP).run(b"-") == Result(0, b"-", "ABORTED")


def test_run_many_gives_results_one_by_one(make):
    """A result is there before the next packet is asked for."""
    taken = []

    def packets():
        for length in (1, 2, 3):
            taken.append(length)
            yield bytes(length)

    results = make("r0 = r2\n exit").run_many(packets())
    assert next(results).value == 1
    assert taken == [1]
    assert [result.value for result in results] == [2, 3]


# Batches


def test_run_batch_of_bytes(make):
    values = make("r0 = r2\n exit").run_batch([b"a", b"", b"abc"])
    assert values.dtype == np.uint64
    assert values.tolist() == [1, 0, 3]
    assert make("r0 = r2\n exit").run_batch([]).tolist() == []


def test_run_batch_writes_where_it_is_told(make):
    batch = PacketBatch.from_packets([b"a", b"abc"])
    out = np.zeros(2, np.uint64)
    assert make("r0 = r2\n exit").run_batch(batch, out) is out
    assert out.tolist() == [1, 3]


def test_run_batch_leaves_the_batch_as_it_is(make):
    batch = PacketBatch.from_packets([b"--x", b"--"])
    assert make(MARK, XDP).run_batch(batch).tolist() == [3, 3]
    assert list(batch) == [b"--x", b"--"]


def read_only() -> np.ndarray:
    out = np.zeros(2, np.uint64)
    out.flags.writeable = False
    return out


@pytest.mark.parametrize(
    "out", [np.zeros(3, np.uint64), np.zeros(2, np.int64), np.zeros((2, 1), np.uint64), np.zeros(4, np.uint64)[::2], read_only()]
)  # fmt: skip
def test_output_that_does_not_fit_is_refused(make, out):
    with pytest.raises(ArgumentError, match=r"out must be a writable, contiguous uint64\[2\]"):
        make("r0 = r2\n exit").run_batch([b"a", b"b"], out)


def test_value_of_64_bits_fits(make):
    assert make("r0 = -1\n exit").run_batch([b"a"]).tolist() == [2**64 - 1]


# Maps


def test_maps_are_named_and_in_the_programs_order(make):
    running = make("r1 = flows ll\n r2 = counters ll\n r1 = flows ll\n r0 = 0\n exit")
    assert list(running.maps) == ["flows", "counters"]
    assert running.maps["flows"].spec == FLOWS
    with pytest.raises(TypeError):
        running.maps["flows"] = running.maps["counters"]


def test_engines_share_maps():
    verified = pybpf.verify(Program.from_asm(COUNT, FILTER, maps=MAPS))
    native = pybpf.instantiate(verified)
    checked = pybpf.instantiate(verified, engine="interpreter", maps=native.maps)
    assert (native.run(b"").value, checked.run(b"").value, native.run(b"").value) == (1, 2, 3)
    assert native.executed is None


@pytest.mark.parametrize("engine", ["interpreter", "jit"])
def test_instances_of_one_program_have_maps_of_their_own(engine):
    verified = pybpf.verify(Program.from_asm(COUNT, FILTER, maps=MAPS))
    first, second = (pybpf.instantiate(verified, engine=engine) for _ in range(2))
    assert [result.value for result in first.run_many([b""] * 3)] == [1, 2, 3]
    assert second.run(b"").value == 1


def test_instances_share_the_maps_they_are_given(make):
    first = make(COUNT)
    second = make(COUNT, maps=first.maps)
    assert (first.run(b"").value, second.run(b"").value, first.run(b"").value) == (1, 2, 3)


def test_map_of_another_shape_is_refused(make):
    """A program was proved safe for the sizes it names: no other map may take their place."""
    other = map_types.create(replace(COUNTERS, value_size=4))
    with pytest.raises(ArgumentError, match="map 'counters': the program needs value_size 8, the map has 4"):
        make(COUNT, maps={"counters": other})


def test_native_code_is_made_once_and_goes_with_its_proof(monkeypatch):
    """Instances of one proof share code; when the proof and they are gone, so is the code."""
    made = []
    compile_ = jit.compile

    def observed(*arguments):
        native = compile_(*arguments)
        made.append(weakref.ref(native))
        return native

    monkeypatch.setattr(jit, "compile", observed)
    verified = pybpf.verify(Program.from_asm("r0 = 3\n exit", type="xdp"))
    instances = [pybpf.instantiate(verified, level="full") for _ in range(3)]
    assert [instance.run(b"").value for instance in instances] == [3, 3, 3]
    assert len(made) == 1
    del verified, instances
    gc.collect()
    assert made[0]() is None


def test_constants_of_other_contents_are_refused():
    """What a program reads from a read-only map is a constant in its proof: another map's contents are not."""
    constants = MapSpec(".rodata", "array", 4, 8, 1, initial=bytes(8), read_only=True)
    text = "r1 = .rodata + 0 ll\n r0 = *(u64 *)(r1 + 0)\n exit"
    verified = pybpf.verify(Program.from_asm(text, type="xdp", maps={".rodata": constants}))
    other = map_types.create(replace(constants, initial=b"\1" * 8))
    with pytest.raises(ArgumentError, match=r"map '\.rodata' is read-only and has other contents"):
        pybpf.instantiate(verified, engine="interpreter", maps={".rodata": other})


def test_map_that_the_program_does_not_use_is_refused(make):
    with pytest.raises(ArgumentError, match="uses no map 'contours'"):
        make(COUNT, maps={"contours": map_types.create(COUNTERS)})


def test_map_of_another_name_can_stand_in(make):
    shared = map_types.create(replace(COUNTERS, name="shared"))
    make(COUNT, maps={"counters": shared}).run(b"")
    assert shared[b"\1\0\0\0"] == b"\1" + bytes(7)


def test_seed_makes_hash_maps_repeat(make):
    def order(seed):
        flows = make("r1 = flows ll\n r0 = 0\n exit", seed=seed).maps["flows"]
        for key in range(50):
            flows[key.to_bytes(4, "little")] = bytes(8)
        return list(flows)

    assert order(1) == order(1)
    assert order(1) != order(2)


# Clocks, budgets, contexts


def test_clock_is_injected(make):
    ticks = iter(range(100, 200))
    running = make("call time_get_ns\n exit", clock=lambda: next(ticks))
    assert [result.value for result in running.run_many([b"", b""])] == [100, 101]


def test_default_clock_is_the_program_types():
    assert FILTER.now is time.time_ns
    assert XDP.now is time.monotonic_ns


def test_executed_counts_instructions_over_all_runs():
    running = interpreted("r0 = 1 ll\n exit")
    assert running.executed == 0
    running.run_batch([b"", b""])
    running.run(b"")
    assert running.executed == 6


def test_budget_bounds_a_run():
    with pytest.raises(BudgetExceeded):
        interpreted("r0 = 0\n r0 += 1\n exit", budget=2).run(b"")


CONTEXT = Context("meta", 8, (Field("port", 0, 4), Field("mark", 4, 4, writable=True)))
SUM = "r0 = *(u32 *)(r1 + 0)\n r2 = *(u32 *)(r1 + 4)\n r0 += r2\n *(u32 *)(r1 + 4) = 9\n exit"
WITH_CONTEXT = replace(MEMORY, name="meta", entry=(Entry.CONTEXT,), context=CONTEXT)


def test_context_by_field_names(make):
    running = make(SUM, WITH_CONTEXT)
    assert running.run(b"").value == 0
    assert running.run(b"", {"port": 3, "mark": 4}).value == 7


def test_context_as_bytes_is_written_in_place(make):
    buffer = bytearray(b"\1\0\0\0\2\0\0\0")
    assert make(SUM, WITH_CONTEXT).run(b"", buffer).value == 3
    assert buffer == b"\1\0\0\0\x09\0\0\0"


def test_read_only_context_bytes_are_not_written(make):
    assert make(SUM, WITH_CONTEXT).run(b"", b"\1\0\0\0\2\0\0\0").value == 3


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (
            {"data": 1},
            "xdp_md has no scalar field 'data': it has ingress_ifindex, rx_queue_index",
        ),
        ({"rx_queue_index": 1 << 32}, "xdp_md.rx_queue_index: 4294967296 does not fit into 4 bytes"),
        ({"rx_queue_index": -1}, "xdp_md.rx_queue_index: -1 does not fit into 4 bytes"),
        (b"short", "a xdp_md has 24 bytes, not 5"),
    ],
)
def test_context_that_does_not_fit_is_refused(make, context, reason):
    with pytest.raises(ArgumentError, match=reason):
        make("r0 = 0\n exit", XDP).run(b"", context)


def test_context_of_a_type_without_one_is_refused(make):
    with pytest.raises(ArgumentError, match="program type 'filter' has no context"):
        make("r0 = 0\n exit").run(b"", {})


def test_packet_shorter_than_promised_is_refused(make):
    """A verifier may have relied on the promise."""
    running = make("r0 = *(u8 *)(r1 + 13)\n exit", replace(FILTER, minimum_length=14))
    message = "packet of 13 bytes: program type 'filter' promises at least 14"
    with pytest.raises(ArgumentError, match=message):
        running.run(bytes(13))
    with pytest.raises(ArgumentError, match=message):
        running.run_batch([bytes(14), bytes(13)])
    assert running.run_batch([bytes(14)]).tolist() == [0]


# Engines


def test_unverified_program_is_refused():
    with pytest.raises(ArgumentError, match="is no verified program"):
        pybpf.instantiate(Program.from_asm("r0 = 0\n exit", FILTER))


def test_unknown_engine_is_refused():
    with pytest.raises(ArgumentError, match="unknown engine 'warp': known are jit, interpreter"):
        pybpf.instantiate(unproved("r0 = 0\n exit"), engine="warp")


def test_trap_of_a_run_reaches_the_caller():
    with pytest.raises(Trap, match="pc 0: load of 1 byte at packet"):
        interpreted("r0 = *(u8 *)(r1 + 9)\n exit").run(b"short")


def test_trap_in_a_batch_names_the_packet():
    out = np.full(3, 7, np.uint64)
    with pytest.raises(Trap, match="packet 1: load of 1 byte at packet") as raised:
        interpreted("r0 = *(u8 *)(r1 + 1)\n exit").run_batch([b"ab", b"a", b"ab"], out)
    assert raised.value.pc == 0
    assert out.tolist() == [ord("b"), 7, 7]


def test_instance_says_what_it_is(make):
    running = make(COUNT)
    assert repr(running) == "<Instance of 'program': type filter, maps counters>"
    assert running.verified.type is FILTER


def in_threads(running: Instance) -> None:
    """Run an instance a hundred times in each of four threads."""
    threads = [threading.Thread(target=lambda: list(running.run_many([b""] * 100))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_run_one_instance_at_once(make):
    """Atomic instructions are atomic between runs."""
    running = make(COUNT)
    in_threads(running)
    assert running.run(b"").value == 401


def test_instructions_of_all_threads_are_counted():
    running = interpreted(COUNT)
    in_threads(running)
    assert running.executed == 400 * 10
