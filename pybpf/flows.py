"""The flow that a packet belongs to, as a number: by a program, run as any other.

Two packets of one connection have the same number, whichever way they go:

    TCP, UDP, SCTP over IPv4 or IPv6   both addresses, the protocol, both ports
    fragments, other protocols         both addresses, the protocol
    neither IPv4 nor IPv6              both MAC addresses, the type of the frame

Up to two VLAN tags (0x8100, 0x88A8) are skipped and do not count. IPv6's ports are looked for behind its fixed header alone. A frame that ends before what is
to be read counts as far as it goes. The number is the lookup3 hash of these, 32 bits: different flows seldom share one.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from pybpf.errors import ArgumentError
from pybpf.program import Program
from pybpf.program_types import FILTER
from pybpf.runtime import Instance, instantiate
from pybpf.verifier import verify

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pybpf.packets import PacketBatch

TEXT: Final = """
    // r6 packet, r7 length, r8 where the header behind the tags begins, r9 the type of what it is.
    // The key, on the stack: type and protocol; address of one end, of the other; port of one end, of the other.
    r6 = r1
    r7 = r2
    r0 = 0
    *(u64 *)(r10 - 48) = r0
    *(u64 *)(r10 - 40) = r0
    *(u64 *)(r10 - 32) = r0
    *(u64 *)(r10 - 24) = r0
    *(u64 *)(r10 - 16) = r0
    *(u64 *)(r10 - 8) = r0
    if r7 < 14 goto key
    r2 = *(u32 *)(r6 + 0)
    *(u32 *)(r10 - 40) = r2
    r2 = *(u16 *)(r6 + 4)
    *(u32 *)(r10 - 36) = r2
    r2 = *(u32 *)(r6 + 6)
    *(u32 *)(r10 - 24) = r2
    r2 = *(u16 *)(r6 + 10)
    *(u32 *)(r10 - 20) = r2

    r8 = 14
    r9 = *(u16 *)(r6 + 12)
    if r9 == 0x0081 goto tag
    if r9 != 0xa888 goto typed
tag:
    if r7 < 18 goto key
    r8 = 18
    r9 = *(u16 *)(r6 + 16)
    if r9 == 0x0081 goto second
    if r9 != 0xa888 goto typed
second:
    if r7 < 22 goto key
    r8 = 22
    r9 = *(u16 *)(r6 + 20)
typed:
    *(u32 *)(r10 - 48) = r9
    if r9 == 0x0008 goto ipv4
    if r9 == 0xdd86 goto ipv6
    goto key

ipv4:
    r3 = r8
    r3 += 20
    if r7 < r3 goto key
    r4 = r6
    r4 += r8
    r2 = *(u32 *)(r4 + 12)
    *(u64 *)(r10 - 40) = r2
    r2 = *(u32 *)(r4 + 16)
    *(u64 *)(r10 - 24) = r2
    r9 = *(u8 *)(r4 + 9)
    *(u32 *)(r10 - 44) = r9
    r2 = *(u16 *)(r4 + 6)
    r2 &= 0xff3f
    if r2 != 0 goto key
    r2 = *(u8 *)(r4 + 0)
    r2 &= 15
    r2 <<= 2
    r8 += r2
    goto ports

ipv6:
    r3 = r8
    r3 += 40
    if r7 < r3 goto key
    r4 = r6
    r4 += r8
    r2 = *(u64 *)(r4 + 8)
    *(u64 *)(r10 - 40) = r2
    r2 = *(u64 *)(r4 + 16)
    *(u64 *)(r10 - 32) = r2
    r2 = *(u64 *)(r4 + 24)
    *(u64 *)(r10 - 24) = r2
    r2 = *(u64 *)(r4 + 32)
    *(u64 *)(r10 - 16) = r2
    r9 = *(u8 *)(r4 + 6)
    *(u32 *)(r10 - 44) = r9
    r8 += 40

ports:
    if r9 == 6 goto have
    if r9 == 17 goto have
    if r9 != 132 goto key
have:
    r3 = r8
    r3 += 4
    if r7 < r3 goto key
    r4 = r6
    r4 += r8
    r2 = *(u16 *)(r4 + 0)
    *(u32 *)(r10 - 8) = r2
    r2 = *(u16 *)(r4 + 2)
    *(u32 *)(r10 - 4) = r2

key:
    // The lesser end comes first, whichever sent the packet.
    r2 = *(u64 *)(r10 - 40)
    r3 = *(u64 *)(r10 - 24)
    r4 = *(u64 *)(r10 - 32)
    r5 = *(u64 *)(r10 - 16)
    r8 = *(u32 *)(r10 - 8)
    r9 = *(u32 *)(r10 - 4)
    if r2 < r3 goto ordered
    if r2 > r3 goto exchange
    if r4 < r5 goto ordered
    if r4 > r5 goto exchange
    if r8 <= r9 goto ordered
exchange:
    *(u64 *)(r10 - 24) = r2
    *(u64 *)(r10 - 40) = r3
    *(u64 *)(r10 - 16) = r4
    *(u64 *)(r10 - 32) = r5
    *(u32 *)(r10 - 4) = r8
    *(u32 *)(r10 - 8) = r9
ordered:
    r1 = r10
    r1 += -48
    r2 = 48
    call hash
    exit
"""
"""The program, of type ``filter``: r0 is the number."""


def flow_numbers(batch: PacketBatch) -> NDArray[np.uint64]:
    """The number of each packet's flow, uint64[n], the same for both directions of a connection: see `pybpf.flows`.

    It is what `Instance.run_parallel` takes as `flows`. Raises `ArgumentError` for packets that are no Ethernet frames.
    """
    from pybpf.packets import LINKTYPE_ETHERNET

    if batch.link_type != LINKTYPE_ETHERNET:
        raise ArgumentError(f"packets of link type {batch.link_type}: flows are known of Ethernet frames")
    return _program().run_batch(batch)


@cache
def _program() -> Instance:
    return instantiate(verify(Program.from_asm(TEXT, FILTER, name="flow_numbers")))
