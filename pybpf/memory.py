"""The addresses that a program sees, and the regions behind them.

pybpf's machine has an address space of its own, the same in every engine and on every run: the upper bits of an address
say which region it belongs to, the lower 40 where in the region it is. No address of the host is ever in a register, so a
program that leaks a pointer reveals nothing, results repeat, and native code turns an address into a typed pointer by
subtracting a constant that LLVM folds away.

    tag = address >> 40     0        null and small numbers: nothing is there
                            1        stack; r10 of the first frame is STACK_TOP
                            2        packet; PACKET is its first byte as it arrives, headroom lies below
                            3        context
                            16 + i   the block of map i; offset 0 is the map itself, its values lie behind
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

TAG_SHIFT: Final = 40

STACK_SIZE: Final = 512
"""Bytes of a frame (RFC 9669, section 2 leaves it to the platform; Linux and Oko agree on 512)."""
MAX_FRAMES: Final = 8
"""How deep local calls nest (Linux, MAX_CALL_FRAMES)."""

STACK: Final = 1 << TAG_SHIFT
STACK_TOP: Final = STACK + MAX_FRAMES * STACK_SIZE
PACKET: Final = (2 << TAG_SHIFT) + (1 << 20)
CONTEXT: Final = 3 << TAG_SHIFT
FIRST_MAP: Final = 16


def map_address(index: int) -> int:
    """The address of the `index`-th map of an instance: what a wide load of the map leaves in a register."""
    return (FIRST_MAP + index) << TAG_SHIFT


def map_index(address: int) -> int | None:
    """Which map's block an address lies in, None where it lies in none."""
    tag = address >> TAG_SHIFT
    return tag - FIRST_MAP if tag >= FIRST_MAP else None


class Region(Protocol):
    """A range of addresses. `name` is the word that a trap uses for it."""

    name: str
    base: int
    size: int
    writable: bool

    def load(self, offset: int, size: int) -> int:
        """The little-endian number of `size` bytes at `offset` from `base`; the caller has checked both."""

    def store(self, offset: int, size: int, value: int) -> None:
        """Write the lower `size` bytes of `value`."""

    def view(self, offset: int, size: int) -> memoryview | None:
        """The bytes themselves, writable if the region is; None where a region has no bytes (a context)."""


@dataclass(slots=True)
class Buffer:
    """A region over bytes that somebody else owns: a stack, a packet, a map's block."""

    name: str
    base: int
    memory: memoryview
    writable: bool = True

    @property
    def size(self) -> int:
        """Bytes in the region."""
        return len(self.memory)

    def load(self, offset: int, size: int) -> int:
        """See `Region`."""
        return int.from_bytes(self.memory[offset : offset + size], "little")

    def store(self, offset: int, size: int, value: int) -> None:
        """See `Region`."""
        self.memory[offset : offset + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")

    def view(self, offset: int, size: int) -> memoryview:
        """See `Region`."""
        return self.memory[offset : offset + size]
