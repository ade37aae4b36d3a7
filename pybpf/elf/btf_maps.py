"""Maps defined in section ``.maps``: a variable whose struct type carries the parameters.

The members are written by macros of libbpf (bpf_helpers.h; read there by parse_btf_map_def):

    __uint(name, value)    int (*name)[value]          a number is the length of an array
    __type(name, type)     type *name                  a type is what a pointer points to
    __array(name, type)    type *name[]                what the map holds: inner maps, programs
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from operator import attrgetter
from typing import Final

from pybpf.btf import POINTER_SIZE, Btf, Kind, Member, Type
from pybpf.elf.file import Relocation, Section, Symbol
from pybpf.elf.maps import Maps
from pybpf.errors import ElfError
from pybpf.program import MapSpec
from pybpf.program_types import LINUX_MAPS

_IGNORED: Final = frozenset({"numa_node", "map_extra"})
_PINNING: Final = {0: "", 1: "name"}


def read_btf_maps(maps: Maps, section: Section) -> None:
    """Enter the maps of section ``.maps``. What cannot be understood is noted and unsupported where it is used."""
    variables = variables_of(maps.btf, section.name) if maps.btf else {}
    relocations = sorted(maps.file.relocations(section), key=attrgetter("offset"))
    for symbol in maps.file.symbols_in(section):
        spec, problem = MapSpec(symbol.name, LINUX_MAPS[0]), "the object has no BTF that defines it"
        variable = variables.get(symbol.name)
        if maps.btf and variable:
            try:
                definition = maps.btf.resolve(variable.type)
                spec, problem = _spec(maps.btf, symbol.name, definition)
                spec = replace(spec, values=_values(definition, symbol, relocations))
            except ElfError as error:
                problem = error.detail
        if not problem and spec.type not in LINUX_MAPS.values():
            problem = f"unknown map {spec.type}"
        maps.define((section.index, symbol.value), spec, problem or None)


def variables_of(btf: Btf, section: str) -> dict[str, Type]:
    """The variables and functions of a section by name. Their offsets are only right after linking, the symbols' always."""
    datasec = btf.find(Kind.DATASEC, section)
    types = (btf[member.type] for member in datasec.members) if datasec else ()
    return {type_.name: type_ for type_ in types}


def _spec(btf: Btf, name: str, definition: Type, depth: int = 0) -> tuple[MapSpec, str]:
    """What the parameters say, and why the map cannot be used where one of them is not understood."""
    if definition.kind is not Kind.STRUCT:
        raise ElfError(f"its type is no struct but {definition.kind.name.lower()}", ".BTF")
    spec, problem = MapSpec(name, LINUX_MAPS[0]), ""
    for member in definition.members:
        try:
            spec = _with(btf, spec, member, depth)
        except ElfError as error:
            problem = problem or error.detail
    return spec, problem


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
                return replace(spec, key_size=_agreed(spec.key_size, "key", size), key_type=pointer.type)
            return replace(spec, value_size=_agreed(spec.value_size, "value", size), value_type=pointer.type)
        case "values":
            return _holding(btf, spec, member, depth)
        case "key_size":
            return replace(spec, key_size=_agreed(spec.key_size, "key", _number(btf, member)))
        case "value_size":
            return replace(spec, value_size=_agreed(spec.value_size, "value", _number(btf, member)))
        case "max_entries":
            return replace(spec, max_entries=_number(btf, member))
        case "map_flags":
            return replace(spec, flags=_number(btf, member))
        case "pinning":
            number = _number(btf, member)
            return replace(spec, pinning=_PINNING.get(number, str(number)))
        case name if name in _IGNORED:
            return spec
    raise ElfError(f"unknown member {member.name!r}", ".BTF")


def _agreed(given: int, what: str, size: int) -> int:
    """A size may be given by a type and by a number, if they agree."""
    if given and given != size:
        raise ElfError(f"its {what} has {given} and {size} bytes", ".BTF")
    return size


def _holding(btf: Btf, spec: MapSpec, member: Member, depth: int) -> MapSpec:
    """Inner maps and programs are held by number: 4 bytes."""
    array = btf.resolve(member.type)
    pointer = btf.resolve(array.type) if array.kind is Kind.ARRAY else array
    if pointer.kind is not Kind.PTR:
        raise ElfError("member 'values' is no array of pointers", ".BTF")
    held = btf.resolve(pointer.type)
    spec = replace(spec, value_size=_agreed(spec.value_size, "value", 4))
    if held.kind is Kind.FUNC_PROTO:
        return spec
    if depth:
        raise ElfError("a map of maps holds a map of maps", ".BTF")
    inner, problem = _spec(btf, f"{spec.name}.inner", held, depth + 1)
    if problem:
        raise ElfError(problem, ".BTF")
    return replace(spec, inner=inner)


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


def _values(definition: Type, symbol: Symbol, relocations: list[Relocation]) -> tuple[tuple[int, str], ...]:
    """The slots that an initialiser ``.values = { ... }`` fills: each is the relocation of a pointer.

    The array has no length of its own, so it reaches from its member to the end of the variable.
    """
    member = next((member for member in definition.members if member.name == "values"), None)
    if member is None:
        return ()
    start = symbol.value + member.offset // 8
    first = bisect_left(relocations, start, key=attrgetter("offset"))
    end = bisect_left(relocations, symbol.value + symbol.size, key=attrgetter("offset"))
    return tuple(((r.offset - start) // POINTER_SIZE, r.symbol.name) for r in relocations[first:end])
