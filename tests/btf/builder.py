"""A ``.BTF`` section by hand: types are known by the id that adding them returned."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from pybpf.btf import Kind


@dataclass
class BtfBuilder:
    """Types and strings in the making."""

    byteorder: str = "little"
    records: bytearray = field(default_factory=bytearray)
    strings: bytearray = field(default_factory=lambda: bytearray(1))
    count: int = 0

    def string(self, text: str) -> int:
        """The offset of a string."""
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return len(self.strings) - len(text.encode()) - 1

    def pack(self, format: str, *values: int) -> bytes:
        """Numbers in the section's byte order."""
        return struct.pack(("<" if self.byteorder == "little" else ">") + format, *values)

    def add(
        self, kind: Kind, name: str = "", word: int = 0, *rest: int, vlen: int = 0, flag: bool = False
    ) -> int:
        """A type: `word` is its size or the type it refers to, `rest` what follows."""
        info = int(kind) << 24 | vlen | flag << 31
        self.records += self.pack("III", self.string(name), info, word)
        self.records += self.pack(f"{len(rest)}I", *(value & 0xFFFF_FFFF for value in rest))
        self.count += 1
        return self.count

    def int(self, name: str = "int", size: int = 4, encoding: int = 1) -> int:
        """An integer."""
        return self.add(Kind.INT, name, size, encoding << 24 | 8 * size)

    def struct(self, name: str, size: int, *members: tuple[str, int, int]) -> int:
        """A struct of (name, type, bit offset)."""
        words = [word for text, type, offset in members for word in (self.string(text), type, offset)]
        return self.add(Kind.STRUCT, name, size, *words, vlen=len(members))

    def number(self, value: int) -> int:
        """What ``__uint`` writes: a pointer to an array of that length."""
        element = self.int()
        return self.add(Kind.PTR, "", self.add(Kind.ARRAY, "", 0, element, element, value))

    def datasec(self, name: str, *variables: tuple[int, int, int]) -> int:
        """A section of (variable, offset, size)."""
        return self.add(
            Kind.DATASEC, name, 0, *(word for each in variables for word in each), vlen=len(variables)
        )

    def map(self, name: str, **members: int) -> int:
        """A variable of a struct type with those members; its id."""
        fields = [(member, type, 64 * index) for index, (member, type) in enumerate(members.items())]
        return self.add(Kind.VAR, name, self.struct("", 8 * len(fields), *fields), 1)

    def build(self) -> bytes:
        """The section."""
        header = self.pack(
            "HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self.records), len(self.records), len(self.strings)
        )
        return header + bytes(self.records + self.strings)
