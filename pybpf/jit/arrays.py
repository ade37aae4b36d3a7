"""Where the numbers of numpy arrays are, for native code to read and write them."""

from __future__ import annotations

import ctypes
import weakref
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pybpf.errors import ArgumentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pybpf.jit.parallel import Share
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
        self._last: tuple[weakref.ref[PacketBatch], BatchAddresses] | None = None

    def find(self, batch: PacketBatch) -> BatchAddresses:
        """The addresses of a batch's arrays, good for as long as the batch lives."""
        last = self._last
        if last is not None and last[0]() is batch:
            return last[1]
        addresses = addresses_of(batch)
        self._last = weakref.ref(batch), addresses
        return addresses


def addresses_of(packets: PacketBatch | Share) -> BatchAddresses:
    """The addresses of the arrays of a batch or of a part of one, good for as long as these live."""
    data, offsets, lengths = packets.data, packets.offsets, packets.lengths
    return BatchAddresses(data.ctypes.data, len(data), offsets.ctypes.data, lengths.ctypes.data)


def check_results(results: NDArray[np.uint64], count: int) -> None:
    """Raise `ArgumentError` for anything but a writable, contiguous array of so many unsigned 64-bit numbers."""
    if (results.dtype is not _u64() and results.dtype != _u64()) or results.shape != (count,):
        raise ArgumentError(
            f"results: expected a contiguous uint64[{count}], got {results.dtype}{list(results.shape)}"
        )
    if not results.flags.carray:
        problem = "is not contiguous" if results.flags.writeable else "is read-only"
        raise ArgumentError(f"results: the array {problem}")


def result_address(results: NDArray[np.uint64], count: int) -> int:
    """Where native code is to write `count` results. Raises what `check_results` raises."""
    check_results(results, count)
    return ctypes.addressof(_BYTE.from_buffer(results)) if count else 0


@cache
def _u64() -> Any:
    """numpy's type of unsigned 64-bit numbers, of which there is usually one object."""
    import numpy as np

    return np.dtype(np.uint64)


_BYTE: Final[Any] = ctypes.c_char
