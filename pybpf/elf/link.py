"""Linking: a program is its entry function and, behind it, every function that it calls, each once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pybpf import helpers, program_types
from pybpf.elf.functions import Function
from pybpf.errors import BpfError, DecodeError, LinkError, UnsupportedError
from pybpf.instruction import Instruction
from pybpf.isa import Kind
from pybpf.program import MapSpec, Program, Reference, RefKind, SourceLine, Subprogram
from pybpf.program_types import ProgramType

Place = tuple[int, int]

MAX_SLOTS: Final = 1 << 20
"""Slots that a linked program may have: Linux verifies no more than a million."""


@dataclass(slots=True)
class _Linked:
    """A program in the making."""

    code: dict[int, Instruction] = field(default_factory=dict)
    references: dict[int, Reference] = field(default_factory=dict)
    functions: dict[int, Subprogram] = field(default_factory=dict)
    lines: dict[int, SourceLine] = field(default_factory=dict)
    bases: dict[Place, int] = field(default_factory=dict)
    size: int = 0
    defect: BpfError | None = None


def link(
    entry: Function,
    functions: Mapping[Place, Function],
    maps: Mapping[str, MapSpec],
    type: str | ProgramType | None,
    license: str,
) -> Program:
    """The program that begins with a function. `functions` are all of the object's by place, `maps` all of its maps."""
    linked = _Linked()
    order = _order(entry, functions)
    for function in order:
        linked.bases[function.section.index, function.start] = linked.size
        linked.size += function.size
        if linked.size > MAX_SLOTS:
            linked.defect = UnsupportedError(
                f"program of more than {MAX_SLOTS} slots", "program size", program=entry.name
            )
            break
    else:
        for function in order:
            _place(linked, function, functions, _numbers(type))
    used = dict.fromkeys(
        reference.name
        for _, reference in sorted(linked.references.items(), key=lambda item: item[0])
        if reference.kind in (RefKind.MAP, RefKind.VALUE)
    )
    return Program(
        entry.name,
        linked.code,
        type,
        entry.section.name,
        linked.references,
        tuple(maps[name] for name in used),
        linked.functions,
        linked.lines,
        license,
        linked.defect,
    )


def _order(entry: Function, functions: Mapping[Place, Function]) -> list[Function]:
    """The entry and what it reaches, in order of first mention."""
    order = [entry]
    seen = {id(entry)}
    for function in order:
        for _, place in sorted(function.callees.items()):
            callee = functions.get(place)
            if callee is not None and id(callee) not in seen:
                seen.add(id(callee))
                order.append(callee)
    return order


def _numbers(type: str | ProgramType | None) -> dict[str, int]:
    """Helper numbers by name, with the prefixes that C declarations use. Types that pybpf has no table for are Linux's."""
    if type is None:
        return {}
    known = program_types.BY_NAME.get(type) if isinstance(type, str) else type
    table = known.helpers if known is not None else helpers.LINUX
    return {
        prefix + helper.name: number for number, helper in table.items() for prefix in ("", "bpf_", "ubpf_")
    }


def _place(
    linked: _Linked, function: Function, functions: Mapping[Place, Function], numbers: Mapping[str, int]
) -> None:
    base = linked.bases[function.section.index, function.start]
    linked.functions[base] = Subprogram(function.name, base, function.size, function.is_global)
    for slot, instruction in function.code.items():
        linked.code[base + slot] = instruction
    for slot, reference in function.references.items():
        linked.references[base + slot] = reference
    for slot, line in function.lines.items():
        linked.lines[base + slot] = line
    for slot, place in function.callees.items():
        _connect(linked, function, base, slot, functions.get(place))
    for slot, name in function.externs.items():
        pc = base + slot
        if name in numbers:
            linked.code[pc] = replace(linked.code[pc], imm=numbers[name])
        else:
            linked.references[pc] = Reference(RefKind.HELPER, name)
    if function.defect and linked.defect is None:
        linked.defect = _at(function.defect, base, function.name)


def _connect(linked: _Linked, function: Function, base: int, slot: int, callee: Function | None) -> None:
    pc = base + slot
    if callee is None:
        if linked.defect is None:
            linked.defect = LinkError(f"pc {pc} calls a place where no function begins", function.name)
        return
    target = linked.bases[callee.section.index, callee.start]
    instruction = linked.code[pc]
    distance = target - pc - 1
    if instruction.op.kind is Kind.CALL_LOCAL:
        linked.code[pc] = replace(instruction, imm=distance)
    else:
        linked.code[pc] = replace(instruction, src=instruction.op.src or 0, imm=distance & 0xFFFF_FFFF)
        linked.references[pc] = Reference(RefKind.FUNCTION, callee.name, target)


def _at(defect: BpfError, base: int, function: str) -> BpfError:
    """A function's defect, told of the linked program."""
    match defect:
        case DecodeError():
            return DecodeError(defect.detail, base + defect.pc)
        case UnsupportedError(pc=int(pc)):
            return UnsupportedError(defect.detail, defect.feature, program=function, pc=base + pc)
    return defect
