"""What each example should do, said a second time: over parsed packets, in Python, with state and clock of its own.

A model's `run(frame, now)` returns the verdict and its `maps()` the contents that the program's maps should have, as
bytes by bytes; of an array, the entries that are not all zero.
"""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, field
from typing import ClassVar, Protocol

from tests.examples.packets import (
    IPV4,
    IPV6,
    TCP,
    UDP,
    Segment,
    checksum,
    read_ethernet,
    read_ipv4,
    read_segment,
)

Maps = dict[str, dict[bytes, bytes]]
SECOND = 10**9


class Model(Protocol):
    def run(self, frame: bytes, now: int) -> int: ...

    def maps(self) -> Maps: ...


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def without_zeros(entries: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    return {key: value for key, value in entries if any(value)}


class P0f:
    """Signature 4:128+0:0:2:8192,8: :df,id+,seq-:0, as far as p0f.c says that it looks."""

    window = 8192

    def run(self, frame: bytes, now: int) -> int:
        kind, _ = read_ethernet(frame, max_tags=0)
        segment = read_segment(frame)
        if kind != IPV4 or segment is None or segment.ip.header_size != 20:
            return 0
        ip = segment.ip
        return int(
            93 < ip.ttl <= 128
            and ip.dont_fragment
            and not ip.tos & 8
            and segment.window == self.window
            and segment.data_size == 0
        )

    def maps(self) -> Maps:
        return {}


class P0fLiteral:
    """Listing 3.1 of the thesis, with the offsets of an option-free IPv4 and TCP packet in any frame."""

    def run(self, frame: bytes, now: int) -> int:
        if len(frame) < 54:
            return 0
        total_length = int.from_bytes(frame[16:18])
        header_sizes = (frame[14] & 15) * 4 + (frame[46] >> 4) * 4
        return int(
            93 < frame[22] <= 128
            and frame[14] & 15 == 5
            and frame[20] & 0x40 != 0
            and frame[15] & 8 == 0
            and frame[48:50] == b"\x00\x20"
            and total_length == header_sizes
        )

    def maps(self) -> Maps:
        return {}


class StatelessFirewall:
    """`table` maps addresses, as on the wire, to actions."""

    def __init__(self, table: dict[bytes, int] | None = None) -> None:
        self.table = table or {}

    def run(self, frame: bytes, now: int) -> int:
        ip = read_ipv4(frame)
        return int(ip is None or self.table.get(ip.destination) != 1)

    def maps(self) -> Maps:
        return {"lookup_table": {address[::-1]: u32(action) for address, action in self.table.items()}}


def flow_key(segment: Segment) -> bytes:
    """The key of a flow: both ends in the order of (address, port), whoever sent the segment."""
    (low, low_port), (high, high_port) = sorted([segment.sender, segment.receiver])
    return low + high + struct.pack(">HHB3x", low_port, high_port, TCP)


def end_of(segment: Segment, who: tuple[bytes, int]) -> int:
    return sorted([segment.sender, segment.receiver]).index(who)


@dataclass
class Session:
    state: str
    server: tuple[bytes, int]
    server_end: int
    last_seen: int


class StatefulFirewall:
    """TCP's life as an observer between client and server sees it."""

    states = ("", "syn sent", "syn acked", "established", "client closed", "server closed", "closed")
    capacity = 10000

    # (state, who, what) -> the state that follows; what is not listed does not pass. `fin` is FIN and ACK, `ack` is any
    # other segment with ACK, `other` is the rest.
    handshake: ClassVar = {
        ("syn sent", "client", "syn"): "syn sent",
        ("syn sent", "server", "syn+ack"): "syn acked",
        ("syn acked", "server", "syn+ack"): "syn acked",
        ("syn acked", "client", "syn"): "syn acked",
        ("syn acked", "client", "ack"): "established",
        ("syn acked", "client", "fin"): "client closed",
    }
    closing: ClassVar = {
        ("established", "client"): "client closed",
        ("established", "server"): "server closed",
        ("client closed", "server"): "closed",
        ("server closed", "client"): "closed",
    }

    def __init__(self) -> None:
        self.sessions: dict[bytes, Session] = {}

    @staticmethod
    def timeout(session: Session) -> int:
        """RFC 5382, REQ-5: 2 hours 4 minutes established, 4 minutes while opening and closing."""
        return (7440 if session.state == "established" else 240) * SECOND

    def run(self, frame: bytes, now: int) -> int:
        segment = read_segment(frame)
        if segment is None or segment.sender == segment.receiver:
            return 0
        key = flow_key(segment)
        session = self.sessions.get(key)
        if session and now - session.last_seen > self.timeout(session):
            session = None
        flags = segment.flags - {"P", "U"}
        if flags == {"S"} and (session is None or session.state == "closed"):
            if key not in self.sessions and len(self.sessions) == self.capacity:
                return 0
            server = segment.receiver
            self.sessions[key] = Session("syn sent", server, end_of(segment, server), now)
            return 1
        if session is None:
            return 0
        if "R" in flags:
            del self.sessions[key]
            return 1
        return self.follow(session, "server" if segment.sender == session.server else "client", flags, now)

    def follow(self, session: Session, who: str, flags: frozenset[str], now: int) -> int:
        if session.state in ("syn sent", "syn acked"):
            next_state = self.handshake.get((session.state, who, self.kind(flags)))
        elif flags >= {"F", "A"}:
            next_state = self.closing.get((session.state, who), session.state)
        else:
            next_state = session.state
        if next_state is None:
            return 0
        session.state, session.last_seen = next_state, now
        return 1

    @staticmethod
    def kind(flags: frozenset[str]) -> str:
        kinds = {"S": "syn", "AS": "syn+ack", "A": "ack", "AF": "fin"}
        return kinds.get("".join(sorted(flags)), "other")

    def maps(self) -> Maps:
        def value(session: Session) -> bytes:
            return struct.pack(
                "<IIQ", self.states.index(session.state), session.server_end, session.last_seen
            )

        return {"sessions": {key: value(session) for key, session in self.sessions.items()}}


class RateLimiter:
    """Token buckets in exact arithmetic: a token is 100 000 ns of credit."""

    full, cost, capacity = SECOND, SECOND // 10000, 1000
    drop, let_through = 1, 0

    def __init__(self) -> None:
        self.buckets: dict[bytes, tuple[int, int]] = {}
        self.overflow = (0, 0)

    def take(self, bucket: tuple[int, int], now: int) -> tuple[int, tuple[int, int]]:
        updated, credit = bucket
        credit = min(self.full, credit + max(0, now - updated))
        if credit < self.cost:
            return self.drop, (now, credit)
        return self.let_through, (now, credit - self.cost)

    def run(self, frame: bytes, now: int) -> int:
        ip = read_ipv4(frame)
        if ip is None:
            return self.without_ipv4(frame)
        if ip.source in self.buckets or len(self.buckets) < self.capacity:
            bucket = self.buckets.get(ip.source, (now, self.full))
            verdict, self.buckets[ip.source] = self.take(bucket, now)
        else:
            verdict, self.overflow = self.take(self.overflow, now)
        return verdict

    def without_ipv4(self, frame: bytes) -> int:
        return self.let_through

    def maps(self) -> Maps:
        return {
            "buckets": {source: struct.pack("<QQ", *bucket) for source, bucket in self.buckets.items()},
            "overflow": without_zeros([(u32(0), struct.pack("<QQ", *self.overflow))]),
        }


class XdpRateLimiter(RateLimiter):
    """The same buckets; a frame that calls itself IPv4 and is not is dropped."""

    drop, let_through = 1, 2

    def run(self, frame: bytes, now: int) -> int:
        ip = read_ipv4(frame)
        if ip is not None and len(read_ethernet(frame)[1]) < ip.header_size:
            return self.drop
        return super().run(frame, now)

    def without_ipv4(self, frame: bytes) -> int:
        return self.drop if read_ethernet(frame)[0] == IPV4 else self.let_through


@dataclass
class Connection:
    """struct connection, member by member."""

    sender: int
    seen: int = 0
    mss: int = 536
    next_sequence: int = 0
    acknowledged: int = 0
    window: int = 0
    flight: int = 0
    previous_flight: int = 0
    congestion_window: int = 0
    duplicate_acks: int = 0
    retransmissions: int = 0
    under_window: int = 0
    full_window: int = 0
    diagnosis: int = 0
    data_ns: int = 0
    ack_ns: int = 0
    reaction_ns: int = 0
    rtt_ns: int = 0

    def pack(self) -> bytes:
        return struct.pack("<14I4Q", *astuple(self))


def is_newer(a: int, b: int) -> bool:
    """Serial number arithmetic (RFC 1982)."""
    return 0 < (a - b) % 2**32 < 2**31


class Dapper:
    """The analysis of a connection, and when a report is due."""

    seen_data, seen_ack = 1, 2
    sender_limited, network_limited, receiver_limited = 1, 2, 4
    capacity = 40000

    def __init__(self) -> None:
        self.connections: dict[bytes, Connection] = {}
        self.reported = self.opened = self.refused = 0

    def run(self, frame: bytes, now: int) -> int:
        segment = read_segment(frame)
        if segment is None or segment.sender == segment.receiver:
            return 0
        key = flow_key(segment)
        connection = self.find(key)
        troubled = False
        if connection and segment.flags & {"F", "R"}:
            self.forget(key)
        elif connection:
            troubled = self.follow(connection, segment, now)
        elif segment.flags & {"S", "A", "F", "R"} == {"S"}:
            self.open(key, Connection(end_of(segment, segment.receiver), mss=self.announced_mss(segment)))
        return self.report(troubled, now)

    def find(self, key: bytes) -> Connection | None:
        return self.connections.get(key)

    def forget(self, key: bytes) -> None:
        del self.connections[key]

    def open(self, key: bytes, connection: Connection) -> None:
        if len(self.connections) == self.capacity:
            self.refused += 1
        else:
            self.connections[key] = connection
            self.opened += 1

    @staticmethod
    def announced_mss(segment: Segment) -> int:
        options = segment.options
        return int.from_bytes(options[2:4]) if len(options) >= 4 and options[:2] == b"\x02\x04" else 536

    def report(self, troubled: bool, now: int) -> int:
        self.reported = self.reported or now
        if not troubled and self.opened < 100 and now - self.reported < 10 * SECOND:
            return 0
        self.reported, self.opened = now, 0
        return 1

    def follow(self, connection: Connection, segment: Segment, now: int) -> bool:
        if end_of(segment, segment.sender) != connection.sender:
            self.acknowledge(connection, segment, now)
            return False
        found = self.send(connection, segment, now)
        new = found & ~connection.diagnosis
        connection.diagnosis |= found
        return new != 0

    def acknowledge(self, connection: Connection, segment: Segment, now: int) -> None:
        if "A" not in segment.flags:
            return
        if not connection.seen or is_newer(segment.acknowledgment, connection.acknowledged):
            connection.duplicate_acks = 0
            connection.acknowledged = segment.acknowledgment
            connection.ack_ns = now
            connection.window = segment.window
            if connection.seen & self.seen_data:
                connection.rtt_ns = now - connection.data_ns
            connection.seen |= self.seen_ack
        elif segment.acknowledgment == connection.acknowledged and segment.data_size == 0:
            connection.duplicate_acks += 1

    def send(self, connection: Connection, segment: Segment, now: int) -> int:
        size = segment.data_size + ("S" in segment.flags)
        if size == 0:
            return 0
        end = (segment.sequence + size) % 2**32
        if connection.seen & self.seen_data and not is_newer(end, connection.next_sequence):
            return self.retransmit(connection)
        if not connection.seen:
            connection.acknowledged = segment.sequence
        connection.seen |= self.seen_data
        connection.next_sequence = end
        connection.data_ns = now
        if connection.seen & self.seen_ack:
            connection.reaction_ns = now - connection.ack_ns
        connection.previous_flight = connection.flight
        connection.flight = (end - connection.acknowledged) % 2**32
        connection.congestion_window = max(connection.congestion_window, connection.flight)
        return self.compare_with_window(connection)

    def retransmit(self, connection: Connection) -> int:
        connection.retransmissions += 1
        if connection.duplicate_acks < 3:
            connection.congestion_window = connection.mss
        elif connection.previous_flight:
            shrunk = connection.congestion_window * connection.flight // connection.previous_flight
            connection.congestion_window = min(shrunk, 2**32 - 1)
        else:
            connection.congestion_window //= 2
        return self.network_limited

    def compare_with_window(self, connection: Connection) -> int:
        under = connection.flight * 100 < connection.window * 30
        full = connection.flight == connection.window and not under
        connection.under_window = connection.under_window + 1 if under else 0
        connection.full_window = connection.full_window + 1 if full else 0
        found = 0
        if connection.under_window >= 3 and connection.reaction_ns > SECOND // 10:
            found |= self.sender_limited
        if connection.full_window >= 3:
            found |= self.receiver_limited
        return found

    def monitor(self) -> dict[bytes, bytes]:
        return without_zeros([(u32(0), struct.pack("<QII", self.reported, self.opened, self.refused))])

    def maps(self) -> Maps:
        connections = {key: connection.pack() for key, connection in self.connections.items()}
        return {"connections": connections, "monitor": self.monitor()}


class DapperArray(Dapper):
    """A table of slots that forgets: the newest connection of a slot is the one that is followed."""

    def __init__(self) -> None:
        super().__init__()
        self.slots: dict[int, tuple[bytes, Connection]] = {}

    def find(self, key: bytes) -> Connection | None:
        holder, connection = self.slots.get(self.slot(key), (b"", None))
        return connection if holder == key else None

    def forget(self, key: bytes) -> None:
        del self.slots[self.slot(key)]

    def open(self, key: bytes, connection: Connection) -> None:
        if self.slot(key) in self.slots:
            self.refused += 1
        self.slots[self.slot(key)] = key, connection
        self.opened += 1

    def slot(self, key: bytes) -> int:
        return lookup3(key) % self.capacity

    def maps(self) -> Maps:
        connections = {u32(slot): key + connection.pack() for slot, (key, connection) in self.slots.items()}
        return {"connections": connections, "monitor": self.monitor()}


def lookup3(key: bytes) -> int:
    """Bob Jenkins' lookup3, hashlittle with seed 0, of a key of more than 12 and at most 24 bytes."""
    words = struct.unpack("<6I", key.ljust(24, b"\0"))
    a, b, c = (0xDEADBEEF + len(key) + word for word in words[:3])
    for by in (4, 6, 8, 16, 19, 4):
        a, b, c = b, b + c, (a - c) % 2**32 ^ rotated(c, by)
    a, b, c = (x + word for x, word in zip((a, b, c), words[3:], strict=True))
    for by in (14, 11, 25, 16, 4, 14, 24):
        a, b, c = b, ((c ^ b) - rotated(b, by)) % 2**32, a
    return b % 2**32


def rotated(x: int, by: int) -> int:
    x %= 2**32
    return (x << by | x >> 32 - by) % 2**32


class XdpFirewall:
    """`blocked` holds (address as on the wire, port, protocol); port and protocol 0 stand for the whole host."""

    def __init__(self, blocked: Iterable[tuple[bytes, int, int]] = ()) -> None:
        self.drops = {service: [0, 0] for service in blocked}

    def run(self, frame: bytes, now: int) -> int:
        kind, packet = read_ethernet(frame)
        if kind != IPV4:
            return 2
        ip = read_ipv4(frame)
        if ip is None or len(packet) < ip.header_size:
            return 1
        if self.is_dropped((ip.destination, 0, 0), frame):
            return 1
        if ip.fragment_offset or ip.protocol not in (TCP, UDP):
            return 2
        if len(ip.payload) < 4:
            return 1
        port = int.from_bytes(ip.payload[2:4])
        return 1 if self.is_dropped((ip.destination, port, ip.protocol), frame) else 2

    def is_dropped(self, service: tuple[bytes, int, int], frame: bytes) -> bool:
        if service not in self.drops:
            return False
        self.drops[service][0] += 1
        self.drops[service][1] += len(frame)
        return True

    def maps(self) -> Maps:
        return {
            "blocked": {
                address + struct.pack(">HBx", port, protocol): struct.pack("<QQ", *drops)
                for (address, port, protocol), drops in self.drops.items()
            }
        }


class XdpCounter:
    def __init__(self) -> None:
        self.packets: Counter[int] = Counter()
        self.bytes: defaultdict[int, int] = defaultdict(int)

    def run(self, frame: bytes, now: int) -> int:
        kind, packet = read_ethernet(frame)
        protocol = 256
        if kind == IPV4 and len(packet) >= 20:
            protocol = packet[9]
        elif kind == IPV6 and len(packet) >= 40:
            protocol = packet[6]
        self.packets[protocol] += 1
        self.bytes[protocol] += len(frame)
        return 2

    def maps(self) -> Maps:
        return {
            "counters": {
                u32(protocol): struct.pack("<QQ", packets, self.bytes[protocol])
                for protocol, packets in self.packets.items()
            }
        }


@dataclass
class XdpRouter:
    """`packet` is the frame that the last run should have left behind."""

    packet: bytes = field(default=b"")

    def run(self, frame: bytes, now: int) -> int:
        verdict, self.packet = self.route(frame)
        return verdict

    def route(self, frame: bytes) -> tuple[int, bytes]:
        kind, packet = read_ethernet(frame)
        link = frame[: len(frame) - len(packet)]
        if kind == IPV4:
            ip = read_ipv4(frame)
            if ip is None or len(packet) < ip.header_size:
                return 1, frame
            if ip.ttl <= 1:
                return 2, frame
            return 3, self.turn(link) + self.age(packet, ip.header_size)
        if kind == IPV6:
            if len(packet) < 40:
                return 1, frame
            if packet[7] <= 1:
                return 2, frame
            return 3, self.turn(link) + packet[:7] + bytes([packet[7] - 1]) + packet[8:]
        return 2, frame

    @staticmethod
    def turn(link: bytes) -> bytes:
        return link[6:12] + link[:6] + link[12:]

    @staticmethod
    def age(packet: bytes, header_size: int) -> bytes:
        """The header as a sender would write it with one hop less, its checksum computed over the whole of it."""
        header = packet[:8] + bytes([packet[8] - 1]) + packet[9:10] + b"\0\0" + packet[12:header_size]
        return header[:10] + checksum(header).to_bytes(2) + header[12:] + packet[header_size:]

    def maps(self) -> Maps:
        return {}


MODELS: dict[str, Callable[[], Model]] = {
    "p0f": P0f,
    "p0f_literal": P0fLiteral,
    "stateless_firewall": StatelessFirewall,
    "stateful_firewall": StatefulFirewall,
    "dapper": Dapper,
    "dapper_array": DapperArray,
    "rate_limiter": RateLimiter,
    "xdp_firewall": XdpFirewall,
    "xdp_router": XdpRouter,
    "xdp_counter": XdpCounter,
    "xdp_rate_limiter": XdpRateLimiter,
}
"""The models by the name of the example, with empty maps."""
