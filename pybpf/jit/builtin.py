"""A program as a builtin function of CPython: one packet for some nanoseconds, where a call through ctypes takes hundreds.

The function is machine code that asks CPython for the packet's bytes by the buffer protocol and calls the program (`builtin_ir`). It is one for
all programs, made and loaded once in a process; what it calls is in a record that the function object carries.

All that is out of the ordinary is left to Python: a packet of no proper length, an object that is no buffer, a run within a run (a helper
written in Python may start one), a trap. The GIL is held, so a record needs no lock.
"""

from __future__ import annotations

import ctypes
import sysconfig
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NoReturn

from pybpf.jit import builtin_ir, codegen

if TYPE_CHECKING:
    from pybpf.regions import Bytes

LARGEST_COPY: Final = 1 << 14
"""A packet that a program may write is copied to the stack of the thread up to this size."""

_DOC: Final = b"Run the program on one packet, any object with the buffer protocol: r0 as an unsigned number."
_METH_O: Final = 8  # Include/methodobject.h


@cache
def has_lock() -> bool:
    """Whether this Python has a GIL, which `Builtin` relies on."""
    return not sysconfig.get_config_var("Py_GIL_DISABLED")


class Builtin:
    """The builtin functions of one instance: `call` is for whoever runs packets.

    `cell` and `state` are addresses of words that `unusual` or `failure` keep alive. `unusual` runs a packet in the ordinary way; `failure`
    gives the exception of a run that was stopped, and makes the state ready for another.
    """

    def __init__(
        self,
        name: str,
        *,
        cell: int,
        state: int,
        lengths: tuple[int, int],
        copies: bool,
        unusual: Callable[[Bytes], int],
        failure: Callable[[], BaseException],
    ) -> None:
        self.unusual: Final = unusual
        minimum, limit = lengths
        words = cell, state, minimum, min(limit, LARGEST_COPY) if copies else limit, copies, 0
        record = _Record(words, failure)
        parts = record.capsule, unusual, record.raise_failure
        self.raise_failure: Final = record.raise_failure
        self.call: Final[Callable[[Bytes], int]] = _function("call", name, *parts)
        self._call_each = _function("call_each", name, *parts)

    def call_each(self, packets: list[Bytes], results: int, first: int, end: int) -> int:
        """Run packets of a list that nobody else has, from the number `first` to before `end`; r0 of each goes to its place in the
        array of 64-bit numbers at the address `results`. The number of the first that was not run, which is `end`, or is
        for `unusual` to run; -1 - i where run i was stopped: `raise_failure` says why.
        """
        done: int = self._call_each((packets, results, first, end))
        return done


@cache
def call_arrays() -> Callable[[tuple[int, ...]], int]:
    """A builtin function that runs any program on a batch, without the GIL: of a tuple of the cell's address and the arguments of the
    entry point `run_batch` (`pybpf.jit.driver`), all of them numbers, the result of that.
    """
    function: Callable[[tuple[int, ...]], int] = _function("call_arrays", "call_arrays")
    return function


class _Record:
    """The record that a function refers to by a capsule; `raise_failure` keeps it alive."""

    def __init__(self, words: Sequence[int], failure: Callable[[], BaseException]) -> None:
        self._words = (ctypes.c_uint64 * len(words))(*words)
        self._failure = failure
        self.capsule: Final = _new_capsule(ctypes.addressof(self._words), None, None)

    def raise_failure(self) -> NoReturn:
        """Raise the exception of the run that was stopped; the next may begin."""
        failure = self._failure()
        self._words[builtin_ir.BUSY // 8] = 0
        raise failure


def _function(entry: str, name: str, *parts: object) -> Any:
    """A builtin function whose self is a tuple of some objects."""
    method = _Method(name.encode(), _trampoline().address(entry), _METH_O, _DOC)
    # The function does not own its method, so that is in the tuple too: CPython lets go of self last.
    return _new_function(ctypes.byref(method), (*parts, method), None)


class _Method(ctypes.Structure):
    """PyMethodDef (docs.python.org/3/c-api/structures.html)."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_new_capsule: Final = ctypes.pythonapi.PyCapsule_New
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_new_capsule.restype = ctypes.py_object

_new_function: Final = ctypes.pythonapi.PyCFunction_NewEx
_new_function.argtypes = [ctypes.POINTER(_Method), ctypes.py_object, ctypes.py_object]
_new_function.restype = ctypes.py_object


@cache
def _trampoline() -> Any:
    return codegen.build(builtin_ir.TEXT, builtin_ir.EXPORTS)
