"""A map's keys and values as Python values: numbers, tuples and records instead of bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from pybpf.errors import ArgumentError, ElfError, MapError

if TYPE_CHECKING:
    import numpy as np

    from pybpf.maps.map import BpfMap
    from pybpf.program import MapSpec

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


class Record(Mapping[str, Any]):
    """A struct that was read: its members by name, as items and as attributes. It can be a key and does not change.

    ``record | {"bytes": 7}`` is one with another member.

    >>> flow = Record({"source": 1, "ports": (80, 443)})
    >>> flow.source, flow["ports"], flow | {"source": 2}
    (1, (80, 443), Record(source=2, ports=(80, 443)))
    """

    __slots__ = ("_members",)

    def __init__(self, members: Mapping[str, Any]) -> None:
        self._members = dict(members)

    def __getitem__(self, name: str) -> Any:
        return self._members[name]

    def __getattr__(self, name: str) -> Any:
        try:
            return object.__getattribute__(self, "_members")[name]
        except KeyError:
            raise AttributeError(f"no member {name!r}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __or__(self, other: Mapping[str, Any]) -> Record:
        return Record(self._members | dict(other))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self._members == dict(other)

    def __hash__(self) -> int:
        return hash(frozenset(self._members.items()))

    def __reduce__(self) -> tuple[type[Record], tuple[dict[str, Any]]]:
        return Record, (self._members,)

    def __repr__(self) -> str:
        return f"Record({', '.join(f'{name}={value!r}' for name, value in self._members.items())})"


def _recorded(value: Any) -> Any:
    """What `read_value` gives, as something that can be a key."""
    match value:
        case dict():
            return Record({name: _recorded(part) for name, part in value.items()})
        case list():
            return tuple(map(_recorded, value))
    return value


def type_codec(spec: MapSpec, what: Literal["key", "value"]) -> Codec:
    """The codec for the key or value of a map, by its BTF type. Without one an array's key is its index, the rest is bytes."""
    id, size = (spec.key_type, spec.key_size) if what == "key" else (spec.value_type, spec.value_size)
    btf = spec.btf
    if btf is None or id is None:
        is_index = what == "key" and "array" in spec.type and size == 4
        order = "<" if spec.byteorder == "little" else ">"
        return codec(f"{order}I" if is_index else None, size)
    from pybpf.btf.encoding import encode_value
    from pybpf.btf.values import read_value

    return Codec(
        size,
        lambda data: _recorded(read_value(btf, id, data)),
        lambda item: encode_value(btf, id, item, size),
    )


class TypedMap(MutableMapping[Any, Any]):
    """A view of `map` through two codecs; nothing is kept in it. Made by `BpfMap.typed`; called with formats, it is another.

    An item that its format cannot hold is a `MapError`.
    """

    def __init__(self, map: BpfMap, key: Codec, value: Codec) -> None:
        self.map = map
        self._key = key
        self._value = value

    def __call__(self, key: Format | None = None, value: Format | None = None) -> TypedMap:
        """The map through `struct` formats or numpy dtypes; None leaves the bytes. See `BpfMap.typed`."""
        spec = self.map.spec
        return TypedMap(
            self.map, self._codec("key", key, spec.key_size), self._codec("value", value, spec.value_size)
        )

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
        except (struct.error, TypeError, ValueError, OverflowError, ElfError) as error:
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
