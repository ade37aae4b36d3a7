"""The functions of an object: where they begin, their instructions, and what their operands stand for."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from pybpf.btf import Btf, CoreRelocation, Ext, Line
from pybpf.elf.btf_maps import variables_of
from pybpf.elf.file import ElfFile, Relocation, Section
from pybpf.elf.maps import Maps, Place
from pybpf.errors import BpfError, DecodeError, LinkError, UnsupportedError
from pybpf.instruction import SLOT, Instruction, decode
from pybpf.isa import Kind, op
from pybpf.program import CO_RE, Prototype, Reference, RefKind, SourceLine

if TYPE_CHECKING:
    from pybpf.elf.core import Core
    from pybpf.elf.prototypes import Prototypes

_HELPER: Final = op(Kind.CALL, "helper")
_KFUNC: Final = op(Kind.CALL, "kfunc")
_LOCAL: Final = op(Kind.CALL_LOCAL, "local")
_MAP: Final = op(Kind.LOAD_IMM64, "map_fd")
_VALUE: Final = op(Kind.LOAD_IMM64, "map_value_fd")
_FUNCTION: Final = op(Kind.LOAD_IMM64, "function")
_NUMBER: Final = op(Kind.LOAD_IMM64, "imm")
_CALLS: Final = (Kind.CALL, Kind.CALL_LOCAL)
_BAD_RELOCATION: Final = 0xBAD2310
"""The helper that libbpf calls in place of an instruction that must not be reached: there will never be one."""

_NO_SYMBOLS: Final = "symbols"
_TEXTS: Final = ("license", "version")
"""Sections of data that no program refers to."""

# Relocation types by the instruction that they change (LLVM, ELFRelocs/BPF.def): R_BPF_64_64 and R_BPF_64_32. LLVM before
# version 5 borrowed x86-64's numbers and wrote 2 for calls.
_ADDRESS_TYPES: Final = (1,)
_CALL_TYPES: Final = (10, 2)


@dataclass(slots=True)
class Function:
    """A function before linking: slots count from its first instruction.

    `callees` are the places that calls and function addresses go to, `externs` the undefined functions that calls name;
    both still have to be turned into numbers. `prototype` is a global function's, where BTF says it. `in_gap`: it stands between functions that have symbols, and is there only to be
    called. `defect` is why the function cannot be used.
    """

    name: str
    section: Section
    start: int
    size: int
    is_global: bool
    has_symbol: bool = True
    in_gap: bool = False
    code: dict[int, Instruction] = field(default_factory=dict)
    references: dict[int, Reference] = field(default_factory=dict)
    callees: dict[int, Place] = field(default_factory=dict)
    externs: dict[int, str] = field(default_factory=dict)
    lines: dict[int, SourceLine] = field(default_factory=dict)
    defect: BpfError | None = None
    prototype: Prototype | None = None

    @property
    def place(self) -> Place:
        """Where it stands in the file."""
        return self.section.index, self.start

    def blame(self, defect: BpfError) -> None:
        """Keep the first defect."""
        self.defect = self.defect or defect


def read_functions(
    file: ElfFile, maps: Maps, ext: Ext | None, target: Btf | None = None
) -> dict[Place, Function]:
    """The functions of every executable section by place, in the order of the file; relocated for `target`."""
    functions: list[Function] = []
    kernel = _kernel_names(maps.btf) if maps.btf else {}
    for section in file.sections:
        if section.executable and section.size:
            in_section = _functions_in(file, section)
            _Relocator(file, maps, kernel, in_section).relocate(section)
            functions += in_section
    functions = _split_at_callees(functions)
    if ext and maps.btf:
        _add_debug_info(functions, ext, maps.btf, target)
    return {function.place: function for function in functions}


def _functions_in(file: ElfFile, section: Section) -> list[Function]:
    """A function for each function symbol, up to the next one; without any, the section is one function.

    What is left between them may be functions whose symbols were stripped.
    """
    code = file.data(section)
    symbols = [s for s in file.symbols_in(section) if s.is_function and s.value < section.size]
    if symbols:
        functions = []
        for symbol, end in zip(symbols, [*(s.value for s in symbols[1:]), section.size], strict=True):
            size = min(symbol.size or section.size, end - symbol.value)
            functions.append(Function(symbol.name, section, symbol.value, _slots(size), symbol.is_global))
        functions = list(_with_gaps(functions, section, code))
    else:
        functions = [Function(section.name, section, 0, _slots(section.size), True, has_symbol=False)]
    for function in functions:
        _decode(function, code[function.start : function.start + function.size * SLOT], file)
    return functions


def _with_gaps(functions: list[Function], section: Section, code: bytes) -> Iterator[Function]:
    """The functions of a section and what stands between them but padding, in the order of the file."""
    at = 0
    for function in (*functions, None):
        start = section.size if function is None else function.start
        if size := _slots(len(code[at : max(start, at)].rstrip(b"\0"))):
            name = _nameless(section, at // SLOT)
            yield Function(name, section, at, size, False, has_symbol=False, in_gap=True)
        if function is not None:
            yield function
            at = -(-(function.start + function.size * SLOT) // SLOT) * SLOT


def _nameless(section: Section, slot: int) -> str:
    """What a function without a symbol is called: by its section and its first slot there."""
    return section.name if not slot else f"{section.name}+{slot}"


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


def _kernel_names(btf: Btf) -> dict[str, Reference]:
    """What only a kernel can give: its configuration, its variables and functions."""
    names = {}
    for section, what, feature in (
        (".kconfig", "kernel configuration", "kconfig"),
        (".ksyms", "kernel symbol", "ksym"),
    ):
        for name in variables_of(btf, section):
            names[name] = _unsupported(f"{what} {name!r}", feature)
    return names


def _unsupported(what: str, feature: str) -> Reference:
    return Reference(RefKind.UNSUPPORTED, what, feature=feature)


class _Layout:
    """The functions of one section, found by byte offset."""

    def __init__(self, functions: list[Function]) -> None:
        self._functions = functions
        self._starts = [function.start for function in functions]

    def find(self, offset: int) -> tuple[Function, int] | None:
        """The function and its slot at an offset, None between functions."""
        index = bisect_right(self._starts, offset) - 1
        if index < 0:
            return None
        function = self._functions[index]
        slot = (offset - function.start) // SLOT
        return (function, slot) if slot < function.size else None


@dataclass(frozen=True, slots=True)
class _Relocator:
    """Finds out what the operands of a section's functions stand for."""

    file: ElfFile
    maps: Maps
    kernel: dict[str, Reference]
    functions: list[Function]

    def relocate(self, section: Section) -> None:
        """Apply the section's relocations, then resolve the calls that need none."""
        layout = _Layout(self.functions)
        for relocation in self.file.relocations(section):
            if found := layout.find(relocation.offset):
                self._apply(*found, relocation)
        for function in self.functions:
            for slot, instruction in function.code.items():
                if instruction.op.kind is Kind.CALL_LOCAL and slot not in function.callees:
                    self._call_by_offset(function, slot, instruction)
                elif not self.file.has_definitions and instruction.op == _NUMBER:
                    self._number(function, slot, instruction)

    def _call_by_offset(self, function: Function, slot: int, instruction: Instruction) -> None:
        """A call without a relocation goes to another place of its section, unless the relocation was stripped.

        With the symbols, that is. What was relocated looks like a distance: -1, or a place in another section less one.
        """
        target = function.start + instruction.target(slot) * SLOT
        others = (s for s in self.file.sections if s.executable and s.size and s is not function.section)
        if not self.file.has_definitions and (instruction.imm == -1 or any(others)):
            message = "the object has no symbols: it cannot be told which function this calls"
            function.blame(UnsupportedError(message, _NO_SYMBOLS, pc=slot))
        elif slot not in function.references:
            function.callees[slot] = (function.section.index, target)

    def _number(self, function: Function, slot: int, instruction: Instruction) -> None:
        """Without symbols, a number that would fit into a short instruction may have been the address of a map or variable."""
        small = not instruction.imm >> 32
        if small and any(s.loaded and s.size and s.name not in _TEXTS for s in self.file.sections):
            what = f"the object has no symbols: it cannot be told whether {instruction.imm} is a number, a map or a variable"
            function.references.setdefault(slot, _unsupported(what, _NO_SYMBOLS))

    def _apply(self, function: Function, slot: int, relocation: Relocation) -> None:
        instruction = function.code.get(slot)
        if instruction is None or relocation.offset % SLOT:
            function.blame(LinkError(f"bad relocation offset {relocation.offset}", relocation.symbol.name))
        elif instruction.op.kind is Kind.LOAD_IMM64 and relocation.type in _ADDRESS_TYPES:
            self._address(function, slot, instruction, relocation)
        elif instruction.op.kind in _CALLS and relocation.type in _CALL_TYPES:
            self._call(function, slot, instruction, relocation)
        else:
            what = f"relocation type {relocation.type} of opcode 0x{instruction.op.opcode:02x}"
            function.references[slot] = _unsupported(what, "relocation")

    def _address(
        self, function: Function, slot: int, instruction: Instruction, relocation: Relocation
    ) -> None:
        """A wide load of a symbol's address; the first immediate is added to it, or the entry's addend."""
        symbol = relocation.symbol
        if symbol.section is None:
            extern = _unsupported(f"extern variable {symbol.name!r}", "extern")
            function.references[slot] = self.kernel.get(symbol.name, extern)
            return
        section = self.file.sections[symbol.section]
        addend = _signed32(instruction.imm) if relocation.addend is None else relocation.addend
        offset = symbol.value + addend
        if section.executable:
            function.callees[slot] = (section.index, offset)
            function.code[slot] = replace(instruction, op=_FUNCTION, src=4)
            return
        reference = function.references[slot] = self.maps.at(section, offset)
        if reference.kind is RefKind.MAP:
            function.code[slot] = replace(instruction, op=_MAP, src=1, imm=0)
        elif reference.kind is RefKind.VALUE:
            function.code[slot] = replace(instruction, op=_VALUE, src=2, imm=reference.offset << 32)

    def _call(self, function: Function, slot: int, instruction: Instruction, relocation: Relocation) -> None:
        """A call's immediate counts slots from the symbol, less one: -1 calls the symbol itself."""
        symbol = relocation.symbol
        section = None if symbol.section is None else self.file.sections[symbol.section]
        if section is None and symbol.name in self.kernel:
            function.references[slot] = self.kernel[symbol.name]
            function.code[slot] = Instruction(_KFUNC, src=2, imm=-1)
        elif section is None:
            function.externs[slot] = symbol.name
            function.code[slot] = Instruction(_HELPER, imm=-1)
        elif section.executable:
            addend = (instruction.imm + 1) * SLOT if relocation.addend is None else relocation.addend
            function.callees[slot] = (section.index, symbol.value + addend)
            function.code[slot] = replace(instruction, op=_LOCAL, src=1)
        else:
            function.references[slot] = _unsupported(f"call into section {section.name!r}", "relocation")


