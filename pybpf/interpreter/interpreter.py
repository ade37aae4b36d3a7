"""The reference engine, made ready for one program."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pybpf import program_types
from pybpf.errors import ArgumentError, BudgetExceeded, Trap
from pybpf.instruction import Instruction
from pybpf.interpreter.execution import HALT, Environment, Execution
from pybpf.interpreter.steps import Step, make_steps
from pybpf.program import MapSpec, Program
from pybpf.program_types import Clock, ProgramType
from pybpf.regions import Bytes, Fault

if TYPE_CHECKING:
    from pybpf.maps import BpfMap

_TURN: Final = 1 << 12
"""Instructions between two looks at the clock."""

Trace = Callable[[int, Instruction, Execution], None]
"""Called before each instruction: its pc, the instruction, the run (`registers`, `stack.frames`, `load`)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run: r0, how many instructions were executed, and the packet as the program left it."""

    value: int
    executed: int
    packet: bytes


class Interpreter:
    """A program made ready to run, verified or not, as often as one likes and from any thread.

    `type` defaults to the program's own; `maps` are the program's, in order (made anew when left out); `clock` defaults to
    the type's; `budget` bounds the instructions of one run and defaults to the type's policy; `seconds` the time of one. `strict` traps on a read of
    what was never written: registers, r1 to r5 after a call, and, unless the type's policy lets them be read, bytes of
    the stack; otherwise they read as zero. Raises `ArgumentError` where the arguments do not fit the program.

    >>> program = Program.from_bytes(bytes.fromhex("b7000000 07000000 95000000 00000000"))
    >>> Interpreter(program, "filter").run(b"any packet")
    Outcome(value=7, executed=2, packet=b'any packet')
    """

    def __init__(
        self,
        program: Program,
        type: str | ProgramType | None = None,
        maps: Sequence[BpfMap] | None = None,
        *,
        clock: Clock | None = None,
        budget: int | None = None,
        seconds: float | None = None,
        strict: bool = True,
    ) -> None:
        chosen = type if type is not None else program.type
        if chosen is None:
            raise ArgumentError(f"program {program.name!r} has no type: name one")
        self.program = program
        self.type = program_types.get(chosen)
        self.maps = tuple(_created(program.maps) if maps is None else maps)
        if len(self.maps) != len(program.maps):
            raise ArgumentError(
                f"program {program.name!r} has {len(program.maps)} maps, {len(self.maps)} are given"
            )
        self.budget = self.type.policy.max_instructions if budget is None else budget
        self.seconds = seconds
        self._environment = Environment(
            self.type, self.maps, clock or self.type.now, strict, program.byteorder
        )
        self._steps = make_steps(program, self._environment)

    def run(self, packet: Bytes, context: Bytes | None = None, *, trace: Trace | None = None) -> Outcome:
        """Run the program once.

        `packet` is copied where the type may write it. `context` holds the scalar fields of the type's context, laid out
        as `type.context` says; left out, they are zero; a writable buffer receives what the program writes. `trace` is
        called before each instruction with its pc, the instruction and the `Execution`. Raises `Trap`, `BudgetExceeded`,
        and `ArgumentError` for a context of the wrong size.
        """
        execution = Execution(self._environment, packet, context)
        steps = self._steps if trace is None else self._traced(trace)
        pc, executed = self._loop(execution, steps)
        if pc != HALT:
            raise Trap(f"no instruction here: {self._what_is_at(pc)}", pc)
        return Outcome(execution.registers[0] or 0, executed, execution.packet.contents())

    def _loop(self, execution: Execution, steps: Mapping[int, Step]) -> tuple[int, int]:
        """Run to a pc that has no step: that pc, and the number of instructions executed."""
        pc, done = 0, 0
        turn = self.budget if self.seconds is None else _TURN
        end = None if self.seconds is None else time.monotonic() + self.seconds
        try:
            while done < self.budget:
                if end is not None and time.monotonic() >= end:
                    message = (
                        f"still running after {done} instructions, when its {self.seconds:g} s were over"
                    )
                    raise BudgetExceeded(message, done, program=self.program.name, pc=pc)
                last = min(done + turn, self.budget)
                for executed in range(done, last):
                    step = steps.get(pc)
                    if step is None:
                        return pc, executed
                    pc = step(execution)
                done = last
        except Fault as fault:
            raise Trap(fault.message, pc, fault.address) from None
        if pc in steps:
            message = f"still running after {self.budget} instructions"
            raise BudgetExceeded(message, self.budget, program=self.program.name, pc=pc)
        return pc, self.budget

    def _what_is_at(self, pc: int) -> str:
        if pc - 1 in self.program.code and self.program.code[pc - 1].slots == 2:
            return "the second slot of a wide load"
        return f"the program is {self.program.size} slots long"

    def _traced(self, trace: Trace) -> dict[int, Step]:
        def traced(pc: int, step: Step) -> Step:
            instruction = self.program.code[pc]

            def traced_step(run: Execution) -> int:
                trace(pc, instruction, run)
                return step(run)

            return traced_step

        return {pc: traced(pc, step) for pc, step in self._steps.items()}


def _created(specs: Sequence[MapSpec]) -> Iterator[BpfMap]:
    if specs:
        from pybpf.maps import create  # a program without maps starts sooner

        yield from map(create, specs)
