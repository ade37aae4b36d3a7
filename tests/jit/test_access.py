"""Checks in native code: a program whose facts are false traps, with pc and address, and never reaches the host's memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pybpf
from pybpf import MapSpec, PacketBatch, Program, Trap, jit, maps, memory
from pybpf.interpreter import Interpreter
from pybpf.jit import Level, NativeInstance, Options
from pybpf.jit.lower import lower
from pybpf.program_types import FILTER, MEMORY, XDP, ProgramType
from pybpf.verifier.facts import Access, Facts, RegionKind, VerifiedProgram
from tests.jit.programs import MAPS, ROOM, TYPE, texts
from tests.jit.traced import observed

COUNTERS = MapSpec("counters", "array", key_size=4, value_size=8, max_entries=4)
OTHERS = MapSpec("others", "array", key_size=4, value_size=8, max_entries=4)
CONSTANTS = MapSpec("constants", "array", key_size=4, value_size=8, max_entries=1, read_only=True)

PACKET = (Access(RegionKind.PACKET, 0, 8, 8),)
STACK = (Access(RegionKind.STACK, -8, -8, 8),)
CONTEXT = (Access(RegionKind.CONTEXT, 12, 12, 4),)
VALUE = (Access(RegionKind.MAP_VALUE, 0, 0, 8, map=0),)

LOOKUP = """
    *(u32 *)(r10 - 4) = 1
    r2 = r10
    r2 += -4
    r1 = counters ll
    call 1
"""
"""Seven slots, with the call at pc 5: r0 is the value of key 1 of map 0."""


def instance(
    text: str,
    type: ProgramType,
    accesses: dict[int, tuple[Access, ...]],
    level: Level = Level.FULL,
    **facts: object,
) -> NativeInstance:
    """A program as if it had been verified with these facts, every instruction reached unless they say otherwise."""
    specs = {spec.name: spec for spec in (COUNTERS, OTHERS, CONSTANTS)}
    program = Program.from_asm(text, type, maps=specs)
    claims = Facts(**{"accesses": accesses, "reached": frozenset(program.code), **facts})  # type: ignore[arg-type]
    native = jit.compile(VerifiedProgram(program, type, claims), level)
    return native.bind([maps.create(spec) for spec in program.maps])


def after_lookup(text: str, last: tuple[Access, ...]) -> NativeInstance:
    """A program that does something to the address in r0, at pc 6, after a lookup that was proved."""
    key = (Access(RegionKind.STACK, -4, -4, 4),)
    return instance(LOOKUP + text, FILTER, {0: STACK, 6: last}, arguments={5: {2: key}}, maps={5: 0})


def trap(native: NativeInstance, packet: bytes | bytearray = b"") -> Trap:
    with pytest.raises(Trap) as raised:
        native.run(packet)
    return raised.value


# Packets


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("size", [1, 2, 4, 8])
@pytest.mark.parametrize("offset", [0, 1, 60])
def test_packet_ends_at_its_length(offset, size, level):
    names = {1: "u8", 2: "u16", 4: "u32", 8: "u64"}
    native = instance(f"r0 = *({names[size]} *)(r1 + {offset})\n exit", FILTER, {0: PACKET}, level)
    packet = bytes(range(1, offset + size + 1))
    assert native.run(packet) == int.from_bytes(packet[offset:], "little")
    for short in range(offset + size):
        error = trap(native, packet[:short])
        assert (error.pc, error.address) == (0, memory.PACKET + offset)


@pytest.mark.parametrize("index", [57, 64, 1 << 32, (1 << 64) - 1, (1 << 64) - 8, 1 << 63])
def test_index_into_the_packet_is_checked_without_wrapping(index):
    """Known and unknown to the compiler; the last index that is right is right."""
    constant = f"r2 = {index} ll\n r1 += r2\n r0 = *(u64 *)(r1 + 0)\n exit"
    assert trap(instance(constant, FILTER, {3: PACKET}), bytes(64)).address == (memory.PACKET + index) % (
        1 << 64
    )
    variable = instance(
        "r2 = *(u64 *)(r1 + 0)\n r1 += r2\n r0 = *(u64 *)(r1 + 0)\n exit", FILTER, {0: PACKET, 2: PACKET}
    )
    error = trap(variable, index.to_bytes(8, "little") + bytes(56))
    assert (error.pc, error.address) == (2, (memory.PACKET + index) % (1 << 64))
    assert variable.run((56).to_bytes(8, "little") + bytes(48) + b"\1" * 8) == 0x0101_0101_0101_0101


def test_packet_of_a_type_that_may_not_write_it_is_not_written():
    native = instance("*(u8 *)(r1 + 0) = 1\n r0 = 0\n exit", FILTER, {0: PACKET})
    packet = bytes(8)
    assert trap(native, packet).pc == 0
    assert packet == bytes(8)


def test_trap_in_a_batch_names_the_packet_and_leaves_the_results_before_it():
    native = instance("r0 = *(u8 *)(r1 + 3)\n exit", FILTER, {0: PACKET})
    results = np.full(3, 99, np.uint64)
    with pytest.raises(Trap, match="packet 2") as raised:
        native.run_batch(PacketBatch.from_packets([b"\0\0\0\5", b"\0\0\0\6", b"abc"]), results)
    assert (raised.value.pc, raised.value.address) == (0, memory.PACKET + 3)
    assert results.tolist() == [5, 6, 99]
    assert native.run(b"\0\0\0\7") == 7  # nothing of the trap is left


# Stack, context, maps


@pytest.mark.parametrize("offset", [-512 - 1, -512 * 2, -7, 0, 8, 4096, -32768, 32767])
def test_stack_has_ends(offset):
    native = instance(f"*(u64 *)(r10 {offset:+d}) = 1\n r0 = 0\n exit", FILTER, {0: STACK})
    error = trap(native)
    assert (error.pc, error.address) == (0, memory.STACK_TOP + offset)


@pytest.mark.parametrize("index", [-512, -8, -7, 0, -513, 1 << 20, -(1 << 63)])
def test_index_into_the_stack_is_checked(index):
    text = (
        "r2 = *(u64 *)(r1 + 0)\n r3 = r10\n r3 += r2\n *(u64 *)(r3 + 0) = r2\n r0 = *(u64 *)(r3 + 0)\n exit"
    )
    native = instance(text, FILTER, {0: PACKET, 3: STACK, 4: STACK})
    packet = (index % (1 << 64)).to_bytes(8, "little")
    if -512 <= index <= -8:
        assert native.run(packet) == index % (1 << 64)
    else:
        error = trap(native, packet)
        assert (error.pc, error.address) == (3, (memory.STACK_TOP + index) % (1 << 64))


def test_stack_that_was_never_written_is_some_number():
    """What stands there is nobody's business, but it is one number, and using it is no crash."""
    native = instance("r1 = *(u64 *)(r10 - 8)\n r0 = r1\n r0 ^= r1\n exit", FILTER, {0: STACK})
    assert native.run(b"") == 0


