"""Loads, stores and atomic instructions, at whatever region their address lies in.

The stack and the packet belong to one run, so nobody can see how an atomic instruction comes about there: it is a load and a
store that LLVM may optimise. A map is shared; there the memory order is Linux's (Documentation/bpf/standardization):
sequentially consistent where an instruction fetches, relaxed where it does not.

Where numbers in memory are swapped (`Regions.swapped`), each is turned round on its way.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pybpf.errors import UnsupportedError
from pybpf.jit.access import Place, Regions
from pybpf.jit.builder import Builder, Value, text
from pybpf.jit.state import CONTEXT, END, HEAD, META, TrapCode
from pybpf.memory import PACKET
from pybpf.program_types import Field, FieldKind
from pybpf.verifier.facts import Access

_EDGES: Final = {FieldKind.PACKET_META: META, FieldKind.PACKET: HEAD, FieldKind.PACKET_END: END}
"""Where a pointer of the context points to, in the state."""
_ORDERED: Final = "seq_cst"
_RELAXED: Final = "monotonic"


def load(r: Regions, pc: int, accesses: Iterable[Access], address: Value, size: int) -> Value:
    """The number of `size` bytes at an address, zero-extended."""

    def number(pointer: str) -> Value:
        return _widen(r.b, _turned(r, read(r.b, pointer, size), size), size)

    def use(place: Place, pointer: str) -> Value:
        return number(pointer)

    def use_field(field: Field, offset: int) -> Value:
        if r.moves and field.kind in _EDGES:
            return r.b.value(f"add nsw i64 {r.edge(_EDGES[field.kind])}, {PACKET}")
        match field.kind:
            case FieldKind.SCALAR:
                return number(r.b.pointer(r.b.state_pointer("%context", CONTEXT), offset))
            case FieldKind.PACKET_END:
                return r.packet_end()
            case FieldKind.PACKET | FieldKind.PACKET_META:
                return PACKET
            case kind:
                raise UnsupportedError(f"field {field.name!r}: not in native code", kind.value)

    return r.each(pc, accesses, address, size, use, use_field)


def store(r: Regions, pc: int, accesses: Iterable[Access], address: Value, size: int, value: Value) -> None:
    """Write the lower `size` bytes of a value."""
    narrow = _turned(r, _cut(r.b, value, size), size)

    def use(place: Place, pointer: str) -> Value:
        r.b.do(f"store i{8 * size} {narrow}, ptr {pointer}, align 1")
        return 0

    def use_field(field: Field, offset: int) -> Value:
        if not field.writable or field.kind is not FieldKind.SCALAR:
            return r.b.refuse(TrapCode.ACCESS, pc, address)
        pointer = r.b.pointer(r.b.state_pointer("%context", CONTEXT), offset)
        r.b.do(f"store i{8 * size} {narrow}, ptr {pointer}, align 1")
        return 0

    r.each(pc, accesses, address, size, use, use_field, write=True)


def atomic(
    r: Regions,
    pc: int,
    accesses: Iterable[Access],
    address: Value,
    size: int,
    code: str,
    operand: Value,
    r0: Value,
) -> Value:
    """What memory held before an atomic instruction, zero-extended; a store-release and what does not fetch give 0."""
    if size > 1:
        aligned = r.b.compare("eq", r.b.mask(address, size - 1), 0)
        r.b.guard(aligned, TrapCode.MISALIGNED, pc, address)
    number = _cut(r.b, operand, size)
    new, expected = _turned(r, number, size), _turned(r, _cut(r.b, r0, size), size)

    def use(place: Place, pointer: str) -> Value:
        if r.swapped and code.endswith("add"):
            old = _add_turned(r, place, pointer, size, code, number)
        else:
            operate = _shared if place.shared else _private
            old = operate(r.b, pointer, size, code, new, expected)
        return 0 if old is None else _widen(r.b, _turned(r, old, size), size)

    return r.each(pc, accesses, address, size, use, write=code != "load_acquire")


def _shared(b: Builder, pointer: str, size: int, code: str, operand: str, expected: str) -> str | None:
    t = f"i{8 * size}"
    match code:
        case "load_acquire":
            return b.value(f"load atomic {t}, ptr {pointer} acquire, align {size}")
        case "store_release":
            b.do(f"store atomic {t} {operand}, ptr {pointer} release, align {size}")
            return None
        case "cmpxchg":
            pair = b.value(
                f"cmpxchg ptr {pointer}, {t} {expected}, {t} {operand} {_ORDERED} {_ORDERED}, align {size}"
            )
            return b.value(f"extractvalue {{ {t}, i1 }} {pair}, 0")
        case _:
            fetches = code == "xchg" or code.startswith("fetch_")
            operator, order = code.removeprefix("fetch_"), _ORDERED if fetches else _RELAXED
            old = b.value(f"atomicrmw {operator} ptr {pointer}, {t} {operand} {order}, align {size}")
            return old if fetches else None


def _private(b: Builder, pointer: str, size: int, code: str, operand: str, expected: str) -> str | None:
    t = f"i{8 * size}"
    old = None if code == "store_release" else read(b, pointer, size)
    match code:
        case "load_acquire":
            return old
        case "store_release" | "xchg":
            new = operand
        case "cmpxchg":
            same = b.value(f"icmp eq {t} {old}, {expected}")
            new = b.value(f"select i1 {same}, {t} {operand}, {t} {old}")
        case _:
            new = b.value(f"{code.removeprefix('fetch_')} {t} {old}, {operand}")
    b.do(f"store {t} {new}, ptr {pointer}, align 1")
    return old


def _add_turned(r: Regions, place: Place, pointer: str, size: int, code: str, operand: str) -> str | None:
    """An addition to a number that memory holds the other way round, which no instruction of the host does: what memory held."""
    b, t, fetches = r.b, f"i{8 * size}", code.startswith("fetch_")

    def sum_with(old: str) -> str:
        return _turned(r, b.value(f"add {t} {_turned(r, old, size)}, {operand}"), size)

    if not place.shared:
        old = read(b, pointer, size)
        b.do(f"store {t} {sum_with(old)}, ptr {pointer}, align 1")
        return old
    order = _ORDERED if fetches else _RELAXED
    before, again, done = b.label, b.name(), b.name()
    first, found = b.value(f"load atomic {t}, ptr {pointer} monotonic, align {size}"), b.name()
    b.do(f"br label %{again}")
    b.block(again)
    old = b.value(f"phi {t} [ {first}, %{before} ], [ %{found}, %{again} ]")
    pair = b.value(f"cmpxchg ptr {pointer}, {t} {old}, {t} {sum_with(old)} {order} {order}, align {size}")
    b.do(f"%{found} = extractvalue {{ {t}, i1 }} {pair}, 0")
    b.do(f"br i1 {b.value(f'extractvalue {{ {t}, i1 }} {pair}, 1')}, label %{done}, label %{again}")
    b.block(done)
    return old if fetches else None


def _turned(r: Regions, value: str, size: int) -> str:
    """A number of `size` bytes as memory has it from what registers have, and the other way round."""
    if not r.swapped or size == 1:
        return value
    return r.b.value(f"call i{8 * size} @llvm.bswap.i{8 * size}(i{8 * size} {value})")


def read(b: Builder, pointer: str, size: int) -> str:
    """Load `size` bytes as they stand; the result has that width."""
    # Frozen, whatever was read is one number for all who use it, the check of an index and its use alike: even of bytes that
    # were never written, or that another thread writes meanwhile.
    value = b.value(f"load i{8 * size}, ptr {pointer}, align 1")
    return b.value(f"freeze i{8 * size} {value}")


def _widen(b: Builder, value: str, size: int) -> Value:
    if size == 4:
        return b.widen(value)
    return value if size == 8 else b.value(f"zext i{8 * size} {value} to i64")


def _cut(b: Builder, value: Value, size: int) -> str:
    if isinstance(value, int) or size == 8:
        return text(value, 8 * size)
    return b.narrow(value) if size == 4 else b.value(f"trunc i64 {value} to i{8 * size}")
