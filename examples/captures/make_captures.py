#!/usr/bin/env python3
"""Make the captures of this directory: real TCP/IP stacks talking to each other inside network namespaces.

    sudo python3 make_captures.py [NAME...]

Needs Linux, root, iproute2, tcpdump, dumpcap (for the pcapng) and dnsmasq (for DNS answers). Every address lies inside the namespaces
that network.py makes, and every amount of traffic is a constant here. Only what a host's stack would not send by itself is built
from bytes: the SYN flood, and SYNs with the signature of another operating system.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import http.server
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from network import (
    CLIENT,
    CLIENT_IP,
    SERVER,
    SERVER_IP,
    SERVER_IPV6,
    SPOOFED_NETWORK,
    Impairment,
    Wire,
    capturing,
    inside,
    ip,
    network,
    sysctl,
)

HERE = Path(__file__).parent
TEXT = b"the quick brown fox jumps over the lazy dog, and the packet filter lets it pass. "
HTTP, ECHO, ABORTING, CLOSED = 80, 7, 8080, 4444  # the server's ports; nobody listens on the last
SETTLE_S = 2.0  # for the last acknowledgements and their retransmissions
LINGER_RESET = struct.pack("ii", 1, 0)  # close() sends RST


# The server's side.


class Page(http.server.BaseHTTPRequestHandler):
    """GET /N answers with N bytes, POST reads what comes."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "captures", ""

    def do_GET(self) -> None:
        size = int(self.path.strip("/"))
        self._answer((TEXT * (size // len(TEXT) + 1))[:size])

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(str(len(body)).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # a client that resets is part of the show
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    address_family = socket.AF_INET6  # and IPv4 through mapped addresses

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextlib.contextmanager
def servers() -> Iterator[None]:
    """HTTP, a UDP echo and a TCP service that resets every connection after a little data."""
    with inside(SERVER):
        web = Server(("::", HTTP), Page)
        echo = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        aborting = socket.create_server(("", ABORTING))
    echo.bind(("::", ECHO))
    for loop, service in ((web.serve_forever, None), (_echo_forever, echo), (_abort_forever, aborting)):
        threading.Thread(target=loop, args=(service,) if service else (), daemon=True).start()
    try:
        yield
    finally:
        web.shutdown()
        web.server_close()
        echo.close()
        aborting.close()


def _echo_forever(echo: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed
        while True:
            data, sender = echo.recvfrom(65536)
            echo.sendto(data, sender)


def _abort_forever(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):  # closed
        while True:
            connection, _ = listener.accept()
            connection.send(TEXT)
            connection.recv(64)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            connection.close()


@contextlib.contextmanager
def name_server() -> Iterator[None]:
    """dnsmasq with a zone of its own, asking nobody else."""
    options = ["--address=/www.example.org/10.0.0.1", "--address=/www.example.org/fd00::1", "--txt-record=example.org,hello"]
    options += ["--cname=web.example.org,www.example.org", "--mx-host=example.org,mail.example.org,10", "--local=/example.org/"]
    options += [f"--host-record=mail.example.org,{SERVER_IP}", "--host-record=www.example.org,10.0.0.1,fd00::1"]
    command = ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--pid-file=", "--user=root", *options]
    process = subprocess.Popen(["ip", "netns", "exec", SERVER, *command], stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


# The client's side: each opens its sockets in the client's namespace.


def get(size: int, host: str = SERVER_IP, options: bytes = b"", requests: int = 1) -> None:
    """`requests` pages over one connection, which the client closes first; `options` are IP options (RFC 791)."""
    connection = http.client.HTTPConnection(host, HTTP, timeout=30)
    connection.sock = tcp_connect(host, HTTP, options)
    for _ in range(requests):
        connection.request("GET", f"/{size}")
        if len(connection.getresponse().read()) != size:
            raise RuntimeError(f"{host}: a page came back short")
    connection.close()


def post(size: int) -> None:
    """An upload, closed by the server first."""
    connection = http.client.HTTPConnection(SERVER_IP, HTTP, timeout=30)
    connection.sock = tcp_connect(SERVER_IP, HTTP)
    connection.request("POST", "/", body=(TEXT * (size // len(TEXT) + 1))[:size], headers={"Connection": "close"})
    connection.getresponse().read()
    connection.close()


def tcp_connect(host: str, port: int, options: bytes = b"") -> socket.socket:
    with inside(CLIENT):
        connection = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    if options:
        connection.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
    connection.settimeout(30)
    connection.connect((host, port))
    return connection


def udp_ask(data: bytes, port: int, host: str = SERVER_IP, options: bytes = b"") -> bytes:
    """One datagram and its answer; b"" where the port is closed."""
    with inside(CLIENT):
        client = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        if options:
            client.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
        client.connect((host, port))
        try:
            return ask(client, data)
        except ConnectionRefusedError:
            return b""


def ask(client: socket.socket, data: bytes) -> bytes:
    """Send, and send again while no answer comes."""
    client.settimeout(0.5)
    for _ in range(6):
        client.send(data)
        with contextlib.suppress(TimeoutError):
            return client.recv(65536)
    raise TimeoutError("no answer after six attempts")


def ping(count: int, size: int = 56, options: bytes = b"") -> None:
    """ICMP echo requests (RFC 792); the kernel of the other side answers."""
    with inside(CLIENT):
        client = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with client:
        if options:
            client.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
        client.connect((SERVER_IP, 0))
        for sequence in range(1, count + 1):
            body = (TEXT * (size // len(TEXT) + 1))[:size]
            checksum = internet_checksum(struct.pack("!BBHHH", 8, 0, 0, 7, sequence) + body)
            ask(client, struct.pack("!BBHHH", 8, 0, checksum, 7, sequence) + body)


def dns_query(name: str, kind: int) -> bytes:
    """A question of class IN (RFC 1035, section 4)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", random.getrandbits(16), 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def send_syns(packets: list[bytes], gap_s: float) -> None:
    """IPv4 packets from bytes: what no stack on this machine would send."""
    with inside(CLIENT):
        raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    with raw:
        for packet in packets:
            raw.sendto(packet, (SERVER_IP, 0))
            time.sleep(gap_s)


def syn(source: str, source_port: int, window: int, ttl: int, options: bytes = b"") -> bytes:
    """An IPv4 packet with a TCP SYN for the web server; the don't-fragment bit is set."""
    addresses = socket.inet_aton(source) + socket.inet_aton(SERVER_IP)
    length = 20 + len(options)
    sequence = random.getrandbits(32)

    def tcp(checksum: int) -> bytes:
        return struct.pack("!HHIIBBHHH", source_port, HTTP, sequence, 0, length << 2, 2, window, checksum, 0) + options

    segment = tcp(internet_checksum(addresses + struct.pack("!HH", socket.IPPROTO_TCP, length) + tcp(0)))
    # The kernel fills in the IPv4 header's checksum.
    identification = random.getrandbits(16) or 1
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, identification, 0x4000, ttl, socket.IPPROTO_TCP, 0)
    return header + addresses + segment


def internet_checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


# What the captures show.


def http_transfers() -> None:
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
    for port in range(CLOSED, CLOSED + 8):
        with contextlib.suppress(ConnectionRefusedError):
            tcp_connect(SERVER_IP, port)
        udp_ask(b"anybody there?", port)
    get(100)


def reset() -> None:
    for _ in range(4):  # by the client in the middle of a transfer
        connection = tcp_connect(SERVER_IP, HTTP)
        connection.send(b"GET /20000 HTTP/1.1\r\nHost: server\r\n\r\n")
        connection.recv(1000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        connection.close()
    for _ in range(4):  # by the server
        connection = tcp_connect(SERVER_IP, ABORTING)
        connection.send(b"hello")
        with contextlib.suppress(ConnectionResetError):
            while connection.recv(1000):
                pass
        connection.close()
    get(100)


def lossy() -> None:
    get(100000)
    post(50000)
    for _ in range(12):
        get(500)


def syn_flood() -> None:
    dice = random.Random(2)
    base = int.from_bytes(socket.inet_aton(SPOOFED_NETWORK.split("/")[0]))
    sources = [socket.inet_ntoa((base + dice.randrange(1, 127)).to_bytes(4)) for _ in range(300)]
    flood = [syn(source, dice.randrange(1024, 65536), 512, 64, bytes([2, 4, 5, 180])) for source in sources]
    get(200)
    send_syns(flood[:150], gap_s=0.002)
    get(200)
    send_syns(flood[150:], gap_s=0.002)
    get(200)


def dns() -> None:
    a, mx, txt, aaaa = 1, 15, 16, 28
    names = ["www.example.org", "web.example.org", "mail.example.org", "nothing.example.org", "a.rather.long.name.below.example.org"]
    with name_server():
        for name in names:
            for kind in (a, aaaa):
                udp_ask(dns_query(name, kind), 53)
        udp_ask(dns_query("example.org", mx), 53)
        udp_ask(dns_query("example.org", txt), 53)
        udp_ask(dns_query("www.example.net", a), 53)
        for _ in range(40):  # a burst, for rate limiters
            udp_ask(dns_query("www.example.org", a), 53)


def ip_options() -> None:
    record_route = bytes([7, 19, 4]) + bytes(16) + b"\0"
    timestamps = bytes([68, 12, 5, 0]) + bytes(8)
    router_alert = bytes([148, 4, 0, 0])
    for options in (record_route, timestamps, router_alert):
        get(2000, options=options)
        udp_ask(TEXT, ECHO, options=options)
        ping(2, options=options)
    get(2000)


def ipv6() -> None:
    get(0, SERVER_IPV6)
    get(8000, SERVER_IPV6, requests=2)
    for size in (1, 500, 1400):
        udp_ask(bytes(size), ECHO, SERVER_IPV6)
    udp_ask(b"anybody there?", CLOSED, SERVER_IPV6)
    with contextlib.suppress(ConnectionRefusedError):
        tcp_connect(SERVER_IPV6, CLOSED)


def fragments() -> None:
    for size in (1473, 2960, 4000):
        udp_ask((TEXT * 100)[:size], ECHO)
        udp_ask((TEXT * 100)[:size], ECHO, SERVER_IPV6)
        ping(1, size=size)


def p0f() -> None:
    """Connections of stacks with an initial TTL of 64 and of 128, and with a window of 8192 and others."""
    get(1000)
    sysctl(CLIENT, {"ipv4/ip_default_ttl": 128, "ipv4/tcp_timestamps": 0})
    get(1000)
    # The window of a SYN is a multiple of the segment size: 8 * 1024.
    ip(CLIENT, "route", "change", "10.0.0.0/24", "dev", "eth0", "src", CLIENT_IP, "advmss", "1024", "window", "8192")
    get(1000)
    get(10000, requests=3)
    # mss 1460, nop, window scale 8, nop, nop, selective acknowledgements: the layout of Windows 7.
    layout = bytes([2, 4, 5, 180, 1, 3, 3, 8, 1, 1, 4, 2])
    variants = [(8192, 128), (8192, 116), (8192, 64), (8192, 255), (65535, 128), (32, 128)]
    send_syns([syn(CLIENT_IP, 40000 + i, *variants[i % len(variants)], layout) for i in range(24)], gap_s=0.01)


def mixed() -> None:
    get(3000)
    get(1500, SERVER_IPV6)
    udp_ask(TEXT, ECHO)
    ping(3)
    with name_server():
        udp_ask(dns_query("www.example.org", 1), 53)
    with contextlib.suppress(ConnectionRefusedError):
        tcp_connect(SERVER_IP, CLOSED)


def over_vlan(scenario: Callable[[], None]) -> Callable[[], None]:
    """The scenario twice, with two access VLANs one after the other."""

    def run() -> None:
        for vlan in (10, 20):
            with Wire(vlan=vlan):
                scenario()
                time.sleep(SETTLE_S)

    return run


def over(impairment: Impairment, scenario: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        with Wire(impairment):
            scenario()
            time.sleep(SETTLE_S)

    return run


def over_wire(scenario: Callable[[], None]) -> Callable[[], None]:
    return over(Impairment(), scenario)


@dataclass(frozen=True)
class Capture:
    """A file, the traffic in it, and how it is written."""

    name: str
    traffic: Callable[[], None]
    tcpdump: tuple[str, ...] = ("-i", "client0")


LOSSY = Impairment(loss=0.05, duplicate=0.02, delay=0.03)

CAPTURES = [
    Capture("http.pcap", over_wire(http_transfers)),
    Capture("http-nano.pcap.gz", over_wire(http_transfers), ("-i", "client0", "--time-stamp-precision=nano")),
    Capture("http-snap96.pcap", over_wire(http_transfers), ("-i", "client0", "--snapshot-length=96")),
    Capture("refused.pcap", over_wire(refused)),
    Capture("reset.pcap", over_wire(reset)),
    Capture("loss.pcap", over(LOSSY, lossy)),
    Capture("synflood.pcap", over_wire(syn_flood)),
    Capture("dns.pcap", over_wire(dns)),
    Capture("vlan.pcap", over_vlan(mixed), ("-i", "trunk0")),
    Capture("ip-options.pcap", over_wire(ip_options)),
    Capture("ipv6.pcap", over_wire(ipv6)),
    Capture("fragments.pcap", over_wire(fragments)),
    Capture("p0f.pcap", over_wire(p0f)),
    Capture("mixed.pcapng", over(LOSSY, mixed), ("-i", "client0", "-i", "server0")),
]


def make(capture: Capture) -> None:
    """In a new network, so that nothing of one capture shows in the next; a failed run leaves the old file as it was."""
    # Few retries: what goes unanswered ends within the capture. ICMP errors are not to be rationed.
    settings = {"ipv4/tcp_synack_retries": 1, "ipv4/icmp_ratelimit": 0, "ipv6/icmp/ratelimit": 0}
    with network(settings), servers(), tempfile.TemporaryDirectory() as directory:
        file = os.path.join(directory, "capture")
        if capture.name.endswith(".pcapng"):
            command = ["dumpcap", *capture.tcpdump, "-q", "-w", file]
        else:
            command = ["tcpdump", *capture.tcpdump, "--relinquish-privileges=root", "--immediate-mode", "-U", "-w", file]
        with capturing(command):
            capture.traffic()
        data = Path(file).read_bytes()
    # dumpcap notes the machine's kernel; its version is enough. The length has to stay.
    release = os.uname().release.encode()
    data = data.replace(release, release.partition(b"-")[0].ljust(len(release)))
    if capture.name.endswith(".gz"):
        data = gzip.compress(data, 9, mtime=0)
    (HERE / capture.name).write_bytes(data)
    print(f"{capture.name}: {len(data)} bytes")


def main(names: list[str]) -> None:
    if unknown := set(names) - {capture.name for capture in CAPTURES}:
        sys.exit(f"no such capture: {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        sys.exit("network namespaces need root")
    for capture in CAPTURES:
        if not names or capture.name in names:
            make(capture)


if __name__ == "__main__":
    main(sys.argv[1:])
