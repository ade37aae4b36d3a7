"""What a run is like at one moment: registers, stack frames, the packet, as abstract states speak of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pybpf.interpreter import Execution
from pybpf.maps import BpfMap
from pybpf.memory import CONTEXT, FIRST_MAP, PACKET, STACK_SIZE, STACK_TOP, TAG_SHIFT
from pybpf.regions import Packet
from pybpf.verifier.facts import RegionKind
from pybpf.verifier.state import FIRST_SLOT


@dataclass(frozen=True, slots=True)
class Place:
    """Where an address points: a region, and the offset in it that facts speak of.

    `number` is the depth of a stack frame or the number of a map, whose values are told apart by nothing.
    """

    region: RegionKind
    offset: int
    number: int = 0


def place_of(address: int, maps: Sequence[BpfMap], packet: Packet, size: int = 1) -> Place | None:
    """The place of `size` bytes at an address, None where nothing is. Offsets in the packet and in its metadata count from where these begin at the time."""
    if STACK_TOP - 8 * STACK_SIZE <= address < STACK_TOP:
        depth = (STACK_TOP - 1 - address) // STACK_SIZE
        return Place(RegionKind.STACK, address - (STACK_TOP - depth * STACK_SIZE), depth)
    tag = address >> TAG_SHIFT
    if tag == PACKET >> TAG_SHIFT:
        offset = address - PACKET
        if offset < packet.head:
            return Place(RegionKind.PACKET_META, offset - packet.meta)
        return Place(RegionKind.PACKET, offset - packet.head)
    if tag == CONTEXT >> TAG_SHIFT:
        return Place(RegionKind.CONTEXT, address - CONTEXT)
    if FIRST_MAP <= tag < FIRST_MAP + len(maps):
        map = maps[tag - FIRST_MAP]
        offset = address - (tag << TAG_SHIFT)
        if map.contains(offset, size):
            return Place(
                RegionKind.MAP_VALUE, (offset - map.layout.values) % map.layout.stride, tag - FIRST_MAP
            )
    return None


class Moment:
    """A run before an instruction. `calls` are the slots of the calls under way, outermost first."""

    __slots__ = ("_current", "_run", "_saved", "calls", "depth", "packet")

    def __init__(self, run: Execution) -> None:
        self._run = run
        frames = run.stack.frames
        self.depth = len(frames) - 1
        self.calls = tuple(frame.return_pc - 1 for frame in frames[1:])
        self.packet = run.packet
        self._current = run.registers
        self._saved = [frame.saved for frame in frames]

    def cell(self, depth: int, index: int, first: int = 0, size: int = 8) -> int | None:
        """What a cell of an abstract state (`pybpf.verifier.state`) holds in the frame at `depth`; None if nothing was written.

        `first` and `size` select bytes of a stack slot.
        """
        if index >= FIRST_SLOT:
            frame = self._run.stack.frames[depth]
            at = STACK_SIZE - 8 * (index - FIRST_SLOT + 1) + first
            if self._run.stack.tracked and frame.written.find(0, at, at + size) >= 0:
                return None
            return int.from_bytes(frame.memory[at : at + size], "little")
        if depth == self.depth:
            return self._current[index]
        if index == 10:
            return STACK_TOP - depth * STACK_SIZE
        return self._saved[depth + 1][index - 6] if 6 <= index <= 9 else None
