"""Values read by their types are those that the compiler wrote."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from pybpf import load
from pybpf.btf import Btf, Kind
from pybpf.btf.encoding import encode_value
from pybpf.btf.values import read_value
from pybpf.errors import ElfError
from pybpf.program import Object
from tests.btf.builder import BtfBuilder


@pytest.fixture(scope="module", params=["bpfel", "bpfeb"])
def compiled(
    request: pytest.FixtureRequest, tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Object:
    """`values.c` in both byte orders."""
    path = tmp_path_factory.mktemp("values") / "values.o"
    source = Path(__file__).with_name("values.c")
    subprocess.run(
        [tool("clang-22"), "-target", request.param, "-g", "-O2", "-c", source, "-o", path], check=True
    )
    return load(path)


@pytest.mark.oracle
@pytest.mark.slow
def test_as_the_compiler_lays_them_out(compiled: Object) -> None:
    """Every kind of value, bit-fields in the order of the target, variables in their places in the section."""
    little = compiled.byteorder == "little"
    data = compiled.maps[".data"]
    assert compiled.btf is not None
    assert data.value_type is not None
    assert data.initial is not None
    assert read_value(compiled.btf, data.value_type, data.initial) == {
        "everything": {
            "tiny": -5,
            "yes": True,
            "no_char": b"\x01\x02\xff",
            "text": "abc",
            "garbage": b"a\0b\0",
            "negative": -1234567890123,
            "large": 0xFEDCBA9876543210,
            "state": "OPEN",
            "unknown_state": 9,
            "sign": "MINUS",
            "wide": "FAR",
            "ratio": 0.5,
            "half": -1.25,
            "pair": [{"low": -1, "high": 1}, {"low": 2, "high": 4000000000}],
            "low3": 5,
            "next7": 100,
            "negative5": -3,
            "state4": "OPEN",
            "bit": True,
            "whole": 0x04030201,
            "first": 1 if little else 4,
            "rest": b"\x02\x03\x04" if little else b"\x03\x02\x01",
            "port": 8080,
            "address": IPv4Address("10.0.0.1"),
            "token": 0x0102030405060708,
            "source": b"\x02\0\0\0\0\x01",
            "grid": [[1, 2, 3], [4, 5, 6]],
            "nothing": [],
            "pointer": 0x1000,
        },
        "after": 42,
        "hidden": 43,
    }
    limit = compiled.maps[".rodata"]
    assert limit.value_type is not None
    assert limit.initial is not None
    assert read_value(compiled.btf, limit.value_type, limit.initial) == {"limit": 7}


@pytest.mark.oracle
@pytest.mark.slow
def test_written_as_they_were_read(compiled: Object) -> None:
    """Every byte comes back, whichever kind of value it belongs to."""
    data = compiled.maps[".data"]
    assert compiled.btf is not None
    assert data.value_type is not None
    assert data.initial is not None
    value = read_value(compiled.btf, data.value_type, data.initial)
    assert encode_value(compiled.btf, data.value_type, value, len(data.initial)) == data.initial


def parsed(builder: BtfBuilder) -> Btf:
    return Btf.parse(builder.build())


def test_size_must_fit() -> None:
    builder = BtfBuilder()
    number = builder.int()
    with pytest.raises(ElfError, match="4 bytes, the value 3"):
        read_value(parsed(builder), number, bytes(3))


def test_types_without_a_size() -> None:
    builder = BtfBuilder()
    prototype = builder.add(Kind.FUNC_PROTO)
    with pytest.raises(ElfError, match="no size"):
        read_value(parsed(builder), prototype, b"")


def test_bool_that_is_neither() -> None:
    """A byte that no C program would store is shown as it is."""
    builder = BtfBuilder()
    yes = builder.int("_Bool", 1, 4)
    btf = parsed(builder)
    assert [read_value(btf, yes, bytes([byte])) for byte in (0, 1, 2)] == [False, True, 2]


def test_floats_of_unknown_width_stay_bytes() -> None:
    builder = BtfBuilder()
    double, quad = builder.add(Kind.FLOAT, "double", 8), builder.add(Kind.FLOAT, "long double", 16)
    btf = parsed(builder)
    assert read_value(btf, double, struct.pack("<d", 2.5)) == 2.5
    assert read_value(btf, quad, bytes(16)) == bytes(16)


def test_member_behind_the_end() -> None:
    """A struct whose size is less than that of its members."""
    builder = BtfBuilder()
    number = builder.int()
    small = builder.struct("small", 4, ("a", number, 0), ("b", number, 32))
    with pytest.raises(ElfError, match="'b' ends at byte 8 of 4"):
        read_value(parsed(builder), small, bytes(4))


def test_bit_field_behind_the_end() -> None:
    builder = BtfBuilder()
    number = builder.int()
    name = builder.string("a")
    small = builder.add(Kind.STRUCT, "small", 4, name, number, 8 << 24 | 28, vlen=1, flag=True)
    with pytest.raises(ElfError, match="'a' ends at bit 36 of 32"):
        read_value(parsed(builder), small, bytes(4))


def test_struct_that_contains_itself() -> None:
    builder = BtfBuilder()
    struct_ = builder.struct("endless", 4, ("again", 1, 0))
    with pytest.raises(ElfError, match="too many parts"):
        read_value(parsed(builder), struct_, bytes(4))


def test_parts_without_a_size_are_bounded() -> None:
    """Ten members of ten members of ...: no bytes, and more parts than anybody can read."""
    builder = BtfBuilder()
    inner = builder.struct("level0", 0)
    for level in range(1, 8):
        inner = builder.struct(f"level{level}", 0, *((f"m{i}", inner, 0) for i in range(10)))
    with pytest.raises(ElfError, match="too many parts"):
        read_value(parsed(builder), inner, b"")


def test_array_of_nothing_is_empty() -> None:
    """Four thousand million elements that take no room."""
    builder = BtfBuilder()
    nothing = builder.struct("nothing", 0)
    index = builder.int()
    array = builder.add(Kind.ARRAY, "", 0, nothing, index, 0xFFFF_FFFF)
    assert read_value(parsed(builder), array, b"") == []


def test_variable_that_was_cut_down_stays_bytes() -> None:
    """Compilers keep the one byte of an array that is used, and its type."""
    builder = BtfBuilder()
    char, index = builder.int("char", 1), builder.int()
    variable = builder.add(Kind.VAR, "name", builder.add(Kind.ARRAY, "", 0, char, index, 16), 1)
    section = builder.datasec(".data", (variable, 2, 1))
    assert read_value(parsed(builder), section, b"..x.") == {"name": b"x"}
