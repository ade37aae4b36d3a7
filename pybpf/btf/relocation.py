"""CO-RE relocations: what a field, type or enumerator of an object is in the types of another machine.

The compiler wrote how it gets to a field (``0:1:2``) by its own types. By names, the same place is looked for in each type of
the target that is called alike; what was asked of it (its offset, size, ...) is what the instruction must hold.
Source: Linux, tools/lib/bpf/relo_core.c, and Documentation/bpf/llvm_reloc.rst, "CO-RE Relocations".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Final

from pybpf.btf.compatible import COMPOSITE, ENUMERATION, Comparison, alike, essential
from pybpf.btf.ext import CoreRelocation
from pybpf.btf.types import SIGNED, Btf, Kind, Member, Type
from pybpf.errors import ElfError

_MAX_STEPS: Final = 64
_MAX_SEARCHED: Final = 100_000
_WORD: Final = 64
"""Bits of a register."""


class Asked(IntEnum):
    """What a relocation asks for: enum bpf_core_relo_kind."""

    FIELD_BYTE_OFFSET = 0
    FIELD_BYTE_SIZE = 1
    FIELD_EXISTS = 2
    FIELD_SIGNED = 3
    FIELD_LSHIFT_U64 = 4
    FIELD_RSHIFT_U64 = 5
    TYPE_ID_LOCAL = 6
    TYPE_ID_TARGET = 7
    TYPE_EXISTS = 8
    TYPE_SIZE = 9
    ENUMVAL_EXISTS = 10
    ENUMVAL_VALUE = 11
    TYPE_MATCHES = 12


FIELDS: Final = tuple(asked for asked in Asked if asked.name.startswith("FIELD"))
_TYPES: Final = tuple(asked for asked in Asked if asked.name.startswith("TYPE"))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the instruction held and what it must hold: `value` is None where the target has nothing to answer with.

    `certain` is false where compilers differ in what they write, so that the `original` says nothing. `access` is how many
    bytes a load or store of the field moves, before and after; `resizable` whether it may move another number.
    """

    original: int | None
    value: int | None
    certain: bool = True
    access: tuple[int, int] = (0, 0)
    resizable: bool = True


@dataclass(frozen=True, slots=True)
class _Step:
    """To a member (`type` is the struct or union) or, without a name, to an element (`type` is the element's)."""

    type: Type
    index: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in a type, `bits` from its start."""

    btf: Btf
    id: int
    steps: tuple[_Step, ...] = ()
    bits: int = 0

    @property
    def member(self) -> Member | None:
        """The member at the place, None for an element."""
        last = self.steps[-1]
        return last.type.members[last.index] if last.name else None


@dataclass(frozen=True)
class Target:
    """The types of the machine that programs are relocated for."""

    btf: Btf

    @cached_property
    def _named(self) -> dict[str, list[tuple[Kind, int]]]:
        named: dict[str, list[tuple[Kind, int]]] = {}
        for id, kind, name in self.btf.names():
            if name:
                named.setdefault(essential(name), []).append((kind, id))
        return named

    def candidates(self, type_: Type) -> list[int]:
        """The types of one name and kind, flavours aside."""
        return [id for kind, id in self._named.get(essential(type_.name), ()) if alike(kind, type_.kind)]


def resolve(local: Btf, relocation: CoreRelocation, target: Target) -> Answer:
    """Answer a relocation. Raises `ElfError` for one that makes no sense, or that the target answers in two ways."""
    asked = _asked(relocation)
    if asked is Asked.TYPE_ID_LOCAL:
        return Answer(relocation.type_id, relocation.type_id, certain=False)
    place = _parse(local, relocation, asked)
    type_ = local[relocation.type_id]
    if not type_.name:
        raise ElfError(f"type id {type_.id} has no name to be looked for", ".BTF")
    found: dict[tuple[int, int | None], Answer] = {}
    search = _Search(place, target.btf)
    for id in target.candidates(type_):
        for other in search.matches(id, asked):
            answer = _answer(asked, place, other)
            found.setdefault((other.bits, answer.value), answer)
    if len(found) > 1:
        raise ElfError(f"{len(found)} types called {essential(type_.name)!r} differ in it", ".BTF")
    return next(iter(found.values())) if found else _answer(asked, place, None)


def describe(local: Btf, relocation: CoreRelocation) -> str:
    """A relocation in words: what is asked, of which field."""
    try:
        asked = _asked(relocation)
        place = _parse(local, relocation, asked)
        type_ = local[relocation.type_id]
    except ElfError:
        return f"type id {relocation.type_id}, access {relocation.access!r}, kind {relocation.kind}"
    kind = f"{type_.kind.name.lower()} " if type_.kind is not Kind.TYPEDEF else ""
    steps = place.steps if asked not in FIELDS else place.steps[1:]
    inside = "".join(f".{step.name}" if step.name else f"[{step.index}]" for step in steps)
    return f"{asked.name.lower().replace('_', ' ')} of {kind}{type_.name or '(unnamed)'}{inside}"


def _asked(relocation: CoreRelocation) -> Asked:
    try:
        return Asked(relocation.kind)
    except ValueError:
        raise ElfError(f"unknown kind {relocation.kind} of CO-RE relocation", ".BTF.ext") from None


def _parse(btf: Btf, relocation: CoreRelocation, asked: Asked) -> _Place:
    """Follow the compiler's numbers through its types."""
    numbers = _numbers(relocation.access)
    if asked in _TYPES:
        return _Place(btf, relocation.type_id)
    first, *rest = numbers
    root = btf.resolve(relocation.type_id)
    if asked not in FIELDS:
        if root.kind not in ENUMERATION or rest or first >= len(root.members):
            raise _senseless(relocation)
        return _Place(btf, relocation.type_id, (_Step(root, first, root.members[first].name),))
    steps, bits, type_ = [_Step(root, first)], 8 * first * btf.size_of(root.id), root
    for index in rest:
        if type_.kind in COMPOSITE and index < len(type_.members):
            member = type_.members[index]
            bits += member.offset
            if member.name:
                steps.append(_Step(type_, index, member.name))
            type_ = btf.resolve(member.type)
        elif type_.kind is Kind.ARRAY and _holds(steps[-1], type_, index):
            type_ = btf.resolve(type_.type)
            bits += 8 * index * btf.size_of(type_.id)
            steps.append(_Step(type_, index))
        else:
            raise _senseless(relocation)
    return _Place(btf, relocation.type_id, tuple(steps), bits)


