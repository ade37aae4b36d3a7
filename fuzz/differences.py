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
from pybpf.isa import Operand
from pybpf.program_types import FieldKind
from pybpf.verifier import state, transfer
from pybpf.verifier.arithmetic import Arithmetic
from pybpf.verifier.branches import Branches
from pybpf.verifier.scalar import Numbers
from pybpf.verifier.transfer import Transfer
from pybpf.verifier.values import Pieces, Target

Patch = tuple[object, str, Any]
"""An object, the name of what to replace in it, the replacement."""


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


_read_bytes: Final = state.read_bytes
_compute: Final = Numbers._compute
_assume_packet: Final = Branches._assume_packet
_assume: Final = Branches._assume
_from_field: Final = Transfer._from_field
_moved: Final = Arithmetic._moved


def _no_division(self: Any, code: str, width: int, a: Any, b: Any) -> Any:
    return self.unknown if code in DIVISIONS else _compute(self, code, width, a, b)


def _no_masked_shift(self: Any, code: str, width: int, a: Any, b: Any) -> Any:
    too_far = code in ("lsh", "rsh", "arsh") and b.wide.umax >= width
    return self.unknown if too_far else _compute(self, code, width, a, b)


def _no_parts(values: Any, cell: Any, first: int, size: int) -> Any:
    value = _read_bytes(values, cell, first, size)
    if value is None or (size == 8 and not isinstance(cell, Pieces)):
        return value
    return values.number(values.numbers.unsigned(0, (1 << 8 * size) - 1), None)


def _any_difference(self: Any, a: Any, b: Any, atom: Any) -> Any:
    return self.values.defined(self.numbers.unknown, atom)


def _ordered(self: Any, at: Any, code: str, left: Any, right: Any) -> None:
    if code not in ("jeq", "jsgt", "jsge", "jslt", "jsle"):
        _assume_packet(self, at, code, left, right)


def _near(self: Any, at: Any, code: str, left: Any, right: Any) -> None:
    if max(left.high, right.high) <= MAX_PACKET_OFFSET:
        _assume_packet(self, at, code, left, right)


def _zero_immediate(self: Any, state: Any, code: str, instruction: Any, left: Any, right: Any) -> None:
    pointers = sum(hasattr(value, "target") for value in (left, right))
    if pointers != 1 or instruction.op.operand is Operand.IMM:
        _assume(self, state, code, instruction, left, right)


def _own_start(self: Any, state: Any, pc: int, p: Any, offset: int, size: int) -> Any:
    """Every load of `data` is a pointer of its own: proofs about another one say nothing of it."""
    field = self.prover.field(p, offset, size)
    if field is not None and field.kind is FieldKind.PACKET:
        either = self.values.numbers.unsigned(0, 1 << 16)
        return self.values.pointer(Target.PACKET, 0, 0, either, (self.define(state, pc),))
    return _from_field(self, state, pc, p, offset, size)


def _own_sum(self: Any, code: str, p: Any, n: Any, atom: Any) -> Any:
    """A pointer plus an unknown number is a pointer of its own, whatever the number is."""
    moved = _moved(self, code, p, n, atom)
    if n.value is not None:
        return moved
    return self.values.pointer(p.target, p.number, moved.offset, moved.variable, (atom,))


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
        "stack-parts",
        "a number on the stack may be read and written in parts; Linux then knows only how many bytes it has",
        "",
        ((transfer, "read_bytes", _no_parts),),
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
        "where addresses may leak, bytes of a spilled pointer are numbers",
        "invalid size of register fill|corrupted spill memory",
    ),
)


@contextmanager
def without(*differences: Difference) -> Iterator[None]:
    """pybpf's verifier as if it lacked the knowledge."""
    with ExitStack() as stack:
        for difference in differences:
            for target, name, replacement in difference.without:
                if isinstance(target, dict):
                    stack.enter_context(mock.patch.dict(target, {name: replacement}))
                else:
                    stack.enter_context(mock.patch.object(target, name, replacement))
        yield


def explain(program: Program, message: str) -> str | None:
    """The name of the difference that explains why Linux refuses a program that pybpf accepts; None if none does.

    Where no single one does, all that fit the message together may, and their common name is ``several``.
    """
    fitting = [difference for difference in DIFFERENCES if re.search(difference.message, message)]
    for difference in fitting:
        if not difference.without or _refused_without(program, difference):
            return difference.name
    return "several" if _refused_without(program, *fitting) else None


def _refused_without(program: Program, *differences: Difference) -> bool:
    with without(*differences):
        try:
            pybpf.verify(program)
        except BpfError:
            return True
    return False


Explain = Callable[[Program, str], str | None]
