"""The loader: an ELF object as compilers write it becomes an `Object`.

    file        sections, symbols, relocations, checked
    maps        what is defined where (btf_maps: definitions in BTF)
    functions   instructions, and what their operands stand for
    link        an entry function and all that it calls become a program

What pybpf does not know makes only what uses it unsupported; a file that is damaged is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pybpf import program_types
from pybpf.btf import Btf, Ext
from pybpf.elf.file import ElfFile
from pybpf.elf.functions import Function, read_functions
from pybpf.elf.link import Place, link
from pybpf.elf.maps import read_maps, unique
from pybpf.elf.sections import program_type
from pybpf.errors import ElfError
from pybpf.program import Object, Program
from pybpf.program_types import LINUX_MAPS, ProgramType

__all__ = ["load"]


def load(source: str | Path | bytes, type: str | ProgramType | None = None) -> Object:
    """Read an ELF object: a path, or the bytes of one.

    The programs are the functions of executable sections, by name: all but those in ``.text`` that others call, and all
    of ``.text`` where there is another section with code (libbpf's convention). A section without function symbols is one
    program of the section's name. `type` says what all programs are; otherwise the section's name does.

    Raises `ElfError` for a file that is damaged or no BPF object, `ArgumentError` for an unknown type, OSError as
    `open` does. Whatever else cannot be understood is told in `Object.notes`, and the programs that need it have a
    `Program.defect` or an unsupported reference.
    """
    if isinstance(type, str):
        program_types.get(type)
    path = Path(source) if isinstance(source, str | Path) else None
    data = path.read_bytes() if path else bytes(source)  # type: ignore[arg-type]
    notes: list[str] = []
    file = ElfFile(data)
    btf, ext = _read_btf(file, notes)
    types = {
        section.index: type or program_type(section.name) for section in file.sections if section.executable
    }
    maps = read_maps(file, btf, _map_numbers(types.values()))
    functions = read_functions(file, maps, ext, notes)
    license = _text(file, "license")
    programs: dict[str, Program] = {}
    for entry in _entries(functions):
        program = link(entry, functions, maps.by_name, types[entry.section.index], license)
        programs[unique(entry.name, programs)] = program
    return Object(
        programs, maps.by_name, license, _version(file), file.byteorder, path, btf, tuple(maps.notes + notes)
    )


def _read_btf(file: ElfFile, notes: list[str]) -> tuple[Btf | None, Ext | None]:
    """Damaged debug information is no reason to refuse a program."""
    btf = ext = None
    try:
        if section := file.section(".BTF"):
            btf = Btf.parse(file.data(section), file.byteorder)
        if btf and (section := file.section(".BTF.ext")):
            ext = Ext.parse(file.data(section), btf)
    except ElfError as error:
        notes.append(str(error))
    return btf, ext


def _map_numbers(types: Iterable[str | ProgramType | None]) -> Mapping[int, str]:
    """What the type numbers of 20-byte map definitions mean: as the first program type says that says anything."""
    for type in types:
        known = program_types.BY_NAME.get(type) if isinstance(type, str) else type
        if known is not None and known.map_numbers:
            return known.map_numbers
    return LINUX_MAPS


def _entries(functions: Mapping[Place, Function]) -> list[Function]:
    """The functions that are programs; functions that are only called are not."""
    called = {place for function in functions.values() for place in function.callees.values()}
    everywhere = list(functions.items())
    named = [(place, function) for place, function in everywhere if function.section.name != ".text"]
    if named:
        return [f for place, f in named if f.is_global or place not in called]
    return [f for place, f in everywhere if place not in called] or [f for _, f in everywhere]


def _text(file: ElfFile, name: str) -> str:
    section = file.section(name)
    return file.data(section).split(b"\0")[0].decode("utf-8", "replace") if section else ""


def _version(file: ElfFile) -> int | None:
    section = file.section("version")
    return int.from_bytes(file.data(section)[:4], file.byteorder) if section and section.size >= 4 else None
