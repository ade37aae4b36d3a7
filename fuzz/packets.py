"""Statements on the packet: bounds checks in every form, reads and writes, offsets that come from the packet itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fuzz.choices import Abandon
from fuzz.code import Label, Register, Source
from fuzz.model import LENGTH, Context, End, Num, Packet
from fuzz.numbers import at_least, number
from fuzz.stack import SIZES
from fuzz.writer import CONSTANTS, Writer, statement
from pybpf.memory import MAX_PACKET

LENGTHS: Final = (1, 2, 4, 8, 14, 15, 20, 34, 54)
"""How many bytes a check asks for."""


def reachable(w: Writer) -> bool:
    """Whether the packet can be got at."""
    return bool(w.holding(Packet, Context))


def data(w: Writer) -> int:
    """A register with the address of the packet's first byte."""
    contexts = w.holding(Context)
    if contexts:
        register = w.target()
        w.code.load(4, register, w.c.among(contexts), w.field("data"))
        return w.set(register, Packet(0))
    starts = [r for r in w.holding(Packet) if w.kind(r) == Packet(0)]
    if not starts:
        raise Abandon
    return w.copy(w.c.among(starts))


def end(w: Writer) -> int:
    """A register with the address behind the packet's last byte."""
    held = w.holding(End)
    if held and not w.c.chance(30):
        register = w.c.among(held)
        w.busy.add(register)
        return register
    contexts = w.holding(Context)
    if not contexts:
        raise Abandon
    register = w.target()
    w.code.load(4, register, w.c.among(contexts), w.field("data_end"))
    return w.set(register, End())


def pointer(w: Writer) -> int:
    """A register with some packet pointer."""
    held = w.holding(Packet)
    if held and not w.c.chance(25):
        register = w.c.among(held)
        w.busy.add(register)
        return register
    return data(w)


@statement(2, reachable)
def point(w: Writer) -> None:
    """r = data"""
    data(w)


@statement(5, reachable)
def check(w: Writer) -> None:
    """if p + 14 > data_end goto out"""
    inspect(w, pointer(w), w.failure())


def inspect(w: Writer, register: int, fail: Label) -> None:
    """Go on where enough of the packet lies behind the pointer in a register, to `fail` elsewhere."""
    packet = w.kind(register)
    assert isinstance(packet, Packet)
    size = w.c.among(LENGTHS)
    if w.xdp and (w.holding(End, Context)) and not w.c.chance(20):
        _by_end(w, register, packet, size, fail)
    else:
        _by_length(w, packet, size, fail)


def _by_end(w: Writer, register: int, packet: Packet, size: int, fail: Label) -> None:
    """The pointer, moved, is compared with the packet's end."""
    limit = end(w)
    asked = w.slip(size, size - 1)
    if w.c.chance(20) and register not in w.reserved:
        # The pointer itself moves; what it is used for later lies before it.
        w.code.alu("add", register, asked)
        w.set(register, replace(packet, offset=packet.offset + size))
        moved = register
    else:
        moved = w.copy(register)
        w.code.alu("add", moved, asked)
        w.set(moved, replace(packet, offset=packet.offset + size))
    if w.c.chance(6):
        _equal(w, moved, limit, fail)
    else:
        at_least(w, Register(limit), Register(moved), fail)
    w.state.prove(packet, size)


def _equal(w: Writer, moved: int, limit: int, fail: Label) -> None:
    """The packet ends exactly there."""
    if w.c.chance(50):
        w.branch("jne", moved, Register(limit), fail)
        return
    good = Label()
    w.branch("jeq", limit, Register(moved), good)
    w.goto(fail)
    w.place(good)


def length(w: Writer) -> int:
    """A register with the packet's length, or that less a constant."""
    held = [r for r in w.numbers() if _is_length(w, r)]
    if held and not w.c.chance(20):
        register = w.c.among(held)
        w.busy.add(register)
        return register
    if not w.xdp:
        raise Abandon
    first = data(w)
    if w.c.chance(30):
        w.code.alu("add", first, 14)
        w.set(first, Packet(14))
    start = w.kind(first)
    assert isinstance(start, Packet)
    difference = w.changeable(end(w))
    w.code.alu("sub", difference, Register(first))
    high = MAX_PACKET - start.offset if not start.offset else (1 << 64) - 1
    return w.set(difference, Num(0, high, LENGTH, -start.offset))


def _is_length(w: Writer, register: int) -> bool:
    kind = w.kind(register)
    return isinstance(kind, Num) and kind.name == LENGTH and -256 <= kind.delta <= 256


