"""Where a compiler would place the members of a struct: what C leaves to it, and BTF only shows in its results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pybpf.btf.types import POINTER_SIZE, Btf, Kind, Member, Type
from pybpf.errors import ElfError

_MAX_DEPTH: Final = 64
_MAX_MEMBERS: Final = 100_000


def round_up(bits: int, to: int) -> int:
    """The next multiple of `to`."""
    return -(-bits // to) * to


@dataclass(slots=True)
class Layouts:
    """Alignments and places, all in bits. Those of types that have no size, which no struct can hold, are of a byte.

    The number of members looked at is bounded. Raises `ElfError` for types that contain themselves.
    """

    btf: Btf
    _alignments: dict[int, int] = field(default_factory=dict)
    _packed: dict[int, bool] = field(default_factory=dict)
    _depth: int = 0
    _left: int = _MAX_MEMBERS

    def bits(self, member: Member) -> int:
        """The width of a member."""
        return self._width(member) or self._size(member.type)

    def natural(self, at: int, member: Member, packed: bool) -> int:
        """Where a member goes whose predecessor ends `at` this bit: a bit-field behind it if it fits into one number of its type."""
        width = self._width(member)
        if not width:
            return round_up(at, 8 if packed else self.alignment(member.type))
        unit = self._size(member.type)
        if packed or not unit or at % unit + width <= unit:
            return at
        return round_up(at, unit)

    def packed(self, type: Type) -> bool:
        """A struct or union whose size, or a member's place, is none that its members' alignments allow."""
        if type.kind not in (Kind.STRUCT, Kind.UNION):
            return False
        if type.id not in self._packed:
            each = [
                (member.offset, self.alignment(member.type)) for member in type.members if not member.size
            ]
            whole = self._widest(type)
            self._packed[type.id] = 8 * type.size % whole != 0 or any(
                offset % align for offset, align in each
            )
        return self._packed[type.id]

    def alignment(self, id: int) -> int:
        """That of a type. An attribute may ask for more: that shows as padding."""
        type = self.btf.resolve(id)
        found = self._alignments.get(type.id)
        if found is None:
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise ElfError(f"type id {id} is nested too deeply", ".BTF")
            found = self._alignments[type.id] = self._alignment(type)
            self._depth -= 1
        return found

    def _alignment(self, type: Type) -> int:
        match type.kind:
            case Kind.PTR:
                return 8 * POINTER_SIZE
            case Kind.ARRAY:
                return self.alignment(type.type)
            case Kind.STRUCT | Kind.UNION:
                return 8 if self.packed(type) else self._widest(type)
            case Kind.INT | Kind.FLOAT | Kind.ENUM | Kind.ENUM64:
                return 8 * max(type.size, 1)
        return 8

    def _widest(self, type: Type) -> int:
        self._left -= len(type.members)
        if self._left < 0:
            raise ElfError(f"type id {type.id} is nested too deeply", ".BTF")
        return max((self.alignment(member.type) for member in type.members), default=8)

    def _width(self, member: Member) -> int:
        """That of a bit-field, 0 for others. Before Linux 5.0 it was the number's own."""
        if member.size:
            return member.size
        type = self.btf.resolve(member.type)
        return type.bits if type.kind is Kind.INT and type.bits != 8 * type.size else 0

    def _size(self, id: int) -> int:
        try:
            return 8 * self.btf.size_of(id)
        except ElfError:  # void, functions, arrays of themselves: no member can have such a type
            return 0
