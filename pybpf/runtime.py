"""Running verified programs: maps are made, helpers are bound, an engine is chosen.

Two engines give the same results. ``jit`` compiles to native code. ``interpreter`` checks every access a second time and
counts instructions (`pybpf.interpreter`, which also runs programs that were not verified and traces them).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from pybpf.errors import ArgumentError, UnsupportedError, of_packet
from pybpf.instruction import ByteOrder
from pybpf.interpreter import Interpreter
from pybpf.maps import BpfMap, create
from pybpf.program import MapSpec, Program
from pybpf.program_types import Clock, FieldKind, ProgramType
from pybpf.regions import Bytes
from pybpf.verifier.facts import RegionKind, VerifiedProgram

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pybpf import jit
    from pybpf.jit import NativeInstance, NativeProgram
    from pybpf.jit.batch import LastBatch
    from pybpf.jit.builtin import Builtin
    from pybpf.packets import PacketBatch

EngineName = Literal["jit", "interpreter"]
LevelName = Literal["tiered", "quick", "full"]


class Result(NamedTuple):
    """One run: `value` is r0 as an unsigned 64-bit number, `packet` what the program left of its packet, and `verdict`
    the name that the program type gives the value (``match``, ``DROP``, ...).
    """

    value: int
    packet: bytes
    verdict: str


def instantiate(
    verified: VerifiedProgram,
    *,
    engine: EngineName = "jit",
    maps: Mapping[str, BpfMap] | None = None,
    clock: Clock | None = None,
    seed: int | None = None,
    budget: int | None = None,
    seconds: float | None = None,
    level: LevelName = "tiered",
    checks: bool = True,
) -> Instance:
    r"""Make a verified program ready to run. One `VerifiedProgram` makes any number of instances.

    `maps` are maps to use, by the program's names, so that instances can share them; the others are made anew. `clock`
    gives the time in nanoseconds where the program asks for it, and defaults to the clock of the program type. `seed`
    fixes the hashes of the maps made here, so that runs repeat; left out, each map has a secret one. `budget` bounds the
    instructions of one run; left out, a run lasts as long as was proved (see `BudgetExceeded`). Native code counts whole blocks, and only where the budget is less than what was proved. `seconds` bounds the time of one run, in the same way. `level` is about native code: ``quick``
    is compiled at once, ``full`` is optimised, and ``tiered`` begins quick and becomes full in the background, without a pause;
    the results are the same. Without `checks` native code does not compare accesses with the bounds of packet, stack and maps once more, and nothing but
    the proof stands between the program and this process. Raises `ArgumentError` where an argument does not fit the program, `MapError` for a map that cannot be made, `UnsupportedError` for a program that pybpf can
    verify and not run.

    >>> from pybpf import Program, verify
    >>> verified = verify(Program.from_asm("r0 = r2\n exit", type="filter"))
    >>> instantiate(verified, engine="interpreter").run(b"x")
    Result(value=1, packet=b'x', verdict='match')
    """
    if not isinstance(verified, VerifiedProgram):
        raise ArgumentError(
            f"{type(verified).__name__} is no verified program: pass it to pybpf.verify first"
        )
    check_runnable(verified)
    program = verified.program
    instance_maps = _instance_maps(program, maps or {}, seed)
    return Instance(
        verified,
        instance_maps,
        _engine(engine, verified, instance_maps, clock, budget, seconds, level, checks),
    )


_REGIONS: Final = frozenset(
    {RegionKind.STACK, RegionKind.PACKET, RegionKind.PACKET_META, RegionKind.CONTEXT, RegionKind.MAP_VALUE}
)
"""What the memory of a run consists of."""


def check_runnable(verified: VerifiedProgram) -> None:
    """Whether the engines have all that the program uses. Raises `UnsupportedError`."""
    type_, facts, name = verified.type, verified.facts, verified.program.name
    if not type_.runnable:
        raise UnsupportedError(f"programs of type {type_.name} cannot be run", "program-type", program=name)
    for number in sorted(facts.helpers):
        helper = type_.helpers[number]
        if helper.body is None:
            raise UnsupportedError(
                f"helper {helper.name} cannot be run", f"helper {helper.name}", program=name
            )
    for pc, accesses in facts.accesses.items():
        for access in accesses:
            if access.region not in _REGIONS:
                region = access.region.value
                raise UnsupportedError(f"access to {region} cannot be run", region, program=name, pc=pc)


class Instance:
    """A program with its maps, ready to run; `instantiate` makes it.

    Any number of threads may run an instance at once: each run has registers, a stack and a context of its own, and map
    operations are atomic. What two runs do to the same value without atomic instructions may be interleaved, as in Linux;
    atomic instructions are atomic towards those of all runs of the same engine.
    """

    def __init__(self, verified: VerifiedProgram, maps: Sequence[BpfMap], engine: Engine) -> None:
        self._engine = engine
        self._verified = verified
        names = (spec.name for spec in verified.program.maps)
        self._maps = MappingProxyType(dict(zip(names, maps, strict=True)))
        native = engine.runner()
        if native is not None:
            self.__dict__["run"] = (
                native  # found before the method, and the same but for the time that it takes
            )

    @property
    def verified(self) -> VerifiedProgram:
        """What the instance was made of."""
        return self._verified

    @property
    def maps(self) -> Mapping[str, BpfMap]:
        """The maps by name, in the order of `Program.maps`."""
        return self._maps

    @property
    def executed(self) -> int | None:
        """Instructions executed by all runs so far; None for native code, which does not count."""
        return self._engine.executed

    def run(self, packet: Bytes, context: Mapping[str, int] | Bytes | None = None) -> Result:
        """Run the program over one packet, which is left as it is: what the program writes is in the result.

        `context` gives the scalar fields of the program type's context by name, or all its bytes (a writable buffer
        receives what the program writes); left out, they are zero. Raises `ArgumentError` for a packet shorter than the
        program type promises or a context that does not fit, `Trap` and `BudgetExceeded`.

        In native code `run` is a builtin function of CPython, as `call` is. The last two results of an instance are kept until there are others.
        """
        verified = self._verified
        return _result(self._engine.run, verified.type, verified.program.byteorder, packet, context)

    @cached_property
    def call(self) -> Callable[[Bytes], int]:
        """The program as a function from a packet to r0, for whoever wants nothing else: in native code it is a builtin function of
        CPython, which holds the GIL and costs some nanoseconds a call, also from C: ``map(instance.call, packets)``.

        It keeps alive what it needs. The packet is left as it is, what the program writes is lost, and the context is zero. Raises what
        `run` raises.
        """
        return self._engine.function()

    def run_many(self, packets: Iterable[Bytes]) -> Iterator[Result]:
        """Run the program over packets one after the other, as results are asked for. Raises what `run` raises."""
        return map(self.run, packets)

    def run_batch(
        self, batch: PacketBatch | Iterable[Bytes], out: NDArray[np.uint64] | None = None
    ) -> NDArray[np.uint64]:
        """Run the program over packets in one call: r0 of each, uint64[n], written to `out` if it is given.

        The batch is left as it is: what a program writes into packets is lost (`run_many` returns it). Contexts are zero.
        Native code runs a `PacketBatch` without the GIL; packets that are Python objects need it, and it is offered to other threads
        after some thousand packets. The same `PacketBatch` again, with an `out`, costs nothing but the run: in native code `run_batch` becomes a builtin function of CPython.
        Raises `Trap` at the first packet that stops, `ArgumentError` where `out` is no writable uint64[n] or a packet is
        shorter than the program type promises.
        """
        type_ = self._verified.type
        native = self._engine.batch_runner(partial(_run_batch, self._engine, type_))
        if native is not None:
            self.__dict__["run_batch"] = native  # found before the method
        return _run_batch(self._engine, type_, batch, out)

    def run_parallel(
        self,
        batch: PacketBatch,
        threads: int | None = None,
        *,
        flows: NDArray[np.uint64] | None = None,
        out: NDArray[np.uint64] | None = None,
    ) -> NDArray[np.uint64]:
        """Run the program over packets on several threads at once, as many as the process may use processors unless `threads` says: as `run_batch`, for
        batches of some ten thousand packets.

        Which packets are run at once is open, and so is what maps come to hold where runs meet in them. `flows`, a number for each packet, uint64[n], leaves the
        packets of one number to one thread, in their order; `pybpf.flow_numbers` gives those of connections. Raises what `run_batch` raises, for the first
        of the packets that were stopped; others may have been run by then. The interpreter runs packets one by one.
        """
        import numpy as np

        count = len(batch)
        threads = _processors() if threads is None else threads
        if not 0 < threads <= _MOST_THREADS:
            raise ArgumentError(f"threads must be from 1 to {_MOST_THREADS}, not {threads}")
        if flows is not None and (flows.dtype != np.uint64 or flows.shape != (count,)):
            raise ArgumentError(f"flows must be uint64[{count}], not {flows.dtype}{list(flows.shape)}")
        out = _check_batch(self._verified.type, batch, out)
        self._engine.run_parallel(batch, out, threads, flows)
        return out

    def __repr__(self) -> str:
        maps = ", ".join(self._maps) or "none"
        return f"<Instance of {self._verified.program.name!r}: type {self._verified.type.name}, maps {maps}>"


_MOST_THREADS: Final = 1024


def _processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Engine(Protocol):
    """What an instance needs of an engine. `executed` counts instructions, None where nobody counts."""

    @property
    def executed(self) -> int | None:
        """See `Instance.executed`."""

    def run(self, packet: Bytes, context: Bytes | None) -> tuple[int, bytes]:
        """r0, and the packet afterwards; the caller's packet is left as it is."""

    def function(self) -> Callable[[Bytes], int]:
        """See `Instance.call`."""

    def runner(self) -> Callable[..., Result] | None:
        """`Instance.run` as a function of its own; None where there is nothing better than the method."""

    def run_batch(self, batch: PacketBatch | list[Bytes], out: NDArray[np.uint64]) -> None:
        """r0 of each packet."""

    def batch_runner(self, unusual: Callable[..., Any]) -> Callable[..., Any] | None:
        """`Instance.run_batch` as a function of its own, which leaves to `unusual` what it does not know; None where there is nothing better."""

    def run_parallel(
        self, batch: PacketBatch, out: NDArray[np.uint64], threads: int, flows: NDArray[np.uint64] | None
    ) -> None:
        """See `Instance.run_parallel`."""


