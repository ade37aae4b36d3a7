"""One instruction, and how it stands in bytes (RFC 9669, section 3)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from pybpf.errors import ArgumentError, DecodeError
from pybpf.isa import ANY, BY_OPCODE, KERNEL_BY_OPCODE, MAX_REGISTER, WIDE, Kind, Op

ByteOrder = Literal["little", "big"]

SLOT: Final = 8
"""Bytes of a slot, the unit that `pc` counts."""

_FORMAT: Final = {"little": struct.Struct("<BBhi"), "big": struct.Struct(">BBhi")}


@dataclass(frozen=True, slots=True)
class Instruction:
    """A row of the table with its operands.

    `offset` is signed 16 bits. `imm` is signed 32 bits, except in a wide load, where it is both immediates as one unsigned
    64-bit number: the first is the lower half.
    """

    op: Op
    dst: int = 0
    src: int = 0
    offset: int = 0
    imm: int = 0

    @property
    def slots(self) -> int:
        """1, or 2 for a wide load."""
        return self.op.slots

    def target(self, pc: int) -> int:
        """The slot that a jump, branch or local call at `pc` goes to."""
        if self.op.kind is Kind.BRANCH or self.op.code in ("ja", "may_goto"):
            return pc + 1 + self.offset
        if self.op.code in ("gotol", "local"):
            return pc + 1 + self.imm
        raise ArgumentError(f"{self.op.syntax!r} has no target")


def decode(code: bytes, byteorder: ByteOrder = "little") -> dict[int, Instruction]:
    """Decode a program into instructions keyed by slot.

    Every field that an instruction does not use must hold the value that the table gives, as RFC 9669 asks. Raises
    `DecodeError` with the pc of the first slot that is wrong.
    """
    if len(code) % SLOT:
        whole = len(code) // SLOT
        raise DecodeError(f"program is {len(code)} bytes long, not a multiple of {SLOT}", whole)
    decoded: dict[int, Instruction] = {}
    pc, end = 0, len(code) // SLOT
    while pc < end:
        decoded[pc] = instruction = _decode_one(code, pc, byteorder)
        pc += instruction.slots
    return decoded


def _decode_one(code: bytes, pc: int, byteorder: ByteOrder) -> Instruction:
    opcode, registers, offset, imm = _FORMAT[byteorder].unpack_from(code, pc * SLOT)
    dst, src = (registers & 15, registers >> 4) if byteorder == "little" else (registers >> 4, registers & 15)
    rows = BY_OPCODE.get(opcode, ())
    for op in rows + KERNEL_BY_OPCODE.get(opcode, ()):
        if (
            (op.imm is ANY or op.imm == imm)
            and (op.offset is ANY or op.offset == offset)
            and (op.src is ANY or op.src == src)
            and (op.dst is ANY or op.dst == dst)
        ):
            break
    else:
        raise DecodeError(_reserved_field(opcode, dst, src, offset, imm), pc)
    for name, register, free in (("source", src, op.src is ANY), ("destination", dst, op.dst is ANY)):
        if free and register > MAX_REGISTER:
            raise DecodeError(f"invalid {name} register r{register}", pc)
    if opcode == WIDE:
        imm = (imm & 0xFFFF_FFFF) | _second_immediate(code, pc, op, byteorder) << 32
    return Instruction(op, dst, src, offset, imm)


def _second_immediate(code: bytes, pc: int, op: Op, byteorder: ByteOrder) -> int:
    if len(code) < (pc + 2) * SLOT:
        raise DecodeError("incomplete wide load: the program ends after its first half", pc)
    opcode, registers, offset, imm = _FORMAT[byteorder].unpack_from(code, (pc + 1) * SLOT)
    if opcode or registers or offset:
        raise DecodeError("incomplete wide load: its second half must be zero but for the immediate", pc)
    if op.next_imm is not ANY and imm != op.next_imm:
        raise DecodeError(f"opcode 0x{WIDE:02x}: field next_imm is {imm}, must be {op.next_imm}", pc)
    return int(imm & 0xFFFF_FFFF)


def _reserved_field(opcode: int, dst: int, src: int, offset: int, imm: int) -> str:
    """Name the field to blame. The rows of an opcode differ in one field, so some field has a value of no row."""
    rows = BY_OPCODE.get(opcode) or KERNEL_BY_OPCODE.get(opcode)
    if rows is None:
        return f"unknown opcode 0x{opcode:02x}"
    fields = {"offset": offset, "src": src, "dst": dst, "imm": imm}
    name = next(
        name for name, value in fields.items() if all(getattr(op, name) not in (ANY, value) for op in rows)
    )
    allowed = sorted({getattr(op, name) for op in rows})
    expected = ", ".join(map(str, allowed[:4])) + (", ..." if len(allowed) > 4 else "")
    return f"opcode 0x{opcode:02x}: field {name} is {fields[name]}, must be {expected}"


def encode(code: Mapping[int, Instruction] | Iterable[Instruction], byteorder: ByteOrder = "little") -> bytes:
    """The bytes of a program: the inverse of `decode`. Raises `ArgumentError` for an operand out of its field's range."""
    instructions = code.values() if isinstance(code, Mapping) else code
    out = bytearray()
    for instruction in instructions:
        out += _encode_one(instruction, len(out) // SLOT, byteorder)
    return bytes(out)


def _encode_one(instruction: Instruction, pc: int, byteorder: ByteOrder) -> bytes:
    op, imm, high = instruction.op, instruction.imm, 0
    dst, src = instruction.dst, instruction.src
    if op.opcode == WIDE:
        imm, high = _signed32(imm), _signed32(imm >> 32)
    if not (0 <= dst < 16 and 0 <= src < 16):
        raise ArgumentError(f"pc {pc}: operand out of range: registers r{dst} and r{src} in fields of 4 bits")
    registers = dst | src << 4 if byteorder == "little" else dst << 4 | src
    pack = _FORMAT[byteorder].pack
    try:
        first = pack(op.opcode, registers, instruction.offset, imm)
    except struct.error as error:
        raise ArgumentError(f"pc {pc}: operand out of range: {error}") from None
    return first + (pack(0, 0, 0, high) if op.opcode == WIDE else b"")


def _signed32(value: int) -> int:
    return (value & 0xFFFF_FFFF ^ 0x8000_0000) - 0x8000_0000
