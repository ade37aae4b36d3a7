"""The memory of a map: one anonymous mapping, zeroed, at an address that never changes."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from contextlib import suppress
from typing import Final

from pybpf.errors import MapError
from pybpf.memory import TAG_SHIFT

_LARGE: Final = 1 << 24
"""Bytes from which a map asks for large pages: with small ones, looking for an address costs as much as the access behind it."""

MAX_SIZE: Final = 1 << TAG_SHIFT
"""Bytes that a program's addresses can tell apart within one map (see `pybpf.memory`)."""


class Block:
    """`size` bytes at `address` (the host's), which Python reads and writes through `memory`.

    The pages come zeroed and cost nothing until they are touched. They are private: after a fork parent and child each have
    a map of their own. They are released when the last view of them is gone, a numpy array's included.
    """

    __slots__ = ("address", "memory", "size")

    def __init__(self, size: int, map: str) -> None:
        """Raises `MapError` (ENOMEM) where the machine has no such memory; `map` is the name that it blames."""
        if size > MAX_SIZE:
            raise MapError(f"needs {size:,} bytes, and a program can address {MAX_SIZE:,}", map, errno.ENOMEM)
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if size > total:
            raise MapError(f"needs {size:,} bytes, and this machine has {total:,}", map, errno.ENOMEM)
        try:
            pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise MapError(f"needs {size:,} bytes: {error.strerror}", map, errno.ENOMEM) from None
        if size >= _LARGE and hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a wish: a system that has no large pages serves it as it can
                pages.madvise(mmap.MADV_HUGEPAGE)
        self.size = size
        self.memory = memoryview(pages)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
