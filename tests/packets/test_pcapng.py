"""The block format, against files put together here block by block."""

from __future__ import annotations

import struct

import pytest

from pybpf import CaptureError, read_pcap

ORDERS = pytest.mark.parametrize("order", ["<", ">"])


def block(order, kind, body):
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def option(order, code, value):
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order="<", version=(1, 0), options=b""):
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, *version, -1) + options)


def interface(order="<", link_type=1, snap_length=0, options=b""):
    return block(order, 1, struct.pack(order + "HHI", link_type, 0, snap_length) + options)


def packet(data, order="<", interface=0, ticks=0, captured=None, original=None, options=b""):
    captured = len(data) if captured is None else captured
    original = captured if original is None else original
    fields = struct.pack(order + "IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, captured, original)
    return block(order, 6, fields + data + bytes(-len(data) % 4) + options)


def old_packet(data, order="<", interface=0, ticks=0, drops=0):
    fields = (interface, drops, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(order, 2, struct.pack(order + "HHIIII", *fields) + data)


def simple_packet(data, order="<", original=None):
    return block(order, 3, struct.pack(order + "I", len(data) if original is None else original) + data)


def resolution(order, exponent):
    return option(order, 9, bytes([exponent]))


def refusal(data, **options):
    with pytest.raises(CaptureError) as caught:
        read_pcap(data, **options)
    assert "\n" not in str(caught.value)
    return caught.value


@ORDERS
def test_packets_of_all_three_kinds(order):
    data = section(order) + interface(order)
    data += packet(b"enhanced", order, ticks=1_700_000_000_000_001, original=1500)
    data += simple_packet(b"simple", order)
    data += old_packet(b"old", order, ticks=5, drops=77)
    batch = read_pcap(data)
    assert list(batch) == [b"enhanced", b"simple", b"old"]
    assert batch.original_lengths.tolist() == [1500, 6, 3]
    assert batch.timestamps.tolist() == [1_700_000_000_000_001_000, 0, 5000]
    assert batch.link_type == 1


@pytest.mark.parametrize(
    ("exponent", "ticks", "nanoseconds"),
    [
        (0, 7, 7 * 10**9),
        (3, 7, 7 * 10**6),
        (6, 7, 7000),
        (9, 2**64 - 1, 2**64 - 1),
        (12, 10**12 + 1999, 10**9 + 1),
        (127, 7, 0),
        (0x80 | 0, 3, 3 * 10**9),
        (0x80 | 10, 1024 + 512, 1_500_000_000),
        (0x80 | 32, 1 << 63, (1 << 31) * 10**9),
        (0x80 | 127, 7, 0),
    ],
)
@ORDERS
def test_time_resolutions(order, exponent, ticks, nanoseconds):
    """Powers of ten and of two, rounded down to whole nanoseconds without passing through a float."""
    data = (
        section(order)
        + interface(order, options=resolution(order, exponent))
        + packet(b"", order, ticks=ticks)
    )
    assert read_pcap(data).timestamps.tolist() == [nanoseconds]


@pytest.mark.parametrize("offset", [5, -5])
@pytest.mark.parametrize("exponent", [6, 0x80 | 20])
@ORDERS
def test_time_offset(order, offset, exponent):
    """Seconds to be added, negative ones too."""
    unit = 10**6 if exponent == 6 else 2**20
    options = resolution(order, exponent) + option(order, 14, struct.pack(order + "q", offset))
    data = section(order) + interface(order, options=options) + packet(b"", order, ticks=20 * unit)
    assert read_pcap(data).timestamps.tolist() == [(20 + offset) * 10**9]


@pytest.mark.parametrize(
    ("exponent", "offset", "ticks"),
    [
        (6, 0, 2**64 // 1000 + 1),
        (9, 1, 2**64 - 10**9),
        (6, -1, 999_999),
        (0x80 | 10, -1, 1023),
        (0, 2**62, 1),
        (12, -(2**62), 1),
    ],
)
def test_times_that_do_not_fit(exponent, offset, ticks):
    """An error that names the packet; the ticks before (see below) are read."""
    options = resolution("<", exponent) + option("<", 14, struct.pack("<q", offset))
    data = section() + interface(options=options) + simple_packet(b"") + packet(b"", ticks=ticks)
    error = refusal(data)
    assert error.packet == 1
    assert f"the time, {ticks} ticks, is not between 1970 and 2554" in str(error)


@pytest.mark.parametrize(
    ("exponent", "offset", "ticks", "nanoseconds"),
    [
        (6, 0, 2**64 // 1000, 2**64 // 1000 * 1000),
        (9, 1, 2**64 - 1 - 10**9, 2**64 - 1),
        (6, -1, 1_000_000, 0),
        (0x80 | 10, -1, 1024, 0),
    ],
)
def test_times_that_just_fit(exponent, offset, ticks, nanoseconds):
    options = resolution("<", exponent) + option("<", 14, struct.pack("<q", offset))
    data = section() + interface(options=options) + packet(b"", ticks=ticks)
    assert read_pcap(data).timestamps.tolist() == [nanoseconds]


def test_every_interface_has_its_own_clock():
    data = (
        section()
        + interface(options=resolution("<", 9))
        + interface(options=resolution("<", 3))
        + interface()
    )
    for number in (0, 2, 1, 0, 2):
        data += packet(bytes([number]), interface=number, ticks=1)
    assert read_pcap(data).timestamps.tolist() == [1, 1000, 10**6, 1, 1000]


def test_sections_have_their_own_byte_order_and_interfaces():
    """As files concatenated with cat: the second section's interface 0 is not the first's."""
    data = section("<") + interface("<", options=resolution("<", 9)) + packet(b"little", "<", ticks=3)
    data += section(">") + interface(">", options=resolution(">", 3)) + packet(b"big", ">", ticks=3)
    data += section("<") + interface("<") + packet(b"little again", "<", ticks=3)
    batch = read_pcap(data)
    assert list(batch) == [b"little", b"big", b"little again"]
    assert batch.timestamps.tolist() == [3, 3 * 10**6, 3000]


@ORDERS
def test_other_blocks_and_options_are_skipped(order):
    """Names, statistics, custom and unknown blocks; comments, and options behind the end of options."""
    comment = option(order, 1, b"a comment")
    end = option(order, 0, b"")
    data = section(order, (1, 2), comment + end) + block(order, 4, b"names") + block(order, 0x80000BAD, b"")
    data += interface(order, options=comment + end + resolution(order, 9)) + block(order, 5, bytes(8))
    data += packet(b"abc", order, ticks=1, options=comment + end) + block(order, 0xBAD, bytes(64))
    batch = read_pcap(data)
    assert list(batch) == [b"abc"]
    assert batch.timestamps.tolist() == [1000]


@ORDERS
def test_simple_packets_are_cut_at_the_snap_length(order):
    """They do not say how much was captured: it is the smaller of original and snap length."""
    data = section(order) + interface(order, snap_length=6) + simple_packet(b"abcdef", order, original=60)
    data += simple_packet(b"abc", order)
    batch = read_pcap(data)
    assert list(batch) == [b"abcdef", b"abc"]
    assert batch.original_lengths.tolist() == [60, 3]


def test_link_type_is_that_of_the_packets():
    """An interface that captured nothing does not count; one of another kind that did is an error."""
    head = section() + interface(link_type=1) + interface(link_type=113)
    assert read_pcap(head + packet(b"", interface=1)).link_type == 113
    assert read_pcap(head).link_type == 1
    assert read_pcap(section()).link_type == 1
    error = refusal(head + packet(b"", interface=1) + packet(b""))
    assert "packets of several link types (1, 113)" in str(error)


HEAD = section() + interface()


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (packet(b"abc", interface=1), "interface 1 of a section that describes 1"),
        (old_packet(b"abc", interface=65535), "interface 65535 of a section that describes 1"),
        (packet(b"abc", captured=5), "5 bytes captured in a block with room for 4"),
        (packet(b"abc", captured=2**32 - 1), "4294967295 bytes captured in a block with room for 4"),
        (simple_packet(b"abc", original=5), "5 bytes captured in a block with room for 4"),
        (packet(bytes(262145)), "262145 bytes captured, more than the snap length 262144"),
        (struct.pack("<II", 6, 0), "a block of type 0x6 cannot be 0 bytes long"),
        (struct.pack("<III", 0xBAD, 13, 0), "a block of type 0xbad cannot be 13 bytes long"),
        (block("<", 6, bytes(16)), "a block of type 0x6 cannot be 28 bytes long"),
        (block("<", 3, b""), "a block of type 0x3 cannot be 12 bytes long"),
        (block("<", 1, bytes(4)), "a block of type 0x1 cannot be 16 bytes long"),
        (struct.pack("<II", 6, 2**32 - 4), "a block of type 0x6 cannot be 4294967292 bytes long"),
        (packet(b"abc")[:-4] + struct.pack("<I", 40), "a block of 36 bytes does not end with its length"),
        (section(version=(2, 0)), "pcapng version 2.0 is not known"),
        (
            section()[:8] + bytes(4) + section()[12:],
            "a section whose byte order cannot be told from 00000000",
        ),
        (interface(options=option("<", 9, b"")), "option 9 of an interface cannot be 0 bytes long"),
        (interface(options=option("<", 14, bytes(4))), "option 14 of an interface cannot be 4 bytes long"),
        (interface(options=struct.pack("<HH", 2, 8)), "option 2 of an interface cannot be 8 bytes long"),
    ],
)
def test_damage_is_named(damaged, reason):
    """Also where whole packets are to be kept: this is no cut."""
    data = HEAD + packet(b"good") + damaged + packet(b"good")
    for truncated in ("error", "keep"):
        error = refusal(data, truncated=truncated)
        assert error.packet == 1
        assert str(error).startswith("capture: byte ")
        assert str(error).endswith(f" after 1 whole packets: {reason}")


def test_a_section_without_interfaces_has_no_packets():
    """Interfaces of an earlier section do not count."""
    assert "interface 0 of a section that describes 0" in str(
        refusal(HEAD + section() + simple_packet(b"abc"))
    )


def test_snap_length_is_the_interfaces():
    data = section() + interface(snap_length=4) + interface() + packet(bytes(5), interface=1)
    assert list(read_pcap(data)) == [bytes(5)]
    assert "5 bytes captured, more than the snap length 4" in str(refusal(data + packet(bytes(5))))


@ORDERS
def test_cut_in_the_middle_of_a_block(order):
    whole = section(order) + interface(order) + packet(b"first", order)
    last = packet(b"second", order)
    for kept in range(1, len(last)):
        data = whole + last[:kept]
        error = refusal(data)
        assert error.packet == 1
        assert (
            f"byte {len(whole)}: after 1 whole packets: the capture is cut off: {kept} bytes of a block"
            in str(error)
        )
        assert list(read_pcap(data, truncated="keep")) == [b"first"]


@ORDERS
def test_section_header_cut(order):
    """No packet can be kept, so this is an error either way."""
    for size in range(4, 28):
        for truncated in ("error", "keep"):
            assert f"byte 0: {size} bytes of a section header" in str(
                refusal(section(order)[:size], truncated=truncated)
            )


def test_many_interfaces_and_packets():
    """A thousand clocks, each used once and out of order: every packet gets its own clock's time."""
    count = 1000
    clocks = (option("<", 14, struct.pack("<q", number)) for number in range(count))
    data = section() + b"".join(interface(options=clock) for clock in clocks)
    data += b"".join(packet(b"", interface=number) for number in reversed(range(count)))
    assert read_pcap(data).timestamps.tolist() == [number * 10**9 for number in reversed(range(count))]
