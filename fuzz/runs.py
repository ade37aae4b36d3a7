"""Running verified programs in the interpreter, which checks everything, and telling when something is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from fuzz.case import CONTEXT, Case, clock
from pybpf import BudgetExceeded, ProgramType, Trap, VerifiedProgram
from pybpf.instruction import Instruction
from pybpf.interpreter import Execution, Interpreter
from pybpf.maps import BpfMap

FUEL: Final = 100_000
"""Instructions that a run may execute here, whatever was proved of it: longer runs are cut."""


class Unsafe(AssertionError):
    """A verified program that did what it was proved not to do."""


class Monitor(Protocol):
    """Looks on while a program runs."""

    def start(self) -> None:
        """A run begins."""

    def before(self, pc: int, instruction: Instruction, run: Execution) -> None:
        """An instruction is about to be executed."""


@dataclass(slots=True)
class Tally:
    """How much was run: `followed` runs are those that monitors looked at."""

    runs: int = 0
    followed: int = 0
    instructions: int = 0
    cut: int = 0


def context_bytes(type_: ProgramType) -> bytes | None:
    """The context of every run."""
    layout = type_.context
    if layout is None:
        return None
    buffer = bytearray(layout.size)
    for field in layout.fields:
        if field.name in CONTEXT:
            buffer[field.offset : field.offset + field.size] = CONTEXT[field.name].to_bytes(
                field.size, "little"
            )
    return bytes(buffer)


def run(
    case: Case,
    verified: VerifiedProgram,
    monitors: Sequence[Monitor] = (),
    maps: Sequence[BpfMap] | None = None,
) -> Tally:
    """Run a case: each packet once under the eyes of the monitors, and all of them again as they are run usually. Raises `Unsafe` for a trap, or for more instructions than were proved to suffice."""
    type_, facts = verified.type, verified.facts
    if not facts.zero_stack:
        # Nothing is read before it is written: then that must hold where it is not allowed.
        type_ = replace(type_, policy=replace(type_.policy, uninitialised_stack=False))
    bound = facts.max_instructions
    fuel = FUEL if bound is None else min(bound, FUEL)
    interpreter = Interpreter(
        verified.program, type_, case.make_maps() if maps is None else maps, clock=clock(), budget=fuel
    )

    def trace(pc: int, instruction: Instruction, execution: Execution) -> None:
        for monitor in monitors:
            monitor.before(pc, instruction, execution)

    tally = Tally()
    context = context_bytes(type_)
    for number, packet in enumerate((*case.packets, *case.packets)):
        followed = bool(monitors) and number < len(case.packets)
        for monitor in monitors:
            monitor.start()
        try:
            outcome = interpreter.run(packet, context, trace=trace if followed else None)
        except Trap as trap:
            raise Unsafe(f"a packet of {len(packet)} bytes traps: {trap}") from trap
        except BudgetExceeded as exceeded:
            if bound is not None and bound <= fuel:
                raise Unsafe(f"more than the proved {bound} instructions are executed") from exceeded
            _check_progress(interpreter, packet, context)
            tally.cut += 1
            break
        tally.runs += 1
        tally.followed += followed
        tally.instructions += outcome.executed
    return tally


def _check_progress(interpreter: Interpreter, packet: bytes, context: bytes | None) -> None:
    """A run that comes back to the very same state never ends. Raises `Unsafe`."""
    seen: set[tuple[object, ...]] = set()

    def remember(pc: int, instruction: Instruction, run: Execution) -> None:
        memory = (bytes(run.packet.buffer), *(bytes(map.memory) for map in interpreter.maps))
        frames = tuple((frame.return_pc, bytes(frame.memory), *frame.saved) for frame in run.stack.frames)
        state = (pc, *run.registers, frames, memory)
        if state in seen:
            raise Unsafe(f"pc {pc}: the run comes back to a state that it was in, so it never ends")
        if len(seen) < 4096:
            seen.add(state)

    if not any(helper in interpreter.type.helpers for helper in _clocks(interpreter)):
        try:
            interpreter.run(packet, context, trace=remember)
        except BudgetExceeded:
            return


def _clocks(interpreter: Interpreter) -> set[int]:
    """The helpers called whose results differ from call to call: states that look equal then are not."""
    called = {i.imm for i in interpreter.program.code.values() if i.op.code == "helper"}
    return {number for number in called if "get_ns" in interpreter.type.helpers[number].name}


__all__ = ["FUEL", "Monitor", "Tally", "Unsafe", "run"]
