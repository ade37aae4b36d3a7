"""A plugin of bpf_conformance, the public suite that asks a runtime what each instruction computes.

The runner starts a process per test, gives it a program and memory, and compares the number that it prints:

    pybpf-conformance [MEM] [--interpret | --jit] [--elf]

MEM is the memory, and standard input the program (with ``--elf`` an object), as bytes in hexadecimal with blanks between
them. r1 is the address of the memory, or 0 where there is none, and r2 its length. r0 is printed in hexadecimal. A program
that cannot be decoded, compiled or run to its end leads to a line on standard error and exit status 1.

The suite asks for what a machine does, not for what is safe to load: it divides by zero, shifts too far, has code that
nothing reaches. So no program is verified here; both engines check every access as they run.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pybpf.errors import ArgumentError, BpfError
from pybpf.helpers import Helper, Machine
from pybpf.program import Program
from pybpf.program_types import MEMORY, ProgramType
from pybpf.semantics import U64

BUDGET: Final = 1_000_000
"""Instructions that the interpreter runs before it calls a program endless. Native code counts none."""

_BYTE: Final = re.compile("[0-9a-fA-F]{1,2}")

USAGE: Final = "usage: pybpf conformance [MEM] [--interpret | --jit] [--elf] < PROGRAM"


def _gather_bytes(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    return int.from_bytes(register & 0xFF for register in (r1, r2, r3, r4, r5))


def _memfrob(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    machine.write(r1, bytes(byte ^ 42 for byte in machine.read(r1, r2)))
    return 0


def _no_op(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    return 0


def _square_root(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    return math.isqrt(r1)


def _compare_strings(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    while True:
        (a,), (b,) = machine.read(r1, 1), machine.read(r2, 1)
        if a != b or a == 0:
            return (a - b) & U64
        r1, r2 = r1 + 1, r2 + 1


def _first(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    return r1


HELPERS: Final[dict[int, Helper]] = {
    0: Helper("gather_bytes", "any any any any any -> num", _gather_bytes),
    1: Helper("memfrob", "any any -> num", _memfrob),
    2: Helper("no_op", "-> num", _no_op),
    3: Helper("sqrti", "any -> num", _square_root),
    4: Helper("strcmp", "any any -> num", _compare_strings),
    5: Helper("unwind", "any -> num", _first, frozenset({"unwind"})),
}
"""The functions that programs of the suite may call, by uBPF's numbers: the fifth ends the program where it returns 0."""

TYPE: Final = replace(MEMORY, name="conformance", helpers=HELPERS)
"""r1 is the memory, r2 its length."""

WITHOUT_MEMORY: Final = replace(TYPE, entry=())
"""Nothing is given: r1 and r2 are 0, as is every register that nothing was written to."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the command line says."""

    memory: bytes = b""
    jit: bool = False
    elf: bool = False


def parse(words: Sequence[str]) -> Arguments:
    """The arguments of the plugin. Raises `ArgumentError`."""
    arguments, memory = Arguments(), True
    for word in words:
        match word:
            case "--jit" | "--interpret":
                arguments = replace(arguments, jit=word == "--jit")
            case "--elf":
                arguments = replace(arguments, elf=True)
            case "":  # how the runner says that it has no options
                pass
            case _ if memory and not word.startswith("-"):
                arguments = replace(arguments, memory=_bytes(word, "MEM"))
            case _:
                raise ArgumentError(f"unexpected argument {word!r} ({USAGE})")
        memory = False
    return arguments


def _bytes(text: str, what: str) -> bytes:
    words = text.split()
    for word in words:
        if not _BYTE.fullmatch(word):
            raise ArgumentError(
                f"{what}: {word[:20]!r} is no byte in hexadecimal; bytes stand with blanks between them"
            )
    return bytes(int(word, 16) for word in words)


def run(arguments: Arguments, program: str) -> int:
    """r0 of a program given as text in hexadecimal. Raises `BpfError` where there is no result."""
    code = _bytes(program, "program")
    if not code:
        raise ArgumentError("program: standard input holds no bytes")
    if arguments.elf:
        return _execute(_from_elf(code), arguments)
    return _execute(Program.from_bytes(code, TYPE, name="program"), arguments)


def _from_elf(data: bytes) -> Program:
    """The program of an object, which is an XDP program or over plain memory."""
    from pybpf.elf import load

    programs = list(load(data).programs.values())
    if len(programs) != 1:
        raise ArgumentError(f"the object holds {len(programs)} programs, not one")
    (program,) = programs
    if program.defect is not None:
        raise program.defect
    return program if program.type is not None else replace(program, type=TYPE)


def _execute(program: Program, arguments: Arguments) -> int:
    from pybpf import program_types

    type_: ProgramType = program_types.get(program.type or TYPE)
    if type_ is TYPE and not arguments.memory:
        type_ = WITHOUT_MEMORY
    return (_native if arguments.jit else _interpreted)(program, type_, arguments.memory)


def _interpreted(program: Program, type_: ProgramType, memory: bytes) -> int:
    from pybpf.interpreter import Interpreter

    return Interpreter(program, type_, budget=BUDGET, strict=False).run(memory).value


def _native(program: Program, type_: ProgramType, memory: bytes) -> int:
    from pybpf.jit.unproved import compile_unproved
    from pybpf.maps import create

    native = compile_unproved(program, type_).bind([create(spec) for spec in program.maps])
    return native.run(bytearray(memory))


def main(words: Sequence[str] | None = None) -> int:
    """The plugin: its exit status. `words` default to the command line."""
    try:
        arguments = parse(sys.argv[1:] if words is None else words)
        value = run(arguments, sys.stdin.buffer.read().decode("ascii", "replace"))
    except BpfError as error:
        print(f"pybpf: {error}", file=sys.stderr)
        return 1
    print(f"{value:x}")
    return 0