def test_context_is_read_where_the_verifier_said():
    assert instance("r0 = *(u32 *)(r1 + 12)\n exit", XDP, {0: CONTEXT}).run(bytearray()) == 0
    for offset in (8, 16, 4096, -4):
        error = trap(instance(f"r0 = *(u32 *)(r1 {offset:+d})\n exit", XDP, {0: CONTEXT}), bytearray())
        assert (error.pc, error.address) == (0, memory.CONTEXT + offset)


def test_context_has_no_other_fields():
    wide = (Access(RegionKind.CONTEXT, 12, 12, 8),)
    assert trap(instance("r0 = *(u64 *)(r1 + 12)\n exit", XDP, {0: wide}), bytearray()).pc == 0
    assert trap(instance("*(u32 *)(r1 + 12) = 1\n r0 = 0\n exit", XDP, {0: CONTEXT}), bytearray()).pc == 0


@pytest.mark.parametrize("offset", [-16, -200, 24, 32, 4096, 32767])
def test_map_values_have_ends(offset):
    """The value of key 1 of 4 is looked up; the values before and behind it are in reach, the header is not."""
    native = after_lookup(f"r0 = *(u64 *)(r0 {offset:+d})\n exit", VALUE)
    if 0 <= 8 + offset <= 24:
        assert native.run(b"") == 0
    else:
        error = trap(native)
        layout = native.maps[0].layout
        assert (error.pc, error.address) == (
            6,
            memory.map_address(0) + layout.values + layout.stride + offset,
        )


