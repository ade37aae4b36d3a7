"""The examples over captures of real stacks, packet by packet, each at the time it was captured."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import dpkt
import pytest

import pybpf
from tests.examples.conftest import EXAMPLES, Start
from tests.examples.models import (
    MODELS,
    Dapper,
    Model,
    P0f,
    P0fLiteral,
    StatefulFirewall,
    StatelessFirewall,
    XdpFirewall,
    flow_key,
)
from tests.examples.packets import read_segment

CAPTURES = sorted(path for path in (EXAMPLES / "captures").iterdir() if ".pcap" in path.name)
CLIENT, SERVER = IPv4Address("10.0.0.2").packed, IPv4Address("10.0.0.1").packed

pytestmark = pytest.mark.slow


def packets(capture: Path) -> list[tuple[int, bytes]]:
    batch = pybpf.read_pcap(capture)
    return list(zip(batch.timestamps.tolist(), batch, strict=True))


def model_of(name: str) -> Model:
    """The model, with rules for the hosts of the captures in its maps."""
    match name:
        case "stateless_firewall":
            return StatelessFirewall({SERVER: 1, CLIENT: 2})
        case "xdp_firewall":
            return XdpFirewall([(SERVER, 80, 6), (CLIENT, 0, 0)])
        case _:
            return MODELS[name]()


@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_its_model(start: Start, name: str) -> None:
    """The same verdict for every packet of every capture, and the same maps at the end."""
    example, model = start(name), model_of(name)
    example.prepare(model)
    for capture in CAPTURES:
        for number, (time, frame) in enumerate(packets(capture), 1):
            example.clock.now = time
            result = example.instance.run(frame)
            assert result.value == model.run(frame, time), f"{capture.name}, packet {number}"
            if name == "xdp_router":
                assert result.packet == model.packet, f"{capture.name}, packet {number}"  # type: ignore[attr-defined]
    assert example.contents() == model.maps()


@pytest.mark.parametrize(
    "capture",
    ["http.pcap", "http-nano.pcap.gz", "http-snap96.pcap", "refused.pcap", "reset.pcap", "vlan.pcap"],
)
def test_real_connections_pass_the_stateful_firewall(capture: str) -> None:
    """What the model is worth: of connections captured from their SYN on, only what follows an RST is stopped."""
    model, passed, was_reset = StatefulFirewall(), 0, set()
    for number, (time, frame) in enumerate(packets(EXAMPLES / "captures" / capture), 1):
        verdict, segment = model.run(frame, time), read_segment(frame)
        if segment is None:
            assert verdict == 0, number
            continue
        assert verdict == (flow_key(segment) not in was_reset), number
        passed += verdict
        if "R" in segment.flags:
            was_reset.add(flow_key(segment))
    assert passed > 20


def test_dapper_blames_the_lossy_wire() -> None:
    """Of a wire that loses frames some connections are diagnosed as limited by the network; of a good wire none."""

    def blamed(capture: str) -> bool:
        model, found = Dapper(), 0
        for time, frame in packets(EXAMPLES / "captures" / capture):
            model.run(frame, time)
            found |= any(c.diagnosis & Dapper.network_limited for c in model.connections.values())
        return bool(found)

    assert blamed("loss.pcap")
    assert not blamed("http.pcap")


def test_p0f_finds_its_signature() -> None:
    """In the capture that was made for it some segments match and most do not; the literal filter finds others."""
    frames = [frame for _, frame in packets(EXAMPLES / "captures" / "p0f.pcap")]
    matches = {frame for frame in frames if P0f().run(frame, 0)}
    literal = {frame for frame in frames if P0fLiteral().run(frame, 0)}
    assert 0 < len(matches) < len(frames) / 2
    assert literal
    assert not matches & literal


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.name)
def test_packets_are_read_as_dpkt_reads_them(capture: Path) -> None:
    """The tests' own reader of segments against an independent one."""
    for number, (_, frame) in enumerate(packets(capture), 1):
        segment = read_segment(frame)
        ip = dpkt.ethernet.Ethernet(frame).data
        if not isinstance(ip, dpkt.ip.IP) or not isinstance(ip.data, dpkt.tcp.TCP):
            assert segment is None, number
            continue
        tcp = ip.data
        assert segment is not None, number
        assert segment.sender == (ip.src, tcp.sport)
        assert segment.receiver == (ip.dst, tcp.dport)
        assert (segment.sequence, segment.acknowledgment) == (tcp.seq, tcp.ack)
        assert (segment.window, segment.options) == (tcp.win, tcp.opts)
        assert (segment.ip.ttl, segment.ip.tos, segment.ip.total_length) == (ip.ttl, ip.tos, ip.len)
        if segment.ip.total_length + 14 <= len(frame):
            assert segment.data_size == len(tcp.data)
