"""When a type of one BTF stands for a type of another: three relations, each looser or stricter than equality.

`fields` are as alike as an access to a member needs them, `types` as ``bpf_core_type_exists`` asks, `same` as
``bpf_core_type_matches`` does (Linux, tools/lib/bpf/relo_core.c).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pybpf.btf.types import SIGNED, Btf, Kind, Type
from pybpf.errors import ElfError

COMPOSITE: Final = (Kind.STRUCT, Kind.UNION)
ENUMERATION: Final = (Kind.ENUM, Kind.ENUM64)

_FLAVOUR: Final = re.compile(r"(.*[^_])___[^_].*", re.DOTALL)
_MAX_DEPTH: Final = 32
_MAX_COMPARED: Final = 100_000


def essential(name: str) -> str:
    """A name without its flavour, by which a source tells its versions of a type apart.

    >>> essential("task_struct___before_6_1"), essential("___x"), essential("a____b")
    ('task_struct', '___x', 'a____b')
    """
    flavoured = _FLAVOUR.fullmatch(name) if "___" in name else None
    return flavoured[1] if flavoured else name


def alike(one: Kind, other: Kind) -> bool:
    """The same kind; the widths of enumerations make no difference."""
    return one is other or (one in ENUMERATION and other in ENUMERATION)


@dataclass(slots=True)
class Comparison:
    """Compares types of `local` with types of `target`. The number of comparisons is bounded: raises `ElfError` beyond it."""

    local: Btf
    target: Btf
    _left: int = _MAX_COMPARED

    def fields(self, local_id: int, target_id: int) -> bool:
        """Whether a member of one type may be read where one of the other was expected."""
        for _ in range(_MAX_DEPTH):
            local, target = self._pair(local_id, target_id)
            if local.kind in COMPOSITE and target.kind in COMPOSITE:
                return True
            if not alike(local.kind, target.kind):
                return False
            match local.kind:
                case Kind.PTR | Kind.FLOAT | Kind.INT:
                    return True
                case Kind.FWD | Kind.ENUM | Kind.ENUM64:
                    names = essential(local.name), essential(target.name)
                    return not all(names) or names[0] == names[1]
                case Kind.ARRAY:
                    local_id, target_id = local.type, target.type
                case _:
                    return False
        raise _endless(local_id)

    def types(self, local_id: int, target_id: int, depth: int = _MAX_DEPTH) -> bool:
        """Whether types of one name are of one kind; of pointers, arrays and functions also what they are made of."""
        if not depth:
            raise _endless(local_id)
        local, target = self._pair(local_id, target_id)
        if not alike(local.kind, target.kind):
            return False
        match local.kind:
            case Kind.PTR | Kind.ARRAY:
                return self.types(local.type, target.type, depth - 1)
            case Kind.FUNC_PROTO:
                pairs = zip(local.members, target.members, strict=False)
                return (
                    len(local.members) == len(target.members)
                    and all(self.types(one.type, other.type, depth - 1) for one, other in pairs)
                    and self.types(local.type, target.type, depth - 1)
                )
        return local.kind in (Kind.VOID, Kind.INT, Kind.FWD, *COMPOSITE, *ENUMERATION)

    def same(self, local_id: int, target_id: int, behind: bool = False, depth: int = _MAX_DEPTH) -> bool:
        """Whether the target's type has all that the local one has, by name and type. `behind` a pointer, names suffice."""
        if not depth:
            raise _endless(local_id)
        local, target = self._pair(local_id, target_id)
        if essential(local.name) != essential(target.name):
            return False
        if Kind.FWD in (local.kind, target.kind):
            return self._declared(local, target, behind)
        if local.kind in ENUMERATION:
            return target.kind in ENUMERATION and _same_enumerators(local, target)
        if local.kind is not target.kind:
            return False
        match local.kind:
            case Kind.STRUCT | Kind.UNION:
                return behind or self._same_members(local, target, depth)
            case Kind.INT:
                return local.size == target.size and not (local.encoding ^ target.encoding) & SIGNED
            case Kind.PTR:
                return self.same(local.type, target.type, True, depth - 1)
            case Kind.ARRAY:
                return local.size == target.size and self.same(local.type, target.type, behind, depth - 1)
            case Kind.FUNC_PROTO:
                pairs = zip(local.members, target.members, strict=False)
                return (
                    len(local.members) == len(target.members)
                    and all(self.same(one.type, other.type, behind, depth - 1) for one, other in pairs)
                    and self.same(local.type, target.type, behind, depth - 1)
                )
        return local.kind is Kind.VOID

    def _declared(self, local: Type, target: Type, behind: bool) -> bool:
        """A forward declaration is as good as the type, behind a pointer."""
        if not behind and local.kind is not target.kind:
            return False
        unions = [t.flag if t.kind is Kind.FWD else t.kind is Kind.UNION for t in (local, target)]
        kinds = (Kind.FWD, *COMPOSITE)
        return local.kind in kinds and target.kind in kinds and unions[0] == unions[1]

    def _same_members(self, local: Type, target: Type, depth: int) -> bool:
        if len(local.members) > len(target.members):
            return False
        return all(
            any(
                essential(one.name) == essential(other.name)
                and self.same(one.type, other.type, False, depth - 1)
                for other in target.members
            )
            for one in local.members
        )

    def _pair(self, local_id: int, target_id: int) -> tuple[Type, Type]:
        self._left -= 1
        if self._left < 0:
            raise _endless(local_id)
        return self.local.resolve(local_id), self.target.resolve(target_id)


def _same_enumerators(local: Type, target: Type) -> bool:
    names = {essential(member.name) for member in target.members}
    return (
        local.size == target.size
        and len(local.members) <= len(target.members)
        and all(essential(member.name) in names for member in local.members)
    )


def _endless(id: int) -> ElfError:
    return ElfError(f"type id {id} is nested too deeply to be compared", ".BTF")
