"""Dapper: what it measures of a connection, what it concludes, and when it asks for a report."""

from __future__ import annotations

import struct
from random import Random

import pytest

from tests.examples.conftest import Example, Start
from tests.examples.models import SECOND, Connection, Dapper, DapperArray, flow_key, lookup3
from tests.examples.packets import CLIENT, SERVER, VLAN, ethernet, ipv4, random_frame, read_segment, tcp

MILLISECOND = SECOND // 1000
VARIANTS = pytest.mark.parametrize("name", ["dapper", "dapper_array"])
MSS_1460 = bytes.fromhex("020405b4")


class Watched:
    """A connection between client and server that the example and its model look at."""

    def __init__(self, start: Start, name: str, isn: int = 1000) -> None:
        self.example: Example = start(name)
        self.model = Dapper() if name == "dapper" else DapperArray()
        self.isn = isn

    def packet(
        self, direction: str, flags: str, number: int = 0, ack: int = 0, size: int = 0, **other: int
    ) -> bytes:
        """``>`` is from the client. The server's numbers count from `isn`, the client's from 0."""
        if direction == ">":
            numbers = {
                "sequence": number,
                "acknowledgment": self.isn + ack,
                "source": 40000,
                "destination": 80,
            }
            ends = {"source": CLIENT, "destination": SERVER}
        else:
            numbers = {
                "sequence": self.isn + number,
                "acknowledgment": ack,
                "source": 80,
                "destination": 40000,
            }
            ends = {"source": SERVER, "destination": CLIENT}
        return ethernet(ipv4(tcp(flags, data=bytes(size), **numbers, **other), **ends))

    def see(self, direction: str, flags: str, *numbers: int, after_ns: int = 0, **other: int) -> int:
        self.example.clock.now += after_ns
        return self.example.agrees(self.model, self.packet(direction, flags, *numbers, **other))

    def handshake(self, window: int = 10000) -> None:
        assert self.see(">", "S") == 0
        assert self.see("<", "SA", after_ns=MILLISECOND) == 0
        assert self.see(">", "A", 1, 1, after_ns=MILLISECOND, window=window) == 0

    @property
    def connection(self) -> Connection:
        """The only connection in the map, which the model must have too."""
        contents = self.example.contents()
        assert contents == self.model.maps()
        (value,) = contents["connections"].values()
        return Connection(*struct.unpack("<14I4Q", value[-88:]))


@VARIANTS
def test_first_syn(start: Start, name: str) -> None:
    """A connection is followed from its SYN; the server is the sender; without an option the MSS is TCP's default."""
    watched = Watched(start, name)
    assert watched.see(">", "S") == 0
    assert watched.connection == Connection(sender=0, mss=536)


@VARIANTS
def test_announced_mss(start: Start, name: str) -> None:
    watched = Watched(start, name)
    frame = ethernet(ipv4(tcp("S", options=MSS_1460), options=bytes(4)))
    assert watched.example.agrees(watched.model, frame) == 0
    assert watched.connection.mss == 1460


@VARIANTS
@pytest.mark.parametrize("options", [b"\x01\x02\x04\x05\xb4\0\0\0", b"\x02\x05\x05\xb4", b"\x03\x04\x05\xb4"])
def test_other_first_options(start: Start, name: str, options: bytes) -> None:
    """What is not a whole MSS option in the first place leaves the default."""
    watched = Watched(start, name)
    watched.example.agrees(watched.model, ethernet(ipv4(tcp("S", options=options))))
    assert watched.connection.mss == 536


@VARIANTS
def test_option_cut_short(start: Start, name: str) -> None:
    """A frame that ends inside the option is followed with the default."""
    watched = Watched(start, name)
    frame = ethernet(ipv4(tcp("S", options=MSS_1460 * 2)), pad=False)
    assert watched.example.agrees(watched.model, frame[:57]) == 0
    assert watched.connection.mss == 536


@VARIANTS
@pytest.mark.parametrize("isn", [1000, 2**31 - 100, 2**32 - 100])
def test_measures(start: Start, name: str, isn: int) -> None:
    """Flight, window, times: the same wherever the sequence numbers start."""
    watched = Watched(start, name, isn)
    watched.handshake()
    assert watched.see("<", "PA", 1, 1, after_ns=5 * MILLISECOND, size=1000) == 0
    assert watched.see("<", "PA", 1001, 1, after_ns=MILLISECOND, size=500) == 0
    connection = watched.connection
    assert (connection.flight, connection.previous_flight, connection.congestion_window) == (1500, 1000, 1500)
    assert connection.reaction_ns == 6 * MILLISECOND
    assert watched.see(">", "A", 1, 1501, after_ns=20 * MILLISECOND, window=9000) == 0
    connection = watched.connection
    assert (connection.rtt_ns, connection.window, connection.acknowledged) == (
        20 * MILLISECOND,
        9000,
        (isn + 1501) % 2**32,
    )


@VARIANTS
def test_acks_of_the_sender_are_no_data(start: Start, name: str) -> None:
    watched = Watched(start, name)
    watched.handshake()
    before = watched.connection
    assert watched.see("<", "A", 1, 500) == 0
    assert watched.connection == before


