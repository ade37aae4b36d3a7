"""The reference engine: every instruction runs, every rule of the machine traps, nothing crashes the process."""

from __future__ import annotations

import mmap
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybpf import (
    ArgumentError,
    BudgetExceeded,
    Instruction,
    MapSpec,
    Program,
    Reference,
    RefKind,
    Trap,
    memory,
    semantics,
)
from pybpf.helpers import Helper
from pybpf.interpreter import Interpreter
from pybpf.isa import OPS, Kind, Operand, op
from pybpf.program_types import FILTER, MEMORY, XDP, Context, Entry, Field, FieldKind, ProgramType
from pybpf.semantics import U64

PACKET = bytes(range(1, 65))
FLOWS = MapSpec("flows", "hash", key_size=4, value_size=16, max_entries=4)
COUNTERS = MapSpec("counters", "array", key_size=4, value_size=8, max_entries=3)
RODATA = MapSpec(
    ".rodata", "array", key_size=4, value_size=8, max_entries=1, initial=b"constant", read_only=True
)
MAPS = {spec.name: spec for spec in (FLOWS, COUNTERS, RODATA)}


def interpreter(text: str, type: str | ProgramType = "filter", **options: object) -> Interpreter:
    return Interpreter(Program.from_asm(text, type, maps=MAPS), **options)  # type: ignore[arg-type]


def value(text: str, type: str | ProgramType = "filter", packet: bytes = PACKET, **options: object) -> int:
    """r0 of a program given as text."""
    return interpreter(text, type, **options).run(packet).value


def trap(text: str, type: str | ProgramType = "filter", packet: bytes = PACKET, **options: object) -> Trap:
    """The trap that a program given as text ends in."""
    with pytest.raises(Trap) as raised:
        interpreter(text, type, **options).run(packet)
    return raised.value


# Every instruction


DST, SRC, IMM = 0x8877_6655_4433_2211, 0x9000_0000_8000_0007, -5
"""What the registers and the immediate of a row under test hold: different halves, high bits set, a shift of 7 or 59."""


def run_row(instruction: Instruction, before: str = "", after: str = "r0 = r2") -> int:
    """r0 of a program around one instruction, whose operands are r2 (`DST`), r3 (`SRC`) and the eight bytes at r10-8."""
    setup = f"r2 = {DST:#x} ll\n r3 = {SRC:#x} ll\n *(u64 *)(r10 - 8) = r2\n r0 = 0\n {before}"
    head, tail = Program.from_asm(setup + "\nexit").code, Program.from_asm(after + "\nexit").code
    code, pc = {}, 0
    for each in (*list(head.values())[:-1], instruction, *tail.values()):
        code[pc] = each
        pc += each.slots
    return Interpreter(Program("row", code), MEMORY).run(PACKET).value


def right_operand(row: object) -> int:
    return SRC if row.operand is Operand.REG else IMM & U64  # type: ignore[attr-defined]


def rows(*kinds: Kind) -> pytest.MarkDecorator:
    chosen = [row for row in OPS if row.kind in kinds]
    return pytest.mark.parametrize("row", chosen, ids=lambda row: row.mnemonic)


def test_every_kind_has_a_test_of_all_its_rows():
    """The parametrised tests below cover the whole table."""
    tested = {mark.args[1][0].kind for test in ROW_TESTS for mark in test.pytestmark}
    assert tested == set(Kind) - {Kind.CALL, Kind.CALL_LOCAL, Kind.CALL_REGISTER, Kind.EXIT, Kind.KERNEL}


@rows(Kind.ALU)
def test_alu(row):
    instruction = Instruction(
        row, 2, 3 if row.src is None else 0, row.offset or 0, IMM if row.imm is None else 0
    )
    assert run_row(instruction) == semantics.alu(row.code, DST, right_operand(row), row.width)


