"""Machine code in memory that this process owns: images are copied to pages of their own, which are given back with the code.

Pages are writable until the code is complete and executable from then on, never both.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from functools import cache
from typing import Any, Final, Protocol

from pybpf.errors import InternalError
from pybpf.jit.image import SLOT, Image


class Code(Protocol):
    """Machine code. The memory lives as long as the object."""

    def address(self, name: str) -> int:
        """Where an exported function begins."""


class LoadedImage:
    """An image at an address: `Code`."""

    def __init__(self, image: Image) -> None:
        """Raises `InternalError` for a function that the process lacks, `OSError` where it may not have executable memory."""
        self._exports: Final = image.exports
        # The last view of the pages unmaps them.
        self._pages = mmap.mmap(-1, len(image.data), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._pages[: len(image.data)] = image.data
        for number, name in enumerate(image.imports):
            struct.pack_into("<Q", self._pages, image.slots + SLOT * number + 8, address_of(name))
        self._start = ctypes.addressof(ctypes.c_char.from_buffer(self._pages))
        if _mprotect()(self._start, len(image.data), mmap.PROT_READ | mmap.PROT_EXEC) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))

    def address(self, name: str) -> int:
        """See `Code.address`."""
        return self._start + self._exports[name]


def loads_images() -> bool:
    """Whether images run here: they are for x86-64, and pages are protected as POSIX has it."""
    return os.name == "posix" and os.uname().machine == "x86_64"


def address_of(name: str) -> int:
    """The address of a function of the process. Raises `InternalError` where there is none."""
    try:
        function = getattr(ctypes.pythonapi, name)
    except AttributeError:
        raise InternalError(
            f"generated code cannot be linked: the process has no function {name!r}"
        ) from None
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@cache
def _mprotect() -> Any:
    function = ctypes.CDLL(None, use_errno=True).mprotect
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function
