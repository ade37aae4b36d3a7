"""Statements on maps and other helpers: keys and values on the stack, null tests, values at variable offsets, atomics."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from fuzz.choices import Abandon
from fuzz.code import R10, Label, Register, Source
from fuzz.model import STACK, Frame, Kind, MapValue, Num, Packet, bits, is_pointer
from fuzz.numbers import number
from fuzz.stack import SIZES, ZONE
from fuzz.writer import CONSTANTS, KNOWN, MAPS, Writer, statement
from pybpf import MapSpec
from pybpf.helpers import MAP_DELETE, MAP_LOOKUP, Helper
from pybpf.isa import OPS
from pybpf.isa import Kind as Op

FETCHING: Final = [
    op for op in OPS if op.kind is Op.ATOMIC and op.code not in ("load_acquire", "store_release")
]
ORDERED: Final = [op for op in OPS if op.kind is Op.ATOMIC and op.code in ("load_acquire", "store_release")]
MAX_KEY: Final = 4


def helper(w: Writer, *names: str) -> int:
    """The number of the helper of one of these names."""
    return next(number for number, known in w.type.helpers.items() if known.name in names)


def called(w: Writer, result: Kind | None) -> None:
    """r1 to r5 are gone, r0 is the result."""
    w.state.registers[0:6] = [result, *[None] * 5]
    w.busy.add(0)


def zone(w: Writer, size: int) -> int:
    """An offset from r10 where so many bytes may be overwritten."""
    slots = -(-size // 8)
    return -8 * w.c.integer(slots, max(slots, ZONE // 8))


def filled(w: Writer, size: int) -> int:
    """An offset from r10 where so many bytes were written: they are there, or are written now."""
    offset = zone(w, size)
    if w.c.chance(60) or not w.state.readable(offset, size) or size == 8:
        for at in range(offset, offset + size, 8):
            w.code.store(8, R10, at, w.c.among((0, 1, -1, 7)))
            w.state.store(at, 8, w.unknown())
    return offset


def key(w: Writer, spec: MapSpec) -> int:
    """The offset from r10 of a key."""
    offset = -8 * w.c.integer(1, ZONE // 8)
    number = [r for r in w.numbers() if w.c.chance(20)][:1]
    source: Source = Register(number[0]) if number else w.c.integer(0, MAX_KEY)
    w.code.store(spec.key_size, R10, offset, source)
    w.state.store(offset, spec.key_size, None)
    return offset


def argument(w: Writer, register: int, offset: int) -> None:
    """A register points to the stack."""
    w.code.move(register, Register(R10))
    w.code.alu("add", register, offset)
    w.set(register, Frame(offset, offset))


def prepared(w: Writer) -> None:
    """Calls overwrite r0 to r5, so nothing else may be kept there."""
    if w.reserved & set(range(6)):
        raise Abandon


@statement(7)
def lookup(w: Writer) -> None:
    """v = map_lookup_elem(&map, &key); if (!v) return 0;"""
    prepared(w)
    spec = w.c.among(list(MAPS.values()))
    offset = key(w, spec)
    argument(w, 2, w.slip(offset, offset + 8))
    w.code.map(1, spec.name)
    w.code.call(helper(w, MAP_LOOKUP.name, "map_lookup"))
    called(w, MapValue(spec.name, question=w.fresh()))
    register = w.copy(0) if w.c.chance(50) else 0
    if w.c.chance(80):
        null_test(w, w.c.among((register, 0)), w.failure())
        if w.c.chance(60):
            use(w, register)


def use(w: Writer, register: int) -> None:
    """Read or write a value, often at an offset that is only known when the program runs."""
    if w.c.chance(50):
        register = moved(w, register)
    touch(w, register)


def null_test(w: Writer, register: int, fail: Label) -> None:
    """Go on where the pointer is not null."""
    kind = w.kind(register)
    assert isinstance(kind, MapValue)
    if not kind.question:
        raise Abandon
    zero: Source = 0
    if w.c.chance(10):
        constant = w.target()
        w.code.move(constant, 0)
        w.set(constant, Num(0, 0, w.fresh()))
        zero = Register(constant)
    if w.c.chance(60):
        w.branch("jeq", register, zero, fail)
    else:
        good = Label()
        w.branch("jne", register, zero, good)
        w.goto(fail)
        w.place(good)
    w.state.answer(kind.question, null=False, name=0)


def unanswered(w: Writer) -> list[int]:
    """The registers whose pointer may be null."""
    return [r for r in w.holding(MapValue) if isinstance(k := w.kind(r), MapValue) and k.question]


def values(w: Writer) -> list[int]:
    """The registers that point to a map value."""
    if w.careless and w.c.chance(10):
        return w.holding(MapValue)
    return [r for r in w.holding(MapValue) if isinstance(k := w.kind(r), MapValue) and not k.question]


@statement(3, lambda w: bool(unanswered(w)))
def test(w: Writer) -> None:
    """if v == 0 goto out"""
    null_test(w, w.c.among(unanswered(w)), w.failure())


@statement(8, lambda w: bool(w.holding(MapValue)))
def access(w: Writer) -> None:
    """v[4] = r"""
    touch(w, w.c.among(values(w)))


def touch(w: Writer, register: int) -> None:
    """Read or write at a constant offset from a pointer to a value."""
    value = w.kind(register)
    assert isinstance(value, MapValue)
    room = KNOWN[value.map].value_size - value.high
    sizes = [size for size in SIZES if value.low + room >= size]
    size = w.c.among(sizes)
    offset = w.slip(w.c.integer(-value.low, room - size), w.c.among((room - size + 1, -value.low - 1)))
    if w.c.chance(50) and w.slip(not KNOWN[value.map].read_only, 1):
        source: Source = w.c.among(CONSTANTS)
        if w.numbers() and w.c.chance(60):
            source = Register(w.c.among(w.numbers()))
        w.code.store(size, register, offset, source)
        return
    target = w.target()
    w.code.load(size, target, register, offset)
    w.set(target, w.unknown(8 * size))


@statement(5, lambda w: bool(w.holding(MapValue)))
def index(w: Writer) -> None:
    """v += i, i below the value's size"""
    register = moved(w, w.c.among(values(w)))
    if w.c.chance(60):
        touch(w, register)


