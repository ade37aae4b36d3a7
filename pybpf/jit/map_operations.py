"""The machine code of a map's operations, for Python to call: with it everybody keeps to the same locking protocol."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from pybpf.errors import ArgumentError
from pybpf.jit import codegen, map_ir
from pybpf.maps import BpfMap
from pybpf.program import MapSpec

if TYPE_CHECKING:
    from pybpf.maps.operations import Bytes

_TYPES: Final = {"ptr": ctypes.c_void_p, "i64": ctypes.c_uint64}


class NativeOperations:
    """`pybpf.maps.Operations` in machine code, for one map. Each operation's code is made when it is first called.

    Calls run without the GIL.
    """

    def __init__(self, map: BpfMap) -> None:
        spec = map.spec
        self.key_size: Final = spec.key_size
        self.value_size: Final = spec.value_size
        self._shape = MapSpec(
            "",
            spec.type,
            spec.key_size,
            spec.value_size,
            spec.max_entries,
            read_only=spec.read_only,
            byteorder=spec.byteorder,
        )
        self._entries = map.layout.places
        self._memory = map.memory  # keeps the block where it is
        self._block = map.address
        self._functions: dict[str, Any] = {}

    def _call(self, operation: str, *arguments: Any) -> int:
        function = self._functions.get(operation)
        if function is None:
            function = self._functions[operation] = _function(self._shape, operation)
        return int(function(self._block, *arguments))

    def lookup(self, key: bytes) -> int | None:
        """See `pybpf.maps.Operations.lookup`."""
        return self._call("lookup", self._sized(key, self.key_size)) or None

    def read(self, key: bytes) -> bytes | None:
        """See `pybpf.maps.Operations.read`."""
        value = ctypes.create_string_buffer(self.value_size)
        found = self._call("read", self._sized(key, self.key_size), value)
        return value.raw if found else None

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """See `pybpf.maps.Operations.update`."""
        key, value = self._sized(key, self.key_size), self._sized(value, self.value_size)
        return self._call("update", key, value, flags)

    def delete(self, key: bytes) -> int:
        """See `pybpf.maps.Operations.delete`."""
        return self._call("delete", self._sized(key, self.key_size))

    def snapshot(self) -> tuple[Bytes, Bytes]:
        """See `pybpf.maps.Operations.snapshot`."""
        import numpy as np

        limit = self._entries
        while True:
            # Pages that nothing is copied to are never touched.
            keys = np.empty((limit, self.key_size), np.uint8)
            values = np.empty((limit, self.value_size), np.uint8)
            count = self._call("snapshot", keys.ctypes.data, values.ctypes.data, limit)
            if count >= 0:
                return keys[:count], values[:count]
            limit *= 2  # so many keys came and went meanwhile

    def _sized(self, data: bytes, size: int) -> bytes:
        # Machine code reads that many bytes, whatever it is given.
        if len(data) != size:
            raise ArgumentError(f"{len(data)} bytes, where the map's keys and values have {size}")
        return data


@cache
def _function(shape: MapSpec, operation: str) -> Any:
    """An operation of all maps of a shape. The code stays for the life of the process."""
    code = codegen.build(map_ir.module(shape, operation), [operation], codegen.Level.QUICK)
    kinds = (_TYPES[kind] for kind in map_ir.PARAMETERS[operation])
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *kinds)(code.address(operation))
    function.code = code  # type: ignore[attr-defined]
    return function
