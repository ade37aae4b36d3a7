"""A program as a builtin function of CPython: one packet for some nanoseconds, where a call through ctypes takes hundreds.

The function is machine code that asks CPython for the packet's bytes by the buffer protocol and calls the program (`builtin_ir`). It is one for
all programs, made and loaded once in a process; what it calls is in a record that the function object carries.

`run` makes its result itself, and in doing so relies on more: how a tuple lies in memory, which is looked at before (`Results.fit`).

All that is out of the ordinary is left to Python: a packet of no proper length, an object that is no buffer, a run within a run (a helper
written in Python may start one), a trap. The GIL is held, so a record needs no lock.
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NoReturn

from pybpf.jit import builtin_ir, codegen

if TYPE_CHECKING:
    from pybpf.regions import Bytes

LARGEST_COPY: Final = 1 << 14
"""A packet that a program may write is copied to the stack of the thread up to this size."""

_METH_KEYWORDS, _METH_O, _METH_FASTCALL = 0x02, 0x08, 0x80  # Include/methodobject.h

_CALL: Final = (
    b"Run the program on one packet, any object with the buffer protocol: r0 as an unsigned number."
)
_RUN: Final = b"""(packet, context=None)
--

Run the program over one packet, which is left as it is: see `pybpf.Instance.run`."""
_RUN_BATCH: Final = b"""(batch, out=None)
--

Run the program over packets in one call: see `pybpf.Instance.run_batch`."""
_SIGNED: Final = {"run": _RUN, "run_batch": _RUN_BATCH}
"""The functions that take more than an object. CPython reads the signature where the text begins with name and bracket."""


@cache
def has_lock() -> bool:
    """Whether this Python has a GIL, which `Builtin` relies on."""
    return not sysconfig.get_config_var("Py_GIL_DISABLED")


class Builtin:
    """The builtin functions of one instance: `call` and `run` are for whoever runs packets.

    `cell` and `state` are addresses of words that `unusual` or `failure` keep alive. `unusual` runs a packet in the ordinary way; `failure`
    gives the exception of a run that was stopped, and makes the state ready for another. `results` says what `run` gives.
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
        results: Results | None = None,
    ) -> None:
        self.unusual: Final = unusual
        minimum, limit = lengths
        words = cell, state, minimum, min(limit, LARGEST_COPY) if copies else limit, copies, 0
        made = (_NO_RESULTS, (0, 0)) if results is None else (results.words, results.spare())
        record = _Record((*words, *made[0], *made[1]), failure)
        parts = record.capsule, unusual, record.raise_failure
        self.raise_failure: Final = record.raise_failure
        self.call: Final[Callable[[Bytes], int]] = function("call", name, *parts)
        self._call_each = function("call_each", name, *parts)
        run = None
        if results is not None:
            run = function("run", name, record.capsule, results.unusual, record.raise_failure, results)
        self.run: Final[Callable[..., Any] | None] = run

    def call_each(self, packets: list[Bytes], results: int, first: int, end: int) -> int:
        """Run packets of a list that nobody else has, from the number `first` to before `end`; r0 of each goes to its place in the
        array of 64-bit numbers at the address `results`. The number of the first that was not run, which is `end`, or is
        for `unusual` to run; -1 - i where run i was stopped: `raise_failure` says why.
        """
        done: int = self._call_each((packets, results, first, end))
        return done


