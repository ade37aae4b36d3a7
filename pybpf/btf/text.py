"""Types printed as C."""

from __future__ import annotations

from typing import Final

from pybpf.btf.types import Btf, Kind, Type
from pybpf.errors import ElfError

_KEYWORD: Final = {Kind.STRUCT: "struct", Kind.UNION: "union", Kind.ENUM: "enum", Kind.ENUM64: "enum"}
_QUALIFIER: Final = {Kind.CONST: "const", Kind.VOLATILE: "volatile", Kind.RESTRICT: "restrict"}
_MAX_DEPTH: Final = 32


def format_type(btf: Btf, id: int, name: str = "", *, body: bool = True) -> str:
    """A type as a C declaration of `name`; `body` writes out the members of a struct, union or enumeration.

    Raises `ElfError` for ids that do not exist and for types nested too deeply, or in themselves.
    """
    return _declare(btf, id, name, body, 0, "")


def _declare(btf: Btf, id: int, declarator: str, body: bool, depth: int, indent: str) -> str:
    """C's declarators read inside out: follow the type from the name outwards until a base type is reached."""
    inner: Kind | None = None
    for _ in range(_MAX_DEPTH):
        type_ = btf[id]
        match type_.kind:
            case Kind.PTR:
                declarator = "*" + declarator
            case Kind.ARRAY:
                declarator = f"{_grouped(declarator, inner)}[{type_.size}]"
            case Kind.FUNC_PROTO:
                declarator = f"{_grouped(declarator, inner)}({_parameters(btf, type_, depth)})"
            case Kind.CONST | Kind.VOLATILE | Kind.RESTRICT:
                if btf[type_.type].kind is Kind.PTR:
                    declarator = f"{_QUALIFIER[type_.kind]} {declarator}".rstrip()
                else:
                    rest = _declare(btf, type_.type, declarator, body, depth + 1, indent)
                    return f"{_QUALIFIER[type_.kind]} {rest}"
            case Kind.TYPE_TAG:
                pass
            case Kind.FUNC | Kind.VAR:
                declarator = declarator or type_.name
            case _:
                base = _base(btf, type_, body, depth, indent)
                return f"{base} {declarator}".rstrip()
        inner = type_.kind
        id = type_.type
    raise ElfError(f"type id {id} is nested too deeply", ".BTF")


def _grouped(declarator: str, inner: Kind | None) -> str:
    return (
        f"({declarator})" if inner in (Kind.PTR, *_QUALIFIER) and declarator.startswith("*") else declarator
    )


def _parameters(btf: Btf, prototype: Type, depth: int) -> str:
    if depth >= _MAX_DEPTH:
        raise ElfError(f"type id {prototype.id} is nested too deeply", ".BTF")
    parameters = [
        _declare(btf, parameter.type, parameter.name, False, depth + 1, "") if parameter.type else "..."
        for parameter in prototype.members
    ]
    return ", ".join(parameters) or "void"


def _base(btf: Btf, type_: Type, body: bool, depth: int, indent: str) -> str:
    if depth >= _MAX_DEPTH:
        raise ElfError(f"type id {type_.id} is nested too deeply", ".BTF")
    if type_.kind is Kind.FWD:
        return f"{'union' if type_.flag else 'struct'} {type_.name}"
    if type_.kind not in _KEYWORD:
        return type_.name
    head = f"{_KEYWORD[type_.kind]} {type_.name}".rstrip()
    if not body and type_.name:
        return head
    deeper = indent + "    "
    if type_.kind in (Kind.ENUM, Kind.ENUM64):
        lines = [f"{deeper}{member.name} = {member.value}," for member in type_.members]
    else:
        lines = []
        for member in type_.members:
            text = _declare(btf, member.type, member.name, False, depth + 1, deeper)
            lines.append(f"{deeper}{text}{f' : {member.size}' if member.size else ''};")
    return "\n".join([f"{head} {{", *lines, f"{indent}}}"])
