"""The container: sections, symbols and relocations of an ELF64 relocatable file.

Header and section table are checked before anything else is read: every size lies inside the file and no two sections share a
byte, so that no later step can take more time or memory than the file is long. The tables are arrays of fixed records, so
they are read here; the ELF library, which takes longer to import than most objects to verify, only reads other files
(`image_section`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pybpf.errors import ElfError
from pybpf.instruction import ByteOrder

if TYPE_CHECKING:
    from pathlib import Path

_HEADER_SIZE: Final = 64
_SECTION_SIZE: Final = 64
_SYMBOL_SIZE: Final = 24
_MACHINES: Final = (0, 247)  # EM_NONE, EM_BPF
_ET_REL: Final = 1
_LONGEST_NAME: Final = 4096
_ALL_NAMES: Final = 1 << 26
_UNDEFINED: Final = 0
_RESERVED: Final = 0xFF00  # section indices from here on are not sections

PROGBITS, SYMTAB, STRTAB, RELA, NOBITS, REL = 1, 2, 3, 4, 8, 9
_RELOCATIONS: Final = {REL: "QQ", RELA: "QQq"}  # offset, symbol and type, addend
_SYMBOL: Final = "IBBHQQ"  # name, kind and binding, visibility, section, value, size
_LOCAL: Final = 0
_VISIBLE: Final = (0, 3)  # STV_DEFAULT, STV_PROTECTED
_FUNCTION_SYMBOL: Final = 2  # STT_FUNC
_PLACES: Final = (3, 4)  # STT_SECTION, STT_FILE: they name no definition
_WRITE, _ALLOC, _EXECUTE, _COMPRESSED = 1, 2, 4, 0x800


@dataclass(frozen=True, slots=True)
class Section:
    """A row of the section table. `offset` and `size` are bytes in the file; a NOBITS section has none there."""

    index: int
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    entry_size: int

    @property
    def executable(self) -> bool:
        """It holds code."""
        return self.type == PROGBITS and bool(self.flags & _EXECUTE)

    @property
    def loaded(self) -> bool:
        """It holds data that a program may refer to."""
        return self.type in (PROGBITS, NOBITS) and bool(self.flags & _ALLOC) and not self.flags & _EXECUTE

    @property
    def writable(self) -> bool:
        """A program may write it."""
        return bool(self.flags & _WRITE)

    @property
    def compressed(self) -> bool:
        """Its bytes are compressed, as debug information may be."""
        return bool(self.flags & _COMPRESSED)


class Symbol(NamedTuple):
    """A symbol. `kind` is ELF's number (STT_...), `section` an index, None for undefined and absolute symbols; `value` and
    `size` are bytes.
    """

    name: str
    kind: int
    section: int | None
    value: int
    size: int
    is_global: bool

    @property
    def is_function(self) -> bool:
        """The compiler marked it as a function."""
        return self.kind == _FUNCTION_SYMBOL

    @property
    def is_definition(self) -> bool:
        """It names something that the source defines."""
        return self.section is not None and self.kind not in _PLACES and bool(self.name)


class Relocation(NamedTuple):
    """An entry of a relocation section: `offset` in bytes into the section that it changes.

    The addend, in bytes, stands in the bytes to be changed (None), unless the entry has its own (SHT_RELA).
    """

    offset: int
    type: int
    symbol: Symbol
    addend: int | None = None


class ElfFile:
    """A checked file. Raises `ElfError` for one that cannot be read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.byteorder: ByteOrder = _byteorder(data)
        self._order = "<" if self.byteorder == "little" else ">"
        self.sections = tuple(self._read_sections())
        self._check_sizes()
        self._check_overlaps()

    def data(self, section: Section) -> bytes:
        """The bytes of a section; a NOBITS section has none."""
        if section.type == NOBITS:
            return b""
        if section.compressed:
            raise ElfError("it is compressed", section.name)
        return self._data[section.offset : section.offset + section.size]

    def section(self, name: str) -> Section | None:
        """The first section of a name."""
        return next((section for section in self.sections if section.name == name), None)

    @cached_property
    def symbols(self) -> tuple[Symbol, ...]:
        """The symbol table, empty where the file has none."""
        tables = [section for section in self.sections if section.type == SYMTAB]
        if not tables:
            return ()
        if len(tables) > 1:
            raise ElfError("more than one symbol table", tables[1].name)
        return tuple(self._read_symbols(tables[0]))

    @cached_property
    def has_definitions(self) -> bool:
        """A symbol stands for something in the file, if only for a section; without any, nothing is relocated either."""
        return any(symbol.section is not None for symbol in self.symbols)

    def symbols_in(self, section: Section) -> list[Symbol]:
        """What the source defines in a section, by place; of two symbols at one place, the first of the table."""
        return self._definitions.get(section.index, [])

    @cached_property
    def _definitions(self) -> dict[int, list[Symbol]]:
        places: dict[tuple[int, int], Symbol] = {}
        for symbol in self.symbols:
            if symbol.section is not None and symbol.is_definition:
                places.setdefault((symbol.section, symbol.value), symbol)
        by_section: dict[int, list[Symbol]] = {}
        for (section, _), symbol in sorted(places.items(), key=lambda item: item[0]):
            by_section.setdefault(section, []).append(symbol)
        return by_section

    def relocations(self, section: Section) -> list[Relocation]:
        """What the linker is asked to change in a section."""
        relocations = []
        for table in self._relocation_tables.get(section.index, ()):
            for offset, type, symbol, addend in self._entries(table):
                if symbol >= len(self.symbols):
                    raise ElfError(f"bad symbol index {symbol}", table.name)
                if offset >= section.size:
                    raise ElfError(f"bad relocation offset {offset}", table.name)
                relocations.append(Relocation(offset, type, self.symbols[symbol], addend))
        return relocations

    @cached_property
    def _relocation_tables(self) -> dict[int, list[Section]]:
        tables: dict[int, list[Section]] = {}
        for section in self.sections:
            if section.type in (REL, RELA):
                tables.setdefault(section.info, []).append(section)
        return tables

    def _read_sections(self) -> Iterator[Section]:
        (start,) = struct.unpack_from(self._order + "Q", self._data, 40)
        entry_size, count, names_index = struct.unpack_from(self._order + "HHH", self._data, 58)
        if not start or not count:
            raise ElfError("text section not found: the file has no section table")
        if entry_size != _SECTION_SIZE or start + count * _SECTION_SIZE > len(self._data):
            raise ElfError(
                f"bad section header offset or size: {count} headers of {entry_size} bytes at {start} "
                f"in a file of {len(self._data)} bytes"
            )
        if names_index >= count:
            raise ElfError(f"bad string table section index {names_index}")
        rows = list(
            struct.iter_unpack(self._order + "IIQQQQIIQQ", self._data[start : start + count * _SECTION_SIZE])
        )
        names = _Names(self._slice(rows[names_index][4], rows[names_index][5], f"section {names_index}"))
        for index, (name, type, flags, _, offset, size, link, info, _, entry) in enumerate(rows):
            yield Section(index, names.at(name, index), type, flags, offset, size, link, info, entry)

    def _slice(self, offset: int, size: int, what: str) -> bytes:
        if offset + size > len(self._data):
            raise ElfError(
                f"{what}: bad section offset or size: it ends at byte {offset + size} "
                f"of a file of {len(self._data)} bytes"
            )
        return self._data[offset : offset + size]

    def _check_sizes(self) -> None:
        for section in self.sections:
            if section.type not in (0, NOBITS):
                self._slice(section.offset, section.size, f"section {section.name!r}")
            if section.compressed and section.flags & _ALLOC:
                raise ElfError("a section that is loaded cannot be compressed", section.name)

    def _check_overlaps(self) -> None:
        """No byte belongs to two sections: otherwise a small file could ask for the work of a large one."""
        stored = [s for s in self.sections if s.type not in (0, NOBITS) and s.size]
        stored.sort(key=lambda section: section.offset)
        for before, after in pairwise(stored):
            if before.offset + before.size > after.offset:
                raise ElfError(f"it overlaps section {after.name!r}", before.name)

    def _read_symbols(self, table: Section) -> Iterator[Symbol]:
        if table.entry_size != _SYMBOL_SIZE or table.size % _SYMBOL_SIZE:
            raise ElfError(
                f"bad symbol table: {table.size} bytes in entries of {table.entry_size}", table.name
            )
        if table.link >= len(self.sections) or self.sections[table.link].type != STRTAB:
            raise ElfError(f"bad string table section index {table.link}", table.name)
        strings = self.sections[table.link]
        names = _Names(self.data(strings), strings.name)
        if names.longest * table.size // _SYMBOL_SIZE > _ALL_NAMES:
            raise ElfError("its symbols have too long names", table.name)
        for name, info, other, index, value, size in struct.iter_unpack(
            self._order + _SYMBOL, self.data(table)
        ):
            if name >= max(strings.size, 1):
                raise ElfError(f"bad symbol name offset {name}", table.name)
            text = names.at(name)
            section = None if index == _UNDEFINED or index >= _RESERVED else index
            if section is not None and section >= len(self.sections):
                raise ElfError(f"bad section index {section} of symbol {text!r}", table.name)
            is_global = info >> 4 != _LOCAL and other & 3 in _VISIBLE
            yield Symbol(text, info & 15, section, value, size, is_global)

    def _entries(self, table: Section) -> Iterator[tuple[int, int, int, int | None]]:
        """The entries of a relocation table: offset, type, symbol, and the addend where entries have one."""
        if table.link >= len(self.sections) or self.sections[table.link].type != SYMTAB:
            raise ElfError(f"bad symbol table section index {table.link}", table.name)
        layout = struct.Struct(self._order + _RELOCATIONS[table.type])
        if table.entry_size != layout.size or table.size % layout.size:
            raise ElfError(
                f"bad relocation table: {table.size} bytes in entries of {table.entry_size}", table.name
            )
        for offset, info, *addend in layout.iter_unpack(self.data(table)):
            yield offset, info & 0xFFFF_FFFF, info >> 32, addend[0] if addend else None