@rows(Kind.END)
def test_byte_order(row):
    narrow = DST & ((1 << row.width) - 1)
    swapped = int.from_bytes(narrow.to_bytes(row.width // 8, "little"), "big")
    assert run_row(Instruction(row, 2, imm=row.imm)) == (narrow if row.code == "le" else swapped)


@rows(Kind.LOAD_IMM64)
def test_wide_load(row):
    """A constant is loaded; a function gets its address; maps and variables need something that says what they are."""
    instruction = Instruction(row, 2, row.src, imm=0xFFFF_FFFF_FFFF_FFFE)
    if row.code == "imm":
        assert run_row(instruction) == 0xFFFF_FFFF_FFFF_FFFE
    elif row.code == "function":
        assert run_row(instruction) == memory.function_address(6 + 1 - 2)
    else:
        with pytest.raises(Trap, match="nothing says what"):
            run_row(instruction)


@rows(Kind.LOAD)
def test_load(row):
    data = DST.to_bytes(8, "little")[: row.size]
    expected = int.from_bytes(data, "little", signed=row.code == "memsx") & U64
    assert run_row(Instruction(row, 2, 10, -8)) == expected


@rows(Kind.STORE)
def test_store(row):
    """The lower bytes of the operand are written and the others left."""
    instruction = Instruction(row, 10, 3 if row.src is None else 0, -8, IMM if row.imm is None else 0)
    left = DST.to_bytes(8, "little")[row.size :]
    stored = right_operand(row).to_bytes(8, "little")[: row.size]
    assert run_row(instruction, after="r0 = *(u64 *)(r10 - 8)") == int.from_bytes(stored + left, "little")


ATOMIC_RESULT = {
    "add": lambda old, new: old + new,
    "or": lambda old, new: old | new,
    "and": lambda old, new: old & new,
    "xor": lambda old, new: old ^ new,
    "xchg": lambda old, new: new,
    "cmpxchg": lambda old, new: old,
    "store_release": lambda old, new: new,
    "load_acquire": lambda old, new: old,
}


@rows(Kind.ATOMIC)
def test_atomic(row):
    """Memory and the register that the old value goes to. r0 is not what memory holds, so cmpxchg leaves memory as it is."""
    mask = (1 << 8 * row.size) - 1
    old, new = DST & mask, SRC & mask
    if row.code == "load_acquire":
        assert run_row(Instruction(row, 2, 10, -8, row.imm)) == old
        return
    instruction = Instruction(row, 10, 3, -8, row.imm)
    in_memory = run_row(instruction, after="r0 = *(u64 *)(r10 - 8)")
    expected = ATOMIC_RESULT[row.code.removeprefix("fetch_")](old, new) & mask
    assert in_memory == DST & ~mask | expected
    fetches = row.code.startswith("fetch_") or row.code == "xchg"
    assert run_row(instruction, after="r0 = r3") == (old if fetches else SRC)
    assert run_row(instruction, after="") == (old if row.code == "cmpxchg" else 0)


@pytest.mark.parametrize("width", [32, 64])
def test_compare_and_exchange_that_succeeds(width):
    row = op(Kind.ATOMIC, "cmpxchg", width=width, size=width // 8, operand=Operand.REG)
    mask = (1 << width) - 1
    instruction = Instruction(row, 10, 3, -8, row.imm)
    assert run_row(instruction, "r0 = r2", "r0 = *(u64 *)(r10 - 8)") == DST & ~mask | SRC & mask
    assert run_row(instruction, "r0 = r2", "") == DST & mask


@rows(Kind.PACKET)
def test_packet_load(row):
    """r0 is in network byte order; the index is the immediate, and src if the load is indirect."""
    instruction = Instruction(row, 0, 1 if row.src is None else 0, 0, 9)
    setup = "r1 = 4" if row.src is None else ""
    start = 13 if row.src is None else 9
    assert run_row(instruction, setup, "") == int.from_bytes(PACKET[start : start + row.size], "big")


@rows(Kind.PACKET)
def test_packet_load_out_of_range_ends_the_program(row):
    instruction = Instruction(row, 0, 1 if row.src is None else 0, 0, len(PACKET) - row.size + 1)
    assert run_row(instruction, "r1 = 0\n r0 = 7", "r0 = 9") == 0
    assert run_row(replace(instruction, imm=-1), "r1 = 0\n r0 = 7", "r0 = 9") == 0


@rows(Kind.JUMP)
def test_jump(row):
    instruction = Instruction(row, offset=2) if row.code == "ja" else Instruction(row, imm=2)
    assert run_row(instruction, after="r0 = 1\n exit\n r0 = 2") == 2


@rows(Kind.BRANCH)
def test_branch(row):
    """Taken exactly where the condition holds, seen from both sides and for equal operands."""
    instruction = Instruction(row, 2, 3 if row.src is None else 0, 2, IMM if row.imm is None else 0)
    right = right_operand(row)
    for left in (DST, right, right ^ 1 << 31, right + 1 & U64, 0):
        taken = run_row(instruction, f"r2 = {left:#x} ll", "r0 = 1\n exit\n r0 = 2") == 2
        assert taken == semantics.condition(row.code, left, right, row.width)


ROW_TESTS = (
    test_alu, test_byte_order, test_wide_load, test_load, test_store, test_atomic, test_packet_load, test_jump, test_branch
)  # fmt: skip


# Functions


def test_function_gets_its_arguments_and_keeps_its_callers_registers():
    text = """
        r6 = 6
        r9 = 9
        r1 = 1
        r5 = 50
        call sum
        r0 += r6
        r0 += r9
        exit
    sum:
        r6 = 1000
        r9 = 2000
        r0 = r1
        r0 += r5
        exit
    """
    assert value(text) == 1 + 50 + 6 + 9


def test_each_call_has_a_stack_frame_of_its_own():
    """The callee's r10 is another frame, the caller's bytes survive, and a pointer to them can be handed down."""
    text = """
        *(u64 *)(r10 - 8) = 1
        r1 = r10
        r1 += -8
        call change
        r0 = *(u64 *)(r10 - 8)
        exit
    change:
        *(u64 *)(r10 - 8) = 77
        r2 = *(u64 *)(r1 + 0)
        r2 += 5
        *(u64 *)(r1 + 0) = r2
        r0 = 0
        exit
    """
    assert value(text) == 6


def test_frame_is_new_with_each_call():
    """What an earlier call left on the stack cannot be read: it is uninitialised, or zero where the type allows reading."""
    text = """
        r1 = 1
        call leave
        r1 = 0
        call leave
        exit
    leave:
        if r1 == 0 goto look
        *(u64 *)(r10 - 8) = 77
    look:
        r0 = *(u64 *)(r10 - 8)
        exit
    """
    assert "was never written" in trap(text, "filter").detail
    assert value(text, "memory") == 0


def test_frame_of_a_function_that_returned_is_gone():
    text = """
        call leak
        r0 = *(u64 *)(r0 - 8)
        exit
    leak:
        *(u64 *)(r10 - 8) = 1
        r0 = r10
        exit
    """
    assert trap(text).detail == "load of 8 bytes at r10-520: outside the stack frame of 512 bytes"


def nested(depth: int) -> str:
    functions = "".join(f"f{i}:\n call f{i + 1}\n exit\n" for i in range(1, depth - 1))
    return f"call f1\n exit\n {functions} f{depth - 1}:\n r0 = {depth}\n exit\n"


def test_calls_nest_as_deep_as_linux_allows():
    assert value(nested(memory.MAX_FRAMES)) == memory.MAX_FRAMES
    assert trap(nested(memory.MAX_FRAMES + 1)).detail == "calls nest deeper than 8 frames"


def test_endless_recursion_traps():
    assert trap("f: call f\n exit").detail == "calls nest deeper than 8 frames"


def test_function_may_leave_r0_unset_and_its_caller_not_read_it():
    assert value("call nothing\n r0 = 3\n exit\n nothing: exit") == 3
    assert trap("call nothing\n exit\n nothing: exit").detail == "uninitialised register r0"


@pytest.mark.parametrize("register", [1, 2, 3, 4, 5])
def test_arguments_are_gone_after_a_local_call(register):
    text = f"r{register} = 1\n call f\n r0 = r{register}\n exit\n f: r0 = 0\n exit"
    assert trap(text).detail == f"uninitialised register r{register}"


@pytest.mark.parametrize("register", [6, 7, 8, 9])
def test_function_does_not_see_its_callers_registers(register):
    text = f"r{register} = 1\n call f\n exit\n f: r0 = r{register}\n exit"
    assert trap(text).detail == f"uninitialised register r{register}"


REFERRED = {
    "a helper by name": ("call 99\n exit", RefKind.HELPER, "bpf_ktime_get_ns", None),
    "no such helper": ("call 5\n exit", RefKind.HELPER, "bpf_nothing", "program type 'xdp' has no helper 'bpf_nothing'"),
    "something unknown": ("r0 = 1 ll\n exit", RefKind.UNSUPPORTED, "ksym", "ksym is not supported"),
    "the value of a map without one": ("r0 = 1 ll\n exit", RefKind.VALUE, "flows", "map 'flows' has no value at key 0"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "kind", "name", "reason"), REFERRED.values(), ids=REFERRED)
def test_reference_says_what_an_operand_is(text, kind, name, reason):
    """What stands in the instruction itself does not matter then."""
    code = Program.from_asm(text, XDP).code
    program = Program("refers", code, XDP, references={0: Reference(kind, name)}, maps=(FLOWS,))
    machine = Interpreter(program, clock=lambda: 42)
    if reason is None:
        assert machine.run(PACKET).value == 42
    else:
        with pytest.raises(Trap, match=reason):
            machine.run(PACKET)


def test_call_through_a_register():
    """The address of a function, or the number of a helper."""
    assert value("r6 = f ll\n callx r6\n exit\n f: r0 = 5\n exit") == 5
    assert value("r6 = 5\n callx r6\n exit", clock=lambda: 1234) == 1234


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("r6 = 99", "program type 'filter' has no helper 99"),
        ("r6 = -1", "program type 'filter' has no helper 18446744073709551615"),
        ("r6 = r10", "has no helper"),
        (f"r6 = {memory.function_address(0) + 4:#x} ll", "which is no function"),
        (f"r6 = {memory.function_address(1000):#x} ll", "no instruction here"),
    ],
)
def test_call_through_a_register_that_holds_no_function(target, reason):
    assert reason in trap(f"{target}\n callx r6\n exit").detail


# What traps, and how it is said


TRAPS = {
    "packet, behind": ("r0 = *(u32 *)(r1 + 61)\n exit", 0, "load of 4 bytes at packet+61: outside the packet of 64 bytes"),
    "packet, before": ("r0 = *(u8 *)(r1 - 1)\n exit", 0, "load of 1 byte at packet-1: outside the packet of 64 bytes"),
    "packet, far": ("r2 <<= 34\n r1 += r2\n r0 = *(u8 *)(r1 + 0)\n exit", 2, "load of 1 byte at 0x30000100000: nothing is there"),
    "packet, write": ("*(u8 *)(r1 + 0) = 1\n r0 = 0\n exit", 0, "store of 1 byte at packet+0: forbidden write to packet"),
    "packet, atomic": ("r2 = 0\n lock *(u32 *)(r1 + 0) += r2\n exit", 1, "store of 4 bytes at packet+0: forbidden write to packet"),
    "stack, above": ("r0 = *(u64 *)(r10 + 0)\n exit", 0, "load of 8 bytes at r10+0: outside the stack frame of 512 bytes"),
    "stack, straddling": ("*(u64 *)(r10 - 4) = 0\n exit", 0, "store of 8 bytes at r10-4: outside the stack frame of 512 bytes"),
    "stack, below": ("*(u8 *)(r10 - 513) = 0\n exit", 0, "store of 1 byte at r10-513: outside the stack frame of 512 bytes"),
    "stack, uninitialised": (
        "*(u32 *)(r10 - 8) = 0\n r0 = *(u64 *)(r10 - 8)\n exit", 1,
        "load of 8 bytes at r10-8: uninitialised stack, the byte at r10-4 was never written",
    ),
    "null": ("r3 = 0\n r0 = *(u32 *)(r3 + 0)\n exit", 1, "load of 4 bytes at null: nothing is there"),
    "null, with an offset": ("r3 = 0\n *(u64 *)(r3 + 24) = 1\n exit", 1, "store of 8 bytes at null+24: nothing is there"),
    "no region": ("r3 = -8\n r0 = *(u64 *)(r3 + 0)\n exit", 1, "load of 8 bytes at 0xfffffffffffffff8: nothing is there"),
    "around the end": ("r3 = -8\n r0 = *(u64 *)(r3 + 8)\n exit", 1, "load of 8 bytes at null: nothing is there"),
    "code": ("r3 = f ll\n r0 = *(u8 *)(r3 + 0)\n exit\n f: exit", 2, "load of 1 byte at 0x40000000020: nothing is there"),
    "context of a type without one": (f"r3 = {memory.CONTEXT:#x} ll\n r0 = *(u8 *)(r3 + 0)\n exit", 2, "nothing is there"),
    "map itself": ("r3 = flows ll\n r0 = *(u64 *)(r3 + 0)\n exit", 2, "load of 8 bytes at map 'flows'+0: not within one value of the map"),
    "data section, behind": ("r3 = .rodata + 1 ll\n r0 = *(u64 *)(r3 + 0)\n exit", 2, "not within one value of the map"),
    "data section, write": ("r3 = .rodata + 0 ll\n *(u8 *)(r3 + 0) = 1\n exit", 2, "the map is read-only for programs"),
    "uninitialised operand": ("r0 = 1\n r0 += r3\n exit", 1, "uninitialised register r3"),
    "uninitialised destination": ("r3 += 1\n exit", 0, "uninitialised register r3"),
    "uninitialised by negation": ("r3 = -r3\n exit", 0, "uninitialised register r3"),
    "uninitialised byte swap": ("r3 = bswap32 r3\n exit", 0, "uninitialised register r3"),
    "uninitialised address": ("r0 = *(u8 *)(r5 + 0)\n exit", 0, "uninitialised register r5"),
    "uninitialised address of a store": ("*(u8 *)(r5 + 0) = 1\n exit", 0, "uninitialised register r5"),
    "uninitialised value stored": ("*(u64 *)(r10 - 8) = r4\n exit", 0, "uninitialised register r4"),
    "uninitialised atomic": ("*(u64 *)(r10 - 8) = 0\n lock *(u64 *)(r10 - 8) += r4\n exit", 1, "uninitialised register r4"),
    "uninitialised comparand": (
        "*(u64 *)(r10 - 8) = 0\n r3 = 1\n r0 = cmpxchg_64(r10 - 8, r0, r3)\n exit", 2, "uninitialised register r0"
    ),
    "uninitialised branch": ("if r1 == r7 goto +0\n exit", 0, "uninitialised register r7"),
    "uninitialised index": ("r0 = *(u8 *)skb[r7 + 0]\n exit", 0, "uninitialised register r7"),
    "uninitialised argument": ("call time_get_ns\n call hash\n exit", 1, "uninitialised register r1"),
    "uninitialised callx": ("callx r7\n exit", 0, "uninitialised register r7"),
    "uninitialised result": ("exit", 0, "uninitialised register r0"),
    "atomic, unaligned": (
        "r3 = 1\n *(u64 *)(r10 - 8) = 0\n *(u64 *)(r10 - 16) = 0\n lock *(u32 *)(r10 - 10) += r3\n exit", 3,
        "unaligned atomic access of 4 bytes",
    ),
    "frame pointer": ("r10 += 1\n exit", 0, "write to r10: the frame pointer is read-only"),
    "frame pointer, swapped": ("r10 = be16 r10\n exit", 0, "write to r10"),
    "frame pointer, wide": ("r10 = 1 ll\n exit", 0, "write to r10"),
    "frame pointer, loaded": ("r10 = *(u64 *)(r1 + 0)\n exit", 0, "write to r10"),
    "frame pointer, exchanged": ("*(u64 *)(r10 - 8) = 0\n r10 = xchg_64(r10 - 8, r10)\n exit", 1, "write to r10"),
    "frame pointer, fetched": ("*(u64 *)(r10 - 8) = 0\n r10 = atomic_fetch_add((u64 *)(r10 - 8), r10)\n exit", 1, "write to r10"),
    "frame pointer, acquired": ("r10 = load_acquire((u64 *)(r10 - 8))\n exit", 0, "write to r10"),
    "falls off the end": ("r0 = 0", 1, "no instruction here: the program is 1 slots long"),
    "jump beyond the end": ("goto +7\n exit", 8, "no instruction here: the program is 2 slots long"),
    "jump before the start": ("goto -3\n exit", -2, "no instruction here: the program is 2 slots long"),
    "jump into a wide load": ("goto +1\n r0 = 1 ll\n exit", 2, "no instruction here: the second slot of a wide load"),
    "call beyond the end": ("call +9\n exit", 10, "no instruction here"),
    "helper unknown": ("call 99\n exit", 0, "program type 'filter' has no helper 99"),
    "helper's argument": ("r1 = flows ll\n call map_lookup\n exit", 2, "uninitialised stack"),
    "kernel function": ("call kfunc(3)\n exit", 0, "calls of kernel functions are not supported"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "pc", "reason"), TRAPS.values(), ids=TRAPS)
def test_trap(text, pc, reason):
    if "map_lookup" in text:
        text = "r2 = r10\n r2 += -8\n" + text
        pc += 2
    trapped = trap(text)
    assert reason in trapped.detail
    assert trapped.pc == pc


def test_trap_carries_the_address():
    assert trap("r0 = *(u32 *)(r1 + 61)\n exit").address == memory.PACKET + 61
    assert trap("r0 = r4\n exit").address is None


@pytest.mark.parametrize("register", [1, 2, 3, 4, 5])
def test_arguments_are_gone_after_a_helper(register):
    text = f"r{register} = 1\n call 5\n r0 = r{register}\n exit"
    assert trap(text).detail == f"uninitialised register r{register}"


def test_result_of_a_helper_without_one_is_uninitialised():
    type_ = replace(FILTER, helpers={1: Helper("nothing", "-> void", lambda *arguments: 7)})
    assert trap("call 1\n exit", type_).detail == "uninitialised register r0"


def test_packet_loads_clobber_the_arguments():
    assert trap("r3 = 1\n r0 = *(u8 *)skb[0]\n r0 = r3\n exit").detail == "uninitialised register r3"


def test_uninitialised_registers_and_stack_read_as_zero_unless_strict():
    text = "r0 = r3\n r4 = *(u64 *)(r10 - 8)\n r0 += r4\n r0 += r0\n exit"
    assert value(text, strict=False) == 0


# The published verifier of Oko accepts these unsafe programs; what happens when they run


UNSAFE = {
    "U1 short branch of a length test": ("if r2 > 100 goto +2\n r0 = *(u8 *)(r1 + 1000)\n exit\n r0 = 0\n exit", "outside the packet"),
    "U2 test that says nothing": ("if r2 & 1 goto +0\n r0 = *(u8 *)(r1 + 1000)\n exit", "outside the packet"),
    "U3 arithmetic on the length": ("r2 += 1000\n if r2 > 1000 goto +0\n r0 = *(u8 *)(r1 + 999)\n exit", "outside the packet"),
    "U4 store across the frame's end": ("*(u64 *)(r10 - 1) = r1\n exit", "outside the stack frame"),
    "U5 stack pointer moved up": ("r2 = r10\n r2 += 600\n *(u32 *)(r2 - 4) = r1\n exit", "outside the stack frame"),
    "U5 stack pointer moved down": ("r2 = r10\n r2 += -4096\n *(u32 *)(r2 + 0) = r1\n exit", "outside the stack frame"),
    "U6 uninitialised operand": ("r0 = 0\n r0 += r3\n exit", "uninitialised register r3"),
    "U7 packet pointer after a call": ("call 5\n r0 = *(u8 *)(r1 + 0)\n exit", "uninitialised register r1"),
    "U8 constant spilled as a pointer": (
        "r0 = r1\n *(u64 *)(r10 - 8) = 0x41\n r4 = *(u64 *)(r10 - 8)\n r0 = *(u8 *)(r4 + 0)\n exit", "at null+65: nothing is there",
    ),
    "U9 spilled pointer overwritten in part": (
        "*(u64 *)(r10 - 8) = r1\n *(u8 *)(r10 - 8) = 255\n r4 = *(u64 *)(r10 - 8)\n r0 = *(u8 *)(r4 + 0)\n exit",
        "packet+255: outside the packet",
    ),
    "U10 packet data as an offset": (
        "r3 = *(u32 *)(r1 + 0)\n *(u32 *)(r10 - 8) = r3\n *(u32 *)(r10 - 4) = r3\n r4 = *(u64 *)(r10 - 8)\n"
        "r1 += r4\n r0 = *(u8 *)(r1 + 0)\n exit", "nothing is there",
    ),
    "U11 32-bit minus one": ("w3 = -1\n r3 += 1\n r1 += r3\n r0 = *(u8 *)(r1 + 0)\n exit", "packet+4294967296: outside the packet"),
    "U12 difference of two ranges": (
        "r3 = *(u8 *)(r1 + 0)\n r4 = *(u8 *)(r1 + 9)\n r3 -= r4\n r1 += r3\n r0 = *(u8 *)(r1 + 0)\n exit", "packet-9: outside the packet",
    ),
    "U13 signed and unsigned in one range": (
        "r3 = -1\n if r3 > 5 goto +0\n if r3 s> 10 goto +2\n r1 += r3\n r0 = *(u8 *)(r1 + 0)\n exit", "packet-1: outside the packet",
    ),
    "U14 comparison of a pointer with a number": (
        "r2 <<= 1\n r1 += r2\n if r1 > 0 goto +0\n r0 = *(u8 *)(r1 + 0)\n exit", "packet+128: outside the packet",
    ),
    "U15 value instead of a map": (
        "*(u32 *)(r10 - 4) = 0\n r2 = r10\n r2 += -4\n r1 = counters ll\n call map_lookup\n r1 = r0\n r2 = r10\n r2 += -4\n"
        "call map_lookup\n exit", "is not a map",
    ),
    "U18 no exit": ("r0 = 1", "no instruction here"),
    "U18 empty": ("", "no instruction here: the program is 0 slots long"),
    "U24 byte order of an offset": (
        "r3 = *(u8 *)(r1 + 0)\n r3 &= 1\n r3 = be16 r3\n r1 += r3\n r0 = *(u8 *)(r1 + 0)\n exit", "packet+256: outside the packet",
    ),
    "U25 negated offset": (
        "r3 = *(u8 *)(r1 + 0)\n r3 &= 31\n r3 = -r3\n r1 += r3\n r0 = *(u8 *)(r1 + 0)\n exit", "packet-1: outside the packet",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), UNSAFE.values(), ids=UNSAFE)
def test_unsafe_program_traps(text, reason):
    assert reason in trap(text).detail


SAFE = {
    "U16 value pointer after an update of its key": (
        "*(u32 *)(r10 - 4) = 2\n *(u64 *)(r10 - 16) = 9\n r2 = r10\n r2 += -4\n r1 = counters ll\n call map_lookup\n r6 = r0\n"
        "r1 = counters ll\n r2 = r10\n r2 += -4\n r3 = r10\n r3 += -16\n call map_update\n r0 = *(u64 *)(r6 + 0)\n exit", 9,
    ),
    "U17 code that is not reached": ("r0 = 2\n exit\n goto -1", 2),
    "U19 arithmetic on a wide constant": ("r0 = 0x1_00000000 ll\n r0 += 1\n exit".replace("_", ""), 0x1_0000_0001),
    "U20 constant stored while r0 is uninitialised": ("*(u64 *)(r10 - 8) = 7\n r0 = *(u64 *)(r10 - 8)\n exit", 7),
    "U21 copy of a tested pointer": (
        "*(u32 *)(r10 - 4) = 0\n r2 = r10\n r2 += -4\n r1 = counters ll\n call map_lookup\n r6 = r0\n if r0 == 0 goto +2\n"
        "r0 = *(u64 *)(r6 + 0)\n exit\n r0 = 1\n exit", 0,
    ),
    "U22 hash of four bytes": ("*(u32 *)(r10 - 4) = 0\n r1 = r10\n r1 += -4\n r2 = 4\n call hash\n exit", 0x049396B8),
    "U23 offset from the packet against its length": (
        "r3 = *(u8 *)(r1 + 4)\n r3 &= 15\n r3 <<= 2\n r4 = r3\n r4 += 18\n if r4 > r2 goto +3\n r1 += r3\n r0 = *(u8 *)(r1 + 14)\n"
        "exit\n r0 = 0\n exit", 14 + 20 + 1,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SAFE.values(), ids=SAFE)
def test_safe_program_runs(text, expected):
    assert value(text) == expected


# Packets and contexts


def test_filter_gets_the_packet_and_its_true_length():
    assert value("r0 = r2\n exit", packet=bytes(1514)) == 1514
    assert value("r0 = r2\n exit", packet=b"") == 0
    assert value("r0 = *(u8 *)(r1 + 1)\n exit", packet=b"\x05\x06") == 6


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_packet_of_any_bytes_is_left_as_it_is(make):
    packet = make(PACKET)
    written = interpreter("*(u8 *)(r1 + 0) = 99\n r0 = 0\n exit", "memory").run(packet)
    assert written.packet == b"c" + PACKET[1:]
    assert bytes(packet) == PACKET
    assert interpreter("r0 = 0\n exit", "filter").run(packet).packet == PACKET


def test_packet_longer_than_the_verifier_assumes_is_refused():
    with (
        mmap.mmap(-1, memory.MAX_PACKET + 1) as pages,
        pytest.raises(ArgumentError, match="at most 2147483647"),
    ):
        interpreter("r0 = 0\n exit").run(pages)


def test_context_gives_the_packets_ends_as_addresses():
    """32-bit fields hold whole 64-bit addresses, as in Linux after the verifier has rewritten the load."""
    read = "r0 = *(u32 *)(r1 + {})\n exit"
    assert value(read.format(0), XDP) == memory.PACKET
    assert value(read.format(4), XDP) == memory.PACKET + len(PACKET)
    assert value(read.format(8), XDP) == memory.PACKET


def test_context_scalars_come_from_the_callers_buffer():
    context = bytes(12) + (7).to_bytes(4, "little") + bytes(8)
    read = interpreter("r0 = *(u32 *)(r1 + 12)\n exit", XDP)
    assert read.run(PACKET, context).value == 7
    assert read.run(PACKET).value == 0
    with pytest.raises(Trap, match="no field of xdp_md lies there"):
        interpreter("r0 = *(u8 *)(r1 + 12)\n exit", XDP).run(PACKET, context)


def test_context_of_the_wrong_size_is_refused():
    with pytest.raises(ArgumentError, match="a xdp_md has 24 bytes, not 3"):
        interpreter("r0 = 0\n exit", XDP).run(PACKET, b"abc")


MARKED = ProgramType(
    name="marked",
    entry=(Entry.CONTEXT, Entry.LENGTH),
    helpers=MEMORY.helpers,
    context=Context("mark", 8, (Field("data", 0, 4, FieldKind.PACKET), Field("mark", 4, 4, writable=True))),
)


def test_writable_context_field_reaches_the_callers_buffer():
    context = bytearray(8)
    outcome = interpreter("*(u32 *)(r1 + 4) = 258\n r0 = *(u16 *)(r1 + 4)\n exit", MARKED).run(
        PACKET, context
    )
    assert outcome.value == 258
    assert context == b"\0\0\0\0\x02\x01\0\0"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("r0 = *(u8 *)(r1 + 0)", "load of 1 byte at context+0: no field of mark lies there"),
        ("r0 = *(u64 *)(r1 + 0)", "load of 8 bytes at context+0: no field of mark lies there"),
        ("r0 = *(u32 *)(r1 + 8)", "load of 4 bytes at context+8: no field of mark lies there"),
        ("r0 = *(u32 *)(r1 - 4)", "outside the packet of 64 bytes"),
        ("*(u32 *)(r1 + 0) = 1", "store of 4 bytes at context+0: field 'data' is read-only"),
    ],
)
def test_context_is_accessed_by_its_fields(text, reason):
    assert reason in trap(f"{text}\n r0 = 0\n exit", MARKED).detail


