"""Numbers as statements ask for them: compared with others, and kept below a limit."""

from __future__ import annotations

from fuzz.code import Label, Register, Source
from fuzz.model import U64, Num
from fuzz.writer import Writer

_IMMEDIATES = range(-(1 << 31), 1 << 31)


def number(w: Writer, limit: int = U64) -> int:
    """A register with a number not above `limit`: one that is there, one made smaller, or a constant."""
    fitting = w.numbers(limit)
    if fitting and not w.c.chance(25):
        register = w.c.among(fitting)
        w.busy.add(register)
        return register
    larger = [r for r in w.numbers() if r not in fitting]
    if larger and w.c.chance(85):
        return limited(w, w.changeable(w.c.among(larger)), limit)
    register = w.target()
    value = min(limit, w.c.among((1, 0, 2, 3, 4, 7, 8, 16, 255, 1000)))
    w.code.move(register, value)
    return w.set(register, Num(value, value, w.fresh()))


def limited(w: Writer, register: int, limit: int) -> int:
    """Make the number in a register one that is not above `limit`."""
    mask = (1 << (limit + 1).bit_length() - 1) - 1
    match w.c.among(("and", "check", "mod", "odd", "rsh", "check", "narrow")):
        case "check":
            at_least(w, min(limit, (1 << 31) - 1), Register(register), w.failure())
            return register
        case "mod" if limit < (1 << 31) - 1:
            w.code.alu("mod", register, limit + 1)
            return w.set(register, Num(0, limit, w.fresh()))
        case "odd" if limit < 1 << 31:
            w.code.alu("and", register, limit)
            return w.set(register, Num(0, limit, w.fresh()))
        case "rsh" if mask:
            w.code.alu("rsh", register, 64 - mask.bit_length())
        case "narrow" if mask < 1 << 31:
            w.code.alu("and", register, mask, 32)
        case _:
            w.code.alu("and", register, min(mask, (1 << 31) - 1))
    return w.set(register, Num(0, mask, w.fresh()))


def at_least(w: Writer, left: Source, right: Source, fail: Label) -> None:
    """Go on where left >= right, to `fail` elsewhere: in any of the ways in which that can be written."""
    code, first, second, leaves = w.c.among(_ways(left, right))
    if isinstance(second, int) and (second not in _IMMEDIATES or w.c.chance(20)):
        constant = w.target()
        w.code.constant(constant, second)
        w.set(constant, Num(second & U64, second & U64, w.fresh()))
        second = Register(constant)
    width, code = _narrowed(w, code, first, second)
    if leaves:
        w.branch(code, first.number, second, fail, width)
    else:
        good = Label()
        w.branch(code, first.number, second, good, width)
        w.goto(fail)
        w.place(good)
    _learn(w, left, right)


def _ways(left: Source, right: Source) -> list[tuple[str, Register, Source, bool]]:
    """Comparisons that tell whether left >= right, or something stronger; whether they are taken if it is not."""
    if isinstance(left, Register) and isinstance(right, Register):
        return [
            ("jlt", left, right, True),
            ("jge", left, right, False),
            ("jgt", right, left, True),
            ("jle", right, left, False),
            ("jle", left, right, True),
            ("jlt", right, left, False),
        ]
    if isinstance(left, Register):
        assert isinstance(right, int)
        whole: list[tuple[str, Register, Source, bool]] = [
            ("jlt", left, right, True),
            ("jge", left, right, False),
        ]
        if right:
            whole += [("jle", left, right - 1, True), ("jgt", left, right - 1, False)]
        return whole
    assert isinstance(right, Register), "two constants need no comparison"
    return [
        ("jgt", right, left, True),
        ("jle", right, left, False),
        ("jge", right, left + 1, True),
        ("jlt", right, left + 1, False),
    ]


def _narrowed(w: Writer, code: str, left: Register, right: Source) -> tuple[int, str]:
    """The width and signedness to compare with, where others say the same."""
    highest = 0
    for source in (left, right):
        kind = w.kind(source.number) if isinstance(source, Register) else source
        if not isinstance(kind, (Num, int)):
            return 64, code
        highest = max(highest, kind.high if isinstance(kind, Num) else kind & U64)
    width = 32 if highest < 1 << 32 and w.c.chance(25) else 64
    signed = highest < 1 << (width - 1) and w.c.chance(25)
    return width, code.replace("j", "js", 1) if signed else code


def _learn(w: Writer, left: Source, right: Source) -> None:
    """left >= right."""
    a = w.kind(left.number) if isinstance(left, Register) else left
    b = w.kind(right.number) if isinstance(right, Register) else right
    if isinstance(a, Num) and isinstance(b, int):
        w.refine(a, low=b)
    elif isinstance(b, Num) and isinstance(a, int):
        w.refine(b, high=a)
