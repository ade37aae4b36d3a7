"""The text of one LLVM function, as it is written.

A value is a 64-bit register of the program: a Python number where it is known here, else the name of an SSA value. The
folding of constants keeps the text short and, what matters more, leaves every constant stack slot a constant, so that
LLVM's first pass can turn the stack into registers.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Final

from pybpf.jit.state import ADDRESS, SITE, TrapCode, site
from pybpf.semantics import U64, signed

Value = int | str
"""A 64-bit value: a number, or the name of an SSA value of type i64."""

RESULT: Final = "{ i64, i1 }"
"""What a function of the program returns: r0, and whether the whole run is over."""

_LIKELY: Final = "!prof !0"
_NUMBERS: Final[Mapping[str, Callable[[int, int], bool]]] = {
    "eq": operator.eq, "ule": operator.le, "uge": operator.ge,
}  # fmt: skip

METADATA: Final = """!0 = !{!"branch_weights", i32 2000000, i32 1}
!1 = !{}
!2 = !{!"branch_weights", i32 1, i32 2000000}
!3 = distinct !{!3, !4}
!4 = !{!"llvm.loop.unroll.count", i32 4}
"""
"""What the text of every module needs: a guard's first target is taken; an empty node; the second is taken; a loop around others."""


def text(value: Value, width: int = 64) -> str:
    """An operand of `width` bits; a name must be of that width already.

    >>> text(2**64 - 1), text(0xFFFF_FFFF, 32), text("%v1")
    ('-1', '-1', '%v1')
    """
    return str(signed(value, width)) if isinstance(value, int) else value


