"""What the body of a helper sees of the running program: the same for every engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol


class Map(Protocol):
    """What a body needs of a map: offsets count from the start of the map's block, keys and values are bytes."""

    def lookup(self, key: bytes) -> int | None:
        """The offset of the key's value, None where the key is absent."""

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """Zero or a negative errno."""

    def delete(self, key: bytes) -> int:
        """Zero or a negative errno."""

    @property
    def key_size(self) -> int:
        """Bytes of a key."""

    @property
    def value_size(self) -> int:
        """Bytes of a value."""


class MovingPacket(Protocol):
    """Where a packet begins and ends, and its metadata begins: offsets from where it arrived, which may be set within `limits`."""

    meta: int
    head: int
    end: int

    @property
    def limits(self) -> tuple[int, int]:
        """The offsets of the first byte that it may have, and of the first behind those."""


class Machine(Protocol):
    """The running program as a body sees it. Every access is checked and traps like the program's own."""

    @property
    def byteorder(self) -> Literal["little", "big"]:
        """How the program reads and writes the numbers in its memory; for `int.from_bytes`."""

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the program's memory."""

    def write(self, address: int, data: bytes) -> None:
        """Write the program's memory."""

    def map_at(self, address: int) -> tuple[Map, int]:
        """The map whose address this is, and the base of its block."""

    def now(self) -> int:
        """The instance's clock, in nanoseconds."""

    @property
    def moving(self) -> MovingPacket:
        """The packet, to be moved. Traps where it cannot be."""


Body = Callable[[Machine, int, int, int, int, int], int]
"""r1 to r5 in, r0 out."""
