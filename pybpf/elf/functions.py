"""The functions of an object: where they begin, their instructions, and what their operands stand for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from pybpf.btf import Ext, Line
from pybpf.elf.file import ElfFile, Relocation, Section, Symbol
from pybpf.elf.maps import Maps
from pybpf.errors import BpfError, DecodeError, ElfError, LinkError, UnsupportedError
from pybpf.instruction import SLOT, Instruction, decode
from pybpf.isa import Kind, op
from pybpf.program import Reference, RefKind, SourceLine

_HELPER: Final = op(Kind.CALL, "helper")
_LOCAL: Final = op(Kind.CALL_LOCAL, "local")
_MAP: Final = op(Kind.LOAD_IMM64, "map_fd")
_VALUE: Final = op(Kind.LOAD_IMM64, "map_value_fd")
_FUNCTION: Final = op(Kind.LOAD_IMM64, "function")

# Relocation types (LLVM, ELFRelocs/BPF.def) by the instruction that they change. Compilers of before 2017 wrote 2 for calls.
_R_64_64: Final = frozenset({1})
_R_64_32: Final = frozenset({10, 2})

_CALLS: Final = (Kind.CALL, Kind.CALL_LOCAL)


@dataclass(slots=True)
class Function:
    """A function before linking: slots count from its first instruction.

    `callees` are the places that calls and function addresses go to (section, byte offset), `externs` the undefined
    functions that calls name; both still have to be turned into numbers. `defect` is why the function cannot be used.
    """

    name: str
    section: Section
    start: int
    size: int
    is_global: bool
    has_symbol: bool = True
    code: dict[int, Instruction] = field(default_factory=dict)
    references: dict[int, Reference] = field(default_factory=dict)
    callees: dict[int, tuple[int, int]] = field(default_factory=dict)
    externs: dict[int, str] = field(default_factory=dict)
    lines: dict[int, SourceLine] = field(default_factory=dict)
    defect: BpfError | None = None

    def blame(self, defect: BpfError) -> None:
        """Keep the first defect."""
        self.defect = self.defect or defect


def read_functions(
    file: ElfFile, maps: Maps, ext: Ext | None, notes: list[str]
) -> dict[tuple[int, int], Function]:
    """The functions of every executable section by place (section, byte offset), in the order of the file."""
    functions: list[Function] = []
    for section in file.sections:
        if section.executable and section.size:
            functions += _read_section(file, section, maps)
    functions = _split_at_callees(functions)
    if ext:
        _add_debug_info(functions, ext)
    for function in functions:
        if function.defect:
            notes.append(f"function {function.name!r}: {function.defect}")
    return {(function.section.index, function.start): function for function in functions}


def _read_section(file: ElfFile, section: Section, maps: Maps) -> list[Function]:
    try:
        data = file.data(section)
    except ElfError as error:
        function = Function(section.name, section, 0, 0, True)
        function.blame(UnsupportedError(str(error), "compressed section"))
        return [function]
    functions = _functions_in(file, section)
    for function in functions:
        _decode(function, data[function.start : function.start + function.size * SLOT], file)
    _relocate(functions, file, section, maps)
    for function in functions:
        _resolve_calls_by_offset(function)
    return functions


def _functions_in(file: ElfFile, section: Section) -> list[Function]:
    """A function for each function symbol, up to the next one; without any, the section is one function."""
    symbols: dict[int, Symbol] = {}
    for symbol in file.symbols:
        if symbol.section == section.index and symbol.is_function and symbol.value < section.size:
            symbols.setdefault(symbol.value, symbol)
    if not symbols:
        return [Function(section.name, section, 0, _slots(section.size), True, has_symbol=False)]
    starts = sorted(symbols)
    functions = []
    for start, end in zip(starts, [*starts[1:], section.size], strict=True):
        symbol = symbols[start]
        size = min(symbol.size or end - start, end - start)
        functions.append(Function(symbol.name, section, start, _slots(size), symbol.is_global))
    return functions


def _slots(size: int) -> int:
    return (size + SLOT - 1) // SLOT


def _decode(function: Function, code: bytes, file: ElfFile) -> None:
    """Decode as far as it goes: a program with a bad instruction can still be shown."""
    while True:
        try:
            function.code = decode(code, file.byteorder)
            return
        except DecodeError as error:
            function.blame(error)
            code = code[: error.pc * SLOT]


def _relocate(functions: list[Function], file: ElfFile, section: Section, maps: Maps) -> None:
    starts = [function.start for function in functions]
    for relocation in file.relocations(section):
        index = bisect_right(starts, relocation.offset) - 1
        if index < 0:
            continue
        function = functions[index]
        slot, rest = divmod(relocation.offset - function.start, SLOT)
        instruction = function.code.get(slot)
        if instruction is None or rest:
            if function.defect is None and slot < function.size:
                function.blame(
                    LinkError(f"bad relocation offset {relocation.offset}", relocation.symbol.name)
                )
        elif instruction.op.kind is Kind.LOAD_IMM64 and relocation.type in _R_64_64:
            _relocate_address(function, slot, instruction, relocation, file, maps)
        elif instruction.op.kind in _CALLS and relocation.type in _R_64_32:
            _relocate_call(function, slot, instruction, relocation, file)
        else:
            what = f"relocation type {relocation.type} of {instruction.op.mnemonic.split()[0]!r}"
            function.references[slot] = Reference(RefKind.UNSUPPORTED, what)


def _relocate_address(
    function: Function, slot: int, instruction: Instruction, relocation: Relocation, file: ElfFile, maps: Maps
) -> None:
    symbol = relocation.symbol
    if symbol.section is None:
        function.references[slot] = Reference(RefKind.UNSUPPORTED, f"extern variable {symbol.name!r}")
        return
    offset = symbol.value + (instruction.imm & 0xFFFF_FFFF)
    if file.sections[symbol.section].executable:
        function.callees[slot] = (symbol.section, offset)
        function.code[slot] = replace(instruction, op=_FUNCTION)
        return
    reference = function.references[slot] = maps.at(symbol.section, offset)
    if reference.kind is RefKind.MAP:
        function.code[slot] = replace(instruction, op=_MAP, src=1, imm=0)
    elif reference.kind is RefKind.VALUE:
        function.code[slot] = replace(instruction, op=_VALUE, src=2, imm=reference.offset << 32)


def _relocate_call(
    function: Function, slot: int, instruction: Instruction, relocation: Relocation, file: ElfFile
) -> None:
    """A call's immediate is -1 for a function with a symbol; in a section, it is the slot less one."""
    symbol = relocation.symbol
    if symbol.section is None:
        function.externs[slot] = symbol.name
        function.code[slot] = Instruction(_HELPER, imm=-1)
    elif file.sections[symbol.section].executable:
        function.callees[slot] = (symbol.section, symbol.value + (instruction.imm + 1) * SLOT)
        function.code[slot] = replace(instruction, op=_LOCAL, src=1)
    else:
        where = file.sections[symbol.section].name
        function.references[slot] = Reference(RefKind.UNSUPPORTED, f"a call into section {where!r}")