def read_file(path: str | Path) -> bytes:
    """All bytes of a file. Raises OSError as `open` does."""
    with open(path, "rb") as stream:
        return stream.read()


def image_section(data: bytes, name: str) -> bytes:
    """The bytes of a section of any ELF file, a kernel's image for example. Raises `ElfError` where there is none."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        section: Any = ELFFile(BytesIO(data)).get_section_by_name(name)
        if section is None:
            raise ElfError(f"the file has no section {name!r}")
        contents: bytes = section.data()
    except ELFError as error:
        raise ElfError(str(error), name) from error
    return contents


def _byteorder(data: bytes) -> ByteOrder:
    """Check the header. The reasons are worded as Oko's loader words them."""
    if not data:
        raise ElfError("not enough data for ELF header: the file is empty")
    if data[:4] != b"\x7fELF"[: len(data)]:
        from pybpf.elf import others

        begins = f"the file begins with {data[:4].hex(' ')}, not with 7f 45 4c 46"
        raise ElfError(f"wrong magic: {begins}{others.of_beginning(data)}")
    if len(data) < _HEADER_SIZE:
        raise ElfError(f"not enough data for ELF header: {len(data)} of {_HEADER_SIZE} bytes")
    if data[4] != 2:
        raise ElfError("wrong class, expected 64 bits")
    if data[5] not in (1, 2):
        raise ElfError(f"wrong byte order {data[5]}, expected 1 (little) or 2 (big)")
    byteorder: ByteOrder = "little" if data[5] == 1 else "big"
    type, machine, version = struct.unpack_from("<HHI" if data[5] == 1 else ">HHI", data, 16)
    if data[6] != 1 or version != 1:
        raise ElfError("wrong version, expected 1")
    if machine not in _MACHINES:
        from pybpf.elf import others

        hint = others.of_machine(machine)
        raise ElfError(f"wrong machine {machine}, expected none or EM_BPF{hint}")
    if type != _ET_REL:
        raise ElfError(f"wrong type {type}, expected relocatable")
    return byteorder


class _Names:
    """A string table whose strings all end, and are no longer than names are."""

    def __init__(self, table: bytes, section: str | None = None) -> None:
        if table and table[-1]:
            raise ElfError("bad string table: its last string does not end", section)
        self.longest = max(map(len, table.split(b"\0")))
        if self.longest > _LONGEST_NAME:
            raise ElfError(f"bad string table: a name is longer than {_LONGEST_NAME} bytes", section)
        self._table = table

    def at(self, offset: int, section: int = 0) -> str:
        """The name at an offset. Raises `ElfError`, blaming section number `section`."""
        if offset >= len(self._table):
            if not offset:
                return ""
            raise ElfError(f"bad name offset {offset} of section {section}")
        return self._table[offset : self._table.index(b"\0", offset)].decode("utf-8", "replace")
