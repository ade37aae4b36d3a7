"""A map's keys and values as Python values: numbers and tuples instead of bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from pybpf.errors import ArgumentError, MapError

if TYPE_CHECKING:
    import numpy as np

    from pybpf.maps.map import BpfMap

    Format: TypeAlias = str | np.dtype[Any]
    """A `struct` format (a string that begins with its byte order: ``<``, ``>``, ``=``, ``!`` or ``@``) or a numpy dtype."""


class Codec(NamedTuple):
    """How an item of `size` bytes is read and written."""

    size: int
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]


def codec(format: Format | None, size: int) -> Codec:
    """The codec for a format; None keeps the bytes, which have `size`. Raises `ArgumentError` for what is no format."""
    if format is None:
        return Codec(size, bytes, bytes)
    if isinstance(format, str):
        return _struct_codec(format)
    return _numpy_codec(format)


def _struct_codec(format: str) -> Codec:
    if format[:1] not in ("<", ">", "=", "!", "@"):
        raise ArgumentError(f"format {format!r}: expected a byte order first, such as '<'")
    try:
        packer = struct.Struct(format)
    except struct.error as error:
        raise ArgumentError(f"format {format!r}: {error}") from None
    if len(packer.unpack(bytes(packer.size))) == 1:
        return Codec(packer.size, lambda data: packer.unpack(data)[0], lambda item: packer.pack(item))
    return Codec(packer.size, packer.unpack, lambda item: packer.pack(*item))


def _numpy_codec(dtype: np.dtype[Any]) -> Codec:
    import numpy as np

    return Codec(
        dtype.itemsize,
        lambda data: np.frombuffer(data, dtype)[0].item(),
        lambda item: np.array(item, dtype).tobytes(),
    )


class TypedMap(MutableMapping[Any, Any]):
    """A view of `map` through two codecs; nothing is kept in it. Made by `BpfMap.typed`.

    An item that its format cannot hold is a `MapError`.
    """

    def __init__(self, map: BpfMap, key: Format | None, value: Format | None) -> None:
        self.map = map
        self._key = self._codec("key", key, map.spec.key_size)
        self._value = self._codec("value", value, map.spec.value_size)

    def _codec(self, what: str, format: Format | None, size: int) -> Codec:
        result = codec(format, size)
        if result.size != size:
            raise MapError(
                f"{what} format {format!r} has {result.size} bytes: expected {size}", self.map.name
            )
        return result

    def _encode(self, what: str, codec: Codec, item: Any) -> bytes:
        try:
            return codec.encode(item)
        except (struct.error, TypeError, ValueError, OverflowError) as error:
            raise MapError(f"{what} {item!r} does not fit its format: {error}", self.map.name) from None

    def __getitem__(self, key: Any) -> Any:
        try:
            return self._value.decode(self.map[self._encode("key", self._key, key)])
        except KeyError:
            raise KeyError(key) from None

    def __setitem__(self, key: Any, value: Any) -> None:
        self.map[self._encode("key", self._key, key)] = self._encode("value", self._value, value)

    def __delitem__(self, key: Any) -> None:
        try:
            del self.map[self._encode("key", self._key, key)]
        except KeyError:
            raise KeyError(key) from None

    def __contains__(self, key: object) -> bool:
        return self._encode("key", self._key, key) in self.map

    def __iter__(self) -> Iterator[Any]:
        return map(self._key.decode, self.map)

    def __len__(self) -> int:
        return len(self.map)

    def __repr__(self) -> str:
        return f"<typed view of {self.map!r}>"
