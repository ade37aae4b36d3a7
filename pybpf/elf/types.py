"""What the programs of a section are: by its name and, for a name that two conventions share, by what stands in it."""

from __future__ import annotations

from typing import Final

from pybpf import program_types
from pybpf.btf import Btf, Kind
from pybpf.elf.file import ElfFile, Section
from pybpf.errors import ElfError
from pybpf.instruction import SLOT
from pybpf.isa import BY_OPCODE, WIDE
from pybpf.isa import Kind as Does

_SHARED: Final = {program_types.FILTER.name: program_types.SOCKET_FILTER.name}
"""Oko's filters and the socket filters of other projects stand in sections of the same names."""

_CONTEXT: Final = "__sk_buff"
_PACKET_LOADS: Final = frozenset(opcode for opcode, rows in BY_OPCODE.items() if rows[0].kind is Does.PACKET)


def type_of(file: ElfFile, section: Section, btf: Btf | None) -> str | None:
    """The name of the program type of a section, None where nothing says it.

    A filter of Oko is given the packet. Where the object says that a function is given a `struct __sk_buff`, or where it loads
    from the packet as Oko's machine cannot, it is a socket filter.
    """
    found = program_types.from_section(section.name)
    name = None if found is None else found.name
    if name in _SHARED and (_takes_buffer(file, section, btf) or _loads_packet(file.data(section))):
        return _SHARED[name]
    return name


def _takes_buffer(file: ElfFile, section: Section, btf: Btf | None) -> bool:
    """Whether the first parameter of a function of the section is a pointer to the context of socket filters."""
    if btf is None:
        return False
    for symbol in file.symbols_in(section):
        function = btf.find(Kind.FUNC, symbol.name) if symbol.is_function else None
        try:
            parameters = btf.resolve(function.type).members if function else ()
            pointer = btf.resolve(parameters[0].type) if parameters else None
            if pointer and pointer.kind is Kind.PTR and btf.resolve(pointer.type).name == _CONTEXT:
                return True
        except ElfError:  # types that refer to themselves say nothing
            continue
    return False


def _loads_packet(code: bytes) -> bool:
    at = 0
    while at < len(code):
        if code[at] in _PACKET_LOADS:
            return True
        at += 2 * SLOT if code[at] == WIDE else SLOT
    return False
