"""The types of ``.BTF``: read as bpftool reads them, and damaged ones refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybpf import ElfError
from pybpf.btf import Btf, Kind, Member, Type
from tests.btf.builder import BtfBuilder
from tests.btf.conftest import read
from tests.conftest import SHARED

OBJECTS = sorted((SHARED / "elf").rglob("*.o"))
LINKAGE = {"static": 0, "global": 1, "extern": 2}
ENCODING = {"(none)": 0, "SIGNED": 1, "CHAR": 2, "BOOL": 4}


def as_bpftool(type: Type) -> dict[str, Any]:
    """The fields that bpftool prints, of what pybpf read."""
    row: dict[str, Any] = {"id": type.id, "kind": type.kind.name, "name": type.name or "(anon)"}
    match type.kind:
        case Kind.INT:
            name = next(name for name, number in ENCODING.items() if number == type.encoding)
            row |= {"size": type.size, "bits_offset": 0, "nr_bits": type.bits, "encoding": name}
        case Kind.ARRAY:
            row |= {"type_id": type.type, "nr_elems": type.size}
        case Kind.STRUCT | Kind.UNION:
            row |= {"size": type.size, "vlen": len(type.members)}
            row["members"] = [
                {"name": m.name or "(anon)", "type_id": m.type, "bits_offset": m.offset}
                | ({"bitfield_size": m.size} if type.flag else {})
                for m in type.members
            ]
        case Kind.ENUM | Kind.ENUM64:
            row |= {"size": type.size, "vlen": len(type.members)}
            row["values"] = [{"name": m.name, "val": m.value & 0xFFFF_FFFF_FFFF_FFFF} for m in type.members]
        case Kind.FUNC_PROTO:
            row |= {"ret_type_id": type.type, "vlen": len(type.members)}
            row["params"] = [{"name": m.name or "(anon)", "type_id": m.type} for m in type.members]
        case Kind.FUNC | Kind.VAR:
            name = next(name for name, number in LINKAGE.items() if number == type.linkage)
            row |= {"type_id": type.type, "linkage": name}
        case Kind.DATASEC:
            row |= {"size": type.size, "vlen": len(type.members)}
            row["vars"] = [{"type_id": m.type, "offset": m.offset, "size": m.size} for m in type.members]
        case Kind.FWD:
            row["fwd_kind"] = "union" if type.flag else "struct"
        case Kind.FLOAT:
            row["size"] = type.size
        case Kind.DECL_TAG:
            row |= {"type_id": type.type, "component_idx": type.component}
        case _:
            row["type_id"] = type.type
    return row


def from_bpftool(row: dict[str, Any]) -> dict[str, Any]:
    """bpftool's own, without what it repeats or extends."""
    row = {key: value for key, value in row.items() if key != "index_type_id"}
    if row["kind"] in ("ENUM", "ENUM64"):
        unsigned = row.pop("encoding") == "UNSIGNED"
        mask = 0xFFFF_FFFF if unsigned and row["kind"] == "ENUM" else 0xFFFF_FFFF_FFFF_FFFF
        row["values"] = [{"name": value["name"], "val": value["val"] & mask} for value in row["values"]]
    for member in row.get("members", ()):
        if member.get("bitfield_size") == 0:
            member["bitfield_size"] = 0
    if row["kind"] in ("STRUCT", "UNION") and any("bitfield_size" in m for m in row["members"]):
        row["members"] = [{"bitfield_size": 0, **member} for member in row["members"]]
    return row


def same_as_bpftool(bpftool: str, path: Path) -> int:
    """Compare every type of a file; how many there were."""
    btf = read(path)
    if btf is None:
        return 0
    command = [bpftool, "-j", "btf", "dump", "file", str(path)]
    rows = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["types"]
    assert [as_bpftool(type) for type in btf] == [from_bpftool(row) for row in rows], path
    return len(rows)


