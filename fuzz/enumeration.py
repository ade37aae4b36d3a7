"""Every path of a program by itself: no pruning, no joins, no liveness, no widening, no order.

The verifier's exploration (`pybpf.verifier.explore`) keeps few states per block. What it accepts must also be accepted path by
path, instruction by instruction, where there are few enough paths. Only what an instruction does to one state is shared
(`pybpf.verifier.transfer`); which states there are is found out here anew.
"""

from __future__ import annotations

from typing import Final

from pybpf import Program, ProgramType, RefKind
from pybpf.isa import Kind
from pybpf.verifier.branches import Branches
from pybpf.verifier.cfg import build
from pybpf.verifier.explain import Refusal
from pybpf.verifier.recorder import Recorder
from pybpf.verifier.state import State
from pybpf.verifier.transfer import Transfer
from pybpf.verifier.values import Values

LIMIT: Final = 4000
"""Instructions on all paths together: what has more is not small."""


class Differs(AssertionError):
    """The exploration accepts a program of which one path is refused."""


class TooMany(Exception):
    """The program has too many paths, or too long ones, or helpers that call its functions: how often, nobody knows."""


def refused(program: Program, type_: ProgramType, limit: int = LIMIT) -> Refusal | None:
    """The refusal of some path of a program whose structure is sound, None if every path is accepted. Raises `TooMany`."""
    if any(reference.kind is RefKind.FUNCTION for reference in program.references.values()):
        raise TooMany
    try:
        _Paths(program, type_, limit).walk()
    except Refusal as refusal:
        return refusal
    return None


_Calls = tuple[tuple[int, int], ...]
"""The calls under way, outermost first: the slot of each, and the function that it entered."""


class _Paths:
    def __init__(self, program: Program, type_: ProgramType, limit: int) -> None:
        self.code = program.code
        self.recorder = Recorder()
        values = Values(leaks=type_.policy.pointer_leaks, byteorder=program.byteorder)
        again = build(program).executed_again
        self.transfer = Transfer(program, type_, values, self.recorder, again)
        self.branches = Branches(self.transfer)
        self.left = limit
        self._waiting: list[tuple[_Calls, int, State]] = []

    def walk(self) -> None:
        """All paths, the latest branch first. Raises the `Refusal` of the first that is refused."""
        self._waiting.append(((), 0, self.transfer.entry()))
        while self._waiting:
            calls, pc, state = self._waiting.pop()
            self.left -= 1
            if self.left < 0:
                raise TooMany
            self.recorder.functions = (0, *(entered for _, entered in calls))
            try:
                self._step(calls, pc, state)
            except Refusal as refusal:
                refusal.pc = pc
                raise

    def _step(self, calls: _Calls, pc: int, state: State) -> None:
        instruction = self.code[pc]
        following = pc + instruction.slots
        match instruction.op.kind:
            case Kind.BRANCH:
                for taken, after in self.branches.sides(state, pc, instruction):
                    self._waiting.append((calls, instruction.target(pc) if taken else following, after))
            case Kind.JUMP:
                self._waiting.append((calls, instruction.target(pc), state))
            case Kind.CALL_LOCAL:
                target = instruction.target(pc)
                self.transfer.enter_function(state, pc, target)
                self._waiting.append(((*calls, (pc, target)), target, state))
            case Kind.CALL_REGISTER:
                entered = self.transfer.call_register(state, pc, instruction.dst)
                if entered is None:
                    self._waiting.append((calls, following, state))
                else:
                    self._waiting.append(((*calls, (pc, entered)), entered, state))
            case Kind.EXIT if calls:
                self.transfer.leave_function(state)
                call, _ = calls[-1]
                self._waiting.append((calls[:-1], call + self.code[call].slots, state))
            case Kind.EXIT:
                self.transfer.check_result(state)
            case _:
                self.transfer.step(pc)(state)
                self._waiting.append((calls, following, state))
