"""What a map should do, told by a dict: Linux's semantics (kernel/bpf/hashtab.c, arraymap.c) without a table."""

from __future__ import annotations

import errno


class HashModel:
    """A hash map of at most `max_entries` keys."""

    def __init__(self, max_entries: int) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.max_entries = max_entries

    def read(self, key: bytes) -> bytes | None:
        return self.entries.get(key)

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        if flags > 2:
            return -errno.EINVAL
        if key in self.entries:
            if flags == 1:
                return -errno.EEXIST
        elif flags == 2:
            return -errno.ENOENT
        elif len(self.entries) >= self.max_entries:
            return -errno.E2BIG
        self.entries[key] = value
        return 0

    def delete(self, key: bytes) -> int:
        return 0 if self.entries.pop(key, None) is not None else -errno.ENOENT


class ArrayModel:
    """An array of zeroed values."""

    def __init__(self, max_entries: int, value_size: int) -> None:
        self.values = [bytes(value_size)] * max_entries

    def read(self, key: bytes) -> bytes | None:
        index = int.from_bytes(key, "little")
        return self.values[index] if index < len(self.values) else None

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        if flags > 2:
            return -errno.EINVAL
        if self.read(key) is None:
            return -errno.E2BIG
        if flags == 1:
            return -errno.EEXIST
        self.values[int.from_bytes(key, "little")] = value
        return 0

    def delete(self, key: bytes) -> int:
        return -errno.EINVAL
