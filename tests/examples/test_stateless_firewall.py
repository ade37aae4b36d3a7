"""The stateless firewall: verdicts per destination."""

from __future__ import annotations

import pytest

from tests.examples.conftest import Start
from tests.examples.models import StatelessFirewall
from tests.examples.packets import ARP, IPV6, QINQ, VLAN, ethernet, ipv4, ipv6, tcp

HOST = "172.16.0.14"
KEY = bytes([14, 0, 16, 172])  # host byte order, little-endian
DROP, PASS = b"\1\0\0\0", b"\2\0\0\0"
TO_HOST = ethernet(ipv4(tcp("S"), destination=HOST))


@pytest.mark.parametrize(
    ("action", "expected"), [(None, 1), (DROP, 0), (PASS, 1), (b"\3\0\0\0", 1), (b"\1\0\0\1", 1)]
)
def test_action(start: Start, action: bytes | None, expected: int) -> None:
    """Only the action "drop" drops; no entry, "pass" and unknown actions do not."""
    example = start("stateless_firewall")
    if action is not None:
        example.maps["lookup_table"][KEY] = action
    assert example.run(TO_HOST) == expected
    assert example.run(ethernet(ipv4(tcp("S"), source=HOST, destination="172.16.0.15"))) == 1


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        pytest.param(ethernet(ipv4(destination=HOST), tags=((VLAN, 5),)), 0, id="VLAN tag"),
        pytest.param(ethernet(ipv4(destination=HOST), tags=((QINQ, 5), (VLAN, 6))), 0, id="two tags"),
        pytest.param(ethernet(ipv4(destination=HOST), tags=((VLAN, 5),) * 3), 1, id="three tags"),
        pytest.param(ethernet(ipv4(destination=HOST, options=bytes(40))), 0, id="IP options"),
        pytest.param(ethernet(ipv4(destination=HOST, fragment_offset=9)), 0, id="later fragment"),
        pytest.param(ethernet(ipv4(destination=HOST), pad=False), 0, id="34 bytes"),
        pytest.param(ethernet(ipv4(destination=HOST), pad=False)[:33], 1, id="33 bytes"),
        pytest.param(ethernet(ipv4(destination=HOST, version=5)), 1, id="not version 4"),
        pytest.param(ethernet(ipv4(destination=HOST, ihl=4)), 1, id="impossible header length"),
        pytest.param(ethernet(bytes(28), kind=ARP), 1, id="ARP"),
        pytest.param(ethernet(ipv6(), kind=IPV6), 1, id="IPv6"),
        pytest.param(b"", 1, id="empty"),
    ],
)
def test_what_has_a_destination(start: Start, frame: bytes, expected: int) -> None:
    """A frame whose destination is to be dropped is, if it is IPv4 behind at most two tags."""
    example = start("stateless_firewall")
    example.maps["lookup_table"][KEY] = DROP
    model = StatelessFirewall({KEY[::-1]: 1})
    assert example.agrees(model, frame) == expected
    assert example.contents() == model.maps()
