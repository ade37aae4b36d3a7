"""Statements that branch, loop and call."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Final

from fuzz.arithmetic import CONDITIONS
from fuzz.choices import Abandon
from fuzz.code import R10, Label, Register, Source
from fuzz.maps import null_test, unanswered
from fuzz.model import Buffer, Context, Frame, Kind, MapValue, Mixed, Num, Packet, State
from fuzz.numbers import limited, number
from fuzz.packets import data, end, inspect, pointer, reachable
from fuzz.writer import CONSTANTS, MAX_FUNCTIONS, Function, Writer, statement

MAX_DEPTH: Final = 4


def _nestable(w: Writer) -> bool:
    return w.depth < MAX_DEPTH and bool(w.blobs)


@statement(9, _nestable)
def choose(w: Writer) -> None:
    """if (...) { ... } else { ... }"""
    otherwise = Label()
    count, rest = w.c.integer(1, 4), w.c.integer(0, 2)
    leaves, skips = w.c.chance(10), w.c.chance(50)
    _condition(w, otherwise)
    if skips:
        w.skipping(otherwise)
    w.block(count)
    if skips:
        w.skipping(None)
    if leaves and otherwise.uses and w.reachable:
        w.goto(w.failure())
    if rest and otherwise.uses and w.reachable:
        behind = Label()
        w.goto(behind)
        w.place(otherwise)
        w.block(rest)
        w.place(behind)
    elif otherwise.uses:
        w.place(otherwise)


def _condition(w: Writer, fail: Label) -> None:
    """Some test, or none: go on where it holds, to `fail` elsewhere."""
    with suppress(Abandon):
        _test(w, fail)


def _test(w: Writer, fail: Label) -> None:
    ways = ["number"] * 3 + ["packet"] * (2 * reachable(w)) + ["null"] * (2 * bool(unanswered(w)))
    match w.c.among(ways):
        case "packet":
            inspect(w, pointer(w), fail)
        case "null":
            null_test(w, w.c.among(unanswered(w)), fail)
        case _:
            left = number(w)
            right: Source = w.c.among(CONSTANTS)
            if w.c.chance(35):
                right = Register(number(w))
            w.branch(w.c.among(CONDITIONS), left, right, fail, 32 if w.c.chance(35) else 64)


@statement(3, _nestable)
def correlate(w: Writer) -> None:
    """A pointer that is one only where a flag says so."""
    flag, held = w.target(range(6, 10)), w.target(range(6, 10))
    w.code.move(flag, 0)
    w.set(flag, Num(0, 0, w.fresh()))
    w.code.move(held, 0)
    w.set(held, Num(0, 0, w.fresh()))
    skip = Label()
    _condition(w, skip)
    found = [
        r for r, kind in enumerate(w.state.registers) if isinstance(kind, (Packet, MapValue, Frame, Context))
    ]
    source = w.c.among([*found, R10])
    w.code.move(flag, 1)
    w.set(flag, Num(1, 1, w.fresh()))
    w.code.move(held, Register(source))
    kind = w.kind(source)
    w.set(held, kind)
    proofs = w.state.proofs.copy()
    if skip.uses:
        w.place(skip)
    w.state.registers[held] = Mixed()
    w.reserved |= {flag, held}
    w.block(w.c.integer(0, 3))
    w.reserved -= {flag, held}
    if not w.reachable:
        return
    behind = Label()
    w.branch("jeq", flag, w.slip(0, 1), behind)
    w.state.registers[held] = kind
    if isinstance(kind, Packet):
        w.state.proofs[kind.name] = proofs.get(kind.name, 0)
    w.block(w.c.integer(1, 2))
    w.place(behind)


@statement(5, lambda w: w.type.policy.loops and _nestable(w))
def loop(w: Writer) -> None:
    """for (i = 0; i < 4; i++) { ... }"""
    counter = w.target(range(6, 10))
    turns = w.c.among((2, 1, 3, 4, 7, 8, 30)) if w.depth < 3 else 2
    step = w.c.among((1, 1, 2))
    down = w.c.chance(30)
    tested_first = w.c.chance(50)
    count = w.c.integer(1, 3)
    start, stop = (turns * step, 0) if down else (0, turns * step)
    w.code.move(counter, start)
    reserved = w.reserved.copy()
    _enter_loop(w, counter, max(start, stop))
    head, done = Label(), Label()
    before = w.state.copy()
    w.place(head)
    w.busy = {counter}
    if tested_first:
        w.branch(w.c.among(("jeq", "jle") if down else ("jeq", "jge")), counter, stop, done)
    w.block(count)
    if w.reachable:
        _restore(w, before)
        w.code.alu("sub" if down else "add", counter, step, 32 if w.c.chance(20) else 64)
        if tested_first:
            w.code.goto(head)
            w.reachable = False
        else:
            w.code.branch(w.c.among(("jne", "jgt") if down else ("jne", "jlt")), counter, stop, head)
    w.reserved = reserved
    if tested_first:
        w.place(done)


def _enter_loop(w: Writer, counter: int, most: int) -> None:
    """At the head of a loop numbers may be any; pointers stay, or are not relied on."""

    def any_turn(kind: Kind) -> Kind:
        return w.unknown() if isinstance(kind, Num) else kind

    w.state.rewrite(any_turn)
    w.set(counter, Num(0, most, w.fresh()))
    for register, kind in enumerate(w.state.registers):
        if kind is None or isinstance(kind, Num):
            continue
        if w.c.chance(60) and len(w.reserved) < 6:
            w.reserved.add(register)
        elif register not in w.reserved:
            w.state.registers[register] = Mixed()
    w.state.slots = {
        offset: kind if isinstance(kind, Num) else Mixed() for offset, kind in w.state.slots.items()
    }
    w.reserved.add(counter)


def _restore(w: Writer, before: State) -> None:
    """What was a number at the head is one again."""
    for register, kind in enumerate(before.registers):
        now = w.state.registers[register]
        if (isinstance(kind, Num) and not isinstance(now, Num)) or (kind is not None and now is None):
            w.code.move(register, w.slip(1, 0))
            w.state.registers[register] = w.unknown()
    for offset, kind in before.slots.items():
        if isinstance(kind, Num) and not isinstance(w.state.slots.get(offset), (Num, type(None))):
            w.code.store(8, R10, offset, 0)
            w.state.store(offset, 8, w.unknown())


@statement(3, lambda w: w.type.policy.loops and w.xdp and bool(w.holding(Context)) and _nestable(w))
def walk(w: Writer) -> None:
    """A pointer walks through the packet, checked on every turn: options, labels of a name."""
    walker, counter = w.target(range(6, 10)), w.target(range(6, 10))
    turns = w.c.among((2, 1, 3, 4, 6))
    step = w.c.among((1, 2, 4))
    start, limit, probe, read = data(w), end(w), w.target(), w.target()
    w.code.move(walker, Register(start))
    w.code.move(counter, 0)
    reserved = w.reserved.copy()
    _enter_loop(w, counter, turns)
    w.reserved |= {walker, limit}
    w.state.registers[limit] = before_limit = w.state.registers[limit]
    if isinstance(before_limit, Mixed):
        raise Abandon
    packet = Packet(0, w.fresh())
    w.set(walker, packet)
    head, done = Label(), Label()
    before = w.state.copy()
    w.place(head)
    w.code.move(probe, Register(walker))
    w.code.alu("add", probe, w.slip(step, step - 1))
    w.set(probe, replace(packet, offset=step))
    w.branch("jgt", probe, Register(limit), done)
    w.state.prove(packet, step)
    size = w.c.among([size for size in (1, 2, 4) if size <= step])
    w.code.load(size, read, walker, w.c.integer(0, step - size))
    w.set(read, w.unknown(8 * size))
    w.block(w.c.integer(0, 2))
    if w.reachable:
        if w.c.chance(40):
            length = limited(w, w.changeable(number(w)), 63)
            w.code.alu("add", walker, Register(length))
        w.code.alu("add", walker, step)
        _restore(w, before)
        w.code.alu("add", counter, 1)
        w.code.branch("jlt", counter, turns, head)
    w.reserved = reserved
    w.state.registers[walker] = Packet(0, w.fresh())
    w.place(done)


@statement(4, lambda w: len(w.reserved) < 8)
def call(w: Writer) -> None:
    """r0 = f(r1, r2)"""
    if w.reserved & set(range(6)):
        raise Abandon
    behind = w.functions.index(w.function) + 1 if w.function in w.functions else 0
    callable_ = [function for function in w.functions[behind:] if not function.callback]
    if callable_ and (len(w.functions) == MAX_FUNCTIONS or w.c.chance(50)):
        function = w.c.among(callable_)
    elif len(w.functions) < MAX_FUNCTIONS:
        function = _declare(w)
    else:
        raise Abandon
    returned: Kind = w.unknown()
    for position, kind in enumerate(function.parameters, 1):
        _pass(w, position, kind)
        if position - 1 == function.returned:
            passed = w.kind(position)
            assert passed is not None
            returned = passed
    w.code.call_function(function.label)
    w.state.registers[0:6] = [returned, *[None] * 5]


def _declare(w: Writer) -> Function:
    kinds: list[Kind] = [Num(0, (1 << 64) - 1, 0), Buffer(8 * w.c.integer(1, 3))]
    if w.holding(Context):
        kinds.append(Context())
    if reachable(w):
        kinds.append(Packet(w.c.among((4, 1, 14))))
    parameters = tuple(w.c.among(kinds) for _ in range(w.c.integer(0, 3)))
    pointers = [i for i, kind in enumerate(parameters) if isinstance(kind, (Buffer, Packet))]
    returned = w.c.among(pointers) if pointers and w.c.chance(25) else None
    return w.declare(parameters, returned)


def _pass(w: Writer, number: int, kind: Kind) -> None:
    """Make an argument."""
    w.busy |= set(range(1, number + 1))
    match kind:
        case Num():
            numbers = w.numbers()
            w.code.move(number, Register(w.c.among(numbers)) if numbers else 3)
        case Context():
            contexts = w.holding(Context)
            if not contexts:
                raise Abandon
            w.code.move(number, Register(w.c.among(contexts)))
        case Packet():
            _pass_packet(w, number, kind.offset)
            return
        case Buffer():
            lend(w, number, kind.size)
            return
    w.set(number, kind)


def lend(w: Writer, number: int, size: int) -> None:
    """A register points to so many bytes of numbers on the stack."""
    offset = -8 * w.c.integer(size // 8, 6)
    for at in range(offset, offset + size, 8):
        w.code.store(8, R10, at, w.c.among((0, 5)))
        w.state.store(at, 8, w.unknown())
    w.code.move(number, Register(R10))
    w.code.alu("add", number, offset)
    w.set(number, Frame(offset, offset))


def _pass_packet(w: Writer, number: int, size: int) -> None:
    held = [r for r in w.holding(Packet) if isinstance(k := w.kind(r), Packet) and w.state.proved(k) >= size]
    held = [r for r in held if r not in range(1, number)]
    if not held:
        raise Abandon
    source = w.c.among(held)
    w.code.move(number, Register(source))
    w.set(number, w.kind(source))


@statement(1)
def nothing(w: Writer) -> None:
    """goto +0"""
    target = Label()
    w.goto(target)
    w.place(target)


@statement(2, lambda w: w.type.policy.pointer_leaks)
def leak(w: Writer) -> None:
    """An address becomes a number: compared, cut, subtracted"""
    held = [r for r in w.holding(Packet, Context, Frame) if r not in w.reserved]
    if not held:
        raise Abandon
    register = w.c.among(held)
    match w.c.among(("mov32", "compare", "subtract")):
        case "mov32":
            target = w.target()
            w.code.move(target, Register(register), 32)
            w.set(target, w.unknown(32))
        case "compare":
            behind = Label()
            w.branch(w.c.among(("jeq", "jgt", "jslt")), register, w.c.among(CONSTANTS), behind)
            w.block(1)
            w.place(behind)
        case _:
            target = w.copy(register)
            w.code.alu("sub", target, Register(R10))
            w.set(target, w.unknown())


@statement(1, lambda w: w.careless)
def blunder(w: Writer) -> None:
    """Something that is wrong: a register read before it was written, arithmetic on pointers, a write to nowhere."""
    register = w.target()
    match w.c.among(("unwritten", "arithmetic", "number", "frame", "beyond")):
        case "unwritten":
            unwritten = [r for r, kind in enumerate(w.state.registers) if kind is None]
            w.code.move(register, Register(w.c.among([*unwritten, 0])))
        case "arithmetic":
            w.code.move(register, Register(R10))
            w.code.alu(w.c.among(("and", "mul", "xor", "lsh")), register, 3)
        case "number":
            w.code.load(1, register, number(w), 0)
        case "frame":
            w.code.move(register, Register(R10))
            w.code.alu("add", register, number(w))
            w.code.store(1, register, -8, 0)
        case "beyond":
            w.code.store(w.c.among((1, 8)), R10, w.c.among((0, -513, -1, -4)), 0)
    w.set(register, w.unknown())
