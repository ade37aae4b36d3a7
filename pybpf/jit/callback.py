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

from pybpf import helpers
from pybpf.errors import Trap
from pybpf.jit.state import RunState, unpack_site
from pybpf.maps import BpfMap
from pybpf.memory import FIRST_MAP, PACKET, STACK, STACK_TOP, TAG_SHIFT, map_address, map_index
from pybpf.program_types import Clock, ProgramType
from pybpf.regions import NOWHERE, Fault, fault
from pybpf.semantics import U64

_CLOCK: Final = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 2)
_HELPER: Final = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 12)


class Host:
    """What native code can call. `states` are the runs' states by address; `clock` is None for the type's own."""

    def __init__(self, type_: ProgramType, maps: Sequence[BpfMap], clock: Clock | None) -> None:
        self.type = type_
        self.maps = maps
        self.now: Clock = clock or type_.now
        self.states: dict[int, RunState] = {}
        self._clock_entry = _CLOCK(self._run_clock) if clock is not None else None
        self._helper_entry = _HELPER(self._run_helper)

    def new_state(self) -> RunState:
        """A state for runs of the host's instance."""
        clock = ctypes.cast(self._clock_entry, ctypes.c_void_p).value if self._clock_entry is not None else 0
        helper = ctypes.cast(self._helper_entry, ctypes.c_void_p).value
        state = RunState(clock or 0, helper or 0, [map.address for map in self.maps])
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
            body = self.type.helpers[number].body
            assert body is not None, "refused when the program was compiled"
            return body(_Machine(self, stack, start, packet, length), *arguments) & U64
        except Fault as refused:
            self.states[state].stop(site, Trap(refused.message, unpack_site(site)[1], refused.address))
        except BaseException as failure:
            self.states[state].stop(site, failure)
        return 0


class _Machine:
    """`helpers.Machine` over the memory of a native run."""

    def __init__(self, host: Host, stack: int, start: int, packet: int, length: int) -> None:
        self.host = host
        self.stack = stack
        self.start = start
        self.packet = packet
        self.length = length

    def read(self, address: int, size: int) -> bytes:
        """See `helpers.Machine`. No byte at all may be read from anywhere."""
        return ctypes.string_at(self._at(address, size, False), size) if size else b""

    def write(self, address: int, data: bytes) -> None:
        """See `helpers.Machine`."""
        if data:
            ctypes.memmove(self._at(address, len(data), True), data, len(data))

    def map_at(self, address: int) -> tuple[helpers.Map, int]:
        """See `helpers.Machine`."""
        number = map_index(address)
        if number is None or number >= len(self.host.maps) or address != map_address(number):
            raise Fault(f"helper argument {address:#x} is not a map", address)
        return self.host.maps[number].operations, address

    def now(self) -> int:
        """See `helpers.Machine`."""
        return self.host.now()

    def _at(self, address: int, size: int, write: bool) -> int:
        """Where in this process `size` bytes of the machine's memory are. Raises `Fault`."""
        tag = address >> TAG_SHIFT
        if tag == STACK >> TAG_SHIFT:
            return self._within("stack", address, size, write, self.start, STACK_TOP - self.start, self.stack)
        if tag == PACKET >> TAG_SHIFT:
            if write and not self.host.type.packet_writable:
                raise fault("packet", address, size, write, "the packet is read-only for this program type")
            return self._within("packet", address, size, write, PACKET, self.length, self.packet)
        if FIRST_MAP <= tag < FIRST_MAP + len(self.host.maps):
            map = self.host.maps[tag - FIRST_MAP]
            offset = address - map_address(tag - FIRST_MAP)
            if not map.contains(offset, size) or (write and map.spec.read_only):
                reason = "the map is read-only" if write and map.spec.read_only else "not within one value"
                raise fault(f"map {map.name!r}{offset:+d}", address, size, write, reason)
            return map.address + offset
        NOWHERE.find(address, size, write)
        raise AssertionError("nothing is nowhere")

    @staticmethod
    def _within(name: str, address: int, size: int, write: bool, start: int, length: int, host: int) -> int:
        offset = address - start
        if offset < 0 or offset + size > length:
            raise fault(f"{name}{offset:+d}", address, size, write, f"outside the {name} of {length} bytes")
        return host + offset
