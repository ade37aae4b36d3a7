"""The assembler and the disassembler: whole programs as text.

A text holds one instruction or label a line, in the pseudo-C of clang and llvm-objdump. ``;``, ``#`` and ``//`` start a comment,
``/* */`` encloses one; slot numbers and bytes before an instruction, as disassemblers print them, are skipped. A name may
stand where a number may:

    goto done            a label, ``done:`` on a line of its own (or ``<done>:``)
    call next            a function of the text, else a helper of the program type
    r1 = flows ll        the address of a map, else of a function of the text
    r1 = .rodata + 8 ll  a byte of the value of a map that has one value

Functions are the labels that are called, loaded or made global. ``goto +5`` and ``call +5`` count slots from the next
instruction; ``call 5`` is helper 5. `pybpf.directives` has what stands in a text besides code.
"""

from __future__ import annotations

import difflib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from pybpf import directives
from pybpf.directives import DIRECTIVES
from pybpf.errors import ArgumentError
from pybpf.helpers import LINUX, Helper, number_of
from pybpf.instruction import SLOT, ByteOrder, Instruction, decode, encode
from pybpf.isa import ANY, Kind, Op, op
from pybpf.program import MapSpec, Program, Reference, RefKind, Subprogram
from pybpf.program_types import BY_NAME, ProgramType
from pybpf.semantics import U32, U64
from pybpf.syntax import Match, Syntax, Token, Value, lines, quoted, read, write

if TYPE_CHECKING:
    from pybpf.btf import Member


def assemble(
    text: str,
    type: str | ProgramType | None = None,
    maps: Mapping[str, MapSpec] | None = None,
    name: str = "program",
    *,
    syntax: Syntax = "pseudo-c",
) -> Program:
    r"""The program that a text describes.

    `maps` defines maps that the text names without defining them; `type` goes before the text's own and says which helpers have
    names. Without a type a helper's name becomes a reference that is resolved when the program is run or verified under
    one. Raises `AssemblyError` with line and column, whose `context` is the line with a caret, and `ArgumentError` for a map that
    is given under another name than its own.

    >>> program = assemble("r0 = 1 \n if r2 > 54 goto out \n r0 = 0 \n out: exit")
    >>> [instruction.imm for instruction in program.code.values()]
    [1, 54, 0, 0]
    """
    return _Assembler(text, type, maps or {}, name, syntax).program()


