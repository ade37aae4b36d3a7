"""Batches from Python: the arrays of any batch, and the batch that was run last as a builtin function of CPython.

Whoever runs packets at some rate has a batch and an array for its results, and runs the program on them again and again. To look at both in Python takes as
long as hundreds of packets. So what was found to be right is noted in a record, and the function, machine code (`batch_ir`), asks whether it is the
same batch: by its address, which is forgotten when it dies. Results are looked at each time, since arrays change. All else is left to Python.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from pybpf.jit import batch_ir
from pybpf.jit.arrays import BatchAddresses
from pybpf.jit.builtin import capsule, function

if TYPE_CHECKING:
    from pybpf.packets import PacketBatch


@cache
def call_arrays() -> Callable[[tuple[object, ...]], int]:
    """A builtin function that runs any program on a batch, without the GIL: of a tuple of the cell's address and the arguments of the
    entry point `run_batch` (`pybpf.jit.driver`), all of them numbers but for the results, an object with a buffer for them; the result of that, or -1 where that
    is too small.
    """
    made: Callable[[tuple[object, ...]], int] = function("call_arrays", "call_arrays")
    return made


_LARGEST_COPY: Final = 1 << 16
"""Bytes up to which memory is kept for packets to be copied to."""


class LastBatch:
    """The batch that was run last by one instance.

    `name` is the program's; `cell` and `state` are addresses of words that `failure` keeps alive; it gives the exception that ended a run after so many packets, and makes the state
    ready for another. The GIL is held wherever the record changes.
    """

    def __init__(self, name: str, cell: int, state: int, failure: Callable[[int], BaseException]) -> None:
        import numpy as np

        self._words = (ctypes.c_uint64 * (batch_ir.BUSY // 8 + 1))(cell, state, id(np.ndarray))
        self._name = name
        self._failure = failure
        self._batch: weakref.ref[PacketBatch] | None = None
        self._scratch: Any = None

    def function(self, unusual: Callable[..., Any]) -> Callable[..., Any]:
        """Runs the batch that is noted, without the GIL; whatever else is asked for is asked of `unusual`."""
        made: Callable[..., Any] = function(
            "run_batch", self._name, capsule(self._words), unusual, self.raise_failure, sys.intern("out")
        )
        return made

    def note(self, batch: PacketBatch, addresses: BatchAddresses, *, copies: bool, limit: int) -> None:
        """Take a batch that was run without complaint for the last one. `copies`: the program may write to packets, none of which is longer than `limit`."""
        words = self._words
        noted = self._batch is not None and self._batch() is batch
        if noted or words[batch_ir.BUSY // 8] or (copies and limit > _LARGEST_COPY):
            return
        self._scratch = ctypes.create_string_buffer(limit + 1) if copies else None
        copy = ctypes.addressof(self._scratch) if copies else 0
        self._batch = weakref.ref(batch, partial(_forget, words))
        known: list[ctypes.c_uint64 | int] = [id(batch), *addresses, len(batch), copy, limit]
        words[batch_ir.BATCH // 8 : batch_ir.BUSY // 8] = known

    def raise_failure(self, done: int) -> NoReturn:
        """Raise the exception of the run that was stopped; the next may begin."""
        failure = self._failure(done)
        self._words[batch_ir.BUSY // 8] = 0
        raise failure


def _forget(words: ctypes.Array[ctypes.c_uint64], _: object) -> None:
    words[batch_ir.BATCH // 8] = 0
