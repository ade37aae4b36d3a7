"""The stateful firewall: the life of TCP connections, packet by packet."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from random import Random

import pytest

from tests.examples.conftest import Example, Start
from tests.examples.models import SECOND, StatefulFirewall
from tests.examples.packets import (
    CLIENT,
    SERVER,
    UDP,
    VLAN,
    ethernet,
    ipv4,
    random_frame,
    tcp,
    udp,
)

STATES = {
    0: "",
    1: "syn sent",
    2: "syn acked",
    3: "established",
    4: "client closed",
    5: "server closed",
    6: "closed",
}
HANDSHAKE = ["> S", "< SA", "> A"]


def packet(
    step: str, client: tuple[str, int] = (CLIENT, 40000), server: tuple[str, int] = (SERVER, 80)
) -> bytes:
    """A frame from words like ``> SA``: the direction (``>`` is from the client) and the flags, ``-`` for none."""
    direction, flags = step.split()
    (source, sport), (destination, dport) = (client, server) if direction == ">" else (server, client)
    segment = tcp(flags.strip("-"), source=sport, destination=dport)
    return ethernet(ipv4(segment, source=source, destination=destination))


def state(example: Example) -> str:
    """The state of the only session; empty if there is none."""
    values = list(example.contents()["sessions"].values())
    assert len(values) <= 1
    return STATES[struct.unpack_from("<I", values[0])[0]] if values else ""


def in_state(start: Start, steps: list[str]) -> tuple[Example, StatefulFirewall]:
    example, model = start("stateful_firewall"), StatefulFirewall()
    for step in steps:
        assert example.agrees(model, packet(step)) == 1, step
    return example, model


BEFORE = {
    "": [],
    "syn sent": ["> S"],
    "syn acked": ["> S", "< SA"],
    "established": HANDSHAKE,
    "client closed": [*HANDSHAKE, "> FA"],
    "server closed": [*HANDSHAKE, "< FA"],
    "closed": [*HANDSHAKE, "> FA", "< FA"],
}

TRANSITIONS = [
    # before, packet, verdict, after
    ("", "> S", 1, "syn sent"),
    ("", "> SPU", 1, "syn sent"),
    ("", "> SA", 0, ""),
    ("", "> A", 0, ""),
    ("", "> FA", 0, ""),
    ("", "> R", 0, ""),
    ("", "> -", 0, ""),
    ("", "> SF", 0, ""),
    ("", "> SR", 0, ""),
    ("syn sent", "< SA", 1, "syn acked"),
    ("syn sent", "< A", 0, "syn sent"),
    ("syn sent", "< S", 0, "syn sent"),
    ("syn sent", "< FA", 0, "syn sent"),
    ("syn sent", "< SAF", 0, "syn sent"),
    ("syn sent", "< RA", 1, ""),
    ("syn sent", "> S", 1, "syn sent"),
    ("syn sent", "> A", 0, "syn sent"),
    ("syn sent", "> SA", 0, "syn sent"),
    ("syn sent", "> R", 1, ""),
    ("syn acked", "< SA", 1, "syn acked"),
    ("syn acked", "< A", 0, "syn acked"),
    ("syn acked", "< R", 1, ""),
    ("syn acked", "> S", 1, "syn acked"),
    ("syn acked", "> A", 1, "established"),
    ("syn acked", "> PA", 1, "established"),
    ("syn acked", "> FA", 1, "client closed"),
    ("syn acked", "> SA", 0, "syn acked"),
    ("syn acked", "> F", 0, "syn acked"),
    ("syn acked", "> -", 0, "syn acked"),
    ("syn acked", "> RA", 1, ""),
    ("established", "> PA", 1, "established"),
    ("established", "< PA", 1, "established"),
    ("established", "< SA", 1, "established"),
    ("established", "> S", 1, "established"),
    ("established", "> -", 1, "established"),
    ("established", "> F", 1, "established"),
    ("established", "> FPA", 1, "client closed"),
    ("established", "< FA", 1, "server closed"),
    ("established", "> R", 1, ""),
    ("established", "< RA", 1, ""),
    ("client closed", "> FA", 1, "client closed"),
    ("client closed", "< A", 1, "client closed"),
    ("client closed", "< PA", 1, "client closed"),
    ("client closed", "< FA", 1, "closed"),
    ("client closed", "< R", 1, ""),
    ("server closed", "< FA", 1, "server closed"),
    ("server closed", "> PA", 1, "server closed"),
    ("server closed", "> FA", 1, "closed"),
    ("closed", "> A", 1, "closed"),
    ("closed", "< FA", 1, "closed"),
    ("closed", "< A", 1, "closed"),
    ("closed", "> S", 1, "syn sent"),
    ("closed", "< S", 1, "syn sent"),
    ("closed", "> R", 1, ""),
]


@pytest.mark.parametrize(("before", "step", "verdict", "after"), TRANSITIONS)
def test_transition(start: Start, before: str, step: str, verdict: int, after: str) -> None:
    """Each row of the table in the head of stateful_firewall.c, and each packet that must not pass."""
    example, model = in_state(start, BEFORE[before])
    assert state(example) == before
    assert example.run(packet(step)) == verdict
    assert state(example) == after
    assert model.run(packet(step), example.clock.now) == verdict
    assert example.contents() == model.maps()


@pytest.mark.parametrize(
    ("steps", "verdicts"),
    [
        pytest.param("> PA", "0", id="data of no connection"),
        pytest.param("> S,> S,< SA,> A,> PA,< PA,< FA,> A,> FA,< A", "1111111111", id="server closes first"),
        pytest.param("> S,< SA,> A,> FA,< PA,< A,< FA,> A", "11111111", id="half-closed connection"),
        pytest.param("> S,< SA,> A,> FA,< FA,> A,< A", "1111111", id="both close at once"),
        pytest.param("> S,< SA,> A,> FA,< FA,> A,< FA,> A", "11111111", id="last ACK is lost and repeated"),
        pytest.param("> S,< RA,> A", "110", id="refused connection"),
        pytest.param("> S,< SA,> A,< R,> PA,< PA", "111100", id="reset connection"),
        pytest.param("> S,< SA,< SA,> S,> A", "11111", id="lost packets of the handshake"),
        pytest.param("> S,> PA,< PA", "100", id="data before the handshake is complete"),
    ],
)
def test_sequence(start: Start, steps: str, verdicts: str) -> None:
    """Whole connections: every legal packet passes from first SYN to last ACK."""
    example, model = start("stateful_firewall"), StatefulFirewall()
    assert "".join(str(example.agrees(model, packet(step))) for step in steps.split(",")) == verdicts
    assert example.contents() == model.maps()


def test_session_bytes(start: Start) -> None:
    """The key is the flow with its smaller end first, whoever sends, and the value names the server's end."""
    example = start("stateful_firewall")
    example.run(packet("> S"))
    key = IPv4Address(SERVER).packed + IPv4Address(CLIENT).packed + struct.pack(">HHB3x", 80, 40000, 6)
    assert example.contents()["sessions"] == {key: struct.pack("<IIQ", 1, 0, example.clock.now)}
    other = start("stateful_firewall")
    other.run(packet("> S", client=(SERVER, 80), server=(CLIENT, 40000)))
    assert other.contents()["sessions"] == {key: struct.pack("<IIQ", 1, 1, other.clock.now)}


