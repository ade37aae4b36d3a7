"""What Linux asks of unprivileged programs because processors run ahead of comparisons (Spectre, variant 1).

Linux answers in two ways, and so does the policy `speculation`. The sides of branches that no run takes are walked too, with
the numbers compared unknown: `pybpf.verifier.branches` does that, in an exploration of its own whose facts nobody sees. And each
addition of a register to a pointer is given a mask, made by the verifier, that cuts the register to 0 where it is out of
its proved range. Linux has one mask for an instruction, and refuses what it cannot mask: this file says what that is, by the
rules of Linux 5.13 to 6.16 (sanitize_ptr_alu and sanitize_check_bounds in kernel/bpf/verifier.c). Later versions put a barrier where the
first way finds something, and accept.

pybpf's engines put in neither masks nor barriers.
"""

from __future__ import annotations

from typing import Final

from pybpf.instruction import Instruction
from pybpf.isa import Operand
from pybpf.memory import STACK_SIZE
from pybpf.verifier.arithmetic import name_of
from pybpf.verifier.explain import Refusal
from pybpf.verifier.prove import Prover
from pybpf.verifier.values import Atom, Number, Pointer, Target, Value, Values

_MASKED: Final = frozenset({"add", "sub"})
_NO_POINTER: Final = ("number", 0)

Mask = tuple[object, int]
"""What a mask depends on besides the limit, and the limit."""


class Masks:
    """The masks of one program, as they come up on the runs that there are."""

    def __init__(self, prover: Prover) -> None:
        self.prover = prover
        self._of: dict[int, Mask] = {}

    def check(self, pc: int, instruction: Instruction, a: Value, b: Value, result: Value) -> None:
        """The instruction's result can be masked. Raises `Refusal`."""
        if instruction.op.code not in _MASKED:
            return
        by_register = instruction.op.operand is Operand.REG
        if not isinstance(result, Pointer):
            if by_register and isinstance(a, Number) and isinstance(b, Number):
                self._same(pc, instruction, _NO_POINTER)
            return
        pointer, number = (a, b) if isinstance(a, Pointer) else (b, a)
        assert isinstance(pointer, Pointer)
        assert isinstance(number, Number)
        mask = self._mask(instruction, pointer, number, result) if by_register else None
        self._inside(instruction, result)
        if mask is not None:
            self._same(pc, instruction, mask)

    def _mask(self, instruction: Instruction, pointer: Pointer, number: Number, result: Pointer) -> Mask:
        """The mask of a pointer that is moved by a register. Its limit is how far the pointer can be moved that way."""
        wide = number.scalar.wide
        if number.value is None and (wide.smin < 0) != (wide.smax < 0):
            raise self._refusal(instruction, "the number may have either sign")
        negative = wide.smin < 0
        left = negative == (instruction.op.code == "add")
        before, after = (self._limit(instruction, p, left=left) for p in (pointer, result))
        return (negative, number.value is not None, pointer.target), abs(before - after)

    def _limit(self, instruction: Instruction, p: Pointer, *, left: bool) -> int:
        if p.target is Target.STACK:
            if p.variable is not None:
                raise self._refusal(instruction, "its offset into the stack is not known")
            limit, most = -p.offset, STACK_SIZE + left
        elif p.target is Target.MAP_VALUE:
            limit, most = p.low if left else p.high, self.prover.maps[p.number].value_size
        else:
            raise self._refusal(instruction, f"there is no mask for {name_of(p)}")
        if not 0 <= limit < most:
            raise self._refusal(instruction, "it is beyond what it points into")
        return limit

    def _inside(self, instruction: Instruction, p: Pointer) -> None:
        """What was moved points to a byte of its target."""
        if p.target is Target.STACK:
            if p.variable is not None:
                raise self._refusal(instruction, "its offset into the stack is not known")
            low, end = -STACK_SIZE, 0
        elif p.target is Target.MAP_VALUE:
            low, end = 0, self.prover.maps[p.number].value_size
        else:
            return
        if p.low < low or p.high >= end:
            raise self._refusal(instruction, "the result is beyond what it points into")

    def _same(self, pc: int, instruction: Instruction, mask: Mask) -> None:
        if self._of.setdefault(pc, mask) != mask:
            raise self._refusal(instruction, "it comes from different maps, paths or numbers")

    @staticmethod
    def _refusal(instruction: Instruction, why: str) -> Refusal:
        return Refusal(
            "speculation", f"the arithmetic on r{instruction.dst} cannot be masked against speculation: {why}"
        )


def cut(values: Values, code: str, a: Value, b: Value, atom: Atom) -> tuple[Value, Value]:
    """The operands of an addition as a processor may have them: the number that moves a pointer, or the 0 of its mask."""
    if code not in _MASKED or isinstance(a, Pointer) == isinstance(b, Pointer):
        return a, b
    number = b if isinstance(a, Pointer) else a
    assert isinstance(number, Number)
    if number.value is not None:
        return a, b
    zero = values.numbers.constant(0)
    masked = values.number(values.numbers.join(number.scalar, zero), ((atom,), 0))
    return (a, masked) if isinstance(a, Pointer) else (masked, b)


def found_ahead(refusal: Refusal) -> Refusal:
    """The refusal of what no run does and a processor might."""
    ahead = Refusal(
        "speculation",
        f"where no run comes, but a processor may ahead of a branch: {refusal.message}",
        refusal.needed,
        refusal.known,
    )
    ahead.pc = refusal.pc
    return ahead
