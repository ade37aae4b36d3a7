"""Linking: a program is its entry function and, behind it, every function that it calls, each once."""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pybpf import helpers, program_types
from pybpf.elf.builtins import builtin
from pybpf.elf.functions import Function
from pybpf.elf.maps import Place
from pybpf.errors import BpfError, DecodeError, LinkError, UnsupportedError
from pybpf.helpers import Helper, number_of
from pybpf.instruction import ByteOrder, Instruction
from pybpf.isa import Kind, op
from pybpf.program import MapSpec, Program, Reference, RefKind, SourceLine, Subprogram
from pybpf.program_types import ProgramType

_LOCAL: Final = op(Kind.CALL_LOCAL, "local")

MAX_SLOTS: Final = 1 << 20
"""Slots that the programs of an object may have together after linking; Linux verifies no more than a million. A function
counts `FUNCTION_SLOTS` more, since thousands of programs may call thousands of tiny functions."""
FUNCTION_SLOTS: Final = 16


def entries(functions: Mapping[Place, Function]) -> list[Function]:
    """The functions that are programs.

    Functions of ``.text`` are only called, where another section has code. Otherwise those that no other function calls
    are programs, and global ones of named sections although they are called. Of functions that only call each other, the
    first is one.
    """
    named = [f for f in functions.values() if not f.in_gap]
    candidates = [f for f in named if f.section.name != ".text"] or named
    called = {
        place
        for function in functions.values()
        for place in function.callees.values()
        if place != function.place
    }
    chosen = {
        f.place for f in candidates if f.place not in called or (f.is_global and f.section.name != ".text")
    }
    reached: set[Place] = set()
    for place in chosen:
        reached.update(function.place for function in _reach(functions[place], functions, reached))
    for function in candidates:
        if function.place not in reached:
            chosen.add(function.place)
            reached.update(function.place for function in _reach(function, functions, reached))
    return [function for function in candidates if function.place in chosen]


def _reach(
    entry: Function, functions: Mapping[Place, Function], known: Container[Place] = ()
) -> Iterator[Function]:
    """A function and all that it calls, in order of first mention in the code; not what is `known`."""
    waiting, seen = deque([entry]), {entry.place}
    while waiting:
        function = waiting.popleft()
        if function.place in known:
            continue
        yield function
        for _, place in sorted(function.callees.items()):
            if place in functions and place not in seen:
                seen.add(place)
                waiting.append(functions[place])


@dataclass
class Linker:
    """Makes programs: `functions` are all of the object's by place, `maps` all of its maps by name."""

    functions: Mapping[Place, Function]
    maps: Mapping[str, MapSpec]
    license: str
    byteorder: ByteOrder = "little"
    _slots_left: int = MAX_SLOTS

    def link(self, entry: Function, name: str, type: str | ProgramType | None) -> Program:
        """The program that begins with a function."""
        linked = _Linked(name, _helpers(type))
        order = []
        for function in _needed(entry, self.functions, linked.helpers):
            self._slots_left -= function.size + FUNCTION_SLOTS
            if self._slots_left < 0:
                message = f"the programs of the object have more than {MAX_SLOTS} slots"
                linked.defect = UnsupportedError(message, "program-size", program=name)
                break
            order.append(function)
        else:
            linked.place(order)
        used = dict.fromkeys(
            reference.name
            for _, reference in sorted(linked.references.items(), key=lambda item: item[0])
            if reference.kind in (RefKind.MAP, RefKind.VALUE)
        )
        return Program(
            name,
            linked.code,
            type,
            entry.section.name,
            linked.references,
            tuple(self.maps[map] for map in used),
            linked.functions,
            linked.lines,
            self.license,
            linked.defect,
            self.byteorder,
        )


@dataclass(slots=True)
class _Linked:
    """A program in the making: what its functions hold, counted from the program's first slot."""

    name: str
    helpers: Mapping[int, Helper]
    bases: dict[Place, int] = field(default_factory=dict)
    code: dict[int, Instruction] = field(default_factory=dict)
    references: dict[int, Reference] = field(default_factory=dict)
    functions: dict[int, Subprogram] = field(default_factory=dict)
    lines: dict[int, SourceLine] = field(default_factory=dict)
    defect: BpfError | None = None

    def place(self, order: list[Function]) -> None:
        """Place functions one behind the other, then turn what they call into distances and numbers."""
        base = 0
        for function in order:
            self.bases[function.place] = base
            self.functions[base] = Subprogram(
                function.name, base, function.size, function.is_global, function.prototype
            )
            self.code.update((base + slot, instruction) for slot, instruction in function.code.items())
            self.references.update(
                (base + slot, reference) for slot, reference in function.references.items()
            )
            self.lines.update((base + slot, line) for slot, line in function.lines.items())
            if function.defect:
                self.defect = self.defect or _moved(function.defect, base, self.name)
            base += function.size
        for function in order:
            base = self.bases[function.place]
            for slot, place in function.callees.items():
                self._connect(base + slot, place)
            for slot, name in function.externs.items():
                self._call_by_name(base + slot, name)

    def _connect(self, pc: int, place: Place) -> None:
        target = self.bases.get(place)
        if target is None:
            message = f"pc {pc} refers to a place in the code where no function begins"
            self.defect = self.defect or LinkError(message, self.name)
            return
        instruction, distance = self.code[pc], target - pc - 1
        if instruction.op.kind is Kind.CALL_LOCAL:
            self.code[pc] = replace(instruction, imm=distance)
        else:
            self.code[pc] = replace(instruction, imm=distance & 0xFFFF_FFFF)
            self.references[pc] = Reference(RefKind.FUNCTION, self.functions[target].name, target)

    def _call_by_name(self, pc: int, name: str) -> None:
        number, function = number_of(self.helpers, name), builtin(name)
        if number is None and function:
            self.code[pc] = Instruction(_LOCAL, src=1)
            self._connect(pc, function.place)
        elif number is None:
            self.references[pc] = Reference(RefKind.HELPER, name)
        else:
            self.code[pc] = replace(self.code[pc], imm=number)


def _needed(
    entry: Function, functions: Mapping[Place, Function], known: Mapping[int, Helper]
) -> Iterator[Function]:
    """What a program consists of: all that its entry reaches, and the bodies of what compilers call by name.

    Helpers of a name come before those bodies.
    """
    names: dict[str, None] = {}
    for function in _reach(entry, functions):
        yield function
        names.update(dict.fromkeys(name for _, name in sorted(function.externs.items())))
    for name in names:
        body = builtin(name)
        if body and number_of(known, name) is None:
            yield body


def _helpers(type: str | ProgramType | None) -> Mapping[int, Helper]:
    """The helpers that a program may name. A type that pybpf has no table of is Linux's."""
    if type is None:
        return {}
    known = program_types.BY_NAME.get(type) if isinstance(type, str) else type
    return helpers.LINUX if known is None else known.helpers


def _moved(defect: BpfError, base: int, program: str) -> BpfError:
    """A function's defect, told of the program."""
    match defect:
        case DecodeError():
            return DecodeError(defect.detail, base + defect.pc)
        case UnsupportedError(pc=int(pc)):
            return UnsupportedError(defect.detail, defect.feature, program=program, pc=base + pc)
    return defect