def test_value_that_is_not_there_is_null():
    text = LOOKUP.replace("= 1", "= 4") + "r0 = *(u64 *)(r0 + 0)\n exit"
    key = (Access(RegionKind.STACK, -4, -4, 4),)
    native = instance(text, FILTER, {0: STACK, 6: VALUE}, arguments={5: {2: key}}, maps={5: 0})
    assert trap(native).address == 0


def test_read_only_map_is_not_written():
    text = "r1 = constants ll\n *(u64 *)(r1 + 128) = 1\n r0 = 0\n exit"
    native = instance(text, FILTER, {2: VALUE})
    assert trap(native).pc == 2
    assert native.maps[0][bytes(4)] == bytes(8)


def test_atomic_instruction_is_aligned():
    native = after_lookup("lock *(u64 *)(r0 + 4) += r10\n exit", VALUE)
    assert "unaligned atomic" in str(trap(native))


# Wrong regions


@pytest.mark.parametrize("claim", [STACK, CONTEXT, VALUE], ids=lambda claim: claim[0].region.value)
def test_packet_is_taken_for_something_else(claim):
    text = "r3 = counters ll\n r0 = *(u64 *)(r1 + 0)\n exit"
    assert trap(instance(text, MEMORY, {2: claim}), bytearray(8)).address == memory.PACKET


def test_access_that_was_never_proved():
    assert trap(instance("r0 = *(u64 *)(r1 + 0)\n exit", FILTER, {}), bytes(8)).address == memory.PACKET


def test_access_to_one_of_several_regions():
    """The address decides; one that is in none of them traps."""
    text = """
        r3 = r10
        r3 += -8
        *(u64 *)(r3 + 0) = 7
        if r2 == 8 goto use
        r3 = r1
        if r2 != 9 goto use
        r3 = 12345
    use:
        r0 = *(u64 *)(r3 + 0)
        exit
    """
    native = instance(text, FILTER, {2: STACK, 7: STACK + PACKET + VALUE.__class__()})
    assert native.run(bytes(8)) == 7
    assert native.run(b"\1" + bytes(9)) == 1
    assert trap(native, bytes(9)).address == 12345


def test_branch_that_was_never_taken_is_taken():
    text = "r0 = 1\n if r2 == 0 goto rare\n exit\nrare:\n r0 = 2\n exit"
    native = instance(text, FILTER, {}, reached=frozenset({0, 1, 2}))
    assert native.run(b"x") == 1
    error = trap(native)
    assert error.pc == 3
    assert "out of reach" in str(error)


def test_function_that_was_never_called_is_called():
    native = instance("call f\n exit\nf:\n r0 = 1\n exit", FILTER, {}, reached=frozenset({0, 1}))
    assert trap(native).pc == 2


# Helpers


def test_key_is_checked():
    text = LOOKUP.replace("+= -4", "+= -2") + "exit"
    key = (Access(RegionKind.STACK, -4, -4, 4),)
    native = instance(text, FILTER, {0: STACK}, arguments={5: {2: key}}, maps={5: 0})
    error = trap(native)
    assert (error.pc, error.address) == (5, memory.STACK_TOP - 2)


def test_key_longer_than_the_stack_is_not_read():
    wide = MapSpec("wide", "hash", key_size=4096, value_size=8, max_entries=1)
    program = Program.from_asm(
        "r2 = r10\n r2 += -512\n r1 = wide ll\n call 1\n exit", FILTER, maps={"wide": wide}
    )
    key = {2: (Access(RegionKind.STACK, -512, -512, 4096),)}
    facts = Facts(arguments={4: key}, maps={4: 0}, reached=frozenset(program.code))
    native = jit.compile(VerifiedProgram(program, FILTER, facts)).bind([maps.create(wide)])
    assert trap(native).address == memory.STACK_TOP - 512


def test_map_is_checked():
    key = (Access(RegionKind.STACK, -4, -4, 4),)
    text = LOOKUP + "r1 = others ll\n r0 = 0\n exit"
    for proved in ({5: 1}, {}):
        native = instance(text, FILTER, {0: STACK}, arguments={5: {2: key}}, maps=proved)
        if proved:
            assert trap(native).address == memory.map_address(0)
        else:
            assert native.run(b"") == 0
    no_map = "r2 = r10\n r2 += -4\n r1 = 5\n call 1\n exit"
    assert trap(instance(no_map, FILTER, {}, arguments={3: {2: key}}, maps={})).address == 5


