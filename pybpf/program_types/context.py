"""What a context pointer points to, field by field, and the other structures that programs read that way."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final


class FieldKind(Enum):
    """What a load of a field gives."""

    SCALAR = "scalar"
    PACKET = "packet"  # address of the packet's first byte
    PACKET_END = "packet_end"  # address behind the packet's last byte
    PACKET_META = "packet_meta"  # address of the metadata before the packet
    SOCK = "sock"  # address of a socket
    SOCK_OR_NULL = "sock?"
    SOCK_COMMON_OR_NULL = "sock_common?"
    FLOW_KEYS = "flow_keys"  # address of what a flow dissector fills in
    BTF = "btf"  # something that only the kernel's BTF describes, a number perhaps


_IN_PARTS: Final = frozenset({FieldKind.SCALAR, FieldKind.BTF})


@dataclass(frozen=True, slots=True)
class Field:
    """One field: `offset` and `size` in bytes. A pointer field is loaded as its whole size and widened.

    `loads` and `stores` are the sizes of accesses that are allowed, each at offsets that are a multiple of it; None stands
    for every size. `front` says that a load must begin where the field does.
    """

    name: str
    offset: int
    size: int
    kind: FieldKind = FieldKind.SCALAR
    writable: bool = False
    loads: tuple[int, ...] | None = None
    stores: tuple[int, ...] | None = None
    front: bool = False

    def allows(self, offset: int, size: int, *, write: bool) -> bool:
        """Whether an access of `size` bytes at `offset` from the start of the structure is one of this field."""
        start = offset - self.offset
        if start < 0 or start + size > self.size or offset % size:
            return False
        if self.kind not in _IN_PARTS and size != self.size:
            return False
        if write:
            return self.writable and (self.stores is None or size in self.stores)
        return (start == 0 or not self.front) and (self.loads is None or size in self.loads)


@dataclass(frozen=True, slots=True)
class Context:
    """The layout of what a pointer points to, like that of what r1 points to."""

    name: str
    size: int
    fields: tuple[Field, ...]

    def field_at(self, offset: int, size: int, *, write: bool = False) -> Field | None:
        """The field that an access of `size` bytes at `offset` may be made to; None where there is none."""
        for field in self.fields:
            if field.allows(offset, size, write=write):
                return field
        return None

    def without(self, *names: str) -> Context:
        """The layout where some fields cannot be seen."""
        return replace(self, fields=tuple(field for field in self.fields if field.name not in names))

    def read_only_but(self, *names: str) -> Context:
        """The layout where only some fields can be written."""
        return replace(self, fields=tuple(_kept(self.fields, names)))


def _kept(fields: tuple[Field, ...], names: Container[str]) -> Iterator[Field]:
    for field in fields:
        yield field if field.name in names else replace(field, writable=False)


def layout(name: str, size: int, table: str) -> Context:
    r"""A layout from a text of one row per field: offset, size, sizes of loads, sizes of stores, name, kind if no scalar.

    Sizes stand as digits, ``1248``; ``-`` for none, ``*`` for all, and ``^`` behind them where a load must begin with the
    field. A name with ``[4]`` behind it stands for so many fields.

    >>> layout("pair", 8, "0 4 124 4 mark\n4 4 4 - data packet").field_at(4, 4).kind
    <FieldKind.PACKET: 'packet'>
    """
    return Context(
        name, size, tuple(field for row in table.strip().splitlines() for field in _fields(row.split()))
    )


def _fields(words: list[str]) -> Iterator[Field]:
    offset, size, loads, stores, name, *kind = words
    name, _, count = name.partition("[")
    for number in range(int(count.rstrip("]") or 1)):
        yield Field(
            f"{name}[{number}]" if count else name,
            int(offset) + number * int(size),
            int(size),
            FieldKind(kind[0]) if kind else FieldKind.SCALAR,
            writable=stores != "-",
            loads=_sizes(loads.removesuffix("^")),
            stores=_sizes(stores),
            front=loads.endswith("^"),
        )


def _sizes(text: str) -> tuple[int, ...] | None:
    if text == "*":
        return None
    return () if text == "-" else tuple(map(int, text))
