"""A batch that is run again is run by a builtin function: whatever has changed in the meantime, it does what the first run would do."""

from __future__ import annotations

import gc
import inspect
import sys
import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest

import pybpf
from pybpf import ArgumentError, Instance, PacketBatch, Program, Trap, jit
from pybpf.program_types import FILTER, MEMORY, ProgramType
from tests.jit.test_builtin import FRAME, OVERWRITE, SUM

CLOCK = "call time_get_ns\n exit"


def instance(text: str, type: ProgramType = FILTER, **options: object) -> Instance:
    return pybpf.instantiate(pybpf.verify(Program.from_asm(text, type)), **options)  # type: ignore[arg-type]


def known(text: str = SUM, type: ProgramType = FILTER, count: int = 50) -> tuple[Instance, PacketBatch]:
    """An instance that has run a batch of packets of two bytes, the second of which is the packet's number, up to 255."""
    made, batch = instance(text, type), PacketBatch.from_packets([bytes([0, i & 255]) for i in range(count)])
    made.run_batch(batch, np.empty(count, np.uint64))
    assert inspect.isbuiltin(made.run_batch)
    return made, batch


def test_results_go_to_out_each_time():
    made, batch = known()
    for out in (np.empty(50, np.uint64), np.empty(50, np.ulonglong)):
        assert made.run_batch(batch, out) is out
        assert out.tolist() == [2 + i for i in range(50)]
        out[:] = 0
        assert made.run_batch(batch, out=out) is out
        assert out.tolist() == [2 + i for i in range(50)]
    assert made.run_batch(batch).tolist() == out.tolist()
    assert made.run_batch(batch=batch, out=out) is out
    assert made.run_batch(list(batch), out) is out


def test_it_can_be_asked_for_its_parameters():
    made, _ = known()
    assert list(inspect.signature(made.run_batch).parameters) == ["batch", "out"]


@pytest.mark.parametrize(
    "out",
    [
        np.empty(49, np.uint64),
        np.empty(51, np.uint64),
        np.empty(0, np.uint64),
        np.empty((50, 1), np.uint64),
        np.empty((5, 10), np.uint64),
        np.empty(100, np.uint64)[::2],
        np.empty(50, np.int64),
        np.empty(50, np.float64),
        np.empty(50, ">u8"),
        np.empty(50, "V8"),
        np.empty(50, [("x", "u8")]),
        np.empty(100, np.uint32),
        np.empty(50, "M8[s]"),
    ],
    ids=lambda out: f"{out.dtype} {out.shape}",
)
def test_out_of_another_form_is_refused_as_it_was(out):
    made, batch = known()
    with pytest.raises(ArgumentError, match=r"out must be a writable, contiguous uint64\[50\]"):
        made.run_batch(batch, out)


def test_out_that_has_changed_since_the_last_run():
    """It is the same object, and looked at again."""
    made, batch = known()
    out = np.empty(50, np.uint64)
    made.run_batch(batch, out)
    out.flags.writeable = False
    with pytest.raises(ArgumentError):
        made.run_batch(batch, out)
    out.flags.writeable = True
    out.dtype = np.int64
    with pytest.raises(ArgumentError):
        made.run_batch(batch, out)
    out.dtype = np.uint64
    out.resize(25, refcheck=False)
    with pytest.raises(ArgumentError):
        made.run_batch(batch, out)
    out.resize(50, refcheck=False)
    assert made.run_batch(batch, out).tolist() == [2 + i for i in range(50)]


def test_what_is_no_array_is_refused_as_it_was():
    made, batch = known()
    for thing in (bytearray(400), memoryview(bytearray(400)).cast("Q"), [0] * 50, 7):
        with pytest.raises(AttributeError):
            made.run_batch(batch, thing)
    for arguments, names in [((), {}), ((batch, None, None), {}), ((batch,), {"into": None})]:
        with pytest.raises(TypeError):
            made.run_batch(*arguments, **names)


