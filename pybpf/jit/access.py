"""From an address of the machine to a typed pointer, through a check.

The verifier says which regions an access may touch. For each the pointer is that region's base plus an offset, so LLVM sees
real objects with real bounds. Every access is checked all the same, in the form ``offset <= size - n``, which LLVM can
compare with the program's own test and delete. A check that stays is one where only the verifier's word stood before: if
that is wrong the run ends in a trap, not in the host's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pybpf.errors import UnsupportedError
from pybpf.jit.builder import Builder, Value, text
from pybpf.jit.state import END as END_EDGE
from pybpf.jit.state import MAPS, META, TrapCode, edge
from pybpf.maps.layout import Layout
from pybpf.memory import CONTEXT, MAX_PACKET, PACKET, STACK, STACK_SIZE, STACK_TOP, TAG_SHIFT, map_address
from pybpf.program import MapSpec
from pybpf.program_types import Context, Field
from pybpf.semantics import U64
from pybpf.verifier.facts import Access, RegionKind


@dataclass(frozen=True, slots=True)
class Place:
    """A region as native code holds it: `base` points to its first byte, whose address in the machine is `start`.

    `shared` regions are other threads' too.
    """

    base: str
    start: int
    size: Value
    writable: bool = True
    shared: bool = False


LENGTH: Final = "%length"
"""The packet's length, as every function has it."""
END: Final = "%packet.end"
"""The address behind the packet's last byte."""

Use = Callable[[Place, str], Value]
"""Does something at a checked pointer into a place."""
UseField = Callable[[Field, int], Value]
"""Does something to a field of the context, at an offset from the context's first byte."""


