"""The maps of an object: three ways to define one, and the data sections that become maps of one value.

    Oko     a struct of five 32-bit fields in a writable data section: type, key size, value size, entries, hash functions
    legacy  a struct of 16 bytes and more in a section "maps": type, key size, value size, entries, flags, ...
    BTF     a variable in section ".maps" whose type carries the parameters (see btf_maps.py)

Oko's type numbers are its own, the others' are Linux's.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pybpf.btf import Btf, Kind
from pybpf.elf.file import NOBITS, PROGBITS, ElfFile, Section, Symbol
from pybpf.errors import ElfError
from pybpf.program import MapSpec, Reference, RefKind
from pybpf.program_types import LINUX_MAPS

BTF_SECTION: Final = ".maps"
_OKO_SIZE: Final = 20
_MAX_VALUE: Final = (1 << 32) - 1
_OF_MAPS: Final = ("array_of_maps", "hash_of_maps")

# Bytes of a legacy definition -> the word that names the inner map of a map of maps: by its position among the object's
# definitions (the kernel's samples), or by the id that word 5 gives it (iproute2).
_INNER_INDEX: Final = {28: 5}
_INNER_ID: Final = {36: 7}


@dataclass
class Maps:
    """What stands where: definitions by section and byte offset, data sections by section.

    `unknown` says of a place why it is not understood: a reference to it is unsupported.
    """

    file: ElfFile
    btf: Btf | None
    by_name: dict[str, MapSpec] = field(default_factory=dict)
    definitions: dict[tuple[int, int], MapSpec] = field(default_factory=dict)
    data: dict[int, MapSpec] = field(default_factory=dict)
    unknown: dict[tuple[int, int], str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def define(self, section: int, offset: int, spec: MapSpec, problem: str | None = None) -> None:
        """Enter a definition; `problem` says why it cannot be used although it is there."""
        spec = replace(spec, name=unique(spec.name, self.by_name))
        self.by_name[spec.name] = spec
        self.definitions[section, offset] = spec
        if problem:
            self.unknown[section, offset] = f"map {spec.name!r}: {problem}"
            self.notes.append(self.unknown[section, offset])

    def at(self, section: int, offset: int) -> Reference:
        """What the address of a byte of a section refers to."""
        if problem := self.unknown.get((section, offset)):
            return Reference(RefKind.UNSUPPORTED, problem)
        if spec := self.definitions.get((section, offset)):
            return Reference(RefKind.MAP, spec.name)
        row = self.file.sections[section]
        if is_map_section(row.name):
            return Reference(
                RefKind.UNSUPPORTED, f"no map is defined at byte {offset} of section {row.name!r}"
            )
        if section not in self.data:
            if not row.loaded:
                return Reference(RefKind.UNSUPPORTED, f"an address in section {row.name!r}")
            self.add_data(row)
        spec = self.data[section]
        if offset > row.size:
            return Reference(
                RefKind.UNSUPPORTED, f"byte {offset} of section {row.name!r}, which has {row.size}"
            )
        if problem := self.unknown.get((section, -1)):
            return Reference(RefKind.UNSUPPORTED, problem)
        return Reference(RefKind.VALUE, spec.name, offset)

    def add_data(self, section: Section) -> None:
        """Make a data section a map of one value."""
        layout = self.btf.find(Kind.DATASEC, section.name) if self.btf else None
        initial, problem = None, None
        try:
            initial = self.file.data(section) if section.type != NOBITS else None
        except ElfError as error:
            problem = str(error)
        if section.size > _MAX_VALUE:
            problem = f"section {section.name!r}: {section.size} bytes are too large for a map"
        elif any(True for _ in self.file.relocations(section)):
            problem = f"section {section.name!r}: addresses in data are not filled in"
        spec = MapSpec(
            unique(section.name, self.by_name),
            "array",
            key_size=4,
            value_size=section.size,
            max_entries=1,
            initial=initial,
            read_only=not section.writable,
            value_type=layout.id if layout else None,
        )
        self.by_name[spec.name] = self.data[section.index] = spec
        if problem:
            self.unknown[section.index, -1] = problem
            self.notes.append(problem)


def unique(name: str, taken: Mapping[str, object]) -> str:
    """The name, or the name with a number where it is taken."""
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}#{number}", number + 1
    return candidate


def is_map_section(name: str) -> bool:
    """Only map definitions stand in it."""
    return name in ("maps", BTF_SECTION) or name.startswith("maps/")


def is_data_section(name: str) -> bool:
    """The compiler puts the program's variables into it."""
    return any(name == kind or name.startswith(kind + ".") for kind in (".data", ".bss", ".rodata"))