def test_size_of_a_helpers_argument_is_checked():
    """The bytes from r1 on are the packet's, r2 of them: all of it, or one too many."""
    text = "r2 = *(u64 *)(r1 + 0)\n call 6\n exit"
    native = instance(text, FILTER, {0: PACKET}, arguments={1: {1: PACKET}})
    for size in (0, 8, 64):
        assert (
            native.run(size.to_bytes(8, "little") + bytes(56))
            == Interpreter(Program.from_asm(text, FILTER), FILTER)
            .run(size.to_bytes(8, "little") + bytes(56))
            .value
        )
    for size in (65, 1 << 32, (1 << 64) - 1):
        assert trap(native, size.to_bytes(8, "little") + bytes(56)).pc == 1


# Any program


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(texts(), st.binary(min_size=ROOM, max_size=ROOM), st.integers(0, ROOM - 1), st.sampled_from(Level))
def test_programs_trap_where_the_interpreter_does(text, packet, length, level):
    """Facts from a run over a long packet, a program that has lost its test of the length, and a short packet."""
    program = Program.from_asm(text.replace(f"if r2 < {ROOM} ", "if r2 < 0 "), TYPE, maps=MAPS)
    native = jit.compile(observed(program, [packet], TYPE), level).bind(
        [maps.create(spec) for spec in program.maps]
    )
    expected, stopped = outcome(Interpreter(program, TYPE, strict=False), packet[:length])
    found, trapped = outcome(native, packet[:length])
    if trapped is None or "out of reach" not in str(trapped):  # the observed run went another way
        assert found == expected
        assert (trapped and trapped.address) == (stopped and stopped.address)


def outcome(engine: Interpreter | NativeInstance, packet: bytes) -> tuple[int | None, Trap | None]:
    try:
        result = engine.run(bytearray(packet))
    except Trap as error:
        return None, error
    return (result if isinstance(result, int) else result.value), None


# Without checks


def test_bounds_are_believed_where_that_was_asked_for():
    """The text compares nothing any more, and results are the same."""
    text = "r0 = 0\n if r2 < 8 goto out\n r2 &= 7\n r1 += r2\n r0 = *(u8 *)(r1 + 0)\nout:\n exit"
    proof = pybpf.verify(Program.from_asm(text, FILTER))
    unchecked = lower(proof, Options(checks=False))
    assert lower(proof).count("label %trap,") > unchecked.count("label %trap,") == 0
    packets = [bytes(7), bytes(range(1, 9)), bytes(range(1, 30))]
    for checks in (True, False):
        made = pybpf.instantiate(proof, checks=checks)
        assert [made.call(packet) for packet in packets] == [0, 1, 6]


# A check that stands in front of a place is not repeated there; one that does not, is


def ends(text: str, type: ProgramType = FILTER, **facts: object) -> None:
    """Run a program that adds what it reads to r0, as if it had been proved, on packets of all lengths up to 24: it traps exactly at the first read that the packet is
    too short for.
    """
    program = Program.from_asm(text, type)
    claims = {pc: PACKET for pc, one in program.code.items() if one.op.kind.value == "load"}
    if type is XDP:
        claims |= {
            pc: (Access(RegionKind.CONTEXT, 4 * pc, 4 * pc, 4),) for pc in (0, 1)
        }  # r2 = data, r3 = data_end
    native = {level: instance(text, type, claims, level, **facts) for level in Level}
    for length in range(25):
        packet = bytearray(b"\1" * length)
        value, error = outcome(Interpreter(program, type, [], strict=False), bytes(packet))
        for level in Level:
            mine, found = outcome(native[level], bytes(packet))
            assert (mine, found and found.pc) == (value, error and error.pc)


_CODES = ["<", "<=", ">", ">=", "==", "!="]


@pytest.mark.parametrize("code", _CODES)
@pytest.mark.parametrize("end", [15, 16, 17])
def test_what_a_test_of_the_length_tells_on_its_two_ways(code, end):
    text = f"r0 = 1\n if r2 {code} 16 goto taken\n r3 = *(u8 *)(r1 + {end - 1})\n exit\ntaken:\n r3 = *(u8 *)(r1 + {end - 1})\n exit"
    ends(text)
    ends(
        f"r0 = 1\n r4 = 16\n if r4 {code} r2 goto +1\n{text.partition('goto taken')[2]}".replace(
            "goto +1", "goto taken"
        )
    )


