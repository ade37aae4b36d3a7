"""The picture of docs/performance.md: how many times as long as pybpf each competitor takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.competitors import CALLED, DPDK, INLINED, INTERPRETER, KERNEL
from benchmarks.contest import Row

_SHOWN: Final = {
    "clang -O2, inlined": f"clang-22 -O2, {INLINED}",
    "clang -O3 -march=native, inlined": f"clang-22 -O3 -march=native, {INLINED}",
    "gcc -O2, called": f"gcc -O2, {CALLED}",
    "the kernel's JIT": KERNEL,
    "DPDK's librte_bpf": DPDK,
    "pybpf's interpreter": INTERPRETER,
}
"""The competitors in the picture, with the name that the rows have for each."""


def write(rows: Sequence[Row], path: Path) -> None:
    """Draw a dot for each case, a line of them for each competitor, on a logarithmic scale, as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "pybpf", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
    labels: list[str] = []
    for label, name in _SHOWN.items():
        ratios = [row.ratio for row in rows if row.competitor == name and row.ratio > 0]
        if ratios:
            axes.plot(ratios, [len(labels)] * len(ratios), "o", alpha=0.5, markeredgewidth=0)
            labels.append(label)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("time for the same work, pybpf's native code = 1")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