def test_context_cannot_be_read_as_bytes():
    type_ = replace(
        MARKED, helpers={6: Helper("read", "mem size -> num", lambda m, a, n, *_: len(m.read(a, n)))}
    )
    assert "accessed by its fields" in trap("r2 = 8\n call 6\n exit", type_).detail


def test_stack_of_a_type_that_lets_it_be_read_is_zero():
    assert value("r0 = *(u64 *)(r10 - 512)\n exit", XDP) == 0


# Maps and helpers


LOOKUP = "*(u32 *)(r10 - 4) = {key}\n r2 = r10\n r2 += -4\n r1 = {map} ll\n call 1\n"


def test_value_of_a_map_is_read_and_written_in_place():
    text = (
        LOOKUP.format(key=2, map="counters")
        + "r3 = 5\n lock *(u64 *)(r0 + 0) += r3\n r0 = *(u64 *)(r0 + 0)\n exit"
    )
    machine = interpreter(text)
    assert [machine.run(PACKET).value for _ in range(3)] == [5, 10, 15]
    assert machine.maps[0][(2).to_bytes(4, "little")] == (15).to_bytes(8, "little")


def test_absent_key_is_null():
    assert value(LOOKUP.format(key=3, map="counters") + "exit") == 0
    assert value(LOOKUP.format(key=1, map="flows") + "exit") == 0


