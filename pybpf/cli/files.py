"""What commands read: compiled objects, assembler text and bytecode, told apart by what they begin with and are called."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import basename, splitext
from typing import Final

import click

from pybpf.cli.status import Failure, Status, status_of
from pybpf.elf import load
from pybpf.errors import AssemblyError, BpfError, CaptureError
from pybpf.instruction import ByteOrder
from pybpf.program import Object, Program

ASSEMBLER: Final = ".bpf"
"""What assembler text is called."""
BYTECODE: Final = ".bin"
"""What bytecode without a container is called."""

_ELF_MAGIC: Final = b"\x7fELF"


def failure(place: str, error: Exception) -> Failure:
    """What an error at a place ends the command with."""
    match error:
        case Failure():
            return Failure(f"{place}: {error.message}", error.status, error.context)
        case AssemblyError():
            message = f"{place}:{error.line}:{error.column}: {error.detail}"
            return Failure(message, status_of(error), error.context)
        case CaptureError():  # names its file itself
            return Failure(str(error), status_of(error))
        case OSError():
            return Failure(f"{place}: {error.strerror or error}", status_of(error))
        case MemoryError():
            return Failure(f"{place}: does not fit in memory", Status.BAD_INPUT)
        case _:
            return Failure(f"{place}: {error}", status_of(error))


@contextmanager
def blaming(file: str) -> Iterator[None]:
    """Make what goes wrong the fault of a file. Errors of unexpected kinds pass."""
    try:
        yield
    except BrokenPipeError:
        raise
    except (Failure, BpfError, OSError, MemoryError) as error:
        raise failure(click.format_filename(file), error) from error


def read_bytes(file: str) -> bytes:
    """A file's bytes; ``-`` is standard input."""
    if file == "-":
        return sys.stdin.buffer.read()
    with open(file, "rb") as stream:
        return stream.read()


def write_bytes(file: str, data: bytes) -> None:
    """A file of these bytes, whole or as it was."""
    with blaming(file), click.open_file(file, "wb", atomic=True) as stream:
        stream.write(data)


def read_text(file: str) -> str:
    """A file of UTF-8 text; ``-`` is standard input."""
    try:
        return read_bytes(file).decode()
    except UnicodeDecodeError as error:
        raise Failure(f"no text: byte {error.start} is not UTF-8", Status.BAD_INPUT) from None


def read_object(
    file: str, type: str | None = None, btf: str | None = None, byteorder: ByteOrder | None = None
) -> Object:
    """The programs of a file: an ELF object, or one program as assembler text or bytecode.

    An object is relocated for a machine whose types are in the file `btf`, or for the running ``kernel``.
    `byteorder` is that of bytecode; the others say theirs, and it is an error to say it of them.
    """
    (name, suffix), types = splitext(basename(file)), None
    if btf is not None:
        from pybpf.elf.core import read_target

        with blaming(btf):
            types = read_target(btf)
    with blaming(file):
        if byteorder is not None and suffix != BYTECODE:
            raise Failure("--byteorder is for bytecode alone (NAME.bin): this says its own", Status.BAD_INPUT)
        if suffix == ASSEMBLER:
            from pybpf.asm import assemble

            program = assemble(read_text(file), type=type, name=name)
            maps = {spec.name: spec for spec in program.maps}
            return Object({program.name: program}, maps, program.license, byteorder=program.byteorder)
        data = read_bytes(file)
        if suffix == BYTECODE and not data.startswith(_ELF_MAGIC):
            program = Program.from_bytes(data, type=type, name=name, byteorder=byteorder or "little")
            return Object({program.name: program}, byteorder=program.byteorder)
        return load(data, type=type, btf=types)


def choose(file: str, object: Object, name: str | None) -> list[Program]:
    """The program of a name, or all programs of a file."""
    with blaming(file):
        if not object.programs:
            raise Failure("holds no program", Status.BAD_INPUT)
        if name is None:
            return list(object.programs.values())
        if name not in object.programs:
            import difflib

            near = difflib.get_close_matches(name, object.programs, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it holds {_names(object)}"
            raise Failure(f"no program {name!r}: {hint}", Status.BAD_INPUT)
        return [object.programs[name]]


def choose_one(file: str, object: Object, name: str | None) -> Program:
    """The program of a name, or the only one of a file."""
    programs = choose(file, object, name)
    with blaming(file):
        if len(programs) > 1:
            raise Failure(f"holds {len(programs)} programs, name one: {_names(object)}", Status.BAD_INPUT)
    return programs[0]


def _names(object: Object) -> str:
    return ", ".join(object.programs)