class _Checked:
    """The interpreter as an engine."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter
        self._counting = threading.Lock()
        self.executed = 0

    def run(self, packet: Bytes, context: Bytes | None) -> tuple[int, bytes]:
        outcome = self._interpreter.run(packet, context)
        with self._counting:
            self.executed += outcome.executed
        return outcome.value, outcome.packet

    def function(self) -> Callable[[Bytes], int]:
        return partial(_value, self.run, self._interpreter.type)

    def runner(self) -> None:
        return None

    def run_batch(self, batch: PacketBatch | list[Bytes], out: NDArray[np.uint64]) -> None:
        _run_each(self.function(), batch, out)

    def batch_runner(self, unusual: Callable[..., Any]) -> None:
        return None

    def run_parallel(
        self, batch: PacketBatch, out: NDArray[np.uint64], threads: int, flows: NDArray[np.uint64] | None
    ) -> None:
        self.run_batch(batch, out)


class _Native:
    """Native code as an engine."""

    executed: Final = None

    def __init__(self, native: NativeInstance, type_: ProgramType, byteorder: ByteOrder) -> None:
        self._native = native
        self._type = type_
        self._byteorder: ByteOrder = byteorder
        # No methods: the builtin functions refer to them, and would be in a cycle with the engine.
        self.run: Callable[[Bytes, Bytes | None], tuple[int, bytes]] = partial(_run_native, native, type_)
        self._ordinary = partial(_value, self.run, type_)

    @cached_property
    def _last(self) -> LastBatch | None:
        return self._native.last_batch()

    @cached_property
    def _builtin(self) -> Builtin | None:
        from pybpf.jit.builtin import Results

        verdicts, results = self._type.verdicts, None
        if Results.fit(verdicts):
            results = Results(Result, verdicts, partial(_result, self.run, self._type, self._byteorder))
        return self._native.builtin(self._ordinary, results)

    def function(self) -> Callable[[Bytes], int]:
        return self._ordinary if self._builtin is None else self._builtin.call

    def runner(self) -> Callable[..., Result] | None:
        return None if self._builtin is None else self._builtin.run

    def run_batch(self, batch: PacketBatch | list[Bytes], out: NDArray[np.uint64]) -> None:
        if not isinstance(batch, list):
            self._native.run_batch(batch, out, last=self._last)
        elif self._builtin is None:
            _run_each(self._ordinary, batch, out)
        else:
            self._native.run_list(self._builtin, batch, out)

    def batch_runner(self, unusual: Callable[..., Any]) -> Callable[..., Any] | None:
        return None if self._last is None else self._last.function(unusual)

    def run_parallel(
        self, batch: PacketBatch, out: NDArray[np.uint64], threads: int, flows: NDArray[np.uint64] | None
    ) -> None:
        from pybpf.jit.parallel import run_parallel

        run_parallel(self._native, batch, out, threads, flows)


def _run_batch(
    engine: Engine,
    type_: ProgramType,
    batch: PacketBatch | Iterable[Bytes],
    out: NDArray[np.uint64] | None = None,
) -> NDArray[np.uint64]:
    packets = batch if isinstance(batch, _batches()) else list(batch)
    out = _check_batch(type_, packets, out)
    engine.run_batch(packets, out)
    return out


def _check_batch(
    type_: ProgramType, packets: PacketBatch | list[Bytes], out: NDArray[np.uint64] | None
) -> NDArray[np.uint64]:
    """The array for the results."""
    count = len(packets)
    if type_.minimum_length and count and not isinstance(packets, list):
        shortest = int(packets.lengths.min())
        if shortest < type_.minimum_length:
            raise _too_short(type_, shortest)
    if out is None:
        import numpy as np

        return np.empty(count, np.uint64)
    word = out.dtype.char in "LQ" and out.itemsize == 8 and out.dtype.isnative
    if not word or out.shape != (count,) or not out.flags.carray:
        raise ArgumentError(f"out must be a writable, contiguous uint64[{count}]")
    return out


def _result(
    run: Callable[[Bytes, Bytes | None], tuple[int, bytes]],
    type_: ProgramType,
    byteorder: ByteOrder,
    packet: Bytes,
    context: Mapping[str, int] | Bytes | None = None,
) -> Result:
    if type(packet) is not bytes:
        packet = memoryview(packet).tobytes()  # whatever has the buffer protocol, and nothing else
    if len(packet) < type_.minimum_length:
        raise _too_short(type_, len(packet))
    fields = None if context is None else _context_bytes(type_, context, byteorder)
    value, left = run(packet, fields)
    return Result(value, left, type_.verdict(value))


@cache
def _batches() -> type[PacketBatch]:
    """The class, which is imported when it is needed; to import it once more would take longer than many a batch."""
    from pybpf.packets import PacketBatch

    return PacketBatch


def _value(run: Callable[[Bytes, Bytes | None], tuple[int, bytes]], type_: ProgramType, packet: Bytes) -> int:
    packet = memoryview(packet).tobytes()  # whatever has the buffer protocol, and nothing else
    if len(packet) < type_.minimum_length:
        raise _too_short(type_, len(packet))
    value, _ = run(packet, None)
    return value


def _run_native(
    native: NativeInstance, type_: ProgramType, packet: Bytes, context: Bytes | None
) -> tuple[int, bytes]:
    buffer = bytearray(packet) if type_.packet_writable else bytes(packet)
    return native.run(buffer, context), bytes(buffer)


def _run_each(function: Callable[[Bytes], int], packets: Iterable[Bytes], out: NDArray[np.uint64]) -> None:
    for number, packet in enumerate(packets):
        try:
            out[number] = function(packet)
        except BaseException as error:
            raise of_packet(number, error) from None


def _engine(
    name: str,
    verified: VerifiedProgram,
    maps: Sequence[BpfMap],
    clock: Clock | None,
    budget: int | None,
    seconds: float | None,
    level: LevelName,
    checks: bool,
) -> Engine:
    if seconds is not None and not 0 <= seconds < _LONGEST:
        raise ArgumentError(f"a run of {seconds} seconds: at least 0 and less than {_LONGEST}")
    match name:
        case "interpreter":
            return _Checked(
                Interpreter(
                    verified.program, verified.type, maps, clock=clock, budget=budget, seconds=seconds
                )
            )
        case "jit":
            bound = verified.facts.max_instructions
            if budget is not None and bound is not None and bound <= budget:
                budget = None  # it was proved that there is nothing to count
            times = seconds is not None
            native = _compiled(verified, level, checks, counts=budget is not None or times, times=times)
            time = None if seconds is None else int(seconds * 1e9)
            return _Native(native.bind(maps, clock, budget, time), verified.type, verified.program.byteorder)
        case _:
            raise ArgumentError(f"unknown engine {name!r}: known are jit, interpreter")


_LONGEST: Final = 1 << 32
"""Seconds, more than a run can be given."""

_native: Final[WeakKeyDictionary[VerifiedProgram, dict[tuple[LevelName, jit.Options], NativeProgram]]] = (
    WeakKeyDictionary()
)
_compiling = threading.Lock()


def _compiled(
    verified: VerifiedProgram, level: LevelName, checks: bool, counts: bool, times: bool
) -> NativeProgram:
    """The native code of a proof, made once for all its instances and kept as long as the proof is."""
    from pybpf import jit

    options = jit.Options(checks=checks, counts=counts, times=times)
    with _compiling:
        made = _native.setdefault(verified, {})
        native = made.get((level, options))
        if native is None:
            match level:
                case "tiered":
                    native = jit.compile_tiered(verified, options)
                case "quick" | "full":
                    native = jit.compile(verified, jit.Level(level), options)
                case _:
                    raise ArgumentError(f"unknown level {level!r}: known are tiered, quick, full")
            made[level, options] = native
        return native


def _forget_compilers() -> None:
    """In the child of a fork nobody else is compiling."""
    global _compiling
    _compiling = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_compilers)


# What must be equal for a map to stand in for another: what was proved of the program depends on it.
_SHAPE: Final = ("type", "key_size", "value_size", "max_entries", "read_only", "byteorder")


def _instance_maps(program: Program, given: Mapping[str, BpfMap], seed: int | None) -> tuple[BpfMap, ...]:
    for name in given:
        program.map_number(name)
    return tuple(
        _same_shape(spec, given[spec.name]) if spec.name in given else create(spec, seed=seed)
        for spec in program.maps
    )


def _same_shape(spec: MapSpec, map: BpfMap) -> BpfMap:
    for attribute in _SHAPE:
        ours, theirs = getattr(spec, attribute), getattr(map.spec, attribute)
        if ours != theirs:
            raise ArgumentError(
                f"map {spec.name!r}: the program needs {attribute} {ours}, the map has {theirs}"
            )
    if spec.read_only and spec.initial != map.spec.initial:
        # Its contents were proved with: what a program reads there is a constant to the verifier.
        raise ArgumentError(
            f"map {spec.name!r} is read-only and has other contents than the program was proved with"
        )
    return map


def _too_short(type_: ProgramType, length: int) -> ArgumentError:
    promised = type_.minimum_length
    return ArgumentError(
        f"packet of {length} bytes: program type {type_.name!r} promises at least {promised}"
    )


def _context_bytes(type_: ProgramType, given: Mapping[str, int] | Bytes, byteorder: ByteOrder) -> Bytes:
    """The bytes of a context, from its scalar fields by name. Bytes are checked for their number and passed on."""
    layout = type_.context
    if layout is None:
        raise ArgumentError(f"program type {type_.name!r} has no context")
    if not isinstance(given, Mapping):
        if len(given) != layout.size:
            raise ArgumentError(f"a {layout.name} has {layout.size} bytes, not {len(given)}")
        return given
    buffer = bytearray(layout.size)
    scalars = {field.name: field for field in layout.fields if field.kind is FieldKind.SCALAR}
    for name, value in given.items():
        field = scalars.get(name)
        if field is None:
            raise ArgumentError(f"{layout.name} has no scalar field {name!r}: it has {', '.join(scalars)}")
        if not 0 <= value < 1 << 8 * field.size:
            raise ArgumentError(f"{layout.name}.{name}: {value} does not fit into {field.size} bytes")
        buffer[field.offset : field.offset + field.size] = value.to_bytes(field.size, byteorder)
    return buffer