@pytest.mark.oracle
def test_every_kind_as_bpftool_reads_it(compiled: Path, tool: Callable[[str], str]):
    """A source with one of each, in both byte orders."""
    assert same_as_bpftool(tool("bpftool"), compiled) > 50
    btf = read(compiled)
    assert btf is not None
    kinds = {type.kind for type in btf}
    assert kinds == set(Kind) - {Kind.VOID}


@pytest.mark.oracle
@pytest.mark.slow
def test_the_types_of_every_object_as_bpftool_reads_them(shared_data: Path, tool: Callable[[str], str]):
    """Compilers of ten years."""
    bpftool = tool("bpftool")
    assert sum(same_as_bpftool(bpftool, path) for path in OBJECTS if "invalid" not in path.parts) > 1000


BYTEORDERS = pytest.mark.parametrize("byteorder", ["little", "big"])


@BYTEORDERS
def test_types_by_id_and_name(byteorder: str):
    """Ids count from 1, in the order of the section; 0 is void."""
    builder = BtfBuilder(byteorder)
    number = builder.int("u32", 4, 0)
    struct = builder.struct("pair", 8, ("a", number, 0), ("b", number, 32))
    btf = Btf.parse(builder.build(), "little" if byteorder == "little" else "big")
    assert len(btf) == 3
    assert [type.id for type in btf] == [number, struct] == [1, 2]
    assert btf[0] == Type(0, Kind.VOID, "void")
    assert btf[number] == Type(1, Kind.INT, "u32", size=4, bits=32)
    assert btf[struct] == Type(2, Kind.STRUCT, "pair", size=8, members=(Member("a", 1), Member("b", 1, 32)))
    assert btf.find(Kind.STRUCT, "pair") == btf[struct]
    assert btf.find(Kind.UNION, "pair") is None


def test_bit_fields_and_enumerations():
    """The width of a bit-field shares a word with its place; an enumeration's flag says that it is signed."""
    builder = BtfBuilder()
    number = builder.int()
    name = builder.string("b")
    builder.add(Kind.STRUCT, "bits", 4, name, number, 3 << 24 | 7, vlen=1, flag=True)
    builder.add(Kind.ENUM, "e", 4, name, -2, vlen=1, flag=True)
    builder.add(Kind.ENUM, "u", 4, name, -2, vlen=1)
    builder.add(Kind.ENUM64, "l", 8, name, 5, 1, vlen=1)
    builder.add(Kind.ENUM64, "s", 8, name, -1, -1, vlen=1, flag=True)
    btf = Btf.parse(builder.build())
    assert btf[2].members == (Member("b", number, 7, 3),)
    assert [btf[id].members[0].value for id in (3, 4, 5, 6)] == [-2, 2**32 - 2, 2**32 + 5, -1]


def test_sizes():
    """Through typedefs and qualifiers; arrays of arrays; pointers are 8 bytes."""
    builder = BtfBuilder()
    number = builder.int("int", 4)
    const = builder.add(Kind.CONST, "", number)
    typedef = builder.add(Kind.TYPEDEF, "t", const)
    row = builder.add(Kind.ARRAY, "", 0, typedef, number, 3)
    grid = builder.add(Kind.ARRAY, "", 0, row, number, 5)
    pointer = builder.add(Kind.PTR, "", 0)
    pointers = builder.add(Kind.ARRAY, "", 0, pointer, number, 2)
    function = builder.add(Kind.FUNC_PROTO, "", 0)
    btf = Btf.parse(builder.build())
    assert [btf.size_of(id) for id in (number, typedef, row, grid, pointer, pointers)] == [
        4,
        4,
        12,
        60,
        8,
        16,
    ]
    assert btf.resolve(typedef) == btf[number]
    for id, what in ((0, "void"), (function, "func_proto")):
        with pytest.raises(ElfError, match=f"type id {id} has no size: it is {what}"):
            btf.size_of(id)