def read_maps(file: ElfFile, btf: Btf | None, numbers: Mapping[int, str]) -> Maps:
    """All maps of an object. `numbers` are the type numbers of 20-byte definitions (`ProgramType.map_numbers`)."""
    from pybpf.elf.btf_maps import read_btf_maps

    maps = Maps(file, btf)
    _read_legacy(maps, numbers)
    if numbers != LINUX_MAPS:
        _read_oko(maps, numbers)
    if section := file.section(BTF_SECTION):
        read_btf_maps(maps, section)
    for section in file.sections:
        if section.loaded and section.size and is_data_section(section.name):
            maps.add_data(section)
    return maps


@dataclass(frozen=True, slots=True)
class _Definition:
    """A legacy definition: its place and its 32-bit words."""

    section: int
    offset: int
    name: str
    words: tuple[int, ...]


def _read_legacy(maps: Maps, numbers: Mapping[int, str]) -> None:
    found: list[_Definition] = []
    for section in maps.file.sections:
        if section.type == PROGBITS and section.name != BTF_SECTION and is_map_section(section.name):
            found += _definitions(maps, section)
    for definition in found:
        _define(maps, definition, found, numbers)


def _definitions(maps: Maps, section: Section) -> list[_Definition]:
    """The definitions of a section: as many as it has symbols, all of one size."""
    symbols: dict[int, Symbol] = {}
    for symbol in maps.file.symbols:
        if symbol.section == section.index and symbol.is_definition:
            symbols.setdefault(symbol.value, symbol)
    if not symbols:
        if section.size:
            maps.notes.append(f"section {section.name!r}: no symbol says where its maps are")
        return []
    size = section.size // len(symbols)
    if section.size % len(symbols) or size < 16 or any(offset % size for offset in symbols):
        maps.notes.append(
            f"section {section.name!r}: {section.size} bytes do not hold {len(symbols)} definitions of one size"
        )
        return []
    data = maps.file.data(section)
    return [
        _Definition(
            section.index, offset, symbols[offset].name, _words(maps.file, data[offset : offset + size])
        )
        for offset in sorted(symbols)
        if offset < section.size
    ]


def _words(file: ElfFile, data: bytes) -> tuple[int, ...]:
    order = "<" if file.byteorder == "little" else ">"
    return struct.unpack_from(f"{order}{len(data) // 4}I", data)


def _define(
    maps: Maps, definition: _Definition, among: list[_Definition], numbers: Mapping[int, str]
) -> None:
    words, size = definition.words, 4 * len(definition.words)
    spec, problem = _spec(definition, numbers)
    if spec.type in _OF_MAPS:
        inner = None
        if word := _INNER_INDEX.get(size):
            inner = among[words[word]] if words[word] < len(among) else None
        elif word := _INNER_ID.get(size):
            inner = next(
                (other for other in among if len(other.words) == 9 and other.words[5] == words[word]), None
            )
        if inner is not None and inner is not definition:
            spec = replace(spec, inner=_spec(inner, numbers)[0])
    maps.define(definition.section, definition.offset, spec, problem)


def _spec(definition: _Definition, numbers: Mapping[int, str]) -> tuple[MapSpec, str | None]:
    words, size = definition.words, 4 * len(definition.words)
    oko = size == _OKO_SIZE and numbers != LINUX_MAPS
    type = (numbers if oko else LINUX_MAPS).get(words[0])
    flags = words[4] if len(words) > 4 and not oko else 0
    spec = MapSpec(definition.name, type or f"type {words[0]}", words[1], words[2], words[3], flags)
    return spec, None if type else f"unknown map type {words[0]}"


def _read_oko(maps: Maps, numbers: Mapping[int, str]) -> None:
    """Oko takes a definition from any writable section: a variable of 20 bytes that begins with one of its types."""
    for symbol in maps.file.symbols:
        section = maps.file.sections[symbol.section] if symbol.section is not None else None
        if section is None or not section.loaded or not section.writable or section.type != PROGBITS:
            continue
        if is_map_section(section.name) or symbol.size != _OKO_SIZE or not symbol.is_definition:
            continue
        data = maps.file.data(section)[symbol.value : symbol.value + _OKO_SIZE]
        if len(data) == _OKO_SIZE and (words := _words(maps.file, data))[0] in numbers:
            maps.define(section.index, symbol.value, *_spec(_Definition(0, 0, symbol.name, words), numbers))
