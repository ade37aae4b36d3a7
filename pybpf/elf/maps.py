"""The maps of an object: where each is defined, and the data sections that become maps of one value.

    Oko     a struct of five 32-bit fields in a writable data section (legacy_maps.py)
    legacy  a struct of 16 bytes and more in a section "maps" (legacy_maps.py)
    BTF     a variable in section ".maps" whose type carries the parameters (btf_maps.py)

What cannot be understood is kept with the reason, for whatever refers to it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Final

from pybpf.btf import Btf, Kind
from pybpf.elf.file import NOBITS, ElfFile, Section
from pybpf.program import MapSpec, Reference, RefKind

BTF_SECTION: Final = ".maps"
_MAX_VALUE: Final = (1 << 32) - 1
_WHOLE: Final = -1  # in place of an offset: any byte of the section

Place = tuple[int, int]
"""Section index and byte offset."""


class Namer:
    """Gives names, with a number behind those that were given before."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def __call__(self, name: str) -> str:
        """The name, or ``name#2``, ``name#3``, ... where it is taken."""
        given = name
        while given in self._next:
            self._next[name] += 1
            given = f"{name}#{self._next[name]}"
        self._next[given] = 1
        return given


@dataclass
class Maps:
    """What stands where: `definitions` by place, `data` by section.

    `unknown` says why a place is not understood: a reference to it is unsupported.
    """

    file: ElfFile
    btf: Btf | None
    by_name: dict[str, MapSpec] = field(default_factory=dict)
    definitions: dict[Place, MapSpec] = field(default_factory=dict)
    data: dict[int, MapSpec] = field(default_factory=dict)
    unknown: dict[Place, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _addresses: dict[int, list[int]] = field(default_factory=dict)
    _name: Namer = field(default_factory=Namer)

    def define(self, place: Place, spec: MapSpec, problem: str | None = None) -> None:
        """Enter a definition; `problem` says why it cannot be used although it is there."""
        inner = replace(spec.inner, btf=self.btf) if spec.inner else None
        spec = replace(spec, name=self._name(spec.name), inner=inner, btf=self.btf)
        self.by_name[spec.name] = self.definitions[place] = spec
        if problem:
            self._doubt(place, f"map {spec.name!r}: {problem}")

    def at(self, section: Section, offset: int) -> Reference:
        """What the address of a byte of a section refers to."""
        place = (section.index, offset)
        if problem := self.unknown.get(place):
            return _unsupported(problem, "map")
        if spec := self.definitions.get(place):
            return Reference(RefKind.MAP, spec.name)
        if is_map_section(section.name):
            return _unsupported(f"section {section.name!r}: no map at byte {offset}", "map")
        if not section.loaded or not 0 <= offset <= section.size:
            return _unsupported(f"section {section.name!r}: address of byte {offset}", "relocation")
        if section.index not in self.data:
            self.add_data(section)
        if problem := self.unknown.get((section.index, _WHOLE)):
            return _unsupported(problem, "map")
        if self._holds_addresses(section, offset):
            name = f"section {section.name!r}: addresses in data, from byte {offset}, are not filled in"
            return _unsupported(name, "data-relocation")
        return Reference(RefKind.VALUE, self.data[section.index].name, offset)

    def add_data(self, section: Section) -> None:
        """Make a data section a map of one value."""
        layout = self.btf.find(Kind.DATASEC, section.name) if self.btf else None
        spec = MapSpec(
            self._name(section.name),
            "array",
            key_size=4,
            value_size=section.size,
            max_entries=1,
            initial=self.file.data(section) if section.type != NOBITS else None,
            read_only=not section.writable,
            value_type=layout.id if layout else None,
            btf=self.btf,
        )
        self.by_name[spec.name] = self.data[section.index] = spec
        self._addresses[section.index] = sorted(r.offset for r in self.file.relocations(section))
        if section.size > _MAX_VALUE:
            problem = f"section {section.name!r}: {section.size} bytes are no map's value"
            self._doubt((section.index, _WHOLE), problem)

    def _holds_addresses(self, section: Section, offset: int) -> bool:
        """Whether the linker should fill an address into the variable at an offset."""
        addresses = self._addresses[section.index]
        if not addresses:
            return False
        symbols = self.file.symbols_in(section)
        index = bisect_right(symbols, offset, key=attrgetter("value"))
        start = symbols[index - 1].value if index else offset
        end = symbols[index].value if index < len(symbols) else section.size
        return bisect_left(addresses, start) < bisect_left(addresses, end)

    def _doubt(self, place: Place, problem: str) -> None:
        self.unknown[place] = problem
        self.notes.append(problem)


def _unsupported(what: str, feature: str) -> Reference:
    return Reference(RefKind.UNSUPPORTED, what, feature=feature)


def is_map_section(name: str) -> bool:
    """Only map definitions stand in it."""
    return name in ("maps", BTF_SECTION) or name.startswith("maps/")


def is_data_section(name: str) -> bool:
    """The compiler puts the program's variables into it."""
    return any(name == kind or name.startswith(kind + ".") for kind in (".data", ".bss", ".rodata"))
