import errno
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybpf import MapError, MapSpec, maps
from tests.maps.model import ArrayModel
from tests.maps.specs import array_spec

OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["read", "update", "delete"]),
        st.integers(0, 9),
        st.integers(0, 255),
        st.integers(0, 4),
    )
)


@given(OPERATIONS, st.sampled_from([4, 8]), st.integers(1, 20))
def test_operations_are_those_of_linux(
    steps: list[tuple[str, int, int, int]], key_size: int, value_size: int
) -> None:
    """Any sequence of operations gives what the model gives, and leaves the same contents."""
    operations = maps.create(array_spec(value_size, 7, key_size)).operations
    model = ArrayModel(7, value_size)
    for name, index, fill, flags in steps:
        key, value = index.to_bytes(key_size, "little"), bytes([fill]) * value_size
        match name:
            case "read":
                assert operations.read(key) == model.read(key)
            case "update":
                assert operations.update(key, value, flags) == model.update(key, value, flags)
            case "delete":
                assert operations.delete(key) == model.delete(key)
    keys, values = operations.snapshot()
    assert [int.from_bytes(key.tobytes(), "little") for key in keys] == list(range(7))
    assert [value.tobytes() for value in values] == model.values


def test_values_are_there_from_the_start_by_index_or_bytes() -> None:
    counters = maps.create(array_spec(4, 3))
    assert len(counters) == 3
    assert counters[0] == counters[b"\2\0\0\0"] == bytes(4)
    counters[np.uint32(1)] = b"abcd"
    assert counters[b"\1\0\0\0"] == b"abcd"
    assert np.uint8(2) in counters
    assert np.uint8(3) not in counters
    assert list(counters) == [struct.pack("<I", i) for i in range(3)]
    assert dict(counters)[struct.pack("<I", 1)] == b"abcd"


def test_what_an_array_cannot_do_is_a_clear_error() -> None:
    counters = maps.create(array_spec(4, 3))
    with pytest.raises(KeyError):
        counters[3]
    with pytest.raises(MapError, match="index 3 is out of range: the array has 3 values") as caught:
        counters[3] = bytes(4)
    assert caught.value.errno == errno.E2BIG
    with pytest.raises(MapError, match="index -1 is out of range"):
        counters[-1]
    with pytest.raises(MapError, match="cannot be deleted") as caught:
        del counters[0]
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(MapError, match="key has 3 bytes: expected 4"):
        counters[b"abc"]
    with pytest.raises(MapError, match="value has 5 bytes: expected 4"):
        counters[0] = b"abcde"
    with pytest.raises(TypeError):
        counters["a"]  # type: ignore[index]


def test_array_is_the_memory_itself() -> None:
    """What one face writes the other reads at once, with a gap between values of odd sizes too."""
    counters = maps.create(array_spec(8, 4))
    counters.array[2] = 5
    assert counters[2] == struct.pack("<Q", 5)
    counters[3] = struct.pack("<Q", 1 << 63)
    assert counters.array.tolist() == [0, 0, 5, 1 << 63]

    odd = maps.create(array_spec(3, 3))
    odd[1] = b"xyz"
    assert odd.array[1].tobytes() == b"xyz"
    pairs = maps.create(array_spec(12, 2))
    pairs.view([("packets", "<u4"), ("bytes", "<u8")])["bytes"][1] = 7  # type: ignore[arg-type]
    assert pairs[1] == struct.pack("<IQ", 0, 7)
    with pytest.raises(MapError, match="dtype uint32 has 4 bytes: expected 12"):
        pairs.view("<u4")


def test_snapshot_is_a_copy() -> None:
    counters = maps.create(array_spec(8, 3))
    keys, values = counters.snapshot()
    counters.array[:] = 1
    assert keys.tolist() == [0, 1, 2]
    assert values.tolist() == [0, 0, 0]
    assert counters.snapshot(value="<f8")[1].dtype == np.float64


def test_data_sections_have_their_contents() -> None:
    """An initial value shorter than the section leaves zeros behind it; a read-only one refuses updates."""
    data = maps.create(array_spec(8, 1, initial=b"hello"))
    assert data[0] == b"hello\0\0\0"
    rodata = maps.create(array_spec(5, 1, initial=b"hello", read_only=True, flags=1 << 7))
    assert rodata[0] == b"hello"
    with pytest.raises(MapError, match="read-only") as caught:
        rodata[0] = b"world"
    assert caught.value.errno == errno.EPERM
    with pytest.raises(ValueError, match="read-only"):
        rodata.array[0] = 0


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (array_spec(key_size=3), "key_size is 3: an array's index has 4 or 8 bytes"),
        (array_spec(key_size=0), "key_size is 0: expected 1 to 4,294,967,295"),
        (array_spec(value_size=0), "value_size is 0"),
        (array_spec(value_size=-1), "value_size is -1"),
        (array_spec(max_entries=0), "max_entries is 0"),
        (array_spec(max_entries=1 << 32), "max_entries is 4,294,967,296"),
        (array_spec(flags=1), "flags 0x1 are not known for type array"),
        (array_spec(flags=1 << 7), "flags 0x80 are not known for type array"),
        (
            array_spec(4, 1, initial=b"hello"),
            r"5 bytes of initial contents do not fit 1 value\(s\) of 4 bytes",
        ),
        (array_spec(4, 2, initial=b"a"), "1 bytes of initial contents do not fit 2"),
    ],
)
def test_specs_that_are_no_array_are_refused(spec: MapSpec, reason: str) -> None:
    with pytest.raises(MapError, match=f"^map 'counters': {reason}") as caught:
        maps.create(spec)
    assert caught.value.errno == errno.EINVAL
