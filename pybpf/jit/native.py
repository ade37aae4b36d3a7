"""Programs as machine code: made once, bound to maps as often as one likes, run from any thread."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from pybpf.errors import ArgumentError, BudgetExceeded, Trap, UnsupportedError, of_packet
from pybpf.jit import builtin
from pybpf.jit.arrays import AddressBook, BatchAddresses, check_results, result_address
from pybpf.jit.batch import LastBatch, call_arrays
from pybpf.jit.callback import Host
from pybpf.jit.driver import RUN, RUN_BATCH
from pybpf.jit.loader import Code
from pybpf.jit.map_operations import NativeOperations
from pybpf.jit.options import DEFAULT, Options
from pybpf.jit.state import RunState, TrapCode, unpack_site
from pybpf.maps import BpfMap, layout_of
from pybpf.memory import HEADROOM, MAX_PACKET, room_behind
from pybpf.program import Program
from pybpf.program_types import Clock, ProgramType
from pybpf.semantics import U64

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pybpf.packets import PacketBatch

Buffer = bytes | bytearray | memoryview

_U64, _U32, _POINTER = ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p
_RUN: Final = ctypes.CFUNCTYPE(_U64, _U64, _POINTER, _U32)

_TURN: Final = 4096
"""How many packets of a list are run before other threads may have the GIL."""


class NativeProgram:
    """A program's machine code. It knows no map and no address of the host."""

    def __init__(
        self,
        program: Program,
        type_: ProgramType,
        code: Code,
        options: Options = DEFAULT,
        *,
        moves: bool,
    ) -> None:
        self.program: Final = program
        self.type: Final = type_
        self.options: Final = options
        self.moves: Final = moves
        """Whether a run may move its packet: it needs room around it."""
        self._codes: list[Code] = []
        self._cell = ctypes.c_uint64()
        self.cell: Final = ctypes.addressof(self._cell)
        """Where the address of the present code's `run_batch` is kept."""
        self.replace(code)

    @property
    def code(self) -> Code:
        """What runs now."""
        return self._codes[-1]

    def replace(self, code: Code) -> None:
        """Let all runs that begin from now on be runs of other code for the same program. The old stays: runs may be under way."""
        self._codes.append(code)
        self.run: Any = _RUN(code.address(RUN))
        self._cell.value = code.address(RUN_BATCH)

    def bind(
        self,
        maps: Sequence[BpfMap] = (),
        clock: Clock | None = None,
        budget: int | None = None,
        time: int | None = None,
    ) -> NativeInstance:
        """The program over its maps, in the program's order.

        `clock` gives nanoseconds in place of the clock that the program type names. `budget` is how many instructions a run may execute; code that counts
        them has one, all that a number holds where none is named; `time` how many nanoseconds, for code that looks at the time. Raises `ArgumentError` where the maps are
        not such as the program was compiled for, or it does not count.
        """
        if budget is not None and not self.options.counts:
            raise ArgumentError("the code counts no instructions: compile it with that option for a budget")
        if time is not None and not self.options.times:
            raise ArgumentError("the code does not look at the time: compile it with that option")
        return NativeInstance(
            self, maps, clock, U64 if budget is None else budget, U64 if time is None else time
        )


