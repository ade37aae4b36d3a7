"""The tests that have to notice: collected once, each then run in a forked process.

A forked process begins with what the collection left, so a broken function has left nothing behind that was computed before. `reach` runs
every test once, unbroken, and remembers which lines of the verifier it executes and what it costs; `trial` runs those that reach a mutant's lines, cheapest
first, until one fails.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import Any, Final, TypeVar

import coverage
import hypothesis
import pytest
from _pytest.runner import runtestprotocol

from mutation.mutants import Mutant
from pybpf.verifier.view import reduce

BATCH: Final = 50
"""Tests whose reach is measured in one process. One that finds a number of an earlier one memoised reaches less than it could."""
MEMORY: Final = 3 << 30
"""Bytes of address space that a process may take beyond what it began with."""


@dataclass(slots=True)
class Reached:
    """What one test does while nothing is broken."""

    passed: bool = True
    seconds: float = 0.0
    """Processor time."""
    lines: dict[str, list[int]] = field(default_factory=dict)
    """File -> the lines that it executes."""


@dataclass(slots=True)
class Result:
    """What became of a mutant."""

    key: str
    digest: str
    verdict: str = "survived"
    """``caught``, ``survived``, ``unreached``, or ``broken`` where it cannot be made."""
    by: str = ""
    """The test that noticed."""
    run: int = 0
    """How many tests ran."""
    left: int = 0
    """How many tests that reach the place were not run for want of time."""


def with_tests(paths: Sequence[str], then: Callable[[list[pytest.Item]], int]) -> int:
    """Collect the tests of some files and call `then` with them, inside the session; what it returns.

    Tests at random are the same ones each time, and do not look for the smallest failure.
    """
    hypothesis.settings.register_profile(
        "mutation",
        database=None,
        derandomize=True,
        deadline=None,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.settings.load_profile("mutation")
    session = _Session(then)
    plugins = [
        word for name in ("cacheprovider", "terminal", "xdist", "cov") for word in ("-p", f"no:{name}")
    ]
    options = ["-o", "addopts=--strict-markers --import-mode=importlib", "--capture=no"]
    status = pytest.main([*plugins, *options, *paths], plugins=[session])
    if session.answer is None:
        raise SystemExit(f"no tests were collected (pytest gave {status!r})")
    return session.answer


class _Session:
    """In the place of the loop that runs all tests."""

    def __init__(self, then: Callable[[list[pytest.Item]], int]) -> None:
        self.then = then
        self.answer: int | None = None

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.items and not session.testsfailed:
            self.answer = self.then(session.items)
        return True


_T = TypeVar("_T")


def forked(
    scratch: Path, jobs: int, tasks: Sequence[_T], work: Callable[[_T, Path], None]
) -> Iterator[tuple[_T, Any]]:
    """Each task done in a process of its own, `jobs` at a time; what it left as JSON, None where it left nothing."""
    running: dict[int, tuple[_T, Path]] = {}
    waiting = list(reversed(tasks))
    scratch.mkdir(parents=True, exist_ok=True)
    gc.freeze()
    while waiting or running:
        while waiting and len(running) < jobs:
            task = waiting.pop()
            sys.stdout.flush()
            sys.stderr.flush()
            out = scratch / f"task-{len(waiting)}.json"
            out.unlink(missing_ok=True)
            process = os.fork()
            if process == 0:
                _isolate()
                try:
                    work(task, out)
                finally:
                    os._exit(0)
            running[process] = (task, out)
        process, _ = os.wait()
        task, out = running.pop(process)
        yield task, json.loads(out.read_text()) if out.exists() else None
        out.unlink(missing_ok=True)


def _isolate() -> None:
    """A broken verifier may ask for all memory, or write where a terminal is."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)


def _passes(item: pytest.Item) -> bool:
    reports = runtestprotocol(item, log=False, nextitem=None)
    return not any(report.failed for report in reports)


