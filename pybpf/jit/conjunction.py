"""What all packets have in common that a program tells from the rest: bytes that one wide comparison can look at.

Many filters are a row of tests, and a packet that fails one gets the same answer as one that fails another. Compiled as they stand, each test is a branch, and
traffic that fails now this test, now that one, is mispredicted at every other packet. Here the paths of a program are followed, each with the bits of the packet
that its tests ask for. If all paths but some give the same constant, the bits that those all ask for are a `Conjunction`: a packet that lacks one of them gets that constant.

The rest of the program is what it would do if all these bits were as asked for: fewer branches. The answer of a packet is that of the rest, if its bits are as asked for, and else the
constant; so both can be computed, and no branch tells between them. `pybpf.jit.driver` does that where it pays for the traffic that it sees.

Only programs are considered that leave nothing behind, and have no loops.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from pybpf.instruction import Instruction
from pybpf.isa import MAX_REGISTER, Kind, Operand, op
from pybpf.jit import arithmetic
from pybpf.semantics import U64
from pybpf.verifier.facts import Access, Facts, RegionKind

_JUMP: Final = op(Kind.JUMP, "ja")
MOST_PATHS: Final = 64
MOST_STEPS: Final = 600
FEWEST_BYTES: Final = 3
LARGEST_SPAN: Final = 64
"""Bytes from the first to the last that are compared."""


@dataclass(frozen=True, slots=True)
class Conjunction:
    """Packets whose bytes from `first` on, under `mask`, are not `value` are answered with `otherwise`. `rest` is the code that answers the others, by pc: with jumps
    for the branches that these bytes decide.
    """

    first: int
    mask: bytes
    value: bytes
    otherwise: int
    rest: Mapping[int, Instruction]

    @property
    def end(self) -> int:
        """How long a packet must be to be compared."""
        return self.first + len(self.mask)


@dataclass(frozen=True, slots=True)
class _Field:
    """A number: bits of the packet. Those of the `size` bytes at `offset`, read as a number in one byte order or the other, moved down by `shift` (up, if that is
    negative), and masked.
    """

    offset: int
    size: int
    mask: int
    shift: int = 0
    swapped: bool = False

    def bits(self, mask: int, value: int) -> tuple[int, int] | None:
        """Which bits of the packet, a number that begins with its first byte, must be what for the masked number to have a value; None where it
        cannot.
        """
        if value & ~(self.mask & mask):
            return None
        return self._place(self.mask & mask), self._place(value)

    def _place(self, number: int) -> int:
        number = number << self.shift if self.shift >= 0 else number >> -self.shift
        data = number.to_bytes(16, "little")[: self.size]
        return int.from_bytes(data[::-1] if self.swapped else data, "little") << 8 * self.offset


_Value = int | _Field | None
"""A number that is known, bits of the packet, or anything."""


@dataclass(frozen=True, slots=True)
class _State:
    """A path so far: where it is, the registers, and the bits of the packet that it asks for."""

    pc: int
    registers: tuple[_Value, ...]
    mask: int = 0
    value: int = 0

    def asks(self, mask: int, value: int) -> _State | None:
        """The path with more bits asked for; None where they contradict."""
        if (self.value ^ value) & self.mask & mask:
            return None
        return replace(self, mask=self.mask | mask, value=self.value | value)

    def has(self, mask: int, value: int) -> bool:
        """Whether it asks for these bits already."""
        return not mask & ~self.mask and not (self.value ^ value) & mask


def find(code: Mapping[int, Instruction], facts: Facts) -> Conjunction | None:
    """What a little-endian program without loops has of that kind, None if nothing worth a comparison."""
    if not all(_is_pure(code[pc], facts.accesses.get(pc, ())) for pc in facts.reached if pc in code):
        return None
    ends = _ends(code, facts)
    constants = [end.registers[0] for end in ends if isinstance(end.registers[0], int)]
    if not constants:
        return None
    otherwise = max(set(constants), key=constants.count)
    others = [end for end in ends if end.registers[0] != otherwise]
    if not others:
        return None
    mask, value = others[0].mask, others[0].value
    for end in others[1:]:
        mask &= end.mask & ~(value ^ end.value)
    return _conjunction(code, facts, mask, value & mask, otherwise)


def _conjunction(
    code: Mapping[int, Instruction], facts: Facts, mask: int, value: int, otherwise: int
) -> Conjunction | None:
    masks = mask.to_bytes((mask.bit_length() + 7) // 8, "little")
    tested = [offset for offset, byte in enumerate(masks) if byte]
    if len(tested) < FEWEST_BYTES or tested[-1] - tested[0] >= LARGEST_SPAN:
        return None
    first = tested[0]
    rest = _rest(code, facts, mask, value)
    return Conjunction(first, masks[first:], value.to_bytes(len(masks), "little")[first:], otherwise, rest)


def _rest(code: Mapping[int, Instruction], facts: Facts, mask: int, value: int) -> dict[int, Instruction]:
    """The code that packets come by that have these bits."""
    ways: dict[int, set[int]] = {}
    _ends(code, facts, mask, value, ways)
    rest = {}
    for pc, after in ways.items():
        instruction = code[pc]
        if instruction.op.kind is Kind.BRANCH and len(after) == 1:
            instruction = replace(instruction, op=_JUMP, dst=0, src=0, imm=0, offset=min(after) - pc - 1)
        rest[pc] = instruction
    return rest


def _is_pure(instruction: Instruction, accesses: Iterable[Access]) -> bool:
    match instruction.op.kind:
        case Kind.STORE:
            return all(access.region is RegionKind.STACK for access in accesses)
        case Kind.ALU | Kind.END | Kind.LOAD | Kind.LOAD_IMM64 | Kind.BRANCH | Kind.JUMP | Kind.EXIT:
            return True
        case _:
            return False


def _ends(
    code: Mapping[int, Instruction],
    facts: Facts,
    mask: int = 0,
    value: int = 0,
    ways: dict[int, set[int]] | None = None,
) -> list[_State]:
    """The ends of all paths that ask for nothing else of some bits; nothing where they are too many, or too long to tell. Each instruction that is come by is put into
    `ways`, with where it leads to.
    """
    ends: list[_State] = []
    ways = {} if ways is None else ways
    pending, steps = [_State(0, (None,) * (MAX_REGISTER + 1), mask, value)], 0
    while pending:
        state = pending.pop()
        while True:
            steps += 1
            instruction = code.get(state.pc)
            if steps > MOST_STEPS or len(ends) + len(pending) > MOST_PATHS:
                return []
            if instruction is None or state.pc not in facts.reached:
                break  # where no run ever comes
            after = ways.setdefault(state.pc, set())
            if instruction.op.kind is Kind.EXIT:
                ends.append(state)
                break
            if instruction.op.kind is Kind.BRANCH:
                branches = _branches(state, instruction)
                after.update(branch.pc for branch in branches)
                pending.extend(branches)
                break
            state = _step(state, instruction, facts)
    return ends


def _step(state: _State, instruction: Instruction, facts: Facts) -> _State:
    row, pc = instruction.op, state.pc
    if row.kind is Kind.JUMP:
        return replace(state, pc=instruction.target(pc))
    after = replace(state, pc=pc + instruction.slots)
    match row.kind:
        case Kind.LOAD:
            result = _load(instruction, facts.accesses.get(pc, ()))
        case Kind.ALU:
            result = _alu(state, instruction)
        case Kind.END:
            result = _end(state.registers[instruction.dst], row.code, row.width)
        case Kind.LOAD_IMM64:
            result = instruction.imm if row.code == "imm" else None
        case _:
            return after
    registers = list(state.registers)
    registers[instruction.dst] = result
    return replace(after, registers=tuple(registers))


def _load(instruction: Instruction, accesses: tuple[Access, ...]) -> _Value:
    if instruction.op.code != "mem" or len(accesses) != 1:
        return None
    (access,) = accesses
    if access.region is not RegionKind.PACKET or access.low != access.high or access.low < 0:
        return None
    size = instruction.op.size
    return _Field(access.low, size, (1 << 8 * size) - 1)


def _operand(state: _State, instruction: Instruction) -> _Value:
    if instruction.op.operand is Operand.REG:
        return state.registers[instruction.src]
    return arithmetic.immediate(instruction.imm, instruction.op.width)


def _alu(state: _State, instruction: Instruction) -> _Value:
    """What is known of a result: copies, masks and shifts of bits of the packet."""
    row, old, operand = instruction.op, state.registers[instruction.dst], _operand(state, instruction)
    low = U64 if row.width == 64 else 0xFFFF_FFFF
    if row.code == "mov":
        return _masked(operand, low)
    if not isinstance(old, _Field) or not isinstance(operand, int):
        return None
    old = replace(old, mask=old.mask & low)
    match row.code:
        case "and":
            return _masked(old, operand & low)
        case "rsh" if operand < row.width:
            return replace(old, shift=old.shift + operand, mask=old.mask >> operand)
        case "lsh" if operand < row.width:
            return replace(old, shift=old.shift - operand, mask=old.mask << operand & low)
        case _:
            return None


def _masked(value: _Value, mask: int) -> _Value:
    if isinstance(value, _Field):
        return replace(value, mask=value.mask & mask)
    return None if value is None else value & mask


def _end(value: _Value, code: str, width: int) -> _Value:
    """Bytes in the other order, where they are all of a field."""
    if not isinstance(value, _Field) or value.shift or value.size * 8 != width:
        return None
    if code in ("be", "bswap") and value.mask == (1 << width) - 1:
        return replace(value, swapped=not value.swapped)
    return replace(value, mask=value.mask & (1 << width) - 1) if code == "le" else None


def _branches(state: _State, instruction: Instruction) -> list[_State]:
    """Both ways on, as far as they are possible."""
    row, left, right = instruction.op, state.registers[instruction.dst], _operand(state, instruction)
    taken, after = instruction.target(state.pc), state.pc + 1
    low = U64 if row.width == 64 else 0xFFFF_FFFF
    ways: list[tuple[int, tuple[int, int] | None]] = [(taken, (0, 0)), (after, (0, 0))]
    if isinstance(left, _Field) and isinstance(right, int):
        left, right = replace(left, mask=left.mask & low), right & low
        match row.code:
            case "jeq":
                ways = [(taken, left.bits(U64, right)), (after, (0, 0))]
            case "jne":
                ways = [(taken, (0, 0)), (after, left.bits(U64, right))]
            case "jset":
                ways = [(taken, (0, 0)), (after, left.bits(right, 0))]
                if (left.mask & right).bit_count() == 1:
                    ways[0] = taken, left.bits(right, left.mask & right)
    for number, (_, bits) in enumerate(ways):
        if bits is not None and bits[0] and state.has(*bits):
            return [replace(state, pc=ways[number][0])]
    found = []
    for pc, bits in ways:
        way = None if bits is None else state.asks(*bits)
        if way is not None:
            found.append(replace(way, pc=pc))
    return found
