"""Batches on several threads: the results of one thread, flows in their order, errors with the right packet."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import pybpf
from pybpf import ArgumentError, BudgetExceeded, Instance, MapSpec, PacketBatch, Program, Trap
from pybpf.jit import parallel
from pybpf.program_types import FILTER, MEMORY, ProgramType
from tests.jit.test_budget import endless
from tests.jit.test_builtin import COUNT, COUNTERS, FRAME, OVERWRITE, SUM
from tests.jit.test_builtin_run import trapping
from tests.jit.test_native import NOTE

LAST = MapSpec("last", "hash", key_size=4, value_size=8, max_entries=1000)

IN_ORDER = """
    r6 = r1
    r0 = 99
    if r2 < 12 goto out
    r7 = *(u64 *)(r6 + 4)
    r3 = *(u32 *)(r6 + 0)
    *(u32 *)(r10 - 4) = r3
    *(u64 *)(r10 - 16) = r7
    r1 = last ll
    r2 = r10
    r2 += -4
    call map_lookup
    r8 = 0
    if r0 == 0 goto first
    r8 = *(u64 *)(r0 + 0)
    r8 += 1
first:
    r1 = last ll
    r2 = r10
    r2 += -4
    r3 = r10
    r3 += -16
    call map_update
    r0 = 1
    if r7 == r8 goto out
    r0 = 0
out:
    exit
"""
"""1 where a packet, which holds its flow and its number in that, is the one after the last of the flow."""


def instance(text: str, type: ProgramType = FILTER, engine: str = "jit", **options: object) -> Instance:
    program = Program.from_asm(text, type, maps={"counters": COUNTERS, "last": LAST})
    return pybpf.instantiate(pybpf.verify(program), engine=engine, **options)  # type: ignore[arg-type]


def sample(count: int) -> PacketBatch:
    return PacketBatch.from_packets([bytes([i % 251]) * (i % 7) for i in range(count)])


@pytest.mark.parametrize("engine", ["jit", "interpreter"])
@pytest.mark.parametrize("threads", [None, 1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 1000])
@pytest.mark.parametrize(("type", "text"), [(FILTER, SUM), (MEMORY, OVERWRITE)], ids=["reads", "writes"])
def test_results_are_those_of_one_thread(engine, threads, count, type, text):
    fw, batch = instance(text, type, engine), sample(count)
    expected = fw.run_batch(batch).tolist()
    flows = np.random.default_rng(1).integers(0, 1 << 64, count, np.uint64)
    before = batch.data.tobytes()
    for given in (None, flows):
        assert fw.run_parallel(batch, threads, flows=given).tolist() == expected
        out = np.zeros(count, np.uint64)
        assert fw.run_parallel(batch, threads, flows=given, out=out) is out
        assert out.tolist() == expected
    assert batch.data.tobytes() == before


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_packets_of_a_flow_are_run_in_their_order(threads):
    random = np.random.default_rng(7)
    flows = random.integers(0, 40, 20_000).astype(np.uint64)
    numbers = np.zeros(len(flows), np.uint64)
    for flow in range(40):
        numbers[flows == flow] = np.arange(int((flows == flow).sum()))
    packets = [
        int(f).to_bytes(4, "little") + int(n).to_bytes(8, "little")
        for f, n in zip(flows, numbers, strict=True)
    ]
    fw = instance(IN_ORDER)
    assert fw.run_parallel(PacketBatch.from_packets(packets), threads, flows=flows).tolist() == [1] * len(
        flows
    )


def test_maps_are_shared_by_all_threads():
    fw = instance(COUNT)
    results = fw.run_parallel(sample(20_000), 4)
    assert fw.maps["counters"][0] == (20_000).to_bytes(8, "little")
    assert int(results.max()) == 20_000


def test_threads_run_at_once(monkeypatch):
    """As many shares are under way at a time as threads were asked for."""
    meeting, run_arrays = threading.Barrier(4, timeout=30), parallel.addresses_of

    def meet(share):
        meeting.wait()
        return run_arrays(share)

    monkeypatch.setattr(parallel, "addresses_of", meet)
    fw = instance(SUM)
    assert len(fw.run_parallel(sample(100), 4)) == 100


@pytest.mark.parametrize("flows", [None, np.array([3, 2, 1, 0] * 25, np.uint64)], ids=["runs", "flows"])
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_error_is_that_of_the_first_packet_that_was_stopped(threads, flows):
    packets = [b"abcd"] * 100
    packets[37] = packets[78] = b"abc"
    batch, out = PacketBatch.from_packets(packets), np.zeros(100, np.uint64)
    fw = trapping()
    for _ in range(2):
        with pytest.raises(Trap, match="packet 37: access of 1 bytes"):
            fw.run_parallel(batch, threads, flows=flows, out=out)
    assert out[:25].tolist() == [ord("d")] * 25
    assert out[37] == 0
    with pytest.raises(BudgetExceeded, match="packet 5: still running after 1000"):
        endless().run_parallel(PacketBatch.from_packets([b""] * 5 + [b"a"] * 5), threads, flows=None)


def test_what_batches_cannot_do_is_said_once(capsys):
    fw = instance("r0 = 0\n exit", NOTE)
    with pytest.raises(pybpf.UnsupportedError, match="run packets one by one"):
        fw.run_parallel(sample(10), 2)
    assert capsys.readouterr() == ("", "")


def test_packet_shorter_than_the_type_promises():
    with pytest.raises(ArgumentError, match="packet of 0 bytes"):
        instance("r0 = 2\n exit", FRAME).run_parallel(sample(10))


@pytest.mark.parametrize("threads", [0, -1, 100_000])
def test_number_of_threads_that_makes_no_sense(threads):
    with pytest.raises(ArgumentError, match="threads must be from 1 to 1024"):
        instance(SUM).run_parallel(sample(5), threads)


@pytest.mark.parametrize(
    "flows", [np.zeros(4, np.uint64), np.zeros(5, np.int64), np.zeros((5, 1), np.uint64)]
)
def test_flows_that_make_no_sense(flows):
    with pytest.raises(ArgumentError, match=r"flows must be uint64\[5\]"):
        instance(SUM).run_parallel(sample(5), flows=flows)
