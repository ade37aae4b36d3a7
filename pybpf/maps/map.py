"""What all maps have in common: the face that Python sees."""

from __future__ import annotations

import errno
import os
from collections.abc import ItemsView, Iterator, MutableMapping, ValuesView
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, SupportsIndex, TypeAlias

from pybpf.errors import MapError
from pybpf.instruction import ByteOrder
from pybpf.maps.block import Block
from pybpf.maps.layout import ArrayLayout, HashLayout, Layout
from pybpf.maps.operations import BPF_ANY, BPF_NOEXIST, Operations, Reference
from pybpf.program import MapSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pybpf.maps.typed import TypedMap

Key: TypeAlias = bytes | SupportsIndex
"""What stands where a key is wanted: its bytes, or for an array an index."""

MAX_ENTRIES: Final = (1 << 32) - 1

# Flags of map creation (include/uapi/linux/bpf.h) that change nothing for a map in user space.
NO_PREALLOC: Final = 1 << 0
NUMA_NODE: Final = 1 << 2
ZERO_SEED: Final = 1 << 6
RDONLY_PROG: Final = 1 << 7
MMAPABLE: Final = 1 << 10


@dataclass(frozen=True, slots=True)
class MapStatistics:
    """How full a map is.

    `size` is in bytes, of the whole block; `probes` the mean number of groups that a successful lookup reads (1 is the best,
    and what arrays have).
    """

    entries: int
    max_entries: int
    size: int
    probes: float


