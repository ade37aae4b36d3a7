"""Control flow, functions, wide loads, packet loads: what becomes of a program's shape in native code."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pybpf import (
    Facts,
    Instruction,
    MapSpec,
    Program,
    Reference,
    RefKind,
    Trap,
    UnsupportedError,
    VerifiedProgram,
    helpers,
    jit,
    maps,
    memory,
)
from pybpf.interpreter import Interpreter
from pybpf.isa import OPS, Kind, Operand, op
from pybpf.jit import Level
from pybpf.jit.lower import lower
from pybpf.program_types import FILTER, MEMORY, XDP, ProgramType
from pybpf.verifier.facts import Access, RegionKind
from tests.jit.traced import everywhere, observed

FLOWS = MapSpec("flows", "hash", key_size=4, value_size=16, max_entries=4)
COUNTERS = MapSpec("counters", "array", key_size=4, value_size=8, max_entries=3)
RODATA = MapSpec(
    ".rodata", "array", key_size=4, value_size=16, max_entries=1, initial=b"some constants..", read_only=True
)
MAPS = {spec.name: spec for spec in (FLOWS, COUNTERS, RODATA)}

PACKETS = (b"", b"\1", bytes(range(1, 9)), bytes(range(200, 256)), b"\xff" * 64)


def agree(
    program: Program | str, packets: tuple[bytes, ...] = PACKETS, type: ProgramType = MEMORY
) -> list[int]:
    """Run a program in both engines, at each level: the results, packets and maps are the same. The results."""
    if isinstance(program, str):
        program = Program.from_asm(program, type, maps=MAPS)
    reference_maps = [maps.create(spec, seed=1) for spec in program.maps]
    interpreter = Interpreter(program, type, reference_maps, strict=False)
    expected = [interpreter.run(packet) for packet in packets]
    for level in Level:
        native_maps = [maps.create(spec, seed=1) for spec in program.maps]
        native = jit.compile(observed(program, packets, type), level).bind(native_maps)
        for packet, outcome in zip(packets, expected, strict=True):
            buffer = bytearray(packet)
            assert native.run(buffer) == outcome.value
            assert bytes(buffer) == outcome.packet
        assert [dict(map) for map in native_maps] == [dict(map) for map in reference_maps]
    return [outcome.value for outcome in expected]


# Control flow


def test_loop_that_begins_at_the_first_instruction():
    assert agree("top:\n r2 += -1\n r0 += 3\n if r2 s> 0 goto top\n exit")[2] == 24


def test_branch_whose_two_ways_are_one():
    assert agree("r0 = r2\n if r2 == 1 goto +0\n exit") == [len(packet) for packet in PACKETS]


def test_branch_that_is_known():
    assert agree("r3 = 5\n r0 = 1\n if r3 > 4 goto out\n r0 = 2\nout:\n exit") == [1] * len(PACKETS)


def test_loops_in_loops():
    text = """
        r0 = 0
        r3 = 0
    outer:
        r4 = 0
    inner:
        r0 += r3
        r4 += 1
        if r4 < 3 goto inner
        r3 += 1
        if r3 < r2 goto outer
        exit
    """
    assert agree(text)[2] == 3 * sum(range(8))
    lines = lower(observed(Program.from_asm(text, MEMORY), PACKETS, MEMORY)).splitlines()
    assert [line.split()[-1] for line in lines if "!llvm.loop" in line] == ["!3"]  # one: the outer


def test_loop_with_two_ways_in():
    """The second way in skips what the first one does: no block of the loop dominates the others."""
    text = """
        r0 = 0
        r3 = 7
        if r2 > 4 goto second
    first:
        r3 += 1
        r0 += r3
    second:
        r0 += 100
        r2 += -1
        if r2 s> 0 goto first
        exit
    """
    assert agree(text)[:3] == [108, 108, sum(range(8, 15)) + 800]


def test_register_that_changes_in_a_loop_after_it_was_read():
    text = "r0 = 0\n r3 = 1\ntop:\n r0 += r3\n r3 = r2\n r2 += -1\n if r2 s> 0 goto top\n exit"
    assert agree(text)[2] == 1 + sum(range(2, 9))


def test_long_jump():
    assert agree("gotol far\nback:\n exit\nfar:\n r0 = 9\n goto back") == [9] * len(PACKETS)


# Functions


def test_functions_have_frames_of_their_own():
    text = """
        *(u64 *)(r10 - 8) = 1
        r1 = r10
        r1 += -8
        r6 = 40
        call change
        r0 += r6
        r1 = *(u64 *)(r10 - 8)
        r0 += r1
        exit
    change:
        *(u64 *)(r10 - 8) = 77
        r6 = *(u64 *)(r1 + 0)
        r6 += 5
        *(u64 *)(r1 + 0) = r6
        r0 = *(u64 *)(r10 - 8)
        exit
    """
    assert agree(text) == [77 + 40 + 6] * len(PACKETS)


def test_frame_is_zero_at_each_call():
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
    assert agree(text) == [0] * len(PACKETS)


def nested(depth: int) -> str:
    functions = "".join(f"f{i}:\n call f{i + 1}\n r0 += 1\n exit\n" for i in range(1, depth - 1))
    return f"call f1\n exit\n{functions}f{depth - 1}:\n *(u64 *)(r10 - 512) = 1\n r0 = *(u64 *)(r10 - 512)\n exit\n"


def test_calls_nest_as_deep_as_there_is_stack():
    assert agree(nested(memory.MAX_FRAMES)) == [memory.MAX_FRAMES - 1] * len(PACKETS)
    program = Program.from_asm(nested(memory.MAX_FRAMES + 1), FILTER)
    native = jit.compile(VerifiedProgram(program, FILTER, Facts(reached=frozenset(program.code)))).bind()
    with pytest.raises(Trap, match="deeper than the stack"):
        native.run(b"")


def test_wide_load_of_a_function():
    assert agree("r0 = f ll\n exit\nf:\n r0 = 1\n exit") == [memory.function_address(3)] * len(PACKETS)


# Constants, maps, data


def test_wide_loads():
    assert agree("r0 = 0x123456789abcdef0 ll\n exit")[0] == 0x1234_5678_9ABC_DEF0
    assert agree("r0 = flows ll\n exit")[0] == memory.map_address(0)
    assert agree("r1 = .rodata + 5 ll\n r0 = *(u32 *)(r1 + 0)\n exit")[0] == int.from_bytes(b"cons", "little")


def test_map_that_is_one_of_two():
    text = """
        *(u32 *)(r10 - 4) = 1
        *(u64 *)(r10 - 16) = 5
        *(u64 *)(r10 - 24) = 6
        r1 = flows ll
        if r2 > 4 goto chosen
        r1 = counters ll
    chosen:
        r6 = r1
        r2 = r10
        r2 += -4
        r3 = r10
        r3 += -24
        r4 = 0
        call map_update_elem
        r1 = r6
        r2 = r10
        r2 += -4
        call map_lookup_elem
        if r0 == 0 goto out
        r0 = *(u64 *)(r0 + 0)
    out:
        exit
    """
    assert agree(text) == [6] * len(PACKETS)


@pytest.mark.parametrize("number", [1, 5])
def test_helper_by_name(number):
    name = helpers.LINUX[number].name
    program = Program.from_asm(
        "r1 = counters ll\n r2 = r10\n r2 += -4\n *(u32 *)(r2 + 0) = 7\n call 99\n r0 = 3\n exit",
        MEMORY,
        maps=MAPS,
    )
    (pc,) = (pc for pc, instruction in program.code.items() if instruction.op.kind is Kind.CALL)
    named = replace(program, references={**program.references, pc: Reference(RefKind.HELPER, f"bpf_{name}")})
    numbered = replace(program, code={**program.code, pc: replace(program.code[pc], imm=number)})
    facts = replace(observed(numbered, type=MEMORY), program=named)
    assert jit.compile(facts).bind([maps.create(COUNTERS)]).run(bytearray()) == 3


# Packet loads


@pytest.mark.parametrize("row", [row for row in OPS if row.kind is Kind.PACKET], ids=lambda row: row.syntax)
@pytest.mark.parametrize("imm", [0, 1, 7, 56, 64, -1, -(1 << 31), (1 << 31) - 1])
def test_packet_load(row, imm):
    """In range network order; out of range the program ends with 0, before anything else happens."""
    code = [
        Instruction(op(Kind.ALU, "mov", operand=Operand.REG), 3, 2),
        Instruction(op(Kind.ALU, "and", operand=Operand.IMM), 3, imm=0x8000_0003),
        Instruction(row, src=3 if row.operand is Operand.REG else 0, imm=imm),
        Instruction(op(Kind.ALU, "add", operand=Operand.IMM), 0, imm=1),
        Instruction(op(Kind.EXIT, "exit")),
    ]
    agree(Program("loads", dict(enumerate(code))))


def test_packet_load_out_of_range_ends_the_program_from_a_function():
    text = "call f\n r0 += 1000\n exit\nf:\n r0 = *(u8 *)skb[4]\n exit"
    assert agree(text) == [0, 0, 1005, 1204, 1255]


# Calls through registers

THROUGH_REGISTER = """
    r6 = r2
    r3 = first ll
    if r6 < 9 goto chosen
    r3 = second ll
