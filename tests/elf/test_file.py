"""Files that are damaged or no BPF objects: one clear line each, the same whatever the rest of the file holds."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from pybpf import ElfError, Reference, RefKind, load
from tests.elf.builder import (
    CODE,
    COMPRESSED,
    DATA,
    EXIT,
    FUNC,
    MOV,
    NOBITS,
    OBJECT,
    RELA,
    RETURN_2,
    RETURN_2_BIG,
    STRTAB,
    SYMTAB,
    Elf,
    call,
    load_address,
)


def small(byteorder: str = "little") -> Elf:
    """A file of one program."""
    elf = Elf(byteorder)
    elf.symbol("main", elf.section("xdp", RETURN_2 if byteorder == "little" else RETURN_2_BIG), 0, 16)
    return elf


GOOD = small().build()


def patched(offset: int, format: str, value: int, data: bytes = GOOD) -> bytes:
    """The file with one field changed."""
    return data[:offset] + struct.pack(format, value) + data[offset + struct.calcsize(format) :]


def header_of(section: int) -> int:
    """The file offset of a section's header."""
    return struct.unpack_from("<Q", GOOD, 40)[0] + 64 * section


TEXT, SYMBOLS, STRINGS = 1, 2, 3

HEADERS = {
    "empty": (b"", "not enough data for ELF header: the file is empty"),
    "one byte": (b"\x7f", "not enough data for ELF header: 1 of 64 bytes"),
    "cut in the header": (GOOD[:63], "not enough data for ELF header: 63 of 64 bytes"),
    "other bytes": (b"\x00\x01\xfe", "wrong magic: the file begins with 00 01 fe, not with 7f 45 4c 46"),
    "32 bits": (patched(4, "B", 1), "wrong class, expected 64 bits"),
    "byte order": (patched(5, "B", 3), "wrong byte order 3, expected 1 (little) or 2 (big)"),
    "version": (patched(6, "B", 9), "wrong version, expected 1"),
    "executable": (patched(16, "<H", 2), "wrong type 2, expected relocatable"),
    "x86": (
        patched(18, "<H", 62),
        "wrong machine 62, expected none or EM_BPF (x86-64: compile with clang -target bpf)",
    ),
    "rare machine": (patched(18, "<H", 99), "wrong machine 99, expected none or EM_BPF"),
    "other byte order": (patched(5, "B", 2), "wrong version, expected 1"),
    "no sections": (patched(60, "<H", 0), "text section not found: the file has no section table"),
    "no section table": (patched(40, "<Q", 0), "text section not found: the file has no section table"),
    "table behind the end": (
        patched(40, "<Q", len(GOOD) - 64),
        f"bad section header offset or size: 4 headers of 64 bytes at {len(GOOD) - 64} in a file of {len(GOOD)} bytes",
    ),
    "table far away": (
        patched(40, "<Q", 2**64 - 64),
        f"bad section header offset or size: 4 headers of 64 bytes at {2**64 - 64} in a file of {len(GOOD)} bytes",
    ),
    "header size": (
        patched(58, "<H", 40),
        f"bad section header offset or size: 4 headers of 40 bytes at {header_of(0)} in a file of {len(GOOD)} bytes",
    ),
    "string table index": (patched(62, "<H", 4), "bad string table section index 4"),
    "cut in the section table": (
        GOOD[:-1],
        f"bad section header offset or size: 4 headers of 64 bytes at {header_of(0)} in a file of {len(GOOD) - 1} bytes",
    ),
    "section behind the end": (
        patched(header_of(TEXT) + 24, "<Q", 2**40),
        f"section 'xdp': bad section offset or size: it ends at byte {2**40 + 16} of a file of {len(GOOD)} bytes",
    ),
    "huge section": (
        patched(header_of(TEXT) + 32, "<Q", 2**63),
        f"section 'xdp': bad section offset or size: it ends at byte {2**63 + 64} of a file of {len(GOOD)} bytes",
    ),
    "huge string table": (
        patched(header_of(STRINGS) + 32, "<Q", 2**63),
        f"section 3: bad section offset or size: it ends at byte {2**63 + 128} of a file of {len(GOOD)} bytes",
    ),
    "section name": (patched(header_of(TEXT), "<I", 10**6), "bad name offset 1000000 of section 1"),
    "overlap": (patched(header_of(SYMBOLS) + 24, "<Q", 72), "section 'xdp': it overlaps section '.symtab'"),
    "compressed code": (
        patched(header_of(TEXT) + 8, "<Q", CODE | COMPRESSED),
        "section 'xdp': a section that is loaded cannot be compressed",
    ),
    "compressed symbols": (
        patched(header_of(SYMBOLS) + 8, "<Q", COMPRESSED),
        "section '.symtab': it is compressed",
    ),
    "symbol entry size": (
        patched(header_of(SYMBOLS) + 56, "<Q", 0),
        "section '.symtab': bad symbol table: 48 bytes in entries of 0",
    ),
    "symbol table size": (
        patched(header_of(SYMBOLS) + 32, "<Q", 47),
        "section '.symtab': bad symbol table: 47 bytes in entries of 24",
    ),
    "symbol names in code": (
        patched(header_of(SYMBOLS) + 40, "<I", TEXT),
        "section '.symtab': bad string table section index 1",
    ),
    "symbol names nowhere": (
        patched(header_of(SYMBOLS) + 40, "<I", 99),
        "section '.symtab': bad string table section index 99",
    ),
    "symbol name": (
        patched(struct.unpack_from("<Q", GOOD, header_of(SYMBOLS) + 24)[0] + 24, "<I", 500),
        "section '.symtab': bad symbol name offset 500",
    ),
    "symbol section": (
        patched(struct.unpack_from("<Q", GOOD, header_of(SYMBOLS) + 24)[0] + 30, "<H", 500),
        "section '.symtab': bad section index 500 of symbol 'main'",
    ),
    "endless name": (
        patched(struct.unpack_from("<Q", GOOD, header_of(STRINGS) + 24)[0] + 25, "B", 0x41),
        "bad string table: its last string does not end",
    ),
}


