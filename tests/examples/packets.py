"""Packets for the tests of the examples: written header by header, and read back without the examples' C.

Sources: IEEE 802.3 and 802.1Q, RFC 791, RFC 8200, RFC 9293, RFC 768.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from random import Random

CLIENT, SERVER = "10.0.0.9", "10.0.0.1"
IPV4, VLAN, IPV6, QINQ, ARP = 0x0800, 0x8100, 0x86DD, 0x88A8, 0x0806
ICMP, TCP, UDP = 1, 6, 17
FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16, "U": 32}


def ethernet(
    payload: bytes, kind: int = IPV4, tags: tuple[tuple[int, int], ...] = (), pad: bool = True
) -> bytes:
    """A frame of `payload`; `tags` are (type, identifier) pairs from the outside in. Padded to 60 bytes."""
    frame = bytes.fromhex("020000000001 020000000009")
    for type_, identifier in tags:
        frame += struct.pack(">HH", type_, identifier)
    frame += struct.pack(">H", kind) + payload
    return frame.ljust(60, b"\0") if pad else frame


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def ipv4(
    payload: bytes = b"",
    source: str = CLIENT,
    destination: str = SERVER,
    protocol: int = TCP,
    ttl: int = 64,
    tos: int = 0,
    dont_fragment: bool = True,
    more_fragments: bool = False,
    fragment_offset: int = 0,
    options: bytes = b"",
    total_length: int | None = None,
    version: int = 4,
    ihl: int | None = None,
) -> bytes:
    """An IPv4 packet whose checksum is right for the header it states; `total_length` and `ihl` may be untrue."""
    words = 5 + len(options) // 4 if ihl is None else ihl
    length = 20 + len(options) + len(payload) if total_length is None else total_length
    fragment = dont_fragment << 14 | more_fragments << 13 | fragment_offset

    def header(check: int) -> bytes:
        return (
            struct.pack(">BBHHHBBH", version << 4 | words, tos, length, 1, fragment, ttl, protocol, check)
            + IPv4Address(source).packed
            + IPv4Address(destination).packed
            + options
        )

    stated = (header(0) + payload).ljust(60, b"\0")[: words * 4]
    return header(checksum(stated)) + payload


def ipv6(payload: bytes = b"", next_header: int = UDP, hop_limit: int = 64) -> bytes:
    addresses = IPv6Address("2001:db8::9").packed + IPv6Address("2001:db8::1").packed
    return struct.pack(">IHBB", 6 << 28, len(payload), next_header, hop_limit) + addresses + payload


def tcp(
    flags: str = "",
    source: int = 40000,
    destination: int = 80,
    sequence: int = 0,
    acknowledgment: int = 0,
    window: int = 8192,
    options: bytes = b"",
    data: bytes = b"",
    data_offset: int | None = None,
) -> bytes:
    """A TCP segment without checksum; `flags` is a word of the letters FSRPAU."""
    words = 5 + len(options) // 4 if data_offset is None else data_offset
    bits = sum(FLAGS[flag] for flag in flags)
    fixed = (source, destination, sequence % 2**32, acknowledgment % 2**32, words << 4, bits, window, 0, 0)
    return struct.pack(">HHIIBBHHH", *fixed) + options + data


def udp(source: int = 40000, destination: int = 53, data: bytes = b"") -> bytes:
    return struct.pack(">HHHH", source, destination, 8 + len(data), 0) + data


@dataclass(frozen=True)
class Ipv4:
    source: bytes
    destination: bytes
    tos: int
    total_length: int
    header_size: int
    dont_fragment: bool
    fragment_offset: int
    ttl: int
    protocol: int
    payload: bytes  # what the frame holds behind the header and its options, padding included


@dataclass(frozen=True)
class Segment:
    ip: Ipv4
    source: int
    destination: int
    sequence: int
    acknowledgment: int
    flags: frozenset[str]
    window: int
    options: bytes  # as much of them as the frame holds
    data_size: int  # bytes of data by the stated lengths

    @property
    def sender(self) -> tuple[bytes, int]:
        return self.ip.source, self.source

    @property
    def receiver(self) -> tuple[bytes, int]:
        return self.ip.destination, self.destination


def read_ethernet(frame: bytes, max_tags: int = 2) -> tuple[int | None, bytes]:
    """The Ethernet type behind at most `max_tags` VLAN tags and what follows; the type is None in a cut frame."""
    at = 12
    for _ in range(max_tags):
        if frame[at : at + 2] not in (b"\x81\x00", b"\x88\xa8"):
            break
        at += 4
    if len(frame) < at + 2:
        return None, b""
    return int.from_bytes(frame[at : at + 2]), frame[at + 2 :]


def read_ipv4(frame: bytes) -> Ipv4 | None:
    """The IPv4 packet in a frame; None where there is none or its fixed header is not whole and sound."""
    kind, packet = read_ethernet(frame)
    if kind != IPV4 or len(packet) < 20 or packet[0] >> 4 != 4 or packet[0] & 15 < 5:
        return None
    first, tos, total, _, fragment, ttl, protocol, _, source, destination = struct.unpack(
        ">BBHHHBBH4s4s", packet[:20]
    )
    header_size = (first & 15) * 4
    return Ipv4(
        source=source,
        destination=destination,
        tos=tos,
        total_length=total,
        header_size=header_size,
        dont_fragment=bool(fragment & 0x4000),
        fragment_offset=fragment & 0x1FFF,
        ttl=ttl,
        protocol=protocol,
        payload=packet[header_size:],
    )


def read_segment(frame: bytes) -> Segment | None:
    """The TCP segment in a frame; None where there is none or its headers are not whole and sound."""
    ip = read_ipv4(frame)
    if ip is None or ip.protocol != TCP or ip.fragment_offset != 0 or len(ip.payload) < 20:
        return None
    source, destination, sequence, acknowledgment, words, flags, window, _, _ = struct.unpack(
        ">HHIIBBHHH", ip.payload[:20]
    )
    size = (words >> 4) * 4
    data_size = ip.total_length - ip.header_size - size
    if size < 20 or data_size < 0:
        return None
    return Segment(
        ip=ip,
        source=source,
        destination=destination,
        sequence=sequence,
        acknowledgment=acknowledgment,
        flags=frozenset(name for name, bit in FLAGS.items() if flags & bit),
        window=window,
        options=ip.payload[20:size],
        data_size=data_size,
    )


def samples() -> list[bytes]:
    """Frames of every shape that the examples distinguish."""
    mss = bytes.fromhex("020405b4 01030308")
    syn = tcp("S", options=mss)
    router_alert = bytes.fromhex("94040000")
    return [
        ethernet(ipv4(syn)),
        ethernet(ipv4(syn, options=router_alert)),
        ethernet(ipv4(syn, options=router_alert * 10)),
        ethernet(ipv4(tcp("PA", data=b"data"), options=router_alert * 3), tags=((VLAN, 100),)),
        ethernet(ipv4(tcp("A", options=mss * 5)), tags=((QINQ, 7), (VLAN, 100))),
        ethernet(ipv4(tcp("A")), tags=((QINQ, 7), (VLAN, 100), (VLAN, 101))),
        ethernet(ipv4(tcp("A"), total_length=39)),
        ethernet(ipv4(tcp("A", data_offset=4))),
        ethernet(ipv4(tcp("A"), ihl=4)),
        ethernet(ipv4(tcp("A"), ihl=15)),
        ethernet(ipv4(tcp("A"), version=6)),
        ethernet(ipv4(tcp("A", data=bytes(24)), more_fragments=True, dont_fragment=False)),
        ethernet(ipv4(bytes(24), fragment_offset=6, dont_fragment=False)),
        ethernet(ipv4(udp(data=b"query"), protocol=UDP)),
        ethernet(ipv4(bytes(8), protocol=ICMP)),
        ethernet(ipv4(tcp("A"), ttl=1)),
        ethernet(ipv6(udp()), kind=IPV6),
        ethernet(ipv6(udp(), hop_limit=1), kind=IPV6, tags=((VLAN, 100),)),
        ethernet(bytes(28), kind=ARP),
    ]


def random_frame(random: Random) -> bytes:
    """A frame of few hosts and ports, so that flows meet again, and of any flags, options, tags and lengths."""
    hosts = ["10.0.0.1", "10.0.0.9", "10.0.0.77"]
    payload: bytes
    protocol = random.choice([TCP] * 8 + [UDP, ICMP])
    if protocol == TCP:
        payload = tcp(
            "".join(random.sample("FSRPAU", random.choice([1, 1, 2, 2, 3]))),
            source=random.choice([80, 40000]),
            destination=random.choice([80, 40000]),
            sequence=random.choice([0, 2**31, 2**32 - 1]) + random.randrange(3000),
            acknowledgment=random.choice([0, 2**31, 2**32 - 1]) + random.randrange(3000),
            window=random.choice([0, 32, 1000, 8192]),
            options=random.choice([b"", b"\x02\x04\x05\xb4", b"\x01\x01\x08\x0a" + bytes(8)]),
            data=bytes(random.choice([0, 0, 1, 1000])),
            data_offset=random.choice([None] * 20 + [4, 15]),
        )
    else:
        payload = udp(destination=random.choice([53, 80]))
    packet = ipv4(
        payload,
        source=random.choice(hosts),
        destination=random.choice(hosts),
        protocol=protocol,
        ttl=random.choice([1, 64, 93, 94, 128, 129]),
        tos=random.choice([0, 8]),
        dont_fragment=random.random() < 0.9,
        fragment_offset=random.choice([0] * 20 + [1]),
        options=random.choice([b""] * 8 + [b"\x94\x04\0\0", bytes(40)]),
        total_length=random.choice([None] * 20 + [0, 39, 60000]),
        ihl=random.choice([None] * 20 + [0, 6, 15]),
    )
    frame = ethernet(
        packet,
        kind=random.choice([IPV4] * 20 + [ARP, IPV6]),
        tags=random.choice([()] * 8 + [((VLAN, 1),), ((QINQ, 1), (VLAN, 1))]),
    )
    return frame if random.random() < 0.9 else frame[: random.randrange(len(frame))]
