"""From an object file to an image: bytes that need nothing but a place in memory and the addresses of a few functions.

    object file --link--> Image (kept in the cache, loaded as often as one likes)

Sections lie one behind the other and every reference between them is settled, since it counts distances. Each function of the
process (memcpy, ...) has a slot of 16 bytes at the end: a jump through the address in its upper half, which the loader fills in. Formats: the
System V ABI, chapters 4 and 5, and its AMD64 supplement, section 4.4. What else an object file can hold is refused, and the linker of
LLVM takes it (`pybpf.jit.engine`).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

SLOT: Final = 16
"""Bytes of the slot of a function of the process; its address fills the upper half."""

_JUMP: Final = bytes.fromhex("ff2502000000") + bytes(2)  # jmp *2(%rip)


class NotFlat(Exception):
    """An object file holds something that an image cannot: the reason is the message."""


@dataclass(frozen=True, slots=True)
class Image:
    """Code and constants, where its functions begin, and the functions of the process that it calls, slot after slot."""

    data: bytes
    exports: dict[str, int]
    imports: tuple[str, ...]

    @property
    def slots(self) -> int:
        """Where the first slot lies."""
        return len(self.data) - SLOT * len(self.imports)

    def to_bytes(self) -> bytes:
        """One line of JSON, then the data."""
        head = {"exports": self.exports, "imports": self.imports}
        return json.dumps(head).encode() + b"\n" + self.data

    @classmethod
    def from_bytes(cls, data: bytes) -> Image:
        """The image that `to_bytes` wrote."""
        line, _, rest = data.partition(b"\n")
        head = json.loads(line)
        return cls(rest, head["exports"], tuple(head["imports"]))


def link(object_file: bytes, exports: Sequence[str]) -> Image:
    """The image of an object file for x86-64. Raises `NotFlat` where it is for another machine or holds what code here never needs."""
    return _Link(_Object(object_file)).image(exports)


class _Section(NamedTuple):
    """A row of the section header table."""

    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class _Symbol(NamedTuple):
    """A row of the symbol table, with the name read."""

    name: str
    section: int
    value: int


_PROGBITS, _SYMTAB, _RELA = 1, 2, 4
_UNWIND = 0x7000_0001  # nothing here unwinds: no exception passes through native code
_WRITE, _ALLOC = 1, 2
_ABSOLUTE = 0xFF00  # section numbers from here on are no sections

# R_X86_64_*: 4-byte distances to the symbol, to its slot's jump, to its slot's address.
_PC32, _PLT32, _GOTPCREL, _GOTPCRELX, _REX_GOTPCRELX = 2, 4, 9, 41, 42
_THROUGH_ADDRESS: Final = frozenset((_GOTPCREL, _GOTPCRELX, _REX_GOTPCRELX))


class _Object:
    """An object file, as far as LLVM's for x86-64 need reading."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        machine = struct.unpack_from("<H", data, 18)[0]
        if data[:6] != b"\x7fELF\x02\x01" or machine != 62:
            raise NotFlat("not an object file for x86-64")
        start, size, count = (
            struct.unpack_from("<Q", data, 40)[0],
            *struct.unpack_from("<HH", data, 58),
        )
        self.sections = [
            _Section._make(struct.unpack_from("<IIQQQQIIQQ", data, start + size * i)) for i in range(count)
        ]
        self.symbols = list(self._read_symbols())

    def content(self, section: _Section) -> bytes:
        return self.data[section.offset : section.offset + section.size]

    def _read_symbols(self) -> Iterator[_Symbol]:
        for table in self.sections:
            if table.type == _SYMTAB:
                names = self.content(self.sections[table.link])
                for name, _, _, section, value, _ in struct.iter_unpack("<IBBHQQ", self.content(table)):
                    yield _Symbol(names[name : names.index(b"\0", name)].decode(), section, value)


class _Link:
    """An object file being laid out."""

    def __init__(self, file: _Object) -> None:
        self.file = file
        self.data = bytearray()
        self.starts: dict[int, int] = {}
        self.imports: dict[str, int] = {}

    def image(self, exports: Sequence[str]) -> Image:
        relocations = [section for section in self.file.sections if section.type == _RELA]
        for number, section in enumerate(self.file.sections):
            if section.flags & _ALLOC and section.size and section.type != _UNWIND:
                self._place(number, section)
        self._align(SLOT)
        for relocated in relocations:
            if relocated.info in self.starts:
                for place, info, addend in struct.iter_unpack("<QQq", self.file.content(relocated)):
                    self._settle(self.starts[relocated.info] + place, info, addend)
        found = {
            symbol.name: self.starts[symbol.section] + symbol.value
            for symbol in self.file.symbols
            if symbol.name in exports and symbol.section in self.starts
        }
        if missing := set(exports) - set(found):
            raise NotFlat(f"no function {', '.join(sorted(missing))}")
        return Image(bytes(self.data), found, tuple(self.imports))

    def _place(self, number: int, section: _Section) -> None:
        if section.type != _PROGBITS or section.flags & _WRITE or section.alignment > 4096:
            raise NotFlat(f"a section of type {section.type} with flags {section.flags:#x}")
        self._align(section.alignment)
        self.starts[number] = len(self.data)
        self.data += self.file.content(section)

    def _align(self, alignment: int) -> None:
        self.data += bytes(-len(self.data) % max(alignment, 1))

    def _settle(self, place: int, info: int, addend: int) -> None:
        """Write the distance that a relocation asks for."""
        symbol, kind = self.file.symbols[info >> 32], info & 0xFFFF_FFFF
        through_address = kind in _THROUGH_ADDRESS
        if not through_address and kind not in (_PC32, _PLT32):
            raise NotFlat(f"a relocation of type {kind}")
        if symbol.section in self.starts:
            if through_address:
                raise NotFlat("an address of the code's own")
            target = self.starts[symbol.section] + symbol.value
        elif symbol.section == 0 and symbol.name:
            target = self._slot(symbol.name) + (8 if through_address else 0)
        else:
            raise NotFlat(f"symbol {symbol.name!r} in section {symbol.section}")
        struct.pack_into("<i", self.data, place, target + addend - place)

    def _slot(self, name: str) -> int:
        slot = self.imports.get(name)
        if slot is None:
            slot = self.imports[name] = len(self.data)
            self.data += _JUMP + bytes(8)
        return slot
