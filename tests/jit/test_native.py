"""Native programs and instances as a caller sees them: packets, contexts, maps, batches, threads, lifetimes."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest

import pybpf
from pybpf import ArgumentError, MapSpec, PacketBatch, Program, Trap, UnsupportedError, jit, maps
from pybpf.jit import NativeInstance
from pybpf.program_types import FILTER, MEMORY, XDP, Context, Field, FieldKind, ProgramType
from pybpf.verifier.facts import Access, RegionKind
from tests.jit.traced import everywhere

COUNTERS = MapSpec("counters", "array", key_size=4, value_size=8, max_entries=2)
FLOWS = MapSpec("flows", "hash", key_size=4, value_size=8, max_entries=8)

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

MARK = """
    if r2 < 2 goto out
    *(u8 *)(r1 + 1) = 65
out:
    r0 = r2
    exit
"""


def native(text: str, type: ProgramType = FILTER) -> jit.NativeProgram:
    program = Program.from_asm(text, type, maps={spec.name: spec for spec in (COUNTERS, FLOWS)})
    return jit.compile(pybpf.verify(program))


def bound(text: str, type: ProgramType = FILTER) -> NativeInstance:
    program = native(text, type)
    return program.bind([maps.create(spec) for spec in program.program.maps])


# Packets


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: memoryview(bytearray(data))])
def test_packet_that_is_only_read_may_be_any_buffer(kind):
    run = bound("r0 = r2\n if r2 == 0 goto out\n r0 = *(u8 *)(r1 + 0)\nout:\n exit").run
    assert run(kind(b"abc")) == ord("a")
    assert run(kind(b"")) == 0


def test_packet_that_is_written_is_written_in_place():
    run = bound(MARK, MEMORY).run
    packet = bytearray(b"....")
    assert run(packet) == 4
    assert packet == b".A.."
    assert run(memoryview(packet)[2:]) == 2
    assert packet == b".A.A"
    assert run(bytearray()) == 0


@pytest.mark.parametrize("packet", [b"....", memoryview(b"....")])
def test_packet_that_is_written_must_be_writable(packet):
    with pytest.raises(ArgumentError, match="writes packets"):
        bound(MARK, MEMORY).run(packet)


def test_every_other_byte_is_no_packet():
    with pytest.raises(ArgumentError):
        bound(MARK, MEMORY).run(memoryview(bytearray(8))[::2])


# Contexts

NOTE: ProgramType = replace(
    XDP,
    name="note",
    context=Context(
        "note_md",
        16,
        (Field("mark", 0, 8, writable=True), Field("data", 8, 4, FieldKind.PACKET), Field("hint", 12, 4)),
    ),
)


def test_context_gives_scalars_and_the_packet():
    run = bound("r0 = *(u32 *)(r1 + 12)\n r2 = *(u32 *)(r1 + 16)\n r0 += r2\n exit", XDP).run
    context = bytearray(24)
    context[12:20] = (1000).to_bytes(4, "little") + (7).to_bytes(4, "little")
    assert run(bytearray(4), context) == run(bytearray(4), bytes(context)) == 1007
    assert run(bytearray(4)) == 0  # another run's context is forgotten
    length = bound("r2 = *(u32 *)(r1 + 4)\n r3 = *(u32 *)(r1 + 0)\n r2 -= r3\n r0 = r2\n exit", XDP).run
    assert length(bytearray(17)) == 17


def test_context_that_is_written_reaches_the_caller_and_is_new_for_each_run():
    run = bound("r0 = *(u64 *)(r1 + 0)\n r2 = r0\n r2 += 5\n *(u64 *)(r1 + 0) = r2\n exit", NOTE).run
    context = bytearray(16)
    assert [run(bytearray(), context), run(bytearray(), context)] == [0, 5]
    assert context[0] == 10
    assert [run(bytearray()), run(bytearray())] == [0, 0]
    assert run(bytearray(), bytes(context)) == 10
    assert context[0] == 10


def test_context_of_the_wrong_size():
    with pytest.raises(ArgumentError, match="24 bytes, 23 are given"):
        bound("r0 = 0\n exit", XDP).run(bytearray(), bytes(23))
    with pytest.raises(ArgumentError, match="'filter' is 0 bytes"):
        bound("r0 = 0\n exit").run(b"", bytes(1))


def test_batch_of_a_type_that_writes_its_context_is_unsupported():
    with pytest.raises(UnsupportedError, match="one by one"):
        bound("r0 = 0\n exit", NOTE).run_batch(PacketBatch.from_packets([b""]), np.empty(1, np.uint64))


# Maps


def test_each_instance_has_its_maps():
    program = native(COUNT)
    first, second = maps.create(COUNTERS), maps.create(COUNTERS)
    one, two = program.bind([first]), program.bind([second])
    assert [one.run(b""), one.run(b""), two.run(b"")] == [1, 2, 1]
    assert (first[1], second[1]) == ((2).to_bytes(8, "little"), (1).to_bytes(8, "little"))
    assert program.bind([first]).run(b"") == 3


def test_map_of_the_same_shape_will_do_and_no_other():
    program = native(COUNT)
    program.bind([maps.create(replace(COUNTERS, name="another"))])
    for other in (
        replace(COUNTERS, max_entries=3),
        replace(COUNTERS, key_size=8),
        replace(COUNTERS, read_only=True),
        FLOWS,
    ):
        with pytest.raises(ArgumentError, match="compiled for other maps: 'counters'"):
            program.bind([maps.create(other)])
    with pytest.raises(ArgumentError, match="compiled for other maps"):
        program.bind([])


# Batches


def test_batch_is_the_packets_one_by_one():
    instance = bound("r0 = r2\n if r2 < 3 goto out\n r0 = *(u8 *)(r1 + 2)\nout:\n exit")
    packets = [b"", b"a", b"ab", b"abc", b"xyz" * 500] * 9
    results = np.zeros(len(packets), np.uint64)
    instance.run_batch(PacketBatch.from_packets(packets), results)
    assert results.tolist() == [instance.run(packet) for packet in packets]


def test_batch_is_left_as_it_is():
    """Even where packets share bytes, each run sees the packet that arrived."""
    text = "r0 = r2\n if r2 < 2 goto out\n r0 = *(u8 *)(r1 + 1)\n *(u8 *)(r1 + 1) = 65\nout:\n exit"
    batch = PacketBatch.from_packets([b"..", b"", b"x!y"]).repeat(30)
    results = np.zeros(30, np.uint64)
    bound(text, MEMORY).run_batch(batch, results)
    assert results.tolist() == [ord("."), 0, ord("!")] * 10
    assert list(batch[:3]) == [b"..", b"", b"x!y"]


def test_empty_batch():
    bound("r0 = 0\n exit").run_batch(PacketBatch.from_packets([]), np.empty(0, np.uint64))
    bound(MARK, MEMORY).run_batch(PacketBatch.from_packets([]), np.empty(0, np.uint64))


@pytest.mark.parametrize(
    "results",
    [np.zeros(2, np.uint64), np.zeros((3, 1), np.uint64), np.zeros(3, np.int64), np.zeros(6, np.uint64)[::2]],
)
def test_results_of_another_form(results):
    with pytest.raises(ArgumentError, match="results"):
        bound("r0 = 0\n exit").run_batch(PacketBatch.from_packets([b"", b"", b""]), results)


def test_results_must_be_writable():
    results = np.zeros(1, np.uint64)
    results.flags.writeable = False
    with pytest.raises(ArgumentError, match="read-only"):
        bound("r0 = 0\n exit").run_batch(PacketBatch.from_packets([b""]), results)


# Threads and lifetimes


def test_threads_run_at_once_and_keep_apart():
    """Some runs trap and some do not, in the same instance at the same time: nobody gets another's outcome."""
    packet = (Access(RegionKind.PACKET, 0, 0, 1),)
    program = Program.from_asm("r0 = *(u8 *)(r1 + 3)\n exit", FILTER)
    instance = jit.compile(everywhere(program, FILTER, {0: packet})).bind()
    wrong: list[object] = []

    def work(number: int) -> None:
        good, bad = bytes([0, 0, 0, number]), bytes(number % 4)
        for _ in range(200):
            if instance.run(good) != number:
                wrong.append(number)
            with contextlib.suppress(Trap):
                wrong.append(instance.run(bad))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_code_lives_as_long_as_its_instances():
    instance = bound(COUNT)
    gc.collect()
    assert [instance.run(b""), instance.run(b"")] == [1, 2]


