"""Where pybpf accepts what Linux refuses, and why that is right: the named differences.

A difference is not believed because Linux's message looks familiar. It names a piece of knowledge that pybpf's verifier has and
Linux's has not, and how to take it away; it explains a program only if pybpf, without that knowledge, refuses it too.
A few differences are rules of Linux alone: those are known by the message, which says all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final
from unittest import mock

import pybpf
from pybpf import BpfError, Program
from pybpf.helpers import Ret
from pybpf.isa import Operand
from pybpf.program_types import FieldKind
from pybpf.verifier import arguments, transfer
from pybpf.verifier.arithmetic import Arithmetic
from pybpf.verifier.branches import Branches
from pybpf.verifier.calls import Call
from pybpf.verifier.scalar import Numbers
from pybpf.verifier.transfer import Transfer
from pybpf.verifier.values import Pieces, Target

Patch = tuple[object, str, Callable[[Any], Any]]
"""An object, the name of a function in it, and what makes the replacement of the function that is there now."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A reason for which Linux refuses what pybpf accepts.

    `message` matches the line in which Linux says why. `without` takes the knowledge away from pybpf; empty for a rule that
    pybpf does not have.
    """

    name: str
    reason: str
    message: str
    without: tuple[Patch, ...] = ()


def _no_division(compute: Any) -> Any:
    return lambda self, code, width, a, b: (
        self.unknown if code in DIVISIONS else compute(self, code, width, a, b)
    )


def _no_masked_shift(compute: Any) -> Any:
    def replacement(self: Any, code: str, width: int, a: Any, b: Any) -> Any:
        too_far = code in ("lsh", "rsh", "arsh") and b.wide.umax >= width
        return self.unknown if too_far else compute(self, code, width, a, b)

    return replacement


def _no_negative_shift(compute: Any) -> Any:
    def replacement(self: Any, code: str, width: int, a: Any, b: Any) -> Any:
        negative = code == "lsh" and (a.narrow if width == self.half else a.wide).smin < 0
        return self.unknown if negative else compute(self, code, width, a, b)

    return replacement


def _no_parts(read_bytes: Any) -> Any:
    def replacement(values: Any, cell: Any, first: int, size: int) -> Any:
        value = read_bytes(values, cell, first, size)
        if value is None or (size == 8 and not isinstance(cell, Pieces)):
            return value
        return values.number(values.numbers.unsigned(0, (1 << 8 * size) - 1), None)

    return replacement


def _no_written_parts(write_bytes: Any) -> Any:
    """A store of a part leaves nothing known of the slot's numbers, even where later it is put together."""

    def replacement(values: Any, cell: Any, first: int, size: int, value: Any) -> Any:
        after = write_bytes(values, cell, first, size, value)
        if not isinstance(after, Pieces):
            return after
        parts = ((at, n, each if hasattr(each, "target") else values.bytes(n)) for at, n, each in after.parts)
        return values.pieces(tuple(parts))

    return replacement


def _any_difference(_: Any) -> Any:
    return lambda self, a, b, atom: self.values.defined(self.numbers.unknown, atom)


def _ordered(assume_packet: Any) -> Any:
    def replacement(self: Any, at: Any, code: str, left: Any, right: Any) -> None:
        if code not in ("jeq", "jsgt", "jsge", "jslt", "jsle"):
            assume_packet(self, at, code, left, right)

    return replacement


def _near(assume_packet: Any) -> Any:
    def replacement(self: Any, at: Any, code: str, left: Any, right: Any) -> None:
        if max(left.high, right.high) <= MAX_PACKET_OFFSET:
            assume_packet(self, at, code, left, right)

    return replacement


def _zero_immediate(assume: Any) -> Any:
    def replacement(self: Any, state: Any, code: str, instruction: Any, left: Any, right: Any) -> None:
        pointers = sum(hasattr(value, "target") for value in (left, right))
        if pointers != 1 or instruction.op.operand is Operand.IMM:
            assume(self, state, code, instruction, left, right)

    return replacement


def _own_start(from_field: Any) -> Any:
    """Every load of `data` is a pointer of its own: proofs about another one say nothing of it."""

    def replacement(self: Any, state: Any, pc: int, p: Any, offset: int, size: int) -> Any:
        field = self.prover.field(p, offset, size)
        if field is not None and field.kind is FieldKind.PACKET:
            either = self.values.numbers.unsigned(0, 1 << 16)
            return self.values.pointer(Target.PACKET, 0, 0, either, (self.define(state, pc),))
        return from_field(self, state, pc, p, offset, size)

    return replacement


def _own_sum(moved: Any) -> Any:
    """A pointer plus an unknown number is a pointer of its own, whatever the number is."""

    def replacement(self: Any, code: str, p: Any, n: Any, atom: Any) -> Any:
        sum_ = moved(self, code, p, n, atom)
        if n.value is not None:
            return sum_
        return self.values.pointer(p.target, p.number, sum_.offset, sum_.variable, (atom,))

    return replacement


def _no_loaded_bytes(packet_load: Any) -> Any:
    def replacement(self: Any, pc: int, instruction: Any) -> Any:
        step = packet_load(self, pc, instruction)

        def loaded(state: Any) -> None:
            step(state)
            state.cells[0] = self.unknown(state, pc, 64)

        return loaded

    return replacement


def _no_range(result: Any) -> Any:
    def replacement(self: Any) -> Any:
        given = result(self)
        if self.helper.returns in (Ret.U32, Ret.ERR):
            return self.calls.values.number(self.calls.values.numbers.unknown, None)
        return given

    return replacement