def moved(w: Writer, register: int) -> int:
    """A register with a pointer into a value moved by a number that keeps it there."""
    value = w.kind(register)
    assert isinstance(value, MapValue)
    room = KNOWN[value.map].value_size - value.high - 1
    w.busy.add(register)
    step = number(w, w.slip(w.c.integer(1, room), room + 1))
    known = w.kind(step)
    assert isinstance(known, Num)
    pointer = w.changeable(register)
    if w.c.chance(20) and value.low >= known.high:
        w.code.alu("sub", pointer, Register(step))
        return w.set(pointer, replace(value, low=value.low - known.high, high=value.high - known.low))
    w.code.alu("add", pointer, Register(step))
    return w.set(pointer, replace(value, low=value.low + known.low, high=value.high + known.high))


@statement(3)
def update(w: Writer) -> None:
    """map_update_elem(&map, &key, &value, 0)"""
    prepared(w)
    spec = w.c.among(list(MAPS.values()))
    held = [r for r in w.holding(MapValue) if r > 5 and _covers(w.kind(r), spec)]
    value = 0 if held else filled(w, spec.value_size)
    offset = key(w, spec)
    if not held and bits(value, spec.value_size) & bits(offset, spec.key_size) and w.c.chance(50):
        raise Abandon
    if held:
        w.code.move(3, Register(w.c.among(held)))
    else:
        argument(w, 3, w.slip(value, value + 8))
    argument(w, 2, offset)
    w.code.map(1, spec.name)
    w.code.move(4, w.c.among((0, 1, 2, 3)))
    w.code.call(helper(w, "map_update_elem", "map_update"))
    called(w, w.unknown())


