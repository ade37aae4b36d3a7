"""Which flow a packet belongs to: the same for both directions and behind tags, another for everything that tells connections apart."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import numpy as np
import pytest

from pybpf import ArgumentError, PacketBatch, flow_numbers, read_pcap

CAPTURES = sorted((Path(__file__).parents[1] / "examples/captures").glob("*.pcap*"))
A, B = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"


def frame(payload: bytes, type: int, tags: tuple[int, ...] = (), macs: bytes = A + B) -> bytes:
    return macs + b"".join(struct.pack(">HH", tag, 7) for tag in tags) + struct.pack(">H", type) + payload


def ports(source: int, destination: int) -> bytes:
    return struct.pack(">HH", source, destination) + bytes(16)


def ipv4(
    source: str, destination: str, protocol: int, payload: bytes, fragment: int = 0, options: int = 0
) -> bytes:
    head = struct.pack(">BBHHHBBH", 0x45 + options, 0, 0, 0, fragment, 64, protocol, 0)
    return head + ip_address(source).packed + ip_address(destination).packed + bytes(4 * options) + payload


def ipv6(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    return (
        struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64)
        + ip_address(source).packed
        + ip_address(destination).packed
        + payload
    )


def four(
    source: str = "10.0.0.1",
    destination: str = "10.0.0.2",
    protocol: int = 6,
    sport: int = 1000,
    dport: int = 80,
    **more: int,
) -> bytes:
    return frame(ipv4(source, destination, protocol, ports(sport, dport), **more), 0x0800)


def six(
    source: str = "fe80::1",
    destination: str = "fe80::2",
    protocol: int = 17,
    sport: int = 1000,
    dport: int = 80,
) -> bytes:
    return frame(ipv6(source, destination, protocol, ports(sport, dport)), 0x86DD)


def numbers(*packets: bytes) -> list[int]:
    found: list[int] = flow_numbers(PacketBatch.from_packets(packets)).tolist()
    return found


SAME = {
    "directions": (four(), four("10.0.0.2", "10.0.0.1", 6, 80, 1000)),
    "directions of IPv6": (six(), six("fe80::2", "fe80::1", 17, 80, 1000)),
    "directions of frames": (frame(bytes(40), 0x88CC), frame(b"other", 0x88CC, macs=B + A)),
    "tags": tuple(
        frame(ipv4("10.0.0.1", "10.0.0.2", 6, ports(1, 2)), 0x0800, tags)
        for tags in ((), (0x8100,), (0x88A8,), (0x88A8, 0x8100))
    ),
    "options": (four(), four(options=3), four(options=10)),
    "fragments": (four(fragment=0x2000), four(fragment=0x2001, sport=7), four(fragment=0x00FF, dport=9)),
    "no ports": (four(protocol=1), four(protocol=1, sport=5)),
    "what may change on the way": (four(), four()[:22] + b"\1" + four()[23:]),
    "do not fragment": (four(), four(fragment=0x4000)),
}

OTHERS = (
    four(),
    four("10.0.0.3"),
    four(destination="10.0.0.3"),
    four(protocol=17),
    four(protocol=132),
    four(sport=1001),
    four(dport=81),
    four("10.0.0.2", "10.0.0.1"),  # the same two hosts, with the ports the other way round
    four(fragment=0x2000),
    four(protocol=1),
    six(),
    six("fe80::3"),
    six("fe81::1"),
    six(sport=1001),
    six(protocol=58),
    frame(bytes(40), 0x88CC),
    frame(bytes(40), 0x88CD),
    frame(bytes(40), 0x88CC, macs=A + A),
    frame(bytes(40), 0x88CC, (0x8100, 0x8100, 0x8100)),
    b"",
)


@pytest.mark.parametrize("packets", SAME.values(), ids=SAME)
def test_packets_of_one_flow(packets):
    assert len(set(numbers(*packets))) == 1


def test_flows_are_told_apart():
    assert len(set(numbers(*OTHERS))) == len(OTHERS)


def test_frame_may_end_anywhere():
    for whole in (four(), six(), frame(four()[14:], 0x0800, (0x8100, 0x88A8))):
        for size in range(len(whole)):
            cut = whole[:size]
            assert numbers(cut) == numbers(cut[:size])
        assert numbers(whole) == numbers(whole + b"more")


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_captures_have_flows(path):
    batch = read_pcap(path)
    found = flow_numbers(batch)
    assert found.dtype == np.uint64
    assert 0 < len(set(found.tolist())) <= len(batch)
    assert int(found.max()) < 1 << 32


def test_other_links_are_refused():
    batch = PacketBatch.from_packets([b"E"])
    with pytest.raises(ArgumentError, match="packets of link type 101"):
        flow_numbers(replace(batch, link_type=101))