@pytest.mark.parametrize("offset", [-16, -1, 1, 16])
def test_access_stays_within_one_value(offset):
    """Of the second of three values: neither the header, nor what lies across two values, nor what is behind the last."""
    text = LOOKUP.format(key=1, map="counters") + f"r0 = *(u64 *)(r0 {offset:+d})\n exit"
    assert "not within one value of the map" in trap(text).detail


def test_update_and_delete():
    text = """
        *(u32 *)(r10 - 4) = 1
        *(u64 *)(r10 - 24) = 11
        *(u64 *)(r10 - 16) = 12
        r1 = flows ll
        r2 = r10
        r2 += -4
        r3 = r10
        r3 += -24
        call map_update
        r6 = r0
        *(u32 *)(r10 - 4) = 2
        r1 = flows ll
        r2 = r10
        r2 += -4
        call map_delete
        r0 += r6
        exit
    """
    machine = interpreter(text)
    assert machine.run(PACKET).value == -2 & U64  # -ENOENT, sign-extended
    assert dict(machine.maps[0]) == {b"\1\0\0\0": (11).to_bytes(8, "little") + (12).to_bytes(8, "little")}


def test_data_section_is_a_map_of_one_value():
    assert value("r1 = .rodata + 4 ll\n r0 = *(u32 *)(r1 + 0)\n exit") == int.from_bytes(b"tant", "little")