class _Assembler:
    """Two passes: lines to rows with their slots and labels, then operands to numbers and references."""

    def __init__(
        self,
        text: str,
        type: str | ProgramType | None,
        maps: Mapping[str, MapSpec],
        name: str,
        syntax: Syntax,
    ) -> None:
        self.name = name
        self.type = type
        self.given_type = type is not None
        self.license = ""
        self.byteorder: ByteOrder = "little"
        self.maps = dict(maps)
        for key, spec in maps.items():
            if key != spec.name:
                raise ArgumentError(f"map {spec.name!r} is given as {key!r}")
        self.labels: dict[str, int] = {}
        self.globals: dict[str, Token] = {}
        self.used: dict[str, MapSpec] = {}
        self.functions: set[int] = set()
        self.references: dict[int, Reference] = {}
        self.rows: dict[int, list[Match]] = {}
        self.end = 0
        for line in lines(text):
            self._line(line, syntax)

    def program(self) -> Program:
        """The second pass."""
        if self.end in self.labels.values():
            raise self.last_label.error(f"no instruction follows label {self.last_label.name!r}")
        code = {pc: self._instruction(pc, matches) for pc, matches in self.rows.items()}
        return Program(
            self.name,
            code,
            self.type,
            references=self.references,
            maps=tuple(self.used.values()),
            functions=self._subprograms(),
            license=self.license,
            byteorder=self.byteorder,
        )

    # First pass.

    def _line(self, line: list[Token], syntax: Syntax) -> None:
        while len(line) > 1 and line[1].text == ":" and line[0].kind in ("word", "string", "angle"):
            label = line[0].name
            if label in self.labels:
                raise line[0].error(f"label {label!r} is defined twice")
            self.labels[label] = self.end
            self.last_label = line[0]
            line = line[2:]
        if not line:
            return
        if line[0].kind == "word" and line[0].text.startswith("."):
            self._directive(line[0], line[1:])
            return
        matches = read(line, syntax)
        self.rows[self.end] = matches
        self.end += matches[0].op.slots

    def _directive(self, name: Token, rest: list[Token]) -> None:
        match [name.text, *(token.kind for token in rest)]:
            case [".type", "word" | "string"]:
                self.type = self.type if self.given_type else rest[0].name
            case [".license", "word" | "string"]:
                self.license = rest[0].name
            case [".byteorder", "word"] if rest[0].text in ("little", "big"):
                self.byteorder = "little" if rest[0].text == "little" else "big"
            case [".global", "word" | "string"]:
                self.globals[rest[0].name] = rest[0]
            case [".map", "word" | "string", "word" | "string", *_]:
                self.maps[rest[0].name] = directives.read_map(rest[0], rest[1], rest[2:], self.maps)
            case [directive, *_] if directive in DIRECTIVES:
                raise name.error(f"expected {directive} {DIRECTIVES[directive]}")
            case _:
                raise name.error(f"unknown directive {name.text!r}: known are {', '.join(DIRECTIVES)}")

    # Second pass.

    def _instruction(self, pc: int, matches: list[Match]) -> Instruction:
        op, operands = self._choose(matches)
        fields = {"dst": op.dst or 0, "src": op.src or 0, "offset": op.offset or 0, "imm": op.imm or 0}
        for slot, value in operands.items():
            match slot:
                case "dst" | "src":
                    fields[slot] = value.number or 0
                case "off":
                    fields["offset"] = _number(value, -(1 << 15), (1 << 15) - 1, "offset")
                case "target":
                    fields["offset" if op.offset is ANY else "imm"] = self._distance(pc, op, value)
                case "next":
                    fields["imm"] |= (_number(value, -(1 << 31), U32, "second immediate") & U32) << 32
                case "imm" if value.name is None:
                    fields["imm"] |= _immediate(op, value)
                case "imm":
                    op, fields["src"], fields["imm"] = self._named(pc, op, value)
        return Instruction(op, **fields)

    def _choose(self, matches: list[Match]) -> Match:
        """Which kind of ``call``: a signed number or a label means a function of the program, anything else a helper."""
        if len(matches) == 1:
            return matches[0]
        helper, local = matches
        (value,) = local.operands.values()
        signed = value.name is None and value.token.text[0] in "+-"
        return local if signed or _is_pc(value) or value.name in self.labels else helper

    def _distance(self, pc: int, op: Op, value: Value) -> int:
        """How many slots a jump at `pc` goes from the next instruction."""
        bits = 16 if op.offset is ANY else 32
        if value.name is None or _is_pc(value):
            distance = value.number or 0
        elif value.number is not None:
            raise value.token.error("a number cannot be added to a label")
        elif value.name not in self.labels:
            raise value.token.error(f"no label {value.name!r}{_near(value.name, self.labels)}")
        else:
            distance = self.labels[value.name] - pc - 1
            if op.kind is Kind.CALL_LOCAL:
                self.functions.add(self.labels[value.name])
        if not -(1 << (bits - 1)) <= distance < 1 << (bits - 1):
            hint = ": use gotol" if op.code == "ja" else ""
            raise value.token.error(f"the jump is {distance} slots long and does not fit {bits} bits{hint}")
        return distance

    def _named(self, pc: int, op: Op, value: Value) -> tuple[Op, int, int]:
        """The row, src and imm of an instruction whose immediate is a name."""
        assert value.name is not None
        if op.code == "imm":
            return self._address(pc, value.name, value)
        if op.code == "helper" and value.number is None:
            table = _helpers(self.type)
            if table is None:
                self.references[pc] = Reference(RefKind.HELPER, value.name)
                return op, 0, _NO_HELPER
            number = number_of(table, value.name)
            if number is None:
                near = _near(value.name, [*self.labels, *(helper.name for helper in table.values())])
                raise value.token.error(f"no function and no helper {value.name!r}{near}")
            return op, 0, number
        hint = (
            f": the address of a map is loaded by 'rN = {value.name} ll'" if value.name in self.maps else ""
        )
        raise value.token.error(f"expected a number, not {value.name!r}{hint}")

    def _address(self, pc: int, name: str, value: Value) -> tuple[Op, int, int]:
        if name in self.maps:
            self.used.setdefault(name, self.maps[name])
            if value.number is None:
                self.references[pc] = Reference(RefKind.MAP, name)
                return _MAP, 1, 0
            if value.number < 0:
                raise value.token.error(f"{value.number} bytes lie before the value of map {name!r}")
            self.references[pc] = Reference(RefKind.VALUE, name, value.number)
            return _MAP_VALUE, 2, (value.number & U32) << 32
        if name in self.labels and value.number is None:
            target = self.labels[name]
            self.functions.add(target)
            self.references[pc] = Reference(RefKind.FUNCTION, name, target)
            return _FUNCTION, 4, (target - pc - 1) & U32
        raise value.token.error(f"no map and no function {name!r}{_near(name, [*self.maps, *self.labels])}")

    def _subprograms(self) -> dict[int, Subprogram]:
        for name, token in self.globals.items():
            if name not in self.labels:
                raise token.error(f"no label {name!r}{_near(name, self.labels)}")
            self.functions.add(self.labels[name])
        names = {pc: name for name, pc in reversed(self.labels.items())}
        starts = sorted(self.functions | {0}) if self.functions else []
        ends = [*starts, self.end][1:]
        return {
            pc: Subprogram(names.get(pc, self.name), pc, end - pc, names.get(pc) in self.globals)
            for pc, end in zip(starts, ends, strict=True)
        }


