"""The records of ``.BTF.ext``."""

from __future__ import annotations

import pytest

from pybpf import ElfError
from pybpf.btf import Btf, CoreRelocation, Ext
from tests.btf.builder import BtfBuilder


class ExtBuilder:
    """A ``.BTF.ext`` section: parts of (record size, [(section's name, [record, ...]), ...])."""

    def __init__(self, btf: BtfBuilder) -> None:
        self.btf = btf

    def part(self, size: int, *sections: tuple[str, list[tuple[int, ...]]]) -> bytes:
        """One part; records are filled with zeros up to their size."""
        data = self.btf.pack("I", size)
        for name, records in sections:
            data += self.btf.pack("II", self.btf.string(name), len(records))
            data += b"".join(self.btf.pack(f"{len(r)}I", *r).ljust(size, b"\0") for r in records)
        return data

    def build(self, functions: bytes, lines: bytes, relocations: bytes | None) -> bytes:
        """The section; without relocations it has the shorter header of old compilers."""
        parts = [functions, lines] + ([] if relocations is None else [relocations])
        size = 8 + 8 * len(parts)
        header, start = self.btf.pack("HBBI", 0xEB9F, 1, 0, size), 0
        for part in parts:
            header += self.btf.pack("II", start, len(part))
            start += len(part)
        return header + b"".join(parts)


@pytest.mark.parametrize("byteorder", ["little", "big"])
@pytest.mark.parametrize("more", [0, 8])
def test_records(byteorder: str, more: int):
    """By code section; records may be longer than what is known of them; line and column share a word."""
    builder = BtfBuilder(byteorder)
    function = builder.int()
    file, text, path = builder.string("a.c"), builder.string("return 1;"), builder.string("0:1")
    ext = ExtBuilder(builder)
    data = ext.build(
        ext.part(8 + more, ("xdp", [(0, function)])),
        ext.part(
            16 + more,
            ("xdp", [(0, file, text, 7 << 10 | 3), (8, file, 0, 8 << 10)]),
            ("tc", [(0, file, text, 9 << 10)]),
        ),
        ext.part(16 + more, ("tc", [(16, function, path, 2)])),
    )
    btf = Btf.parse(builder.build(), "little" if byteorder == "little" else "big")
    parsed = Ext.parse(data, btf)
    assert parsed.functions == {"xdp": [(0, function)]}
    assert parsed.lines == {
        "xdp": [(0, "a.c", 7, 3, "return 1;"), (8, "a.c", 8, 0, "")],
        "tc": [(0, "a.c", 9, 0, "return 1;")],
    }
    assert parsed.relocations == {"tc": [CoreRelocation(16, function, "0:1", 2)]}


def test_the_header_of_old_compilers():
    """Without CO-RE relocations; parts may be empty."""
    builder = BtfBuilder()
    ext = ExtBuilder(builder)
    data = ext.build(b"", ext.part(16), None)
    assert Ext.parse(data, Btf.parse(builder.build())) == Ext({}, {}, {})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:20], "not enough data for BTF.ext header"),
        (lambda data: b"\0" + data[1:], "wrong magic 0xeb00, expected 0xeb9f"),
        (lambda data: data[:2] + b"\7" + data[3:], "wrong version 7, expected 1"),
        (lambda data: data[:-1], "CO-RE info ends at 68 of 67 bytes"),
        (lambda data: data[:12] + b"\2" + data[13:], "not enough data for a record size"),
        (lambda data: data[:32] + b"\4" + data[33:], "records of 4 bytes, expected at least 8"),
        (lambda data: data[:40] + b"\2" + data[41:], "2 records of 8 bytes end behind the section"),
        (lambda data: data[:12] + b"\6" + data[13:], "not enough data for a section of records"),
        (lambda data: data[:36] + b"\x99" + data[37:], "string offset 153 lies outside of the string table"),
    ],
)
def test_damaged_sections(damage, message: str):
    """Each check of the header and the records."""
    builder = BtfBuilder()
    ext = ExtBuilder(builder)
    data = ext.build(ext.part(8, ("x", [(0, 0)])), ext.part(16), ext.part(16, ("x", [])))
    btf = Btf.parse(builder.build())
    assert Ext.parse(data, btf).functions == {"x": [(0, 0)]}
    with pytest.raises(ElfError) as caught:
        Ext.parse(damage(data), btf)
    assert caught.value.detail == message