def _numbers(access: str) -> list[int]:
    words = access.split(":")
    if len(words) > _MAX_STEPS or not all(
        word.isascii() and word.isdigit() and len(word) < 10 for word in words
    ):
        raise ElfError(f"access {access[:80]!r} is no path", ".BTF.ext")
    return [int(word) for word in words]


def _senseless(relocation: CoreRelocation) -> ElfError:
    return ElfError(f"type id {relocation.type_id} has nothing at {relocation.access!r}", ".BTF.ext")


def _holds(before: _Step, array: Type, index: int) -> bool:
    """Whether an array has an element: one without a length, at the end of a struct, has any."""
    flexible = before.name and not array.size and before.index == len(before.type.members) - 1
    return index < array.size or bool(flexible)


@dataclass
class _Search:
    """Looks for the same place in types of the target."""

    place: _Place
    target: Btf
    comparison: Comparison = field(init=False)
    _left: int = _MAX_SEARCHED

    def __post_init__(self) -> None:
        self.comparison = Comparison(self.place.btf, self.target)

    def matches(self, id: int, asked: Asked) -> Iterator[_Place]:
        """The place in one type, if it is there."""
        if asked is Asked.TYPE_MATCHES:
            if self.comparison.same(self.place.id, id):
                yield _Place(self.target, id)
        elif asked in _TYPES:
            if self.comparison.types(self.place.id, id):
                yield _Place(self.target, id)
        elif asked in FIELDS:
            if (found := self._field(id)) is not None:
                yield found
        elif (enumerator := self._enumerator(id)) is not None:
            yield enumerator

    def _enumerator(self, id: int) -> _Place | None:
        wanted = essential(self.place.steps[0].name)
        type_ = self.target.resolve(id)
        if type_.kind not in ENUMERATION:
            return None
        for index, member in enumerate(type_.members):
            if essential(member.name) == wanted:
                return _Place(self.target, id, (_Step(type_, index, member.name),))
        return None

    def _field(self, id: int) -> _Place | None:
        type_ = self.target.resolve(id)
        steps: list[_Step] = []
        bits = 0
        for step in self.place.steps:
            if step.name:
                found = self._member(step, type_, _MAX_STEPS)
                if found is None:
                    return None
                inside, offset = found
                steps.append(inside)
                bits += offset
                type_ = self.target.resolve(inside.type.members[inside.index].type)
                continue
            if steps:
                if type_.kind is not Kind.ARRAY or not _holds(steps[-1], type_, step.index):
                    return None
                type_ = self.target.resolve(type_.type)
            steps.append(_Step(type_, step.index))
            bits += 8 * step.index * self.target.size_of(type_.id)
        return _Place(self.target, id, tuple(steps), bits)

    def _member(self, wanted: _Step, type_: Type, depth: int) -> tuple[_Step, int] | None:
        """The member of a name and its offset in bits, also inside members without a name."""
        if type_.kind not in COMPOSITE:
            return None
        for index, member in enumerate(type_.members):
            self._left -= 1
            if self._left < 0 or not depth:
                raise ElfError(f"type id {type_.id} is nested too deeply to be searched", ".BTF")
            if not member.name:
                inside = self._member(wanted, self.target.resolve(member.type), depth - 1)
                if inside is not None:
                    return inside[0], inside[1] + member.offset
            elif member.name == wanted.name:
                expected = wanted.type.members[wanted.index].type
                if not self.comparison.fields(expected, member.type):
                    return None
                return _Step(type_, index, member.name), member.offset
        return None


