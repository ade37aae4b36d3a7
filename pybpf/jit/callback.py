"""From native code back into Python: helpers that have only a Python body, and a clock that the host supplies.

    i64 clock(ptr state, i64 site)
    i64 helper(ptr state, i64 site, i64 number, ptr stack, i64 start, ptr packet, i64 length, i64 r1, ..., i64 r5)

`start` is the address, in the machine, of the lowest byte of the stack. No exception can pass through native code: it is kept
in the run's state, whose site then tells the code to return, and raised where the run was started.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Final

from pybpf.errors import Trap
from pybpf.instruction import ByteOrder
from pybpf.jit.state import RunState, unpack_site
from pybpf.maps import BpfMap
from pybpf.memory import FIRST_MAP, HEADROOM, PACKET, STACK, STACK_TOP, TAG_SHIFT, room_behind
from pybpf.program_types import Clock, ProgramType
from pybpf.regions import Bytes, Fault, MapValues, Memory, Packet, Region, fault
from pybpf.semantics import U64

_CLOCK: Final = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 2)
_HELPER: Final = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 12)


class Host:
    """What native code can call. `states` are the runs' states by address; `clock` is None for the type's own."""

    def __init__(
        self,
        type_: ProgramType,
        maps: Sequence[BpfMap],
        clock: Clock | None,
        budget: int = 0,
        byteorder: ByteOrder = "little",
        moves: bool = False,
        time: int = 0,
    ) -> None:
        self.budget = budget
        self.time = time
        self.moves = moves
        self.type = type_
        self.byteorder: ByteOrder = byteorder
        self.maps = maps
        self.now: Clock = clock or type_.now
        self.states: dict[int, RunState] = {}
        self._map_regions = {FIRST_MAP + number: MapValues(number, map) for number, map in enumerate(maps)}
        self._clock_entry = _CLOCK(self._run_clock) if clock is not None else None
        self._helper_entry = _HELPER(self._run_helper)

    def new_state(self) -> RunState:
        """A state for runs of the host's instance."""
        clock = ctypes.cast(self._clock_entry, ctypes.c_void_p).value if self._clock_entry is not None else 0
        helper = ctypes.cast(self._helper_entry, ctypes.c_void_p).value
        state = RunState(clock or 0, helper or 0, [map.address for map in self.maps], self.budget, self.time)
        self.states[state.address] = state
        return state

    def _run_clock(self, state: int, site: int) -> int:
        try:
            return self.now() & U64
        except BaseException as failure:
            self.states[state].stop(site, failure)
            return 0

    def _run_helper(
        self,
        state: int,
        site: int,
        number: int,
        stack: int,
        start: int,
        packet: int,
        length: int,
        *arguments: int,
    ) -> int:
        try:
            helper = self.type.helpers[number]
            body = helper.body
            assert body is not None, "refused when the program was compiled"
            if "packet" in helper.effects and self.type.packet_writable and not self.moves:
                raise Fault(f"helper {helper.name} moves the packet, which was proved to stay")
            region = self._packet(packet, length, self.states[state])
            result = body(self._memory(stack, start, region), *arguments) & U64
            if self.moves:
                self.states[state].edges = region.meta, region.head, region.end
            return result
        except Fault as refused:
            self.states[state].stop(site, Trap(refused.message, unpack_site(site)[1], refused.address))
        except BaseException as failure:
            self.states[state].stop(site, failure)
        return 0

    def _packet(self, packet: int, length: int, state: RunState) -> Packet:
        """The packet of a run; of a program that moves it, with the room around it, where it is now."""
        if not self.moves:
            return Packet(_view(packet, length), self.type.packet_writable)
        region = Packet(
            _view(packet - HEADROOM, HEADROOM + length + room_behind(length)), self.type.packet_writable
        )
        region.at = HEADROOM
        region.meta, region.head, region.end = state.edges
        return region

    def _memory(self, stack: int, start: int, packet: Packet) -> Memory:
        """What the body of a helper sees of a run."""
        regions: dict[int, Region] = {
            STACK >> TAG_SHIFT: _Stack(_view(stack, STACK_TOP - start), start),
            PACKET >> TAG_SHIFT: packet,
            **self._map_regions,
        }
        return Memory(regions, self.maps, self.now, self.byteorder)


class _Stack(Region):
    """The stack of a native run: the frames of all functions, one below the other."""

    def __init__(self, buffer: memoryview, start: int) -> None:
        super().__init__()
        self.buffer = buffer
        self.start = start

    def find(self, address: int, size: int, write: bool) -> tuple[Bytes, int]:
        """See `Region.find`."""
        offset = address - self.start
        if offset < 0 or offset + size > len(self.buffer):
            where = f"r10{address - STACK_TOP:+d} of the entry's frame"
            raise fault(where, address, size, write, "outside the stack")
        return self.buffer, offset


_VIEW: Final = ctypes.pythonapi.PyMemoryView_FromMemory
_VIEW.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int]
_VIEW.restype = ctypes.py_object


def _view(address: int, size: int) -> memoryview:
    """Bytes of the process, good for as long as whoever owns them keeps them."""
    return _VIEW(address, size, _WRITE) if size else memoryview(b"")


_WRITE: Final = 0x200
"""PyBUF_WRITE (CPython's Include/cpython/object.h)."""