def test_helper_reads_and_writes_the_programs_memory():
    def reverse(machine, r1, r2, r3, r4, r5):
        machine.write(r1, machine.read(r1, r2)[::-1])
        return -1

    type_ = replace(FILTER, helpers={9: Helper("reverse", "out size -> num", reverse)})
    text = "*(u32 *)(r10 - 4) = 0x01020304\n r1 = r10\n r1 += -4\n r2 = 4\n call reverse\n r6 = r0\n r0 = *(u32 *)(r10 - 4)\n exit"
    assert value(text, type_) == 0x04030201
    assert value(text.replace("r0 = *(u32 *)(r10 - 4)", "r0 = r6"), type_) == U64
    assert "forbidden write" in trap("r2 = 4\n call reverse\n r0 = 0\n exit", type_).detail
    assert "outside the packet" in trap("r2 = 65\n call reverse\n r0 = 0\n exit", type_).detail


def test_no_bytes_may_be_read_from_or_written_to_anywhere():
    """A helper whose size may be zero takes any pointer with it, null too."""
    clear = Helper(
        "clear", "out? size0 -> num", lambda machine, r1, r2, *_: machine.write(r1, bytes(r2)) or 0
    )
    assert value("r1 = 0\n r2 = 0\n call 9\n exit", replace(FILTER, helpers={9: clear})) == 0
    assert value("r1 = 0\n r2 = 0\n call hash\n exit") == 0xDEADBEEF


