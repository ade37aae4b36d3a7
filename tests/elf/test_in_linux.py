"""Every XDP program of the objects that are at hand: Linux's test runs give the same verdicts, packets and maps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

import pybpf
from fuzz import kernel
from pybpf import BpfError, VerifiedProgram
from pybpf.helpers import KTIME
from tests.conftest import SHARED
from tests.examples.packets import random_frame, samples

FOLDERS = (Path("examples/objects"), SHARED / "elf")
FRAMES = [
    frame
    for frame in samples() + [random_frame(Random(seed)) for seed in range(40)]
    if len(frame) >= kernel.MINIMUM_PACKET
]


def programs(path: Path) -> Iterator[VerifiedProgram]:
    """The programs of XDP in an object that pybpf accepts and can run, and whose results do not depend on the time."""
    try:
        found = pybpf.load(path).programs.values()
    except BpfError:
        return
    for program in found:
        if getattr(program.type, "name", program.type) != "xdp":
            continue
        try:
            verified = pybpf.verify(program)
            pybpf.instantiate(verified, engine="interpreter")
        except BpfError:
            continue
        if not any(verified.type.helpers[number].body is KTIME.body for number in verified.facts.helpers):
            yield verified


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS, ids=["examples", "elf"])
def test_linux_agrees(folder: Path) -> None:
    if (reason := kernel.available()) is not None:
        pytest.skip(reason)
    if not folder.is_dir():
        pytest.skip(f"no {folder.name} here")
    compared = 0
    for path in sorted(folder.rglob("*.o")):
        for verified in programs(path):
            try:
                with kernel.Loaded(verified.program) as loaded:
                    agree(verified, loaded)
            except kernel.Refused:
                continue  # what Linux refuses and pybpf accepts is another test's matter
            compared += 1
    assert compared >= 6


def agree(verified: VerifiedProgram, loaded: kernel.Loaded) -> None:
    """Both engines do what Linux does, one packet after the other over the same maps."""
    theirs = [loaded.run(frame) for frame in FRAMES]
    for engine in ("interpreter", "jit"):
        ours = pybpf.instantiate(verified, engine=engine)  # type: ignore[arg-type]
        for frame, (r0, left) in zip(FRAMES, theirs, strict=True):
            result = ours.run(frame)
            # Linux gives metadata with the packet.
            assert (result.value & 0xFFFF_FFFF, result.packet) == (r0, left[len(left) - len(result.packet) :])
        for name, map in ours.maps.items():
            assert dict(map) == dict(loaded.contents(name))
