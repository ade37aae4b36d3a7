"""Arrays: values by index, all there from the start (kernel/bpf/arraymap.c; thesis, section 3.3).

A key is the index, of 4 bytes (Linux) or 8 (Oko), in the byte order of the map's programs. Data sections are arrays of one value.
"""

from __future__ import annotations

import errno
from operator import index
from typing import TYPE_CHECKING, Any, ClassVar, SupportsIndex

from pybpf.errors import MapError
from pybpf.maps.layout import ArrayLayout
from pybpf.maps.map import MMAPABLE, NUMA_NODE, BpfMap, number_type
from pybpf.maps.operations import BPF_ANY, BPF_EXIST, BPF_NOEXIST, Reference, rows
from pybpf.program import MapSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pybpf.maps.operations import Bytes


class ArrayReference(Reference):
    """The operations of an array, in Python."""

    def __init__(self, memory: memoryview, layout: ArrayLayout, read_only: bool) -> None:
        super().__init__(layout.key_size, layout.value_size)
        self._memory = memory
        self._layout = layout
        self._read_only = read_only

    def _lookup(self, key: bytes) -> int | None:
        place = int.from_bytes(key, self._layout.byteorder)
        layout = self._layout
        return layout.values + place * layout.stride if place < layout.places else None

    def _copy(self, offset: int) -> bytes:
        return bytes(self._memory[offset : offset + self.value_size])

    def _update(self, key: bytes, value: bytes, flags: int) -> int:
        if self._read_only:
            return -errno.EPERM
        if not BPF_ANY <= flags <= BPF_EXIST:
            return -errno.EINVAL
        offset = self._lookup(key)
        if offset is None:
            return -errno.E2BIG
        if flags == BPF_NOEXIST:
            return -errno.EEXIST
        self._memory[offset : offset + self.value_size] = value
        return 0

    def _delete(self, key: bytes) -> int:
        return -errno.EINVAL

    def _snapshot(self) -> tuple[Bytes, Bytes]:
        import numpy as np

        layout = self._layout
        keys = np.arange(layout.places, dtype=number_type(layout.key_size, layout.byteorder))
        values = rows(self._memory, layout.values, layout.value_size, layout.places, layout.stride)
        return keys.view(np.uint8).reshape(layout.places, layout.key_size), values.copy()


class ArrayMap(BpfMap):
    """An array of `max_entries` values. Where a key is wanted, an index will do: ``counters[3]``."""

    type_name: ClassVar[str] = "array"
    layout_type = ArrayLayout
    allowed_flags: ClassVar[int] = NUMA_NODE | MMAPABLE
    errors: ClassVar[dict[int, str]] = {
        errno.E2BIG: "index {key} is out of range: the array has {max_entries} values",
        errno.EEXIST: "every index of an array exists already",
        errno.EINVAL: "values of an array cannot be deleted",
        errno.EPERM: "the map is read-only",
    }
    layout: ArrayLayout

    def __init__(self, spec: MapSpec, seed: int | None = None) -> None:
        """Raises `MapError` for what no array can be. `seed` is of no use to an array."""
        self.check(spec)
        layout = ArrayLayout.of(spec)
        super().__init__(spec, layout)
        self.operations = ArrayReference(self.memory, layout, spec.read_only)
        if spec.initial is not None:
            self.memory[layout.values : layout.values + len(spec.initial)] = spec.initial

    @classmethod
    def check(cls, spec: MapSpec) -> None:
        """See `BpfMap.check`."""
        super().check(spec)
        if spec.key_size not in (4, 8):
            raise MapError(
                f"key_size is {spec.key_size}: an array's index has 4 or 8 bytes", spec.name, errno.EINVAL
            )
        if spec.initial is not None and (spec.max_entries != 1 or len(spec.initial) > spec.value_size):
            raise MapError(
                f"{len(spec.initial)} bytes of initial contents do not fit {spec.max_entries} value(s) of "
                f"{spec.value_size} bytes",
                spec.name,
                errno.EINVAL,
            )

    def __len__(self) -> int:
        return self.spec.max_entries

    def view(self, dtype: np.dtype[Any] | str | None = None) -> NDArray[Any]:
        """See `BpfMap.view`."""
        import numpy as np

        layout = self.layout
        array: NDArray[Any] = np.ndarray(
            (layout.places,),
            self._dtype(dtype, layout.value_size),
            self.memory,
            layout.values,
            (layout.stride,),
        )
        array.flags.writeable = not self.spec.read_only
        return array

    def _key(self, key: object) -> bytes:
        if not isinstance(key, SupportsIndex):
            return super()._key(key)
        try:
            return index(key).to_bytes(self.spec.key_size, self.spec.byteorder)
        except OverflowError:
            raise MapError(
                f"index {key} is out of range: the array has {self.spec.max_entries} values",
                self.name,
                errno.E2BIG,
            ) from None

    def _shown(self, key: bytes) -> str:
        return str(int.from_bytes(key, self.spec.byteorder))
