"""Helper calls: the words of a contract as obligations, and what a call leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pybpf.errors import UnsupportedError
from pybpf.helpers import Arg, Helper, Ret
from pybpf.instruction import Instruction
from pybpf.program import Program, RefKind
from pybpf.program_types import ProgramType
from pybpf.semantics import U32
from pybpf.verifier.arithmetic import name_of
from pybpf.verifier.explain import Refusal
from pybpf.verifier.facts import RegionKind
from pybpf.verifier.prove import READ, WRITE, Prover
from pybpf.verifier.recorder import Recorder
from pybpf.verifier.state import State
from pybpf.verifier.values import LENGTH, Cell, Form, Number, Pointer, Target, Value, Values, mentions

if TYPE_CHECKING:
    from pybpf.verifier.transfer import Step, Transfer

_SIZED = {Arg.MEM: READ, Arg.MEM_OR_NULL: READ, Arg.OUT: WRITE, Arg.OUT_OR_NULL: WRITE}
KEYED = frozenset({"array", "hash"})
"""The map types whose keys and values the contracts speak of."""
MAX_SIZE = 1 << 29
"""No helper takes more bytes than this (Linux, BPF_MAX_VAR_SIZ)."""


class Calls:
    """The helper calls of one program."""

    def __init__(
        self,
        program: Program,
        type_: ProgramType,
        values: Values,
        recorder: Recorder,
        prover: Prover,
        transfer: Transfer,
    ) -> None:
        self.program = program
        self.type = type_
        self.values = values
        self.recorder = recorder
        self.prover = prover
        self.transfer = transfer

    def step(self, pc: int, instruction: Instruction) -> Step:
        """The step of a call. An unknown number is unsupported: Linux may well have it."""
        number, helper = self._helper(pc, instruction)
        args, returns = helper.args, helper.returns

        def step(state: State) -> None:
            map_number = self._arguments(state, pc, helper, args)
            self.recorder.called(pc, number, map_number)
            if "packet" in helper.effects:
                _drop_packet(self.values, state)
            state.cells[0] = self._result(state, pc, returns, map_number)
            state.cells[1:6] = [None] * 5

        return step

    def _helper(self, pc: int, instruction: Instruction) -> tuple[int, Helper]:
        reference = self.program.references.get(pc)
        if instruction.op.code != "helper" or (
            reference is not None and reference.kind is not RefKind.HELPER
        ):
            name = reference.name if reference is not None else f"kfunc {instruction.imm}"
            raise UnsupportedError(
                f"call of {name} is not supported", "kfunc", program=self.program.name, pc=pc
            )
        if reference is not None:
            for number, helper in self.type.helpers.items():
                if helper.name == reference.name.removeprefix("bpf_"):
                    return number, helper
            what = reference.name
        elif instruction.imm in self.type.helpers:
            return instruction.imm, self.type.helpers[instruction.imm]
        else:
            what = f"helper {instruction.imm}"
        raise UnsupportedError(
            f"program type {self.type.name!r} knows no {what}", "helper", program=self.program.name, pc=pc
        )

    def _arguments(self, state: State, pc: int, helper: Helper, args: tuple[Arg, ...]) -> int | None:
        """Prove every argument; the number of the map among them, if there is one."""
        map_number: int | None = None
        for register, kind in enumerate(args, start=1):
            value = self.transfer.read(state, register)
            check = _Argument(self, state, pc, helper, register, value)
            if kind is Arg.MAP:
                map_number = check.map()
            elif kind is Arg.CTX:
                check.context()
            elif kind in (Arg.KEY, Arg.VALUE):
                assert map_number is not None, "a contract names the map first"
                spec = self.program.maps[map_number]
                check.memory(spec.key_size if kind is Arg.KEY else spec.value_size, READ)
            elif kind in _SIZED:
                nullable = kind in (Arg.MEM_OR_NULL, Arg.OUT_OR_NULL)
                check.sized(args[register], _SIZED[kind], nullable=nullable)
            elif kind in (Arg.SIZE, Arg.SIZE_OR_ZERO):
                check.number()
            else:
                self.transfer.no_leak(value, f"passed to {helper.name} as a number")
        return map_number

    def _result(self, state: State, pc: int, returns: Ret, map_number: int | None) -> Value | None:
        define = self.transfer.define(state, pc)
        numbers = self.values.numbers
        match returns:
            case Ret.VOID:
                return None
            case Ret.VALUE_OR_NULL:
                assert map_number is not None, "a contract that returns a value takes a map"
                return self.values.pointer(Target.MAP_VALUE, map_number, null=define)
            case Ret.U32:
                return self.values.defined(numbers.unsigned(0, U32), define)
            case Ret.ERR:
                return self.values.defined(numbers.signed(-4095, 0), define)
            case Ret.NUM:
                return self.values.defined(numbers.unknown, define)


class _Argument:
    """One argument of one call in one state."""

    def __init__(
        self, calls: Calls, state: State, pc: int, helper: Helper, register: int, value: Value
    ) -> None:
        self.calls = calls
        self.state = state
        self.pc = pc
        self.helper = helper
        self.register = register
        self.value = value

    def _wrong(self, needed: str) -> Refusal:
        held = name_of(self.value) if isinstance(self.value, Pointer) else f"a number ({self.value!r})"
        return Refusal(
            "helper-argument",
            f"r{self.register} of {self.helper.name} must be {needed}, is {held}",
            needed,
            f"r{self.register} = {self.value!r}",
        )

    def map(self) -> int:
        if not (isinstance(self.value, Pointer) and self.value.target is Target.MAP):
            raise self._wrong("a map")
        spec = self.calls.program.maps[self.value.number]
        if spec.type not in KEYED:
            raise UnsupportedError(
                f"{self.helper.name} on map {spec.name!r} of type {spec.type} is not supported",
                "map-type",
                program=self.calls.program.name,
                pc=self.pc,
            )
        if spec.read_only and self.helper.name != "map_lookup_elem" and self.helper.name != "map_lookup":
            raise Refusal("map-write", f"{self.helper.name} on read-only map {spec.name!r}")
        return self.value.number

    def context(self) -> None:
        value = self.value
        if not (isinstance(value, Pointer) and value.target is Target.CONTEXT and value.offset == 0):
            raise self._wrong("the context")

    def number(self) -> None:
        if isinstance(self.value, Pointer):
            raise self._wrong("a size")

    def sized(self, size_kind: Arg, mode: str, *, nullable: bool) -> None:
        """Memory whose size stands in the next register."""
        size = self.calls.transfer.read(self.state, self.register + 1)
        if isinstance(size, Pointer):
            raise Refusal(
                "helper-argument",
                f"r{self.register + 1} of {self.helper.name} must be a size, is {name_of(size)}",
            )
        low, high = size.scalar.wide.umin, size.scalar.wide.umax
        if high >= MAX_SIZE:
            raise Refusal(
                "helper-argument",
                f"r{self.register + 1} of {self.helper.name}, a size, is not bounded",
                f"at most {MAX_SIZE - 1}",
                f"r{self.register + 1} = {size!r}",
            )
        if low == 0 and size_kind is Arg.SIZE:
            raise Refusal(
                "helper-argument", f"r{self.register + 1} of {self.helper.name}, a size, may be zero"
            )
        if isinstance(self.value, Number) and self.value.value == 0 and nullable and high == 0:
            return
        if isinstance(self.value, Pointer) and self.value.null is not None and nullable and high == 0:
            return
        if high == 0:
            self.calls.prover.dereferenceable(self.register, self.value, mode)
            return
        self.memory(high, mode, size.form)

    def memory(self, size: int, mode: str, extent: Form | None = None) -> None:
        """`size` bytes at the argument's address are readable, or may be written; any smaller size then is too."""
        calls, state = self.calls, self.state
        if size == 0:
            return
        if isinstance(self.value, Number):
            raise self._wrong("a pointer to memory")
        p = calls.prover.dereferenceable(self.register, self.value, mode)
        if p.target not in (Target.STACK, Target.PACKET, Target.MAP_VALUE):
            raise self._wrong("a pointer to memory")
        access = calls.prover.bounds(state, self.register, p, 0, size, mode, extent)
        calls.recorder.argument(self.pc, self.register, access)
        if access.region is not RegionKind.STACK:
            return
        if mode is READ:
            calls.prover.no_pointers(state, self.register, p, 0, size)
            if not calls.prover.initialised(state, self.register, p, 0, size):
                calls.recorder.zero_stack = True
        else:
            fixed = p.variable is None and self._constant_size()
            calls.transfer.clobber_stack(state, p, 0, size, sure=fixed)

    def _constant_size(self) -> bool:
        size = self.state.cells[self.register + 1] if self.register < 5 else None
        return isinstance(size, Number) and size.value is not None


def _drop_packet(values: Values, state: State) -> None:
    """The packet may have moved: no pointer into it, and nothing that was proved about its length, survives."""

    def over(cell: Value) -> Cell:
        if isinstance(cell, Pointer):
            if cell.target in (Target.PACKET, Target.PACKET_END):
                return None
            if mentions(cell.atoms, LENGTH):
                return values.pointer(cell.target, cell.number, cell.offset, cell.variable, None, cell.null)
            return cell
        if cell.form is not None and mentions(cell.form[0], LENGTH):
            return values.number(cell.scalar, None)
        return cell

    state.rewrite(values, over)
    state.proofs = {}
