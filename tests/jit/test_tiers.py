"""Quick code that becomes optimised code: while it runs, across forks, and when the interpreter ends."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

import pybpf
from pybpf import InternalError, PacketBatch, Program
from pybpf.jit import compile_tiered, tiers
from pybpf.jit.codegen import Level, Source
from tests.jit.test_builtin import SUM

BLUR = "\n".join(f"r0 *= {2 * n + 3}\n r0 ^= r3\n r3 += r0" for n in range(60))


@pytest.fixture(autouse=True)
def _new_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYBPF_CACHE", str(tmp_path))
    monkeypatch.setattr(tiers, "DELAY", 0)


def verified(text: str = SUM) -> pybpf.VerifiedProgram:
    return pybpf.verify(Program.from_asm(text, "filter"))


def test_code_is_replaced_and_results_stay():
    """Whoever holds the function, the instance or a batch goes on as before."""
    native = compile_tiered(verified())
    quick, instance = native.code, native.bind()
    function = instance.builtin(instance.run)
    assert function is not None
    packets = [b"", b"a", b"ab", bytes(range(100))]
    batch, results = PacketBatch.from_packets(packets), np.zeros(4, np.uint64)
    seen = []
    for _ in range(2):
        instance.run_batch(batch, results)
        seen.append(
            ([function.call(p) for p in packets], [instance.run(p) for p in packets], results.tolist())
        )
        tiers.wait()
    assert native.code is not quick
    assert seen[0] == seen[1] == ([0, 1, 2 + ord("b"), 101],) * 3


def test_optimised_code_that_is_in_the_cache_is_used_at_once(monkeypatch):
    native = compile_tiered(verified())
    quick = native.code
    tiers.wait()
    assert native.code is not quick
    monkeypatch.setattr(tiers, "build", None)
    assert compile_tiered(verified()).bind().run(b"ab") == 2 + ord("b")


def test_program_that_nobody_holds_is_not_kept_for_it(monkeypatch):
    monkeypatch.setattr(tiers, "DELAY", 0.2)
    proof = verified()
    kept = [weakref.ref(compile_tiered(proof)), weakref.ref(proof)]
    del proof
    gc.collect()
    assert [one() for one in kept] == [None, None]
    tiers.wait()


def test_failure_leaves_the_quick_code_and_is_told(monkeypatch):
    build = tiers.build

    def fail(source: Source, exports: object, level: Level) -> object:
        if level is Level.FULL:
            raise InternalError("no")
        return build(source, tiers.EXPORTS, level)

    monkeypatch.setattr(tiers, "build", fail)
    native = compile_tiered(verified())
    with pytest.warns(RuntimeWarning, match="stays in its quick form: .*no"):
        tiers.wait()
    assert native.bind().run(b"ab") == 2 + ord("b")


def test_thread_that_died_is_followed_by_another(monkeypatch):
    """Of memory, say, or of a warning that is made an error."""
    build, dead = tiers.build, []

    def fail(source: Source, exports: object, level: Level) -> object:
        if level is Level.FULL and not dead:
            dead.append(source)
            raise MemoryError
        return build(source, tiers.EXPORTS, level)

    monkeypatch.setattr(tiers, "build", fail)
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    first = compile_tiered(verified())
    tiers.wait()
    second = compile_tiered(verified("r0 = 7\n exit"))
    quick = second.code
    tiers.wait()
    assert second.code is not quick
    assert (first.bind().run(b"ab"), second.bind().run(b"")) == (2 + ord("b"), 7)


def test_levels_of_an_instance():
    proof = verified()
    for level in ("quick", "full", "tiered"):
        assert pybpf.instantiate(proof, level=level).call(b"ab") == 2 + ord("b")
    with pytest.raises(pybpf.ArgumentError, match="unknown level 'best': known are tiered, quick, full"):
        pybpf.instantiate(proof, level="best")  # type: ignore[arg-type]
    tiers.wait()


@pytest.mark.slow
def test_runs_while_code_is_replaced(monkeypatch):
    """Threads run a program all the time; every result is right, before, during and after."""
    may_begin, build = threading.Event(), tiers.build

    def gated(source: Source, exports: object, level: Level) -> object:
        if level is Level.FULL:
            may_begin.wait()
        return build(source, tiers.EXPORTS, level)

    monkeypatch.setattr(tiers, "build", gated)
    programs = [compile_tiered(verified(f"r0 = r2\n r3 = 7\n {BLUR}\n r0 += {n}\n exit")) for n in range(6)]
    instances = [program.bind() for program in programs]
    packet, stop = bytes(5), threading.Event()
    expected = pybpf.instantiate(verified(f"r0 = r2\n r3 = 7\n {BLUR}\n exit"), engine="interpreter").call(
        packet
    )
    wrong: list[int] = []

    def work() -> None:
        functions = [instance.builtin(instance.run) for instance in instances]
        while not stop.is_set():
            for number, function in enumerate(functions):
                assert function is not None
                for value in (function.call(packet), instances[number].run(packet)):
                    if value != expected + number & 2**64 - 1:
                        wrong.append(value)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    quick = [program.code for program in programs]
    may_begin.set()
    tiers.wait()
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert all(program.code is not code for program, code in zip(programs, quick, strict=True))


SCRIPT = """
import os, sys, threading, pybpf
from pybpf.jit import tiers
tiers.DELAY = 0
made, begun, build = threading.Event(), threading.Event(), tiers.build
def gated(source, exports, level):
    if level is tiers.Level.FULL:
        begun.set()
        made.wait()
    return build(source, exports, level)
tiers.build = gated
blur = "\\n".join(f"r0 *= {2 * n + 3}\\n r0 ^= r3\\n r3 += r0" for n in range(300))
proofs = [pybpf.verify(pybpf.Program.from_asm(f"r0 = r2\\n r3 = {n}\\n {blur}\\n exit", "filter")) for n in range(8)]
instances = [pybpf.instantiate(proof) for proof in proofs]
values = [instance.call(b"abc") for instance in instances]
begun.wait()
made.set()
"""


def run(script: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYBPF_CACHE": str(cache)}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT + script], capture_output=True, text=True, timeout=60, env=environment
    )


@pytest.mark.slow
@pytest.mark.parametrize("end", ["", "sys.exit(0)", "raise SystemExit"])
def test_interpreter_ends_while_code_is_being_optimised(tmp_path, end):
    """No crash, no wait for all the programs that have not been begun."""
    done = run(f"print(len(values))\n{end}", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "8\n", "")
    assert len(list(tmp_path.iterdir())) < 8 * 2 + 1


@pytest.mark.slow
def test_fork_while_code_is_being_optimised(tmp_path):
    """The child runs what it has, compiles anew, and has a thread of its own for what comes."""
    done = run(
        """
for turn in range(3):
    child = os.fork()
    if child == 0:
        assert [instance.call(b"abc") for instance in instances] == values
        text = f"r0 = r2\\n r3 = {100 + turn}\\n {blur}\\n exit"
        proof = pybpf.verify(pybpf.Program.from_asm(text, "filter"))
        new = pybpf.instantiate(proof)
        before = new.call(b"abc")
        tiers.wait()
        full = pybpf.instantiate(proof, level="full").call(b"abc")
        os._exit(0 if before == new.call(b"abc") == full else 1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""",
        tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n0\n0\n", "")
