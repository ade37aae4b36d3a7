"""The XDP examples: what they return, count and make of the packet."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from random import Random

import pytest

from tests.examples.conftest import Example, Start
from tests.examples.models import XdpCounter, XdpFirewall, XdpRouter
from tests.examples.packets import (
    ARP,
    ICMP,
    IPV6,
    QINQ,
    SERVER,
    UDP,
    VLAN,
    ethernet,
    ipv4,
    ipv6,
    random_frame,
    read_ipv4,
    samples,
    tcp,
    udp,
)

DROP, PASS, TX = 1, 2, 3
WEB = (IPv4Address(SERVER).packed, 80, 6)
HOST = (IPv4Address("10.0.0.77").packed, 0, 0)


def firewall(start: Start) -> tuple[Example, XdpFirewall]:
    """A firewall that blocks the server's web service and the whole of another host."""
    example, model = start("xdp_firewall"), XdpFirewall([WEB, HOST])
    example.prepare(model)
    return example, model


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        pytest.param(ethernet(ipv4(tcp("S"))), DROP, id="blocked service"),
        pytest.param(ethernet(ipv4(tcp("S", destination=443))), PASS, id="another port"),
        pytest.param(ethernet(ipv4(udp(destination=80), protocol=UDP)), PASS, id="another protocol"),
        pytest.param(ethernet(ipv4(tcp("S"), destination="10.0.0.2")), PASS, id="another host"),
        pytest.param(
            ethernet(ipv4(tcp("S", destination=22), destination="10.0.0.77")), DROP, id="blocked host"
        ),
        pytest.param(ethernet(ipv4(bytes(8), protocol=ICMP, destination="10.0.0.77")), DROP, id="host, ICMP"),
        pytest.param(ethernet(ipv4(bytes(8), protocol=ICMP)), PASS, id="ICMP"),
        pytest.param(ethernet(ipv4(tcp("S"), options=bytes(40))), DROP, id="IP options"),
        pytest.param(ethernet(ipv4(tcp("S")), tags=((VLAN, 1),)), DROP, id="VLAN tag"),
        pytest.param(ethernet(ipv4(tcp("S")), tags=((QINQ, 1), (VLAN, 1))), DROP, id="two tags"),
        pytest.param(ethernet(ipv4(tcp("S"), fragment_offset=1)), PASS, id="later fragment"),
        pytest.param(
            ethernet(ipv4(fragment_offset=1, destination="10.0.0.77")), DROP, id="host, later fragment"
        ),
        pytest.param(ethernet(ipv4(tcp("S")), pad=False)[:37], DROP, id="ports cut short"),
        pytest.param(ethernet(ipv4(tcp("S")))[:33], DROP, id="header cut short"),
        pytest.param(ethernet(ipv4(), pad=False)[:33], DROP, id="IPv4 header cut short"),
        pytest.param(ethernet(ipv4(tcp("S"), ihl=4)), DROP, id="impossible header length"),
        pytest.param(ethernet(bytes(28), kind=ARP), PASS, id="ARP"),
        pytest.param(ethernet(ipv6(), kind=IPV6), PASS, id="IPv6"),
        pytest.param(ethernet(b"", pad=False), DROP, id="an Ethernet header alone"),
        pytest.param(b"", PASS, id="empty"),
    ],
)
def test_firewall(start: Start, frame: bytes, expected: int) -> None:
    """What goes to a blocked service or host is dropped and counted."""
    example, model = firewall(start)
    assert example.agrees(model, frame) == expected
    assert example.contents() == model.maps()


def test_firewall_counts(start: Start) -> None:
    example, model = firewall(start)
    for _ in range(3):
        assert example.agrees(model, ethernet(ipv4(tcp("S")))) == DROP
    assert example.contents()["blocked"][WEB[0] + b"\0\x50\x06\0"] == struct.pack("<QQ", 3, 3 * 60)


@pytest.mark.parametrize("frame", samples())
def test_router_sends_back_or_leaves_alone(start: Start, frame: bytes) -> None:
    """A packet that is sent back has lost a hop, has a right checksum and swapped addresses; any other is unchanged."""
    example, model = start("xdp_router"), XdpRouter()
    result = example.instance.run(frame)
    assert result.value == model.run(frame, 0)
    assert bytes(result.packet) == model.packet


def test_router_changes_what_it_should(start: Start) -> None:
    """The frame that comes back, field by field."""
    frame = ethernet(ipv4(tcp("S"), ttl=64))
    after = start("xdp_router").packet_after(frame)
    assert after[:12] == frame[6:12] + frame[:6]
    assert after[22] == 63
    assert after[12:22] + after[26:] == frame[12:22] + frame[26:]
    packet = read_ipv4(after)
    assert packet is not None
    assert after == ethernet(ipv4(tcp("S"), ttl=63)).replace(frame[:12], after[:12])


def test_router_updates_every_checksum_as_a_sender_would(start: Start) -> None:
    """Over all the checksums that a header can have, 0x0000 and those at the carry among them."""
    example, model = start("xdp_router"), XdpRouter()
    low = [0, 1, 0xFE, 0xFF]
    for total_length in (high << 8 | byte for high in range(0, 256, 5) for byte in low):
        frame = ethernet(ipv4(total_length=total_length))
        assert example.packet_after(frame) == model.route(frame)[1], frame.hex()


@pytest.mark.parametrize(("ttl", "expected"), [(0, PASS), (1, PASS), (2, TX), (255, TX)])
def test_router_leaves_the_last_hop_to_the_host(start: Start, ttl: int, expected: int) -> None:
    assert start("xdp_router").run(ethernet(ipv4(ttl=ttl))) == expected
    assert start("xdp_router").run(ethernet(ipv6(hop_limit=ttl), kind=IPV6)) == expected


def test_counter(start: Start) -> None:
    """One entry for each protocol number, one more for all that is not IP."""
    example, model = start("xdp_counter"), XdpCounter()
    for frame in samples():
        assert example.agrees(model, frame) == PASS
    assert example.contents() == model.maps()
    assert model.packets.keys() >= {1, 6, 17, 256}


@pytest.mark.slow
def test_random_packets(start: Start) -> None:
    """Any packets: verdicts, packets and counters as the models have them."""
    random = Random(4)
    blocking, blocking_model = firewall(start)
    counter, counter_model = start("xdp_counter"), XdpCounter()
    router, router_model = start("xdp_router"), XdpRouter()
    for _ in range(1000):
        frame = random_frame(random)
        blocking.agrees(blocking_model, frame)
        counter.agrees(counter_model, frame)
        assert router.packet_after(frame) == router_model.route(frame)[1]
    assert blocking.contents() == blocking_model.maps()
    assert counter.contents() == counter_model.maps()