@statement(2)
def delete(w: Writer) -> None:
    """map_delete_elem(&map, &key)"""
    prepared(w)
    spec = w.c.among([spec for spec in MAPS.values() if spec.type == "hash"])
    argument(w, 2, key(w, spec))
    w.code.map(1, spec.name)
    w.code.call(helper(w, MAP_DELETE.name, "map_delete"))
    called(w, w.unknown())


def _has(w: Writer, name: str) -> bool:
    return any(known.name == name for known in w.type.helpers.values())


@statement(2, lambda w: _has(w, "hash"))
def hashed(w: Writer) -> None:
    """n = hash(p, size), size a constant or a bounded number"""
    prepared(w)
    size = w.c.integer(1, 24)
    varies = w.c.chance(50) and bool(w.numbers())
    packets = [
        r for r in w.holding(Packet) if isinstance(k := w.kind(r), Packet) and w.state.proved(k) >= size
    ]
    packets = [r for r in packets if r > 5]
    offset = 0 if packets else filled(w, size)
    if varies:
        bounded = number(w, size)
        if bounded != 2:
            w.code.move(2, Register(bounded))
    else:
        w.code.move(2, w.slip(size, size + 8))
    if packets:
        w.code.move(1, Register(w.c.among(packets)))
    else:
        argument(w, 1, offset)
    w.code.call(helper(w, "hash"))
    called(w, w.unknown(32))


@statement(1)
def clock(w: Writer) -> None:
    """n = ktime_get_ns()"""
    prepared(w)
    w.code.call(helper(w, "ktime_get_ns", "time_get_ns"))
    called(w, w.unknown())


@statement(4, lambda w: bool(w.numbers()))
def atomic(w: Writer) -> None:
    """r = atomic_fetch_add(v + 8, r)"""
    row = w.c.among(FETCHING)
    usable = values(w)
    if usable and w.c.chance(60):
        base = w.c.among(usable)
        value = w.kind(base)
        assert isinstance(value, MapValue)
        if value.low != value.high or KNOWN[value.map].read_only:
            raise Abandon
        places = range(
            -(value.low // row.size) * row.size, KNOWN[value.map].value_size - value.low - row.size + 1
        )
        offsets = [
            place for place in places if (value.low + place) % row.size == 0 and value.low + place >= 0
        ]
    else:
        base = R10
        offsets = [
            place
            for place in range(-row.size, -ZONE - 1, -row.size)
            if w.state.readable(place, row.size) and not is_pointer(w.state.slots.get(place))
        ]
    if not offsets:
        raise Abandon
    offset = w.c.among(offsets)
    source = number(w)
    if row.code == "cmpxchg" and not isinstance(w.kind(0), Num):
        if 0 in w.reserved or source == 0:
            raise Abandon
        w.code.move(0, 1)
        w.set(0, Num(1, 1, w.fresh()))
    if source in w.reserved and row.code.startswith(("fetch", "xchg")):
        source = w.copy(source)
    w.code.atomic(row, base, source, offset)
    if base == R10:
        w.state.store(offset, row.size, None)
    if row.code == "cmpxchg":
        w.set(0, w.unknown(row.width))
    elif row.code != row.code.removeprefix("fetch_") or row.code == "xchg":
        w.set(source, w.unknown(row.width))


@statement(2, lambda w: bool(w.numbers()) and w.type.policy.isa >= 4)
def ordered(w: Writer) -> None:
    """r = load_acquire(r10 - 8)"""
    row = w.c.among(ORDERED)
    offset = -row.size * w.c.integer(1, ZONE // row.size)
    if row.code == "store_release":
        w.code.atomic(row, R10, number(w), offset)
        w.state.store(offset, row.size, None)
        return
    if not w.state.readable(offset, row.size) or is_pointer(w.state.slots.get(offset)):
        raise Abandon
    register = w.target()
    w.code.atomic(row, register, R10, offset)
    w.set(register, w.unknown(row.width))


def _covers(kind: Kind | None, spec: MapSpec) -> bool:
    if not isinstance(kind, MapValue) or kind.question:
        return False
    return kind.low >= 0 and kind.high + spec.value_size <= KNOWN[kind.map].value_size


__all__ = ["STACK", "Helper", "MAPS"]