def test_packets_that_have_changed():
    """The buffer of a batch is the caller's."""
    made, _ = known()
    data, offsets = np.zeros(100, np.uint8), np.arange(50, dtype=np.uint64) * 2
    lengths = np.full(50, 2, np.uint32)
    batch, out = (
        PacketBatch(data, offsets, lengths, lengths, np.zeros(50, np.uint64)),
        np.empty(50, np.uint64),
    )
    for value in (0, 3, 200):
        data[:] = value
        assert made.run_batch(batch, out).tolist() == [2 + value] * 50


def test_another_batch_is_another_batch():
    """Also where it lies at the address of one that is gone."""
    made, _ = known()
    out, addresses = np.empty(3, np.uint64), set()
    for number in range(200):
        batch = PacketBatch.from_packets([bytes([0, number])] * 3)
        addresses.add(id(batch))
        for _ in range(1 + number % 3):
            assert made.run_batch(batch, out).tolist() == [2 + number] * 3
        del batch
    assert len(addresses) < 200


def test_packets_that_are_written_are_copied():
    made, batch = known(OVERWRITE, MEMORY)
    out = np.empty(50, np.uint64)
    for _ in range(3):
        assert made.run_batch(batch, out).tolist() == list(range(50))
    large = PacketBatch.from_packets([bytes([0, 9]) + bytes(1 << 17)])
    for _ in range(3):
        assert made.run_batch(large, np.empty(1, np.uint64)).tolist() == [9]
    assert large[0] == bytes([0, 9]) + bytes(1 << 17)


def test_packets_shorter_than_the_type_promises_are_refused_each_time():
    made, batch = known("r0 = 0\n exit", replace(FRAME, minimum_length=2))
    short, out = PacketBatch.from_packets([b"."] * 50), np.empty(50, np.uint64)
    for _ in range(2):
        made.run_batch(batch, out)
        with pytest.raises(ArgumentError, match="promises at least 2"):
            made.run_batch(short, out)


def test_empty_batch():
    made = instance(SUM)
    batch, out = PacketBatch.from_packets([]), np.empty(0, np.uint64)
    for _ in range(3):
        assert made.run_batch(batch, out) is out


def test_a_trap_names_the_packet_and_the_next_run_is_none_the_worse():
    """The clock gives up at the third packet of the second run."""
    times = iter([*range(10), 10, 11, None, *range(20, 30)])

    def clock() -> int:
        value = next(times)
        if value is None:
            raise RuntimeError("no time")
        return value

    made = instance(CLOCK, clock=clock)
    batch, out = PacketBatch.from_packets([b""] * 10), np.zeros(10, np.uint64)
    assert made.run_batch(batch, out).tolist() == list(range(10))
    with pytest.raises(RuntimeError, match="no time"):
        made.run_batch(batch, out)
    assert out.tolist() == [10, 11, *range(2, 10)]
    assert made.run_batch(batch, out).tolist() == list(range(20, 30))


def test_packets_that_no_longer_lie_in_their_batch():
    made, batch = known()
    out = np.full(50, 77, np.uint64)
    batch.offsets.setflags(write=True)
    kept = int(batch.offsets[20])
    batch.offsets[20] = 1 << 40
    with pytest.raises(ArgumentError, match=r"packet 20: .*not in the batch's data"):
        made.run_batch(batch, out)
    assert out.tolist() == [*range(2, 22), *[77] * 30]
    batch.offsets[20] = kept
    assert made.run_batch(batch, out).tolist() == [2 + i for i in range(50)]


def test_run_within_a_run():
    """A clock that runs the same batch is a run of its own, and so is one that runs another."""
    inner = np.empty(2, np.uint64)
    depth = 0

    def clock() -> int:
        nonlocal depth
        depth += 1
        try:
            if depth == 1:
                made.run_batch(other if swap else batch, inner[: 1 if swap else 2])
            return depth
        finally:
            depth -= 1

    made = instance(CLOCK, clock=clock)
    batch, other = PacketBatch.from_packets([b"a", b"b"]), PacketBatch.from_packets([b"c"])
    out = np.empty(2, np.uint64)
    for swap in (False, True, False):
        for _ in range(2):
            inner[:] = 0
            assert made.run_batch(batch, out).tolist() == [1, 1]
            assert inner.tolist() == ([2, 0] if swap else [2, 2])


