"""Python values become the bytes that C programs read, or an error that names the member."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest

from pybpf.btf import Btf, Kind
from pybpf.btf.encoding import encode_value
from pybpf.btf.values import read_value
from pybpf.errors import ElfError
from tests.btf.builder import BtfBuilder


class Types:
    """Types of both byte orders, by name."""

    def __init__(self, byteorder: str = "little") -> None:
        builder = BtfBuilder(byteorder)
        u8, u32, s32 = (
            builder.int("unsigned char", 1, 0),
            builder.int("unsigned int", 4, 0),
            builder.int("int"),
        )
        char, u16 = builder.int("char", 1, 1), builder.int("unsigned short", 2, 0)
        address, port = builder.add(Kind.TYPEDEF, "__be32", u32), builder.add(Kind.TYPEDEF, "__be16", u16)
        inner = builder.struct("", 4, ("low", u16, 0), ("high", u16, 16))
        words = [(builder.string(name), type, 0) for name, type in (("whole", u32), ("", inner))]
        union = builder.add(Kind.UNION, "", 4, *(word for each in words for word in each), vlen=2)
        bits = [(builder.string("a"), u32, 3 << 24 | 0), (builder.string("b"), s32, 5 << 24 | 3)]
        self.ids = {
            "u8": u8,
            "s32": s32,
            "flow": builder.struct("flow", 8, ("source", address, 0), ("port", port, 32), ("tag", u8, 48)),
            "state": builder.add(
                Kind.ENUM, "state", 4, builder.string("CLOSED"), 0, builder.string("OPEN"), 7, vlen=2
            ),
            "text": builder.add(Kind.ARRAY, "", 0, char, u32, 8),
            "pair": builder.add(Kind.ARRAY, "", 0, u16, u32, 2),
            "mixed": builder.struct("mixed", 8, ("first", u32, 0), ("", union, 32)),
            "bits": builder.add(
                Kind.STRUCT, "bits", 4, *(word for each in bits for word in each), vlen=2, flag=True
            ),
            "double": builder.add(Kind.FLOAT, "double", 8),
            "quad": builder.add(Kind.FLOAT, "long double", 16),
            "pointer": builder.add(Kind.PTR, "", u8),
        }
        self.btf = Btf.parse(builder.build(), byteorder)  # type: ignore[arg-type]

    def encode(self, name: str, value: object) -> bytes:
        return encode_value(self.btf, self.ids[name], value, self.btf.size_of(self.ids[name]))

    def decode(self, name: str, data: bytes) -> object:
        return read_value(self.btf, self.ids[name], data)


@pytest.mark.parametrize(
    ("name", "value", "data"),
    [
        ("s32", -2, "feffffff"),
        ("u8", True, "01"),
        ("flow", {"source": "10.0.0.1", "port": 80, "tag": 3}, "0a000001 0050 03 00"),
        ("flow", {"tag": 3}, "00000000 0000 03 00"),
        ("flow", (IPv4Address("10.0.0.1"), 80), "0a000001 0050 00 00"),
        ("flow", [0x0A000001], "0a000001 0000 00 00"),
        ("state", "OPEN", "07000000"),
        ("state", 9, "09000000"),
        ("text", "abc", b"abc".ljust(8, b"\0").hex()),
        ("text", b"\xff", "ff00000000000000"),
        ("pair", (1, 2), "0100 0200"),
        ("pair", [5], "0500 0000"),
        ("mixed", {"first": 1, "high": 2}, "01000000 0000 0200"),
        ("mixed", {"whole": 0x00020001, "low": 5}, "00000000 0500 0200"),
        ("bits", {"a": 5, "b": -3}, f"{5 | 0b11101 << 3:02x}000000"),
        ("double", 0.5, struct.pack("<d", 0.5).hex()),
        ("quad", bytes(16), bytes(16).hex()),
        ("pointer", 0x1000, "0010000000000000"),
    ],
)
def test_values(name: str, value: object, data: str) -> None:
    """In the order of the machine, but for what the network orders; what is left out is zero."""
    assert Types().encode(name, value) == bytes.fromhex(data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("flow", {"source": IPv4Address("10.0.0.1"), "port": 80, "tag": 3}),
        ("bits", {"a": 5, "b": -3}),
        ("state", "OPEN"),
        ("text", "abc"),
        ("pair", [1, 65535]),
        ("double", -2.5),
    ],
)
@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_read_again(byteorder: str, name: str, value: object) -> None:
    """Reading is the inverse, in both byte orders."""
    types = Types(byteorder)
    assert types.decode(name, types.encode(name, value)) == value


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("u8", 256, "256 is not within 0 to 255"),
        ("u8", -1, "-1 is not within 0 to 255"),
        ("u8", "1", "expected a number, not '1'"),
        ("flow", {"port": 1 << 16}, "port: 65536 is not within 0 to 65535"),
        ("flow", {"ports": 1}, "there is no member 'ports': known are source, port, tag"),
        ("flow", {"source": "10.0.0"}, "10.0.0"),
        ("flow", (1, 2, 3, 4), "4 values for 3 members"),
        ("flow", 7, "expected the members source, port, tag, not 7"),
        ("state", "OPENED", "'OPENED' is none of CLOSED, OPEN"),
        ("text", "too long a text", "15 elements for an array of 8"),
        ("pair", 5, "expected 2 elements, not 5"),
        ("pair", (1, -1), r"\[1\]: -1 is not within 0 to 65535"),
        ("bits", {"a": 8}, "a: 8 is not within 0 to 7"),
        ("bits", {"b": 16}, "b: 16 is not within -16 to 15"),
        ("quad", 1.0, "expected 16 bytes"),
    ],
)
def test_what_does_not_fit(name: str, value: object, message: str) -> None:
    """The member is named, and what it could hold."""
    with pytest.raises(ValueError, match=message):
        Types().encode(name, value)


def test_types_that_contain_themselves() -> None:
    """Refused in bounded time."""
    builder = BtfBuilder()
    endless = builder.struct("endless", 4, ("", 1, 0))
    btf = Btf.parse(builder.build())
    with pytest.raises(ElfError, match="too many parts"):
        encode_value(btf, endless, {}, 4)
