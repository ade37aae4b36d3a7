"""Native code of a program of which nothing was proved, for runs over memory that the caller gives.

Native code checks every access whatever the verifier said (`pybpf.jit.access`), so an access that may go anywhere is a choice
between the regions of the run, made by the tag of its address. A program that leaves them traps, as does one that jumps out
of itself or nests calls too deep; registers that nothing was written to and fresh stack read as zero. What no check at run time
replaces is the proof of termination: an endless program runs for ever.
"""

from __future__ import annotations

from pybpf.errors import ArgumentError
from pybpf.instruction import Instruction
from pybpf.isa import MAX_REGISTER, Kind
from pybpf.jit.blocks import register_effect
from pybpf.jit.codegen import Level, build
from pybpf.jit.driver import EXPORTS
from pybpf.jit.lower import is_runnable, moves_packet
from pybpf.jit.native import NativeProgram
from pybpf.jit.source import ProgramSource
from pybpf.memory import STACK_SIZE, function_address
from pybpf.program import Program
from pybpf.program_types import ProgramType
from pybpf.verifier.facts import Access, Facts, RegionKind, VerifiedProgram

_CALLS = (Kind.CALL, Kind.CALL_LOCAL, Kind.CALL_REGISTER)


def compile_unproved(program: Program, type: ProgramType, level: Level = Level.QUICK) -> NativeProgram:
    """Compile a program that was not verified.

    Raises what `pybpf.jit.compile` raises, and `ArgumentError` for a program that has no instructions or writes to r10.
    """
    if not program.code:
        raise ArgumentError(f"program {program.name!r} has no instructions")
    for pc, instruction in program.code.items():
        if instruction.op.kind not in _CALLS and register_effect(instruction)[1] >> MAX_REGISTER & 1:
            raise ArgumentError(f"pc {pc}: write to r10: the frame pointer is read-only")
    unproved = VerifiedProgram(program, type, _nothing_proved(program, type))
    code = build(ProgramSource(unproved), EXPORTS, level)
    return NativeProgram(program, type, code, moves=moves_packet(type, unproved.facts))


def _nothing_proved(program: Program, type: ProgramType) -> Facts:
    """What holds of every program: an access may touch any region, and every instruction may be reached."""
    anywhere = (
        Access(RegionKind.STACK, -STACK_SIZE, 0, 0),
        Access(RegionKind.PACKET, 0, 0, 0),
        *(Access(RegionKind.MAP_VALUE, 0, 0, 0, map=number) for number in range(len(program.maps))),
    )

    def accesses(instruction: Instruction) -> tuple[Access, ...]:
        if type.context is None:
            return anywhere
        # Fields are found by offset: those of an access through the context's own address are what C compiles to.
        offset = instruction.offset
        return (*anywhere, Access(RegionKind.CONTEXT, offset, offset, instruction.op.size))

    functions = {entry for pc in program.code if (entry := program.function_at(pc)) is not None}
    callees = {number for number, helper in type.helpers.items() if is_runnable(helper)}
    callees |= {function_address(entry) for entry in functions}
    return Facts(
        accesses={
            pc: accesses(instruction) for pc, instruction in program.code.items() if instruction.op.size
        },
        arguments={
            pc: dict.fromkeys(range(1, 6), anywhere)
            for pc, instruction in program.code.items()
            if instruction.op.kind in (Kind.CALL, Kind.CALL_REGISTER)
        },
        reached=frozenset(program.code),
        stack_size=STACK_SIZE,
        zero_stack=True,
        helpers=frozenset(type.helpers),
        callees={
            pc: tuple(sorted(callees))
            for pc, instruction in program.code.items()
            if instruction.op.kind is Kind.CALL_REGISTER
        },
    )
