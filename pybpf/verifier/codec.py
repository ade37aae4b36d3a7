"""Bytes for plain data: small pieces that write a value and read it back, from which larger ones are put together.

What is written is determined by the value. What is read may be anything: it gives a value of the right shape within limits, or
`Malformed`, in time and memory that the number of bytes bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

MAX_DEPTH: Final = 64
"""How deep data may nest."""


class Malformed(ValueError):
    """Bytes that no value is written as."""


class Reader:
    """What is left of some bytes. `depth` counts the nested data that is being read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.depth = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self.data) - self.at

    def byte(self) -> int:
        """The next byte."""
        at = self.at
        if at == len(self.data):
            raise Malformed("it ends too soon")
        self.at = at + 1
        return self.data[at]


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """How values of one kind are written and read."""

    write: Callable[[bytearray, T], None]
    read: Callable[[Reader], T]

    def encode(self, value: T) -> bytes:
        """The bytes of a value."""
        out = bytearray()
        self.write(out, value)
        return bytes(out)

    def decode(self, data: bytes) -> T:
        """The value of all of some bytes. Raises `Malformed`."""
        reader = Reader(data)
        value = self.read(reader)
        if reader.left:
            raise Malformed("something follows its end")
        return value


def uint(limit: int) -> Codec[int]:
    """A number below a limit: seven bits a byte, the lowest first, and never more bytes than it needs."""

    def write(out: bytearray, value: int) -> None:
        assert 0 <= value < limit, value
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)

    def read(reader: Reader) -> int:
        byte = reader.byte()
        if byte < 128 and byte < limit:
            return byte
        value, shift = byte & 127, 7
        while byte & 128:
            byte = reader.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte == 0 or shift > 77:
                raise Malformed("a number is written longer than it is")
        if value >= limit:
            raise Malformed("a number is out of range")
        return value

    return Codec(write, read)


def sint(limit: int) -> Codec[int]:
    """A number of either sign: -limit <= x < limit."""
    bits = uint(2 * limit)
    return mapped(
        bits, lambda x: -2 * x - 1 if x < 0 else 2 * x, lambda z: -(z >> 1) - 1 if z & 1 else z >> 1
    )


def mapped(codec: Codec[K], out: Callable[[V], K], back: Callable[[K], V]) -> Codec[V]:
    """Written as something else. `back` may raise `Malformed`."""
    return Codec(lambda into, value: codec.write(into, out(value)), lambda reader: back(codec.read(reader)))


def sequence(codec: Codec[T]) -> Codec[tuple[T, ...]]:
    """Any number of values of one kind, each of a byte at least."""
    count = uint(1 << 32)

    def write(out: bytearray, values: tuple[T, ...]) -> None:
        count.write(out, len(values))
        for value in values:
            codec.write(out, value)

    def read(reader: Reader) -> tuple[T, ...]:
        length = count.read(reader)
        if length > reader.left:
            raise Malformed("it ends too soon")
        return tuple(codec.read(reader) for _ in range(length))

    return Codec(write, read)


def record(
    make: Callable[..., T], *fields: Codec[Any], parts: Callable[[Any], Iterable[Any]] | None = None
) -> Codec[T]:
    """Fields one after the other: what `make` is called with. `parts` gives them back of a value that is no tuple."""

    def write(out: bytearray, value: Any) -> None:
        for field, part in zip(fields, value if parts is None else parts(value), strict=True):
            field.write(out, part)

    return Codec(write, lambda reader: make(*[field.read(reader) for field in fields]))


def ordered(codec: Codec[T], rank: Callable[[T], Any]) -> Codec[tuple[T, ...]]:
    """A sequence in which each value has a greater rank than the one before: sets have one order, so they have one writing."""

    def back(values: tuple[T, ...]) -> tuple[T, ...]:
        ranks = [rank(value) for value in values]
        if any(a >= b for a, b in pairwise(ranks)):
            raise Malformed("a set is out of order")
        return values

    return mapped(sequence(codec), lambda values: tuple(sorted(values, key=rank)), back)


def mapping(key: Codec[K], value: Codec[V], rank: Callable[[K], Any]) -> Codec[Mapping[K, V]]:
    """Keys with their values, in the order of the keys."""

    def pair(k: K, v: V) -> tuple[K, V]:
        return k, v

    pairs = ordered(record(pair, key, value), lambda item: rank(item[0]))
    return mapped(pairs, lambda m: tuple(m.items()), lambda items: dict(items))


def optional(codec: Codec[T]) -> Codec[T | None]:
    """A value or none."""

    def write(out: bytearray, value: T | None) -> None:
        out.append(value is not None)
        if value is not None:
            codec.write(out, value)

    return Codec(write, lambda reader: codec.read(reader) if FLAG.read(reader) else None)


def choice(which: Callable[[Any], int], *codecs: Codec[Any]) -> Codec[Any]:
    """One of several kinds: its number, then the value."""
    kind = uint(len(codecs))

    def write(out: bytearray, value: Any) -> None:
        kind.write(out, which(value))
        codecs[which(value)].write(out, value)

    return Codec(write, lambda reader: codecs[kind.read(reader)].read(reader))


def nested(codec: Callable[[], Codec[T]]) -> Codec[T]:
    """Data that may hold data of its own kind."""

    def read(reader: Reader) -> T:
        reader.depth += 1
        if reader.depth > MAX_DEPTH:
            raise Malformed("it nests too deep")
        value = codec().read(reader)
        reader.depth -= 1
        return value

    return Codec(lambda out, value: codec().write(out, value), read)


FLAG: Final = mapped(uint(2), int, bool)