class Results:
    """What `run` gives: a `type` made of tuple, of r0, the packet afterwards and the name of the verdict. `unusual` runs a packet in the
    ordinary way, with whatever other arguments.

    Making an object costs more than many a program, so the last two results are kept and used again once nobody else has them.
    """

    def __init__(
        self, type_: type[tuple[Any, ...]], verdicts: Mapping[int, str], unusual: Callable[..., Any]
    ) -> None:
        count = 1 + max((value for value in verdicts if value < _MOST_NAMES), default=-1)
        other = verdicts.get(-1)
        self.unusual: Final = unusual
        # The objects stay alive with this, which the function refers to.
        self._kept = type_, other, [verdicts.get(value, other) for value in range(count)]
        self._names = (ctypes.c_uint64 * count)(*map(_address, self._kept[2]))
        self.words: Final = id(type_), count, ctypes.addressof(self._names), _address(other), _ITEMS

    @staticmethod
    def fit(verdicts: Mapping[int, str]) -> bool:
        """Whether results can be made here: values with a name are few, and tuples lie in memory as they did in every CPython so far."""
        return all(value < _MOST_NAMES for value in verdicts) and _tuples_are_known()

    def spare(self) -> tuple[int, int]:
        """Two results that nobody has, at these addresses, each with one reference that is the caller's to give back."""
        type_ = self._kept[0]
        spare = [tuple.__new__(type_, (0, b"", "")) for _ in range(2)]
        for one in spare:
            _keep(one)
        return id(spare[0]), id(spare[1])


_MOST_NAMES: Final = 256
_ITEMS: Final = tuple.__basicsize__
_NO_RESULTS: Final = (0, 0, 0, 0, 0)


@cache
def _tuples_are_known() -> bool:
    """Whether a tuple is a count of references, a type, a size, perhaps a hash that nobody has asked for, and the items."""
    items = "one", 2, b"three"
    made = (*items,)  # not the one that the compiler made
    words = (ctypes.c_uint64 * (_ITEMS // 8 + 3)).from_address(id(made))
    references, hash_ = words[0] & 0xFFFF_FFFF, words[3 : _ITEMS // 8]
    return (
        references == sys.getrefcount(made) - 1
        and words[1:3] == [id(tuple), 3]
        and hash_ in ([], [2**64 - 1])
        and words[_ITEMS // 8 :] == [id(item) for item in items]
    )


def _address(thing: object) -> int:
    """Where an object is, 0 for None."""
    return 0 if thing is None else id(thing)


class _Record:
    """The record that a function refers to by a capsule; `raise_failure` keeps it alive."""

    def __init__(self, words: Sequence[int], failure: Callable[[], BaseException]) -> None:
        self._words = (ctypes.c_uint64 * len(words))(*words)
        self._failure = failure
        self.capsule: Final = capsule(self._words)

    def __del__(self) -> None:
        for place in (builtin_ir.NEWER, builtin_ir.OLDER):
            if self._words[place // 8]:
                _give_back(self._words[place // 8])

    def raise_failure(self) -> NoReturn:
        """Raise the exception of the run that was stopped; the next may begin."""
        failure = self._failure()
        self._words[builtin_ir.BUSY // 8] = 0
        raise failure


def capsule(words: ctypes.Array[ctypes.c_uint64]) -> Any:
    """What machine code finds a record by; whoever has made it keeps the words alive."""
    return _new_capsule(ctypes.addressof(words), None, None)


def function(entry: str, name: str, *parts: object) -> Any:
    """A builtin function whose self is a tuple of some objects."""
    flags, doc = _METH_O, _CALL
    if entry in _SIGNED:
        flags, doc = _METH_FASTCALL | _METH_KEYWORDS, name.encode() + _SIGNED[entry]
    method = _Method(name.encode(), _trampoline().address(entry), flags, doc)
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


_keep: Final = ctypes.pythonapi.Py_IncRef
_keep.argtypes, _keep.restype = [ctypes.py_object], None

_give_back: Final = ctypes.pythonapi.Py_DecRef
_give_back.argtypes, _give_back.restype = [ctypes.c_void_p], None

_new_capsule: Final = ctypes.pythonapi.PyCapsule_New
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_new_capsule.restype = ctypes.py_object

_new_function: Final = ctypes.pythonapi.PyCFunction_NewEx
_new_function.argtypes = [ctypes.POINTER(_Method), ctypes.py_object, ctypes.py_object]
_new_function.restype = ctypes.py_object


@cache
def _trampoline() -> Any:
    return codegen.build(builtin_ir.TEXT, builtin_ir.EXPORTS)