def test_helper_that_only_has_a_contract_traps():
    type_ = replace(FILTER, helpers={9: Helper("later", "-> num")})
    assert trap("call 9\n exit", type_).detail == "helper 'later' cannot be run"


def test_clock_is_the_callers():
    assert value("call time_get_ns\n exit", clock=lambda: 1 << 40) == 1 << 40
    assert value("call ktime_get_ns\n exit", XDP, clock=lambda: 3) == 3


# Budgets, traces, arguments


def test_budget_counts_instructions():
    """A wide load is one instruction; the budget is what may be executed, exit included."""
    text = "r0 = 1 ll\n r0 += 1\n exit"
    assert interpreter(text, budget=3).run(PACKET).executed == 3
    with pytest.raises(BudgetExceeded, match="still running after 2 instructions") as raised:
        interpreter(text, budget=2).run(PACKET)
    assert raised.value.used == 2


def test_endless_loop_ends_at_the_budget():
    with pytest.raises(BudgetExceeded):
        interpreter("goto -1", budget=1000).run(PACKET)


def test_trace_sees_every_instruction_before_it_runs():
    seen = []

    def trace(pc, instruction, run):
        seen.append((pc, instruction.op.kind, tuple(run.registers[:3]), run.stack.frames[-1].memory[-8]))
        assert run.load(memory.PACKET, 2) == int.from_bytes(b"xy", "little")

    interpreter("r0 = 7\n *(u64 *)(r10 - 8) = r0\n exit").run(b"xy", trace=trace)
    assert seen == [
        (0, Kind.ALU, (None, memory.PACKET, 2), 0),
        (1, Kind.STORE, (7, memory.PACKET, 2), 0),
        (2, Kind.EXIT, (7, memory.PACKET, 2), 7),
    ]


