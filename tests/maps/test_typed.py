import copy
import pickle
from dataclasses import replace
from ipaddress import IPv4Address

import numpy as np
import pytest

from pybpf import ArgumentError, MapError, maps
from pybpf.btf import Btf, Kind
from pybpf.maps.typed import Record
from tests.btf.builder import BtfBuilder
from tests.maps.specs import array_spec, hash_spec


def test_formats_of_several_fields_are_tuples_and_of_one_a_scalar() -> None:
    flows = maps.create(hash_spec(8, 16, 10))
    view = flows.typed("<IHH", "<QQ")
    view[1, 80, 443] = (2, 3)
    assert view[1, 80, 443] == (2, 3)
    assert dict(view) == {(1, 80, 443): (2, 3)}
    assert flows[b"\1\0\0\0\x50\0\xbb\1"] == b"\2".ljust(8, b"\0") + b"\3".ljust(8, b"\0")
    assert (1, 80, 443) in view
    del view[1, 80, 443]
    assert len(view) == 0
    scalar = maps.create(hash_spec(4, 8, 10)).typed(">I", "<q")
    scalar[0x0A000001] = -5
    assert list(scalar.items()) == [(0x0A000001, -5)]


def test_numpy_dtypes_are_formats_too() -> None:
    flows = maps.create(hash_spec(8, 8, 10))
    view = flows.typed(np.dtype([("address", ">u4"), ("port", ">u2"), ("pad", "<u2")]), np.dtype("<f8"))
    view[0x0A000001, 80, 0] = 0.5
    assert dict(view) == {(0x0A000001, 80, 0): 0.5}
    assert flows[b"\x0a\0\0\1\0\x50\0\0"] == np.float64(0.5).tobytes()


def test_bytes_where_no_format_is_given() -> None:
    view = maps.create(array_spec(8, 2)).typed(value="<Q")
    view[b"\1\0\0\0"] = 7
    assert list(view.values()) == [0, 7]
    assert maps.create(array_spec(8, 2)).typed("<I")[1] == bytes(8)


def test_missing_keys_are_named_as_they_were_asked_for() -> None:
    view = maps.create(hash_spec(8, 8, 10)).typed("<IHH")
    with pytest.raises(KeyError, match=r"\(1, 2, 3\)"):
        view[1, 2, 3]
    with pytest.raises(KeyError, match=r"\(1, 2, 3\)"):
        del view[1, 2, 3]


@pytest.mark.parametrize("key", [(1, 2), (1, 2, 3, 4), 7, (1 << 40, 2, 3), ("a", 1, 2)])
def test_items_that_do_not_fit_are_map_errors(key: object) -> None:
    view = maps.create(hash_spec(8, 8, 10)).typed("<IHH")
    with pytest.raises(MapError, match=r"^map 'flows': key .* does not fit its format: "):
        view[key]


def test_formats_are_checked() -> None:
    flows = maps.create(hash_spec(8, 8, 10))
    with pytest.raises(MapError, match="key format '<I' has 4 bytes: expected 8"):
        flows.typed("<I")
    with pytest.raises(ArgumentError, match="expected a byte order first"):
        flows.typed("Q")
    with pytest.raises(ArgumentError, match="format '<y'"):
        flows.typed("<y")


def described() -> tuple[Btf, int, int]:
    """Types for the keys and values of a map: struct flow and struct counters."""
    builder = BtfBuilder()
    u16, u32 = builder.int("unsigned short", 2, 0), builder.int("unsigned int", 4, 0)
    address = builder.add(Kind.TYPEDEF, "__be32", u32)
    pair = builder.add(Kind.ARRAY, "", 0, u16, u32, 2)
    flow = builder.struct("flow", 8, ("source", address, 0), ("ports", pair, 32))
    counters = builder.struct("counters", 8, ("packets", u32, 0), ("bytes", u32, 32))
    return Btf.parse(builder.build()), flow, counters


def test_types_of_the_definition_give_named_members() -> None:
    btf, flow, counters = described()
    spec = replace(hash_spec(8, 8, 10), key_type=flow, value_type=counters, btf=btf)
    flows = maps.create(spec)
    view = flows.typed
    view[{"source": "10.0.0.1", "ports": (80, 443)}] = {"packets": 1, "bytes": 60}
    assert flows[bytes.fromhex("0a000001 5000 bb01")] == bytes.fromhex("01000000 3c000000")
    assert view["10.0.0.1", (80, 443)].bytes == 60
    assert list(view.items()) == [
        ({"source": IPv4Address("10.0.0.1"), "ports": (80, 443)}, {"packets": 1, "bytes": 60})
    ]
    key = next(iter(view))
    view[key] |= {"packets": 2}
    assert dict(view) == {key: {"packets": 2, "bytes": 60}}
    assert key in view
    with pytest.raises(
        MapError, match=r"^map 'flows': key .* does not fit its format: there is no member 'sauce'"
    ):
        view[{"sauce": 1}]
    with pytest.raises(KeyError, match="source"):
        del view[{"source": 1}]


def test_without_types_an_index_is_a_number_and_a_value_bytes() -> None:
    array = maps.create(array_spec(8, 2))
    array.typed[1] = b"12345678"
    assert dict(array.typed) == {0: bytes(8), 1: b"12345678"}
    with pytest.raises(MapError, match="key 'x' does not fit"):
        array.typed["x"]


def test_records_are_like_dicts_that_do_not_change() -> None:
    record = Record({"a": 1, "items": 2})
    assert record == {"a": 1, "items": 2} == dict(record)
    assert (record.a, record["items"], len(record)) == (1, 2, 2)
    assert {record: 3}[Record({"items": 2, "a": 1})] == 3
    assert copy.copy(record) == pickle.loads(pickle.dumps(record)) == record
    assert record != {"a": 1}
    assert record != 7
    with pytest.raises(AttributeError, match="no member 'b'"):
        _ = record.b
    with pytest.raises(TypeError):
        record["a"] = 2  # type: ignore[index]