class Regions:
    """The memory of a program as one of its functions sees it.

    The function has ``%state``, ``%packet`` and ``%length``, and ``%stack``, the lowest byte of `frames` stack frames.
    `maps` are the program's, each with the layout of its block. Without `checks` an access to a region is believed to be inside it.
    `swapped`: numbers in memory are the other way round than the host has them. `moves`: the packet may begin and end elsewhere than where it arrived; the state has
    where.
    """

    def __init__(
        self,
        b: Builder,
        maps: Sequence[tuple[MapSpec, Layout]],
        context: Context | None,
        packet_writable: bool,
        frames: int,
        checks: bool = True,
        swapped: bool = False,
        moves: bool = False,
    ) -> None:
        self.b = b
        self._checks = checks
        self.moves = moves
        self.swapped = swapped
        self.maps = maps
        self.context = context
        self.packet = Place("%packet", PACKET, LENGTH, writable=packet_writable)
        self.room = 0
        """How many bytes the packet surely has here: so many were asked for, by the program or by a check, on every way to this place."""
        self.stack = Place("%stack", STACK_TOP - frames * STACK_SIZE, frames * STACK_SIZE)

    def edge_slot(self, which: int) -> str:
        """Where an edge of the packet is kept: META, HEAD or END."""
        return self.b.pointer("%state", edge(which, len(self.maps)))

    def edge(self, which: int) -> str:
        """An edge of the packet as it is now."""
        return self.b.value(f"load i64, ptr {self.edge_slot(which)}")

    def packet_end(self) -> str:
        """`END`, for whoever asks."""
        return self.b.prologue(END, f"add nuw nsw i64 {LENGTH}, {PACKET}")

    def map_block(self, number: int) -> str:
        """A pointer to the block of a map."""
        return self.b.state_pointer(f"%map{number}", MAPS + 8 * number)

    def each(
        self,
        pc: int,
        accesses: Iterable[Access],
        address: Value,
        size: Value,
        use: Use,
        use_field: UseField | None = None,
        *,
        write: bool = False,
        pointer: bool = False,
    ) -> Value:
        """Find the region of an address, check the access, do something there; the results meet in one value.

        Where an access may touch several regions, the tag of the address decides. Without `use_field` an access to the
        context traps. The result is a pointer if `pointer` says so.
        """

        def inside(access: Access) -> Value:
            if access.region is RegionKind.CONTEXT:
                return self._field(pc, access, address, size, use_field)
            place = self._place(access)
            if write and not place.writable:
                return self.b.refuse(TrapCode.ACCESS, pc, address)
            return use(place, self.checked(pc, place, address, size))

        regions = {_tag(access): access for access in accesses}
        if isinstance(address, int):
            regions = {tag: access for tag, access in regions.items() if tag == address >> TAG_SHIFT}
        match list(regions.values()):
            case []:
                return self.b.refuse(TrapCode.ACCESS, pc, address)
            case [access]:
                value = inside(access)
                if (
                    access.region is RegionKind.PACKET and not pointer and not self.moves
                ):  # what is behind comes by here
                    self.room = max(self.room, self._end(address, size))
                return value
            case _:
                tag = self.b.value(f"lshr i64 {text(address)}, {TAG_SHIFT}")
                cases = {tag: lambda access=access: inside(access) for tag, access in regions.items()}
                return self.b.switch(tag, cases, TrapCode.ACCESS, pc, address, "ptr" if pointer else "i64")

    def checked(self, pc: int, place: Place, address: Value, size: Value) -> str:
        """A pointer to `size` bytes of a place, behind guards that they lie in it unless there are to be none."""
        offset = self.b.add(address, -place.start)
        if not self._checks:
            return self.b.pointer(place.base, offset)
        for inside in self._conditions(place, address, offset, size):
            self.b.guard(inside, TrapCode.ACCESS, pc, address)
        return self.b.pointer(place.base, offset)

    def _conditions(self, place: Place, address: Value, offset: Value, size: Value) -> Iterator[str | bool]:
        """What must hold of an access, each condition to be tested before the next is computed. None can wrap around.

        Where length and index of the packet both vary it is asked where the access ends: of a loop whose turns are known LLVM then sees that the test in front
        of it is enough.
        """
        b = self.b
        if place is self.packet and self.moves:
            yield b.compare("ule", size, MAX_PACKET)
            yield b.value(f"icmp sge i64 {text(offset)}, {self.edge(META)}")
            yield b.value(
                f"icmp sle i64 {text(offset)}, {b.value(f'sub nsw i64 {self.edge(END_EDGE)}, {text(size)}')}"
            )
        elif isinstance(offset, int) and isinstance(size, int):
            end = offset + size
            there = place is self.packet and end <= self.room
            yield there or (end <= U64 and b.compare("uge", place.size, end))
        elif place is self.packet and isinstance(size, int):
            yield b.compare("ule", offset, MAX_PACKET)
            yield b.compare("uge", place.size, b.value(f"add nuw nsw i64 {text(offset)}, {size}"))
        else:
            yield b.compare("ule", size, place.size)
            yield b.compare("ule", offset, b.subtract(place.size, size))

    def _end(self, address: Value, size: Value) -> int:
        """Where an access to the packet ends, if both are known; else 0, or where checks are believed to be needless."""
        if isinstance(address, int) and isinstance(size, int) and self._checks:
            end = (address - PACKET & U64) + size
            return end if end <= U64 else 0
        return 0

    def _place(self, access: Access) -> Place:
        match access.region:
            case RegionKind.STACK:
                return self.stack
            case RegionKind.PACKET | RegionKind.PACKET_META:
                return self.packet
            case _:
                return self._map_values(access.map or 0)

    def _map_values(self, number: int) -> Place:
        """The part of a map's block that holds values, whatever else lies between them."""
        spec, layout = self.maps[number]
        values = self.b.prologue(
            f"%values{number}",
            f"getelementptr inbounds i8, ptr {self.map_block(number)}, i64 {layout.values}",
        )
        start, size = map_address(number) + layout.values, layout.size - layout.values
        return Place(values, start, size, not spec.read_only, shared=True)

    def _field(self, pc: int, access: Access, address: Value, size: Value, use: UseField | None) -> Value:
        """A field of the context, at the one offset that the verifier proved."""
        field = None
        if self.context is not None and isinstance(size, int) and access.low == access.high:
            field = self.context.field_at(access.low, size)
        if field is None or use is None:
            return self.b.refuse(TrapCode.ACCESS, pc, address)
        self.b.guard(self.b.compare("eq", address, CONTEXT + access.low), TrapCode.ACCESS, pc, address)
        return use(field, access.low)


def _tag(access: Access) -> int:
    match access.region:
        case RegionKind.STACK:
            return STACK >> TAG_SHIFT
        case RegionKind.PACKET | RegionKind.PACKET_META:
            return PACKET >> TAG_SHIFT
        case RegionKind.CONTEXT:
            return CONTEXT >> TAG_SHIFT
        case RegionKind.MAP_VALUE:
            return map_address(access.map or 0) >> TAG_SHIFT
        case region:
            raise UnsupportedError(f"access to {region.value}: not in native code", region.value)
