"""Instructions in bytes: every row both ways and in both byte orders, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybpf import (
    ArgumentError,
    DecodeError,
    Instruction,
    Trap,
    UnsupportedError,
    assemble,
    decode,
    disassemble,
    encode,
    verify,
)
from pybpf.instruction import ByteOrder
from pybpf.interpreter import Interpreter
from pybpf.isa import ANY, BY_OPCODE, KERNEL_OPS, OPS, Kind, Op, Operand, op
from pybpf.program_types import MEMORY
from pybpf.syntax import Syntax
from tests.instructions import any_instruction, instructions, label

ROWS = pytest.mark.parametrize("row", OPS, ids=label)
BYTEORDERS = ("little", "big")


@ROWS
@settings(max_examples=20)
@given(data=st.data())
def test_decode_is_the_inverse_of_encode(row: Op, data: st.DataObject):
    """Any operands, in both byte orders."""
    instruction = data.draw(instructions(row))
    for byteorder in BYTEORDERS:
        code = encode([instruction], byteorder)
        assert len(code) == 8 * row.slots
        assert decode(code, byteorder) == {0: instruction}


@given(st.lists(any_instruction(), max_size=8))
def test_programs_are_keyed_by_slot(program: list[Instruction]):
    """A wide load takes two slots; encode takes a program in either form."""
    decoded = decode(encode(program))
    assert list(decoded.values()) == program
    assert list(decoded) == [sum(each.slots for each in program[:n]) for n in range(len(program))]
    assert encode(decoded) == encode(program)


@given(st.binary(max_size=64))
def test_any_bytes_are_a_program_or_a_decode_error(code: bytes):
    """And a program that was decoded is encoded to the same bytes."""
    try:
        program = decode(code)
    except DecodeError:
        return
    assert encode(program) == code


def test_fields_stand_where_the_rfc_puts_them():
    store = Instruction(op(Kind.STORE, "mem", size=8, operand=Operand.REG), dst=10, src=1, offset=-8)
    assert encode([store]) == bytes.fromhex("7b 1a f8ff 00000000")
    assert encode([store], "big") == bytes.fromhex("7b a1 fff8 00000000")
    wide = Instruction(op(Kind.LOAD_IMM64, "imm"), dst=2, imm=0x1122_3344_5566_7788)
    assert encode([wide]) == bytes.fromhex("1802 0000 88776655 0000 0000 44332211")
    assert encode([wide], "big") == bytes.fromhex("1820 0000 55667788 0000 0000 11223344")


def mutations() -> list[object]:
    """Each field that a row fixes, with a value that no row of the opcode allows there."""
    found: list[object] = []
    for row in OPS:
        for name, candidates in (
            ("offset", (77, -1)),
            ("src", (9, 15)),
            ("dst", (9, 15)),
            ("imm", (0x777, -1)),
        ):
            if getattr(row, name) is ANY or any(
                getattr(other, name) is ANY for other in BY_OPCODE[row.opcode]
            ):
                continue
            found += [
                pytest.param(row, name, value, id=f"{label(row)}-{name}-{value}") for value in candidates
            ]
    return found


@pytest.mark.parametrize(("row", "name", "value"), mutations())
def test_a_reserved_field_that_is_not_zero_is_refused(row: Op, name: str, value: int):
    """The error names the opcode, the field and its slot; the instruction before it is not to blame."""
    fields = {each: getattr(row, each) or 0 for each in ("dst", "src", "offset", "imm")}
    wrong = Instruction(row, **{**fields, name: value})
    before = Instruction(op(Kind.LOAD_IMM64, "imm"))
    for byteorder in BYTEORDERS:
        with pytest.raises(
            DecodeError, match=rf"pc 2: opcode 0x{row.opcode:02x}: .*{name}.* {value}"
        ) as raised:
            decode(encode([before, wrong], byteorder), byteorder)
        assert raised.value.pc == 2


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("3700080000000000", "field offset is 8, must be 0, 1"),
        ("95000000", "program is 4 bytes long, not a multiple of 8"),
        ("9500000000000000 95", "program is 9 bytes long, not a multiple of 8"),
        ("0000000000000000", "unknown opcode 0x00"),
        ("ff00000000000000", "unknown opcode 0xff"),
        ("b70b000000000000", "invalid destination register r11"),
        ("bfb0000000000000", "invalid source register r11"),
        ("1800000000000000", "the program ends after its first half"),
        ("1800000000000000 9500000000000000", "its second half must be zero but for the immediate"),
        ("1800000000000000 0001000000000000", "its second half must be zero but for the immediate"),
        ("1800000000000000 0000010000000000", "its second half must be zero but for the immediate"),
        ("1811000000000000 0000000001000000", "field next_imm is 1, must be 0"),
        ("1871000000000000 0000000000000000", "field src is 7, must be 0, 1, 2, 3, ..."),
        ("d700000011000000", "field imm is 17, must be 16, 32, 64"),
    ],
)
def test_what_is_no_program_is_refused_with_its_place_and_reason(code: str, message: str):
    with pytest.raises(DecodeError, match=message) as raised:
        decode(bytes.fromhex(code))
    assert str(raised.value) == f"pc {raised.value.pc}: {raised.value.detail}"


@pytest.mark.parametrize(
    "fields", [{"imm": 1 << 31}, {"imm": -(1 << 31) - 1}, {"offset": 1 << 15}, {"dst": 16}, {"src": -1}]
)
def test_operands_that_do_not_fit_their_field_are_not_encoded(fields: dict[str, int]):
    with pytest.raises(ArgumentError, match="pc 0: operand out of range"):
        encode([Instruction(op(Kind.ALU, "add", operand=Operand.IMM), **fields)])


@pytest.mark.parametrize(
    ("kind", "code", "operand", "fields", "target"),
    [
        (Kind.JUMP, "ja", Operand.NONE, {"offset": -3}, 8),
        (Kind.JUMP, "gotol", Operand.NONE, {"imm": 100_000}, 100_011),
        (Kind.BRANCH, "jeq", Operand.IMM, {"offset": 4, "imm": 9}, 15),
        (Kind.BRANCH, "jslt", Operand.REG, {"offset": -1}, 10),
        (Kind.CALL_LOCAL, "local", Operand.NONE, {"imm": 5}, 16),
    ],
)
def test_targets_count_from_the_next_instruction(
    kind: Kind, code: str, operand: Operand, fields: dict[str, int], target: int
):
    assert Instruction(op(kind, code, operand=operand), **fields).target(10) == target


@pytest.mark.parametrize("op", KERNEL_OPS, ids=label)
@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_what_only_a_kernel_runs_is_read_and_written(op: Op, byteorder: ByteOrder):
    """Bytes, both syntaxes, and back; the verifier says that it is unsupported, the interpreter stops there."""
    fields = {name: getattr(op, name) for name in ("dst", "src", "offset", "imm")}
    instruction = Instruction(op, **{name: 1 if value is ANY else value for name, value in fields.items()})
    end = decode(bytes.fromhex("b700000000000000 9500000000000000"))
    code = encode([instruction, *end.values()], byteorder)
    assert list(decode(code, byteorder).values()) == [instruction, *end.values()]
    syntaxes: tuple[Syntax, ...] = ("pseudo-c", "mnemonic")
    for syntax in syntaxes:
        text = disassemble(decode(code, byteorder), syntax=syntax)
        program = assemble(text, type="memory", syntax=syntax)
        assert list(program.code.values()) == [instruction, *end.values()]
    with pytest.raises(
        UnsupportedError, match=f"pc 0: {op.code} means nothing outside of Linux's kernel"
    ) as caught:
        verify(program)
    assert caught.value.feature == op.code
    with pytest.raises(Trap, match=op.code):
        Interpreter(program, MEMORY).run(bytes(8))


def test_only_jumps_have_a_target():
    for row in OPS:
        if row.kind not in (Kind.JUMP, Kind.BRANCH, Kind.CALL_LOCAL):
            with pytest.raises(ArgumentError, match="has no target"):
                Instruction(row).target(0)