class BpfMap(MutableMapping[bytes, bytes]):
    """A map: a `MutableMapping` from keys to values, both bytes of the exact sizes that `spec` gives.

    A missing key is a `KeyError`; a key or value of another size, a full map and what a map type cannot do are a `MapError`
    with Linux's `errno`. Reading a value copies it; values change in place, so a program sees what Python writes and the
    other way round, at once. Iterating goes over a snapshot: an entry that was there all the time comes exactly once, one that
    comes or goes meanwhile may or may not be seen, and deleting while iterating is safe.

    `address` is where the block lies in this process, `memory` its bytes, `layout` what lies where. Programs and helpers use
    `operations`.
    """

    type_name: ClassVar[str]
    """The name of the map type."""
    layout_type: ClassVar[type[ArrayLayout] | type[HashLayout]]
    """Computes the layout from a spec."""
    allowed_flags: ClassVar[int]
    """Creation flags that are understood."""
    errors: ClassVar[dict[int, str]]
    """What an error number of an operation means for this type of map; ``{key}`` is the key."""

    def __init__(self, spec: MapSpec, layout: Layout) -> None:
        block = Block(layout.size, spec.name)
        self.spec: Final = spec
        self.layout = layout
        self.memory: Final = block.memory
        self.address: Final = block.address
        self.operations: Operations

    @classmethod
    def check(cls, spec: MapSpec) -> None:
        """Raise `MapError` (EINVAL) for sizes and flags that no map of this type can have."""
        for what in ("key_size", "value_size", "max_entries"):
            size = getattr(spec, what)
            if not 0 < size <= MAX_ENTRIES:
                raise MapError(f"{what} is {size:,}: expected 1 to {MAX_ENTRIES:,}", spec.name, errno.EINVAL)
        unknown = spec.flags & ~(cls.allowed_flags | (RDONLY_PROG if spec.read_only else 0))
        if unknown:
            raise MapError(
                f"flags {unknown:#x} are not known for type {cls.type_name}", spec.name, errno.EINVAL
            )

    @property
    def name(self) -> str:
        """The map's name."""
        return self.spec.name

    @property
    def size(self) -> int:
        """Bytes of the block."""
        return self.layout.size

    def contains(self, offset: int, size: int) -> bool:
        """Whether `size` bytes at `offset` from the start of the block lie within one value."""
        return self.layout.contains(offset, size)

    def use(self, operations: Operations) -> None:
        """Let `operations`, which must keep to this map's layout, do all work from now on, Python's included.

        Only the operations that a map starts with can be replaced; later calls change nothing, since those that are in use
        already do the same under the same protocol.
        """
        if isinstance(self.operations, Reference):
            self.operations.retire(operations)
            self.operations = operations

    def __getitem__(self, key: Key) -> bytes:
        value = self.operations.read(self._key(key))
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Key, value: bytes) -> None:
        self._put(key, value, BPF_ANY)

    def __delitem__(self, key: Key) -> None:
        error = self.operations.delete(self._key(key))
        if error == -errno.ENOENT:
            raise KeyError(key)
        if error:
            raise self._error(error, key)

    def __contains__(self, key: object) -> bool:
        return self.operations.lookup(self._key(key)) is not None

    def __iter__(self) -> Iterator[bytes]:
        return (key for key, _ in self._entries())

    def __repr__(self) -> str:
        return f"<{self.type_name} map {self.name!r}: {len(self)} of {self.spec.max_entries} entries>"

    def items(self) -> ItemsView[bytes, bytes]:
        """As of a dict; iterating copies keys and values together."""
        return _Items(self)

    def values(self) -> ValuesView[bytes]:
        """As of a dict, in the order of the keys."""
        return _Values(self)

    def setdefault(self, key: Key, default: bytes | None = None) -> bytes:
        """The key's value; where it is absent, `default` (zeros if not given) becomes the value. One atomic step inserts."""
        value = bytes(self.spec.value_size) if default is None else default
        while True:
            try:
                self._put(key, value, BPF_NOEXIST)
            except MapError as error:
                if error.errno != errno.EEXIST:
                    raise
            else:
                return bytes(value)
            present = self.operations.read(self._key(key))
            if present is not None:
                return present

    @property
    def typed(self) -> TypedMap:
        """The map with keys and values as Python values.

        As it is, they are of the types that the map was defined with, where its object carries them (BTF): numbers, names of
        enumerators, tuples for arrays and `Record` for structs, whose members can be given as a dict or in their order.
        Members left out are zero; ``view[key] |= {...}`` changes some of a value that is there.

        Called, it takes `struct` formats or numpy dtypes instead, ``typed(key=None, value=None)``: a format of one field
        stands for that field, one of several for a tuple; None leaves the bytes. Raises `MapError` where a format's size is
        not the map's.

        >>> from pybpf import MapSpec, maps
        >>> flows = maps.create(MapSpec("flows", "hash", key_size=8, value_size=8, max_entries=16))
        >>> view = flows.typed("<IHH", "<Q")
        >>> view[0x0A000001, 80, 4242] = 7
        >>> dict(view)
        {(167772161, 80, 4242): 7}
        """
        from pybpf.maps.typed import TypedMap, type_codec

        return TypedMap(self, type_codec(self.spec, "key"), type_codec(self.spec, "value"))

    def snapshot(
        self, key: np.dtype[Any] | str | None = None, value: np.dtype[Any] | str | None = None
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Copies of all keys and their values, as two numpy arrays of shape (n,) in the same order.

        The dtypes, if not given, are ``<u1``, ``<u2``, ``<u4`` and ``<u8`` for items of those sizes and ``V`` (raw bytes)
        for others. Each entry is consistent, and no key comes twice; entries may be from different moments of the call.
        """
        keys, values = self.operations.snapshot()
        return self._as(keys, key), self._as(values, value)

    @property
    def array(self) -> NDArray[Any]:
        """The values of an array themselves, as a numpy array of shape (max_entries,): no copy, writes show at once.

        Items are ``<u1``, ``<u2``, ``<u4``, ``<u8`` by size, otherwise ``V`` (raw bytes); `view` takes any other dtype.
        """
        return self.view()

    def view(self, dtype: np.dtype[Any] | str | None = None) -> NDArray[Any]:
        """The values of an array as items of a dtype, a structured one for example. No copy.

        Raises `MapError` for a dtype of another size, and where values do not lie in a row.
        """
        raise MapError(
            f"a map of type {self.type_name} has no array of its values: take a snapshot", self.name
        )

    def statistics(self) -> MapStatistics:
        """How full the map is."""
        return MapStatistics(len(self), self.spec.max_entries, self.size, 1.0)

    def _as(self, rows: NDArray[Any], dtype: np.dtype[Any] | str | None) -> NDArray[Any]:
        return rows.view(self._dtype(dtype, rows.shape[1])).reshape(len(rows))

    def _dtype(self, dtype: np.dtype[Any] | str | None, size: int) -> np.dtype[Any]:
        import numpy as np

        if dtype is None:
            dtype = number_type(size, self.spec.byteorder) if size in (1, 2, 4, 8) else f"V{size}"
        result = np.dtype(dtype)
        if result.itemsize != size:
            raise MapError(f"dtype {result} has {result.itemsize} bytes: expected {size}", self.name)
        return result

    def _entries(self) -> Iterator[tuple[bytes, bytes]]:
        keys, values = self.operations.snapshot()
        return zip(_rows(keys), _rows(values), strict=True)

    def _key(self, key: object) -> bytes:
        return self._bytes(key, self.spec.key_size, "key")

    def _bytes(self, item: object, size: int, what: str) -> bytes:
        data = item if isinstance(item, bytes) else memoryview(item).tobytes()  # type: ignore[arg-type]
        if len(data) != size:
            raise MapError(f"{what} has {len(data)} bytes: expected {size}", self.name, errno.EINVAL)
        return data

    def _put(self, key: object, value: object, flags: int) -> None:
        data = self._bytes(value, self.spec.value_size, "value")
        error = self.operations.update(self._key(key), data, flags)
        if error:
            raise self._error(error, key)

    def _error(self, error: int, key: object) -> MapError:
        reason = self.errors.get(-error, os.strerror(-error))
        shown = self._shown(self._key(key))
        return MapError(reason.format(key=shown, max_entries=self.spec.max_entries), self.name, -error)

    def _shown(self, key: bytes) -> str:
        return key.hex(" ")


def number_type(size: int, byteorder: ByteOrder) -> str:
    """numpy's name of an unsigned number."""
    return f"{'<' if byteorder == 'little' else '>'}u{size}"


def _rows(rows: NDArray[Any]) -> Iterator[bytes]:
    """The rows of a contiguous array as bytes."""
    count, size = rows.shape
    data = rows.tobytes()
    return (data[start : start + size] for start in range(0, count * size, size))


class _Items(ItemsView[bytes, bytes]):
    _mapping: BpfMap

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self._mapping._entries()


class _Values(ValuesView[bytes]):
    _mapping: BpfMap

    def __iter__(self) -> Iterator[bytes]:
        return (value for _, value in self._mapping._entries())