def _by_length(w: Writer, packet: Packet, size: int, fail: Label) -> None:
    """The length is compared with where the access ends."""
    counted = length(w)
    kind = w.kind(counted)
    assert isinstance(kind, Num)
    if kind.delta < 0:
        # length - 14 may have wrapped: it only says something once that is ruled out.
        at_least(w, (1 << 31) - 1, Register(counted), fail)
    needed = packet.offset + size + kind.delta
    asked = w.slip(needed, needed - 1)
    if packet.name == 0:
        if not needed >= 0:
            raise Abandon
        at_least(w, Register(counted), asked, fail)
    else:
        indices = [r for r in w.numbers(1 << 20) if isinstance(k := w.kind(r), Num) and k.name == packet.name]
        if not indices:
            raise Abandon
        index = w.copy(w.c.among(indices))
        found = w.kind(index)
        assert isinstance(found, Num)
        step = asked - found.delta
        w.code.alu("add", index, step)
        if found.low + step < 0:
            raise Abandon
        w.set(index, Num(found.low + step, found.high + step, found.name, found.delta + step))
        at_least(w, Register(counted), Register(index), fail)
    w.state.prove(packet, size)


@statement(10, lambda w: any(_room(w, r) > 0 for r in w.holding(Packet)))
def access(w: Writer) -> None:
    """r = *(u16 *)(p + 12)"""
    touch(w, w.c.among([r for r in w.holding(Packet) if _room(w, r) > 0]))


def touch(w: Writer, register: int) -> None:
    """Read or write what was proved to be there behind a pointer."""
    packet, room = w.kind(register), _room(w, register)
    assert isinstance(packet, Packet)
    sizes = [size for size in SIZES if size <= min(room, room + packet.offset)]
    if not sizes:
        raise Abandon
    size = w.c.among(sizes)
    low = -packet.offset if w.c.chance(20) else max(-packet.offset, min(0, room - size))
    offset = w.c.integer(low, room - size)
    offset = w.slip(offset, w.c.among((room - size + 1, -packet.offset - 1)))
    if w.type.packet_writable and w.c.chance(35):
        source: Source = w.c.among(CONSTANTS)
        if w.numbers() and w.c.chance(60):
            source = Register(w.c.among(w.numbers()))
        w.code.store(size, register, offset, source)
        return
    target = w.target()
    signed = size < 8 and w.c.chance(15)
    w.code.load(size, target, register, offset, signed=signed)
    w.set(target, w.unknown(64 if signed else 8 * size))


def _room(w: Writer, register: int) -> int:
    packet = w.kind(register)
    return w.state.proved(packet) if isinstance(packet, Packet) else 0


@statement(3, lambda w: bool(w.holding(Packet)))
def move(w: Writer) -> None:
    """p += 14"""
    register = w.changeable(w.c.among(w.holding(Packet)))
    packet = w.kind(register)
    assert isinstance(packet, Packet)
    step = w.c.among((14, 1, 2, 4, 8, 20, -1, -4, -14))
    if w.c.chance(25):
        w.code.alu("sub", register, -step)
    else:
        w.code.alu("add", register, step)
    w.set(register, replace(packet, offset=packet.offset + step))


@statement(7, reachable)
def advance(w: Writer) -> None:
    """p += n, n bounded: a header whose length stands in the packet, an index from anywhere"""
    base = pointer(w)
    index = number(w, w.c.among((60, 15, 255, 1000, 0x7FFF)))
    if w.c.chance(30):
        scaled = w.changeable(index)
        kind = w.kind(scaled)
        assert isinstance(kind, Num)
        if kind.high < 1 << 12:
            w.code.alu("lsh", scaled, 2)
            w.set(scaled, Num(kind.low << 2, kind.high << 2, w.fresh()))
        index = scaled
    packet, added = w.kind(base), w.kind(index)
    assert isinstance(packet, Packet)
    assert isinstance(added, Num)
    if w.c.chance(25):
        # number + pointer
        moved = w.copy(index)
        w.code.alu("add", moved, Register(base))
    else:
        moved = w.changeable(base)
        w.code.alu("add", moved, Register(index))
    if added.low == added.high:
        w.set(moved, replace(packet, offset=packet.offset + added.low))
    elif packet.name:
        w.set(moved, Packet(packet.offset, w.fresh()))
    else:
        w.set(moved, Packet(packet.offset + added.delta, added.name))
    if w.c.chance(80):
        inspect(w, moved, w.failure())
        if w.c.chance(60):
            touch(w, moved)


@statement(2, lambda w: len(w.holding(Packet)) > 1)
def difference(w: Writer) -> None:
    """n = p - q"""
    left, right = w.copy(w.c.among(w.holding(Packet))), w.c.among(w.holding(Packet))
    a, b = w.kind(left), w.kind(right)
    assert isinstance(a, Packet)
    assert isinstance(b, Packet)
    w.code.alu("sub", left, Register(right))
    if a.name == b.name:
        distance = (a.offset - b.offset) & ((1 << 64) - 1)
        w.set(left, Num(distance, distance, w.fresh()))
    else:
        w.set(left, w.unknown())
