"""The classic format, against files put together here field by field."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybpf import ArgumentError, CaptureError, PacketBatch, read_pcap, write_pcap

MICROSECONDS, NANOSECONDS = 0xA1B2C3D4, 0xA1B23C4D
ORDERS = pytest.mark.parametrize("order", ["<", ">"])


def file_header(order="<", magic=MICROSECONDS, version=(2, 4), snap_length=65535, link_type=1):
    return struct.pack(order + "IHHiIII", magic, *version, 0, 0, snap_length, link_type)


def record(packet, order="<", seconds=0, fraction=0, captured=None, original=None):
    captured = len(packet) if captured is None else captured
    original = captured if original is None else original
    return struct.pack(order + "IIII", seconds, fraction, captured, original) + packet


def refusal(data, **options):
    with pytest.raises(CaptureError) as caught:
        read_pcap(data, **options)
    assert "\n" not in str(caught.value)
    return caught.value


@ORDERS
@pytest.mark.parametrize(("magic", "unit"), [(MICROSECONDS, 1000), (NANOSECONDS, 1)])
def test_both_byte_orders_and_resolutions(order, magic, unit):
    data = file_header(order, magic, link_type=113)
    data += record(b"abc", order, 1_700_000_000, 999_999, original=60)
    data += record(b"", order, 2**32 - 1, 7)
    batch = read_pcap(data)
    assert list(batch) == [b"abc", b""]
    assert batch.timestamps.tolist() == [
        1_700_000_000 * 10**9 + 999_999 * unit,
        (2**32 - 1) * 10**9 + 7 * unit,
    ]
    assert batch.original_lengths.tolist() == [60, 0]
    assert batch.link_type == 113


def test_no_packets_is_a_capture_too():
    assert len(read_pcap(file_header())) == 0


def test_link_type_leaves_frame_check_bits_out():
    """The upper bits say how long the frame check sequences are (draft-ietf-opsawg-pcap, section 4)."""
    assert read_pcap(file_header(link_type=0x5400_0001)).link_type == 1


@ORDERS
@pytest.mark.parametrize("size", range(4, 24))
def test_file_header_cut(order, size):
    """No packet can be kept, so this is an error either way."""
    for truncated in ("error", "keep"):
        error = refusal(file_header(order)[:size], truncated=truncated)
        assert str(error) == f"capture: byte 0: {size} bytes of a file header of 24"


def test_unknown_version():
    assert "pcap version 2.3 is not known" in str(refusal(file_header(version=(2, 3))))


@pytest.mark.parametrize("missing", range(1, 21))
def test_cut_in_the_middle_of_a_packet(missing):
    """In its record header or in its bytes: an error that says what is whole, unless that is asked for."""
    whole = file_header() + record(b"first") + record(b"second")
    data = (whole + record(b"last"))[:-missing]
    if missing == 20:
        assert len(read_pcap(data)) == 2
        return
    error = refusal(data)
    assert error.packet == 2
    assert str(error) == (
        f"capture: byte {len(whole)}: after 2 whole packets: the capture is cut off: {20 - missing} bytes "
        "of a packet (truncated='keep' reads the whole packets)"
    )
    assert list(read_pcap(data, truncated="keep")) == [b"first", b"second"]


@pytest.mark.parametrize(
    ("snap_length", "captured", "reason"),
    [
        (96, 97, "97 bytes is more than the snap length 96"),
        (0, 262145, "262145 bytes is more than any packet's 262144"),
        (2**32 - 1, 2**32 - 1, "4294967295 bytes is more than any packet's 262144"),
    ],
)
def test_absurd_lengths(snap_length, captured, reason):
    """Damage, not a cut: keeping what came before would hide that the rest was lost."""
    data = file_header(snap_length=snap_length) + record(b"good") + record(bytes(300000), captured=captured)
    for truncated in ("error", "keep"):
        error = refusal(data, truncated=truncated)
        assert error.packet == 1
        assert str(error) == f"capture: byte 44: after 1 whole packets: a captured length of {reason}"


def test_longest_packet():
    packet = bytes(262144)
    assert list(read_pcap(file_header(snap_length=0) + record(packet))) == [packet]


times = st.integers(0, 2**32 * 10**9 - 1)
stored = st.tuples(
    st.binary(max_size=50), times | times.map(lambda ns: ns // 1000 * 1000), st.integers(0, 2**32 - 1)
)


@given(st.lists(stored, max_size=8), st.integers(0, 65535))
def test_what_is_written_is_read_again(packets, link_type):
    batch = PacketBatch.from_packets([p for p, _, _ in packets])
    batch = PacketBatch(
        batch.data,
        batch.offsets,
        batch.lengths,
        [o for _, _, o in packets],
        [t for _, t, _ in packets],
        link_type,
    )
    write_pcap(stream := io.BytesIO(), batch)
    again = read_pcap(stream.getvalue())
    assert list(again) == list(batch)
    assert again.timestamps.tolist() == batch.timestamps.tolist()
    assert again.original_lengths.tolist() == batch.original_lengths.tolist()
    assert again.link_type == link_type


def test_written_bytes():
    """Exactly the file put together by hand; nanoseconds only where a time needs them."""
    for magic, fraction, ns in ((MICROSECONDS, 5, 5000), (NANOSECONDS, 5010, 5010)):
        write_pcap(stream := io.BytesIO(), PacketBatch.from_packets([b"abc"], timestamps=[3 * 10**9 + ns]))
        expected = file_header(magic=magic, snap_length=262144) + record(b"abc", seconds=3, fraction=fraction)
        assert stream.getvalue() == expected


def test_a_selection_can_replace_the_capture_it_came_from(tmp_path):
    path = tmp_path / "some.pcap"
    write_pcap(path, PacketBatch.from_packets([b"keep", b"drop", b"keep too"]))
    batch = read_pcap(path)
    write_pcap(path, batch[[0, 2]])
    assert list(read_pcap(path)) == [b"keep", b"keep too"]


def test_what_the_format_cannot_hold(tmp_path):
    """Refused before anything is written."""
    path = tmp_path / "some.pcap"
    with pytest.raises(ArgumentError, match="packet 1: 262145 bytes at 0 s do not fit"):
        write_pcap(path, PacketBatch.from_packets([b"", bytes(262145)]))
    with pytest.raises(ArgumentError, match="packet 0: 0 bytes at 4294967296 s do not fit"):
        write_pcap(path, PacketBatch.from_packets([b""], timestamps=[2**32 * 10**9]))
    assert not path.exists()


def test_file_that_cannot_be_written(tmp_path):
    with pytest.raises(CaptureError, match="Is a directory"):
        write_pcap(tmp_path, PacketBatch.from_packets([]))
    with pytest.raises(CaptureError, match="No such file or directory"):
        write_pcap(tmp_path / "missing" / "some.pcap", PacketBatch.from_packets([]))