def _resolve_calls_by_offset(function: Function) -> None:
    for slot, instruction in function.code.items():
        if instruction.op.kind is Kind.CALL_LOCAL and slot not in function.callees:
            target = function.start + (slot + 1 + instruction.imm) * SLOT
            function.callees[slot] = (function.section.index, target)


def _split_at_callees(functions: list[Function]) -> list[Function]:
    """Where no symbol says where functions begin, they begin where they are called."""
    entries: dict[int, set[int]] = {f.section.index: {0} for f in functions if not f.has_symbol}
    for function in functions:
        for section, offset in function.callees.values():
            if section in entries and offset % SLOT == 0:
                entries[section].add(offset // SLOT)
    result = []
    for function in functions:
        if function.has_symbol:
            result.append(function)
        else:
            result += _split(function, sorted(entries[function.section.index] & {0, *function.code}))
    return result


def _split(function: Function, starts: list[int]) -> list[Function]:
    parts = [
        Function(
            function.name if not start else f"{function.name}+{start}",
            function.section,
            start * SLOT,
            end - start,
            function.is_global,
            has_symbol=False,
            defect=function.defect,
        )
        for start, end in zip(starts, [*starts[1:], function.size], strict=True)
    ]
    for name in ("code", "references", "callees", "externs"):
        for slot, value in getattr(function, name).items():
            index = bisect_right(starts, slot) - 1
            getattr(parts[index], name)[slot - starts[index]] = value
    return parts


def _add_debug_info(functions: list[Function], ext: Ext) -> None:
    by_section: dict[str, list[Function]] = {}
    for function in functions:
        by_section.setdefault(function.section.name, []).append(function)
    for section, group in by_section.items():
        starts = [function.start for function in group]
        for offset, line in _changes(ext.lines.get(section, [])):
            function = group[max(bisect_right(starts, offset) - 1, 0)]
            slot = (offset - function.start) // SLOT
            if 0 <= slot < function.size:
                function.lines[slot] = line
        for relocation in ext.relocations.get(section, []):
            function = group[max(bisect_right(starts, relocation.offset) - 1, 0)]
            slot = (relocation.offset - function.start) // SLOT
            if 0 <= slot < function.size:
                message = f"CO-RE relocation of type id {relocation.type_id}, access {relocation.access!r}"
                function.blame(UnsupportedError(message, "co-re", pc=slot))


def _changes(lines: list[Line]) -> Iterator[tuple[int, SourceLine]]:
    """The offsets where the source line changes."""
    last = None
    for line in sorted(lines):
        if line[1:] != last:
            last = line[1:]
            yield line[0], SourceLine(*line[1:])
