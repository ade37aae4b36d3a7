"""What can be done to a map by programs and Python alike: the operations, and how one implementation hands over to another.

A map starts with operations in Python (`Reference`). As soon as native code is bound to it, machine code does everybody's
work, Python's too, so that all threads keep to one locking protocol.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes: TypeAlias = NDArray[np.uint8]
    """An array of shape (n, size): one row of bytes for each key or value."""

BPF_ANY: Final = 0
BPF_NOEXIST: Final = 1
BPF_EXIST: Final = 2
"""Flags of an update (include/uapi/linux/bpf.h): create or replace, create only, replace only."""


class Operations(Protocol):
    """What an implementation offers, to the bodies of helpers and to `BpfMap`.

    Keys and values are bytes of exactly the map's sizes: callers see to it. Each call is atomic toward every other one.
    Error numbers are Linux's (kernel/bpf/arraymap.c, hashtab.c), negative.
    """

    @property
    def key_size(self) -> int:
        """Bytes of a key."""

    @property
    def value_size(self) -> int:
        """Bytes of a value."""

    def lookup(self, key: bytes) -> int | None:
        """The offset of the key's value in the block, None where the key is absent."""

    def read(self, key: bytes) -> bytes | None:
        """A copy of the key's value, None where the key is absent."""

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """Zero, or -EINVAL for unknown flags, -EEXIST, -ENOENT, -E2BIG (full, or an index out of range), -EPERM."""

    def delete(self, key: bytes) -> int:
        """Zero, or -ENOENT, or -EINVAL where entries cannot be deleted."""

    def snapshot(self) -> tuple[Bytes, Bytes]:
        """Copies of all keys and their values, row by row. Each entry is consistent; no key comes twice."""


class Reference(ABC):
    """Operations in Python: a lock, and the methods with an underscore that run under it.

    `retire` ends their time: whoever still holds the object is passed on to its successor.
    """

    def __init__(self, key_size: int, value_size: int) -> None:
        self.key_size: Final = key_size
        self.value_size: Final = value_size
        self._lock = threading.Lock()
        self._successor: Operations | None = None

    def retire(self, successor: Operations) -> None:
        """Let the operation under way finish, then leave all others to `successor`."""
        with self._lock:
            self._successor = successor

    def lookup(self, key: bytes) -> int | None:
        """See `Operations.lookup`."""
        with self._lock:
            if self._successor is None:
                return self._lookup(key)
        return self._successor.lookup(key)

    def read(self, key: bytes) -> bytes | None:
        """See `Operations.read`."""
        with self._lock:
            if self._successor is None:
                offset = self._lookup(key)
                return None if offset is None else self._copy(offset)
        return self._successor.read(key)

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """See `Operations.update`."""
        with self._lock:
            if self._successor is None:
                return self._update(key, value, flags)
        return self._successor.update(key, value, flags)

    def delete(self, key: bytes) -> int:
        """See `Operations.delete`."""
        with self._lock:
            if self._successor is None:
                return self._delete(key)
        return self._successor.delete(key)

    def snapshot(self) -> tuple[Bytes, Bytes]:
        """See `Operations.snapshot`."""
        with self._lock:
            if self._successor is None:
                return self._snapshot()
        return self._successor.snapshot()

    @abstractmethod
    def _lookup(self, key: bytes) -> int | None: ...

    @abstractmethod
    def _copy(self, offset: int) -> bytes: ...

    @abstractmethod
    def _update(self, key: bytes, value: bytes, flags: int) -> int: ...

    @abstractmethod
    def _delete(self, key: bytes) -> int: ...

    @abstractmethod
    def _snapshot(self) -> tuple[Bytes, Bytes]: ...


def rows(memory: memoryview, offset: int, size: int, count: int, stride: int) -> Any:
    """A view of `count` rows of `size` bytes, the first at `offset`, one every `stride` bytes. Not a copy."""
    import numpy as np

    return np.ndarray((count, size), np.uint8, memory, offset, (stride, 1))
