"""The loader: an ELF object as compilers write it becomes an `Object`.

    file        sections, symbols and relocations, checked
    types       what the programs of each section are
    maps        what is defined where (legacy_maps, btf_maps: the forms of definitions)
    functions   instructions, and what their operands stand for (core: CO-RE relocations; prototypes: of global functions)
    link        an entry function and all that it calls become a program

What pybpf does not know makes only what uses it unsupported; a file that is damaged is refused as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from pybpf import program_types
from pybpf.btf import Btf, Ext
from pybpf.elf.btf_maps import read_btf_maps
from pybpf.elf.file import ElfFile, Section, read_file
from pybpf.elf.functions import Function, read_functions
from pybpf.elf.legacy_maps import read_legacy_maps, read_oko_maps
from pybpf.elf.link import Linker, entries
from pybpf.elf.maps import BTF_SECTION, Maps, Namer, is_data_section
from pybpf.elf.types import type_of
from pybpf.errors import ArgumentError, ElfError
from pybpf.program import CO_RE, Object, RefKind
from pybpf.program_types import LINUX_MAPS, ProgramType

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["load"]

_COMPILER: Final = re.compile(rb"(?:^|\0)((?:[^\0]{0,80} )?clang version [^\0]{1,400}|GNU C[^\0]{1,400})")
_PLACES: Final = (3, 4)  # R_BPF_64_ABS32, R_BPF_64_NODYLD32: an offset of 32 bits


def load(
    source: str | Path | bytes,
    type: str | ProgramType | None = None,
    btf: str | Path | bytes | Btf | None = None,
) -> Object:
    """Read an ELF object: a path, or the bytes of one.

    The programs are the functions of executable sections, by name: all but those in ``.text`` that others call, and all
    of ``.text`` where there is another section with code (libbpf's convention). A section without function symbols is one
    program of the section's name. `type` says what all programs are; otherwise the section's name does.

    `btf` are the types of the machine that the programs are for, by which CO-RE relocations are applied: a file (of BTF, or
    an ELF file with a section of it) or ``"kernel"``, the running one's. Without them only programs that access nothing but
    structs of fixed layouts, their contexts for example, can be used.

    Raises `ElfError` for a file that is damaged or no BPF object, `ArgumentError` for an unknown type, OSError as
    `open` does. Whatever else cannot be understood is told in `Object.notes`, and the programs that need it have a
    `Program.defect` or an unsupported reference.
    """
    if isinstance(type, str):
        program_types.get(type)
    data = source if isinstance(source, bytes) else read_file(source)
    file = ElfFile(data)
    notes: list[str] = []
    target = None if btf is None else _target(btf, file)
    own_types, ext = _read_btf(file, notes)
    types = {
        section.index: type or type_of(file, section, own_types)
        for section in file.sections
        if section.executable
    }
    maps = _read_maps(file, own_types, _map_numbers(types.values()))
    functions = read_functions(file, maps, ext, target)
    notes += maps.notes
    notes += dict.fromkeys(note for function in functions.values() for note in _notes(function))
    linker, namer = Linker(functions, maps.by_name, _license(file), file.byteorder), Namer()
    programs = [
        linker.link(entry, namer(entry.name), types[entry.section.index]) for entry in entries(functions)
    ]
    return Object(
        {program.name: program for program in programs},
        maps.by_name,
        linker.license,
        _version(file),
        file.byteorder,
        None if isinstance(source, bytes) else _path(source),
        own_types,
        tuple(notes),
        _producer(file),
    )


def _path(source: str | Path) -> Path:
    from pathlib import Path  # half as long to import as a small object to load

    return Path(source)


def _target(source: str | Path | bytes | Btf, file: ElfFile) -> Btf:
    from pybpf.elf.core import read_target

    btf = read_target(source)
    if btf.byteorder != file.byteorder:
        raise ArgumentError(
            f"the types are of a {btf.byteorder}-endian machine, the object is {file.byteorder}-endian"
        )
    return btf


def _read_btf(file: ElfFile, notes: list[str]) -> tuple[Btf | None, Ext | None]:
    """Damaged debug information is no reason to refuse a program."""
    btf = ext = None
    try:
        if section := file.section(".BTF"):
            types = Btf.parse(_placed(file, section), file.byteorder)
            types.check()
            btf = types
        if btf and (section := file.section(".BTF.ext")):
            ext = Ext.parse(file.data(section), btf)
    except ElfError as error:
        notes.append(str(error))
    return btf, ext


def _placed(file: ElfFile, section: Section) -> bytes:
    """The types, with the places of variables in their sections, which compilers leave to the linker."""
    data = bytearray(file.data(section))
    for relocation in file.relocations(section):
        place = slice(relocation.offset, relocation.offset + 4)
        if relocation.type in _PLACES and place.stop <= len(data):
            addend = relocation.addend
            if addend is None:
                addend = int.from_bytes(data[place], file.byteorder)
            offset = addend + relocation.symbol.value
            data[place] = (offset & 0xFFFF_FFFF).to_bytes(4, file.byteorder)
    return bytes(data)


def _map_numbers(types: Iterable[str | ProgramType | None]) -> Mapping[int, str]:
    """What the type numbers of 20-byte map definitions mean: as the first program type says that says anything."""
    for type in types:
        known = program_types.BY_NAME.get(type) if isinstance(type, str) else type
        if known is not None and known.map_numbers:
            return known.map_numbers
    return LINUX_MAPS


def _read_maps(file: ElfFile, btf: Btf | None, numbers: Mapping[int, str]) -> Maps:
    maps = Maps(file, btf)
    read_legacy_maps(maps, numbers)
    if numbers != LINUX_MAPS:
        read_oko_maps(maps, numbers)
    if section := file.section(BTF_SECTION):
        read_btf_maps(maps, section)
    for section in file.sections:
        if section.loaded and section.size and is_data_section(section.name):
            maps.add_data(section)
        elif section.loaded and section.name.startswith(".struct_ops"):
            maps.notes.append(f"section {section.name!r}: maps of type struct_ops are not read")
    return maps


def _notes(function: Function) -> Iterator[str]:
    """What of a function cannot be used."""
    if function.defect:
        yield f"function {function.name!r}: {function.defect}"
    for reference in function.references.values():
        if reference.kind is RefKind.UNSUPPORTED and reference.feature != CO_RE:
            yield f"function {function.name!r}: {reference.name}"


def _license(file: ElfFile) -> str:
    section = file.section("license")
    return file.data(section).split(b"\0")[0].decode("utf-8", "replace") if section else ""


def _producer(file: ElfFile) -> str:
    """The compiler's name: what DWARF calls the producer, found among its strings without reading the rest."""
    for name in (".comment", ".debug_str"):
        section = file.section(name)
        if section and not section.compressed and (found := _COMPILER.search(file.data(section))):
            return found[1].decode("utf-8", "replace")
    return ""


def _version(file: ElfFile) -> int | None:
    section = file.section("version")
    return int.from_bytes(file.data(section)[:4], file.byteorder) if section and section.size >= 4 else None
