"""The rate limiters: 10 000 packets a second per source, as a filter (1 drops) and for XDP."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from random import Random

import pytest

from tests.examples.conftest import Example, Start
from tests.examples.models import SECOND, RateLimiter, XdpRateLimiter
from tests.examples.packets import CLIENT, IPV6, QINQ, VLAN, ethernet, ipv4, ipv6, random_frame

PACKET = ethernet(ipv4())
TOKEN_NS = SECOND // 10000
MILLISECOND = SECOND // 1000


def let_through(example: Example, packets: int, frame: bytes = PACKET) -> int:
    """How many of so many packets at one time pass."""
    return sum(example.run(frame) == 0 for _ in range(packets))


def leave(example: Example, credit_ns: int, source: str = CLIENT) -> None:
    """Sets a source's bucket as if it had just been refilled to `credit_ns`."""
    example.maps["buckets"][IPv4Address(source).packed] = struct.pack("<QQ", example.clock.now, credit_ns)


@pytest.mark.slow
def test_burst(start: Start) -> None:
    """10 000 packets at once pass, the next does not."""
    example = start("rate_limiter")
    assert let_through(example, 10_050) == 10_000


@pytest.mark.parametrize(("elapsed_ns", "passing"), [(0, 0), (MILLISECOND, 10), (10 * MILLISECOND, 100)])
def test_refill(start: Start, elapsed_ns: int, passing: int) -> None:
    """An empty bucket gains a token each 0.1 ms."""
    example = start("rate_limiter")
    leave(example, 0)
    example.clock.now += elapsed_ns
    assert let_through(example, passing + 5) == passing


def test_fractions_of_a_token_add_up(start: Start) -> None:
    """Nine refills of a third of a token are three tokens."""
    example = start("rate_limiter")
    leave(example, 0)
    passed = 0
    for _ in range(9):
        example.clock.now += TOKEN_NS // 3 + 1
        passed += let_through(example, 1)
    assert passed == 3


def test_the_decision_follows_the_refill(start: Start) -> None:
    """The first packet after a pause passes although the bucket was empty before."""
    example = start("rate_limiter")
    leave(example, 0)
    assert example.run(PACKET) == 1
    example.clock.now += SECOND
    assert example.run(PACKET) == 0


def test_a_bucket_never_overflows(start: Start) -> None:
    """After a year's pause it holds one burst."""
    example, model = start("rate_limiter"), RateLimiter()
    assert example.agrees(model, PACKET) == 0
    example.clock.now += 365 * 86400 * SECOND
    assert example.agrees(model, PACKET) == 0
    assert example.contents() == model.maps()
    assert (
        struct.unpack("<QQ", example.contents()["buckets"][IPv4Address(CLIENT).packed])[1]
        == SECOND - TOKEN_NS
    )


def test_a_clock_that_steps_back_refills_nothing(start: Start) -> None:
    """Nor does it stop the refill from there on."""
    example = start("rate_limiter")
    leave(example, 0)
    example.clock.now -= 3600 * SECOND
    assert example.run(PACKET) == 1
    example.clock.now += TOKEN_NS
    assert example.run(PACKET) == 0


def test_sources_have_their_own_buckets(start: Start) -> None:
    example = start("rate_limiter")
    leave(example, 0)
    assert example.run(PACKET) == 1
    assert example.run(ethernet(ipv4(source="10.0.0.10"))) == 0


@pytest.mark.slow
def test_sources_beyond_the_table_share_a_bucket(start: Start) -> None:
    """The 1001st source and those that follow are limited, together."""
    example, model = start("rate_limiter"), RateLimiter()
    for number in range(1000):
        assert example.agrees(model, ethernet(ipv4(source=f"10.1.{number >> 8}.{number & 255}"))) == 0
    late = [ethernet(ipv4(source=f"10.2.0.{number}")) for number in range(2)]
    assert sum(example.agrees(model, late[number % 2]) == 0 for number in range(10_050)) == 10_000
    assert len(example.maps["buckets"]) == 1000
    assert example.contents() == model.maps()


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        pytest.param(ethernet(ipv4(), pad=False), 1, id="34 bytes"),
        pytest.param(ethernet(ipv4(), pad=False)[:33], 0, id="33 bytes"),
        pytest.param(ethernet(ipv4(), tags=((VLAN, 1),)), 1, id="VLAN tag"),
        pytest.param(ethernet(ipv4(), tags=((QINQ, 1), (VLAN, 1))), 1, id="two tags"),
        pytest.param(ethernet(ipv4(fragment_offset=1)), 1, id="fragment"),
        pytest.param(ethernet(ipv6(), kind=IPV6), 0, id="IPv6"),
        pytest.param(b"", 0, id="empty"),
    ],
)
def test_what_is_limited(start: Start, frame: bytes, expected: int) -> None:
    """Of a source without credit, every IPv4 packet is dropped and nothing else."""
    example = start("rate_limiter")
    leave(example, 0)
    assert example.run(frame) == expected


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        pytest.param(PACKET, 1, id="IPv4"),
        pytest.param(ethernet(ipv4(source="10.0.0.10")), 2, id="another source"),
        pytest.param(ethernet(ipv6(), kind=IPV6), 2, id="IPv6"),
        pytest.param(ethernet(ipv4(source="10.0.0.10"), pad=False)[:33], 1, id="cut short"),
        pytest.param(ethernet(ipv4(source="10.0.0.10", ihl=15)), 1, id="options cut short"),
        pytest.param(b"", 2, id="empty"),
    ],
)
def test_xdp(start: Start, frame: bytes, expected: int) -> None:
    """XDP_DROP for a source without credit and for what is no sound IPv4 packet."""
    example = start("xdp_rate_limiter")
    leave(example, 0)
    assert example.run(frame) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rate_limiter", "xdp_rate_limiter"])
def test_random_packets(start: Start, name: str) -> None:
    """Any packets at any pace, from sources near the end of their credit: verdicts and buckets as the model has them."""
    random, example = Random(3), start(name)
    model = RateLimiter() if name == "rate_limiter" else XdpRateLimiter()
    for source in ("10.0.0.1", "10.0.0.9", "10.0.0.77"):
        leave(example, 0, source)
        model.buckets[IPv4Address(source).packed] = (example.clock.now, 0)
    verdicts = []
    for _ in range(1500):
        verdicts.append(example.agrees(model, random_frame(random)))
        example.clock.now += random.choice([0, TOKEN_NS // 3, TOKEN_NS])
    assert len(set(verdicts)) == 2
    assert example.contents() == model.maps()