@VARIANTS
def test_duplicate_acks(start: Start, name: str) -> None:
    """An ACK counts as duplicate if it repeats the number and carries no data; progress resets the count."""
    watched = Watched(start, name)
    watched.handshake()
    watched.see("<", "PA", 1, 1, size=1000)
    for _ in range(3):
        assert watched.see(">", "A", 1, 1) == 0
    assert watched.see(">", "PA", 1, 1, size=10) == 0
    assert watched.see(">", "A", 1, 0) == 0
    assert watched.connection.duplicate_acks == 3
    watched.see(">", "A", 1, 1001)
    assert watched.connection.duplicate_acks == 0


@VARIANTS
def test_fast_retransmit(start: Start, name: str) -> None:
    """After three duplicates the inferred congestion window shrinks with the flight; the network is to blame."""
    watched = Watched(start, name)
    watched.handshake()
    for number in (1, 1001, 2001, 3001):
        watched.see("<", "PA", number, 1, size=1000)
    watched.see(">", "A", 1, 2001)
    watched.see("<", "PA", 4001, 1, size=1000)
    for _ in range(3):
        watched.see(">", "A", 1, 2001)
    assert watched.see("<", "PA", 2001, 1, size=1000) == 1
    connection = watched.connection
    assert (connection.flight, connection.previous_flight) == (3000, 4000)
    assert connection.congestion_window == 4000 * 3000 // 4000
    assert (connection.retransmissions, connection.diagnosis) == (1, Dapper.network_limited)


@VARIANTS
def test_fast_retransmit_of_the_first_segment(start: Start, name: str) -> None:
    """Without an earlier flight to compare with the congestion window is halved."""
    watched = Watched(start, name)
    watched.see(">", "S")
    watched.see("<", "PA", 0, 1, size=1000)
    watched.see(">", "A", 1, 100)
    for _ in range(3):
        watched.see(">", "A", 1, 100)
    assert watched.see("<", "PA", 0, 1, size=1000) == 1
    assert watched.connection.congestion_window == 500


@VARIANTS
def test_retransmission_timeout(start: Start, name: str) -> None:
    """With fewer duplicates the sender starts again from one segment. A diagnosis asks for one report only."""
    watched = Watched(start, name)
    watched.handshake()
    watched.see("<", "PA", 1, 1, size=3000)
    assert watched.connection.congestion_window == 3000
    assert watched.see("<", "PA", 1, 1, size=1000) == 1
    assert watched.connection.congestion_window == 536
    assert watched.see("<", "PA", 1, 1, size=1000) == 0
    assert watched.connection.retransmissions == 2


@VARIANTS
def test_sender_limited(start: Start, name: str) -> None:
    """Three segments in succession with little in flight, and the sender slow to react."""
    watched = Watched(start, name)
    watched.handshake(window=10000)
    verdicts = []
    for turn in range(4):
        verdicts.append(watched.see("<", "PA", 1 + turn, 1, size=1, after_ns=101 * MILLISECOND))
        watched.see(">", "A", 1, 2 + turn, window=10000)
    assert watched.connection.diagnosis == Dapper.sender_limited
    # the SYN and ACK of the server came before any window was known
    assert verdicts == [0, 0, 1, 0]


@VARIANTS
def test_quick_sender_is_not_limited(start: Start, name: str) -> None:
    """Little in flight alone is no trouble."""
    watched = Watched(start, name)
    watched.handshake(window=10000)
    for turn in range(5):
        assert watched.see("<", "PA", 1 + turn, 1, size=1, after_ns=99 * MILLISECOND) == 0
        watched.see(">", "A", 1, 2 + turn, window=10000)
    assert (watched.connection.under_window, watched.connection.diagnosis) == (5, 0)


@VARIANTS
def test_receiver_limited(start: Start, name: str) -> None:
    """Three segments in succession that fill the receiver's window."""
    watched = Watched(start, name)
    watched.handshake(window=1000)
    verdicts = []
    for turn in range(4):
        verdicts.append(watched.see("<", "PA", 1 + 1000 * turn, 1, size=1000))
        watched.see(">", "A", 1, 1001 + 1000 * turn, window=1000)
    assert watched.connection.diagnosis == Dapper.receiver_limited
    assert verdicts == [0, 0, 1, 0]


@VARIANTS
@pytest.mark.parametrize("flags", ["FA", "R"])
@pytest.mark.parametrize("direction", "><")
def test_end(start: Start, name: str, direction: str, flags: str) -> None:
    """The first FIN or RST ends the observation, and what follows it does not start another."""
    watched = Watched(start, name)
    watched.handshake()
    assert watched.see(direction, flags, 1, 1) == 0
    assert watched.see("<" if direction == ">" else ">", "FA", 1, 1) == 0
    assert watched.see(direction, "A", 2, 2) == 0
    assert watched.example.contents() == watched.model.maps()
    assert watched.example.contents()["connections"] == {}


