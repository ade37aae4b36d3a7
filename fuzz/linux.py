"""Statements that only Linux's program types know: loads of packet bytes by number, metadata, fields of contexts, more helpers.

What has a helper that pybpf only verifies is judged and compared with Linux, and not run; few programs are so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fuzz.choices import Abandon
from fuzz.code import R10, Register, Source
from fuzz.control import lend
from fuzz.maps import called, filled, helper, prepared
from fuzz.model import Buffer, Context, End, MapValue, Meta, Mixed, Packet, bits
from fuzz.numbers import number
from fuzz.writer import CONSTANTS, MAX_FUNCTIONS, READ_ONLY, Writer, statement
from pybpf.isa import OPS, Kind
from pybpf.program_types import FieldKind

LOADS: Final = [op for op in OPS if op.kind is Kind.PACKET]


def _exotic(name: str) -> Callable[[Writer], bool]:
    return lambda w: w.exotic and bool(w.holding(Context)) and _knows(w, name)


def _knows(w: Writer, name: str) -> bool:
    return any(known.name == name for known in w.type.helpers.values())


@statement(3, lambda w: w.type.packet_loads and w.function is None)
def absolute(w: Writer) -> None:
    """r0 = *(u16 *)skb[12]: the program ends with 0 where the packet does not reach that far"""
    prepared(w)
    row = w.c.among(LOADS)
    if row.code == "ind":
        w.code.packet(row, w.c.among((0, 12, 14, -1)), number(w, 1000))
    else:
        w.code.packet(row, w.c.among((12, 0, 14, 23, 60, 100, -1)))
    called(w, w.unknown(8 * row.size))


@statement(2, lambda w: bool(_metadata(w)) and bool(w.holding(Context)))
def metadata(w: Writer) -> None:
    """m = data_meta; if (m + 4 > data) return 0; r = *(u32 *)m"""
    context = w.c.among(w.holding(Context))
    w.busy.add(context)
    meta, start = w.target(), w.target()
    w.code.load(4, meta, context, _metadata(w)[0])
    w.set(meta, Meta())
    w.code.load(4, start, context, w.field("data"))
    w.set(start, Packet(0))
    size = w.c.among((4, 1, 8))
    moved = w.copy(meta)
    w.code.alu("add", moved, w.slip(size, size - 1))
    w.set(moved, Mixed())
    fail = w.failure()
    if w.c.chance(50):
        w.branch("jgt", moved, Register(start), fail)
    else:
        w.branch("jlt", start, Register(moved), fail)
    if w.type.packet_writable and w.c.chance(30):
        w.code.store(size, meta, 0, w.c.among(CONSTANTS))
        return
    read = w.target()
    w.code.load(size, read, meta, 0)
    w.set(read, w.unknown(8 * size))


def _metadata(w: Writer) -> list[int]:
    fields = w.type.context.fields if w.type.context else ()
    return [field.offset for field in fields if field.kind is FieldKind.PACKET_META]


@statement(3, lambda w: bool(w.holding(Context)))
def context(w: Writer) -> None:
    """r = ctx->rx_queue_index; ctx->mark = r"""
    fields = (
        [field for field in w.type.context.fields if field.kind is FieldKind.SCALAR] if w.type.context else []
    )
    base = w.c.among(w.holding(Context))
    writable = [
        field for field in fields if (field.writable and field.stores is None) or 4 in (field.stores or ())
    ]
    if writable and w.c.chance(40):
        field = w.c.among(writable)
        w.code.store(4, base, field.offset, Register(number(w)))
        return
    field = w.c.among(fields)
    sizes = [n for n in (4, 1, 2, 8) if field.allows(field.offset, n, write=False)]
    size = w.c.among(sizes)
    places = [n for n in range(0, field.size, size) if field.allows(field.offset + n, size, write=False)]
    register = w.target()
    w.code.load(size, register, base, field.offset + w.slip(w.c.among(places), 1))
    w.set(register, w.unknown(8 * size))


@statement(2)
def configuration(w: Writer) -> None:
    """r = *(u32 *)(&constants + 4): data that nobody writes"""
    register = w.target()
    start = 8 * w.c.integer(0, READ_ONLY.value_size // 8 - 1)
    w.code.map_value(register, READ_ONLY.name, start)
    if w.c.chance(30):
        w.set(register, MapValue(READ_ONLY.name, start, start))
        return
    size = w.c.among((4, 1, 2, 8))
    w.code.load(size, register, register, w.c.integer(0, READ_ONLY.value_size - start - size))
    w.set(register, w.unknown(8 * size))


@statement(6, _exotic("csum_diff"))
def checksum(w: Writer) -> None:
    """n = csum_diff(from, from_size, to, to_size, seed), either of them missing, sizes perhaps variable"""
    prepared(w)
    given = w.c.among(((False, True), (True, False), (True, True)))
    w.busy |= set(range(1, 6))
    for register, present in zip((1, 3), given, strict=True):
        if not present:
            w.code.move(register, 0)
            w.code.move(register + 1, w.slip(0, 4))
            continue
        size = 4 * w.c.integer(1, 6)
        offset = filled(w, size)
        if w.c.chance(50) and w.numbers():
            bounded = w.c.among(w.numbers())
            w.code.move(register + 1, Register(bounded))
            w.code.alu("and", register + 1, 4 if size < 8 else 8 if size < 16 else 16)
        else:
            w.code.move(register + 1, w.slip(size, size + 64))
        w.code.move(register, Register(R10))
        w.code.alu("add", register, offset)
        w.state.registers[register] = w.state.registers[register + 1] = Mixed()
    w.code.move(5, w.c.among((0, 1)))
    w.code.call(helper(w, "csum_diff"))
    called(w, w.unknown())


@statement(6, _exotic("xdp_adjust_head"))
def adjust(w: Writer) -> None:
    """xdp_adjust_head(ctx, 14): every packet pointer is gone"""
    prepared(w)
    context = w.c.among(w.holding(Context))
    w.code.move(1, Register(context))
    w.code.move(2, w.c.among((0, 14, -14, 4)))
    w.code.call(helper(w, w.c.among(("xdp_adjust_head", "xdp_adjust_tail", "xdp_adjust_meta"))))
    called(w, w.unknown())
    if not w.slip(1, 0):
        return
    gone = (Packet, End, Meta)
    w.state.registers = [None if isinstance(kind, gone) else kind for kind in w.state.registers]
    for offset, kind in list(w.state.slots.items()):
        if isinstance(kind, gone):
            del w.state.slots[offset]
            w.state.written &= ~bits(offset, 8)


@statement(4, _exotic("tail_call"))
def tail_call(w: Writer) -> None:
    """tail_call(ctx, &programs, 1): goes on here where there is no such program"""
    prepared(w)
    context = w.c.among(w.holding(Context))
    w.code.move(1, Register(context))
    w.code.map(2, "programs")
    w.code.move(3, w.c.integer(0, 3))
    w.code.call(helper(w, "tail_call"))
    called(w, None)


@statement(6, _exotic("loop"))
def repeat(w: Writer) -> None:
    """loop(n, &f, &buffer, 0): f is called again and again until it says 1"""
    prepared(w)
    if len(w.functions) == MAX_FUNCTIONS:
        raise Abandon
    size = 8 * w.c.integer(1, 3)
    numbers = w.numbers()
    turns: Source = Register(w.c.among(numbers)) if numbers and w.c.chance(40) else w.c.among((3, 1, 100, 0))
    w.code.move(1, turns)
    w.busy |= set(range(1, 6))
    lend(w, 3, size)
    w.code.function_address(2, w.declare((w.unknown(), Buffer(size)), callback=True).label)
    w.code.move(4, w.slip(0, 1))
    w.code.call(helper(w, "loop"))
    called(w, w.unknown())


@statement(3, _exotic("redirect_map"))
def random(w: Writer) -> None:
    """n = get_prandom_u32()"""
    prepared(w)
    w.code.call(helper(w, w.c.among(("get_prandom_u32", "get_smp_processor_id"))))
    called(w, w.unknown(32))
