"""The prototypes of global functions, by BTF: what Linux knows of the arguments where it verifies such a function by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pybpf.btf import Btf
from pybpf.btf.types import Kind, Type
from pybpf.errors import ElfError
from pybpf.program import Parameter, Prototype

_GLOBAL: Final = 1
_TAG: Final = "arg:"
_NUMBERS: Final = frozenset({Kind.INT, Kind.ENUM, Kind.ENUM64})


class Prototypes:
    """The prototypes of one object. `tags` are those of parameters, by function and position."""

    def __init__(self, btf: Btf) -> None:
        self.btf = btf
        self.tags: dict[tuple[int, int], set[str]] = {}
        for id, kind, name in btf.names():
            if kind is Kind.DECL_TAG and name.startswith(_TAG):
                tag = btf[id]
                self.tags.setdefault((tag.type, tag.component), set()).add(name.removeprefix(_TAG))

    def of(self, id: int) -> Prototype | None:
        """The prototype of a function by its type's id; None where the id is none of a global function."""
        if (
            id >= len(self.btf)
            or (function := self.btf[id]).kind is not Kind.FUNC
            or function.linkage != _GLOBAL
        ):
            return None
        type_ = self.btf[function.type]
        if type_.kind is not Kind.FUNC_PROTO:
            return None
        return Prototype(
            tuple(
                self._parameter(member.type, frozenset(self.tags.get((id, position), ())))
                for position, member in enumerate(type_.members)
            ),
            self._resolved(type_.type).kind in _NUMBERS,
        )

    def _parameter(self, id: int, tags: frozenset[str]) -> Parameter:
        type_ = self._resolved(id)
        if type_.kind in _NUMBERS:
            return Parameter("number", tags=tags)
        if type_.kind is not Kind.PTR:
            return Parameter("other", tags=tags)
        try:
            size: int | None = self.btf.size_of(type_.type)
        except ElfError:
            size = None
        return Parameter("pointer", tuple(self._names(type_.type)), size, tags)

    def _resolved(self, id: int) -> Type:
        """The type behind qualifiers; void for a chain that never ends."""
        try:
            return self.btf.resolve(id)
        except ElfError:
            return self.btf[0]

    def _names(self, id: int) -> Iterator[str]:
        """The names of a type, those of its typedefs first."""
        end = self._resolved(id)
        type_ = self.btf[id]
        while type_ is not end and end.id:
            if type_.kind is Kind.TYPEDEF:
                yield type_.name
            type_ = self.btf[type_.type]
        if end.name:
            yield end.name
