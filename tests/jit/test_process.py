"""Native code and the process around it: signals, forks, a cache that cannot be written."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import pybpf
from pybpf import Instance, PacketBatch, Program
from tests.jit.test_builtin import COUNT, COUNTERS, SUM
from tests.jit.test_parallel import sample

LONG = "r0 = 0\n r3 = 0\nl:\n r0 ^= r3\n r0 *= 3\n r3 += 1\n if r3 < 20000 goto l\n exit"


def instance(text: str, type: str = "filter") -> Instance:
    return pybpf.instantiate(pybpf.verify(Program.from_asm(text, type, maps={"counters": COUNTERS})))


class Stop(Exception):
    """What the signal's handler raises."""


@contextmanager
def alarm(seconds: float) -> Iterator[list[int]]:
    """A signal in so many seconds, whose handler raises."""
    seen: list[int] = []

    def handle(number: int, _: object) -> None:
        seen.append(number)
        raise Stop

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield seen
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


RUNS: dict[str, Callable[[Instance, PacketBatch], object]] = {
    "run_batch": lambda fw, batch: fw.run_batch(batch),
    "run_batch of a list": lambda fw, batch: fw.run_batch(list(batch)),
    "run_parallel": lambda fw, batch: fw.run_parallel(batch, 2),
    "run": lambda fw, batch: [fw.run(packet) for packet in batch],
}


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_signal_is_seen_when_native_code_returns(run):
    """Its handler runs then, what it raises goes up, and the instance is none the worse."""
    fw, batch = instance(LONG, "memory"), sample(40_000)
    expected = fw.run(b"").value
    with alarm(0.05) as seen, pytest.raises(Stop):
        run(fw, batch)
    assert seen == [signal.SIGALRM]
    few = sample(5)
    assert fw.run_batch(few).tolist() == fw.run_parallel(few).tolist() == [expected] * 5
    assert fw.run(b"").value == fw.call(b"") == expected


@pytest.mark.slow
def test_child_of_a_fork_runs_what_was_compiled_before_and_compiles_anew():
    """Maps are as they were at the fork, and from then on each process's own."""
    fw, count, batch = instance(SUM), instance(COUNT), sample(100)
    expected, before = fw.run_batch(batch), count.run_batch(sample(10))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            same = (fw.run_batch(batch) == expected).all() and (fw.run_parallel(batch, 2) == expected).all()
            new = instance("r0 = r2\n r0 += 9\n exit").call(b"ab") == 11
            code = 0 if same and new and count.call(b"") == len(before) + 1 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert count.call(b"") == len(before) + 1
    assert np.array_equal(fw.run_batch(batch), expected)


SCRIPT = """
import pybpf
fw = pybpf.instantiate(pybpf.verify(pybpf.Program.from_asm("r0 = r2\\n exit", "filter")), level="full")
print(fw.run(b"abc").value, fw.call(b"ab"), fw.run_batch([b"", b"a"]).tolist())
"""


def run_script(**environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("3 2 [0, 1]\n", "")


@contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    """A file system in memory, where there is one to be had."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "variable"),
    [("size=4k,mode=700", "PYBPF_CACHE"), ("ro,mode=700", "HOME")],
    ids=["full disk", "read-only home"],
)
def test_programs_run_where_nothing_can_be_kept(tmp_path, options, variable):
    with mounted(tmp_path / "home", options):
        run_script(**{"PYBPF_CACHE": "", "XDG_CACHE_HOME": "", variable: str(tmp_path / "home")})


@pytest.mark.slow
def test_programs_run_where_there_is_no_home():
    run_script(HOME="/nonexistent/home", PYBPF_CACHE="", XDG_CACHE_HOME="")