@VARIANTS
def test_connection_without_its_syn(start: Start, name: str) -> None:
    """The middle of a connection is passed over."""
    watched = Watched(start, name)
    assert watched.see("<", "PA", 1, 1, size=1000) == 0
    assert watched.see("<", "SA", 0, 1) == 0
    assert watched.example.contents()["connections"] == {}


@VARIANTS
def test_report_every_hundred_connections(start: Start, name: str) -> None:
    """The SYN of every hundredth connection asks for a report; repeated SYNs open nothing."""
    watched = Watched(start, name)
    asked = []
    for number in range(250):
        frame = ethernet(ipv4(tcp("S", source=1024 + number)))
        for _ in range(2):
            if watched.example.agrees(watched.model, frame):
                asked.append(number)
    assert asked == [99, 199]
    assert watched.example.contents() == watched.model.maps()


@VARIANTS
def test_report_every_ten_seconds(start: Start, name: str) -> None:
    """Counted from the first segment, whatever segment comes then; a clock that steps back is no reason."""
    watched = Watched(start, name)
    assert watched.see(">", "S") == 0
    assert watched.see(">", "A", 1, 1, after_ns=10 * SECOND - 1) == 0
    assert watched.see(">", "A", 1, 1, after_ns=1) == 1
    assert watched.see(">", "A", 1, 1, after_ns=9 * SECOND) == 0
    assert watched.see(">", "A", 1, 1, after_ns=-15 * SECOND) == 0
    assert watched.see(">", "A", 1, 1, after_ns=16 * SECOND) == 1


@VARIANTS
def test_a_report_starts_all_counts_again(start: Start, name: str) -> None:
    watched = Watched(start, name)
    watched.handshake()
    watched.see("<", "PA", 1, 1, size=1000, after_ns=6 * SECOND)
    assert watched.see("<", "PA", 1, 1, size=1000) == 1
    assert watched.see("<", "A", 1, 1, after_ns=9 * SECOND) == 0
    assert watched.see("<", "A", 1, 1, after_ns=SECOND) == 1


@pytest.mark.slow
def test_full_hash(start: Start) -> None:
    """A connection that finds no room is counted and not followed; the known ones are."""
    watched = Watched(start, "dapper")
    watched.see(">", "S")
    others = {number.to_bytes(16): Connection(sender=0) for number in range(39_999)}
    watched.model.connections |= others
    watched.example.prepare(watched.model)
    assert watched.example.agrees(watched.model, ethernet(ipv4(tcp("S", source=1024)))) == 0
    assert watched.see("<", "SA", 0, 1) == 0
    assert watched.model.refused == 1
    assert watched.example.contents() == watched.model.maps()


def test_newcomer_takes_the_slot(start: Start) -> None:
    """Two flows of one slot: the newer SYN is followed, the older connection's segments are passed over."""
    watched = Watched(start, "dapper_array")
    first, second = colliding_ports()
    assert watched.example.agrees(watched.model, ethernet(ipv4(tcp("S", source=first)))) == 0
    assert watched.example.agrees(watched.model, ethernet(ipv4(tcp("S", source=second)))) == 0
    assert (
        watched.example.agrees(watched.model, ethernet(ipv4(tcp("A", source=first, acknowledgment=1)))) == 0
    )
    assert watched.example.agrees(watched.model, ethernet(ipv4(tcp("R", source=first)))) == 0
    assert watched.connection == Connection(sender=0)
    assert watched.model.refused == 1


def colliding_ports() -> tuple[int, int]:
    """Two client ports whose flows to the server fall into one slot."""
    seen: dict[int, int] = {}
    for port in range(1024, 65536):
        segment = read_segment(ethernet(ipv4(tcp("S", source=port))))
        assert segment is not None
        slot = lookup3(flow_key(segment)) % DapperArray.capacity
        if slot in seen:
            return seen[slot], port
        seen[slot] = port
    raise AssertionError("no collision")


@VARIANTS
def test_what_is_a_segment(start: Start, name: str) -> None:
    """IP options and VLAN tags are skipped; later fragments and cut headers change nothing, not even the clock."""
    watched = Watched(start, name)
    for frame in (ethernet(ipv4(tcp("S"), fragment_offset=1)), ethernet(ipv4(tcp("S")))[:53], b""):
        assert watched.example.agrees(watched.model, frame) == 0
        assert watched.example.contents() == {"connections": {}, "monitor": {}}
    frame = ethernet(ipv4(tcp("S"), options=bytes(40)), tags=((VLAN, 1),))
    assert watched.example.agrees(watched.model, frame) == 0
    assert watched.connection == Connection(sender=0)


@pytest.mark.slow
@VARIANTS
@pytest.mark.parametrize("seed", range(3))
def test_random_packets(start: Start, name: str, seed: int) -> None:
    """Any packets in any order, at any pace: verdicts and measures as the model has them."""
    random, watched, verdicts = Random(seed), Watched(start, name), []
    for _ in range(1500):
        verdicts.append(watched.example.agrees(watched.model, random_frame(random)))
        watched.example.clock.now += random.choice([0, MILLISECOND, 99 * MILLISECOND, SECOND])
    assert {0, 1} == set(verdicts)
    assert watched.example.contents() == watched.model.maps()
