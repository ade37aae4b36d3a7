"""The memory of one run, region by region, with every access checked.

A region turns an address into bytes, or says why there are none: `Fault` names the region, the offset and the size. The
addresses themselves are `pybpf.memory`'s. The interpreter and the bodies of helpers see memory this way; native code has
checks of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from pybpf.instruction import ByteOrder
from pybpf.memory import (
    CONTEXT,
    HEADROOM,
    PACKET,
    STACK_SIZE,
    STACK_TOP,
    TAG_SHIFT,
    map_address,
    map_index,
    room_behind,
)
from pybpf.program_types import Clock, Context, Field, FieldKind

if TYPE_CHECKING:
    from pybpf.maps import BpfMap, Operations

Bytes = bytes | bytearray | memoryview

_Unpack = dict[int, Callable[[Bytes, int], tuple[int]]]
_Pack = dict[int, Callable[[Bytes, int, int], None]]

_CODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}
_SIGNS: Final[dict[ByteOrder, str]] = {"little": "<", "big": ">"}
_UNPACK: Final[dict[ByteOrder, _Unpack]] = {
    order: {size: struct.Struct(sign + code).unpack_from for size, code in _CODES.items()}
    for order, sign in _SIGNS.items()
}
_PACK: Final[dict[ByteOrder, _Pack]] = {
    order: {size: struct.Struct(sign + code).pack_into for size, code in _CODES.items()}
    for order, sign in _SIGNS.items()
}


class Fault(Exception):
    """Something that the machine refuses to do. The interpreter, which knows the pc, raises it as `Trap`."""

    def __init__(self, message: str, address: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.address = address


class Region:
    """A range of addresses. A subclass says which bytes an address stands for; here nothing is anywhere.

    `byteorder` is that of the program whose numbers are loaded and stored.
    """

    def __init__(self, byteorder: ByteOrder = "little") -> None:
        self._unpack = _UNPACK[byteorder]
        self._pack = _PACK[byteorder]

    def find(self, address: int, size: int, write: bool) -> tuple[Bytes, int]:
        """The buffer that holds `size` bytes from `address`, and where in it they begin. Raises `Fault`."""
        where = "null" if address == 0 else f"null+{address}" if address < 4096 else f"{address:#x}"
        raise fault(where, address, size, write, "nothing is there")

    def load(self, address: int, size: int) -> int:
        """The number of 1, 2, 4 or 8 bytes at `address`."""
        buffer, at = self.find(address, size, False)
        return self._unpack[size](buffer, at)[0]

    def store(self, address: int, size: int, value: int) -> None:
        """Write the lower `size` bytes of `value`."""
        buffer, at = self.find(address, size, True)
        self._pack[size](buffer, at, value & ((1 << 8 * size) - 1))


NOWHERE: Final = Region()


def fault(where: str, address: int, size: int, write: bool, reason: str) -> Fault:
    """The one wording of a refused access: what, how much, where, why."""
    amount = "1 byte" if size == 1 else f"{size} bytes"
    return Fault(f"{'store' if write else 'load'} of {amount} at {where}: {reason}", address)


class Packet(Region):
    """The packet. What arrived is in `buffer` from `at` on, and has the addresses from `memory.PACKET` on.

    `head` and `end` are where it begins and ends since, `meta` where the metadata in front of it begins: offsets from `memory.PACKET`, moved by the helpers that
    adjust a packet (`move`), which needs room on both sides of it.
    """

    def __init__(self, buffer: Bytes, writable: bool, byteorder: ByteOrder = "little") -> None:
        super().__init__(byteorder)
        self.buffer = buffer
        self.writable = writable
        self.at = 0
        self.meta, self.head, self.end = 0, 0, len(buffer)

    @property
    def size(self) -> int:
        """How many bytes it has now."""
        return self.end - self.head

    def contents(self) -> bytes:
        """The packet as it is now."""
        return bytes(self.buffer[self.at + self.head : self.at + self.end])

    def make_room(self) -> None:
        """Have room on both sides of the packet, `HEADROOM` and `room_behind`, of zeros; nothing where it is there."""
        if self.at == 0:
            if not self.writable:
                raise Fault("the packet is read-only for this program type, it cannot be moved")
            data, self.at = bytes(self.buffer), HEADROOM
            self.buffer = bytearray(HEADROOM + len(data) + room_behind(len(data)))
            self.buffer[self.at : self.at + len(data)] = data

    @property
    def limits(self) -> tuple[int, int]:
        """The offsets that it lies between, its metadata too."""
        return -self.at, len(self.buffer) - self.at

    def find(self, address: int, size: int, write: bool) -> tuple[Bytes, int]:
        """See `Region.find`."""
        offset = address - PACKET
        if offset < self.meta or offset + size > self.end:
            reason = f"outside the packet of {self.size} bytes"
            raise fault(f"packet{offset - self.head:+d}", address, size, write, reason)
        if write and not self.writable:
            reason = "forbidden write to packet, which is read-only for this program type"
            raise fault(f"packet{offset - self.head:+d}", address, size, write, reason)
        return self.buffer, self.at + offset


class Frame:
    """The stack of one function call, and what to restore when it returns.

    `written` says of each byte of `memory` whether it has been stored to; it is kept where the stack is tracked.
    """

    __slots__ = ("memory", "return_pc", "saved", "written")

    def __init__(self, return_pc: int, saved: list[int | None]) -> None:
        self.memory = bytearray(STACK_SIZE)
        self.written = bytearray(STACK_SIZE)
        self.return_pc = return_pc
        self.saved = saved


class Stack(Region):
    """The frames of the calls under way, the entry's first. An access lies within one frame.

    A frame is new with each call: its bytes are zero, and if `tracked` they cannot be read before they are written.
    """

    def __init__(self, tracked: bool, byteorder: ByteOrder = "little") -> None:
        super().__init__(byteorder)
        self.frames: list[Frame] = []
        self.tracked = tracked

    @property
    def top(self) -> int:
        """The address behind the current frame: r10."""
        return STACK_TOP - (len(self.frames) - 1) * STACK_SIZE

    def find(self, address: int, size: int, write: bool) -> tuple[Bytes, int]:
        """See `Region.find`."""
        depth, below = divmod(STACK_TOP - 1 - address, STACK_SIZE)
        at = STACK_SIZE - 1 - below
        if not 0 <= depth < len(self.frames) or at + size > STACK_SIZE:
            where = f"r10{address - self.top:+d}"
            raise fault(where, address, size, write, f"outside the stack frame of {STACK_SIZE} bytes")
        frame = self.frames[depth]
        if self.tracked:
            self._track(frame, at, address, size, write)
        return frame.memory, at

    def _track(self, frame: Frame, at: int, address: int, size: int, write: bool) -> None:
        if write:
            frame.written[at : at + size] = b"\1" * size
            return
        missing = frame.written.find(0, at, at + size)
        if missing >= 0:
            first = address + missing - at - self.top
            reason = f"uninitialised stack, the byte at r10{first:+d} was never written"
            raise fault(f"r10{address - self.top:+d}", address, size, write, reason)


class MapValues(Region):
    """The values of one map; its header, tags and keys are out of reach."""

    def __init__(self, number: int, map: BpfMap, byteorder: ByteOrder = "little") -> None:
        super().__init__(byteorder)
        self.map = map
        self.base = map_address(number)
        self.memory = map.memory
        self.read_only = map.spec.read_only

    def find(self, address: int, size: int, write: bool) -> tuple[Bytes, int]:
        """See `Region.find`."""
        offset = address - self.base
        if not self.map.contains(offset, size):
            raise fault(self._where(offset), address, size, write, "not within one value of the map")
        if write and self.read_only:
            raise fault(self._where(offset), address, size, write, "the map is read-only for programs")
        return self.memory, offset

    def _where(self, offset: int) -> str:
        return f"map {self.map.name!r}{offset:+d}"


class ContextFields(Region):
    """The context, field by field: scalars come from `buffer`, pointer fields are computed."""

    def __init__(
        self, context: Context, buffer: Bytes, packet: Packet, byteorder: ByteOrder = "little"
    ) -> None:
        super().__init__(byteorder)
        self.context = context
        self.buffer = buffer
        self.packet = packet

    def load(self, address: int, size: int) -> int:
        """A scalar, or the address that a pointer field stands for: 64 bits, however narrow the field is."""
        field = self._field(address, size, False)
        if field.kind is FieldKind.SCALAR:
            return self._unpack[size](self.buffer, address - CONTEXT)[0]
        return PACKET + _EDGES[field.kind](self.packet)

    def store(self, address: int, size: int, value: int) -> None:
        """Write a writable field."""
        field = self._field(address, size, True)
        if not field.writable or field.kind is not FieldKind.SCALAR:
            raise fault(self._where(address), address, size, True, f"field {field.name!r} is read-only")
        self._pack[size](self.buffer, address - CONTEXT, value & ((1 << 8 * size) - 1))

    def find(self, address: int, size: int, write: bool) -> tuple[Bytes, int]:
        """Nothing but loads and stores of fields: a context has no bytes."""
        reason = "a context is accessed by its fields, never as bytes"
        raise fault(self._where(address), address, size, write, reason)

    def _field(self, address: int, size: int, write: bool) -> Field:
        field = self.context.field_at(address - CONTEXT, size)
        if field is None:
            reason = f"no field of {self.context.name} lies there"
            raise fault(self._where(address), address, size, write, reason)
        return field

    def _where(self, address: int) -> str:
        return f"context{address - CONTEXT:+d}"


_EDGES: Final[dict[FieldKind, Callable[[Packet], int]]] = {
    FieldKind.PACKET: lambda packet: packet.head,
    FieldKind.PACKET_END: lambda packet: packet.end,
    FieldKind.PACKET_META: lambda packet: packet.meta,
}
"""Where a field that is a pointer points to."""


class Memory:
    """The regions of one run, by the tags of their addresses: `helpers.Machine` for the bodies of helpers."""

    __slots__ = ("byteorder", "clock", "maps", "regions")

    def __init__(
        self, regions: dict[int, Region], maps: Sequence[BpfMap], clock: Clock, byteorder: ByteOrder
    ) -> None:
        self.byteorder: ByteOrder = byteorder
        self.regions = regions
        self.maps = maps
        self.clock = clock

    def load(self, address: int, size: int) -> int:
        """What a load of 1, 2, 4 or 8 bytes gives. Raises `Fault`."""
        return self.regions.get(address >> TAG_SHIFT, NOWHERE).load(address, size)

    def read(self, address: int, size: int) -> bytes:
        """See `helpers.Machine`. No byte at all may be read from anywhere."""
        if size == 0:
            return b""
        buffer, at = self.regions.get(address >> TAG_SHIFT, NOWHERE).find(address, size, False)
        return bytes(buffer[at : at + size])

    def write(self, address: int, data: bytes) -> None:
        """See `helpers.Machine`."""
        if data:
            buffer, at = self.regions.get(address >> TAG_SHIFT, NOWHERE).find(address, len(data), True)
            memoryview(buffer)[at : at + len(data)] = data

    def map_at(self, address: int) -> tuple[Operations, int]:
        """See `helpers.Machine`."""
        number = map_index(address)
        if number is None or number >= len(self.maps) or address != map_address(number):
            raise Fault(f"helper argument {address:#x} is not a map", address)
        return self.maps[number].operations, address

    def now(self) -> int:
        """See `helpers.Machine`."""
        return self.clock()

    @property
    def moving(self) -> Packet:
        """See `helpers.Machine`."""
        packet = self.regions[PACKET >> TAG_SHIFT]
        assert isinstance(packet, Packet)
        packet.make_room()
        return packet
