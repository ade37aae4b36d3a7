"""Types printed as C."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pybpf.btf.layout import Layouts, round_up
from pybpf.btf.types import Btf, Kind, Type
from pybpf.errors import ElfError

_KEYWORD: Final = {Kind.STRUCT: "struct", Kind.UNION: "union", Kind.ENUM: "enum", Kind.ENUM64: "enum"}
_QUALIFIER: Final = {Kind.CONST: "const", Kind.VOLATILE: "volatile", Kind.RESTRICT: "restrict"}
_TRANSPARENT: Final = frozenset({*_QUALIFIER, Kind.TYPE_TAG, Kind.DECL_TAG})
_INDENT: Final = "    "
_MAX_TYPES: Final = 20_000
_MAX_DEPTH: Final = 64
_MAX_PADDING: Final = 4096
"""Bits; what is longer is a comment."""
_WORD: Final = 64


def format_type(btf: Btf, id: int, name: str = "", *, body: bool = True) -> str:
    """A type as a C declaration of `name`, such as ``const char *name[8]``.

    `body` writes out the members of a struct, union or enumeration, and what a typedef stands for; a struct without a name
    is written out wherever it is. Members stand where the type has them: where a compiler would place them elsewhere, padding and
    ``packed`` are written. A declaration's tag is the declaration that it belongs to, with the tag behind. Raises `ElfError` for ids that do not exist and for types that contain themselves.
    """
    printer = _Printer(btf)
    type_ = btf[id]
    if type_.kind is Kind.TYPEDEF and not name and body:
        return "typedef " + printer.declare(type_.type, type_.name)
    if type_.kind is Kind.DECL_TAG:
        return printer.tagged(type_, name, body=body)
    return printer.declare(id, name, body=body)


@dataclass(slots=True)
class _Printer:
    """Writes declarations. The number of types written is bounded: unnamed members can double at every level."""

    btf: Btf
    left: int = _MAX_TYPES
    depth: int = 0
    layouts: Layouts = field(init=False)

    def __post_init__(self) -> None:
        self.layouts = Layouts(self.btf)

    def tagged(self, tag: Type, name: str, *, body: bool) -> str:
        """What a declaration's tag belongs to: a declaration, a member, or a parameter."""
        target = self.btf[tag.type]
        owner = self.btf[target.type] if target.kind is Kind.FUNC else target
        if 0 <= tag.component < len(owner.members):
            member = owner.members[tag.component]
            text = self.declare(member.type, name or member.name)
        else:
            text = self.declare(tag.type, name, body=body)
        return f"{text} {_attribute('btf_decl_tag', tag)}"

    def declare(self, id: int, declarator: str, *, body: bool = False) -> str:
        """C's declarators read inside out: follow the type from the name outwards until a base type is reached."""
        self.left -= 1
        if self.left < 0 or self.depth > _MAX_DEPTH:
            raise ElfError(f"type id {id} is nested too deeply", ".BTF")
        qualifiers: list[str] = []
        tags: list[str] = []
        for _ in range(_MAX_DEPTH):
            type_ = self.btf[id]
            match type_.kind:
                case Kind.PTR:
                    declarator = f"*{' '.join([*tags, *qualifiers, declarator])}"
                    qualifiers, tags = [], []
                case Kind.ARRAY:
                    declarator = f"{_grouped(declarator)}[{type_.size}]"
                case Kind.FUNC_PROTO:
                    declarator = f"{_grouped(declarator)}({self._parameters(type_)})"
                case Kind.CONST | Kind.VOLATILE | Kind.RESTRICT:
                    if _QUALIFIER[type_.kind] not in qualifiers:  # a const array of const elements
                        qualifiers.insert(0, _QUALIFIER[type_.kind])
                case Kind.FUNC | Kind.VAR:
                    declarator = declarator or type_.name
                case Kind.TYPE_TAG:
                    tags.insert(0, _attribute("btf_type_tag", type_))
                case Kind.DECL_TAG:
                    pass
                case _:
                    return " ".join([*qualifiers, self._base(type_, body), *tags, declarator]).rstrip()
            id, body = type_.type, body and type_.kind in _TRANSPARENT
        raise ElfError(f"type id {id} is nested too deeply", ".BTF")

    def _base(self, type_: Type, body: bool) -> str:
        """What stands before the declarator."""
        if type_.kind is Kind.FWD:
            return f"{'union' if type_.flag else 'struct'} {type_.name}"
        if type_.kind not in _KEYWORD:
            return type_.name
        head = f"{_KEYWORD[type_.kind]} {type_.name}".rstrip()
        declared_only = (
            type_.kind is Kind.ENUM and not type_.members
        )  # C has no enumeration without enumerators
        if type_.name and (not body or declared_only):
            return head
        self.depth += 1
        lines = self._enumerators(type_) if type_.kind in (Kind.ENUM, Kind.ENUM64) else self._members(type_)
        self.depth -= 1
        packed = " __attribute__((packed))" if self.layouts.packed(type_) else ""
        return "\n".join([f"{head} {{", *lines, f"{_INDENT * self.depth}}}{packed}"])

    def _enumerators(self, type_: Type) -> list[str]:
        return [f"{_INDENT * self.depth}{member.name} = {member.value}," for member in type_.members]

    def _members(self, type_: Type) -> list[str]:
        lines, indent, packed, at = [], _INDENT * self.depth, self.layouts.packed(type_), 0
        for member in type_.members:
            if type_.kind is Kind.STRUCT:
                place = self.layouts.natural(at, member, packed)
                lines += [indent + line for line in _padding(at, place, member.offset)]
                at = member.offset + self.layouts.bits(member)
            width = f" : {member.size}" if member.size else ""
            lines.append(f"{indent}{self.declare(member.type, member.name)}{width};")
        if type_.kind is Kind.STRUCT:
            end = round_up(at, 8 if packed else self.layouts.alignment(type_.id))
            lines += [indent + line for line in _padding(at, end, 8 * type_.size)]
        return lines

    def _parameters(self, prototype: Type) -> str:
        self.depth += 1
        parameters = [
            self.declare(parameter.type, parameter.name) if parameter.type else "..."
            for parameter in prototype.members
        ]
        self.depth -= 1
        return ", ".join(parameters) or "void"


def _padding(at: int, natural: int, to: int) -> Iterator[str]:
    """What moves a member to the bit `to`, where the compiler would place it at `natural`; `at` is the end of the one before.

    Bit-fields without names, none of which crosses a word: they change neither the alignment nor the members.
    """
    if to <= natural:
        return
    if to - at > _MAX_PADDING:
        yield f"/* {(to - at) // 8} bytes that no member has */"
        return
    while at < to:
        end = min(to, at // _WORD * _WORD + _WORD)
        yield f"long : {end - at};"
        at = end


def _attribute(name: str, tag: Type) -> str:
    text = tag.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'__attribute__(({name}("{text}")))'


def _grouped(declarator: str) -> str:
    """A pointer to an array or function needs parentheses."""
    return f"({declarator})" if declarator.startswith("*") else declarator
