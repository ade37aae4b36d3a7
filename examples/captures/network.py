"""A client and a server on one wire, in network namespaces: real TCP/IP stacks that can be captured.

    pybpf-client                   pybpf-wire                       pybpf-server
    eth0 ───────── client0 ── relay ─────────────── server0 ─────────── eth0            Wire()
    eth0 ───────── client0 ─ relay ─ trunk0 ── trunk1 ─ relay ─ server0 ─ eth0          Wire(vlan=10)

The three namespaces have no link to the outside: nothing sent here can leave them. The relay is a loop in
user space, not a bridge with `tc netem`, so that loss, duplicates, reordering and VLAN tags need no kernel
module. Linux only, as root.
"""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import os
import random
import re
import select
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CLIENT, WIRE, SERVER = NAMESPACES = ("pybpf-client", "pybpf-wire", "pybpf-server")
CLIENT_IP, SERVER_IP = "10.0.0.2", "10.0.0.1"
CLIENT_IPV6, SERVER_IPV6 = "fd00::2", "fd00::1"
CLIENT_MAC, SERVER_MAC = "02:00:00:00:00:02", "02:00:00:00:00:01"
SPOOFED_NETWORK = "10.0.0.128/25"  # nobody's addresses: answers to them go to the client's MAC address

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_SIOCETHTOOL = 0x8946  # linux/sockios.h
_OFFLOADS = (0x15, 0x17, 0x19, 0x1F, 0x24, 0x2C)  # linux/ethtool.h: ETHTOOL_S{RXCSUM,TXCSUM,SG,TSO,GSO,GRO}
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23  # linux/if_packet.h
_ETH_P_ALL, _ETH_P_8021Q = 0x0003, 0x8100  # linux/if_ether.h

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """What this thread opens here (sockets, files of /proc/sys/net) belongs to `namespace` for good."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        target = os.open(f"/var/run/netns/{namespace}", os.O_RDONLY)
        try:
            _set_namespace(target)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _set_namespace(home)
    finally:
        os.close(home)


def sysctl(namespace: str, values: dict[str, int]) -> None:
    """Set kernel parameters of one namespace; the keys are paths below /proc/sys/net."""
    with inside(namespace):
        for name, value in values.items():
            Path("/proc/sys/net", name).write_text(f"{value}\n")


def ip(namespace: str, *arguments: str) -> None:
    """Configure a namespace by iproute2."""
    subprocess.run(["ip", "-n", namespace, *arguments], check=True)


@contextlib.contextmanager
def network(settings: dict[str, int]) -> Iterator[None]:
    """Build the three namespaces and take them away again, whatever happens.

    `settings` are kernel parameters of the hosts (see `sysctl`). What an earlier, killed run left goes first.
    """
    _delete_namespaces()
    try:
        for name in NAMESPACES:
            subprocess.run(["ip", "netns", "add", name], check=True)
            sysctl(name, {"ipv6/conf/default/accept_ra": 0, "ipv6/conf/default/router_solicitations": 0})
        sysctl(WIRE, {"ipv6/conf/default/disable_ipv6": 1})
        ip(WIRE, "link", "add", "client0", "type", "veth", "peer", "name", "eth0", "netns", CLIENT)
        ip(WIRE, "link", "add", "server0", "type", "veth", "peer", "name", "eth0", "netns", SERVER)
        ip(WIRE, "link", "add", "trunk0", "type", "veth", "peer", "name", "trunk1")
        for interface in ("client0", "server0", "trunk0", "trunk1"):
            _bring_up(WIRE, interface)
        _bring_up_host(CLIENT, CLIENT_MAC, CLIENT_IP, CLIENT_IPV6)
        _bring_up_host(SERVER, SERVER_MAC, SERVER_IP, SERVER_IPV6)
        ip(SERVER, "route", "add", SPOOFED_NETWORK, "via", CLIENT_IP)
        for host in (CLIENT, SERVER):
            sysctl(host, settings)
        yield
    finally:
        _delete_namespaces()


def _bring_up_host(namespace: str, mac: str, ipv4: str, ipv6: str) -> None:
    ip(namespace, "link", "set", "lo", "up")
    ip(namespace, "link", "set", "eth0", "address", mac)
    _bring_up(namespace, "eth0")
    ip(namespace, "address", "add", f"{ipv4}/24", "dev", "eth0")
    ip(namespace, "address", "add", f"{ipv6}/64", "dev", "eth0", "nodad")


def _bring_up(namespace: str, interface: str) -> None:
    """With offloads left on, packets would be larger than the MTU and carry no TCP checksum."""
    with inside(namespace), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in _OFFLOADS:
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            address = ctypes.addressof(value)
            request = ctypes.create_string_buffer(struct.pack("16sP", interface.encode(), address))
            if _libc.ioctl(control.fileno(), _SIOCETHTOOL, request) != 0:
                raise OSError(ctypes.get_errno(), f"{interface}: offload {command:#x} cannot be turned off")
    ip(namespace, "link", "set", interface, "up")


def _delete_namespaces() -> None:
    listing = subprocess.check_output(["ip", "netns", "list"], text=True)
    for name in {line.split()[0] for line in listing.splitlines()}.intersection(NAMESPACES):
        subprocess.run(["ip", "netns", "delete", name], check=True)


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns failed; is this root?")


@dataclass(frozen=True)
class Impairment:
    """Probabilities by frame. A delayed frame is overtaken by those that follow within `delay_s`."""

    loss: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    delay_s: float = 0.01


@dataclass(frozen=True)
class Wire:
    """What lies between client and server; with a `vlan`, a trunk on which every frame is tagged (802.1Q)."""

    impairment: Impairment = Impairment()
    vlan: int | None = None

    @contextlib.contextmanager
    def carrying(self) -> Iterator[None]:
        """Carry frames for the duration."""
        relays = self._relays()
        for relay in relays:
            relay.start()
        try:
            yield
        finally:
            for relay in relays:
                relay.stop()

    def _relays(self) -> list[_Relay]:
        if self.vlan is None:
            return [_Relay(("client0", None), ("server0", None), self.impairment)]
        return [
            _Relay(("client0", None), ("trunk0", self.vlan), self.impairment),
            _Relay(("trunk1", self.vlan), ("server0", None), Impairment()),
        ]


_Port = tuple[str, int | None]  # an interface, and the VLAN whose tag frames that leave there get


class _Relay(threading.Thread):
    """Takes frames of one port to the other.

    Arriving frames need no untagging: Linux takes the tag off before a packet socket sees the frame.
    """

    def __init__(self, left: _Port, right: _Port, impairment: Impairment) -> None:
        super().__init__(daemon=True)
        ports = [_packet_socket(interface) for interface, _ in (left, right)]
        self._routes = {ports[0]: (ports[1], right[1]), ports[1]: (ports[0], left[1])}
        self._impairment = impairment
        self._random = random.Random(1)
        self._delayed: list[tuple[float, int, socket.socket, bytes]] = []
        self._sequence = 0
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.is_set():
            timeout = max(0.0, self._delayed[0][0] - time.monotonic()) if self._delayed else 0.05
            for port in select.select(list(self._routes), [], [], timeout)[0]:
                self._forward(port)
            while self._delayed and self._delayed[0][0] <= time.monotonic():
                _, _, port, frame = heapq.heappop(self._delayed)
                port.send(frame)

    def stop(self) -> None:
        self._stopping.set()
        self.join()
        for port in self._routes:
            port.close()

    def _forward(self, port: socket.socket) -> None:
        frame = port.recv(65536)
        out, vlan = self._routes[port]
        if vlan is not None:
            frame = frame[:12] + struct.pack("!HH", _ETH_P_8021Q, vlan) + frame[12:]
        chance = self._random.random()
        if (chance := chance - self._impairment.loss) < 0:
            return
        if (chance := chance - self._impairment.delay) < 0:
            self._sequence += 1
            release = time.monotonic() + self._impairment.delay_s
            heapq.heappush(self._delayed, (release, self._sequence, out, frame))
            return
        out.send(frame)
        if chance - self._impairment.duplicate < 0:
            out.send(frame)


def _packet_socket(interface: str) -> socket.socket:
    with inside(WIRE):
        port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    port.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    port.bind((interface, _ETH_P_ALL))
    return port


@contextlib.contextmanager
def capturing(command: Sequence[str]) -> Iterator[None]:
    """Run tcpdump or dumpcap in the wire's namespace around the traffic; a packet it dropped is an error."""
    process = subprocess.Popen(["ip", "netns", "exec", WIRE, *command], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    log = ""
    try:
        while "listening on" not in log and "File:" not in log:  # tcpdump's word, and dumpcap's
            line = process.stderr.readline()
            if not line:
                raise RuntimeError(f"{command[0]} did not start: {log.strip()}")
            log += line
        yield
    finally:
        process.send_signal(signal.SIGINT)
        log += process.communicate(timeout=10)[1]
    # "0 packets dropped by kernel"; "Packets received/dropped on interface 'client0': 63/0 (...)"
    counts = re.findall(r"(\d+) packets dropped|received/dropped on interface '.*': \d+/(\d+)", log)
    if not counts or any(int(tcpdump or dumpcap) for tcpdump, dumpcap in counts):
        raise RuntimeError(f"{command[0]} lost packets: {log.strip()}")
