"""Programs, maps and objects as frozen data: what a file says, before anything is proved or run.

Nothing here allocates a map or touches the machine, so the same bytes give equal values everywhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

from pybpf.errors import ArgumentError, BpfError
from pybpf.instruction import ByteOrder, Instruction, decode
from pybpf.isa import Kind
from pybpf.program_types import ProgramType
from pybpf.semantics import signed

if TYPE_CHECKING:
    from pathlib import Path

    from pybpf.btf import Btf

_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class MapSpec:
    """The definition of a map: sizes in bytes, `type` by pybpf's names (``array``, ``hash``, ...).

    `initial` are the contents of a data section that became a map of one value; `read_only` says that programs may not
    write it. `flags` are Linux's ``BPF_F_*``. `key_type` and `value_type` are ids in `btf`, the object's, where it has them.
    `inner` is what a map of maps holds; `values` are the slots that its definition fills, by index, with the names of
    maps or programs. `byteorder` is that of the numbers in it: an array's index in a key, and what views show. `pinning` says where a kernel's loader would keep the map: ``name``, ``object``, ``global`` or nowhere.
    """

    name: str
    type: str
    key_size: int = 0
    value_size: int = 0
    max_entries: int = 0
    flags: int = 0
    initial: bytes | None = None
    read_only: bool = False
    inner: MapSpec | None = None
    key_type: int | None = None
    value_type: int | None = None
    values: tuple[tuple[int, str], ...] = ()
    byteorder: ByteOrder = "little"
    pinning: str = field(default="", compare=False)
    btf: Btf | None = field(default=None, compare=False, repr=False)

    def ordered(self, byteorder: ByteOrder) -> MapSpec:
        """The same map for a machine with this byte order."""
        if self.byteorder == byteorder:
            return self
        inner = self.inner.ordered(byteorder) if self.inner is not None else None
        return replace(self, byteorder=byteorder, inner=inner)


CO_RE: Final = "co-re"
"""What is missing where a CO-RE relocation could not be applied."""


class RefKind(Enum):
    """What an operand stands for."""

    MAP = "map"  # the map itself
    VALUE = "value"  # `offset` bytes into the only value of the map
    FUNCTION = "function"  # a function of the program; `offset` is its pc
    HELPER = "helper"  # a helper by name, where the object does not carry its number
    UNSUPPORTED = "unsupported"  # something that pybpf does not know: `name` says what


@dataclass(frozen=True, slots=True)
class Reference:
    """What the immediate of one instruction refers to, beside the code and never written into it.

    `feature` of an unsupported reference is what pybpf lacks, as in `UnsupportedError.feature`.
    """

    kind: RefKind
    name: str
    offset: int = 0
    feature: str = ""


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of the program's source. `text` is what the object carries of it."""

    file: str
    line: int
    column: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a C function. `kind` is ``number``, ``pointer``, or ``other`` for what no register holds as it is.

    Of a pointer, `names` are those of what it points to, typedefs first, and `size` its bytes, None where it has no size. `tags` are
    what its declaration is tagged with behind ``arg:`` (``nonnull``, ``ctx``, ...).
    """

    kind: str
    names: tuple[str, ...] = ()
    size: int | None = None
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Prototype:
    """What a C function takes, and whether it gives a number."""

    parameters: tuple[Parameter, ...] = ()
    gives_number: bool = True


@dataclass(frozen=True, slots=True)
class Subprogram:
    """A function inside a program: `pc` of its first slot, `size` in slots.

    `prototype` is that of a global function whose object says it in BTF; the text of a program has none.
    """

    name: str
    pc: int
    size: int
    is_global: bool = False
    prototype: Prototype | None = field(default=None, compare=False)


def _frozen(mapping: Mapping[_K, _V]) -> Mapping[_K, _V]:
    return MappingProxyType(dict(mapping))


@dataclass(frozen=True, slots=True)
class Program:
    """A program: instructions keyed by slot, and beside them what their operands stand for.

    `maps` are the maps that the code refers to, in order of first reference: the position is the map's number. `type` is
    a name or a value, None where nothing says it. `functions` are the functions by their first slot, the entry at 0.
    `lines` holds, for the slots where the source line changes, that line. `defect` is why the program cannot be verified
    although its object was read (an unknown instruction, a relocation that pybpf does not know); `verify` raises it. `byteorder` is that of
    the machine that it was compiled for, and of its maps: how its instructions read and write numbers.
    """

    name: str
    code: Mapping[int, Instruction]
    type: str | ProgramType | None = None
    section: str = ""
    references: Mapping[int, Reference] = field(default_factory=dict)
    maps: tuple[MapSpec, ...] = ()
    functions: Mapping[int, Subprogram] = field(default_factory=dict)
    lines: Mapping[int, SourceLine] = field(default_factory=dict)
    license: str = ""
    defect: BpfError | None = None
    byteorder: ByteOrder = "little"
    _line_starts: tuple[int, ...] = field(init=False, repr=False, compare=False, default=())

    def __post_init__(self) -> None:
        for name in ("code", "references", "functions", "lines"):
            object.__setattr__(self, name, _frozen(getattr(self, name)))
        object.__setattr__(self, "_line_starts", tuple(sorted(self.lines)))
        object.__setattr__(self, "maps", tuple(spec.ordered(self.byteorder) for spec in self.maps))

    @property
    def size(self) -> int:
        """Slots of the program."""
        return sum(instruction.slots for instruction in self.code.values())

    def map_number(self, name: str) -> int:
        """The position of a map in `maps`. Raises `ArgumentError` where the program does not use it."""
        for number, spec in enumerate(self.maps):
            if spec.name == name:
                return number
        raise ArgumentError(f"program {self.name!r} uses no map {name!r}")

    def function_at(self, pc: int) -> int | None:
        """The first slot of the function whose address the instruction at `pc` loads, None for any other instruction."""
        instruction, reference = self.code[pc], self.references.get(pc)
        if instruction.op.kind is not Kind.LOAD_IMM64:
            return None
        if reference is not None:
            return reference.offset if reference.kind is RefKind.FUNCTION else None
        return pc + 1 + signed(instruction.imm, 32) if instruction.op.code == "function" else None

    def source(self, pc: int) -> SourceLine | None:
        """The source line that an instruction comes from, where the object carries it."""
        number = bisect_right(self._line_starts, pc)
        return self.lines[self._line_starts[number - 1]] if number else None

    @classmethod
    def from_bytes(
        cls,
        code: bytes,
        type: str | ProgramType | None = None,
        maps: Mapping[int, MapSpec] | None = None,
        name: str = "program",
        byteorder: ByteOrder = "little",
    ) -> Program:
        """A program from its bytes, without an ELF file.

        `maps` says which map the wide load at a slot stands for; the load may carry any number and any of the map forms.
        Equal specs are one map. Raises `DecodeError` for bytes that are no program, `ArgumentError` for a slot without a
        wide load.
        """
        instructions = decode(code, byteorder)
        references: dict[int, Reference] = {}
        for pc, spec in sorted((maps or {}).items()):
            instruction = instructions.get(pc)
            if instruction is None or instruction.op.kind is not Kind.LOAD_IMM64:
                raise ArgumentError(f"maps names pc {pc}, where no wide load stands")
            if "value" in instruction.op.code:
                references[pc] = Reference(RefKind.VALUE, spec.name, instruction.imm >> 32)
            else:
                references[pc] = Reference(RefKind.MAP, spec.name)
        return cls(
            name,
            instructions,
            type,
            references=references,
            maps=_in_order(maps or {}),
            byteorder=byteorder,
        )

    @classmethod
    def from_asm(
        cls,
        text: str,
        type: str | ProgramType | None = None,
        maps: Mapping[str, MapSpec] | None = None,
        name: str = "program",
    ) -> Program:
        """A program from assembler text (see `pybpf.assemble`); `maps` defines the maps that the text names."""
        from pybpf.asm import assemble

        return assemble(text, type=type, maps=maps or {}, name=name)


def _in_order(maps: Mapping[int, MapSpec]) -> tuple[MapSpec, ...]:
    """The distinct maps, by first slot. Two different maps of one name are refused."""
    order: dict[str, MapSpec] = {}
    for _, spec in sorted(maps.items()):
        if order.setdefault(spec.name, spec) != spec:
            raise ArgumentError(f"two different maps are called {spec.name!r}")
    return tuple(order.values())


@dataclass(frozen=True, slots=True)
class Object:
    """What an ELF object holds. Programs and maps by name, in the order of the file."""

    programs: Mapping[str, Program]
    maps: Mapping[str, MapSpec] = field(default_factory=dict)
    license: str = ""
    version: int | None = None
    byteorder: ByteOrder = "little"
    path: Path | None = None
    btf: Btf | None = None
    notes: tuple[str, ...] = ()
    """What was found and not understood, one line each."""
    producer: str = ""
    """The compiler, as it names itself."""

    def __post_init__(self) -> None:
        maps = {name: spec.ordered(self.byteorder) for name, spec in self.maps.items()}
        object.__setattr__(self, "programs", _frozen(self.programs))
        object.__setattr__(self, "maps", _frozen(maps))
