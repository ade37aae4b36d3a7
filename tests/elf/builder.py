"""Relocatable files by hand, where a compiler would not write what a test needs."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

PROGBITS, SYMTAB, STRTAB, RELA, NOBITS, REL = 1, 2, 3, 4, 8, 9
WRITE, ALLOC, EXECUTE, COMPRESSED = 1, 2, 4, 0x800
CODE, DATA = ALLOC | EXECUTE, ALLOC | WRITE
NOTYPE, OBJECT, FUNC, SECTION = range(4)
LOCAL, GLOBAL, WEAK = range(3)
UNDEFINED = 0
R_64_64, R_64_32 = 1, 10


def slots(*values: tuple[int, int, int, int], byteorder: str = "little") -> bytes:
    """Instructions by opcode, register byte (dst, and src in its upper half), offset and immediate."""
    if byteorder == "big":
        swapped = [(opcode, dst << 4 & 0xF0 | dst >> 4, offset, imm) for opcode, dst, offset, imm in values]
        return b"".join(struct.pack(">BBhi", *value) for value in swapped)
    return b"".join(struct.pack("<BBhi", *value) for value in values)


EXIT = slots((0x95, 0, 0, 0))
MOV = slots((0xB7, 0, 0, 1))
RETURN_2 = slots((0xB7, 0, 0, 2), (0x95, 0, 0, 0))
RETURN_2_BIG = slots((0xB7, 0, 0, 2), (0x95, 0, 0, 0), byteorder="big")


def call(imm: int = -1, src: int = 1) -> bytes:
    """A call as compilers write it before linking."""
    return slots((0x85, src << 4, 0, imm))


def load_address(dst: int = 1, imm: int = 0) -> bytes:
    """A wide load of a symbol's address before linking."""
    return slots((0x18, dst, 0, imm), (0, 0, 0, 0))


@dataclass
class Elf:
    """A file in the making. Sections and symbols are known by the index that adding them returned."""

    byteorder: str = "little"
    machine: int = 247
    sections: list[tuple[str, bytes | int, int, int, int, int, int]] = field(default_factory=list)
    symbols: list[tuple[str, int, int, int, int, int, int]] = field(default_factory=list)
    relocations: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)

    def section(
        self,
        name: str,
        data: bytes | int,
        flags: int = CODE,
        type: int = PROGBITS,
        link: int = 0,
        info: int = 0,
        entry: int = 0,
    ) -> int:
        """Add a section; `data` is its size where it is NOBITS."""
        self.sections.append((name, data, type, flags, link, info, entry))
        return len(self.sections)

    def symbol(
        self,
        name: str,
        section: int,
        value: int = 0,
        size: int = 0,
        kind: int = FUNC,
        bind: int = GLOBAL,
        other: int = 0,
    ) -> int:
        """Add a symbol."""
        self.symbols.append((name, section, value, size, kind, bind, other))
        return len(self.symbols)

    def relocate(self, section: int, offset: int, symbol: int, type: int = R_64_64) -> None:
        """Add a relocation of a section's byte offset."""
        self.relocations.setdefault(section, []).append((offset, type, symbol))

    def pack(self, format: str, *values: int) -> bytes:
        """Numbers in the file's byte order."""
        return struct.pack(("<" if self.byteorder == "little" else ">") + format, *values)

    def words(self, *values: int) -> bytes:
        """32-bit words in the file's byte order."""
        return self.pack(f"{len(values)}I", *values)

    def build(self, *, symtab: bool = True) -> bytes:
        """The file."""
        names = bytearray(b"\0")

        def name_at(name: str) -> int:
            if not name:
                return 0
            names.extend(name.encode() + b"\0")
            return len(names) - len(name.encode()) - 1

        rows = [(name_at(name), *rest) for name, *rest in self.sections]
        table = len(rows) + len(self.relocations) + 1
        for target, entries in self.relocations.items():
            data = b"".join(self.pack("QQ", offset, symbol << 32 | type) for offset, type, symbol in entries)
            rows.append((name_at(".rel" + self.sections[target - 1][0]), data, REL, 0, table, target, 16))
        symbols = bytes(24) + b"".join(
            self.pack("IBBHQQ", name_at(name), bind << 4 | kind, other, section, value, size)
            for name, section, value, size, kind, bind, other in self.symbols
        )
        if symtab:
            rows.append((name_at(".symtab"), symbols, SYMTAB, 0, table + 1, 1, 24))
        strtab = name_at(".strtab")
        rows.append((strtab, bytes(names), STRTAB, 0, 0, 0, 0))
        return self._file(rows)

    def _file(self, rows: list[tuple[int, bytes | int, int, int, int, int, int]]) -> bytes:
        body, headers = bytearray(64), bytearray(64)
        for name, data, type, flags, link, info, entry in rows:
            body.extend(bytes(-len(body) % 8))
            size = data if isinstance(data, int) else len(data)
            headers += self.pack("IIQQQQIIQQ", name, type, flags, 0, len(body), size, link, info, 8, entry)
            if not isinstance(data, int):
                body.extend(data)
        body.extend(bytes(-len(body) % 8))
        ident = b"\x7fELF\x02" + (b"\x01" if self.byteorder == "little" else b"\x02") + b"\x01" + bytes(9)
        body[:64] = ident + self.pack(
            "HHIQQQIHHHHHH", 1, self.machine, 1, 0, 0, len(body), 0, 64, 0, 0, 64, len(rows) + 1, len(rows)
        )
        return bytes(body + headers)