def reach(
    items: Sequence[pytest.Item], sources: Path, store: Path, jobs: int, progress: Callable[[int], None]
) -> dict[str, Reached]:
    """What each test reaches, kept in a file for as long as neither the sources nor the test change."""
    sources_digest = _digest(*(path.read_bytes() for path in sorted(sources.glob("*.py"))))
    texts = {path: path.read_bytes() for path in {item.path for item in items}}
    digests = {
        item.nodeid: _digest(sources_digest.encode(), texts[item.path], _parameters(item)) for item in items
    }
    kept = json.loads(store.read_text()) if store.exists() else {}
    found = {
        name: Reached(**kept[name]["reached"])
        for name, digest in digests.items()
        if name in kept and kept[name]["digest"] == digest
    }
    missing = [item for item in items if item.nodeid not in found]

    def work(batch: list[pytest.Item], out: Path) -> None:
        measured = coverage.Coverage(data_file=None, include=[f"{sources}/*"], config_file=False)
        measured.start()
        entries = {}
        for item in batch:
            reduce.cache_clear()
            measured.switch_context(item.nodeid)
            begin = time.process_time()
            passed = _passes(item)
            entries[item.nodeid] = Reached(passed, time.process_time() - begin)
        measured.stop()
        data = measured.get_data()
        for name, entry in entries.items():
            data.set_query_context(name)
            entry.lines = {Path(file).stem: sorted(data.lines(file) or ()) for file in data.measured_files()}
        out.write_text(json.dumps({name: asdict(entry) for name, entry in entries.items()}))

    batches = [missing[at : at + BATCH] for at in range(0, len(missing), BATCH)]
    for batch, left in forked(store.parent, jobs, batches, work):
        for item in batch:
            found[item.nodeid] = Reached(**left[item.nodeid]) if left else Reached(passed=False)
        progress(len(found))
    kept |= {name: {"digest": digests[name], "reached": asdict(entry)} for name, entry in found.items()}
    store.write_text(json.dumps(kept))
    return found


def _digest(*texts: bytes) -> str:
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


def _parameters(item: pytest.Item) -> bytes:
    """What a test is given, as text that is the same in each process."""
    given = getattr(item, "callspec", None)
    return re.sub(r" at 0x[0-9a-f]+", "", repr(given.params if given else "")).encode()


def trial(
    mutant: Mutant, items: Sequence[pytest.Item], costs: Sequence[float], budget: float, out: Path
) -> None:
    """Break the code and run tests until one fails or the budget of processor seconds is spent; for a forked process.

    A test that takes ten times what it took unbroken, and five seconds more, has noticed too.
    """
    result = Result(mutant.key, mutant.digest)

    def report(verdict: str, by: str = "") -> None:
        result.verdict, result.by = verdict, by
        out.write_text(json.dumps(asdict(result)))

    def late(number: int, frame: FrameType | None) -> None:
        report("caught", f"{items[result.run - 1].nodeid} (endless)")
        os._exit(0)

    try:
        apply(mutant)
    except Exception as error:
        report("broken", repr(error))
        return
    signal.signal(signal.SIGPROF, late)
    signal.signal(signal.SIGALRM, late)
    end = time.process_time() + budget
    for position, (item, cost) in enumerate(zip(items, costs, strict=True)):
        if time.process_time() + cost > end:
            result.left = len(items) - position
            break
        result.run += 1
        signal.setitimer(signal.ITIMER_PROF, 10 * cost + 5)
        signal.setitimer(signal.ITIMER_REAL, 100 * cost + 60)
        passed = _passes(item)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if not passed:
            report("caught", item.nodeid)
            return
    report("survived")


def apply(mutant: Mutant) -> None:
    """Put a mutant's code into the function that everybody already holds."""
    module = importlib.import_module(_module_name(mutant.path))
    _function(module, mutant.function).__code__ = mutant.code()


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    name = ".".join(parts[parts.index("pybpf") :])
    return name.removesuffix(".__init__")


def _function(module: ModuleType, name: str) -> FunctionType:
    """A function by its qualified name, out of whatever wraps it."""
    found: Any = module
    for part in name.split("."):
        found = vars(found)[part]
    while not isinstance(found, FunctionType) or hasattr(found, "__wrapped__"):
        for inner in ("__wrapped__", "__func__", "fget", "func"):
            if hasattr(found, inner):
                found = getattr(found, inner)
                break
        else:
            raise TypeError(f"{name} is no function: {found!r}")
    return found
