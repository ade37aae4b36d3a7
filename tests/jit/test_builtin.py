"""Programs as builtin functions: values, packets of every kind, traps, runs within runs, lists, lifetimes."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from array import array
from dataclasses import replace

import numpy as np
import pytest

import pybpf
from pybpf import ArgumentError, Instance, MapSpec, Program, Trap, jit, maps
from pybpf.jit import builtin
from pybpf.program_types import FILTER, MEMORY, ProgramType
from pybpf.regions import Bytes
from pybpf.verifier.facts import Access, RegionKind
from tests.jit.test_native import NOTE
from tests.jit.traced import everywhere

COUNTERS = MapSpec("counters", "array", key_size=4, value_size=8, max_entries=1)

FRAME = replace(FILTER, name="frame", minimum_length=14)

COUNT = """
    *(u32 *)(r10 - 4) = 0
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

SUM = "r0 = r2\n if r2 < 2 goto out\n r3 = *(u8 *)(r1 + 1)\n r0 += r3\nout:\n exit"
OVERWRITE = (
    "r0 = r2\n if r2 < 2 goto out\n r0 = *(u8 *)(r1 + 1)\n r3 = 65\n *(u8 *)(r1 + 1) = r3\nout:\n exit"
)


def instance(text: str, type: ProgramType = FILTER, **options: object) -> Instance:
    program = Program.from_asm(text, type, maps={"counters": COUNTERS})
    return pybpf.instantiate(pybpf.verify(program), **options)  # type: ignore[arg-type]


def trapping() -> builtin.Builtin:
    """Reads the fourth byte of its packet on false evidence."""
    program = Program.from_asm("r0 = *(u8 *)(r1 + 3)\n exit", FILTER)
    native = jit.compile(everywhere(program, FILTER, {0: (Access(RegionKind.PACKET, 0, 0, 1),)})).bind()
    found = native.builtin(native.run)
    assert found is not None
    return found


@pytest.mark.parametrize("engine", ["jit", "interpreter"])
@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"a",
        b"abc",
        bytearray(b"abc"),
        memoryview(b"abc"),
        memoryview(b"aXbXcX")[::2],
        array("B", b"abc"),
        np.frombuffer(b"abc", np.uint8),
        bytes(70_000),
    ],
)
def test_value_of_any_buffer(engine, packet):
    call = instance(SUM, engine=engine).call
    assert call(packet) == len(packet) + (bytes(packet)[1] if len(packet) > 1 else 0)


def test_it_is_a_builtin_function_named_like_the_program():
    call = instance("r0 = 1\n exit").call
    assert type(call) is type(len)
    assert call.__name__ == "program"


@pytest.mark.parametrize("value", [0, 1, 2**31, 2**63, 2**64 - 1])
def test_every_bit_of_the_value(value):
    assert instance(f"r0 = {value} ll\n exit").call(b"") == value


@pytest.mark.parametrize("thing", [None, 5, "text", [1, 2]])
def test_what_is_no_packet(thing):
    with pytest.raises(TypeError):
        instance(SUM).call(thing)


@pytest.mark.parametrize("size", [0, 2, 1000, builtin.LARGEST_COPY, builtin.LARGEST_COPY + 1])
def test_packet_is_left_as_it_is(size):
    """Whether it is copied to the stack, or by Python because it is too large for that."""
    packet, frozen = bytearray(b"x" * size), b"x" * size
    call = instance(OVERWRITE, MEMORY).call
    expected = ord("x") if size > 1 else size
    assert [call(packet), call(frozen), call(frozen)] == [expected] * 3
    assert packet == frozen == b"x" * size


def test_type_that_writes_its_context_sees_a_new_one_each_time():
    call = instance("r0 = *(u64 *)(r1 + 0)\n r2 = r0\n r2 += 5\n *(u64 *)(r1 + 0) = r2\n exit", NOTE).call
    assert [call(b""), call(b"")] == [0, 0]


def test_packet_shorter_than_the_type_promises():
    call = instance("r0 = 2\n exit", FRAME).call
    assert call(bytes(14)) == 2
    with pytest.raises(ArgumentError, match="packet of 13 bytes"):
        call(bytes(13))


def test_trap_is_raised_and_the_next_run_is_none_the_worse():
    call = trapping().call
    for _ in range(3):
        with pytest.raises(Trap, match="access of 1 bytes") as raised:
            call(b"abc")
        assert raised.value.pc == 0
        assert call(b"abcd") == ord("d")


def test_run_within_a_run():
    """A clock written in Python runs the program that asks it the time."""
    depth = 0

    def clock() -> int:
        nonlocal depth
        depth += 1
        return 1000 if depth == 3 else fw.call(b"") + 1

    fw = instance("call 5\n exit", clock=clock)
    assert fw.call(b"") == 1002


def test_exception_of_the_clock():
    answers = iter([1])
    call = instance("call 5\n exit", clock=lambda: next(answers)).call
    assert call(b"") == 1
    with pytest.raises(StopIteration):
        call(b"")


def test_maps_are_the_instance_s():
    fw = instance(COUNT)
    assert [fw.call(b""), fw.run(b"").value, fw.call(b"")] == [1, 2, 3]
    assert fw.maps["counters"][0] == (3).to_bytes(8, "little")


