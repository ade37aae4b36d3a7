"""What there is to say of an object, as JSON holds it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from pybpf.btf import Btf, Kind, format_type
from pybpf.btf.values import Value, read_value
from pybpf.cli.contents import as_plain
from pybpf.errors import ElfError
from pybpf.helpers import LINUX, Helper
from pybpf.instruction import SLOT
from pybpf.map_types import TYPES as MAP_TYPES
from pybpf.maps import TYPES
from pybpf.program import CO_RE, MapSpec, Object, Program, RefKind
from pybpf.program_types import BY_NAME, ProgramType

_ZEROS: Final = 1 << 20
"""Bytes of a section without contents up to which its variables are shown as the zeros that they are."""


def describe(object: Object) -> dict[str, Any]:
    """Programs, maps, types and global variables of an object, and what of it pybpf does not know."""
    return {
        "byteorder": object.byteorder,
        "license": object.license,
        "version": object.version,
        "producer": object.producer or None,
        "isa": max((_isa(program) for program in object.programs.values()), default=1),
        "btf": _btf(object.btf),
        "programs": [_program(program) for program in object.programs.values()],
        "maps": [_map(spec) for spec in object.maps.values()],
        "globals": [row for spec in object.maps.values() for row in _globals(spec)],
        "notes": list(object.notes),
    }


def _btf(btf: Btf | None) -> dict[str, Any] | None:
    """How many types of which kinds there are."""
    if btf is None:
        return None
    kinds = Counter(kind.name.lower() for _, kind, _ in btf.names())
    return {"types": len(btf) - 1, "kinds": dict(kinds.most_common())}


def _isa(program: Program) -> int:
    """The first level of the instruction set, clang's ``-mcpu=v1`` to ``v4``, that has all the instructions."""
    return max((instruction.op.isa for instruction in program.code.values()), default=1)


def _program(program: Program) -> dict[str, Any]:
    return {
        "name": program.name,
        "section": program.section,
        "type": _type_name(program),
        "instructions": len(program.code),
        "bytes": program.size * SLOT,
        "isa": _isa(program),
        "functions": [function.name for function in program.functions.values()],
        "maps": [spec.name for spec in program.maps],
        "helpers": list(_helper_names(program)),
        "source": sorted({line.file for line in program.lines.values()}),
        "unsupported": list(_unsupported(program)),
        "not_run": list(_not_run(program)),
    }


def _type_name(program: Program) -> str | None:
    return program.type.name if isinstance(program.type, ProgramType) else program.type


def _helper_table(program: Program) -> dict[int, Helper]:
    """The helpers that the program's numbers mean; Linux's where pybpf does not know the type."""
    type_ = program.type if isinstance(program.type, ProgramType) else BY_NAME.get(program.type or "")
    return dict(type_.helpers if type_ else LINUX)


def _called(program: Program) -> Iterator[int | str]:
    """The helpers called, each once, by number or, where that is not known, by name."""
    seen: dict[int | str, None] = {}
    for pc, instruction in program.code.items():
        reference = program.references.get(pc)
        if instruction.op.code == "helper" and (reference is None or reference.kind is RefKind.HELPER):
            seen[reference.name if reference else instruction.imm] = None
    return iter(seen)


def _helper_names(program: Program) -> Iterator[str]:
    table = _helper_table(program)
    for helper in _called(program):
        yield helper if isinstance(helper, str) else table[helper].name if helper in table else f"#{helper}"


def _unsupported(program: Program) -> Iterator[str]:
    """Why the program cannot be verified, as far as that shows without trying."""
    name = _type_name(program)
    if name is None:
        yield "no type: the section's name does not say it, --type may"
    elif isinstance(program.type, str) and name not in BY_NAME:
        yield f"program type {name}"
    if program.defect is not None:
        yield str(program.defect).removeprefix(f"{program.name}: ")
    yield from dict.fromkeys(
        reference.name + (" (if it is reached)" if reference.feature == CO_RE else "")
        for reference in program.references.values()
        if reference.kind is RefKind.UNSUPPORTED
    )
    known = MAP_TYPES.keys() | TYPES.keys()
    yield from (f"map {spec.name}: type {spec.type}" for spec in program.maps if spec.type not in known)
    if name in BY_NAME:
        table = _helper_table(program)
        yield from (f"helper {helper}" for helper in _called(program) if helper not in table)


def _not_run(program: Program) -> Iterator[str]:
    """What keeps a program that may be verified from being run."""
    type_ = program.type if isinstance(program.type, ProgramType) else BY_NAME.get(program.type or "")
    if type_ is not None and not type_.runnable:
        yield f"programs of type {type_.name}"
    for spec in program.maps:
        if spec.type in MAP_TYPES and spec.type not in TYPES:
            yield f"map {spec.name}: type {spec.type}"
    for helper in _called(program):
        known = _helper_table(program).get(helper) if isinstance(helper, int) else None
        if known is not None and known.body is None:
            yield f"helper {known.name}"


def _map(spec: MapSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "type": spec.type,
        "key_size": spec.key_size,
        "value_size": spec.value_size,
        "max_entries": spec.max_entries,
        "flags": spec.flags,
        "read_only": spec.read_only,
        "pinning": spec.pinning or None,
        "key_type": _c_type(spec.btf, spec.key_type),
        "value_type": _c_type(spec.btf, spec.value_type),
        "definitions": list(dict.fromkeys(_definitions(spec))),
        "inner": _map(spec.inner) if spec.inner else None,
        "values": [{"index": index, "name": name} for index, name in spec.values],
        "supported": spec.type in TYPES,
    }


def _c_type(btf: Btf | None, id: int | None, name: str = "", *, body: bool = False) -> str | None:
    """A type as C; None where there is none, and for the sections of data, which are none in C."""
    if btf is None or id is None:
        return None
    try:
        return None if btf[id].kind is Kind.DATASEC else format_type(btf, id, name, body=body)
    except ElfError:
        return None


def _definitions(spec: MapSpec) -> Iterator[str]:
    """The structs and the like that keys and values are, written out."""
    for id in (spec.key_type, spec.value_type):
        text = _c_type(spec.btf, id, body=True)
        if text and "\n" in text:
            yield text


def _globals(spec: MapSpec) -> Iterator[dict[str, Any]]:
    """The variables of a data section with their types and initial values, where the object describes them."""
    btf, id = spec.btf, spec.value_type
    if btf is None or id is None or btf[id].kind is not Kind.DATASEC:
        return
    values = _initial(btf, id, spec)
    for member in btf[id].members:
        yield {
            "name": member.name,
            "section": spec.name,
            "type": _c_type(btf, btf[member.type].type, member.name),
            "offset": member.offset,
            "size": member.size,
            "read_only": spec.read_only,
            "value": as_plain(values[member.name]) if member.name in values else None,
        }


def _initial(btf: Btf, id: int, spec: MapSpec) -> dict[str, Value]:
    """The initial values by name; none where the types do not fit the bytes, nor of more zeros than one wants to see."""
    if spec.initial is None and spec.value_size > _ZEROS:
        return {}
    try:
        values = read_value(btf, id, spec.initial or bytes(spec.value_size))
    except ElfError:
        return {}
    return values if isinstance(values, dict) else {}
