"""Verified programs as object files that a C program links: no Python, no LLVM and no verifier is there when they run.

    VerifiedProgram --lower--> text --interface--> + the functions that C calls --engine--> object file; header

The code is that of the JIT, with the same checks; `header` writes what C needs to know of it, `interface` the functions around it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pybpf.ahead.header import header
from pybpf.ahead.interface import Interface, functions
from pybpf.errors import UnsupportedError
from pybpf.jit import Level, Options
from pybpf.jit.calls import native_name
from pybpf.jit.source import ProgramSource
from pybpf.runtime import check_runnable
from pybpf.verifier.facts import VerifiedProgram

__all__ = ["CompiledObject", "compile_object"]

Form = Literal["object", "assembly", "llvm"]


@dataclass(frozen=True, slots=True)
class CompiledObject:
    """A program for C: `code` in the form that was asked for, the text of the `header`, the `machine` that it is for, the names in `interface`."""

    code: bytes
    header: str
    machine: str
    interface: Interface


def compile_object(
    verified: VerifiedProgram,
    *,
    name: str | None = None,
    target: str | None = None,
    cpu: str = "generic",
    form: Form = "object",
    checks: bool = True,
    counts: bool = False,
) -> CompiledObject:
    """Compile a verified program ahead of time, as an object file and a C header.

    `name` is what the names of C begin with, the program's own unless it is given. `target` is the triple of a little-endian machine of 64 bits
    that LLVM knows (``aarch64-linux-gnu``, ``riscv64-linux-gnu``), this machine's unless it is given; `cpu` one of its processors: ``generic`` for all of
    them, ``native`` for the one at hand. `form` may be LLVM's or the machine's assembler text instead. `checks` are as in `instantiate`; with `counts` each run
    has a budget of instructions.

    Raises `UnsupportedError` for a program that pybpf has no native code for, a helper that is not machine code, or a target that pybpf does not
    compile for; `ArgumentError` for names that C cannot have.
    """
    program, type_ = verified.program, verified.type
    check_runnable(verified)
    for number in sorted(verified.facts.helpers):
        helper = type_.helpers[number]
        if not native_name(helper):
            message = f"helper {helper.name} is not machine code, and there is no Python where this will run"
            raise UnsupportedError(message, f"helper {helper.name}", program=program.name)
    options = Options(checks=checks, counts=counts)
    interface = Interface.of(verified, name if name is not None else program.name, options)
    text = functions(interface, ProgramSource(verified, options).text())
    from pybpf.jit import engine

    machine = engine.Machine(target, cpu)
    code = engine.emit_for(text, machine, Level.FULL, form)
    return CompiledObject(code, header(interface, machine.description), machine.description, interface)