def _answer(asked: Asked, place: _Place, other: _Place | None) -> Answer:
    if asked in FIELDS:
        return _field_answer(asked, place, other)
    if asked in _TYPES:
        certain = asked is not Asked.TYPE_ID_TARGET
        return Answer(_of_type(asked, place), _of_type(asked, other) if other else 0, certain)
    return Answer(_of_enumerator(asked, place), _of_enumerator(asked, other))


def _of_type(asked: Asked, place: _Place) -> int:
    match asked:
        case Asked.TYPE_ID_TARGET:
            return place.id
        case Asked.TYPE_SIZE:
            return place.btf.size_of(place.id)
    return 1


def _of_enumerator(asked: Asked, place: _Place | None) -> int | None:
    if asked is Asked.ENUMVAL_EXISTS:
        return int(place is not None)
    if place is None:
        return None
    member = place.member
    assert member is not None, "an enumerator has a name"
    return member.value


def _field_answer(asked: Asked, place: _Place, other: _Place | None) -> Answer:
    if asked is Asked.FIELD_EXISTS:
        return Answer(1, int(other is not None))
    ours = _Layout.of(place)
    certain = not ours.is_bit_field or asked in (Asked.FIELD_SIGNED, Asked.FIELD_RSHIFT_U64)
    if other is None:
        return Answer(ours.value(asked), None, certain)
    theirs = _Layout.of(other)
    return Answer(
        ours.value(asked),
        theirs.value(asked),
        certain,
        (ours.access, theirs.access) if asked is Asked.FIELD_BYTE_OFFSET else (0, 0),
        ours.is_zero_extended(theirs),
    )


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the bits of a field are: in `size` bytes from byte `start`, which one load can read where it is a bit-field."""

    btf: Btf
    type: Type
    is_element: bool
    is_bit_field: bool
    bits: int
    width: int
    start: int
    size: int

    @classmethod
    def of(cls, place: _Place) -> _Layout:
        btf, member = place.btf, place.member
        type_ = btf.resolve(member.type) if member else place.steps[-1].type
        size, start, width = btf.size_of(type_.id), place.bits // 8, member.size if member else 0
        if not width:
            return cls(btf, type_, member is None, False, place.bits, 8 * size, start, size)
        if not size:
            raise ElfError(f"a bit-field of type id {type_.id}, which has no size", ".BTF")
        start = start // size * size
        while place.bits + width > 8 * (start + size):  # the smallest load that has all its bits
            size *= 2
            if size > _WORD // 8:
                raise ElfError("a bit-field that no load can read", ".BTF")
            start = place.bits // 8 // size * size
        return cls(btf, type_, False, True, place.bits, width, start, size)

    @property
    def access(self) -> int:
        """Bytes of a load or store: those of one element, of an array. 0 where they say nothing, for bit-fields."""
        return 0 if self.is_bit_field else self.btf.size_of(self._scalar.id)

    @property
    def _scalar(self) -> Type:
        type_ = self.type
        while type_.kind is Kind.ARRAY:
            type_ = self.btf.resolve(type_.type)
        return type_

    @property
    def _is_signed(self) -> bool:
        type_ = self.type
        return (
            type_.flag
            if type_.kind in ENUMERATION
            else type_.kind is Kind.INT and bool(type_.encoding & SIGNED)
        )

    def is_zero_extended(self, other: _Layout) -> bool:
        """Whether a load of another width gives the same number: for pointers and for unsigned integers."""
        kinds = (self._scalar.kind, other._scalar.kind)
        if kinds == (Kind.INT, Kind.INT):
            return not (self._scalar.encoding | other._scalar.encoding) & SIGNED
        return kinds == (Kind.PTR, Kind.PTR)

    def value(self, asked: Asked) -> int:
        """The answer. The shifts bring the field, loaded by itself, to the top of a register and back."""
        match asked:
            case Asked.FIELD_BYTE_OFFSET:
                return self.start
            case Asked.FIELD_BYTE_SIZE:
                return self.size
        if self.is_element:
            raise ElfError(
                "an element of an array has an offset and a size, nothing else to ask for", ".BTF.ext"
            )
        if asked is Asked.FIELD_SIGNED:
            return int(self._is_signed)
        if asked is Asked.FIELD_RSHIFT_U64:
            return _WORD - self.width
        inside = self.bits - 8 * self.start
        if self.btf.byteorder == "little":
            return _WORD - inside - self.width
        return _WORD - 8 * self.size + inside
