"""ALU instructions, byte order and conditions as LLVM instructions; `pybpf.semantics` says what they compute.

Where LLVM leaves a result undefined (a shift as wide as its operand, division by zero, the quotient that overflows) the
operands are changed to ones with a defined result, and a select puts in what RFC 9669 asks for.
"""

from __future__ import annotations

from typing import Final

from pybpf import semantics
from pybpf.jit.builder import Builder, Value, text
from pybpf.semantics import U32, U64

_PLAIN: Final = {
    "add": "add", "sub": "sub", "mul": "mul", "or": "or", "and": "and", "xor": "xor", "lsh": "shl", "rsh": "lshr", "arsh": "ashr",
}  # fmt: skip
_PREDICATE: Final = {
    "jeq": "eq", "jne": "ne", "jgt": "ugt", "jge": "uge", "jlt": "ult", "jle": "ule",
    "jsgt": "sgt", "jsge": "sge", "jslt": "slt", "jsle": "sle",
}  # fmt: skip


def alu(b: Builder, code: str, dst: Value, src: Value, width: int) -> Value:
    """`dst` `code` `src` at `width` bits; for ``neg`` `src` is not looked at."""
    if code == "neg":
        code, dst, src = "sub", 0, dst
    if code.startswith("mov"):
        dst = 0
    if isinstance(dst, int) and isinstance(src, int):
        return semantics.alu(code, dst, src, width)
    if width == 64:
        if code == "mov":
            return src
        return _operate(b, code, text(dst), text(src), 64)
    if code == "mov":
        return b.widen(b.narrow(src))
    return b.widen(_operate(b, code, b.narrow(dst), b.narrow(src), 32))


def _operate(b: Builder, code: str, dst: str, src: str, width: int) -> str:
    """An operator on operands of `width` bits, at least one of them a name."""
    t = f"i{width}"
    match code:
        case "lsh" | "rsh" | "arsh":
            amount = str(int(src) & width - 1) if _is_number(src) else b.value(f"and {t} {src}, {width - 1}")
            return b.value(f"{_PLAIN[code]} {t} {dst}, {amount}")
        case "div" | "mod":
            return _divide(b, "udiv" if code == "div" else "urem", t, dst, src)
        case "sdiv" | "smod":
            return _divide_signed(b, "sdiv" if code == "sdiv" else "srem", t, dst, src)
        case "movs8" | "movs16" | "movs32":
            return _sign_extend(b, t, src, int(code[4:]))
        case _:
            return b.value(f"{_PLAIN[code]} {t} {dst}, {src}")


def _is_number(operand: str) -> bool:
    return operand.lstrip("-").isdigit()


def _sign_extend(b: Builder, t: str, src: str, width: int) -> str:
    if t == f"i{width}":
        return src
    return b.value(f"sext i{width} {b.value(f'trunc {t} {src} to i{width}')} to {t}")


def _divide(b: Builder, operator: str, t: str, dst: str, src: str) -> str:
    """By zero the quotient is 0 and the remainder the dividend."""
    by_zero = dst if operator in ("urem", "srem") else "0"
    if _is_number(src):
        return b.value(f"{operator} {t} {dst}, {src}") if int(src) else by_zero
    zero = b.value(f"icmp eq {t} {src}, 0")
    divisor = b.value(f"select i1 {zero}, {t} 1, {t} {src}")
    result = b.value(f"{operator} {t} {dst}, {divisor}")
    return b.value(f"select i1 {zero}, {t} {by_zero}, {t} {result}")


def _divide_signed(b: Builder, operator: str, t: str, dst: str, src: str) -> str:
    """As `_divide`; by -1 the quotient is the negated dividend, which wraps, and the remainder 0."""
    if _is_number(src) and int(src) != -1:
        return _divide(b, operator, t, dst, src)
    by_minus_one = "0" if operator == "srem" else b.value(f"sub {t} 0, {dst}")
    if _is_number(src):
        return by_minus_one
    by_zero = dst if operator == "srem" else "0"
    zero, minus_one = b.value(f"icmp eq {t} {src}, 0"), b.value(f"icmp eq {t} {src}, -1")
    unsafe = b.value(f"or i1 {zero}, {minus_one}")
    divisor = b.value(f"select i1 {unsafe}, {t} 1, {t} {src}")
    result = b.value(f"{operator} {t} {dst}, {divisor}")
    result = b.value(f"select i1 {minus_one}, {t} {by_minus_one}, {t} {result}")
    return b.value(f"select i1 {zero}, {t} {by_zero}, {t} {result}")


def end(b: Builder, code: str, dst: Value, width: int) -> Value:
    """Byte order of the lower `width` bits, by what `code` is on a little-endian machine."""
    if isinstance(dst, int):
        return semantics.END[code](dst, width)
    if code == "le":
        return dst if width == 64 else b.value(f"and i64 {dst}, {(1 << width) - 1}")
    return byte_swap(b, dst if width == 64 else b.value(f"trunc i64 {dst} to i{width}"), width)


def byte_swap(b: Builder, value: str, width: int) -> str:
    """A value of `width` bits with its bytes reversed, zero-extended to 64 bits."""
    swapped = value if width == 8 else b.value(f"call i{width} @llvm.bswap.i{width}(i{width} {value})")
    return swapped if width == 64 else b.value(f"zext i{width} {swapped} to i64")


def condition(b: Builder, code: str, dst: Value, src: Value, width: int) -> str | bool:
    """Whether a branch is taken: known here, or an i1."""
    if isinstance(dst, int) and isinstance(src, int):
        return semantics.condition(code, dst, src, width)
    t, left, right = ("i64", text(dst), text(src)) if width == 64 else ("i32", b.narrow(dst), b.narrow(src))
    if code == "jset":
        return b.value(f"icmp ne {t} {b.value(f'and {t} {left}, {right}')}, 0")
    return b.value(f"icmp {_PREDICATE[code]} {t} {left}, {right}")


def least(code: str, dst: Value, src: Value, name: str, base: int) -> tuple[int, int]:
    """How much greater than a constant the value called `name` is at least, where a 64-bit branch is taken and where it is not: 0 where nothing is known.

    >>> least("jlt", "%length", 34, "%length", 0), least("jge", 1034, "%end", "%end", 1000)
    ((0, 34), (0, 35))
    """
    number = src if dst == name else dst
    if not isinstance(number, int) or name not in (dst, src) or number < base:
        return 0, 0
    match code if dst == name else _MIRRORED.get(code):
        case "jlt":
            return 0, number - base
        case "jle":
            return 0, number - base + 1
        case "jgt":
            return number - base + 1, 0
        case "jge":
            return number - base, 0
        case _:
            return 0, 0


_MIRRORED: Final = {"jlt": "jgt", "jle": "jge", "jgt": "jlt", "jge": "jle"}


def immediate(imm: int, width: int) -> int:
    """A 32-bit immediate as an operand: sign-extended to `width` bits."""
    return imm & (U64 if width == 64 else U32)
