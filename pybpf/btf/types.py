"""The types of a ``.BTF`` section (Linux, Documentation/bpf/btf.rst, section 2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from operator import attrgetter
from typing import Final, Literal

from pybpf.errors import ElfError

ByteOrder = Literal["little", "big"]

MAGIC: Final = 0xEB9F
POINTER_SIZE: Final = 8
"""Bytes of a pointer: BPF is a 64-bit machine."""


class Kind(IntEnum):
    """BTF_KIND_*, with the numbers of the format."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_KINDS: Final = tuple(Kind)

SIGNED: Final = 1
BOOL: Final = 4
"""Bits of an int's encoding."""

_SIZED: Final = frozenset(
    {Kind.INT, Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.DATASEC, Kind.FLOAT, Kind.ENUM64}
)
_QUALIFIERS: Final = frozenset({Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG})

# What follows the 12 bytes of a type, as struct formats: once, and once for each of its `vlen` members.
_ONCE: Final = {Kind.INT: "I", Kind.ARRAY: "III", Kind.VAR: "I", Kind.DECL_TAG: "i"}
_EACH: Final = {
    Kind.STRUCT: "III",
    Kind.UNION: "III",
    Kind.ENUM: "Ii",
    Kind.FUNC_PROTO: "II",
    Kind.DATASEC: "III",
    Kind.ENUM64: "III",
}


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a struct or union, a parameter, an enumerator, or a variable of a section.

    `type` is a type's id. `offset` counts bits in a struct or union and bytes in a section; `size` is the width of a
    bit-field in bits (0 for a plain member), or a variable's bytes. `value` is an enumerator's.
    """

    name: str
    type: int = 0
    offset: int = 0
    size: int = 0
    value: int = 0


@dataclass(frozen=True, slots=True)
class Type:
    """One type. `type` is the id of the type it refers to: a pointer's target, an array's element, a typedef's meaning,
    a function's prototype, a prototype's result, a variable's or tag's type; 0 is void.

    `size` is in bytes where the kind has one, and the number of elements of an array. `encoding` of an int has bits 1
    (signed), 2 (char) and 4 (bool); `bits` is its width. `linkage` of a function or variable is 0 static, 1 global,
    2 extern. `component` is the member or parameter that a declaration's tag belongs to, -1 for the declaration itself.
    `flag` says that a forward declaration is a union's, or that an enumeration is signed.
    """

    id: int
    kind: Kind
    name: str = ""
    type: int = 0
    size: int = 0
    members: tuple[Member, ...] = ()
    encoding: int = 0
    bits: int = 0
    linkage: int = 0
    component: int = -1
    flag: bool = False


class Strings(dict[int, str]):
    """The string table: offset -> string, each read once.

    Offsets may point into the middle of a string. What is read altogether is bounded, so that a long string cannot be
    asked for by thousands of names. Raises `ElfError` for an offset outside of the table.
    """

    def __init__(self, table: bytes) -> None:
        if table[:1] != b"\0" or table[-1:] != b"\0":
            raise ElfError("bad string table: it must begin and end with a zero byte", ".BTF")
        super().__init__()
        self._table = table
        self._allowed = 4 * len(table) + 4096

    def __missing__(self, offset: int) -> str:
        if not 0 <= offset < len(self._table):
            raise ElfError(f"string offset {offset} lies outside of the string table", ".BTF")
        text = self._table[offset : self._table.index(b"\0", offset)]
        self._allowed -= len(text)
        if self._allowed < 0:
            raise ElfError("bad string table: its strings overlap", ".BTF")
        self[offset] = text.decode("utf-8", "replace")
        return self[offset]


@dataclass(frozen=True)
class Btf:
    """The types of an object, by id. Id 0 is void. Make one with `Btf.parse`.

    Types are read when they are first asked for; the shape of the section was checked before.
    """

    data: bytes = field(repr=False)
    byteorder: ByteOrder
    strings: Strings = field(repr=False, compare=False)
    _records: bytes = field(repr=False, compare=False)
    _offsets: tuple[int, ...] = field(repr=False, compare=False)
    _read: dict[int, Type] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def parse(cls, data: bytes, byteorder: ByteOrder = "little") -> Btf:
        """Read a ``.BTF`` section. Raises `ElfError` where its records do not fit into it."""
        records, strings = _parts(data, byteorder)
        return cls(data, byteorder, Strings(strings), records, tuple(_record_offsets(records, byteorder)))

    def __len__(self) -> int:
        """How many ids there are, void among them."""
        return len(self._offsets) + 1

    def __iter__(self) -> Iterator[Type]:
        """Every type but void, by id."""
        return map(self.__getitem__, range(1, len(self)))

    def __getitem__(self, id: int) -> Type:
        """The type of an id. Raises `ElfError` for an id that does not exist, or a type that names a bad string."""
        found = self._read.get(id)
        if found is None:
            if not 0 <= id < len(self):
                raise ElfError(f"type id {id} does not exist", ".BTF")
            found = self._read[id] = self._parse_type(id) if id else Type(0, Kind.VOID, "void")
        return found

    def check(self) -> None:
        """Read every type. Raises `ElfError` where one has a bad name or refers to a type that does not exist."""
        for type_ in self:
            for id in (type_.type, *(member.type for member in type_.members)):
                if id >= len(self):
                    raise ElfError(f"type id {type_.id} refers to type id {id}, which does not exist", ".BTF")

    def names(self) -> Iterator[tuple[int, Kind, str]]:
        """Id, kind and name of every type but void, without reading the rest. Raises `ElfError` for a bad string."""
        head = struct.Struct("<II" if self.byteorder == "little" else ">II")
        for id, offset in enumerate(self._offsets, start=1):
            name, info = head.unpack_from(self._records, offset)
            yield id, _KINDS[info >> 24 & 31], self.strings[name]

    @cached_property
    def _ids(self) -> dict[tuple[Kind, str], int]:
        ids: dict[tuple[Kind, str], int] = {}
        for id, kind, name in self.names():
            if name:
                ids.setdefault((kind, name), id)
        return ids

    def find(self, kind: Kind, name: str) -> Type | None:
        """The first type of a kind and name."""
        id = self._ids.get((kind, name))
        return None if id is None else self[id]

    def variables(self, section: int) -> list[Member]:
        """The variables of a section of data by their place; none where the id is that of another type."""
        type_ = self[section]
        return sorted(type_.members, key=attrgetter("offset")) if type_.kind is Kind.DATASEC else []

    def resolve(self, id: int) -> Type:
        """The type behind typedefs, const, volatile, restrict and type tags. Raises `ElfError` for a chain in a circle."""
        seen = set()
        type_ = self[id]
        while type_.kind in _QUALIFIERS:
            if type_.id in seen:
                raise ElfError(f"type id {id} refers to itself", ".BTF")
            seen.add(type_.id)
            type_ = self[type_.type]
        return type_

    def size_of(self, id: int) -> int:
        """Bytes of a value of the type. Raises `ElfError` where it has no size (void, functions) or never ends."""
        count, seen = 1, set()
        type_ = self.resolve(id)
        while type_.kind is Kind.ARRAY:
            if type_.id in seen:
                raise ElfError(f"array type id {id} contains itself", ".BTF")
            seen.add(type_.id)
            count *= type_.size
            type_ = self.resolve(type_.type)
        if type_.kind is Kind.PTR:
            return count * POINTER_SIZE
        if type_.kind not in _SIZED:
            raise ElfError(f"type id {id} has no size: it is {type_.kind.name.lower()}", ".BTF")
        return count * type_.size

    def _parse_type(self, id: int) -> Type:
        order = "<" if self.byteorder == "little" else ">"
        offset = self._offsets[id - 1]
        name_offset, info, word = struct.unpack_from(order + "III", self._records, offset)
        kind, flag = Kind(info >> 24 & 31), bool(info >> 31)
        offset += 12
        name = self.strings[name_offset]
        once = struct.unpack_from(order + _ONCE.get(kind, ""), self._records, offset)
        offset += struct.calcsize(order + _ONCE.get(kind, ""))
        each = struct.Struct(order + _EACH[kind]) if kind in _EACH else None
        members = tuple(
            self._member(kind, flag, each.unpack_from(self._records, offset + i * each.size))
            for i in range(info & 0xFFFF if each else 0)
            if each
        )
        match kind:
            case Kind.INT:
                return Type(id, kind, name, 0, word, encoding=once[0] >> 24 & 15, bits=once[0] & 255)
            case Kind.ARRAY:
                return Type(id, kind, name, once[0], once[2])
            case Kind.VAR:
                return Type(id, kind, name, word, linkage=once[0])
            case Kind.DECL_TAG:
                return Type(id, kind, name, word, component=once[0])
            case Kind.FUNC:
                return Type(id, kind, name, word, linkage=info & 0xFFFF)
        if kind in _SIZED:
            return Type(id, kind, name, 0, word, members, flag=flag)
        return Type(id, kind, name, word, 0, members, flag=flag)

    def _name(self, id: int) -> str:
        """The name of a type that may not exist and need not be read for it."""
        if not 0 < id < len(self):
            return ""
        start = self._offsets[id - 1]
        word = self._records[start : start + 4]
        return self.strings[int.from_bytes(word, self.byteorder)]

    def _member(self, kind: Kind, flag: bool, words: tuple[int, ...]) -> Member:
        match kind:
            case Kind.DATASEC:
                type_, offset, size = words
                return Member(self._name(type_), type_, offset, size)
            case Kind.ENUM:
                name, value = words
                return Member(self.strings[name], value=value if flag else value & 0xFFFF_FFFF)
            case Kind.ENUM64:
                name, low, high = words
                value = low | high << 32
                return Member(self.strings[name], value=value - (1 << 64) if flag and high >> 31 else value)
            case Kind.FUNC_PROTO:
                return Member(self.strings[words[0]], words[1])
        name, type_, place = words
        if flag:  # a struct with bit-fields: the upper 8 bits are their width
            return Member(self.strings[name], type_, place & 0xFF_FFFF, place >> 24)
        return Member(self.strings[name], type_, place)


def _parts(data: bytes, byteorder: ByteOrder) -> tuple[bytes, bytes]:
    """The type records and the strings behind the header."""
    order = "<" if byteorder == "little" else ">"
    if len(data) < 24:
        raise ElfError("not enough data for BTF header", ".BTF")
    magic, version, _, header_size, type_offset, type_size, string_offset, string_size = struct.unpack_from(
        order + "HBBIIIII", data
    )
    if magic != MAGIC:
        raise ElfError(f"wrong magic 0x{magic:04x}, expected 0x{MAGIC:04x}", ".BTF")
    if version != 1:
        raise ElfError(f"wrong version {version}, expected 1", ".BTF")
    for name, start, size in (("types", type_offset, type_size), ("strings", string_offset, string_size)):
        if header_size + start + size > len(data):
            raise ElfError(f"{name} end at {header_size + start + size} of {len(data)} bytes", ".BTF")
    types, strings = header_size + type_offset, header_size + string_offset
    return data[types : types + type_size], data[strings : strings + string_size]


def _record_offsets(types: bytes, byteorder: ByteOrder) -> Iterator[int]:
    """Where each type begins, by id from 1."""
    order = "<" if byteorder == "little" else ">"
    once = {int(kind): struct.calcsize(order + format) for kind, format in _ONCE.items()}
    each = {int(kind): struct.calcsize(order + format) for kind, format in _EACH.items()}
    info = struct.Struct(order + "4xI4x")
    offset = 0
    while offset < len(types):
        start = offset
        if offset + 12 > len(types):
            raise ElfError(f"type at {start} ends behind the types", ".BTF")
        (word,) = info.unpack_from(types, offset)
        kind = word >> 24 & 31
        if not 0 < kind <= Kind.ENUM64:
            raise ElfError(f"type at {start}: unknown kind {kind}", ".BTF")
        offset += 12 + once.get(kind, 0) + (word & 0xFFFF) * each.get(kind, 0)
        if offset > len(types):
            raise ElfError(f"type at {start} ends behind the types", ".BTF")
        yield start