# Lists


@pytest.mark.parametrize("engine", ["jit", "interpreter"])
@pytest.mark.parametrize("count", [0, 1, 9000])
def test_list_is_its_packets_one_by_one(engine, count):
    fw = instance(SUM, engine=engine)
    kinds = (bytes, bytearray, memoryview)
    packets: list[Bytes] = [kinds[i % 3](bytes([i % 251]) * (i % 7)) for i in range(count)]
    expected = [fw.call(packet) for packet in packets]
    assert fw.run_batch(packets).tolist() == expected
    assert fw.run_batch(iter(packets)).tolist() == expected
    out = np.empty(count, np.uint64)
    assert fw.run_batch(packets, out) is out
    assert out.tolist() == expected


def test_list_with_packets_that_python_must_run():
    """Large ones in a type that writes packets, between others."""
    packets = [b"ab", b"c" * (builtin.LARGEST_COPY + 1), b"", b"de", b"f" * (builtin.LARGEST_COPY + 1)]
    assert instance(OVERWRITE, MEMORY).run_batch(packets).tolist() == [
        ord("b"),
        ord("c"),
        0,
        ord("e"),
        ord("f"),
    ]


@pytest.mark.parametrize("engine", ["jit", "interpreter"])
def test_list_with_a_packet_that_is_too_short(engine):
    out = np.zeros(3, np.uint64)
    with pytest.raises(ArgumentError, match="packet of 5 bytes"):
        instance("r0 = 2\n exit", FRAME, engine=engine).run_batch([bytes(14), bytes(5), bytes(14)], out)
    assert out.tolist() == [2, 0, 0]


def test_trap_in_a_list_names_the_packet_and_results_before_it_stand():
    program = Program.from_asm("r0 = *(u8 *)(r1 + 3)\n exit", FILTER)
    native = jit.compile(everywhere(program, FILTER, {0: (Access(RegionKind.PACKET, 0, 0, 1),)})).bind()
    function = native.builtin(native.run)
    assert function is not None
    results = np.zeros(3, np.uint64)
    for _ in range(2):
        with pytest.raises(Trap, match="packet 2: access"):
            native.run_list(function, [b"abcd", b"bcde", b"abc"], results)
        assert results.tolist() == [ord("d"), ord("e"), 0]


def test_thing_in_a_list_that_is_no_packet():
    with pytest.raises(TypeError) as raised:
        instance(SUM).run_batch([b"", 5])  # type: ignore[list-item]
    assert raised.value.__notes__ == ["packet 1"]


# Lifetimes and threads


def test_function_keeps_alive_what_it_needs_and_no_more():
    fw = instance(COUNT)
    call, gone = fw.call, threading.Event()
    weakref.finalize(fw.maps["counters"], gone.set)
    del fw
    gc.collect()
    assert [call(b""), call(b"")] == [1, 2]
    assert not gone.is_set()
    del call
    gc.collect()
    assert gone.is_set()


def test_references_are_counted():
    """Neither packets nor results nor the function gain a reference by a run, however it ends."""
    good, bad, call = bytes(100), bytes(2), trapping().call

    def run() -> None:
        call(good)
        for packet in (bad, None):
            with pytest.raises((Trap, TypeError)):
                call(packet)  # type: ignore[arg-type]

    run()
    before = [sys.getrefcount(thing) for thing in (good, bad, call)]
    for _ in range(50):
        run()
    assert [sys.getrefcount(thing) for thing in (good, bad, call)] == before


def test_buffer_is_released():
    packet = bytearray(b"abc")
    instance(SUM).call(packet)
    packet.append(1)  # BufferError while somebody holds the buffer
    with pytest.raises(Trap):
        trapping().call(packet := bytearray(b"abc"))
    packet.append(1)


def test_threads():
    """Runs of one function from many threads, each of its own packets."""
    call, wrong = instance(SUM).call, []

    def work(number: int) -> None:
        packet = bytes([0, number])
        wrong.extend(value for value in map(call, [packet] * 5000) if value != number + 2)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_function_follows_code_that_is_replaced():
    program = Program.from_asm("r0 = 1\n exit", FILTER)
    other = Program.from_asm("r0 = 2\n exit", FILTER)
    native, second = jit.compile(pybpf.verify(program)), jit.compile(pybpf.verify(other))
    bound = native.bind()
    function = bound.builtin(bound.run)
    assert function is not None
    results = np.zeros(1, np.uint64)
    for code, expected in ((None, 1), (second.code, 2)):
        if code is not None:
            native.replace(code)
        bound.run_batch(pybpf.PacketBatch.from_packets([b""]), results)
        assert [function.call(b""), bound.run(b""), int(results[0])] == [expected] * 3


def test_bound_maps_outlive_their_names():
    program = Program.from_asm(COUNT, FILTER, maps={"counters": COUNTERS})
    native = jit.compile(pybpf.verify(program)).bind([maps.create(COUNTERS)])
    function = native.builtin(native.run)
    assert function is not None
    call = function.call
    del native, function
    gc.collect()
    assert [call(b""), call(b"")] == [1, 2]