def test_instances_go_away():
    """An instance is in a cycle with what native code calls; the collector finds it, maps and all."""
    instance = bound(COUNT)
    instance.run(b"")
    gone = threading.Event()
    weakref.finalize(instance.maps[0], gone.set)
    del instance
    gc.collect()
    assert gone.is_set()


# Clocks and helpers in Python


def test_clock_of_the_type():
    for type_, clock in ((replace(FILTER, clock="monotonic"), time.monotonic_ns), (FILTER, time.time_ns)):
        run = bound("call 5\n exit", type_).run
        before = clock()
        now = run(b"")
        assert before <= now <= clock()


def test_clock_that_is_given():
    ticks = iter([5, 2**64 + 6, -1])
    run = native("call 5\n exit").bind(clock=lambda: next(ticks)).run
    assert [run(b"") for _ in range(3)] == [5, 6, 2**64 - 1]
    with pytest.raises(StopIteration):
        run(b"")


class HostError(Exception):
    pass


def test_exception_of_the_clock_stops_the_run():
    """Nothing after the call is done; the next run is none the worse for it."""
    answers = iter([HostError("no clock"), 7])

    def clock() -> int:
        answer = next(answers)
        if isinstance(answer, HostError):
            raise answer
        return answer

    text = "r6 = r1\n r7 = r2\n call 5\n if r7 < 1 goto out\n *(u8 *)(r6 + 0) = 1\nout:\n exit"
    instance = native(text, MEMORY).bind(clock=clock)
    packet = bytearray(b"\0")
    with pytest.raises(HostError, match="no clock"):
        instance.run(packet)
    assert packet == b"\0"
    assert instance.run(packet) == 7
    assert packet == b"\1"


def test_exception_in_a_batch_says_which_packet():
    ticks = iter([1, 2])
    instance = native("call 5\n exit").bind(clock=lambda: next(ticks))
    results = np.zeros(3, np.uint64)
    with pytest.raises(StopIteration) as raised:
        instance.run_batch(PacketBatch.from_packets([b"", b"", b""]), results)
    assert raised.value.__notes__ == ["packet 2"]
    assert results.tolist() == [1, 2, 0]
