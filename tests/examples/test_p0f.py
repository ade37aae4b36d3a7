"""The p0f signature filter: in C, as the thesis prints it, and as the thesis's bytecode."""

from __future__ import annotations

from random import Random

import pytest

import pybpf
from tests.examples.conftest import EXAMPLES, Start
from tests.examples.models import P0f, P0fLiteral
from tests.examples.packets import (
    ARP,
    UDP,
    VLAN,
    ethernet,
    ipv4,
    random_frame,
    tcp,
)

MSS = bytes.fromhex("020405b4")


def signature(window: int, tcp_arguments: dict | None = None, **ip: int | bool | bytes) -> bytes:
    """The signature's packet with the given fields changed; the window is the two bytes on the wire."""
    arguments = {"ttl": 128, **ip}
    return ethernet(ipv4(tcp("S", window=window, **(tcp_arguments or {})), **arguments))


def vectors(window: int, other_window: int) -> list:
    """Packets with the verdict of a filter that wants `window`."""
    return [
        pytest.param(signature(window), 1, id="signature"),
        pytest.param(signature(window, ttl=129), 0, id="ttl above"),
        pytest.param(signature(window, ttl=94), 1, id="ttl at the bound"),
        pytest.param(signature(window, ttl=93), 0, id="ttl below"),
        pytest.param(signature(window, ttl=0), 0, id="ttl zero"),
        pytest.param(signature(window, dont_fragment=False), 0, id="fragmentation allowed"),
        pytest.param(signature(window, tos=8), 0, id="type of service bit 3"),
        pytest.param(signature(window, tos=0xF7), 1, id="all other bits of the type of service"),
        pytest.param(signature(window, options=bytes(4)), 0, id="IP options"),
        pytest.param(signature(window, total_length=41), 0, id="one byte of payload"),
        pytest.param(signature(window, {"options": MSS * 3}), 1, id="TCP options"),
        pytest.param(signature(window, {"options": MSS * 3, "data": b"x"}), 0, id="options and payload"),
        pytest.param(signature(other_window), 0, id="window in the other byte order"),
        pytest.param(signature(window)[:54], 1, id="54 bytes"),
        pytest.param(signature(window)[:53], 0, id="53 bytes"),
        pytest.param(b"", 0, id="empty"),
    ]


@pytest.mark.parametrize(("frame", "expected"), vectors(window=8192, other_window=32))
def test_p0f(start: Start, frame: bytes, expected: int) -> None:
    """The window is 8192 on the wire."""
    example = start("p0f")
    assert example.run(frame) == expected
    assert example.agrees(P0f(), frame) == expected


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(ethernet(ipv4(tcp("S"), ttl=128), kind=ARP), id="another Ethernet type"),
        pytest.param(ethernet(ipv4(tcp("S"), ttl=128), tags=((VLAN, 1),)), id="VLAN tag"),
        pytest.param(ethernet(ipv4(tcp("S"), ttl=128, version=6)), id="another IP version"),
        pytest.param(ethernet(ipv4(tcp("S"), ttl=128, protocol=UDP)), id="another protocol"),
        pytest.param(ethernet(ipv4(tcp("S"), ttl=128, fragment_offset=1)), id="later fragment"),
        pytest.param(
            ethernet(ipv4(tcp("S", data_offset=4), ttl=128, total_length=36)), id="impossible data offset"
        ),
    ],
)
def test_p0f_takes_nothing_else_for_tcp(start: Start, frame: bytes) -> None:
    """Bytes that only look like the signature do not match."""
    assert start("p0f").agrees(P0f(), frame) == 0


@pytest.mark.parametrize(("frame", "expected"), vectors(window=32, other_window=8192))
def test_literal(start: Start, frame: bytes, expected: int) -> None:
    """Listing 3.1 compares the loaded halfword with 8192: what matches is a window of 32 on the wire."""
    example = start("p0f_literal")
    assert example.run(frame) == expected
    assert example.agrees(P0fLiteral(), frame) == expected


def appendix_b_program() -> pybpf.Program:
    return pybpf.assemble((EXAMPLES / "appendix_b.bpf").read_text(), type="filter")


def appendix_b(engine: str) -> pybpf.Instance:
    return pybpf.instantiate(pybpf.verify(appendix_b_program()), engine=engine)


@pytest.mark.parametrize(("frame", "expected"), vectors(window=32, other_window=8192))
def test_appendix_b(engine: str, frame: bytes, expected: int) -> None:
    """The bytecode of Appendix B does what Listing 3.1 says."""
    assert appendix_b(engine).run(frame).value == expected


APPENDIX_B = bytes.fromhex(
    """
    b703000036000000 2d231c0000000000 7112160000000000 07020000a2ffffff
    57020000ff000000 2502180022000000 71120e0000000000 bf23000000000000
    570300000f000000 5503140005000000 7113140000000000 5703000040000000
    1503110000000000 71130f0000000000 5703000008000000 55030e0000000000
    6913300000000000 55030c0000200000 6702000002000000 570200003c000000
    69132e0000000000 7703000002000000 570300003c000000 0f32000000000000
    6911100000000000 dc01000010000000 b700000001000000 1d12010000000000
    b700000000000000 9500000000000000 b700000000000000 9500000000000000
    """
)


def test_appendix_b_has_the_bytes_of_the_thesis() -> None:
    """32 instructions, with the jumps where the printed listing has them."""
    assert pybpf.encode(appendix_b_program().code) == APPENDIX_B


@pytest.mark.slow
def test_appendix_b_is_the_listing(engine: str, start: Start) -> None:
    """On random packets near the signature the bytecode and the compiled listing agree."""
    random, bytecode, compiled, model = Random(1), appendix_b(engine), start("p0f_literal"), P0fLiteral()
    matches = 0
    for _ in range(400):
        frame = bytearray(signature(32))
        for _ in range(random.randrange(3)):
            frame[random.randrange(14, 54)] ^= 1 << random.randrange(8)
        expected = compiled.agrees(model, bytes(frame))
        assert bytecode.run(bytes(frame)).value == expected
        matches += expected
    assert 100 < matches < 400


@pytest.mark.slow
def test_p0f_on_random_packets(start: Start) -> None:
    """The compiled filter agrees with its model on packets of every shape."""
    random, example, model = Random(2), start("p0f"), P0f()
    assert {example.agrees(model, random_frame(random)) for _ in range(1000)} == {0, 1}
