"""Those who run a program: pybpf, its interpreter, the same C as native code, DPDK's library, the kernel.

Each function gives a `Competitor` over a batch. All write the results of a batch into an array of their own, and before anybody is
timed they must agree (`agree`). What a competitor needs stays alive with its `run`.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import pybpf
from benchmarks import toolchain
from benchmarks.contest import OURS, Competitor
from benchmarks.toolchain import Compiler, Missing
from fuzz import kernel
from pybpf import Instance, PacketBatch, Program
from pybpf.maps import BpfMap
from pybpf.verifier.facts import VerifiedProgram

if TYPE_CHECKING:
    from numpy.typing import NDArray

INTERPRETER: Final = "pybpf's interpreter"
UNCHECKED: Final = "pybpf without checks"
KERNEL: Final = "the kernel's JIT"
EMPTY: Final = "the kernel, an empty program"
"""What the kernel's test runs cost beside the program: it is taken off."""
DPDK: Final = "DPDK's librte_bpf"
CALLED: Final = "called"
INLINED: Final = "inlined"

_INTERPRETED: Final = 20
"""Packets that the interpreter runs of a batch."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A competitor, and what its last run gave for each packet (r0)."""

    competitor: Competitor
    results: Callable[[], NDArray[np.uint64]]


def ours(verified: VerifiedProgram, batch: PacketBatch, maps: Mapping[str, BpfMap] | None = None) -> Prepared:
    """pybpf's native code, fully optimised: one call of `run_batch`."""
    instance = pybpf.instantiate(verified, maps=maps, level="full")
    return Prepared(*_over(instance, batch, OURS))


def unchecked(verified: VerifiedProgram, batch: PacketBatch) -> Competitor:
    """pybpf's native code without checks of bounds."""
    return _over(pybpf.instantiate(verified, level="full", checks=False), batch, UNCHECKED)[0]


def interpreted(verified: VerifiedProgram, batch: PacketBatch) -> Competitor:
    """pybpf's interpreter, over some packets of the batch."""
    few = batch[:: max(1, len(batch) // _INTERPRETED)]
    return _over(pybpf.instantiate(verified, engine="interpreter"), few, INTERPRETER)[0]


def _over(
    instance: Instance, batch: PacketBatch, name: str
) -> tuple[Competitor, Callable[[], NDArray[np.uint64]]]:
    out = np.empty(len(batch), np.uint64)
    return Competitor(name, lambda: instance.run_batch(batch, out), len(batch)), lambda: out


class NativeMap:
    """A map of maps.c."""

    def __init__(self, library: ctypes.CDLL, spec: pybpf.MapSpec) -> None:
        create = getattr(library, f"{spec.type}_create")
        create.restype = ctypes.c_void_p
        self.address = create(spec.key_size, spec.value_size, spec.max_entries)
        library.map_destroy.argtypes = (ctypes.c_void_p,)
        weakref.finalize(self, library.map_destroy, self.address)


class NativeProgram:
    """A filter in C, compiled natively, with maps of maps.c: those given, or new ones. Raises `Missing`."""

    def __init__(
        self,
        compiler: Compiler,
        source: Path,
        work: Path,
        specs: Sequence[pybpf.MapSpec],
        maps: Mapping[str, NativeMap] | None = None,
        *options: str,
    ) -> None:
        self.name = compiler.name
        self.library = toolchain.shared_object(compiler, source, work, *options)
        self.maps = dict(maps or {})
        for spec in specs:
            if spec.name not in self.maps:
                self.maps[spec.name] = NativeMap(self.library, spec)
            definition = ctypes.c_void_p.in_dll(self.library, spec.name)
            definition.value = self.maps[spec.name].address

    def over(self, batch: PacketBatch, how: str) -> Prepared:
        """The program over a batch: `how` is ``called``, through a pointer, or ``inlined`` into the loop."""
        results = np.empty(len(batch), np.uint64)
        function = getattr(self.library, how)
        arguments = [
            ctypes.c_void_p(array.ctypes.data)
            for array in (batch.data, batch.offsets, batch.lengths, results)
        ]

        def run() -> object:
            _ = self, batch, results  # kept alive
            return function(*arguments, ctypes.c_uint64(len(batch)))

        return Prepared(Competitor(f"{self.name}, {how}", run, len(batch)), lambda: results)


class DpdkProgram:
    """A program that takes memory of a fixed size, in DPDK's JIT. Raises `Missing`."""

    def __init__(self, program: Program, size: int, work: Path) -> None:
        flags = toolchain.output("pkg-config", "--cflags", "--libs", "libdpdk").split()
        self._library = library = toolchain.harness("dpdk", work, [*flags, "-march=native"])
        library.dpdk_load.restype = library.dpdk_code.restype = ctypes.c_void_p
        code = pybpf.encode(program.code)
        loaded = library.dpdk_load(code, len(code) // 8, ctypes.c_uint64(size))
        if not loaded:
            raise Missing("librte_bpf refuses the program")
        loaded = ctypes.c_void_p(loaded)
        library.dpdk_destroy.argtypes = (ctypes.c_void_p,)
        weakref.finalize(self, library.dpdk_destroy, loaded)
        self._code = ctypes.c_void_p(library.dpdk_code(loaded))
        if not self._code:
            raise Missing("librte_bpf makes no machine code of the program")

    def over(self, batch: PacketBatch) -> Prepared:
        """The program over a batch."""
        results = np.empty(len(batch), np.uint64)
        arguments = [ctypes.c_void_p(array.ctypes.data) for array in (batch.data, batch.offsets, results)]
        function = self._library.dpdk_run

        def run() -> object:
            _ = self, batch, results  # kept alive
            return function(self._code, *arguments, ctypes.c_uint64(len(batch)))

        return Prepared(Competitor(DPDK, run, len(batch)), lambda: results)


def in_kernel(loaded: kernel.Loaded, packet: bytes, repeat: int) -> Competitor:
    """A program of XDP in the kernel, over one packet again and again in one call."""
    return Competitor(KERNEL, lambda: loaded.run(packet, repeat), repeat)


def agree(prepared: Sequence[Prepared]) -> None:
    """Run everybody once, from the state that all begin in, and compare the results. Raises `AssertionError` where they differ."""
    found: list[tuple[str, NDArray[Any]]] = []
    for one in prepared:
        one.competitor.run()
        found.append((one.competitor.name, one.results().copy()))
    for name, results in found[1:]:
        wrong = np.flatnonzero(results != found[0][1])
        if len(wrong):
            raise AssertionError(f"{name} and {found[0][0]} differ at packet {wrong[0]}")
