"""The records of a ``.BTF.ext`` section: function types, source lines, CO-RE relocations by code section and byte offset
(Linux, Documentation/bpf/btf.rst, section 4).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from pybpf.btf.types import MAGIC, Btf, ByteOrder
from pybpf.errors import ElfError

_HEADER: Final = "HBBI"
_PARTS: Final = ("function info", "line info", "CO-RE info")


Line = tuple[int, str, int, int, str]
"""Byte offset of the first instruction, file, line, column, text of the line."""


class CoreRelocation(NamedTuple):
    """A CO-RE relocation: `access` is a path like ``0:1`` into the type `type_id`, `kind` is enum bpf_core_relo_kind."""

    offset: int
    type_id: int
    access: str
    kind: int


class Ext(NamedTuple):
    """Records by code section: `functions` are (byte offset, type id)."""

    functions: dict[str, list[tuple[int, int]]]
    lines: dict[str, list[Line]]
    relocations: dict[str, list[CoreRelocation]]

    @classmethod
    def parse(cls, data: bytes, btf: Btf) -> Ext:
        """Read a ``.BTF.ext`` section. Raises `ElfError` where its records do not fit."""
        order: ByteOrder = btf.byteorder
        functions, lines, relocations = _parts(data, order)
        strings = btf.strings
        return cls(
            {
                strings[name]: [(offset, type) for offset, type in records]
                for name, records in _sections(functions, order, "II")
            },
            {
                strings[name]: [
                    (offset, strings[file], place >> 10, place & 0x3FF, strings[text])
                    for offset, file, text, place in records
                ]
                for name, records in _sections(lines, order, "IIII")
            },
            {
                strings[name]: [
                    CoreRelocation(at, type, strings[path], kind) for at, type, path, kind in records
                ]
                for name, records in _sections(relocations, order, "IIII")
            },
        )


def _parts(data: bytes, byteorder: ByteOrder) -> list[bytes]:
    order = "<" if byteorder == "little" else ">"
    if len(data) < 24:
        raise ElfError("not enough data for BTF.ext header", ".BTF.ext")
    magic, version, _, header_size = struct.unpack_from(order + _HEADER, data)
    if magic != MAGIC:
        raise ElfError(f"wrong magic 0x{magic:04x}, expected 0x{MAGIC:04x}", ".BTF.ext")
    if version != 1:
        raise ElfError(f"wrong version {version}, expected 1", ".BTF.ext")
    parts = []
    for number, name in enumerate(_PARTS):
        place = 8 + 8 * number
        if place + 8 > min(header_size, len(data)):  # the first versions had no CO-RE relocations
            parts.append(b"")
            continue
        start, size = struct.unpack_from(order + "II", data, place)
        start += header_size
        if start + size > len(data):
            raise ElfError(f"{name} ends at {start + size} of {len(data)} bytes", ".BTF.ext")
        parts.append(data[start : start + size])
    return parts


def _sections(
    part: bytes, byteorder: ByteOrder, format: str
) -> Iterator[tuple[int, Iterator[tuple[int, ...]]]]:
    """(offset of the section's name, its records) of one part; a record may be longer than what is known of it."""
    order = "<" if byteorder == "little" else ">"
    known = struct.calcsize(order + format)
    if not part:
        return
    if len(part) < 4:
        raise ElfError("not enough data for a record size", ".BTF.ext")
    (size,) = struct.unpack_from(order + "I", part)
    if size < known:
        raise ElfError(f"records of {size} bytes, expected at least {known}", ".BTF.ext")
    record, offset = struct.Struct(f"{order}{format}{size - known}x"), 4
    while offset < len(part):
        if offset + 8 > len(part):
            raise ElfError("not enough data for a section of records", ".BTF.ext")
        name, count = struct.unpack_from(order + "II", part, offset)
        offset += 8
        if offset + count * size > len(part):
            raise ElfError(f"{count} records of {size} bytes end behind the section", ".BTF.ext")
        yield name, record.iter_unpack(part[offset : offset + count * size])
        offset += count * size
