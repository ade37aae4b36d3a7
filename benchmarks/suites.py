"""What is compared with what. Each suite is a list of cases; what a case needs is made when its turn comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

import pybpf
from benchmarks import map_suite, programs, traffic
from benchmarks.case import Bench, Case
from benchmarks.competitors import (
    CALLED,
    DPDK,
    EMPTY,
    INLINED,
    KERNEL,
    DpdkProgram,
    NativeProgram,
    agree,
    in_kernel,
    interpreted,
    ours,
    unchecked,
)
from benchmarks.contest import Competitor
from benchmarks.toolchain import COMPILERS, ROOT
from fuzz import kernel
from pybpf import PacketBatch, Program
from pybpf.helpers import KTIME
from pybpf.verifier.facts import VerifiedProgram

_CAPTURED: Final = (
    ("p0f", "p0f.pcap"),
    ("p0f_literal", "p0f.pcap"),
    ("stateless_firewall", "http.pcap"),
    ("stateful_firewall", "http.pcap"),
    ("rate_limiter", "synflood.pcap"),
    ("dapper", "http.pcap"),
)
_ALU: Final = {"xorshift": 64, "checksum": 1500, "sort": 64, "branches": 64, "siphash": 64}
"""Programs that compute, and the bytes that each wants."""
_LONG: Final = {"xorshift": ["-DSTEPS=512"], "siphash": ["-DSIZE=1024"], "branches": ["-DSTEPS=256"]}
"""How they are made to compute for longer."""


def filters(bench: Bench) -> list[Case]:
    """The p0f filter over mixes in the cache and out of it; the examples over captures."""
    few, many, far = 2048, bench.size(100_000), bench.size(1_000_000)
    mixes: dict[str, Callable[[], PacketBatch]] = {
        "all match, 2048": lambda: traffic.filters("match", few, copies=16),
        "mixed, predictable, 2048": lambda: traffic.filters("mixed", few, copies=16),
        f"mixed, unpredictable, {many}": lambda: traffic.filters("mixed", many),
        f"all match, {many}": lambda: traffic.filters("match", many),
        f"first test rejects, {many}": lambda: traffic.filters("reject", many),
        f"all match, {far}, in order": lambda: traffic.filters("match", far),
        f"mixed, {far}, in order": lambda: traffic.filters("mixed", far),
        f"mixed, {far}, anywhere": lambda: traffic.filters("mixed", far, shuffled=True),
    }
    cases = [Case("filters", "p0f", name, _filter_case(bench, "p0f", make)) for name, make in mixes.items()]
    for program, capture in _CAPTURED:
        cases.append(Case("filters", program, capture, _filter_case(bench, program, _capture(capture))))
    return cases


def _capture(name: str) -> Callable[[], PacketBatch]:
    return lambda: pybpf.read_pcap(ROOT / "examples/captures" / name).repeat(20_000)


def _filter_case(
    bench: Bench, name: str, packets: Callable[[], PacketBatch]
) -> Callable[[], list[Competitor]]:
    return lambda: _against_c(bench, name, programs.example(name), packets())


def alu(bench: Bench) -> list[Case]:
    """Programs that compute."""

    def case(name: str, size: int) -> Case:
        def build() -> list[Competitor]:
            batch = traffic.random_bytes(256, size, copies=64)
            return _against_c(bench, name, programs.filter_form(name, bench.work), batch)

        return Case("alu", name, f"{size} bytes", build)

    return [case(name, size) for name, size in _ALU.items()]


def _against_c(bench: Bench, name: str, verified: VerifiedProgram, batch: PacketBatch) -> list[Competitor]:
    everybody = [ours(verified, batch)]
    for compiler in COMPILERS:
        for how in (CALLED, INLINED):
            with bench.optional(compiler.command):
                native = NativeProgram(compiler, programs.source(name), bench.work, verified.program.maps)
                everybody.append(native.over(batch, how))
    numbers = verified.type.helpers
    if not any(numbers[number].body is KTIME.body for number in verified.facts.helpers):
        agree(everybody)  # what depends on the time differs
    return [prepared.competitor for prepared in everybody] + [interpreted(verified, batch)]


def in_linux(bench: Bench) -> list[Case]:
    """The kernel's JIT on the same bytecode: one packet again and again, as the kernel's test runs do.

    Those cost some 170 ns beside the program, which is taken off. A part of that overlaps with the program, so what computes
    has more to do here than elsewhere.
    """
    repeat = 2000

    def case(name: str, packet: bytes, make: Callable[[], VerifiedProgram]) -> Case:
        def build() -> list[Competitor]:
            reason = kernel.available()
            verified, batch = make(), traffic.one(packet, repeat)
            prepared = ours(verified, batch)
            if reason is not None:
                bench.skipped[KERNEL] = reason
                return [prepared.competitor]
            try:
                loaded = bench.hold(kernel.Loaded(verified.program))
            except kernel.Refused as refusal:
                bench.skipped[f"{KERNEL}: {name}"] = refusal.line
                return [prepared.competitor]
            prepared.competitor.run()
            verdict, mine = loaded.run(packet)[0], int(prepared.results()[-1])
            if verdict != mine & 0xFFFF_FFFF:
                raise AssertionError(f"{name}: the kernel says {verdict}, pybpf {mine}")
            empty = bench.hold(kernel.Loaded(Program.from_asm("r0 = 2\n exit", type="xdp")))
            nothing = replace(in_kernel(empty, packet, repeat), name=EMPTY)
            theirs = replace(in_kernel(loaded, packet, repeat), less=EMPTY)
            return [prepared.competitor, theirs, nothing]

        return Case("kernel", name, "one packet", build)

    def computing(name: str, *options: str) -> Callable[[], VerifiedProgram]:
        return lambda: programs.xdp_form(name, bench.work, *options)

    def example(name: str) -> Callable[[], VerifiedProgram]:
        return lambda: programs.example(name)

    cases = [
        case(name, traffic.random_bytes(1, 1500)[0], computing(name, *_LONG.get(name, ()))) for name in _ALU
    ]
    examples = ("xdp_firewall", "xdp_counter", "xdp_rate_limiter")
    return cases + [case(name, traffic.SIGNATURE, example(name)) for name in examples]


_STRAIGHT: Final = ("xorshift", "siphash", "p0f_fixed")
"""What DPDK's library can be given: it refuses loops (sort; clang does not unroll the checksum for the stack of BPF), and looks at every path for itself (branches:
there are 8 to the 48th).
"""


def in_dpdk(bench: Bench) -> list[Case]:
    """DPDK's JIT on the same bytecode, in a form that it takes: no loops, memory of a fixed size."""

    def case(name: str) -> Case:
        def build() -> list[Competitor]:
            verified, size = programs.fixed_form(name, bench.work), programs.FIXED_SIZE
            if name == "p0f_fixed":
                packets = traffic.filters("mixed", 512)
                batch = PacketBatch.from_packets(packet.ljust(size, b"\0") for packet in packets).repeat(2048)
            else:
                batch = traffic.random_bytes(256, size, copies=64)
            everybody = [ours(verified, batch)]
            with bench.optional(DPDK):
                everybody.append(DpdkProgram(verified.program, size, bench.work).over(batch))
            agree(everybody)
            return [prepared.competitor for prepared in everybody]

        return Case("dpdk", name, f"{programs.FIXED_SIZE} bytes", build)

    return [case(name) for name in _STRAIGHT]


def checks(bench: Bench) -> list[Case]:
    """Native code with all its checks against the same without the comparisons with the bounds of packet, stack and maps."""

    def case(
        name: str, traffic_: str, make: Callable[[], VerifiedProgram], packets: Callable[[], PacketBatch]
    ) -> Case:
        def build() -> list[Competitor]:
            verified, batch = make(), packets()
            return [ours(verified, batch).competitor, unchecked(verified, batch)]

        return Case("checks", name, traffic_, build)

    def computing(name: str, size: int) -> Case:
        make = partial(programs.filter_form, name, bench.work)
        return case(name, f"{size} bytes", make, lambda: traffic.random_bytes(256, size, copies=64))

    filters = [
        case(name, capture, partial(programs.example, name), _capture(capture)) for name, capture in _CAPTURED
    ]
    return filters + [computing(name, size) for name, size in _ALU.items()]


SUITES: Final[dict[str, Callable[[Bench], list[Case]]]] = {
    "filters": filters,
    "alu": alu,
    "kernel": in_linux,
    "dpdk": in_dpdk,
    "checks": checks,
    "maps": map_suite.maps,
    "threads": map_suite.threads,
    "calls": map_suite.calls,
}
"""The suites by name."""
