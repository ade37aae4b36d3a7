"""Statements on the stack: spills and fills, parts of slots, variable offsets, bytes that were never written."""

from __future__ import annotations

from typing import Final

from fuzz.choices import Abandon
from fuzz.code import R10, Register, Source
from fuzz.model import STACK, Buffer, Frame, Num, bits, is_pointer
from fuzz.numbers import number
from fuzz.writer import CONSTANTS, Writer, statement

SIZES: Final = (8, 4, 2, 1)
ZONE: Final = 64
"""Most accesses stay in so many bytes below r10, so that they meet."""


def _slot(w: Writer, size: int = 8) -> int:
    """An offset of `size` bytes, naturally aligned."""
    room = ZONE if not w.c.chance(3) else STACK
    return -size * w.c.integer(1, room // size)


@statement(6)
def spill(w: Writer) -> None:
    """*(u64 *)(r10 - 8) = r"""
    held = [r for r, kind in enumerate(w.state.registers) if kind is not None]
    pointers = [r for r in held if is_pointer(w.kind(r))]
    register = w.c.among(pointers if pointers and w.c.chance(50) else held)
    offset = w.slip(_slot(w), w.c.among((-STACK - 8, 0, -4)))
    w.code.store(8, R10, offset, Register(register))
    if -STACK <= offset <= -8:
        w.state.store(offset, 8, w.kind(register))


@statement(5, lambda w: bool(w.state.slots))
def fill(w: Writer) -> None:
    """r = *(u64 *)(r10 - 8)"""
    offset = w.c.among(sorted(w.state.slots, reverse=True))
    kind = w.state.slots[offset]
    register = w.target()
    w.code.load(8, register, R10, offset)
    w.set(register, kind)


@statement(5)
def write(w: Writer) -> None:
    """*(u16 *)(r10 - 6) = 7"""
    size = w.c.among(SIZES)
    offset = _slot(w, size)
    source: Source = w.c.among(CONSTANTS)
    if w.numbers() and w.c.chance(50):
        source = Register(w.c.among(w.numbers()))
    w.code.store(size, R10, offset, source)
    kept = w.kind(source.number) if isinstance(source, Register) else Num(0, 0, w.fresh())
    w.state.store(offset, size, kept if isinstance(source, Register) else w.unknown())


@statement(5, lambda w: bool(w.state.written) or w.type.policy.uninitialised_stack)
def read(w: Writer) -> None:
    """r = *(u16 *)(r10 - 6)"""
    size = w.c.among(SIZES)
    places = [
        offset
        for offset in range(-size, -ZONE - 1, -size)
        if w.state.readable(offset, size)
        and ((size == 8 and not is_pointer(w.state.slots.get(offset))) or size < 8)
    ]
    anywhere = (w.type.policy.uninitialised_stack and w.c.chance(15)) or w.slip(0, 1)
    if anywhere:
        offset = _slot(w, size)
        if size == 8 and offset in w.state.slots:
            raise Abandon
    elif places:
        offset = w.c.among(places)
    else:
        raise Abandon
    register = w.target()
    signed = size < 8 and w.c.chance(20)
    w.code.load(size, register, R10, offset, signed=signed)
    w.set(register, w.unknown(64 if signed else 8 * size))


@statement(3)
def clear(w: Writer) -> None:
    """A buffer is set to zero."""
    slots = w.c.integer(1, 4)
    first = w.c.integer(1, ZONE // 8 - slots + 1)
    for slot in range(first, first + slots):
        w.code.store(8, R10, -8 * slot, 0)
        w.state.store(-8 * slot, 8, Num(0, 0, w.fresh()))


@statement(4)
def vary(w: Writer) -> None:
    """p = r10; p += r; *(u8 *)(p - 32) = s"""
    size = w.c.among(SIZES)
    span = w.c.among((8, 16, 32))
    base = -8 * w.c.integer(span // 8, ZONE // 8)
    pointer, index = _indexed(w, span, size)
    reads = w.c.chance(50)
    whole = range(base, base + span, 8)
    kept = bits(base, span) & ~w.state.written == 0 or w.type.policy.uninitialised_stack
    if any(is_pointer(w.state.slots.get(offset)) for offset in whole):
        raise Abandon
    if reads:
        if not kept and not w.slip(0, 1):
            raise Abandon
        register = w.target()
        w.code.load(size, register, pointer, base)
        w.set(register, w.unknown(8 * size))
        return
    source: Source = Register(w.c.among(w.numbers())) if w.c.chance(50) else w.c.among(CONSTANTS)
    w.code.store(size, pointer, w.slip(base, base + 1), source)
    for offset in whole:
        if offset in w.state.slots:
            w.state.slots[offset] = w.unknown()
    w.busy.add(index)


@statement(2)
def move(w: Writer) -> None:
    """p = r10; p += -16"""
    register = w.copy(R10)
    step = -8 * w.c.integer(1, ZONE // 8)
    if w.c.chance(30):
        w.code.alu("sub", register, -step)
    else:
        w.code.alu("add", register, step)
    w.set(register, Frame(step, step))


@statement(4, lambda w: bool(w.holding(Frame, Buffer)))
def through(w: Writer) -> None:
    """r = *(u32 *)(p + 4), p a pointer into the stack or into a caller's"""
    pointer = w.c.among(w.holding(Frame, Buffer))
    kind = w.kind(pointer)
    size = w.c.among(SIZES)
    if isinstance(kind, Buffer):
        places = range(-kind.offset, kind.size - kind.offset - size + 1)
        offset = w.c.among([p for p in places if (kind.offset + p) % size == 0] or [0])
    else:
        assert isinstance(kind, Frame)
        if kind.low != kind.high:
            raise Abandon
        offset = _slot(w, size) - kind.low
    if w.c.chance(50):
        source: Source = Register(w.c.among(w.numbers())) if w.numbers() else w.c.among(CONSTANTS)
        w.code.store(size, pointer, offset, source)
        if isinstance(kind, Frame):
            stored = w.kind(source.number) if isinstance(source, Register) else w.unknown()
            w.state.store(kind.low + offset, size, stored)
        return
    if isinstance(kind, Frame):
        held = w.state.slots.get(kind.low + offset)
        if not w.state.readable(kind.low + offset, size) or (size == 8 and is_pointer(held)):
            raise Abandon
    register = w.target()
    w.code.load(size, register, pointer, offset)
    w.set(register, w.unknown(8 * size))


def _indexed(w: Writer, span: int, size: int) -> tuple[int, int]:
    """A copy of r10 plus a number so small that `size` bytes fit into `span`, and that number; both naturally aligned."""
    index = w.changeable(number(w))
    w.code.alu("and", index, w.slip(span - size, span))
    w.set(index, Num(0, span - size, w.fresh()))
    if span - size & size - 1:
        raise Abandon
    pointer = w.copy(R10)
    w.code.alu("add", pointer, Register(index))
    w.set(pointer, Frame(0, span - size))
    return pointer, index
