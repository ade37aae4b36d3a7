"""What a conditional jump teaches each of its two sides.

Three kinds of knowledge come from a comparison: ranges of numbers, for every holder of the same unknown; whether a pointer
is null, for every pointer that asks the same question; and how much of the packet is there, from a comparison of a packet
pointer with the packet's end or of a number with the packet's length.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Final

from pybpf.instruction import Instruction
from pybpf.isa import Operand
from pybpf.verifier.arithmetic import name_of
from pybpf.verifier.explain import Refusal
from pybpf.verifier.scalar import Scalar
from pybpf.verifier.state import State
from pybpf.verifier.values import LENGTH, Atom, Cell, Number, Pointer, Target, Value, proof_of
from pybpf.verifier.view import NEGATED

if TYPE_CHECKING:
    from pybpf.verifier.transfer import Transfer

_MIRRORED: Final = {
    "jeq": "jeq", "jne": "jne", "jset": "jset", "jnset": "jnset",
    "jgt": "jlt", "jlt": "jgt", "jge": "jle", "jle": "jge",
    "jsgt": "jslt", "jslt": "jsgt", "jsge": "jsle", "jsle": "jsge",
}  # fmt: skip
"""The condition with its operands exchanged."""

_END: Final = {Target.PACKET: Target.PACKET_END, Target.PACKET_META: Target.PACKET}
"""Where what a pointer points into ends."""

_UNSIGNED: Final = {"jsgt": "jgt", "jsge": "jge", "jslt": "jlt", "jsle": "jle"}

_MAYBE_NULL_TO_LINUX: Final = frozenset(
    {Target.STACK, Target.PACKET, Target.PACKET_END, Target.PACKET_META, Target.CONTEXT, Target.FUNCTION}
)
"""What is never null, and of which Linux does not use that (reg_not_null in kernel/bpf/verifier.c)."""

_ORDER: Final = {
    "jeq": operator.eq, "jne": operator.ne,
    "jgt": operator.gt, "jge": operator.ge, "jlt": operator.lt, "jle": operator.le,
    "jsgt": operator.gt, "jsge": operator.ge, "jslt": operator.lt, "jsle": operator.le,
}  # fmt: skip
"""What a condition says of two numbers of which both orders agree."""

_EXACT: Final = 1 << 62
"""Numbers below this are what they seem: no sum of a few of them with small offsets has wrapped."""


def _in_order(code: str, apart: int, a: Scalar, b: Scalar) -> bool:
    """Whether two numbers of which one is the other plus `apart` compare as that does with 0: they do where neither wraps, in the order
    of the comparison. That they are not equal is true of any.
    """
    if code in ("jeq", "jne"):
        return True
    x, y = a.wide, b.wide
    if code.startswith("js"):
        return max(-x.smin, x.smax, -y.smin, y.smax, abs(apart)) < _EXACT
    return max(x.umax, y.umax, abs(apart)) < _EXACT


class Contradiction(Exception):
    """No run takes the side of the branch that was assumed."""


class Branches:
    """The conditional jumps of one program."""

    def __init__(self, transfer: Transfer) -> None:
        self.transfer = transfer
        self.values = transfer.values
        self.numbers = transfer.values.numbers
        self.policy = transfer.policy

    def sides(self, state: State, pc: int, instruction: Instruction) -> list[tuple[bool, State]]:
        """The states behind a branch, the fall-through first; a side that cannot be taken is left out.

        A processor that runs ahead takes it all the same: nothing is then known of what was compared.
        """
        left = self.transfer.read(state, instruction.dst)
        right = self.transfer.operand(instruction, state)
        self._comparable(left, right, instruction)
        out: list[tuple[bool, State]] = []
        for taken in (False, True):
            code = instruction.op.code if taken else NEGATED[instruction.op.code]
            after = state.copy()
            try:
                self._assume(after, code, instruction, left, right)
            except Contradiction:
                if not self.transfer.ahead:
                    continue
                after = state.copy()
                after.cells[instruction.dst] = self.values.unknown
                if instruction.op.operand is Operand.REG:
                    after.cells[instruction.src] = self.values.unknown
            self.transfer.recorder.branch(pc, taken)
            out.append((taken, after))
        return out

    def _comparable(self, left: Value, right: Value, instruction: Instruction) -> None:
        """A comparison that reveals an address to a program that must not know it."""
        pointers = [v for v in (left, right) if isinstance(v, Pointer)]
        if not pointers or self.policy.pointer_leaks:
            return
        zero = any(isinstance(v, Number) and v.value == 0 for v in (left, right))
        zero = zero and not self._maybe_null_to_linux(pointers[0])
        both_packet = len(pointers) == 2 and {v.target for v in pointers} <= {
            Target.PACKET,
            Target.PACKET_END,
            Target.PACKET_META,
        }
        code = instruction.op.code
        ordered = both_packet and code != "jset"
        if instruction.op.width == 64 and (ordered or (zero and code in ("jeq", "jne"))):
            return
        other = right if pointers[0] is left else left
        raise Refusal("pointer-leak", f"pointer leak: {name_of(pointers[0])} compared with {name_of(other)}")

    def _assume(self, state: State, code: str, instruction: Instruction, left: Value, right: Value) -> None:
        width = instruction.op.width
        if isinstance(left, Number) and isinstance(right, Number):
            self._assume_numbers(state, code, instruction, left, right)
        elif width == 64 and isinstance(left, Pointer) and isinstance(right, Pointer):
            self._assume_packet(state, code, left, right)
        elif width == 64 and isinstance(left, Pointer) and isinstance(right, Number) and right.value == 0:
            self._assume_null(state, code, left)
        elif width == 64 and isinstance(right, Pointer) and isinstance(left, Number) and left.value == 0:
            self._assume_null(state, code, right)

    def _assume_null(self, state: State, code: str, p: Pointer) -> None:
        """Null is 0 and no object is there: a pointer that is known not to be null never equals it."""
        if code not in ("jeq", "jne"):
            return
        if p.null is None:
            if code == "jeq" and not self._maybe_null_to_linux(p):
                raise Contradiction
            return
        self._resolve(state, p.null, is_null=code == "jeq")

    def _maybe_null_to_linux(self, p: Pointer) -> bool:
        return self.policy.linux_limits and p.null is None and p.target in _MAYBE_NULL_TO_LINUX

    def _resolve(self, state: State, question: Atom, *, is_null: bool) -> None:
        zero = self.values.constant(0)
        if is_null:
            # What was not given need not be given back.
            state.held -= {question}

        def over(cell: Cell) -> Cell:
            if isinstance(cell, Pointer) and cell.null == question:
                return zero if is_null else self.values.moved(cell, null=None)
            return cell

        state.rewrite(self.values, over, ("null", question))

    def _assume_packet(self, state: State, code: str, left: Pointer, right: Pointer) -> None:
        """`packet + k <= end` says that the packet has k bytes; addresses are small, so nothing wraps.

        Metadata ends where the packet begins.
        """
        if _END.get(left.target) is not right.target:
            left, right, code = right, left, _MIRRORED[code]
        at_end = right.offset == 0 and right.variable is None and right.null is None
        if _END.get(left.target) is not right.target or left.null is not None or not at_end:
            return
        code = _UNSIGNED.get(code, code)
        if code not in ("jle", "jeq", "jlt"):
            return
        size = left.offset + (1 if code == "jlt" else 0)
        state.prove(proof_of(left), size)
        state.prove(proof_of(left, whole=True), left.low + size - left.offset)

    def _assume_numbers(
        self, state: State, code: str, instruction: Instruction, left: Number, right: Number
    ) -> None:
        width = instruction.op.width
        if left.form and right.form and left.form[0] == right.form[0]:
            apart = left.form[1] - right.form[1]
            known = not apart or (width == 64 and _in_order(code, apart, left.scalar, right.scalar))
            if known and code in _ORDER and not _ORDER[code](apart, 0):
                raise Contradiction
        pair = self.numbers.refine(code, width, left.scalar, right.scalar)
        if pair is None:
            raise Contradiction
        a, b = pair
        self.learn(state, instruction.dst, left, a)
        if instruction.op.operand is Operand.REG:
            self.learn(state, instruction.src, right, b)
        self._compare_length(state, code, width, left, right, a, b)

    def learn(self, state: State, register: int, number: Number, scalar: Scalar) -> None:
        """The number in `register`, and every other holder of the same unknown, is one of `scalar`.

        A number without identity is nobody else's: equal descriptions do not make equal numbers.
        """
        if scalar is number.scalar:
            return
        numbers = self.numbers
        if number.form is None:
            state.cells[register] = self.values.number(scalar, None)
            return
        atoms, delta = number.form
        learned: dict[int, Scalar] = {}
        tags = state.tags

        def at(distance: int) -> Scalar:
            if distance not in learned:
                shifted = numbers.alu("add", 64, scalar, numbers.constant(distance))
                learned[distance] = shifted if distance else scalar
            return learned[distance]

        def over(cell: Cell) -> Cell:
            if isinstance(cell, Number):
                if cell.form is None or cell.form[0] != atoms:
                    return cell
                both = numbers.intersect(cell.scalar, at(cell.form[1] - delta))
                if both is None:
                    raise Contradiction
                if both.value is not None and not cell.bases.isdisjoint(tags):
                    return self.values.pinned(both, cell.form)
                return self.values.number(both, cell.form)
            if isinstance(cell, Pointer) and cell.variable is not None and cell.atoms == atoms:
                both = numbers.intersect(cell.variable, at(-delta))
                if both is None:
                    raise Contradiction
                return self.values.pointer(cell.target, cell.number, cell.offset, both, atoms, cell.null)
            return cell

        # A sum of nothing is a constant, and what holds a sum holds each of its unknowns.
        state.rewrite(self.values, over, next(iter(number.bases), None))
        if atoms == (LENGTH,) and scalar.wide.umax < _EXACT:
            state.prove((), scalar.wide.umin - delta)

    def _compare_length(
        self, state: State, code: str, width: int, left: Number, right: Number, a: Scalar, b: Scalar
    ) -> None:
        """`length + d >= v + c` says that the packet has c - d bytes behind v.

        Both sides must be what they seem. The length side is below 2**62, so length + d did not wrap, and the other side is
        not above it; c is small, so v + c as a 64-bit number is v + c as an integer, with v taken as signed. A 32-bit
        comparison of numbers whose upper halves are zero compares the numbers.
        """
        length, other, big, small = left, right, a, b
        if right.form is not None and right.form[0] == (LENGTH,):
            length, other, big, small, code = right, left, b, a, _MIRRORED[code]
        if length.form is None or length.form[0] != (LENGTH,):
            return
        if width == 32 and (big.wide.umax >> 32 or small.wide.umax >> 32):
            return
        if code in _UNSIGNED:
            if small.wide.smin < 0 or (width == 32 and (big.wide.umax | small.wide.umax) >> 31):
                return
            code = _UNSIGNED[code]
        form = self.values.form_of(other)
        if code not in ("jge", "jgt", "jeq") or form is None or LENGTH in form[0]:
            return
        if big.wide.umax >= _EXACT or abs(form[1]) >= _EXACT or abs(length.form[1]) >= _EXACT:
            return
        strict = 1 if code == "jgt" else 0
        state.prove(form[0], form[1] - length.form[1] + strict)