@pytest.mark.parametrize(("data", "message"), HEADERS.values(), ids=HEADERS.keys())
def test_damaged_file(data: bytes, message: str):
    """Each check of header, section table and symbol table, by the message that it gives."""
    with pytest.raises(ElfError) as caught:
        load(data)
    assert str(caught.value) == message


def test_section_to_blame():
    """The error carries the name of the section."""
    with pytest.raises(ElfError) as caught:
        load(patched(header_of(SYMBOLS) + 56, "<Q", 0))
    assert caught.value.section == ".symtab"


def test_undamaged_file():
    """The file that the cases above damage is a good one, and reading it twice gives equal values."""
    assert list(load(GOOD).programs) == ["main"]
    assert load(GOOD) == load(GOOD)


@pytest.mark.parametrize("machine", [0, 247])
@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_machines_and_byte_orders(machine: int, byteorder: str):
    """BPF or none, of either byte order."""
    elf = small(byteorder)
    elf.machine = machine
    obj = load(elf.build())
    assert obj.byteorder == byteorder
    assert [i.imm for i in obj.programs["main"].code.values()] == [2, 0]


def test_path_and_bytes_give_the_same_program(tmp_path: Path):
    """A path may be a string or a Path, and is remembered."""
    path = tmp_path / "a.o"
    path.write_bytes(GOOD)
    for source in (path, str(path)):
        obj = load(source)
        assert obj.path == path
        assert obj.programs == load(GOOD).programs
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "b.o")


RelocationTable = Callable[[Elf, int], None]


def _bad_symbol(elf: Elf, text: int) -> None:
    elf.relocate(text, 0, symbol=9)


def _bad_offset(elf: Elf, text: int) -> None:
    elf.relocate(text, 16, symbol=1)


def _bad_table(elf: Elf, text: int) -> None:
    elf.section(".relxdp", bytes(15), 0, type=9, link=3, info=text, entry=16)


def _bad_link(elf: Elf, text: int) -> None:
    elf.section(".relxdp", bytes(16), 0, type=9, link=text, info=text, entry=16)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_bad_symbol, "section '.relxdp': bad symbol index 9"),
        (_bad_offset, "section '.relxdp': bad relocation offset 16"),
        (_bad_table, "section '.relxdp': bad relocation table: 15 bytes in entries of 16"),
        (_bad_link, "section '.relxdp': bad symbol table section index 1"),
    ],
)
def test_damaged_relocations(damage: RelocationTable, message: str):
    """A relocation table that cannot be read."""
    elf = Elf()
    text = elf.section("xdp", RETURN_2)
    elf.symbol("main", text, 0, 16)
    damage(elf, text)
    with pytest.raises(ElfError) as caught:
        load(elf.build())
    assert str(caught.value) == message


def test_two_symbol_tables():
    """A relocatable file has one."""
    elf = small()
    elf.section(".symtab", bytes(24), 0, SYMTAB, link=3, info=1, entry=24)
    with pytest.raises(ElfError, match=r"^section '.symtab': more than one symbol table$"):
        load(elf.build())


def test_relocations_with_addends():
    """An entry of SHT_RELA has the addend itself, in bytes; what stands in the instruction counts for nothing."""
    elf = Elf()
    text = elf.section("xdp", load_address(imm=99) + call(7) + EXIT + MOV + RETURN_2)
    elf.symbol("main", text, 0, 32)
    elf.symbol("two", text, 40, 16)
    elf.symbol("data", elf.section(".data", bytes(16), DATA), 0, 16, OBJECT)
    entries = struct.pack("<QQq", 0, 3 << 32 | 1, 12) + struct.pack("<QQq", 16, 1 << 32 | 10, 40)
    elf.section(".relaxdp", entries, 0, RELA, link=4, info=text, entry=24)
    program = load(elf.build()).programs["main"]
    assert program.references == {0: Reference(RefKind.VALUE, ".data", 12)}
    assert [function.name for function in program.functions.values()] == ["main", "two"]
    assert program.code[2].target(2) == 4


def test_a_section_of_no_bytes_in_the_file_may_be_of_any_size():
    """Nothing is read, and nothing allocated, for zeros."""
    elf = small()
    elf.section(".bss", 2**62, DATA, NOBITS)
    obj = load(elf.build())
    assert obj.notes == (f"section '.bss': {2**62} bytes are no map's value",)
    assert list(obj.programs) == ["main"]


def test_many_symbols_of_one_long_name():
    """A name is copied for each symbol that has it: what all of them may take is bounded."""
    elf = Elf()
    text = elf.section("xdp", RETURN_2)
    symbols = bytes(24) + struct.pack("<IBBHQQ", 1, 1 << 4 | FUNC, 0, text, 0, 16) * 30_000
    elf.section(".symtab", symbols, 0, SYMTAB, link=3, info=1, entry=24)
    elf.section(".names", b"\0" + b"n" * 4000 + b"\0", 0, STRTAB)
    with pytest.raises(ElfError, match=r"^section '.symtab': its symbols have too long names$"):
        load(elf.build(symtab=False))


def test_long_names():
    """A single name is bounded, too."""
    elf = small()
    elf.symbol("n" * 5000, 1, 8)
    with pytest.raises(ElfError, match="a name is longer than 4096 bytes"):
        load(elf.build())
