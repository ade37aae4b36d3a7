"""Helpers that call a function of the program again and again: `bpf_loop` and `bpf_for_each_map_elem`.

Such a call is a loop: the instruction is its head, the callback its body. Each turn the head has two ways to go on, into the callback
and to the next instruction; from the callback's end a 0 leads back to the head, a 1 to the next instruction. r5, which the
helpers do not take, counts the turns that are left, so that such a loop ends for the same reason that others do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pybpf.helpers import Helper
from pybpf.instruction import Instruction
from pybpf.isa import Kind, Operand
from pybpf.program import Program
from pybpf.semantics import U32
from pybpf.verifier.explain import Refusal
from pybpf.verifier.rules import writes
from pybpf.verifier.state import R10, Frame, State, entry_state
from pybpf.verifier.values import Number, Object, Pointer, Target, Value

if TYPE_CHECKING:
    from pybpf.verifier.branches import Branches
    from pybpf.verifier.transfer import Transfer

MAX_TURNS: Final = 1 << 23
"""More turns than this `bpf_loop` does not begin (Linux, BPF_MAX_LOOPS)."""
_FUNCTION_ARGUMENT: Final = 2
_COUNT: Final = 5


def callees(program: Program) -> dict[int, int]:
    """The slots of the helper calls that take a callback, and the callbacks' first slots.

    A call takes one if the address of a function was loaded into r2, in the lines of code before it, directly or through
    other registers. Where that is not what the register holds on a run, the call is not proved.
    """
    code = program.code
    if not any(
        i.op.kind is Kind.LOAD_IMM64 and program.function_at(pc) is not None for pc, i in code.items()
    ):
        return {}
    found: dict[int, int] = {}
    functions: dict[int, int] = {}  # what registers hold by the lines so far, where that is a function
    for pc in sorted(code):
        instruction = code[pc]
        kind = instruction.op.kind
        if kind is Kind.CALL and _FUNCTION_ARGUMENT in functions:
            found[pc] = functions[_FUNCTION_ARGUMENT]
        written = writes(instruction)
        if kind is Kind.EXIT:
            functions.clear()
        elif kind in (Kind.CALL, Kind.CALL_LOCAL, Kind.CALL_REGISTER):
            functions = {register: entry for register, entry in functions.items() if register >= 6}
        elif written is not None:
            held = functions.get(instruction.src) if _moves(instruction) else program.function_at(pc)
            if held is not None:
                functions[written] = held
            else:
                functions.pop(written, None)
    return found


def _moves(instruction: Instruction) -> bool:
    op = instruction.op
    return op.kind is Kind.ALU and op.code == "mov" and op.width == 64 and op.operand is Operand.REG


class Callbacks:
    """The calls with callbacks of one program. `of` are their slots and the callbacks' entries."""

    def __init__(self, of: Mapping[int, int], transfer: Transfer, branches: Branches) -> None:
        self.of = of
        self.transfer = transfer
        self.branches = branches
        self.values = transfer.values

    def begin(self, pc: int, state: State) -> None:
        """Before the first turn: r5 becomes the number of turns that there may be. Where r1 is nothing that tells it, the call is not proved."""
        helper = self.transfer.type.helpers.get(self.transfer.program.code[pc].imm)
        loops = helper is not None and helper.name == "loop"
        numbers = self.values.numbers
        first, count = state.cells[1], None
        if loops and first is not None:
            # An address is some number, where it may be taken for one.
            asked = first.scalar if isinstance(first, Number) else numbers.unknown
            cut = numbers.alu("mov", 32, numbers.constant(0), asked)
            count = self.values.defined(cut, self.transfer.define(state, pc))
        elif not loops and isinstance(first, Pointer) and first.target is Target.MAP:
            count = self.values.constant(self.transfer.prover.maps[first.number].max_entries)
        state.cells[_COUNT] = count

    def turn(self, pc: int, state: State) -> tuple[State | None, State]:
        """At the head: the state at the callback's entry, None if there is no further turn, and the one behind the call."""
        number, helper = self.transfer.calls.modelled(pc, self.transfer.program.code[pc])
        call = self.transfer.calls.proved(state, pc, helper)
        inside = state.copy()
        entered = self._enter(pc, inside, helper, call.map)
        state.cells[0] = given = call.result()
        state.cells[1:6] = [None] * 5
        self.transfer.recorder.called(pc, number, helper, call.map, given)
        return (inside if entered else None), state

    def _enter(self, pc: int, state: State, helper: Helper, map_number: int | None) -> bool:
        count = state.cells[_COUNT]
        assert isinstance(count, Number), "begun"
        numbers = self.values.numbers
        scalar = count.scalar
        for code, limit in (("jge", 1), ("jle", MAX_TURNS if helper.name == "loop" else U32)):
            pair = numbers.refine(code, 64, scalar, numbers.constant(limit))
            if pair is None:
                return False
            scalar = pair[0]
        self.branches.learn(state, _COUNT, count, scalar)
        atom = self.transfer.define(state, pc)
        left, one = self.transfer.read(state, _COUNT), self.values.constant(1)
        state.cells[_COUNT] = self.transfer.arithmetic.alu("sub", 64, left, one, atom)
        arguments = self._arguments(pc, state, map_number)
        self.transfer.check_call(state, pc, self.of[pc])
        state.cells[0] = None
        state.frames = (*state.frames, Frame(tuple(state.cells), pc))
        state.cells = entry_state(self.values).cells
        state.cells[1 : 1 + len(arguments)] = arguments
        state.cells[R10] = self.values.pointer(Target.STACK, len(state.frames))
        return True

    def _arguments(self, pc: int, state: State, map_number: int | None) -> list[Value]:
        """What the callback is given: the number of the turn, or map, key and value; and what the caller passes on."""
        if map_number is None:
            index = self.values.numbers.unsigned(0, MAX_TURNS - 1)
            return [self.values.defined(index, self.transfer.define(state, pc)), self.transfer.read(state, 3)]
        spec = self.transfer.prover.maps[map_number]
        key = self.values.object(Object("key", spec.key_size))
        return [
            self.values.pointer(Target.MAP, map_number),
            self.values.pointer(Target.RECORD, key),
            self.values.pointer(Target.MAP_VALUE, map_number),
            self.transfer.read(state, 3),
        ]

    def end(self, pc: int, state: State) -> tuple[State | None, State | None]:
        """At the callback's end: the state at the head for another turn, and the one behind the call, as its result says."""
        result = self.transfer.read(state, 0)
        if isinstance(result, Pointer) or result.scalar.wide.umax > 1:
            raise Refusal(
                "return-value",
                f"r0 at the callback's exit is {result!r}, a callback must return 0 or 1",
                "0 <= r0 <= 1",
                f"r0 = {result!r}",
            )
        self.transfer.leave_function(state)
        state.cells[0] = None
        stopped = state.copy() if result.scalar.wide.umax else None
        if stopped is not None:
            stopped.cells[0] = self.transfer.unknown(stopped, pc, 64)
            stopped.cells[1:6] = [None] * 5
        return (state if result.scalar.wide.umin == 0 else None), stopped