def test_connections_do_not_share_keys(start: Start) -> None:
    """Flows whose addresses and ports are the same numbers, paired otherwise, are different connections."""
    example, model = in_state(start, HANDSHAKE)
    crossed = packet("> PA", client=(CLIENT, 80), server=(SERVER, 40000))
    assert example.agrees(model, crossed) == 0
    assert example.agrees(model, packet("> PA", client=("10.0.0.77", 1), server=(SERVER, 22))) == 0
    assert example.agrees(model, packet("> PA", client=(CLIENT, 40001))) == 0


def test_addresses_above_the_sign_bit_are_ordered_as_numbers(start: Start) -> None:
    example, model = start("stateful_firewall"), StatefulFirewall()
    ends = {"client": ("240.0.0.1", 40000), "server": ("127.0.0.1", 80)}
    for step in [*HANDSHAKE, "< PA"]:
        assert example.agrees(model, packet(step, **ends)) == 1
    assert example.contents() == model.maps()


def test_same_address_on_both_ends(start: Start) -> None:
    """Ports tell the ends of a connection of a host with itself apart; a packet from its own target is refused."""
    example, model = start("stateful_firewall"), StatefulFirewall()
    ends = {"client": (SERVER, 40000), "server": (SERVER, 80)}
    for step in [*HANDSHAKE, "< PA"]:
        assert example.agrees(model, packet(step, **ends)) == 1
    assert example.agrees(model, packet("> S", client=(SERVER, 80), server=(SERVER, 80))) == 0