def _no_identity(assume_numbers: Any) -> Any:
    """Equal forms say nothing: a comparison knows the ranges of its operands alone."""

    def replacement(self: Any, state: Any, code: str, instruction: Any, left: Any, right: Any) -> None:
        if left.value is None:
            left = self.values.number(left.scalar, None)
        assume_numbers(self, state, code, instruction, left, right)

    return replacement


def _no_step_back(moved: Any) -> Any:
    """The variable part of a sum is not negative, or not known."""

    def replacement(self: Any, code: str, p: Any, n: Any, atom: Any) -> Any:
        sum_ = moved(self, code, p, n, atom)
        if sum_.variable is None or sum_.variable.wide.smin >= 0:
            return sum_
        return self.values.pointer(p.target, p.number, sum_.offset, self.numbers.unknown, (atom,))

    return replacement


MAX_PACKET_OFFSET: Final = 0xFFFF
DIVISIONS: Final = ("div", "mod", "sdiv", "smod")

DIFFERENCES: Final = (
    Difference(
        "division",
        "Linux knows nothing of the result of a division or remainder",
        "",
        ((Numbers, "_compute", _no_division),),
    ),
    Difference(
        "shift",
        "execution masks the amount of a shift by a register; Linux knows nothing of the result where it may be too large",
        "",
        ((Numbers, "_compute", _no_masked_shift),),
    ),
    Difference(
        "negative-shift",
        "a left shift of a small negative number gives a small negative number; Linux then knows no least one",
        "",
        ((Numbers, "_compute", _no_negative_shift),),
    ),
    Difference(
        "stack-parts",
        "a number on the stack may be read and written in parts; Linux then knows only how many bytes it has",
        "",
        (
            (transfer, "read_bytes", _no_parts),
            (arguments, "read_bytes", _no_parts),
            (transfer, "write_bytes", _no_written_parts),
        ),
    ),
    Difference(
        "packet-length",
        "data_end - data is the packet's length: a comparison of it proves what a comparison of pointers proves",
        "",
        ((Arithmetic, "_packet_difference", _any_difference),),
    ),
    Difference(
        "packet-comparison",
        "pointers are compared for equality, or as signed numbers: addresses are small, so both prove the same",
        "outside of the packet",
        ((Branches, "_assume_packet", _ordered),),
    ),
    Difference(
        "packet-offset",
        "a comparison proves as many bytes as it names; Linux takes none that names more than 65535 (MAX_PACKET_OFF)",
        "outside of the packet",
        ((Branches, "_assume_packet", _near),),
    ),
    Difference(
        "packet-start",
        "data is the same address each time it is loaded: what was proved about one load holds for the others",
        "outside of the packet",
        ((Transfer, "_from_field", _own_start),),
    ),
    Difference(
        "packet-sum",
        "two pointers moved by the same unknown are one: Linux gives each a name of its own",
        "outside of the packet",
        ((Arithmetic, "_moved", _own_sum),),
    ),
    Difference(
        "packet-load",
        "a load of packet bytes by number gives no more bits than it loads; to Linux all 64 bits are unknown",
        "",
        ((Transfer, "_packet_load", _no_loaded_bytes),),
    ),
    Difference(
        "helper-result",
        "a number of 32 bits, or 0 and the negative numbers of errors, is what a helper gives that is declared so",
        "",
        ((Call, "result", _no_range),),
    ),
    Difference(
        "same-number",
        "a number equals its copies, so that the other side of a comparison is dead; Linux follows both",
        "",
        ((Branches, "_assume_numbers", _no_identity),),
    ),
    Difference(
        "negative-offset",
        "a pointer may go back by an unknown number of bytes as well as forth; to Linux the number is then unbounded",
        "unbounded memory access|value is negative",
        ((Arithmetic, "_moved", _no_step_back),),
    ),
    Difference(
        "null-register",
        "a register that holds 0 tells null as well as the constant does",
        "map_value_or_null",
        ((Branches, "_assume", _zero_immediate),),
    ),
    Difference(
        "stack-subtraction",
        "a stack pointer less a number is a stack pointer; Linux wants it written as a sum",
        "subtraction from stack pointer prohibited",
    ),
    Difference(
        "returned-stack",
        "a function may give back a pointer to its caller's frame that it was given",
        "cannot return stack pointer to the caller",
    ),
    Difference(
        "part-of-pointer",
        "where addresses may leak, a part of a pointer is a number, whether the part is stored or read",
        "invalid size of register (fill|spill)|corrupted spill memory",
    ),
)


@contextmanager
def without(*differences: Difference) -> Iterator[None]:
    """pybpf's verifier as if it lacked the knowledge."""
    with ExitStack() as stack:
        for difference in differences:
            for target, name, replacement in difference.without:
                made = replacement(getattr(target, name))
                stack.enter_context(mock.patch.object(target, name, made))
        yield


def explain(program: Program, message: str) -> str | None:
    """The name of the difference that explains why Linux refuses a program that pybpf accepts; None if none does.

    Where no single one does, several that fit the message together may: their names are joined by a plus sign.
    """
    fitting = [difference for difference in DIFFERENCES if re.search(difference.message, message)]
    for difference in fitting:
        if not difference.without or _refused_without(program, difference):
            return difference.name
    if not _refused_without(program, *fitting):
        return None
    for difference in list(fitting):
        others = [other for other in fitting if other is not difference]
        if _refused_without(program, *others):
            fitting = others
    return " + ".join(difference.name for difference in fitting)


def _refused_without(program: Program, *differences: Difference) -> bool:
    with without(*differences):
        try:
            pybpf.verify(program)
        except BpfError:
            return True
    return False