chosen:
    callx r3
    r0 += r6
    exit
first:
    r0 = 1000
    exit
second:
    r0 = 2000
    exit
"""


def test_call_through_a_register_that_holds_one_of_several_functions():
    assert agree(THROUGH_REGISTER) == [1000, 1001, 1008, 2056, 2064]


def test_call_through_a_register_that_holds_a_number_of_a_helper():
    text = "*(u32 *)(r10 - 4) = 7\n r1 = r10\n r1 += -4\n r2 = 4\n r6 = 6\n callx r6\n exit"
    type_ = replace(MEMORY, helpers={6: helpers.UBPF_HASH})
    program = Program.from_asm(text, type_)
    stack = (Access(RegionKind.STACK, -4, -4, 4),)
    facts = {"arguments": {5: {1: stack}}, "helpers": frozenset({6}), "callees": {5: (6,)}}
    verified = everywhere(program, type_, {0: stack}, **facts)
    assert jit.compile(verified).bind().run(bytearray()) == Interpreter(program, type_).run(b"").value


@pytest.mark.parametrize("level", Level)
def test_call_through_a_register_that_holds_no_function_traps(level):
    program = Program.from_asm("r3 = f ll\n r3 += 8\n callx r3\n exit\nf:\n r0 = 1\n exit", MEMORY)
    with pytest.raises(Trap, match=r"pc 3: call through a register that holds 0x.*, which is no function"):
        jit.compile(everywhere(program, MEMORY, {}), level).bind().run(bytearray())


# What there is no native code for


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        ("f:\n call f\n exit", "recursion"),
        ("call 99\n exit", "helper 99"),
        ("call kfunc(7)\n exit", "kfunc"),
        ("r1 = map_by_fd(3) ll\n r0 = 0\n exit", "wide load"),
    ],
)
def test_unsupported(text, feature):
    program = Program.from_asm(text, FILTER, name="it")
    with pytest.raises(UnsupportedError, match=r"it: pc .*: not in native code") as raised:
        lower(VerifiedProgram(program, FILTER, Facts(reached=frozenset(program.code))))
    assert raised.value.feature == feature


def test_helper_that_cannot_be_run_is_unsupported():
    type_ = replace(XDP, helpers={9: helpers.Helper("mystery", "any -> num")})
    program = Program.from_asm("call 9\n exit", type_)
    with pytest.raises(UnsupportedError, match="'mystery'"):
        lower(VerifiedProgram(program, type_, Facts(reached=frozenset(program.code))))


def test_code_that_was_not_reached_may_hold_anything():
    program = Program.from_asm("r0 = 1\n exit\n call 99\n exit", FILTER)
    native = jit.compile(VerifiedProgram(program, FILTER, Facts(reached=frozenset({0, 1})))).bind()
    assert native.run(b"") == 1


def test_no_address_of_the_host_and_no_register_in_memory():
    """Every pointer is a base plus an offset: no number ever becomes a pointer or comes from one."""
    text = lower(
        observed(Program.from_asm("r2 = r10\n *(u64 *)(r2 - 8) = r1\n r0 = *(u64 *)(r10 - 8)\n exit", FILTER))
    )
    assert "inttoptr" not in text
    assert "ptrtoint" not in text
    assert text.count("alloca") == 1