_NO_HELPER: Final = -1
"""The number in a call of a helper that is known by its name alone."""

_IMM, _MAP, _MAP_VALUE, _FUNCTION = (
    op(Kind.LOAD_IMM64, code) for code in ("imm", "map_fd", "map_value_fd", "function")
)


def _is_pc(value: Value) -> bool:
    """``pc+5``: the kernel's way to write a distance."""
    return value.name == "pc" and value.number is not None


def _number(value: Value, low: int, high: int, what: str) -> int:
    if value.name is not None:
        raise value.token.error(f"expected a number, not {value.name!r}")
    number = value.number or 0
    if not low <= number <= high:
        raise value.token.error(f"{what} {value.token.text} does not fit: it goes from {low} to {high}")
    return number


def _immediate(op: Op, value: Value) -> int:
    """The number in the row's immediate. One that would change when it is sign-extended to 64 bits is refused."""
    if op.slots == 2:
        bits = 64 if op.code == "imm" else 32
        return _number(value, -(1 << (bits - 1)), (1 << bits) - 1, "immediate") & (U64 if bits == 64 else U32)
    extended = (op.kind in (Kind.ALU, Kind.BRANCH) and op.width == 64) or (
        op.kind is Kind.STORE and op.size == 8
    )
    number = _number(value, -(1 << 63), U64, "immediate")
    if not -(1 << 31) <= number <= ((1 << 31) - 1 if extended else U32):
        hint = ": load it with 'rN = ... ll'" if extended else ""
        raise value.token.error(
            f"{value.token.text} does not fit the {'signed ' * extended}32 bits of an immediate{hint}"
        )
    return (number & U32 ^ 1 << 31) - (1 << 31)


def _helpers(type: str | ProgramType | None) -> Mapping[int, Helper] | None:
    """The helpers of a type, Linux's where pybpf does not know the type's name."""
    if isinstance(type, str):
        return BY_NAME[type].helpers if type in BY_NAME else LINUX
    return type.helpers if type is not None else None


