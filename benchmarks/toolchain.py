"""C compilers: a program in C becomes bytecode, or native code with a loop around it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

from pybpf import Program, load

ROOT: Final = Path(__file__).parents[1]
SOURCES: Final = ROOT / "benchmarks/c"
_INCLUDE: Final = ("-I.", "-Iexamples/include", "-Ibenchmarks/c")


_LOADED: Final = count()


class Missing(Exception):
    """A competitor that cannot take part here, and why."""


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C compiler with its options; `name` is how results call it."""

    command: str
    options: tuple[str, ...]

    @property
    def name(self) -> str:
        """Command and options."""
        return " ".join((self.command, *self.options))


CLANG: Final = "clang-22"
COMPILERS: Final = tuple(
    Compiler(command, options)
    for command in ("gcc", CLANG)
    for options in (("-O2",), ("-O3", "-march=native"))
)


def bytecode(source: Path, work: Path, *options: str, cpu: str = "v3") -> Program:
    """The one program of a C file, compiled as the examples are. Raises `Missing`."""
    target = work / f"{source.stem}-{'-'.join(options)}-{cpu}.o"
    where = str(source.relative_to(ROOT))
    _run(
        CLANG,
        "-target",
        "bpfel",
        "-O2",
        "-g",
        f"-mcpu={cpu}",
        *_INCLUDE,
        *options,
        "-c",
        where,
        "-o",
        str(target),
    )
    (program,) = load(target).programs.values()
    return program


def shared_object(compiler: Compiler, source: Path, work: Path, *options: str) -> ctypes.CDLL:
    """A filter in C as native code, with the functions of loops.c. Raises `Missing`."""
    target = work / f"{source.stem}-{abs(hash((compiler, options)))}.so"
    named = (f'-DSOURCE="{source.relative_to(ROOT)}"', f"-DNAME={source.stem}")
    files = ("benchmarks/c/loops.c", "benchmarks/c/maps.c")
    flags = ("-shared", "-fPIC", "-fno-semantic-interposition", "-w")
    if not target.exists():
        _run(
            compiler.command,
            *compiler.options,
            *flags,
            *named,
            *options,
            *_INCLUDE,
            *files,
            "-o",
            str(target),
        )
    # Each with variables of its own: what is loaded twice under one name is one.
    own = target.with_suffix(f".{next(_LOADED)}.so")
    shutil.copyfile(target, own)
    return ctypes.CDLL(str(own))


def harness(source: str, work: Path, flags: Sequence[str]) -> ctypes.CDLL:
    """A C file of this folder as a shared object. Raises `Missing`."""
    target = work / f"{source}.so"
    _run("gcc", "-O2", "-shared", "-fPIC", "-w", f"benchmarks/c/{source}.c", *flags, "-o", str(target))
    return ctypes.CDLL(str(target))


def output(*command: str) -> str:
    """What a command prints. Raises `Missing`."""
    return _run(*command)


def _run(*command: str) -> str:
    if shutil.which(command[0]) is None:
        raise Missing(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise Missing(f"{command[0]}: {lines[0] if lines else 'failed'}")
    return done.stdout
