"""From a failed proof to words: what was needed, what is known, how the program got there, what to try.

`Refusal` is what the rooms of the verifier raise; `explain` turns it into the error that a user sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pybpf.errors import VerifierError
from pybpf.program import Program, SourceLine


class Refusal(Exception):
    """An obligation that could not be proved. `reason` is the stable identifier, `message` one line without the place.

    `needed` and `known` say the same in two halves where that helps. `pc` is filled in by the walk.
    """

    def __init__(self, reason: str, message: str, needed: str = "", known: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.needed = needed
        self.known = known
        self.pc: int | None = None


class StructureError(Exception):
    """A structural rule broken at `pc`, with the stable `reason`."""

    def __init__(self, reason: str, message: str, pc: int | None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.pc = pc


HINTS: Final[dict[str, str]] = {
    "packet-bounds": "compare the length (or data_end) with the end of this access first, and leave if it is shorter",
    "packet-write": "this program type may only read packets: keep what you learn in a map",
    "maybe-null": "test the pointer, such as the result of a lookup, against 0 before using it",
    "uninitialised-register": "write the register on every path that leads here; r1 to r5 do not survive a call",
    "uninitialised-stack": "initialise the whole variable, its padding too: = {} or memset",
    "stack-bounds": "the frame is 512 bytes, from r10 - 512 to r10 - 1",
    "map-value-bounds": "bound the index first, for example with if (i >= N) or i &= N - 1",
    "back-edge": "this program type forbids loops: unroll it (#pragma unroll) or bound it by hand",
    "infinite-loop": "a state repeats: make sure that the counter changes on every path through the loop",
    "unknown-callee": "choose between calls, not between what one call calls, or keep the paths apart up to the call",
    "helper-argument": "see the helper's contract in docs/reference/helpers.md",
    "pointer-leak": "an address would leave the program as a number; the policy of this program type forbids that",
    "unbounded-offset": "bound the number first: compare it with a constant or mask it",
    "alignment": "this policy wants natural alignment: read byte by byte, or copy with memcpy",
}
"""Reason -> what usually helps."""


@dataclass(frozen=True, slots=True)
class Step:
    """One block on the way to the failure: its first slot, and what the registers held there."""

    pc: int
    source: SourceLine | None
    registers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The story of a rejection. `definite` says that no two paths were joined on the way, so this path itself fails."""

    reason: str
    message: str
    needed: str = ""
    known: str = ""
    hint: str = ""
    path: tuple[Step, ...] = field(default=())
    registers: tuple[str, ...] = field(default=())
    definite: bool = True

    def __str__(self) -> str:
        lines = [self.message]
        lines += [f"  needed: {self.needed}"] if self.needed else []
        lines += [f"  known:  {self.known}"] if self.known else []
        if self.registers:
            lines += ["  registers:", *(f"    {text}" for text in self.registers)]
        if self.path:
            lines.append("  path:" if self.definite else "  path (some states on it were joined):")
            lines += [f"    pc {step.pc}{_place(step.source)}" for step in self.path]
        lines += [f"  try: {self.hint}"] if self.hint else []
        return "\n".join(lines)


def _place(source: SourceLine | None) -> str:
    if source is None:
        return ""
    text = source.text.strip()
    return f"  {source.file}:{source.line}" + (f"  {text}" if text else "")


def failure(
    program: Program,
    refusal: Refusal,
    *,
    path: Sequence[Step] = (),
    registers: Sequence[str] = (),
    definite: bool = True,
    explored: int = 0,
) -> VerifierError:
    """The error for a refusal, with its place in the source."""
    from pybpf.asm import format_instruction  # most programs are accepted

    pc = refusal.pc
    instruction = (
        format_instruction(program.code[pc], pc, program) if pc is not None and pc in program.code else ""
    )
    explanation = Explanation(
        refusal.reason,
        refusal.message,
        refusal.needed,
        refusal.known,
        HINTS.get(refusal.reason, ""),
        tuple(path),
        tuple(registers),
        definite,
    )
    return VerifierError(
        refusal.message,
        reason=refusal.reason,
        program=program.name,
        pc=pc,
        instruction=instruction,
        source=program.source(pc) if pc is not None else None,
        explanation=explanation,
        explored=explored,
    )