class Builder:
    """Appends instructions to a function; `label` is the block that they go to, ``entry`` the first.

    A function that only looks ahead simply `leaves`, without a result, where another would trap or end the run.
    """

    def __init__(self, *, leaves: bool = False) -> None:
        self._leaves = leaves
        self.lines: list[str] = []
        self.label = "entry"
        self._entry: dict[str, str] = {}
        self._names = 0
        self._narrow: dict[str, str] = {}
        self._traps: list[tuple[str, int, Value]] = []
        self._halts = False

    def name(self) -> str:
        """A name that nothing has yet, without its sigil."""
        self._names += 1
        return f"v{self._names}"

    def do(self, instruction: str) -> None:
        """Append an instruction that has no result."""
        self.lines.append("  " + instruction)

    def value(self, instruction: str) -> str:
        """Append an instruction and name its result."""
        name = "%" + self.name()
        self.lines.append(f"  {name} = {instruction}")
        return name

    def block(self, label: str) -> None:
        """Begin a block. The one before it must have been closed with a terminator."""
        self.lines.append(label + ":")
        self.label = label

    def prologue(self, name: str, instruction: str) -> str:
        """Let the function's first block compute `name`, once for all who ask."""
        self._entry.setdefault(name, f"  {name} = {instruction}")
        return name

    def state_pointer(self, name: str, offset: int) -> str:
        """A pointer that the run's state holds `offset` bytes from its start, and that does not change while code runs."""
        slot = self.prologue(f"{name}.slot", f"getelementptr inbounds i8, ptr %state, i64 {offset}")
        return self.prologue(name, f"load ptr, ptr {slot}, align 8, !invariant.load !1")

    def body(self) -> str:
        """The function's blocks, complete."""
        self._close_traps()
        if self._halts:
            self.lines += ["halt:", "  ret void" if self._leaves else f"  ret {RESULT} {{ i64 0, i1 true }}"]
        return "\n".join(["entry:", *self._entry.values(), *self.lines])

    # Values.

    def narrow(self, value: Value) -> str:
        """The lower 32 bits as an operand of type i32."""
        if isinstance(value, int):
            return text(value, 32)
        # A truncation is not remembered: it may stand in a block that does not dominate the next use.
        return self._narrow.get(value) or self.value(f"trunc i64 {value} to i32")

    def widen(self, value: str) -> str:
        """An i32 zero-extended; the narrow form is remembered, for the next 32-bit instruction to read."""
        wide = self.value(f"zext i32 {value} to i64")
        self._narrow[wide] = value
        return wide

    def add(self, value: Value, constant: int) -> Value:
        """The sum with a constant, modulo 2**64."""
        if isinstance(value, int):
            return value + constant & U64
        return value if constant == 0 else self.value(f"add i64 {value}, {constant}")

    def subtract(self, left: Value, right: Value) -> Value:
        """The difference of two numbers of which the first is not less."""
        if isinstance(left, int) and isinstance(right, int):
            return left - right & U64
        return self.value(f"sub nuw i64 {text(left)}, {text(right)}")

    def mask(self, value: Value, mask: int) -> Value:
        """The bits of a value that a constant has too."""
        return value & mask if isinstance(value, int) else self.value(f"and i64 {value}, {mask}")

    def compare(self, predicate: str, left: Value, right: Value) -> str | bool:
        """Whether two numbers are in a relation of ``icmp`` (``eq``, ``ule`` or ``uge``): known here, or an i1."""
        if isinstance(left, int) and isinstance(right, int):
            return _NUMBERS[predicate](left, right)
        return self.value(f"icmp {predicate} i64 {text(left)}, {text(right)}")

    def pointer(self, base: str, offset: Value) -> str:
        """A pointer `offset` bytes behind another, both inside one object."""
        return (
            base if offset == 0 else self.value(f"getelementptr inbounds i8, ptr {base}, i64 {text(offset)}")
        )

    # Control flow.

    def guard(self, condition: str | bool, code: TrapCode, pc: int, address: Value = 0) -> None:
        """Go on where the condition holds, trap where it does not."""
        if condition is True:
            return
        onward, trap = self.name(), self.trap_edge(code, pc, address)
        self.do(f"br i1 {str(condition).lower()}, label %{onward}, label %{trap}, {_LIKELY}")
        self.block(onward)

    def trap_edge(self, code: TrapCode, pc: int, address: Value = 0) -> str:
        """The label to branch to, once, from this block where the run is to trap."""
        self._traps.append((self.label, site(code, pc), address))
        return "trap"

    def trap(self, code: TrapCode, pc: int, address: Value = 0) -> None:
        """End the block, and the run, in a trap."""
        self.do(f"br label %{self.trap_edge(code, pc, address)}")

    def refuse(self, code: TrapCode, pc: int, address: Value = 0) -> Value:
        """Trap where a value is wanted: what is written next is never reached, and this is its value."""
        self.trap(code, pc, address)
        self.block(self.name())
        return "poison"

    def switch(
        self,
        value: str,
        cases: Mapping[int, Callable[[], Value]],
        code: TrapCode,
        pc: int,
        address: Value,
        type_: str = "i64",
    ) -> Value:
        """Do what the case of a value asks for, trap where there is none; the results of all cases meet in one."""
        labels = {case: self.name() for case in cases}
        join = self.name()
        targets = " ".join(f"i64 {case}, label %{label}" for case, label in labels.items())
        self.do(f"switch i64 {value}, label %{self.trap_edge(code, pc, address)} [ {targets} ]")
        results = []
        for case, write in cases.items():
            self.block(labels[case])
            results.append(f"[ {text(write())}, %{self.label} ]")
            self.do(f"br label %{join}")
        self.block(join)
        return self.value(f"phi {type_} {', '.join(results)}")

    def halt_if(self, condition: str) -> None:
        """End the whole run where an i1 is true, with r0 = 0 unless it has trapped; go on where it is not."""
        onward, self._halts = self.name(), True
        self.do(f"br i1 {condition}, label %halt, label %{onward}")
        self.block(onward)

    def _close_traps(self) -> None:
        """Append the block that all traps end in: it leaves site and address in the run's state and returns."""
        if not self._traps:
            return
        traps, self._traps = self._traps, []
        self.block("trap")
        if self._leaves:
            self.do("ret void")
            return
        where = self.value("phi i64 " + ", ".join(f"[ {at}, %{label} ]" for label, at, _ in traps))
        address = self.value("phi i64 " + ", ".join(f"[ {text(to)}, %{label} ]" for label, _, to in traps))
        self.do(f"store i64 {where}, ptr {self.pointer('%state', SITE)}")
        self.do(f"store i64 {address}, ptr {self.pointer('%state', ADDRESS)}")
        self.do(f"ret {RESULT} {{ i64 0, i1 true }}")