def test_run_within_a_run_that_writes_to_its_packet():
    """Each run has its own copy of the packet: that of the outer is as it was left."""
    depth = 0

    def clock() -> int:
        nonlocal depth
        depth += 1
        try:
            if depth == 1:
                made.run_batch(batch, np.empty(3, np.uint64))
            return 0
        finally:
            depth -= 1

    text = """
        r6 = r1
        r7 = 9
        if r2 < 2 goto out
        r7 = *(u8 *)(r6 + 1)
        r7 += 1
        *(u8 *)(r6 + 1) = r7
        call time_get_ns
        r7 = *(u8 *)(r6 + 1)
    out:
        r0 = r7
        exit
    """
    type_ = replace(FILTER, name="marking", packet_writable=True)
    made = instance(text, type_, clock=clock)
    batch, out = (
        PacketBatch.from_packets([bytes([0, value]) for value in (10, 20, 30)]),
        np.empty(3, np.uint64),
    )
    for _ in range(3):
        assert made.run_batch(batch, out).tolist() == [11, 21, 31]


def test_threads_run_the_same_batch_at_once():
    """The memory that packets are copied to is that of one run at a time."""
    made, batch = known(OVERWRITE, MEMORY, count=20_000)
    wrong = []

    def work() -> None:
        out = np.empty(20_000, np.uint64)
        expected = np.arange(20_000, dtype=np.uint64) & np.uint64(255)
        for _ in range(50):
            out[:] = 0
            made.run_batch(batch, out)
            wrong.extend(np.flatnonzero(out != expected))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_code_that_is_replaced():
    native, second = (
        jit.compile(pybpf.verify(Program.from_asm(f"r0 = {value}\n exit", FILTER))) for value in (1, 2)
    )
    bound = native.bind()
    last = bound.last_batch()
    assert last is not None

    def unusual(batch: PacketBatch, out: object) -> object:
        bound.run_batch(batch, out, last=last)  # type: ignore[arg-type]
        return out

    run, batch = last.function(unusual), PacketBatch.from_packets([b""])
    out = np.zeros(1, np.uint64)
    assert [int(run(batch, out)[0]) for _ in range(2)] == [1, 1]
    native.replace(second.code)
    assert int(run(batch, out)[0]) == 2


def test_nothing_is_kept_alive_but_what_is_needed():
    """A batch goes when its owner lets it go, an instance with its last name, and a function keeps what it needs."""
    made, batch = known()
    out = np.empty(50, np.uint64)
    before = [sys.getrefcount(thing) for thing in (batch, out)]
    for _ in range(50):
        made.run_batch(batch, out)
        with pytest.raises(ArgumentError):
            made.run_batch(batch, out[:3])
    assert [sys.getrefcount(thing) for thing in (batch, out)] == before
    gone = weakref.ref(batch)
    del batch
    assert gone() is None
    run, gone = made.run_batch, weakref.ref(made)
    del made
    assert gone() is None
    gc.collect()
    again = PacketBatch.from_packets([b"ab"])
    for _ in range(3):
        assert run(again, np.empty(1, np.uint64)).tolist() == [2 + ord("b")]


def test_out_is_released():
    made, batch = known()
    out = np.empty(50, np.uint64)
    made.run_batch(batch, out)
    out.resize(60)  # refused while somebody has the buffer


def test_a_trap_is_a_trap():
    """The facts say that there are four bytes, which is true at first."""
    from pybpf.verifier.facts import Access, RegionKind
    from tests.jit.traced import everywhere

    program = Program.from_asm("r0 = *(u8 *)(r1 + 3)\n exit", FILTER)
    made = pybpf.instantiate(everywhere(program, FILTER, {0: (Access(RegionKind.PACKET, 0, 0, 1),)}))
    batch, out = PacketBatch.from_packets([b"abcd"] * 9), np.empty(9, np.uint64)
    made.run_batch(batch, out)
    batch.lengths.setflags(write=True)
    batch.lengths[4] = 3
    for _ in range(2):
        out[:] = 0
        with pytest.raises(Trap, match="packet 4: "):
            made.run_batch(batch, out)
        assert out.tolist() == [ord("d")] * 4 + [0] * 5