def _near(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f": did you mean {near[0]!r}?" if near else ""


def disassemble(
    program: Program | Mapping[int, Instruction] | bytes,
    *,
    source: bool = True,
    pcs: bool = False,
    encoding: bool = False,
    syntax: Syntax = "pseudo-c",
) -> str:
    """A program as text that `assemble` turns back into the program.

    Jump targets get labels, ``L5`` for pc 5; maps, functions and helpers their names; variables are named in comments. `source`
    adds the lines of source that the program carries as comments, `pcs` the slot number before each instruction and `encoding`
    its bytes. The number that a named map replaces is not written: programs refer to maps by name. Raises `DecodeError` for
    bytes that are no program.

    >>> print(disassemble(bytes.fromhex("b700000001000000 9500000000000000")))
        r0 = 1
        exit
    """
    if isinstance(program, bytes):
        program = decode(program)
    if not isinstance(program, Program):
        program = Program("program", program)
    targets = {_target(pc, instruction, program) for pc, instruction in program.code.items()} | {
        *program.functions
    }
    out, shown = list(directives.write(program)), None
    names = _Names(program)
    variables = {spec.name: found for spec in program.maps if (found := _variables(spec))}
    for pc, instruction in program.code.items():
        if pc in targets and (label := names.label(pc)) is not None:
            out.append(f"{quoted(label)}:")
        if source and pc in program.lines:
            line = program.lines[pc]
            text = " ".join(f"; {line.file}:{line.line}: {line.text}".split()).removesuffix(":")
            if text != shown:  # another column of the same line says nothing new
                out.append(shown := text)
        margin = f"{pc:>6}: " if pcs or encoding else "    "
        if encoding:
            margin += f"{encode([instruction], program.byteorder).hex(' '):<{6 * SLOT}}"
        text = _format(instruction, pc, names, syntax)
        reference = program.references.get(pc)
        if reference is not None and reference.kind is RefKind.UNSUPPORTED:
            text += f"  ; unsupported: {' '.join(reference.name.split())}"
        elif reference is not None and reference.name in variables:
            text += _comment(variables[reference.name], reference.offset)
        out.append(margin + text)
    return "\n".join(out)


def _variables(spec: MapSpec) -> list[Member]:
    """The variables of a section of data, where the object describes them."""
    return [] if spec.btf is None or spec.value_type is None else spec.btf.variables(spec.value_type)


def _comment(variables: list[Member], offset: int) -> str:
    """The variable at an offset, and how far it is from the variable's first byte."""
    index = bisect_right(variables, offset, key=attrgetter("offset")) - 1
    variable = variables[max(index, 0)]
    distance = offset - variable.offset
    if not 0 <= distance < max(variable.size, 1):
        return ""
    return f"  ; {' '.join(variable.name.split())}" + (f"+{distance}" if distance else "")


def format_instruction(
    instruction: Instruction,
    pc: int | None = None,
    program: Program | None = None,
    *,
    syntax: Syntax = "pseudo-c",
) -> str:
    """One instruction as text; given its `pc` and `program`, with the names that `disassemble` writes.

    >>> format_instruction(decode(bytes.fromhex("1502050000000000"))[0])
    'if r2 == 0 goto +5'
    """
    if program is None or pc is None:
        return write(instruction, syntax)
    return _format(instruction, pc, _Names(program), syntax)


def _format(instruction: Instruction, pc: int, names: _Names, syntax: Syntax) -> str:
    reference = names.program.references.get(pc)
    if instruction.op.kind is Kind.LOAD_IMM64 and reference is not None:
        name = names.address(reference)
        return write(replace(instruction, op=_IMM), syntax, imm=name) if name else write(instruction, syntax)
    if instruction.op.code == "helper":
        return write(instruction, syntax, imm=names.helper(instruction, reference))
    target = _target(pc, instruction, names.program)
    label = names.label(target) if target is not None else None
    return write(instruction, syntax, target=quoted(label) if label is not None else None)


def _target(pc: int, instruction: Instruction, program: Program) -> int | None:
    """The slot that an instruction names: where it jumps to, or the function whose address it loads."""
    if "{target}" in instruction.op.syntax:
        return instruction.target(pc)
    reference = program.references.get(pc)
    return reference.offset if reference is not None and reference.kind is RefKind.FUNCTION else None


class _Names:
    """The names in the text of a program; one that would be read back as something else is not written."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._functions = Counter(function.name for function in program.functions.values())
        self._maps = {spec.name for spec in program.maps}
        self._helpers = _helpers(program.type) or {}

    def label(self, pc: int) -> str | None:
        """The name of a slot; None where no instruction starts, or where the name means something else too."""
        function = self.program.functions.get(pc)
        name = function.name if function is not None else f"L{pc}"
        others = self._functions[name] - (function is not None)
        return name if pc in self.program.code and not others and name not in self._maps else None

    def address(self, reference: Reference) -> str | None:
        """What a wide load holds the address of."""
        match reference.kind:
            case RefKind.MAP:
                return quoted(reference.name)
            case RefKind.VALUE:
                return f"{quoted(reference.name)} + {reference.offset}"
            case RefKind.FUNCTION:
                label = self.label(reference.offset)
                return quoted(label) if label is not None else None
            case _:
                return None

    def helper(self, instruction: Instruction, reference: Reference | None) -> str | None:
        """The name of a called helper where it is read back as this helper."""
        table = self._helpers
        if reference is not None:
            name = reference.name if reference.kind is RefKind.HELPER else None
        else:
            helper = table.get(instruction.imm)
            name = helper.name if helper and number_of(table, helper.name) == instruction.imm else None
        return quoted(name) if name is not None and name not in self._functions else None
