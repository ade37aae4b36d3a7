"""Helpers with only a Python body, called from native code: they see the run's memory, and refuse as in the interpreter."""

from __future__ import annotations

from dataclasses import replace

import pytest

import pybpf
from pybpf import MapSpec, Program, Trap, helpers, jit, maps
from pybpf.helpers import Helper, Machine
from pybpf.interpreter import Interpreter
from pybpf.program_types import FILTER, MEMORY, ProgramType
from pybpf.verifier.facts import Facts, VerifiedProgram

FLOWS = MapSpec("flows", "hash", key_size=4, value_size=8, max_entries=8)


def type_with(body: helpers.Body, contract: str, base: ProgramType = MEMORY) -> ProgramType:
    """A program type with one more helper, number 100."""
    return replace(base, helpers={**base.helpers, 100: Helper("mine", contract, body)})


def engines(text: str, type: ProgramType):
    """The program in both engines, each with maps of its own."""
    program = Program.from_asm(text, type, maps={"flows": FLOWS})
    verified = pybpf.verify(program)
    for make in (
        lambda made: Interpreter(program, type, made, clock=lambda: 99).run,
        lambda made: jit.compile(verified).bind(made, clock=lambda: 99).run,
    ):
        yield make([maps.create(spec, seed=1) for spec in program.maps])


def results(text: str, type: ProgramType, packet: bytes = b"") -> list[int]:
    found = []
    for run in engines(text, type):
        result = run(bytearray(packet))
        found.append(result if isinstance(result, int) else result.value)
    return found


def test_arguments_and_result():
    type_ = type_with(
        lambda machine, *numbers: sum(n * 10**i for i, n in enumerate(numbers)) - 1,
        "any any any any any -> num",
    )
    text = "r1 = 1\n r2 = 2\n r3 = 3\n r4 = 4\n r5 = -1\n call 100\n exit"
    expected = (1 + 20 + 300 + 4000 + (2**64 - 1) * 10000 - 1) % 2**64
    assert results(text, type_) == [expected] * 2


def reverse(machine: Machine, address: int, size: int, *rest: int) -> int:
    machine.write(address, machine.read(address, size)[::-1])
    return machine.now()


def test_packet_and_stack_are_read_and_written():
    type_ = type_with(reverse, "out size -> num")
    on_stack = """
        *(u64 *)(r10 - 8) = 0x12345678
        r1 = r10
        r1 += -8
        r2 = 8
        call 100
        r6 = *(u64 *)(r10 - 8)
        r0 += r6
        exit
    """
    assert results(on_stack, type_) == [99 + int.from_bytes((0x12345678).to_bytes(8, "little"), "big")] * 2
    for run in engines("r0 = 0\n if r2 < 4 goto out\n r2 = 4\n call 100\nout:\n exit", type_):
        packet = bytearray(b"abcdef")
        outcome = run(packet)
        assert (packet if isinstance(outcome, int) else outcome.packet) == b"dcbaef"


def test_stack_of_a_function():
    type_ = type_with(reverse, "out size -> num")
    text = """
        *(u64 *)(r10 - 8) = 1
        call f
        r1 = *(u64 *)(r10 - 8)
        r0 += r1
        exit
    f:
        *(u64 *)(r10 - 8) = 2
        r1 = r10
        r1 += -8
        r2 = 8
        call 100
        r0 = *(u64 *)(r10 - 8)
        exit
    """
    assert results(text, type_) == [(2 << 56) + 1] * 2


def put(machine: Machine, map_address: int, number: int, *rest: int) -> int:
    map, base = machine.map_at(map_address)
    map.update(bytes(4), number.to_bytes(8, "little"), 0)
    offset = map.lookup(bytes(4))
    assert offset is not None
    machine.write(base + offset, b"\7")
    return int.from_bytes(machine.read(base + offset, 8), "little")


def test_maps_are_the_instances():
    assert (
        results("r1 = flows ll\n r2 = 0x1234\n call 100\n exit", type_with(put, "map any -> num"))
        == [0x1207] * 2
    )


def test_helper_that_returns_nothing():
    seen: list[int] = []
    type_ = type_with(lambda machine, r1, *rest: seen.append(r1) or 0, "any -> void")
    assert results("r1 = 5\n call 100\n r0 = 1\n exit", type_) == [1, 1]
    assert seen == [5, 5]


@pytest.mark.parametrize(
    ("address", "size"),
    [(0, 1), (12345, 8), (1 << 50, 1), ((2 << 40) + (1 << 20), 65), ((1 << 40) + 4096, 1), ((3 << 40), 4)],
)
def test_access_that_is_refused_traps(address, size):
    """With the pc of the call and the address to blame, as in the interpreter."""
    type_ = type_with(lambda machine, *rest: len(machine.read(address, size)), "-> num")
    traps = []
    for run in engines("r0 = 0\n call 100\n exit", type_):
        with pytest.raises(Trap) as raised:
            run(bytearray(64))
        traps.append((raised.value.pc, raised.value.address))
    assert traps == [(1, address)] * 2


def test_read_only_packet_is_not_written_by_a_helper():
    type_ = type_with(reverse, "out size -> num", FILTER)
    program = Program.from_asm("r2 = 4\n call 100\n exit", type_)
    native = jit.compile(VerifiedProgram(program, type_, Facts(reached=frozenset(program.code)))).bind()
    packet = bytes(range(4))
    with pytest.raises(Trap, match="read-only"):
        native.run(packet)
    assert packet == bytes(range(4))


def test_no_byte_may_be_read_from_anywhere():
    assert results(
        "call 100\n exit", type_with(lambda machine, *rest: len(machine.read(0, 0)) + 5, "-> num")
    ) == [5, 5]


class HostError(Exception):
    pass


def test_exception_of_a_body_comes_out_of_run():
    def body(machine: Machine, *rest: int) -> int:
        raise HostError("sorry")

    for run in engines("call 100\n exit", type_with(body, "-> num")):
        with pytest.raises(HostError, match="sorry"):
            run(bytearray())


def test_exception_in_a_function_ends_the_whole_run():
    def body(machine: Machine, *rest: int) -> int:
        raise HostError

    text = "r6 = r1\n r7 = r2\n call f\n if r7 < 1 goto out\n *(u8 *)(r6 + 0) = 1\nout:\n exit\nf:\n call 100\n exit"
    for run in engines(text, type_with(body, "-> num")):
        packet = bytearray(1)
        with pytest.raises(HostError):
            run(packet)
        assert packet == b"\0"
