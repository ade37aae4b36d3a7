"""Python values written by their type: the other way of `pybpf.btf.values`."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Final, Literal

from pybpf.btf.types import SIGNED, Btf, Kind, Member, Type
from pybpf.btf.values import FLOATS, network_order
from pybpf.errors import ElfError

_MAX_PARTS: Final = 100_000
_MAX_DEPTH: Final = 50


def encode_value(btf: Btf, id: int, value: object, size: int) -> bytes:
    """The `size` bytes of a value of the type `id`.

    What `read_value` gives is taken back, and what stands for the same: a struct is a mapping of its members or a sequence in
    their order (those left out are zero, as in C; of members that overlap the last one counts), an array a sequence, an
    enumeration a name or a number, a ``__be32`` an address (as text too) or a number.

    Raises ValueError or TypeError for a value that does not fit, naming the member; `ElfError` for a type that cannot have one.
    """
    data = bytearray(size)
    _Writer(btf, data).write(_Part("", id, 0), value)
    return bytes(data)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the value: its path, its type, where it begins and, of a bit-field, how wide it is, both in bits."""

    path: str
    type: int
    start: int
    width: int = 0

    def inside(self, member: Member, type: int, start: int, width: int) -> _Part:
        """A member of it."""
        path = f"{self.path}.{member.name}".strip(".") if member.name else self.path
        return _Part(path, type, self.start + start, width)

    def error(self, message: str) -> ValueError:
        """The value that was given for it does not fit."""
        return ValueError(f"{self.path}: {message}" if self.path else message)


@dataclass(slots=True)
class _Writer:
    """Writes into `data`. The number of parts is bounded, as it is for reading."""

    btf: Btf
    data: bytearray
    left: int = _MAX_PARTS
    depth: int = 0

    def write(self, part: _Part, value: Any) -> None:
        self.left -= 1
        self.depth += 1
        if self.left < 0 or self.depth > _MAX_DEPTH:
            raise ElfError(f"type id {part.type} has too many parts", ".BTF")
        type_ = self.btf.resolve(part.type)
        match type_.kind:
            case Kind.STRUCT | Kind.UNION | Kind.DATASEC:
                self._members(part, type_, value)
            case Kind.ARRAY:
                self._array(part, type_, value)
            case Kind.FLOAT if type_.size in FLOATS:
                order = "<" if self.btf.byteorder == "little" else ">"
                self._put(part, struct.pack(order + FLOATS[type_.size], value))
            case Kind.INT | Kind.PTR | Kind.ENUM | Kind.ENUM64:
                self._number(part, type_, value)
            case _:
                size = self.btf.size_of(part.type)
                if not isinstance(value, bytes) or len(value) != size:
                    raise part.error(f"expected {size} bytes, not {value!r}")
                self._put(part, value)
        self.depth -= 1

    def _members(self, part: _Part, type_: Type, value: Any) -> None:
        members = dict(self._named(part, type_, _MAX_DEPTH))
        if isinstance(value, Mapping):
            given = dict(value)
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
            if len(value) > len(members):
                raise part.error(f"{len(value)} values for {len(members)} members ({', '.join(members)})")
            given = dict(zip(members, value, strict=False))
        else:
            raise part.error(f"expected the members {', '.join(members)}, not {value!r}")
        for name, each in given.items():
            if name not in members:
                raise part.error(f"there is no member {name!r}: known are {', '.join(members)}")
            self.write(members[name], each)

    def _named(self, part: _Part, type_: Type, depth: int) -> Iterator[tuple[str, _Part]]:
        """The members by name; those of members without a name among the others."""
        if not depth:
            raise ElfError(f"type id {type_.id} has too many parts", ".BTF")
        for member in type_.members:
            self.left -= 1
            if self.left < 0:
                raise ElfError(f"type id {type_.id} has too many parts", ".BTF")
            if type_.kind is Kind.DATASEC:
                yield member.name, part.inside(member, self.btf[member.type].type, 8 * member.offset, 0)
                continue
            inside = part.inside(member, member.type, member.offset, member.size)
            if member.name:
                yield member.name, inside
            elif (unnamed := self.btf.resolve(member.type)).kind in (Kind.STRUCT, Kind.UNION):
                yield from self._named(inside, unnamed, depth - 1)

    def _array(self, part: _Part, type_: Type, value: Any) -> None:
        element = self.btf.resolve(type_.type)
        size = self.btf.size_of(type_.type)
        if isinstance(value, str):
            value = value.encode()
        if not isinstance(value, Sequence | bytearray | memoryview):
            raise part.error(f"expected {type_.size} elements, not {value!r}")
        if len(value) > type_.size:
            raise part.error(f"{len(value)} elements for an array of {type_.size}")
        if isinstance(value, bytes | bytearray | memoryview) and element.kind is Kind.INT and size == 1:
            self._put(part, bytes(value))
            return
        for index, each in enumerate(value):
            self.write(_Part(f"{part.path}[{index}]", type_.type, part.start + 8 * size * index), each)

    def _number(self, part: _Part, type_: Type, value: Any) -> None:
        bits = part.width or 8 * self.btf.size_of(type_.id)
        order, number = self._as_number(part, type_, value)
        signed = type_.flag if type_.kind in (Kind.ENUM, Kind.ENUM64) else bool(type_.encoding & SIGNED)
        low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
        if not low <= number < high:
            raise part.error(f"{number} is not within {low} to {high - 1}")
        if part.width:
            self._put_bits(part, number & (1 << bits) - 1)
        else:
            self._put(part, (number & (1 << bits) - 1).to_bytes(bits // 8, order))

    def _as_number(self, part: _Part, type_: Type, value: Any) -> tuple[Literal["little", "big"], int]:
        """The number that a value stands for, and in which byte order it is written."""
        network = network_order(self.btf, part.type)
        if network == "__be32" and isinstance(value, str | IPv4Address):
            value = int(IPv4Address(value))
        if isinstance(value, str) and type_.kind in (Kind.ENUM, Kind.ENUM64):
            names = {member.name: member.value for member in type_.members}
            if value not in names:
                raise part.error(f"{value!r} is none of {', '.join(names)}")
            value = names[value]
        if not hasattr(value, "__index__"):
            raise part.error(f"expected a number, not {value!r}")
        return "big" if network else self.btf.byteorder, value.__index__()

    def _put(self, part: _Part, data: bytes) -> None:
        start = part.start // 8
        if start + len(data) > len(self.data):
            raise ElfError(
                f"{part.path or 'value'} ends at byte {start + len(data)} of {len(self.data)}", ".BTF"
            )
        self.data[start : start + len(data)] = data

    def _put_bits(self, part: _Part, number: int) -> None:
        """A bit-field: bits are counted as `pybpf.btf.values` counts them."""
        whole = 8 * len(self.data)
        if part.start + part.width > whole:
            raise ElfError(f"{part.path} ends at bit {part.start + part.width} of {whole}", ".BTF")
        shift = part.start if self.btf.byteorder == "little" else whole - part.start - part.width
        old = int.from_bytes(self.data, self.btf.byteorder)
        new = old & ~((1 << part.width) - 1 << shift) | number << shift
        self.data[:] = new.to_bytes(len(self.data), self.btf.byteorder)
