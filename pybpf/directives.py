"""The directives of assembler text, both ways: what a program is besides its code.

    .type xdp
    .license "GPL"
    .byteorder big
    .map flows hash key=4 value=8 entries=16 flags=1
    .map .rodata array key=4 value=3 entries=1 readonly data="00ff7f"
    .map rows array_of_maps key=4 value=4 entries=2 inner=flows 0=flows
    .global next

Sizes are in bytes, `data` is hexadecimal, `inner` is the definition of what a map of maps holds, a number is a slot that the
definition fills. A global function is one that can be called without knowing its callers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pybpf.program import MapSpec, Program
from pybpf.program_types import ProgramType
from pybpf.syntax import Token, quoted

DIRECTIVES: Final = {
    ".type": "NAME",
    ".license": "TEXT",
    ".byteorder": "little or big",
    ".map": "NAME TYPE key=SIZE value=SIZE entries=NUMBER",
    ".global": "FUNCTION",
}
"""Directive -> how it goes on."""

_NUMBERS: Final = {"key": "key_size", "value": "value_size", "entries": "max_entries", "flags": "flags"}


def read_map(name: Token, type: Token, rest: list[Token], maps: Mapping[str, MapSpec]) -> MapSpec:
    """The map of a line. Raises `AssemblyError`; `maps` are those that are defined already."""
    if name.name in maps:
        raise name.error(f"map {name.name!r} is defined twice")
    fields: dict[str, Any] = {"values": ()}
    while rest:
        field, *rest = rest
        if field.text == "readonly":
            fields["read_only"] = True
            continue
        if len(rest) < 2 or rest[0].text != "=":
            raise field.error(f"expected field=value, not {field.text!r}")
        value, rest = rest[1], rest[2:]
        if field.text in _NUMBERS:
            fields[_NUMBERS[field.text]] = _number(value)
        elif field.text == "data":
            fields["initial"] = _bytes(value)
        elif field.text == "inner":
            if value.name not in maps:
                raise value.error(f"map {value.name!r} is not defined before this line")
            fields["inner"] = maps[value.name]
        elif field.kind == "number":
            fields["values"] += ((_number(field), value.name),)
        else:
            known = ", ".join((*_NUMBERS, "readonly", "data", "inner"))
            raise field.error(f"a map has no field {field.text!r}: known are {known} and slots by number")
    return MapSpec(name.name, type.name, **fields)


def _number(token: Token) -> int:
    try:
        number = int(token.text, 0)
    except ValueError:
        raise token.error(f"{token.text!r} is no number") from None
    if number < 0:
        raise token.error(f"{token.text} is negative")
    return number


def _bytes(token: Token) -> bytes:
    try:
        return bytes.fromhex(token.name)
    except ValueError:
        raise token.error("data is a string of hexadecimal digits, two a byte") from None


def write(program: Program) -> Iterator[str]:
    """The lines that stand before a program's code.

    A program type that is a value is named; ids of BTF types are left out, since text carries no BTF.
    """
    type = program.type.name if isinstance(program.type, ProgramType) else program.type
    if type is not None:
        yield f".type {quoted(type)}"
    if program.license:
        yield f".license {quoted(program.license)}"
    if program.byteorder != "little":
        yield f".byteorder {program.byteorder}"
    maps: dict[str, MapSpec] = {}
    for spec in program.maps:
        if spec.inner is not None:
            maps.setdefault(spec.inner.name, spec.inner)
        maps[spec.name] = spec
    yield from map(_map_text, maps.values())
    for function in program.functions.values():
        if function.is_global:
            yield f".global {quoted(function.name)}"


def _map_text(spec: MapSpec) -> str:
    words = [".map", quoted(spec.name), quoted(spec.type)]
    words += [f"{word}={getattr(spec, field)}" for word, field in _NUMBERS.items() if getattr(spec, field)]
    if spec.read_only:
        words.append("readonly")
    if spec.initial is not None:
        words.append(f'data="{spec.initial.hex()}"')
    if spec.inner is not None:
        words.append(f"inner={quoted(spec.inner.name)}")
    words += [f"{slot}={quoted(name)}" for slot, name in spec.values]
    return " ".join(words)
