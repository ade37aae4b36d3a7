"""The just-in-time compiler: from a verified program to machine code of this processor, by way of LLVM.

    VerifiedProgram --lower--> text of LLVM functions --driver--> with entry points --codegen--> Code
    NativeProgram.bind(maps) --> NativeInstance.run(packet), .run_batch(arrays)

Bytecode becomes LLVM functions in `lower`, with one file for arithmetic, for memory, for calls of helpers. `engine` alone talks to
llvmlite. The facts of the verifier are all that is used of it, and each is checked again where being wrong would reach the
host's memory.
"""

from __future__ import annotations

from pybpf.jit.codegen import Level, build
from pybpf.jit.driver import EXPORTS
from pybpf.jit.lower import moves_packet
from pybpf.jit.native import NativeInstance, NativeProgram
from pybpf.jit.options import DEFAULT, Options
from pybpf.jit.source import ProgramSource
from pybpf.jit.tiers import compile_tiered
from pybpf.verifier.facts import VerifiedProgram

__all__ = ["Level", "NativeInstance", "NativeProgram", "Options", "compile", "compile_tiered"]


def compile(
    verified: VerifiedProgram, level: Level = Level.FULL, options: Options = DEFAULT
) -> NativeProgram:
    """Compile a verified program for this machine.

    Raises `UnsupportedError` for what pybpf has no native code for (helpers without a body, kernel functions),
    `InternalError` where LLVM refuses what was generated.
    """
    code = build(ProgramSource(verified, options), EXPORTS, level)
    return NativeProgram(
        verified.program, verified.type, code, options, moves=moves_packet(verified.type, verified.facts)
    )
