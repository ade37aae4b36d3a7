"""Statements on numbers: constants, copies, every operator at both widths, byte orders, comparisons."""

from __future__ import annotations

from typing import Final

from fuzz.code import Register, Source
from fuzz.model import U64, Num
from fuzz.numbers import at_least, limited
from fuzz.writer import CONSTANTS, WIDE_CONSTANTS, Writer, statement
from pybpf.isa import OPS, Kind

U32: Final = (1 << 32) - 1

OPERATORS: Final = sorted({op.code for op in OPS if op.kind is Kind.ALU and op.code != "mov"})
BYTE_ORDERS: Final = [op for op in OPS if op.kind is Kind.END]
CONDITIONS: Final = sorted({op.code for op in OPS if op.kind is Kind.BRANCH})


@statement(5)
def constant(w: Writer) -> None:
    """r = 5"""
    register = w.target()
    if w.c.chance(15):
        value = w.c.among(WIDE_CONSTANTS)
        w.code.constant(register, value)
    else:
        width = 32 if w.c.chance(25) else 64
        immediate = w.c.among(CONSTANTS)
        value = immediate & (U64 if width == 64 else U32)
        w.code.move(register, immediate, width)
    w.set(register, Num(value, value, w.fresh()))


@statement(4)
def copy(w: Writer) -> None:
    """r = s, whatever s holds"""
    held = [r for r, kind in enumerate(w.state.registers) if kind is not None]
    w.copy(w.c.among(held))


@statement(14, lambda w: bool(w.numbers()))
def operate(w: Writer) -> None:
    """r += s"""
    code = w.c.among(OPERATORS)
    width = 32 if w.c.chance(40) else 64
    register = w.changeable(w.c.among(w.numbers()))
    if code.startswith("movs"):
        if int(code[4:]) >= width:
            width = 64
        source: Source = Register(w.c.among(w.numbers()))
    elif w.c.chance(50):
        source = _immediate(w, code, width)
    else:
        source = Register(w.c.among(w.numbers()))
    left = w.kind(register)
    right = w.kind(source.number) if isinstance(source, Register) else None
    w.code.alu(code, register, source, width)
    assert isinstance(left, Num)
    if isinstance(right, Num):
        low, high, same = right.low, right.high, left
    else:
        assert isinstance(source, int)
        low = high = source & (U64 if width == 64 else U32)
        same = left
        if code in ("add", "sub"):
            w.set(register, _moved(w, left, source if code == "add" else -source, width))
            return
    w.set(register, Num(*_range(code, width, same, low, high), w.fresh()))


@statement(2, lambda w: bool(w.numbers()))
def byte_order(w: Writer) -> None:
    """r = be16 r"""
    row = w.c.among(BYTE_ORDERS)
    register = w.changeable(w.c.among(w.numbers()))
    if w.c.chance(40):
        w.code.alu("and", register, w.c.among((0xFF, 0xFFFF, 0x7F00, 0xF)))
    w.code.end(row, register)
    w.set(register, w.unknown(row.width))


@statement(3, lambda w: bool(w.numbers()))
def bound(w: Writer) -> None:
    """if r > 63 goto out"""
    register = w.c.among(w.numbers())
    limit = w.c.among((63, 7, 15, 127, 255, 1500, 0x7FFF))
    if w.c.chance(30):
        at_least(w, Register(register), limit, w.failure())
    else:
        at_least(w, limit, Register(register), w.failure())


@statement(2, lambda w: bool(w.numbers()))
def small(w: Writer) -> None:
    """r &= 7"""
    limited(w, w.changeable(w.c.among(w.numbers())), w.c.among((7, 15, 60, 255, 1000)))


def _immediate(w: Writer, code: str, width: int) -> int:
    value = w.c.among(CONSTANTS)
    if code in ("lsh", "rsh", "arsh"):
        return value & (width - 1)
    if code in ("div", "mod", "sdiv", "smod"):
        return value or 3
    return value


def _moved(w: Writer, left: Num, step: int, width: int) -> Num:
    """A number plus a constant is the same unknown further on, if nothing wraps."""
    full = U64 if width == 64 else U32
    if left.low + step >= 0 and left.high + step <= full:
        return Num(left.low + step, left.high + step, left.name, left.delta + step)
    return Num(0, full, w.fresh())


def _range(code: str, width: int, left: Num, low: int, high: int) -> tuple[int, int]:
    """Where the result lies, as far as a few simple rules say."""
    full = U64 if width == 64 else U32
    if left.high > full or high > full:
        return (0, high) if code == "and" and high <= full else (0, full)
    match code:
        case "and":
            return 0, min(left.high, high)
        case "add" if left.high + high <= full:
            return left.low + low, left.high + high
        case "mul" if left.high * high <= full:
            return left.low * low, left.high * high
        case "div" if 0 < low <= high:
            return left.low // high, left.high // low
        case "mod" if 0 < low <= high:
            return 0, min(left.high, high - 1)
        case "or" | "xor":
            return 0, (1 << max(left.high.bit_length(), high.bit_length())) - 1
        case "rsh" if low == high:
            return left.low >> (low & width - 1), left.high >> (low & width - 1)
        case "lsh" if low == high and left.high << (low & width - 1) <= full:
            return left.low << (low & width - 1), left.high << (low & width - 1)
    return 0, full
