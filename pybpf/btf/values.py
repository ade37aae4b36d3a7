"""Bytes read by their type: what a program left in memory, as Python values."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, TypeAlias

from pybpf.btf.types import BOOL, SIGNED, Btf, Kind, Member, Type
from pybpf.errors import ElfError

Value: TypeAlias = "int | float | bool | str | bytes | IPv4Address | list[Value] | dict[str, Value]"
"""What `read_value` gives."""

_MAX_PARTS: Final = 100_000
_MAX_DEPTH: Final = 50
FLOATS: Final = {4: "f", 8: "d"}
"""Bytes of a floating point number -> struct format."""
_NETWORK_ORDER: Final = frozenset({"__be16", "__be32", "__be64"})


def read_value(btf: Btf, id: int, data: bytes) -> Value:
    """The value of the type `id` that `data` holds.

    =====================================  =====================================================
    integers, pointers, bit-fields         int; bool for ``bool``
    ``__be16``, ``__be64`` (linux/types.h) int, read in network byte order
    ``__be32``                             IPv4Address, which it nearly always is
    enumerations                           the enumerator's name; int where no enumerator fits
    floating point                         float
    arrays of ``char``                     str up to the first zero byte, where it is printable
    arrays of other bytes                  bytes
    arrays                                 list
    structs, unions, data sections         dict by member; members of unnamed members among the others
    =====================================  =====================================================

    Raises `ElfError` for a type that has no size, one whose size is not that of `data`, and one that contains itself.
    """
    type_ = btf.resolve(id)
    if type_.kind is not Kind.DATASEC or type_.size:  # compilers leave the sizes of sections to the linker
        size = btf.size_of(id)
        if size != len(data):
            raise ElfError(f"type id {id} has {size} bytes, the value {len(data)}", ".BTF")
    return _Reader(btf).read(id, data)


@dataclass(slots=True)
class _Reader:
    """Reads values. The number of parts is bounded: parts without a size can be without number."""

    btf: Btf
    left: int = _MAX_PARTS
    depth: int = 0

    def read(self, id: int, data: bytes) -> Value:
        self.left -= 1
        self.depth += 1
        if self.left < 0 or self.depth > _MAX_DEPTH:
            raise ElfError(f"type id {id} has too many parts", ".BTF")
        try:
            return self._read(self.btf.resolve(id), data, network_order(self.btf, id))
        finally:
            self.depth -= 1

    def _read(self, type_: Type, data: bytes, typedef: str) -> Value:
        match type_.kind:
            case Kind.INT:
                return self._integer(type_, data, typedef)
            case Kind.PTR:
                return int.from_bytes(data, self.btf.byteorder)
            case Kind.ENUM | Kind.ENUM64:
                number = int.from_bytes(data, self.btf.byteorder, signed=type_.flag)
                return _enumerator(type_, number)
            case Kind.FLOAT if len(data) in FLOATS:
                return float(struct.unpack(self._order + FLOATS[len(data)], data)[0])
            case Kind.ARRAY:
                return self._array(type_, data)
            case Kind.STRUCT | Kind.UNION:
                return dict(self._members(type_, data))
            case Kind.DATASEC:
                return {member.name: self._variable(member, data) for member in type_.members}
        return data

    @property
    def _order(self) -> str:
        return "<" if self.btf.byteorder == "little" else ">"

    def _integer(self, type_: Type, data: bytes, typedef: str) -> Value:
        if typedef == "__be32":
            return IPv4Address(data)
        if typedef:
            return int.from_bytes(data, "big")
        number = int.from_bytes(data, self.btf.byteorder, signed=bool(type_.encoding & SIGNED))
        return bool(number) if type_.encoding & BOOL and number in (0, 1) else number

    def _array(self, type_: Type, data: bytes) -> Value:
        element = self.btf.resolve(type_.type)
        if element.kind is Kind.INT and element.size == 1 and not element.encoding & BOOL:
            return _text(data) if element.name == "char" else data
        size = self.btf.size_of(type_.type)
        if size == 0:
            return []
        return [self.read(type_.type, data[at : at + size]) for at in range(0, len(data), size)]

    def _members(self, type_: Type, data: bytes) -> Iterator[tuple[str, Value]]:
        for member in type_.members:
            value = self._bits(member, data) if member.size else self._plain(member, data)
            if not member.name and isinstance(value, dict):
                yield from value.items()
            elif member.name:
                yield member.name, value

    def _plain(self, member: Member, data: bytes) -> Value:
        start = member.offset // 8
        return self.read(member.type, self._part(member, data, start, self.btf.size_of(member.type)))

    def _variable(self, member: Member, data: bytes) -> Value:
        """A variable of a section: its type is what the VAR refers to. A compiler may keep a part of a variable alone."""
        type_ = self.btf[member.type]
        id = type_.type if type_.kind is Kind.VAR else member.type
        part = self._part(member, data, member.offset, member.size)
        return self.read(id, part) if self.btf.size_of(id) == member.size else part

    def _part(self, member: Member, data: bytes, start: int, size: int) -> bytes:
        if start + size > len(data):
            raise ElfError(f"member {member.name!r} ends at byte {start + size} of {len(data)}", ".BTF")
        return data[start : start + size]

    def _bits(self, member: Member, data: bytes) -> Value:
        """A bit-field: its offset counts bits from the lowest (little-endian) or highest (big-endian) of the struct."""
        end = member.offset + member.size
        whole = 8 * len(data)
        if end > whole:
            raise ElfError(f"member {member.name!r} ends at bit {end} of {whole}", ".BTF")
        shift = member.offset if self.btf.byteorder == "little" else whole - end
        number = int.from_bytes(data, self.btf.byteorder) >> shift & (1 << member.size) - 1
        type_ = self.btf.resolve(member.type)
        signed = type_.flag if type_.kind is Kind.ENUM else bool(type_.encoding & SIGNED)
        if signed and number >> (member.size - 1):
            number -= 1 << member.size
        if type_.kind in (Kind.ENUM, Kind.ENUM64):
            return _enumerator(type_, number)
        return bool(number) if type_.encoding & BOOL and number in (0, 1) else number


def network_order(btf: Btf, id: int) -> str:
    """The name of the innermost typedef that says that a number is in network byte order, empty if none does."""
    for _ in range(_MAX_DEPTH):
        type_ = btf[id]
        if type_.kind is Kind.TYPEDEF and type_.name in _NETWORK_ORDER:
            return type_.name
        if type_.kind not in (Kind.TYPEDEF, Kind.CONST, Kind.VOLATILE, Kind.TYPE_TAG):
            break
        id = type_.type
    return ""


def _enumerator(type_: Type, number: int) -> str | int:
    return next((member.name for member in type_.members if member.value == number), number)


def _text(data: bytes) -> str | bytes:
    """A string and the zero bytes behind it; anything else stays bytes."""
    text, _, rest = data.partition(b"\0")
    if any(rest) or not all(0x20 <= byte < 0x7F for byte in text):
        return data
    return text.decode("ascii")
