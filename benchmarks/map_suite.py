"""Hash maps: one lookup a packet, or an insertion or deletion a packet, against chains in C; and with a second thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import numpy as np

import pybpf
from benchmarks import programs, traffic
from benchmarks.case import Bench, Case
from benchmarks.competitors import CALLED, INLINED, NativeProgram, Prepared, agree, ours
from benchmarks.contest import OURS, Competitor
from benchmarks.toolchain import COMPILERS
from pybpf import PacketBatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PACKETS: Final = 1 << 16
"""How many packets there are at least: 4 MiB lie in the cache of the last level, where network cards put them."""
_COMPILERS: Final = tuple(compiler for compiler in COMPILERS if compiler.options == ("-O2",))


def maps(bench: Bench) -> list[Case]:
    """Lookups in maps of three sizes, and churn."""
    cases = []
    for entries in (5_000, bench.size(100_000), bench.size(1_000_000)):
        for kind in ("uniform", "skewed", "missing"):
            cases.append(_case(bench, "count", entries, kind))
        cases.append(_case(bench, "churn", entries, "churn"))
    return cases


def _case(bench: Bench, name: str, entries: int, kind: str) -> Case:
    def build() -> list[Competitor]:
        flows, size = traffic.flows(entries), f"-DENTRIES={entries}"
        present = flows[: entries // 2] if name == "churn" else flows
        if name == "churn":
            batch = traffic.churn(flows, 1_000_000)
        else:
            batch = traffic.packets_of(flows, kind, max(entries, _PACKETS))
        filling = traffic.coming(present, True)
        churn = programs.filter_form("churn", bench.work, size)
        filled = pybpf.instantiate(churn, level="full")
        filled.run_batch(filling)
        verified = churn if name == "churn" else programs.filter_form(name, bench.work, size)
        everybody: list[Prepared] = [ours(verified, batch, filled.maps)]
        for compiler in _COMPILERS:
            with bench.optional(compiler.command):
                specs = verified.program.maps
                filler = NativeProgram(compiler, programs.source("churn"), bench.work, specs, None, size)
                filler.over(filling, CALLED).competitor.run()
                native = NativeProgram(compiler, programs.source(name), bench.work, specs, filler.maps, size)
                everybody += [native.over(batch, CALLED), native.over(batch, INLINED)]
        agree(everybody)
        return [prepared.competitor for prepared in everybody]

    return Case("maps", name, f"{entries} entries, {kind}", build)


ONE: Final = "one thread"
TWO: Final = "two threads"
DISTINCT: Final = "distinct keys"


_LONG: Final = 400_000
"""Packets that a thread runs in one call at least: to wake a thread takes as long as thousands."""


def threads(bench: Bench) -> list[Case]:
    """Two threads over one map, each with keys of its own, against one thread; and the same with a program that has no map, which says what the machine can do."""

    def case(name: str, entries: int) -> Case:
        def build() -> list[Competitor]:
            flows, size = traffic.flows(entries), f"-DENTRIES={entries}"
            verified = programs.filter_form(name, bench.work, size)
            filled = pybpf.instantiate(programs.filter_form("churn", bench.work, size), level="full")
            half = entries // 2
            parts = [flows[:half], flows[half:]]
            if name == "churn":
                filled.run_batch(traffic.coming(np.concatenate([part[: half // 2] for part in parts]), True))
                batches = [traffic.churn(part, 100_000) for part in parts]
            else:
                filled.run_batch(traffic.coming(flows, True))
                batches = [traffic.packets_of(part, "uniform", 100_000) for part in parts]
            return _compared(pybpf.instantiate(verified, maps=filled.maps, level="full"), batches)

        return Case("threads", name, f"{entries} entries, {DISTINCT}", build)

    def nothing_shared() -> list[Competitor]:
        instance = pybpf.instantiate(programs.filter_form("siphash", bench.work), level="full")
        return _compared(instance, [traffic.random_bytes(256, 64)] * 2)

    sizes = (5_000, bench.size(100_000))
    cases = [case(name, entries) for name in ("count", "churn") for entries in sizes]
    return [*cases, Case("threads", "siphash", "no map", nothing_shared)]


def _compared(instance: pybpf.Instance, batches: list[PacketBatch]) -> list[Competitor]:
    long = [batch.repeat(-(-_LONG // len(batch)) * len(batch)) for batch in batches]
    outs = [np.empty(len(batch), np.uint64) for batch in long]
    pair = _Pair(instance, long, outs)
    return [
        Competitor(TWO, pair.run, sum(map(len, long)), threads=2),
        Competitor(ONE, lambda: instance.run_batch(long[0], outs[0]), len(long[0])),
    ]


class _Pair:
    """The thread of the caller and a second one, which waits for work."""

    def __init__(
        self, instance: pybpf.Instance, batches: list[PacketBatch], outs: list[NDArray[np.uint64]]
    ) -> None:
        self._instance, self._batches, self._outs = instance, batches, outs
        self._barrier = threading.Barrier(2)
        threading.Thread(target=self._second, daemon=True).start()

    def _second(self) -> None:
        while True:
            self._barrier.wait()
            self._instance.run_batch(self._batches[1], self._outs[1])
            self._barrier.wait()

    def run(self) -> None:
        """Each thread runs its batch; returns when both have."""
        self._barrier.wait()
        self._instance.run_batch(self._batches[0], self._outs[0])
        self._barrier.wait()


def calls(bench: Bench) -> list[Case]:
    """What a call from Python costs: the p0f filter over 1024 packets that match, in one call."""

    def build() -> list[Competitor]:
        verified = programs.example("p0f")
        batch = traffic.filters("match", 1024)
        instance = pybpf.instantiate(verified, level="full")
        out, packets = np.empty(1024, np.uint64), list(batch)
        call = instance.call
        return [
            Competitor(OURS, lambda: instance.run_batch(batch, out), 1024),
            Competitor("a list of bytes", lambda: instance.run_batch(packets, out), 1024),
            Competitor("map(call, packets)", lambda: list(map(call, packets)), 1024),
        ]

    return [Case("calls", "p0f", "1024 packets in one call", build)]
