"""Maps defined in section ``.maps``: a variable whose struct type carries the parameters.

The members are written by macros of libbpf (bpf_helpers.h; read there by parse_btf_map_def):

    __uint(name, value)    int (*name)[value]          a number is the length of an array
    __type(name, type)     type *name                  a type is what a pointer points to
    __array(name, type)    type *name[]                what the map holds: inner maps, programs
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pybpf.btf import Btf, Kind, Member, Type
from pybpf.errors import ElfError
from pybpf.program import MapSpec
from pybpf.program_types import LINUX_MAPS

if TYPE_CHECKING:
    from pybpf.elf.file import Section
    from pybpf.elf.maps import Maps

_IGNORED: Final = frozenset({"pinning", "numa_node", "map_extra"})


def read_btf_maps(maps: Maps, section: Section) -> None:
    """Enter the maps of section ``.maps``. What cannot be understood is noted and unsupported where it is used."""
    symbols = sorted(
        (s for s in maps.file.symbols if s.section == section.index and s.is_definition),
        key=lambda s: s.value,
    )
    variables = _variables(maps.btf, section.name) if maps.btf else {}
    for symbol in symbols:
        spec, problem = MapSpec(symbol.name, "unspec"), "the object has no BTF that defines it"
        variable = variables.get(symbol.name)
        if maps.btf and variable:
            try:
                spec, problem = _spec(maps.btf, symbol.name, maps.btf.resolve(variable.type), depth=0), ""
            except ElfError as error:
                problem = error.detail
        if not problem and spec.type not in LINUX_MAPS.values():
            problem = f"unknown map {spec.type}"
        maps.define(section.index, symbol.value, spec, problem)


def _variables(btf: Btf, section: str) -> dict[str, Type]:
    """The variables of a section by name. Their offsets in BTF are only right after linking, the symbols' always."""
    datasec = btf.find(Kind.DATASEC, section)
    if datasec is None:
        return {}
    variables = (btf[member.type] for member in datasec.members if member.type < len(btf))
    return {variable.name: variable for variable in variables if variable.kind is Kind.VAR}


def _spec(btf: Btf, name: str, definition: Type, depth: int) -> MapSpec:
    if definition.kind is not Kind.STRUCT:
        raise ElfError(f"its type is no struct but {definition.kind.name.lower()}", ".BTF")
    spec = MapSpec(name, LINUX_MAPS[0])
    for member in definition.members:
        spec = _with(btf, spec, member, depth)
    return spec


def _with(btf: Btf, spec: MapSpec, member: Member, depth: int) -> MapSpec:
    """The specification with one more parameter."""
    match member.name:
        case "type":
            number = _number(btf, member)
            return replace(spec, type=LINUX_MAPS.get(number, f"type {number}"))
        case "key" | "value":
            pointer = btf.resolve(member.type)
            if pointer.kind is not Kind.PTR:
                raise ElfError(f"member {member.name!r} is no pointer", ".BTF")
            size = btf.size_of(pointer.type)
            if member.name == "key":
                return replace(spec, key_size=size, key_type=pointer.type)
            return replace(spec, value_size=size, value_type=pointer.type)
        case "values":
            return _with_values(btf, spec, member, depth)
        case "key_size":
            return replace(spec, key_size=_agreed(spec.key_size, member.name, _number(btf, member)))
        case "value_size":
            return replace(spec, value_size=_agreed(spec.value_size, member.name, _number(btf, member)))
        case "max_entries":
            return replace(spec, max_entries=_number(btf, member))
        case "map_flags":
            return replace(spec, flags=_number(btf, member))
        case name if name in _IGNORED:
            return spec
    raise ElfError(f"unknown member {member.name!r}", ".BTF")


def _agreed(given: int, name: str, number: int) -> int:
    """A size that a type gives and a number gives again must be the same."""
    if given and given != number:
        raise ElfError(f"{name} is {number}, but the type has {given} bytes", ".BTF")
    return number


def _with_values(btf: Btf, spec: MapSpec, member: Member, depth: int) -> MapSpec:
    """Inner maps and programs are held by number: 4 bytes."""
    array = btf.resolve(member.type)
    pointer = btf.resolve(array.type) if array.kind is Kind.ARRAY else array
    if pointer.kind is not Kind.PTR:
        raise ElfError("member 'values' is no array of pointers", ".BTF")
    held = btf.resolve(pointer.type)
    spec = replace(spec, value_size=4)
    if held.kind is Kind.FUNC_PROTO:
        return spec
    if depth:
        raise ElfError("a map of maps inside of a map of maps", ".BTF")
    return replace(spec, inner=_spec(btf, f"{spec.name}.inner", held, depth + 1))


def _number(btf: Btf, member: Member) -> int:
    """What `__uint` wrote: a pointer to an array of that length, or (`__ulong`) an enumerator of that value."""
    pointed = btf.resolve(member.type)
    if pointed.kind is Kind.PTR:
        array = btf.resolve(pointed.type)
        if array.kind is Kind.ARRAY:
            return array.size
    if pointed.kind in (Kind.ENUM, Kind.ENUM64) and len(pointed.members) == 1:
        return pointed.members[0].value
    raise ElfError(f"member {member.name!r} holds no number", ".BTF")