def _signed32(imm: int) -> int:
    return (imm & 0xFFFF_FFFF ^ 0x8000_0000) - 0x8000_0000


def _split_at_callees(functions: list[Function]) -> list[Function]:
    """Where no symbol says where functions begin, they begin where they are called; a gap that nothing calls is none."""
    targets: dict[int, set[int]] = {f.section.index: set() for f in functions if not f.has_symbol}
    for function in functions:
        for section, offset in function.callees.values():
            if section in targets and offset % SLOT == 0:
                targets[section].add(offset)
    ordered = {section: sorted(offsets) for section, offsets in targets.items()}
    result = []
    for function in functions:
        if function.has_symbol:
            result.append(function)
        else:
            offsets = ordered[function.section.index]
            first = bisect_left(offsets, function.start)
            last = bisect_left(offsets, function.start + function.size * SLOT)
            slots = {(offset - function.start) // SLOT for offset in offsets[first:last]}
            parts = _split(function, sorted(slots & function.code.keys() | {0}))
            result += parts if not function.in_gap or 0 in slots else parts[1:]
    return result


def _split(function: Function, starts: list[int]) -> list[Function]:
    parts = [
        Function(
            _nameless(function.section, function.start // SLOT + start),
            function.section,
            function.start + start * SLOT,
            end - start,
            function.is_global,
            has_symbol=False,
            in_gap=function.in_gap,
            defect=function.defect,
        )
        for start, end in zip(starts, [*starts[1:], function.size], strict=True)
    ]
    for name in ("code", "references", "callees", "externs"):
        for slot, value in getattr(function, name).items():
            index = bisect_right(starts, slot) - 1
            getattr(parts[index], name)[slot - starts[index]] = value
    return parts


def _add_debug_info(functions: list[Function], ext: Ext, btf: Btf, target: Btf | None) -> None:
    """Give functions their source lines and prototypes, and fit their instructions to the layouts of the target."""
    sections = {function.section.name: function.section for function in reversed(functions)}
    by_name: dict[str, list[Function]] = {name: [] for name in sections}
    for function in functions:  # BTF cannot tell two sections of one name apart
        if sections[function.section.name] is function.section:
            by_name[function.section.name].append(function)
    relocator = _relocator(btf, target) if ext.relocations else None
    prototypes = _prototypes(btf) if any(function.is_global for function in functions) else None
    for name, group in by_name.items():
        layout = _Layout(group)
        for offset, id in ext.functions.get(name, []):
            if (
                prototypes
                and (found := layout.find(offset))
                and found[0].start == offset
                and found[0].is_global
            ):
                found[0].prototype = prototypes.of(id)
        for offset, line in _changes(ext.lines.get(name, [])):
            if found := layout.find(offset):
                function, slot = found
                function.lines[slot] = line
        for record in ext.relocations.get(name, []):
            if relocator and (found := layout.find(record.offset)):
                _relocate(*found, record, relocator)


def _prototypes(btf: Btf) -> Prototypes:
    from pybpf.elf.prototypes import Prototypes  # objects without BTF have none

    return Prototypes(btf)


def _relocator(btf: Btf, target: Btf | None) -> Core:
    from pybpf.elf.core import Core  # most objects have no such relocations

    return Core(btf, target)


def _relocate(function: Function, slot: int, record: CoreRelocation, relocator: Core) -> None:
    """Apply a CO-RE relocation. What the target lacks may be guarded by a test, so only reaching it is wrong."""
    instruction = function.code.get(slot)
    if instruction is None or record.offset % SLOT:
        function.blame(UnsupportedError(f"CO-RE: bad relocation offset {record.offset}", CO_RE))
        return
    try:
        patched = relocator.relocate(instruction, record)
    except UnsupportedError as error:
        function.blame(UnsupportedError(error.detail, error.feature, pc=slot))
        return
    if patched is None:
        what = f"CO-RE: {relocator.describe(record)}: the target has none"
        function.references[slot] = _unsupported(what, CO_RE)
        patched = (
            instruction
            if instruction.op.kind is Kind.LOAD_IMM64
            else Instruction(_HELPER, imm=_BAD_RELOCATION)
        )
    function.code[slot] = patched


def _changes(lines: list[Line]) -> Iterator[tuple[int, SourceLine]]:
    """The offsets where the source line changes. Line 0 means that no line made the code: the one before goes on."""
    last = None
    for offset, file, line, column, text in sorted(lines, key=itemgetter(0)):
        source = SourceLine(file, line, column, text)
        if source != last and line:
            last = source
            yield offset, source
