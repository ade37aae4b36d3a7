"""Certificates as bytes: the same bytes for the same certificate, and nothing but a certificate of sound shape from bytes.

The layout is the tables of this file, from the first line to `CERTIFICATE`; a change of it takes a new `MAGIC`. What shape cannot say,
that a position is one of a table for instance, `_check_shape` does, so that the checker meets nothing that has no meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import fields
from typing import Any, Final

from pybpf.errors import CertificateError
from pybpf.verifier.certificate import (
    NOT_NULL,
    NULL,
    Certificate,
    Edge,
    Loop,
    NumberClaim,
    Point,
    PointerClaim,
)
from pybpf.verifier.codec import (
    FLAG,
    Codec,
    Malformed,
    choice,
    mapped,
    mapping,
    nested,
    optional,
    ordered,
    record,
    sequence,
    sint,
    uint,
)
from pybpf.verifier.state import CELLS, FIRST_SLOT
from pybpf.verifier.values import LENGTH, MAX_ATOMS, METADATA, Atom, Object, Target
from pybpf.verifier.view import View

MAGIC: Final = b"pybpf certificate 2\n"

_LONGEST: Final = 2 * MAX_ATOMS
"""More parts than this has no sum: what a verifier knows of one has half as many."""

_INDEX: Final = uint(1 << 32)
_INTEGER: Final = sint(1 << 64)
_NAME: Final = uint(1 << 32)


def _itself(value: Any) -> Any:
    return value


def _parts(value: Any) -> Iterable[Any]:
    return (getattr(value, field.name) for field in fields(value))


def _word(word: Atom) -> Codec[Atom]:
    """What stands for itself."""
    return Codec(lambda out, value: None, lambda reader: word)


def _tagged(word: str) -> Codec[Any]:
    """An unknown that is named by a word and a number."""
    return mapped(_INDEX, lambda atom: atom[1], lambda number: (word, number))


def _fixed(size: int) -> Codec[bytes]:
    """So many bytes."""
    byte: Codec[int] = Codec(lambda out, value: out.append(value), lambda reader: reader.byte())
    return mapped(record(lambda *values: values, *[byte] * size), tuple, bytes)


def _from(low: int, end: int) -> Codec[int]:
    """A number from `low` on, below `end`."""
    return mapped(uint(end - low), lambda value: value - low, lambda value: value + low)


def _sum_of(atom: Callable[[], Codec[Any]]) -> Codec[Any]:
    """A sum of a few unknowns: with a sum for each of many, another would be as long as both lengths together multiplied."""

    def back(atoms: Any) -> Any:
        if len(atoms) > _LONGEST:
            raise Malformed("a sum has too many parts")
        return atoms

    return mapped(sequence(nested(atom)), _itself, back)


def _shift_of(sum: Codec[Any]) -> Codec[Any]:
    """("lsh", atoms, delta, amount, keeps the unsigned number, keeps the signed number)"""
    return record(
        lambda *parts: ("lsh", *parts),
        sum,
        sint(1 << 63),
        _from(1, 64),
        FLAG,
        FLAG,
        parts=lambda atom: atom[1:],
    )


def _kind(*words: Atom) -> Callable[[Atom], int]:
    """Which of several kinds an unknown is: one with a number, or one that a word names."""
    return lambda atom: (
        0 if isinstance(atom, int) else 1 + words.index(atom[0] if isinstance(atom, tuple) else atom)
    )


_SUM: Final[Codec[Any]] = _sum_of(lambda: _ATOM)
_ATOM: Final[Codec[Any]] = choice(
    _kind("lsh", LENGTH, METADATA), _NAME, _shift_of(_SUM), _word(LENGTH), _word(METADATA)
)
_FORM: Final = record(lambda *parts: parts, _SUM, sint(1 << 63))

# Behind a block there are also values that instructions have defined, those that they defined before, and such without a name; at the
# entry of a function, its arguments.
_SUM_BEHIND: Final[Codec[Any]] = _sum_of(lambda: _ATOM_BEHIND)
_ATOM_BEHIND: Final[Codec[Any]] = choice(
    _kind("lsh", LENGTH, METADATA, "at", "in", "of", "argument", "before"),
    _NAME,
    _shift_of(_SUM_BEHIND),
    _word(LENGTH),
    _word(METADATA),
    _tagged("at"),
    _tagged("in"),
    _tagged("of"),
    _tagged("argument"),
    mapped(nested(lambda: _ATOM_BEHIND), lambda atom: atom[1], lambda atom: ("before", atom)),
)
_FORM_BEHIND: Final = record(lambda *parts: parts, _SUM_BEHIND, sint(1 << 63))
_ANSWER: Final = choice(
    lambda atom: (NULL, NOT_NULL, atom).index(atom), _word(NULL), _word(NOT_NULL), _ATOM_BEHIND
)


def _view(width: int) -> Codec[View]:
    unsigned, signed = uint(1 << width), sint(1 << (width - 1))

    def back(view: View) -> View:
        if view.value & view.mask:
            raise Malformed("a bit is known and unknown")
        return view

    return mapped(record(View, *[unsigned] * 4, signed, signed), lambda view: view, back)


def _set(codec: Codec[Any]) -> Codec[frozenset[Any]]:
    return mapped(ordered(codec, _itself), tuple, frozenset)


_TEXT: Final = mapped(
    sequence(uint(128)), lambda text: tuple(text.encode()), lambda data: bytes(data).decode()
)
_TARGETS: Final = tuple(Target)
_TARGET: Final = mapped(uint(len(_TARGETS)), _TARGETS.index, _TARGETS.__getitem__)
_OBJECT: Final = record(Object, _TEXT, _INDEX, optional(_NAME))
_NUMBER: Final = record(NumberClaim, _INDEX, optional(_FORM))
_POINTER: Final = record(
    PointerClaim,
    _TARGET,
    _INDEX,
    optional(_OBJECT),
    _INTEGER,
    optional(_INDEX),
    optional(_SUM),
    optional(_NAME),
)
_PIECE: Final = record(lambda *parts: parts, uint(8), _from(1, 8), _NUMBER)
_CLAIMS: Final = (NumberClaim, PointerClaim, tuple)
_CELL: Final = choice(lambda cell: _CLAIMS.index(type(cell)), _NUMBER, _POINTER, sequence(_PIECE))

_CELLS: Final = mapping(uint(CELLS), _INDEX, _itself)
_EDGE: Final = record(
    Edge, _INDEX, mapping(_NAME, _FORM_BEHIND, _itself), mapping(_NAME, _ANSWER, _itself), parts=_parts
)
_POINT: Final = record(
    Point,
    record(lambda *parts: parts, sequence(_INDEX), _INDEX),
    _CELLS,
    sequence(_CELLS),
    mapping(_SUM, _INTEGER, _SUM.encode),
    _set(_NAME),
    sequence(_INDEX),
    optional(_set(_NAME)),
    sequence(_EDGE),
    parts=_parts,
)
_ORDER: Final = mapped(FLAG, lambda order: order == "s", lambda signed: "s" if signed else "u")
_LOOP: Final = record(
    Loop, _set(_INDEX), _INDEX, uint(CELLS), _ORDER, FLAG, nested(lambda: _LOOPS), parts=_parts
)
_LOOPS: Final[Codec[tuple[Loop, ...]]] = sequence(_LOOP)
_CERTIFICATE: Final[Codec[Certificate]] = record(
    Certificate,
    _fixed(16),
    sequence(record(lambda *parts: parts, _view(64), _view(32))),
    sequence(_CELL),
    sequence(_POINT),
    _EDGE,
    _LOOPS,
    optional(nested(lambda: _CERTIFICATE)),
    mapping(_INDEX, nested(lambda: _CERTIFICATE), _itself),
    parts=_parts,
)


def to_bytes(certificate: Certificate) -> bytes:
    """A certificate as bytes."""
    return MAGIC + _CERTIFICATE.encode(certificate)


def from_bytes(data: bytes) -> Certificate:
    """The certificate that some bytes are. Raises `CertificateError`."""
    if not data.startswith(MAGIC):
        known = data.startswith(MAGIC[: MAGIC.rindex(b" ") + 1])
        raise CertificateError("a certificate of another version" if known else "no certificate")
    try:
        certificate = _CERTIFICATE.decode(data[len(MAGIC) :])
        _check_shape(certificate)
    except Malformed as error:
        raise CertificateError(f"a damaged certificate: {error}") from None
    return certificate


def _check_shape(certificate: Certificate) -> None:
    """Every position is one of something, and each thing stands where it may."""
    scalars, points = len(certificate.scalars), len(certificate.points)
    for cell in certificate.cells:
        claims: Iterable[NumberClaim | PointerClaim]
        if isinstance(cell, NumberClaim | PointerClaim):
            claims = (cell,)
        else:
            ends = [0, *(first + size for first, size, _ in cell)]
            _require(all(end <= part[0] for end, part in zip(ends, cell, strict=False)) and 0 < ends[-1] <= 8)
            claims = [claim for _, _, claim in cell]
        for claim in claims:
            number = claim.scalar if isinstance(claim, NumberClaim) else claim.variable
            _require(number is None or number < scalars)
    _require(certificate.entry.target < points)
    for point in certificate.points:
        _require(len(point.frames) == len(point.place[0]))
        for cells in (point.cells, *point.frames):
            _require(all(cell < len(certificate.cells) for cell in cells.values()))
            in_pieces = (index for index, cell in cells.items() if type(certificate.cells[cell]) is tuple)
            _require(all(index >= FIRST_SLOT for index in in_pieces))
        _require(all(visit < points for visit in point.visits))
        _require(all(edge.target < points for edge in point.edges))
    if certificate.ahead is not None:
        _check_shape(certificate.ahead)
    for function in certificate.functions.values():
        _check_shape(function)
    loops = list(certificate.loops)
    while loops:
        loop = loops.pop()
        _require(loop.head < points and all(point < points for point in loop.points))
        loops += loop.inner


def _require(condition: bool) -> None:
    if not condition:
        raise Malformed("it refers to what is not there")
