"""Two tiers: quick code at once, and optimised code in its place when a thread in the background has made it.

Runs do not wait: a run that has begun ends in the code that it began in, the next begins in whatever is there. Both tiers do the same.
"""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections import deque
from dataclasses import replace
from typing import Final

from pybpf.errors import InternalError
from pybpf.jit.codegen import Level, build, find
from pybpf.jit.driver import EXPORTS
from pybpf.jit.lower import moves_packet
from pybpf.jit.native import NativeProgram
from pybpf.jit.options import DEFAULT, Options
from pybpf.jit.source import ProgramSource
from pybpf.verifier.facts import VerifiedProgram

DELAY: Final = 0.1
"""Seconds before the thread begins: processes that live for less are spared the work, and need not wait for it to end."""


def compile_tiered(verified: VerifiedProgram, options: Options = DEFAULT) -> NativeProgram:
    """Compile a program quickly, and have it optimised in the background; optimised code that is in the cache is used at once.

    Raises what `pybpf.jit.compile` raises.
    """
    source = ProgramSource(verified, options)
    moves = moves_packet(verified.type, verified.facts)
    code = find(source, EXPORTS, Level.FULL)
    if code is not None:
        return NativeProgram(verified.program, verified.type, code, options, moves=moves)
    # Code that is soon replaced is not worth the look ahead, which is half the code again.
    code = build(ProgramSource(verified, replace(options, splits=False)), EXPORTS, Level.QUICK)
    native = NativeProgram(verified.program, verified.type, code, options, moves=moves)
    _background.add(native, source)
    return native


def wait() -> None:
    """Return when every program compiled so far has its optimised code."""
    _background.wait()


class _Background:
    """A thread that lives as long as there are programs to optimise.

    The interpreter ends when its threads have. It would be unsafe to leave LLVM while it is at work, so the thread ends with the program at hand
    once the main thread has.
    """

    def __init__(self) -> None:
        self._pending: deque[tuple[weakref.ref[NativeProgram], ProgramSource]] = deque()
        self._forget_thread()

    def _forget_thread(self) -> None:
        """There is none in the child of a fork, nor does anyone hold the lock."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, native: NativeProgram, source: ProgramSource) -> None:
        with self._lock:
            self._pending.append((weakref.ref(native, self._drop), source))
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="pybpf-optimise")
                try:
                    thread.start()
                except RuntimeError:  # no more threads, or the interpreter is ending: quick code does as well
                    self._pending.clear()
                else:
                    self._thread = thread

    def _drop(self, dead: weakref.ref[NativeProgram]) -> None:
        """Forget the source of a program that nobody holds any more. This may come at any moment: with the lock held, so without it; or
        at the end of the process, when the names of modules are gone.
        """
        for entry in list(self._pending):
            if entry[0] is dead:
                try:  # noqa: SIM105
                    self._pending.remove(entry)
                except ValueError:  # the thread has just taken it
                    pass

    def wait(self) -> None:
        thread = self._thread
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        main = threading.main_thread()
        main.join(DELAY)
        try:
            while main.is_alive():
                with self._lock:
                    if not self._pending:
                        self._thread = None
                        return
                    program, source = self._pending.popleft()
                if program() is not None:
                    _optimise(program, source)
        except BaseException:
            self._thread = None  # the next program to come has another
            raise


def _optimise(program: weakref.ref[NativeProgram], source: ProgramSource) -> None:
    try:
        code = build(source, EXPORTS, Level.FULL)
    except InternalError as error:
        warnings.warn(f"a program stays in its quick form: {error}", RuntimeWarning, stacklevel=2)
        return
    native = program()
    if native is not None:
        native.replace(code)


_background: Final = _Background()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_background._forget_thread)