def test_program_without_a_type_is_refused():
    with pytest.raises(ArgumentError, match="has no type"):
        Interpreter(Program.from_asm("r0 = 0\n exit"))


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(ArgumentError, match="has 1 maps, 0 are given"):
        interpreter("r1 = flows ll\n r0 = 0\n exit", maps=[])


def test_register_that_does_not_exist_is_refused():
    row = op(Kind.ALU, "mov", operand=Operand.REG)
    with pytest.raises(ArgumentError, match="pc 0: there is no register r11"):
        Interpreter(Program("bad", {0: Instruction(row, 0, 11)}), FILTER)


def test_unknown_clock_is_refused():
    with pytest.raises(ArgumentError, match="unknown clock 'sundial'"):
        interpreter("r0 = 0\n exit", replace(FILTER, clock="sundial"))


# Hostile code


@st.composite
def any_code(draw):
    """Instructions of any row with any operands, most of them small enough to hit something."""
    registers = st.integers(0, 10)
    offsets = st.one_of(st.integers(-8, 8), st.integers(-520, 8), st.integers(-(2**15), 2**15 - 1))
    imms = st.one_of(st.integers(-8, 16), st.integers(-(2**31), 2**31 - 1))
    code, pc = {}, 0
    for row in draw(st.lists(st.sampled_from(OPS), max_size=30)):
        imm = draw(imms) if row.imm is None else row.imm
        code[pc] = Instruction(
            row,
            draw(registers) if row.dst is None else row.dst,
            draw(registers) if row.src is None else row.src,
            draw(offsets) if row.offset is None else row.offset,
            imm & U64 if row.kind is Kind.LOAD_IMM64 else imm,
        )
        pc += row.slots
    return code


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(any_code(), st.sampled_from([FILTER, XDP, MEMORY]), st.booleans())
def test_any_code_ends_in_a_result_a_trap_or_the_budget(code, type_, strict):
    """Whatever the code is, the run ends in one of the three ways and the caller's packet is untouched."""
    packet = bytearray(PACKET)
    try:
        outcome = Interpreter(Program("any", code), type_, strict=strict, budget=200).run(packet)
        assert 0 <= outcome.value <= U64
    except (Trap, BudgetExceeded):
        pass
    assert packet == PACKET
