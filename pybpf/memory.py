"""The addresses that a program sees.

pybpf's machine has an address space of its own, the same in every engine and on every run: the upper bits of an address
say which region it belongs to, the lower 40 where in the region it is. No address of the host is ever in a register, so a
program that leaks a pointer reveals nothing, results repeat, and native code turns an address into a typed pointer by
subtracting a constant that LLVM folds away.

    tag = address >> 40     0        null and small numbers: nothing is there
                            1        stack; r10 of the first frame is STACK_TOP
                            2        packet; PACKET is its first byte as it arrives, headroom lies below
                            3        context
                            4        code: what a function's address is; nothing is readable there
                            16 + i   the block of map i; offset 0 is the map itself, its values lie behind
"""

from __future__ import annotations

from typing import Final

TAG_SHIFT: Final = 40

STACK_SIZE: Final = 512
"""Bytes of a frame (RFC 9669, section 2 leaves it to the platform; Linux and Oko agree on 512)."""
MAX_FRAMES: Final = 8
"""How deep local calls nest (Linux, MAX_CALL_FRAMES)."""

MAX_PACKET: Final = (1 << 31) - 1
"""No packet is longer: the verifier relies on it, so an engine refuses a longer one."""

HEADROOM: Final = 256
"""Bytes in front of a packet that it may be moved into (Linux, XDP_PACKET_HEADROOM)."""
_FRAME: Final = 4096 - HEADROOM - 320
"""Bytes of a packet and behind it, in a frame of one page with a struct skb_shared_info at its end, as Linux has it where it tests programs."""


def room_behind(length: int) -> int:
    """Bytes behind a packet that it may grow into."""
    return max(_FRAME - length, 0)


STACK: Final = 1 << TAG_SHIFT
STACK_TOP: Final = STACK + MAX_FRAMES * STACK_SIZE
PACKET: Final = (2 << TAG_SHIFT) + (1 << 20)
CONTEXT: Final = 3 << TAG_SHIFT
CODE: Final = 4 << TAG_SHIFT
FIRST_MAP: Final = 16


def map_address(index: int) -> int:
    """The address of the `index`-th map of an instance: what a wide load of the map leaves in a register."""
    return (FIRST_MAP + index) << TAG_SHIFT


def function_address(pc: int) -> int:
    """The address of the function that begins at slot `pc`: what a wide load of a function leaves in a register."""
    return CODE + 8 * pc


def function_of(address: int) -> int | None:
    """The slot at which the function with this address begins, None where it is no address of code."""
    return (address - CODE) // 8 if address >> TAG_SHIFT == CODE >> TAG_SHIFT else None


def map_index(address: int) -> int | None:
    """Which map's block an address lies in, None where it lies in none."""
    tag = address >> TAG_SHIFT
    return tag - FIRST_MAP if tag >= FIRST_MAP else None
