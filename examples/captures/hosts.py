"""What the two hosts of network.py do: the server's services, and the client's requests.

Every client function opens its sockets in the client's namespace, every service in the server's.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

from network import CLIENT, SERVER, SERVER_IP, SERVER_IPV6, inside

TEXT = b"the quick brown fox jumps over the lazy dog, and the packet filter lets it pass. "
HTTP, DNS, ECHO, ABORTING, CLOSED = 80, 53, 7, 8080, 4444  # the server's ports; nobody listens on the last
LINGER_RESET = struct.pack("ii", 1, 0)  # struct linger: close() sends RST


def text(size: int) -> bytes:
    """`size` bytes that compress well."""
    return (TEXT * (size // len(TEXT) + 1))[:size]


class Page(http.server.BaseHTTPRequestHandler):
    """The web site: pages of every size."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "captures", ""

    def do_GET(self) -> None:
        """Answer with as many bytes as the path says."""
        self._answer(text(int(self.path.strip("/"))))

    def do_POST(self) -> None:
        """Answer with the number of bytes that came."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(str(len(body)).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet."""


class WebServer(http.server.ThreadingHTTPServer):
    """A thread for each connection, over IPv6 and (as mapped addresses) IPv4."""

    daemon_threads = True
    address_family = socket.AF_INET6

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that resets its connection is part of the show; anything else is an error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextlib.contextmanager
def servers() -> Iterator[None]:
    """HTTP, a UDP echo, and a TCP service that resets every connection after a little data."""
    with inside(SERVER):
        web = WebServer(("::", HTTP), Page)
        echo = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        aborting = socket.create_server(("", ABORTING))
    echo.bind(("::", ECHO))
    _start(web.serve_forever)
    _start(lambda: _echo_forever(echo))
    _start(lambda: _abort_forever(aborting))
    try:
        yield
    finally:
        web.shutdown()
        web.server_close()
        echo.close()
        aborting.close()


def _start(loop: Callable[[], None]) -> None:
    threading.Thread(target=loop, daemon=True).start()


def _echo_forever(echo: socket.socket) -> None:
    with contextlib.suppress(OSError):  # until it is closed
        while True:
            data, sender = echo.recvfrom(65536)
            echo.sendto(data, sender)


def _abort_forever(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):  # until it is closed
        while True:
            connection, _ = listener.accept()
            connection.send(TEXT)
            connection.recv(64)
            reset(connection)


@contextlib.contextmanager
def name_server() -> Iterator[None]:
    """Run dnsmasq with a zone of its own; it asks nobody else."""
    options = ["--no-daemon", "--conf-file=/dev/null", "--no-hosts", "--no-resolv"]
    options += ["--pid-file=", "--user=root"]
    zone = [
        "--local=/example.org/",
        f"--host-record=www.example.org,{SERVER_IP},{SERVER_IPV6}",
        f"--host-record=mail.example.org,{SERVER_IP}",
        "--cname=web.example.org,www.example.org",
        "--mx-host=example.org,mail.example.org,10",
        "--txt-record=example.org,hello",
    ]
    command = ["ip", "netns", "exec", SERVER, "dnsmasq", *options, *zone]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def get(size: int, host: str = SERVER_IP, options: bytes = b"", requests: int = 1) -> None:
    """Fetch pages over one connection, which the client closes; `options` are IP options (RFC 791)."""
    connection = http.client.HTTPConnection(host, HTTP)
    connection.sock = tcp_connect(host, HTTP, options)
    for _ in range(requests):
        connection.request("GET", f"/{size}")
        if len(connection.getresponse().read()) != size:
            raise RuntimeError(f"{host}: a page came back short")
    connection.close()


def post(size: int) -> None:
    """Upload; the server closes first."""
    connection = http.client.HTTPConnection(SERVER_IP, HTTP)
    connection.sock = tcp_connect(SERVER_IP, HTTP)
    connection.request("POST", "/", body=text(size), headers={"Connection": "close"})
    connection.getresponse().read()
    connection.close()


def tcp_connect(host: str, port: int, options: bytes = b"") -> socket.socket:
    """A connection of the client's; raises ConnectionRefusedError where nobody listens."""
    connection = _client_socket(host, socket.SOCK_STREAM, options=options)
    connection.settimeout(30)
    connection.connect((host, port))
    return connection


def reset(connection: socket.socket) -> None:
    """Close with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    connection.close()


def udp_ask(data: bytes, port: int, host: str = SERVER_IP, options: bytes = b"") -> bytes:
    """One datagram and its answer; b"" where the port is closed."""
    with _client_socket(host, socket.SOCK_DGRAM, options=options) as client:
        client.connect((host, port))
        try:
            return _ask(client, data)
        except ConnectionRefusedError:
            return b""


def dns_ask(name: str, kind: int) -> bytes:
    """A question of class IN (RFC 1035, section 4) and its answer."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    header = struct.pack("!HHHHHH", random.getrandbits(16), 0x0100, 1, 0, 0, 0)
    return udp_ask(header + labels + b"\0" + struct.pack("!HH", kind, 1), DNS)


def ping(count: int, size: int = 56, options: bytes = b"") -> None:
    """ICMP echo requests (RFC 792); the kernel of the other side answers."""
    with _client_socket(SERVER_IP, socket.SOCK_RAW, socket.IPPROTO_ICMP, options) as client:
        client.connect((SERVER_IP, 0))
        for sequence in range(1, count + 1):
            checksum = internet_checksum(struct.pack("!BBHHH", 8, 0, 0, 7, sequence) + text(size))
            _ask(client, struct.pack("!BBHHH", 8, 0, checksum, 7, sequence) + text(size))


def send_packets(packets: list[bytes], gap_s: float) -> None:
    """IPv4 packets from bytes: what no stack on this machine would send."""
    with _client_socket(SERVER_IP, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for packet in packets:
            raw.sendto(packet, (SERVER_IP, 0))
            time.sleep(gap_s)


def syn(source: str, source_port: int, window: int, ttl: int, options: bytes = b"") -> bytes:
    """An IPv4 packet with a TCP SYN for the web server; the don't-fragment bit is set."""
    addresses = socket.inet_aton(source) + socket.inet_aton(SERVER_IP)
    length = 20 + len(options)
    sequence = random.getrandbits(32)

    def tcp(checksum: int) -> bytes:
        fields = (source_port, HTTP, sequence, 0, length << 2, 2, window, checksum, 0)
        return struct.pack("!HHIIBBHHH", *fields) + options

    segment = tcp(internet_checksum(addresses + struct.pack("!HH", socket.IPPROTO_TCP, length) + tcp(0)))
    identification = random.getrandbits(16) or 1  # the kernel replaces 0; it fills in the checksum always
    fields = (0x45, 0, 20 + length, identification, 0x4000, ttl, socket.IPPROTO_TCP, 0)
    return struct.pack("!BBHHHBBH", *fields) + addresses + segment


def internet_checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _client_socket(host: str, kind: int, protocol: int = 0, options: bytes = b"") -> socket.socket:
    with inside(CLIENT):
        client = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind, protocol)
    if options:
        client.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, options)
    return client


def _ask(client: socket.socket, data: bytes) -> bytes:
    """Send, and send again while no answer comes."""
    client.settimeout(0.5)
    for _ in range(6):
        client.send(data)
        with contextlib.suppress(TimeoutError):
            return client.recv(65536)
    raise TimeoutError("no answer after six attempts")