class NativeInstance:
    """A program bound to maps. Any number of threads may run it at once: native code runs without the GIL.

    What it needs stays alive with it: the code, the maps, the clock.
    """

    def __init__(
        self, native: NativeProgram, maps: Sequence[BpfMap], clock: Clock | None, budget: int, time: int
    ) -> None:
        self._program, self._type = native.program, native.type
        self._check(maps)
        self.native: Final = native
        self.maps: Final = tuple(maps)
        for map in self.maps:
            # Whoever else works on a map, Python included, now keeps to the locks of native code.
            map.use(NativeOperations(map))
        self._host: Final = Host(
            self._type, self.maps, clock, budget, native.program.byteorder, native.moves, time
        )
        context = self._type.context
        self._zeros = (ctypes.c_char * (context.size if context else 1))()
        self._writes_context = context is not None and any(field.writable for field in context.fields)
        # A run takes a state from here and puts it back, so that each thread has its own while it runs.
        self._states: list[RunState] = []
        self._addresses = AddressBook()

    def run(self, packet: Buffer, context: Buffer | None = None) -> int:
        """Run the program on one packet: r0.

        A program type that may write packets wants a writable buffer, and writes into it; a bytearray, where the program moves its packet. `context` are the bytes of the
        context's scalar fields, laid out as the type says; left out, they are zero; a writable buffer receives what the program
        writes. Raises `Trap`, or what the clock or a helper written in Python raised.
        """
        length = len(packet)
        if length > MAX_PACKET:
            raise ArgumentError(f"a packet of {length} bytes: at most {MAX_PACKET}")
        room = bytearray()
        pointer: Any
        if self.native.moves:
            if not isinstance(packet, bytearray):
                raise ArgumentError(
                    f"a program that moves its packet wants a bytearray, not {type(packet).__name__}"
                )
            room = bytearray(HEADROOM + length + room_behind(length) + 1)
            room[HEADROOM : HEADROOM + length] = packet
            pointer = ctypes.byref(ctypes.c_char.from_buffer(room), HEADROOM)
        elif self._type.packet_writable:
            pointer = self._writable(packet) if length else None
        else:
            pointer = packet if type(packet) is bytes else bytes(packet)
        state = self._take_state()
        try:
            if context is not None or self._writes_context:
                state.context = self._context(bytes(len(self._zeros)) if context is None else context)
            value: int = self.native.run(state.address, pointer, length)
            if room and isinstance(packet, bytearray):
                _, head, end = state.edges
                packet[:] = room[HEADROOM + head : HEADROOM + end]
            if state.site:
                raise self._stopped(state)
            return value
        finally:
            if context is not None or self._writes_context:
                state.context = self._zeros
            self._states.append(state)

    def run_batch(
        self,
        batch: PacketBatch,
        results: NDArray[np.uint64],
        context: Buffer | None = None,
        last: LastBatch | None = None,
    ) -> None:
        """Run the program on the packets of a batch in turn: r0 of each goes to `results`, uint64[n] and contiguous.

        All packets are given the same `context`. The batch stays as it is: what a program writes into a packet is lost. Raises
        what `run` raises, with the packet's number; the results of the packets before it stand. `last` is told of a batch that was run to its end.
        """
        check_results(results, len(batch))
        addresses = self._addresses.find(batch)
        done, error = self.run_arrays(addresses, results, batch.lengths, context)
        if error is not None:
            raise of_packet(done, error)
        if last is not None:
            last.note(batch, addresses, copies=self._type.packet_writable, limit=self._limit(batch.lengths))

    def run_arrays(
        self,
        arrays: BatchAddresses,
        results: NDArray[np.uint64],
        lengths: NDArray[np.uint32],
        context: Buffer | None = None,
    ) -> tuple[int, BaseException | None]:
        """See `run_batch`: over arrays that somebody keeps alive, with results that were checked. `lengths` are the packets' once more. How many packets
        are done, and what stopped the next.
        """
        if self._writes_context:
            name = self._type.name
            raise UnsupportedError(
                f"program type {name!r} writes its context: run packets one by one", "batch"
            )
        count = len(lengths)
        copy, limit = 0, self._limit(lengths)
        if self._type.packet_writable:
            before = HEADROOM if self.native.moves else 0
            behind = room_behind(0) if self.native.moves else 0
            scratch = ctypes.create_string_buffer(before + max(limit, behind) + 1)
            copy = ctypes.addressof(scratch) + before
        state = self._take_state()
        try:
            if context is not None:
                state.context = self._context(context)
            done = call_arrays()((self.native.cell, state.address, *arrays, results, count, copy, limit))
            return done, None if done == count else self._ended(state)
        finally:
            if context is not None:
                state.context = self._zeros
            self._states.append(state)

    def run_list(self, function: builtin.Builtin, packets: list[Buffer], results: NDArray[np.uint64]) -> None:
        """Run the program, by a builtin function of its own, on packets of a list that nobody else has: see `run_batch`."""
        first, count = 0, len(packets)
        out = result_address(results, count)
        while first < count:
            end = min(first + _TURN, count)
            done = function.call_each(packets, out, first, end)
            first = done
            if done == end:
                continue
            first = done if done >= 0 else -1 - done
            try:
                results[first] = function.unusual(packets[first]) if done >= 0 else function.raise_failure()
            except BaseException as error:
                raise of_packet(first, error) from None
            first += 1

    def builtin(
        self, unusual: Callable[[Buffer], int], results: builtin.Results | None = None
    ) -> builtin.Builtin | None:
        """The program as a builtin function, which leaves packets as they are; None where there is none. `unusual` runs a packet that
        it cannot take; `results` are those of `run`.
        """
        if self._writes_context or self.native.moves or not builtin.has_lock():
            return None
        state = self._take_state()
        return builtin.Builtin(
            self._program.name,
            cell=self.native.cell,
            state=state.address,
            lengths=(self._type.minimum_length, MAX_PACKET),
            copies=self._type.packet_writable,
            unusual=unusual,
            failure=lambda: self._stopped(state),
            results=results,
        )

    def last_batch(self) -> LastBatch | None:
        """Who can be told of batches that were run, and runs them again; None where there is none."""
        if self.native.moves or self._writes_context or not builtin.has_lock():
            return None
        state = self._take_state()
        return LastBatch(
            self._program.name,
            self.native.cell,
            state.address,
            lambda done: of_packet(done, self._ended(state)),
        )

    def _check(self, maps: Sequence[BpfMap]) -> None:
        """Layout, type and permission are compiled in; names are not."""
        wanted = [(spec.type, layout_of(spec), spec.read_only) for spec in self._program.maps]
        if [(map.spec.type, map.layout, map.spec.read_only) for map in maps] != wanted:
            names = ", ".join(repr(spec.name) for spec in self._program.maps) or "none"
            raise ArgumentError(f"program {self._program.name!r} was compiled for other maps: {names}")

    def _context(self, context: Buffer) -> Any:
        """A context's bytes where native code can write to them: the caller's own, unless those are read-only."""
        layout = self._type.context
        size = layout.size if layout is not None else 0
        if len(context) != size:
            raise ArgumentError(
                f"the context of program type {self._type.name!r} is {size} bytes, {len(context)} are given"
            )
        read_only = memoryview(context).readonly
        return (ctypes.c_char * size).from_buffer(bytearray(context) if read_only else context)

    def _take_state(self) -> RunState:
        try:
            return self._states.pop()
        except IndexError:
            state = self._host.new_state()
            state.context = self._zeros
            return state

    def _writable(self, packet: Buffer) -> Any:
        try:
            return ctypes.byref(ctypes.c_char.from_buffer(packet))
        except TypeError as error:
            raise ArgumentError(f"program type {self._type.name!r} writes packets: {error}") from None

    def _limit(self, lengths: NDArray[np.uint32]) -> int:
        """How long a packet of a batch may be: where packets are copied, as the longest is."""
        return int(lengths.max(initial=0)) if self._type.packet_writable else MAX_PACKET

    def _ended(self, state: RunState) -> BaseException:
        """The exception that a batch ends in before its end; the state is ready for another."""
        return self._stopped(state) if state.site else ArgumentError(_NOT_IN_BATCH)

    def _stopped(self, state: RunState) -> BaseException:
        """The exception that a stopped run ends in; the state is ready for another."""
        code, pc = unpack_site(state.site)
        address, failure = state.trap_address, state.failure
        state.clear()
        if failure is None and code in (TrapCode.BUDGET, TrapCode.TIME):
            used = self._host.budget - address
            message = f"still running after {used} instructions"
            if code is TrapCode.TIME:
                message += f", when its {self._host.time / 1e9:g} s were over"
            return BudgetExceeded(message, used, program=self._program.name, pc=pc)
        if failure is None:
            wrong_access = code in (TrapCode.ACCESS, TrapCode.MISALIGNED, TrapCode.MAP, TrapCode.CALLEE)
            return Trap(self._reason(code, pc, address), pc, address if wrong_access else None)
        return failure

    def _reason(self, code: TrapCode, pc: int, address: int) -> str:
        instruction = self._program.code.get(pc)
        match code:
            case TrapCode.ACCESS if instruction is not None and instruction.op.size:
                return f"access of {instruction.op.size} bytes at {address:#x}: outside every region that was proved for it"
            case TrapCode.ACCESS:
                return f"helper argument {address:#x}: outside every region that was proved for it"
            case TrapCode.UNREACHED if instruction is None:
                return f"no instruction here: the program is {self._program.size} slots long"
            case TrapCode.UNREACHED:
                return "reached an instruction that was proved to be out of reach"
            case TrapCode.MISALIGNED:
                return f"unaligned atomic access at {address:#x}"
            case TrapCode.FRAMES:
                return "calls nest deeper than the stack"
            case TrapCode.MAP:
                return f"helper argument {address:#x} is not the map that was proved"
            case TrapCode.CALLEE:
                return f"call through a register that holds {address:#x}, which is no function"
            case TrapCode.PYTHON | TrapCode.BUDGET | TrapCode.TIME:
                raise AssertionError(code)


_NOT_IN_BATCH: Final = f"longer than {MAX_PACKET} bytes or not in the batch's data"