@pytest.mark.parametrize(
    ("before", "idle_ns", "passes"),
    [
        ("established", 7440 * SECOND, True),
        ("established", 7440 * SECOND + 1, False),
        ("client closed", 240 * SECOND, True),
        ("client closed", 240 * SECOND + 1, False),
        ("closed", 240 * SECOND + 1, False),
        ("established", -SECOND, True),
    ],
)
def test_timeout(start: Start, before: str, idle_ns: int, passes: bool) -> None:
    """A session ends after RFC 5382's idle times; a clock that steps back ends none."""
    example, model = in_state(start, BEFORE[before])
    example.clock.now += idle_ns
    assert example.agrees(model, packet("< PA")) == passes
    assert example.contents() == model.maps()


def test_every_packet_keeps_a_session_alive(start: Start) -> None:
    example, model = in_state(start, HANDSHAKE)
    for _ in range(3):
        example.clock.now += 7000 * SECOND
        assert example.agrees(model, packet("< A")) == 1


@pytest.mark.parametrize("before", ["syn sent", "syn acked", "established", "closed"])
def test_a_syn_reopens_what_is_over(start: Start, before: str) -> None:
    example, model = in_state(start, BEFORE[before])
    example.clock.now += 7441 * SECOND
    assert example.agrees(model, packet("> A")) == 0
    assert example.agrees(model, packet("> S")) == 1
    assert state(example) == "syn sent"
    assert example.contents() == model.maps()


@pytest.mark.slow
def test_full_table(start: Start) -> None:
    """With 10 000 sessions a new connection is refused and a known one goes on; a freed place is used again."""
    example, model = in_state(start, HANDSHAKE)
    for number in range(9999):
        assert example.agrees(model, packet("> S", client=(f"10.1.{number >> 8}.{number & 255}", 1024))) == 1
    assert example.agrees(model, packet("> S", client=("10.2.0.0", 1024))) == 0
    assert example.agrees(model, packet("> PA")) == 1
    assert example.agrees(model, packet("> R")) == 1
    assert example.agrees(model, packet("> S", client=("10.2.0.0", 1024))) == 1
    assert example.contents() == model.maps()


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        pytest.param(ethernet(ipv4(tcp("S"), options=bytes(40))), 1, id="IP options"),
        pytest.param(ethernet(ipv4(tcp("S")), tags=((VLAN, 5),)), 1, id="VLAN tag"),
        pytest.param(ethernet(ipv4(tcp("S"), more_fragments=True)), 1, id="first fragment"),
        pytest.param(ethernet(ipv4(tcp("S"), fragment_offset=1)), 0, id="later fragment"),
        pytest.param(ethernet(ipv4(tcp("S"), options=bytes(40)))[:93], 0, id="TCP header cut short"),
        pytest.param(ethernet(ipv4(tcp("S", data_offset=4))), 0, id="impossible data offset"),
        pytest.param(ethernet(ipv4(tcp("S"), total_length=39)), 0, id="total length too small"),
        pytest.param(ethernet(ipv4(udp(), protocol=UDP)), 0, id="UDP"),
        pytest.param(b"", 0, id="empty"),
    ],
)
def test_what_is_a_syn(start: Start, frame: bytes, expected: int) -> None:
    assert start("stateful_firewall").agrees(StatefulFirewall(), frame) == expected


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_random_packets(start: Start, seed: int) -> None:
    """Any packets in any order, at any pace: verdicts and sessions as the model has them."""
    random, example, model = Random(seed), start("stateful_firewall"), StatefulFirewall()
    verdicts = []
    for _ in range(1500):
        verdicts.append(example.agrees(model, random_frame(random)))
        example.clock.now += random.choice([0, SECOND, 200 * SECOND, 241 * SECOND])
    assert {0, 1} == set(verdicts)
    assert example.contents() == model.maps()
