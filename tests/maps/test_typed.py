import numpy as np
import pytest

from pybpf import ArgumentError, MapError, maps
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