def test_circles():
    """Types that stand for themselves end in an error and not in a loop."""
    builder = BtfBuilder()
    builder.add(Kind.TYPEDEF, "a", 2)
    builder.add(Kind.CONST, "", 1)
    builder.add(Kind.ARRAY, "", 0, 4, 4, 2)
    builder.add(Kind.ARRAY, "", 0, 3, 3, 2)
    btf = Btf.parse(builder.build())
    with pytest.raises(ElfError, match="type id 1 refers to itself"):
        btf.resolve(1)
    with pytest.raises(ElfError, match="type id 2 refers to itself"):
        btf.size_of(2)
    with pytest.raises(ElfError, match="array type id 3 contains itself"):
        btf.size_of(3)


def test_a_section_that_holds_itself():
    """Its variables are named without reading them."""
    builder = BtfBuilder()
    builder.datasec(".data", (1, 0, 4))
    btf = Btf.parse(builder.build())
    btf.check()
    assert btf[1].members == (Member(".data", 1, 0, 4),)


def test_ids_and_names_that_do_not_exist():
    """Found when they are asked for."""
    builder = BtfBuilder()
    builder.add(Kind.PTR, "", 77)
    builder.records += builder.pack("III", 5000, int(Kind.PTR) << 24, 0)
    btf = Btf.parse(builder.build())
    for id in (-1, 3, 77):
        with pytest.raises(ElfError, match=f"type id {id} does not exist"):
            btf[id]
    with pytest.raises(ElfError, match="string offset 5000 lies outside of the string table"):
        btf[2]
    with pytest.raises(ElfError, match="type id 1 refers to type id 77, which does not exist"):
        btf.check()


def test_names_that_overlap():
    """Thousands of names that are the ends of one long string are refused: together they would be too long."""
    builder = BtfBuilder()
    start = builder.string("x" * 10_000)
    for offset in range(200):
        builder.records += builder.pack("III", start + offset, int(Kind.STRUCT) << 24, 0)
    btf = Btf.parse(builder.build())
    with pytest.raises(ElfError, match="bad string table: its strings overlap"):
        list(btf)


HEADER = BtfBuilder()
HEADER.int()
GOOD = HEADER.build()


def patched(offset: int, value: int) -> bytes:
    """The section with one 32-bit word changed."""
    return GOOD[:offset] + value.to_bytes(4, "little") + GOOD[offset + 4 :]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not enough data for BTF header"),
        (GOOD[:23], "not enough data for BTF header"),
        (b"\xeb\x9f" + GOOD[2:], "wrong magic 0x9feb, expected 0xeb9f"),
        (GOOD[:2] + b"\x02" + GOOD[3:], "wrong version 2, expected 1"),
        (patched(12, 10**6), "types end at 1000024 of 45 bytes"),
        (GOOD[:-1], "strings end at 45 of 44 bytes"),
        (patched(20, 4), "bad string table: it must begin and end with a zero byte"),
        (patched(20, 0), "bad string table: it must begin and end with a zero byte"),
        (patched(12, 12), "type at 0 ends behind the types"),
        (patched(12, 8), "type at 0 ends behind the types"),
        (patched(28, 0x1F << 24), "type at 0: unknown kind 31"),
        (patched(28, 0), "type at 0: unknown kind 0"),
        (patched(28, 0x0400FFFF), "type at 0 ends behind the types"),
    ],
)
def test_damaged_sections(data: bytes, message: str):
    """Each check of the header and the records."""
    with pytest.raises(ElfError) as caught:
        Btf.parse(data)
    assert str(caught.value) == f"section '.BTF': {message}"


def test_equal_sections_are_equal_values():
    """Whatever has been read of them."""
    one, two = Btf.parse(GOOD), Btf.parse(GOOD)
    assert list(one)
    assert one == two
    assert hash(one) == hash(two)
    assert one != Btf.parse(BtfBuilder().build())
