"""`Instance.run` as a builtin function: whole results, that nobody shares, for packets of every kind; what it keeps and gives back."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import threading
import weakref
from array import array
from dataclasses import replace

import numpy as np
import pytest

import pybpf
from pybpf import ArgumentError, Instance, Program, Result, Trap
from pybpf.jit import builtin
from pybpf.program_types import FILTER, MEMORY, XDP, ProgramType
from pybpf.regions import Bytes
from pybpf.verifier.facts import Access, RegionKind
from tests.jit.test_builtin import COUNTERS, FRAME, OVERWRITE, SUM
from tests.jit.traced import everywhere

ENGINES = ["jit", "interpreter"]


def instance(text: str, type: ProgramType = FILTER, engine: str = "jit", **options: object) -> Instance:
    program = Program.from_asm(text, type, maps={"counters": COUNTERS})
    return pybpf.instantiate(pybpf.verify(program), engine=engine, **options)  # type: ignore[arg-type]


def test_it_is_a_builtin_function_with_the_method_s_name_and_signature():
    run = instance(SUM).run
    assert type(run) is type(len)
    assert run.__text_signature__ == "(packet, context=None)"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("type", "text"), [(FILTER, SUM), (MEMORY, OVERWRITE)], ids=["reads", "writes"])
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
        b"ab" * 5000,
        b"ab" * 50_000,
    ],
)
def test_results_are_whole(engine, type, text, packet):
    before = bytes(packet)
    expected = before
    if type is MEMORY and len(before) > 1:
        expected = before[:1] + b"A" + before[2:]
    value = ord("b") + (len(before) if type is FILTER else 0) if len(before) > 1 else len(before)
    result = instance(text, type, engine).run(packet)
    assert result == Result(value, expected, type.verdict(value))
    assert [*map(builtins_type, result)] == [int, bytes, str]
    assert bytes(packet) == before


builtins_type = type


def test_packet_that_is_bytes_and_only_read_is_in_the_result_itself():
    packet = bytes(50)
    assert instance(SUM).run(packet).packet is packet


@pytest.mark.parametrize("size", [0, 1, 2])
def test_bytes_that_cpython_shares_are_not_written(size):
    """Bytes of no or of one byte are one object for all of Python."""
    text = "r0 = r2\n if r2 < 1 goto out\n r3 = 65\n *(u8 *)(r1 + 0) = r3\nout:\n exit"
    result = instance(text, MEMORY).run(b"x" * size)
    assert result.packet == b"A"[:size] + b"x" * (size - 1)
    assert bytes([ord("x")]) == b"x" != b"A"
    assert b"" == b""


@pytest.mark.parametrize("value", [0, 1, 2, 3, 4, 5, 255, 256, 2**31, 2**63, 2**64 - 1])
@pytest.mark.parametrize(
    "verdicts", [FILTER.verdicts, XDP.verdicts, {}, {3: "three", -1: "none"}, {300: "far"}]
)
def test_verdicts_are_the_type_s(value, verdicts):
    type = replace(FILTER, verdicts=verdicts)
    assert instance(f"r0 = {value} ll\n exit", type).run(b"").verdict == type.verdict(value)


def test_results_that_are_kept_stay_as_they_are():
    """The last two results are used again only where nobody else has them."""
    fw = instance(SUM)
    packets = [bytes([0, i]) for i in range(20)]
    expected = [Result(2 + i, packet, FILTER.verdict(2 + i)) for i, packet in enumerate(packets)]
    assert [fw.run(packet) for packet in packets] == expected
    assert list(fw.run_many(packets)) == expected
    kept = [fw.run(packet) for number, packet in enumerate(packets) if number % 3 == 0]
    for packet in packets:
        fw.run(packet)
        value, seen, _ = fw.run(packet)
        assert (value, seen) == (2 + packet[1], packet)
    assert kept == expected[::3]
    alias = [held := fw.run(packets[0])]
    for packet in packets:
        fw.run(packet)
    assert held is alias[0]
    assert held == expected[0]


def test_result_is_a_result_like_any_other():
    fw = instance(SUM)
    for packet in (b"ab", b"cd", b"ef"):
        made, like = fw.run(packet), Result(2 + packet[1], packet, "no match")
        assert type(made) is Result
        assert (made == like, hash(made), repr(made)) == (True, hash(like), repr(like))
        assert pickle.loads(pickle.dumps(made)) == copy.copy(made) == made._replace() == like
        assert made._asdict() == like._asdict()
        assert {made: 1}[like] == 1
        assert gc.is_tracked(made)


def test_hash_of_a_result_that_was_used_again_is_its_own():
    fw = instance(SUM)
    for number in range(10):
        packet = bytes([0, number])
        assert hash(fw.run(packet)) == hash(Result(2 + number, packet, FILTER.verdict(2 + number)))


@pytest.mark.parametrize("engine", ENGINES)
def test_arguments(engine):
    fw = instance("r0 = *(u32 *)(r1 + 12)\n exit", XDP, engine)
    frame = bytes(20)
    assert fw.run(frame).value == 0
    for result in (
        fw.run(frame, {"ingress_ifindex": 7}),
        fw.run(frame, context={"ingress_ifindex": 7}),
        fw.run(packet=frame, context={"ingress_ifindex": 7}),
        fw.run(packet=frame, context=(bytes(12) + b"\7" + bytes(11))),
    ):
        assert (result.value, result.packet) == (7, frame)
    assert fw.run(packet=frame) == fw.run(frame, None) == fw.run(frame)
    for arguments, keywords in (((), {}), ((frame, None, 1), {}), ((frame,), {"contex": None})):
        with pytest.raises(TypeError):
            fw.run(*arguments, **keywords)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("thing", [None, 5, "text"])
def test_what_is_no_packet(engine, thing):
    with pytest.raises(TypeError):
        instance(SUM, engine=engine).run(thing)


@pytest.mark.parametrize("engine", ENGINES)
def test_packet_shorter_than_the_type_promises(engine):
    fw = instance("r0 = 2\n exit", FRAME, engine)
    assert fw.run(bytes(14)).value == 2
    with pytest.raises(ArgumentError, match="packet of 13 bytes"):
        fw.run(bytes(13))


def test_trap_is_raised_and_the_next_run_is_none_the_worse():
    fw = trapping()
    for _ in range(3):
        with pytest.raises(Trap, match="access of 1 bytes") as raised:
            fw.run(b"abc")
        assert raised.value.pc == 0
        assert fw.run(b"abcd").value == ord("d")


def trapping(type: ProgramType = FILTER) -> Instance:
    """Reads the fourth byte of its packet on false evidence."""
    access = Access(RegionKind.PACKET, 0, 0, 1)
    program = Program.from_asm("r0 = *(u8 *)(r1 + 3)\n exit", type)
    return pybpf.instantiate(everywhere(program, type, {0: (access,)}))


def test_run_within_a_run():
    depth = 0

    def clock() -> int:
        nonlocal depth
        depth += 1
        return 1000 if depth == 3 else fw.run(b"").value + 1

    fw = instance("call time_get_ns\n exit", clock=clock)
    assert fw.run(b"") == Result(1002, b"", "no match")


@pytest.mark.parametrize("type", [FILTER, MEMORY], ids=["reads", "writes"])
def test_references_are_counted(type):
    """Packets, names and the function are as often referred to as before, once results are gone, however runs end."""
    fw = trapping(type)
    good, bad, run = bytes(100), bytes(2), fw.run
    name = fw.run(good).verdict

    def work() -> None:
        run(good)
        kept = [run(good) for _ in range(5)]
        for packet in (bad, None):
            with pytest.raises((Trap, TypeError)):
                run(packet)  # type: ignore[arg-type]
        del kept
        run(b"last"), run(b"last")

    work()
    gc.collect()
    before = [sys.getrefcount(thing) for thing in (good, bad, run, name, Result)]
    for _ in range(50):
        work()
    gc.collect()
    assert [sys.getrefcount(thing) for thing in (good, bad, run, name, Result)] == before


def test_the_last_two_results_go_with_the_function():
    fw = instance(SUM)
    packet = bytes(100)
    before = sys.getrefcount(packet)
    for _ in range(4):
        fw.run(packet)
    assert sys.getrefcount(packet) == before + 2
    del fw
    gc.collect()
    assert sys.getrefcount(packet) == before


def test_function_keeps_alive_what_it_needs_and_no_more():
    fw = instance(OVERWRITE, MEMORY)
    run, gone = fw.run, threading.Event()
    weakref.finalize(fw, gone.set)
    del fw
    assert gone.is_set()  # no cycle, no collector
    assert run(b"ab").packet == b"aA"


def test_threads_have_results_of_their_own():
    run, wrong = instance(SUM).run, []

    def work(number: int) -> None:
        packet = bytes([0, number])
        expected = Result(number + 2, packet, FILTER.verdict(number + 2))
        for result in map(run, [packet] * 5000):
            if result != expected:
                wrong.append(result)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_where_tuples_lie_otherwise_results_are_made_by_python(monkeypatch):
    monkeypatch.setattr(builtin, "_tuples_are_known", lambda: False)
    fw = instance(OVERWRITE, MEMORY)
    packets: list[Bytes] = [b"ab", bytearray(b"a")]
    assert type(fw.run) is not type(len)
    assert [fw.run(packet) for packet in packets] == [Result(98, b"aA", "98"), Result(1, b"a", "1")]
