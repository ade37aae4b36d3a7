"""Maps defined by a struct of 32-bit words: Oko's and Linux's older form.

    Oko     type, key size, value size, entries, hash functions; 20 bytes in any writable data section
    Linux   type, key size, value size, entries, then flags and more where there is room; in a section "maps"

Oko's type numbers are its own. The parts of Linux's struct behind the flags differ between loaders (samples/bpf/bpf_load.h
of Linux, bpf_elf.h of iproute2); of them only the inner map of a map of maps matters here.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from pybpf.elf.file import PROGBITS, ElfFile, Section
from pybpf.elf.maps import BTF_SECTION, Maps, Place, is_map_section
from pybpf.program import MapSpec
from pybpf.program_types import LINUX_MAPS

_OKO_SIZE: Final = 20
_SMALLEST: Final = 16
_OF_MAPS: Final = ("array_of_maps", "hash_of_maps")
_FLAGS: Final = 4

# Bytes of a definition -> the word that names the inner map: by its position among all definitions (the kernel's samples),
# or by the id that its word 5 gives it (iproute2).
_INNER_INDEX: Final = {28: 5}
_INNER_ID: Final = {36: 7}
_ID: Final = 5
_PINNING: Final = 6
_PLACES: Final = {0: "", 1: "object", 2: "global"}  # PIN_NONE, PIN_OBJECT_NS, PIN_GLOBAL_NS


class _Definition(NamedTuple):
    """A definition: its place and its words."""

    place: Place
    name: str
    words: tuple[int, ...]

    @property
    def size(self) -> int:
        return 4 * len(self.words)


def read_legacy_maps(maps: Maps, numbers: Mapping[int, str]) -> None:
    """Enter the maps of every section ``maps`` or ``maps/...``. `numbers` are the type numbers of 20-byte definitions."""
    found: list[_Definition] = []
    for section in maps.file.sections:
        if section.type == PROGBITS and section.name != BTF_SECTION and is_map_section(section.name):
            found += _definitions(maps, section)
    by_id = {
        definition.words[_ID]: definition for definition in reversed(found) if definition.size in _INNER_ID
    }
    for definition in found:
        spec, problem = _spec(definition, numbers)
        inner = _inner(definition, found, by_id) if spec.type in _OF_MAPS else None
        if definition.size in _INNER_ID:
            pinning = definition.words[_PINNING]
            spec = replace(spec, pinning=_PLACES.get(pinning, str(pinning)))
        if inner:
            spec = replace(spec, inner=_spec(inner, numbers)[0])
        maps.define(definition.place, spec, problem)


def read_oko_maps(maps: Maps, numbers: Mapping[int, str]) -> None:
    """Enter the variables of 20 bytes in other writable sections that begin with a type of `numbers`."""
    for section in maps.file.sections:
        if (
            section.type != PROGBITS
            or not section.loaded
            or not section.writable
            or is_map_section(section.name)
        ):
            continue
        data = maps.file.data(section)
        for symbol in maps.file.symbols_in(section):
            words = _words(maps.file, data[symbol.value : symbol.value + _OKO_SIZE])
            if symbol.size == _OKO_SIZE == 4 * len(words) and words[0] in numbers:
                definition = _Definition((section.index, symbol.value), symbol.name, words)
                maps.define(definition.place, *_spec(definition, numbers))


def _definitions(maps: Maps, section: Section) -> list[_Definition]:
    """The definitions of a section: one for each symbol, as long as the symbol says or up to the next one."""
    symbols = maps.file.symbols_in(section)
    if section.size and not symbols:
        maps.notes.append(f"section {section.name!r}: no symbol says where its maps are")
    data = maps.file.data(section)
    definitions = []
    for symbol, end in zip(symbols, [*(s.value for s in symbols), section.size][1:], strict=False):
        own = data[symbol.value : min(symbol.value + (symbol.size or section.size), end)]
        place = (section.index, symbol.value)
        if len(own) < _SMALLEST:
            maps.define(place, MapSpec(symbol.name, LINUX_MAPS[0]), f"{len(own)} bytes are no definition")
        else:
            definitions.append(_Definition(place, symbol.name, _words(maps.file, own)))
    return definitions


def _words(file: ElfFile, data: bytes) -> tuple[int, ...]:
    order = "<" if file.byteorder == "little" else ">"
    return struct.unpack_from(f"{order}{len(data) // 4}I", data)


def _inner(
    definition: _Definition, among: list[_Definition], by_id: Mapping[int, _Definition]
) -> _Definition | None:
    inner = None
    if word := _INNER_INDEX.get(definition.size):
        index = definition.words[word]
        inner = among[index] if index < len(among) else None
    elif word := _INNER_ID.get(definition.size):
        inner = by_id.get(definition.words[word])
    return inner if inner is not definition else None


def _spec(definition: _Definition, numbers: Mapping[int, str]) -> tuple[MapSpec, str | None]:
    """The map and, where its type is unknown, why it cannot be used."""
    words = definition.words
    oko = definition.size == _OKO_SIZE and numbers != LINUX_MAPS
    type = (numbers if oko else LINUX_MAPS).get(words[0])
    flags = words[_FLAGS] if len(words) > _FLAGS and not oko else 0
    spec = MapSpec(definition.name, type or f"type {words[0]}", words[1], words[2], words[3], flags)
    return spec, None if type else f"unknown map type {words[0]}"
