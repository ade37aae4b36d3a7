"""Native code of programs that nobody verified: it computes what the interpreter does, and traps where that does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybpf import ArgumentError, Instruction, MapSpec, Program, Trap, UnsupportedError, helpers, maps
from pybpf.interpreter import Interpreter
from pybpf.isa import OPS, Kind, Op, op
from pybpf.jit import Level
from pybpf.jit.unproved import compile_unproved
from pybpf.program_types import MEMORY, XDP
from tests.instructions import label

MEMORY_BYTES = bytes(range(0x80, 0xA0))
COUNTERS = MapSpec("counters", "array", key_size=4, value_size=8, max_entries=2)


def run(text: str, memory: bytes = MEMORY_BYTES) -> int:
    program = Program.from_asm(text, MEMORY, {"counters": COUNTERS})
    native = compile_unproved(program, MEMORY).bind([maps.create(spec) for spec in program.maps])
    return native.run(bytearray(memory))


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("r0 = *(u32 *)(r1 + 28)\n exit", 0x9F9E9D9C),
        ("r1 += r2\n r0 = *(u8 *)(r1 - 1)\n exit", 0x9F),
        ("r0 = r7\n exit", 0),
        ("r0 = *(u64 *)(r10 - 512)\n exit", 0),
        ("goto out\n r0 = 5\nout:\n r0 = 1\n exit", 1),
        ("r0 = 1\n r0 <<= 65\n r0 /= 1\n exit", 2),
    ],
    ids=["memory", "variable offset", "register", "stack", "unreachable code", "wide shift"],
)
def test_a_program_that_no_verifier_accepts_runs(text, result):
    assert run(text) == result


def test_an_access_that_may_go_to_one_of_two_regions_goes_where_its_address_is():
    text = """
        r3 = r10
        r3 += -8
        *(u64 *)(r3 + 0) = 7
        if r2 < 8 goto read
        r3 = r1
    read:
        r0 = *(u64 *)(r3 + 0)
        exit
    """
    assert [run(text, b"short"), run(text, bytes([1] * 8))] == [7, 0x0101010101010101]


def test_maps_are_reached_through_whatever_points_to_them():
    text = """
        *(u32 *)(r10 - 4) = 1
        r2 = r10
        r2 += -4
        r1 = counters ll
        call map_lookup_elem
        *(u64 *)(r0 + 0) = 9
        r0 = *(u64 *)(r0 + 0)
        exit
    """
    assert run(text) == 9


def test_fields_of_a_context():
    program = Program.from_asm("r2 = *(u32 *)(r1 + 0)\n r0 = *(u8 *)(r2 + 3)\n exit", XDP)
    assert compile_unproved(program, XDP).bind().run(bytearray(b"abcd")) == ord("d")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("r0 = *(u32 *)(r1 + 29)\n exit", 0),
        ("r0 = *(u8 *)(r1 - 1)\n exit", 0),
        ("r3 = 0\n *(u8 *)(r3 + 0) = 1\n exit", 1),
        ("r0 = *(u8 *)(r10 + 0)\n exit", 0),
        ("r3 = -1\n r0 = *(u64 *)(r3 + 0)\n exit", 1),
        ("r1 = 9\n call map_lookup_elem\n exit", 1),
        ("r0 = 1\n goto +7", 9),
        ("r0 = 1", 1),
    ],
    ids=["behind memory", "before memory", "null", "above the stack", "number", "no map", "jump", "end"],
)
def test_leaving_the_regions_or_the_program_traps(text, place):
    with pytest.raises(Trap) as raised:
        run(text)
    assert raised.value.pc == place


def test_what_is_refused_before_it_runs():
    for text, error in (("r10 = 1\n exit", ArgumentError), ("f:\n call f\n exit", UnsupportedError)):
        with pytest.raises(error, match="pc 0"):
            compile_unproved(Program.from_asm(text, MEMORY), MEMORY)
    with pytest.raises(ArgumentError, match="no instructions"):
        compile_unproved(Program("empty", {}), MEMORY)


def test_calls_nested_too_deep_trap():
    functions = "".join(f"f{n}:\n call f{n + 1}\n exit\n" for n in range(9))
    with pytest.raises(Trap, match="calls nest deeper than the stack"):
        run(f"call f0\n exit\n{functions}f9:\n r0 = 1\n exit")


@pytest.mark.slow
def test_calls_nested_far_too_deep_trap_too():
    functions = "".join(f"f{n}:\n call f{n + 1}\n exit\n" for n in range(2000))
    with pytest.raises(Trap, match="calls nest deeper than the stack"):
        run(f"call f0\n exit\n{functions}f2000:\n r0 = 1\n exit")


# Any code at all, as long as it goes forward

FORWARD = [
    row for row in OPS if row.kind not in (Kind.CALL, Kind.CALL_LOCAL, Kind.CALL_REGISTER, Kind.LOAD_IMM64)
]


@st.composite
def instructions(draw: st.DrawFn) -> Instruction:
    """Any instruction that goes on to a later one, with operands that often make an access possible."""
    row: Op = draw(st.sampled_from(FORWARD))
    modifies = (
        row.kind is Kind.ATOMIC and row.code != "load_acquire"
    )  # what memory held may go to src, and not to r10
    fields = {}
    for name, values in (
        ("dst", st.integers(0, 9) if row.kind is not Kind.STORE else st.sampled_from([1, 10, 3])),
        ("src", st.sampled_from([0, 1, 2, 3, 4] if modifies else [0, 1, 2, 3, 4, 10])),
        (
            "offset",
            st.integers(0, 4)
            if row.kind in (Kind.BRANCH, Kind.JUMP)
            else st.sampled_from([-8, 0, 1, 24, 29]),
        ),
        ("imm", st.integers(0, 4) if row.kind is Kind.JUMP else st.integers(-3, 70)),
    ):
        fixed = getattr(row, name)
        fields[name] = draw(values) if fixed is None else fixed
    return Instruction(row, **fields)


def outcome(run: object) -> object:
    try:
        return run()  # type: ignore[operator]
    except Trap as trap:
        return "trap", trap.pc


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(instructions(), min_size=1, max_size=12), st.binary(max_size=32))
def test_any_code_ends_as_in_the_interpreter(code, memory):
    """The same result and the same memory, or a trap at the same instruction."""
    ends = [Instruction(op(Kind.EXIT, "exit"))] * 6  # as far as a jump goes
    program = Program("any", dict(enumerate([*code, *ends])))
    type_ = replace(MEMORY, helpers={})
    reference, written = Interpreter(program, type_, strict=False, budget=100), bytearray(memory)

    def interpreted() -> object:
        result = reference.run(memory)
        return result.value, result.packet

    def native() -> object:
        value = compile_unproved(program, type_, Level.QUICK).bind().run(written)
        return value, bytes(written)

    assert outcome(native) == outcome(interpreted)


# Every instruction

NOT_RUN = {
    ("call", "kfunc"): "kfunc",
    ("load_imm64", "map_fd"): "wide load",
    ("load_imm64", "map_value_fd"): "wide load",
    ("load_imm64", "variable"): "wide load",
    ("load_imm64", "map_index"): "wide load",
    ("load_imm64", "map_value_index"): "wide load",
}
"""Rows that nothing gives a meaning to unless a loader or Python says what they refer to -> the feature that is missing."""


CALLS = (Kind.CALL, Kind.CALL_LOCAL, Kind.CALL_REGISTER, Kind.PACKET)
"""Kinds that leave r1 to r5 undefined."""


def around(row: Op) -> Program:
    """A program that gives a row operands, with different halves and high bits set, and makes of all that it may change one number."""
    before = """
        r0 = 0x9000000080000007 ll
        r2 = 0x8877665544332211 ll
        r3 = 0x9000000080000007 ll
        r4 = 3
        *(u64 *)(r10 - 8) = r2
        r5 = f ll
    """
    after = (
        "r0 += 1\n"
        if row.kind in CALLS
        else "r0 += 1\n r0 ^= r2\n r0 += r3\n r4 = *(u64 *)(r10 - 8)\n r0 ^= r4\n"
    )
    # What the row is replaced by takes as many slots.
    place = "r9 = 0 ll\n" if row.slots == 2 else "goto +0\n"
    program = Program.from_asm(f"{before}{place}{after}exit\nf:\n r0 = 77\n exit", MEMORY)
    (pc,) = [n for n, each in program.code.items() if each.dst == 9 or each.op.kind is Kind.JUMP]
    return replace(
        program, code={**program.code, pc: Instruction(row, **operands(row, program.size - 2 - pc - 1))}
    )


def operands(row: Op, function: int) -> dict[str, int]:
    """The fields of a row: those that are free are r2, r3, memory at r10 - 8, a small number or, for a jump, one slot."""
    memory = row.kind in (Kind.LOAD, Kind.STORE, Kind.ATOMIC)
    loads = row.kind is Kind.LOAD or row.code == "load_acquire"
    free = {
        "dst": 5 if row.kind is Kind.CALL_REGISTER else 10 if memory and not loads else 2,
        "src": 10 if loads else 4 if row.kind is Kind.PACKET else 3,
        "offset": -8 if memory else 1,
        "imm": function if row.kind is Kind.CALL_LOCAL else 1 if row.kind in (Kind.JUMP, Kind.CALL) else 5,
    }
    return {
        name: number if getattr(row, name) is None else getattr(row, name) for name, number in free.items()
    }


@pytest.mark.parametrize("row", OPS, ids=label)
def test_native_code_of_every_instruction(row):
    """It computes what the interpreter does; or the instruction is a feature with a name."""
    program, type_ = around(row), replace(MEMORY, helpers={1: helpers.KTIME})
    if feature := NOT_RUN.get((row.kind.value, row.code)):
        with pytest.raises(UnsupportedError) as raised:
            compile_unproved(program, type_)
        assert raised.value.feature == feature
        return
    expected = Interpreter(program, type_, clock=lambda: 99).run(MEMORY_BYTES)
    memory = bytearray(MEMORY_BYTES)
    value = compile_unproved(program, type_).bind(clock=lambda: 99).run(memory)
    assert (value, bytes(memory)) == (expected.value, expected.packet)
