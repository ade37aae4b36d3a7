"""Where the numbers of numpy arrays are, for native code to read and write them."""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from pybpf.errors import ArgumentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pybpf.packets import PacketBatch


class BatchAddresses(NamedTuple):
    """The arrays of a batch, as the batch entry point takes them."""

    data: int
    size: int
    offsets: int
    lengths: int


class AddressBook:
    """Knows the addresses of the batch that was last asked for: numpy takes a microsecond to tell one."""

    def __init__(self) -> None:
        self._last: tuple[tuple[weakref.ref[Any], ...], BatchAddresses] | None = None

    def find(self, batch: PacketBatch) -> BatchAddresses:
        """The addresses of a batch's arrays, good for as long as the batch lives."""
        last = self._last
        if last is not None:
            (data, offsets, lengths), addresses = last
            if data() is batch.data and offsets() is batch.offsets and lengths() is batch.lengths:
                return addresses
        arrays = batch.data, batch.offsets, batch.lengths
        data_at, offsets_at, lengths_at = (array.ctypes.data for array in arrays)
        addresses = BatchAddresses(data_at, len(batch.data), offsets_at, lengths_at)
        self._last = tuple(weakref.ref(array) for array in arrays), addresses
        return addresses


def result_pointer(results: NDArray[np.uint64], count: int) -> Any:
    """A pointer for native code to write `count` results through.

    Raises `ArgumentError` for anything but a writable, contiguous array of as many unsigned 64-bit numbers.
    """
    if results.shape != (count,) or results.dtype.str != "<u8" or not results.flags.c_contiguous:
        raise ArgumentError(
            f"results: expected a contiguous uint64[{count}], got {results.dtype}{list(results.shape)}"
        )
    if not results.flags.writeable:
        raise ArgumentError("results: the array is read-only")
    return ctypes.byref(ctypes.c_char.from_buffer(results.data)) if count else None
