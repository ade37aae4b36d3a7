"""PacketBatch: selections share the buffer, and no batch reaches outside of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybpf import ArgumentError, PacketBatch

packet_lists = st.lists(st.binary(max_size=40), max_size=12)


def u(bits, *values):
    return np.array(values, dtype=f"u{bits // 8}")


@given(packet_lists)
def test_from_packets_holds_them_in_order(packets):
    batch = PacketBatch.from_packets(packets)
    assert list(batch) == packets
    assert [batch[i] for i in range(len(batch))] == packets
    assert batch.original_lengths.tolist() == batch.lengths.tolist() == [len(p) for p in packets]


@given(packet_lists, st.slices(12))
def test_slice_is_what_a_list_gives(packets, part):
    batch = PacketBatch.from_packets(packets)
    assert list(batch[part]) == packets[part]
    assert batch[part].data.ctypes.data == batch.data.ctypes.data


@given(st.lists(st.tuples(st.binary(max_size=10), st.booleans())))
def test_mask_selects(marked):
    batch = PacketBatch.from_packets([packet for packet, _ in marked])
    chosen = batch[np.array([keep for _, keep in marked], dtype=bool)]
    assert list(chosen) == [packet for packet, keep in marked if keep]


def test_selection_takes_times_lengths_and_link_type_along():
    batch = PacketBatch(
        np.frombuffer(b"abcdef", dtype=np.uint8),
        u(64, 0, 2, 4),
        u(32, 2, 2, 2),
        u(32, 9, 8, 7),
        u(64, 10, 20, 30),
        113,
    )
    chosen = batch[[2, 0]]
    assert list(chosen) == [b"ef", b"ab"]
    assert chosen.original_lengths.tolist() == [7, 9]
    assert chosen.timestamps.tolist() == [30, 10]
    assert chosen.link_type == 113


def test_numbers_index_as_in_a_list():
    batch = PacketBatch.from_packets([b"a", b"b", b"c"])
    assert batch[-1] == batch[np.int64(2)] == b"c"
    for outside in (3, -4):
        with pytest.raises(IndexError):
            batch[outside]
    with pytest.raises(TypeError):
        batch["a"]


@given(packet_lists.filter(bool), st.integers(0, 40))
def test_repeat_cycles_without_copying(packets, count):
    batch = PacketBatch.from_packets(packets)
    repeated = batch.repeat(count)
    assert list(repeated) == [packets[i % len(packets)] for i in range(count)]
    assert repeated.data.ctypes.data == batch.data.ctypes.data


def test_repeat_of_nothing():
    empty = PacketBatch.from_packets([])
    assert len(empty.repeat(0)) == 0
    with pytest.raises(ArgumentError, match="1 packets cannot be made out of 0"):
        empty.repeat(1)
    with pytest.raises(ArgumentError, match="-1 packets"):
        PacketBatch.from_packets([b"a"]).repeat(-1)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 50))
def test_no_batch_reaches_outside_its_buffer(offset, length, size):
    """Accepted exactly where offset + length stays within the buffer, however large the numbers are."""
    arguments = np.zeros(size, dtype=np.uint8), u(64, offset), u(32, length), u(32, length), u(64, 0)
    if offset + length <= size:
        assert PacketBatch(*arguments)[0] == bytes(length)
    else:
        with pytest.raises(ArgumentError, match=f"packet 0: {length} bytes at offset {offset} do not lie in"):
            PacketBatch(*arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": u(32, 1, 1)}, "lengths: 2 entries for 1 offsets"),
        ({"timestamps": u(64)}, "timestamps: 0 entries for 1 offsets"),
        (
            {"offsets": np.array([-1])},
            "offsets: entries are not whole numbers from 0 to 18446744073709551615",
        ),
        ({"lengths": np.array([2**32 + 1])}, "lengths: entries are not whole numbers from 0 to 4294967295"),
        ({"lengths": np.array([0.5])}, "lengths: entries are not whole numbers"),
        ({"data": np.zeros((2, 2), dtype=np.uint8)}, "data: an array of 2 dimensions"),
        ({"link_type": 1 << 16}, "link type 65536 is not a 16-bit number"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    good = {
        "data": np.zeros(4, dtype=np.uint8),
        "offsets": u(64, 0),
        "lengths": u(32, 4),
        "original_lengths": u(32, 4),
        "timestamps": u(64, 0),
    }
    assert len(PacketBatch(**good)) == 1
    with pytest.raises(ArgumentError, match=message):
        PacketBatch(**good | change)


def test_a_batch_cannot_be_bent_afterwards():
    """Neither through its own arrays nor through those it was made of: engines trust its bounds."""
    offsets = u(64, 0)
    batch = PacketBatch(np.zeros(4, dtype=np.uint8), offsets, u(32, 4), u(32, 4), u(64, 0))
    offsets[0] = 1 << 40
    assert batch.offsets.tolist() == [0]
    for column in (batch.data, batch.offsets, batch.lengths, batch.original_lengths, batch.timestamps):
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1
    with pytest.raises(AttributeError):
        batch.offsets = offsets


def test_columns_are_contiguous_even_of_a_stepped_slice():
    batch = PacketBatch.from_packets([b"a", b"b", b"c", b"d"])[::-2]
    assert list(batch) == [b"d", b"b"]
    assert all(column.flags.c_contiguous for column in (batch.offsets, batch.lengths, batch.timestamps))


def test_repr_is_short():
    batch = PacketBatch.from_packets([b"abc"] * 1000)
    assert repr(batch) == "<PacketBatch: 1000 packets, 3000 bytes, link type 1>"


@pytest.mark.parametrize(
    ("lengths", "aligned"),
    [
        ([64, 128, 0, 64], True),
        ([1500, 1514, 600, 64], True),
        ([66] * 9, False),
        ([60, 1514], True),
        ([], True),
        ([1, 1], False),
    ],
)
def test_long_packets_begin_on_cache_lines(lengths: list[int], aligned: bool) -> None:
    """At most an eighth of the memory lies between them; where it would be more, they lie one after another."""
    packets = [bytes([number + 1]) * length for number, length in enumerate(lengths)]
    batch = PacketBatch.from_packets(packets)
    assert list(batch) == packets
    places = (batch.offsets + np.uint64(batch.data.ctypes.data)) % 64
    assert (places == 0).all() == aligned
    assert len(batch.data) <= (sum(lengths) * 9 // 8 if aligned else sum(lengths))
    assert int(batch.data.sum(dtype=np.uint64)) == sum(
        (i + 1) * length & 0xFFFF for i, length in enumerate(lengths)
    )
