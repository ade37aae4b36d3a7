"""The XDP examples in Linux itself: loaded by libbpf, accepted by its verifier, run by its JIT on the same packets."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.examples.conftest import EXAMPLES, Start
from tests.examples.models import MODELS, Maps, Model, XdpFirewall
from tests.examples.packets import random_frame, samples

pytestmark = [
    pytest.mark.slow,
    pytest.mark.kernel,
    pytest.mark.skipif(os.geteuid() != 0, reason="asking the kernel needs root"),
    pytest.mark.skipif(shutil.which("bpftool") is None, reason="bpftool is not installed"),
]

FRAMES = [
    frame for frame in samples() + [random_frame(Random(seed)) for seed in range(50)] if len(frame) >= 14
]
"""The kernel's test run takes no frame shorter than an Ethernet header."""


@pytest.fixture(scope="module")
def bpffs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A BPF file system of our own to pin programs and maps in."""
    path = tmp_path_factory.mktemp("bpffs")
    mounted = subprocess.run(["mount", "-t", "bpf", "none", path], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no BPF file system can be mounted: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", path], check=True)


class InKernel:
    """An example that libbpf has loaded, pinned with its maps in a directory."""

    def __init__(self, name: str, cpu: str, pins: Path, scratch: Path) -> None:
        pins.mkdir()
        self.pins, self.scratch = pins, scratch
        loaded = EXAMPLES / "objects" / cpu / f"{name}.o"
        self.bpftool("prog", "load", loaded, pins / name, "pinmaps", pins)
        self.program = pins / name

    @staticmethod
    def bpftool(*arguments: str | Path) -> Any:
        done = subprocess.run(["bpftool", "-j", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout or "null")

    def prepare(self, model: Model) -> None:
        for name, entries in model.maps().items():
            for key, value in entries.items():
                words = ["key", "hex", *key.hex(" ").split(), "value", "hex", *value.hex(" ").split()]
                self.bpftool("map", "update", "pinned", self.pins / name, *words)

    def run(self, frame: bytes) -> tuple[int, bytes]:
        """The verdict, and the packet afterwards."""
        (self.scratch / "in").write_bytes(frame)
        (self.scratch / "out").unlink(missing_ok=True)
        files = ["data_in", self.scratch / "in", "data_out", self.scratch / "out"]
        result = self.bpftool("prog", "run", "pinned", self.program, *files, "repeat", "1")
        return result["retval"], (self.scratch / "out").read_bytes()

    def contents(self, names: Maps) -> Maps:
        """The maps of these names; entries that are all zero are left out."""

        def unhex(words: list[str]) -> bytes:
            return bytes(int(word, 16) for word in words)

        dumps = {name: self.bpftool("map", "dump", "pinned", self.pins / name) for name in names}
        return {
            name: {unhex(e["key"]): unhex(e["value"]) for e in dump if any(unhex(e["value"]))}
            for name, dump in dumps.items()
        }


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("xdp")])
def test_linux_agrees(start: Start, cpu: str, engine: str, name: str, bpffs: Path, tmp_path: Path) -> None:
    """Verdict and packet of each run, and the maps at the end, are the same in Linux and here."""
    model = XdpFirewall([(bytes([10, 0, 0, 1]), 80, 6)]) if name == "xdp_firewall" else MODELS[name]()
    example, linux = start(name), InKernel(name, cpu, bpffs / f"{name}-{cpu}-{engine}", tmp_path)
    example.prepare(model)
    linux.prepare(model)
    for frame in FRAMES:
        result = example.instance.run(frame)
        assert (result.value, bytes(result.packet)) == linux.run(frame), frame.hex()
    ours = {
        name: {key: value for key, value in entries.items() if any(value)}
        for name, entries in example.contents().items()
    }
    theirs = linux.contents(ours)
    if name == "xdp_rate_limiter":  # Linux has its own clock: the sources are the same, the times are not
        assert ours["buckets"].keys() == theirs["buckets"].keys()
    else:
        assert ours == theirs