@pytest.mark.parametrize("code", _CODES)
@pytest.mark.parametrize("end", [15, 16, 17])
def test_what_a_test_of_the_packets_end_tells(code, end):
    head = "r2 = *(u32 *)(r1 + 0)\n r3 = *(u32 *)(r1 + 4)\n r0 = 1\n r4 = r2\n r4 += 16\n"
    for test in (f"if r4 {code} r3 goto taken", f"if r3 {code} r4 goto taken"):
        ends(
            f"{head} {test}\n r5 = *(u8 *)(r2 + {end - 1})\n exit\ntaken:\n r5 = *(u8 *)(r2 + {end - 1})\n exit",
            XDP,
        )


@pytest.mark.parametrize(
    "text",
    [
        # only one of two ways has the check
        "r0 = 0\n r3 = *(u8 *)(r1 + 0)\n if r2 == 9 goto on\n r3 = *(u8 *)(r1 + 12)\non:\n r3 = *(u8 *)(r1 + 10)\n exit",
        # the greater is behind the smaller, and in front of it
        "r0 = 0\n r3 = *(u8 *)(r1 + 7)\n r3 = *(u8 *)(r1 + 12)\n r3 = *(u8 *)(r1 + 7)\n exit",
        # a check in a loop, and what is behind the loop
        "r0 = 0\n r4 = 3\ntop:\n r3 = *(u8 *)(r1 + 5)\n r4 -= 1\n if r4 == 1 goto out\n r3 = *(u8 *)(r1 + 12)\n goto top\nout:\n r3 = *(u8 *)(r1 + 12)\n exit",
        # a loop that can be left before its check, and comes back with it
        "r0 = 0\n r4 = 0\ntop:\n if r4 > 2 goto out\n if r2 < 4 goto out\n r4 += 1\n goto top\nout:\n r3 = *(u8 *)(r1 + 3)\n exit",
        # a loop with two ways in, of which one asks for the length
        "r0 = 0\n r4 = 3\n if r2 > 15 goto second\nfirst:\n r3 = *(u8 *)(r1 + 9)\nsecond:\n r3 = *(u8 *)(r1 + 14)\n r4 -= 1\n if r4 s> 0 goto first\n exit",
        "r0 = 0\n r4 = 3\n if r2 > 15 goto first\n goto second\nfirst:\n r3 = *(u8 *)(r1 + 9)\nsecond:\n r4 -= 1\n if r4 s> 0 goto first\n exit",
        "r0 = 0\n r4 = 3\n if r2 <= 15 goto second\nfirst:\n r3 = *(u8 *)(r1 + 9)\nsecond:\n r4 -= 1\n if r4 s> 0 goto first\n exit",
        # a function knows nothing of its callers, and these nothing of it
        "r0 = 0\n if r2 == 7 goto on\n r6 = *(u8 *)(r1 + 15)\non:\n r6 = r1\n call f\n r3 = *(u8 *)(r6 + 14)\n exit\nf:\n r3 = *(u8 *)(r1 + 9)\n r0 = 1\n exit",
        # 32 bits of a length are not the length
        "r0 = 0\n if w2 < 16 goto out\n r3 = *(u8 *)(r1 + 15)\nout:\n r3 = *(u8 *)(r1 + 3)\n exit",
        # a signed test tells nothing of unsigned numbers
        "r0 = 0\n r3 = -1\n if r2 s> r3 goto on\n exit\non:\n r3 = *(u8 *)(r1 + 15)\n exit",
    ],
)
def test_a_check_holds_only_where_every_way_has_come_by_it(text):
    ends(text)


@pytest.mark.parametrize("level", Level)
def test_a_check_of_one_of_two_regions_is_none_of_what_is_behind(level):
    """An access to the stack or the packet: where it was to the stack, nobody has asked for the packet's length."""
    text = "r4 = r10\n r4 += -40\n r3 = r4\n if r2 < 4 goto on\n r3 = r1\non:\n *(u64 *)(r10 - 8) = 1\n r0 = *(u64 *)(r3 + 32)\n r0 = *(u8 *)(r1 + 33)\n exit"
    either = STACK + PACKET
    native = instance(text, FILTER, {5: STACK, 6: either, 7: PACKET}, level)
    assert trap(native, bytes(3)).pc == 7
    assert trap(native, bytes(39)).pc == 6
    assert native.run(bytes(40)) == 0
