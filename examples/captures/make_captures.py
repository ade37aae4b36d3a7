#!/usr/bin/env python3
"""Make the captures of this directory: real TCP/IP stacks talking to each other in network namespaces.

    sudo python3 make_captures.py [NAME...]

Needs Linux, root, iproute2, tcpdump, dumpcap (for the pcapng) and dnsmasq (for DNS answers). Every address
lies in the namespaces that network.py makes, and every amount of traffic is a constant here. Only what a host's
stack would not send by itself is built from bytes: the SYN flood, and SYNs that look like another system's.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import random
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hosts import (
    ABORTING,
    CLOSED,
    ECHO,
    HTTP,
    dns_ask,
    get,
    name_server,
    ping,
    post,
    reset,
    send_packets,
    servers,
    syn,
    tcp_connect,
    text,
    udp_ask,
)
from network import (
    CLIENT,
    CLIENT_IP,
    SERVER_IP,
    SERVER_IPV6,
    SPOOFED_NETWORK,
    Impairment,
    Wire,
    capturing,
    ip,
    network,
    sysctl,
)

HERE = Path(__file__).parent
SETTLE_S = 2.0  # for the last acknowledgements and their retransmissions
LOSSY = Impairment(loss=0.05, duplicate=0.02, delay=0.03)
A, MX, TXT, AAAA = 1, 15, 16, 28  # DNS record types


def http_transfers() -> None:
    """Pages of several sizes, several over one connection, an upload, three connections at once."""
    for size in (0, 1, 100, 1460, 5000, 30000):
        get(size)
    get(700, requests=5)
    post(20000)
    parallel = [threading.Thread(target=get, args=(3000,)) for _ in range(3)]
    for thread in parallel:
        thread.start()
    for thread in parallel:
        thread.join()


def refused() -> None:
    """Closed TCP ports (RST) and UDP ports (ICMP port unreachable)."""
    for port in range(CLOSED, CLOSED + 8):
        with contextlib.suppress(ConnectionRefusedError):
            tcp_connect(SERVER_IP, port)
        udp_ask(b"anybody there?", port)
    get(100)


def resets() -> None:
    """Connections reset in the middle of a transfer: four by the client, four by the server."""
    for _ in range(4):
        connection = tcp_connect(SERVER_IP, HTTP)
        connection.send(b"GET /20000 HTTP/1.1\r\nHost: server\r\n\r\n")
        connection.recv(1000)
        reset(connection)
    for _ in range(4):
        connection = tcp_connect(SERVER_IP, ABORTING)
        connection.send(b"hello")
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(1000):
                pass
        connection.close()
    get(100)


def retransmissions() -> None:
    """Transfers both ways, and short connections whose SYN or FIN may be lost."""
    get(100000)
    post(50000)
    for _ in range(12):
        get(500)


def syn_flood() -> None:
    """300 SYNs from made-up addresses that never answer, with three honest connections among them."""
    dice = random.Random(2)
    base = int.from_bytes(socket.inet_aton(SPOOFED_NETWORK.partition("/")[0]))
    sources = [socket.inet_ntoa((base + dice.randrange(1, 127)).to_bytes(4)) for _ in range(300)]
    maximum_segment_size = bytes([2, 4, 5, 180])
    flood = [syn(source, dice.randrange(1024, 65536), 512, 64, maximum_segment_size) for source in sources]
    get(200)
    send_packets(flood[:150], gap_s=0.002)
    get(200)
    send_packets(flood[150:], gap_s=0.002)
    get(200)


def dns() -> None:
    """Addresses, an alias, mail, text, names that do not exist, a refusal, and a burst for one name."""
    names = ["www", "web", "mail", "nothing", "a.rather.long.name.below"]
    with name_server():
        for name in names:
            for kind in (A, AAAA):
                dns_ask(f"{name}.example.org", kind)
        dns_ask("example.org", MX)
        dns_ask("example.org", TXT)
        dns_ask("www.example.net", A)
        for _ in range(40):
            dns_ask("www.example.org", A)


def ip_options() -> None:
    """TCP, UDP and ICMP with record route, timestamps and router alert (RFC 791, RFC 2113)."""
    record_route = bytes([7, 19, 4]) + bytes(16) + b"\0"
    timestamps = bytes([68, 12, 5, 0]) + bytes(8)
    router_alert = bytes([148, 4, 0, 0])
    for options in (record_route, timestamps, router_alert):
        get(2000, options=options)
        udp_ask(text(81), ECHO, options=options)
        ping(2, options=options)
    get(2000)


def ipv6() -> None:
    """HTTP, UDP and refusals over IPv6."""
    get(0, SERVER_IPV6)
    get(8000, SERVER_IPV6, requests=2)
    for size in (1, 500, 1400):
        udp_ask(text(size), ECHO, SERVER_IPV6)
    udp_ask(b"anybody there?", CLOSED, SERVER_IPV6)
    with contextlib.suppress(ConnectionRefusedError):
        tcp_connect(SERVER_IPV6, CLOSED)


def fragments() -> None:
    """Datagrams larger than a frame, over IPv4 and IPv6."""
    for size in (1473, 2960, 4000):
        udp_ask(text(size), ECHO)
        udp_ask(text(size), ECHO, SERVER_IPV6)
        ping(1, size=size)


def p0f() -> None:
    """Initial TTLs of 64 and 128, a window of 8192 and others; then SYNs like those of Windows 7."""
    get(1000)
    sysctl(CLIENT, {"ipv4/ip_default_ttl": 128, "ipv4/tcp_timestamps": 0})
    get(1000)
    # The window of a SYN is a multiple of the segment size: 8 * 1024.
    route = ["route", "change", "10.0.0.0/24", "dev", "eth0", "src", CLIENT_IP]
    ip(CLIENT, *route, "advmss", "1024", "window", "8192")
    get(1000)
    get(10000, requests=3)
    # Maximum segment size 1460, nop, window scale 8, nop, nop, selective acknowledgements permitted.
    layout = bytes([2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2])
    variants = [(8192, 128), (8192, 116), (8192, 64), (8192, 255), (65535, 128), (32, 128)] * 4
    syns = [syn(CLIENT_IP, 40000 + i, window, ttl, layout) for i, (window, ttl) in enumerate(variants)]
    send_packets(syns, gap_s=0.01)


def mixed() -> None:
    """A little of everything."""
    get(3000)
    get(1500, SERVER_IPV6)
    udp_ask(text(81), ECHO)
    ping(3)
    with name_server():
        dns_ask("www.example.org", A)
    with contextlib.suppress(ConnectionRefusedError):
        tcp_connect(SERVER_IP, CLOSED)


@dataclass(frozen=True)
class Capture:
    """A file: the traffic in it, the wires it goes over, and the options of the program that writes it."""

    name: str
    traffic: Callable[[], None]
    wires: tuple[Wire, ...] = (Wire(),)
    options: tuple[str, ...] = ("-i", "client0")


CAPTURES = [
    Capture("http.pcap", http_transfers),
    Capture("http-nano.pcap.gz", http_transfers, options=("-i", "client0", "--time-stamp-precision=nano")),
    Capture("http-snap96.pcap", http_transfers, options=("-i", "client0", "--snapshot-length=96")),
    Capture("refused.pcap", refused),
    Capture("reset.pcap", resets),
    Capture("loss.pcap", retransmissions, (Wire(LOSSY),)),
    Capture("synflood.pcap", syn_flood),
    Capture("dns.pcap", dns),
    Capture("vlan.pcap", mixed, (Wire(vlan=10), Wire(vlan=20)), ("-i", "trunk0")),
    Capture("ip-options.pcap", ip_options),
    Capture("ipv6.pcap", ipv6),
    Capture("fragments.pcap", fragments),
    Capture("p0f.pcap", p0f),
    Capture("mixed.pcapng", mixed, (Wire(LOSSY),), ("-i", "client0", "-i", "server0")),
]


def make(capture: Capture) -> None:
    """In a new network: nothing of one capture shows in the next. A failed run leaves the old file."""
    # Few retries: what goes unanswered ends within the capture. ICMP errors are not to be rationed.
    settings = {"ipv4/tcp_synack_retries": 1, "ipv4/icmp_ratelimit": 0, "ipv6/icmp/ratelimit": 0}
    with network(settings), servers(), tempfile.TemporaryDirectory() as directory:
        file = os.path.join(directory, "capture")
        if capture.name.endswith(".pcapng"):
            command = ["dumpcap", *capture.options, "-q", "-w", file]
        else:
            unbuffered = ["--relinquish-privileges=root", "--immediate-mode", "-U"]
            command = ["tcpdump", *capture.options, *unbuffered, "-w", file]
        with capturing(command):
            for wire in capture.wires:
                with wire.carrying():
                    capture.traffic()
                    time.sleep(SETTLE_S)
        data = Path(file).read_bytes()
    # dumpcap notes the machine's kernel; its version is enough. The length has to stay.
    release = os.uname().release.encode()
    data = data.replace(release, release.partition(b"-")[0].ljust(len(release)))
    if capture.name.endswith(".gz"):
        data = gzip.compress(data, 9, mtime=0)
    (HERE / capture.name).write_bytes(data)
    print(f"{capture.name}: {len(data)} bytes")


def main(names: list[str]) -> None:
    """Make the captures named, or all."""
    if unknown := set(names) - {capture.name for capture in CAPTURES}:
        sys.exit(f"no such capture: {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        sys.exit("network namespaces need root")
    for capture in CAPTURES:
        if not names or capture.name in names:
            make(capture)


if __name__ == "__main__":
    main(sys.argv[1:])
