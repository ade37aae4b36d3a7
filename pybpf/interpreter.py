"""The reference engine: what a program means (RFC 9669), with every rule of the machine checked as it runs.

Whatever the code is, a run ends in one of three ways: a result, a `Trap` that says which rule was broken where, or
`BudgetExceeded`. It never reaches memory outside its regions (`pybpf.regions`). A program that was verified does not trap;
the tests hold the verifier to that and the native code to the results.

When an interpreter is made each instruction becomes a `Step`, a function of the run that returns the next pc:
`Interpreter._step` is the dispatch, with one maker of steps per kind of instruction. What operators compute stands in
`pybpf.semantics`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pybpf import helpers, program_types
from pybpf.errors import ArgumentError, BudgetExceeded, Trap
from pybpf.helpers import Helper, Ret
from pybpf.instruction import Instruction
from pybpf.isa import MAX_REGISTER, Kind, Operand
from pybpf.maps import BpfMap, create
from pybpf.memory import (
    CODE,
    CONTEXT,
    FIRST_MAP,
    MAX_FRAMES,
    PACKET,
    STACK,
    TAG_SHIFT,
    function_address,
    map_address,
    map_index,
)
from pybpf.program import Program, Reference, RefKind
from pybpf.program_types import Entry, ProgramType
from pybpf.regions import (
    NOWHERE,
    Bytes,
    ContextFields,
    Fault,
    Frame,
    MapValues,
    Packet,
    Region,
    Stack,
)
from pybpf.semantics import ALU, CONDITION, END, U32, U64, atomic, signed

Clock = Callable[[], int]
"""Gives the time in nanoseconds."""

CLOCKS: Final[dict[str, Clock]] = {"monotonic": time.monotonic_ns, "realtime": time.time_ns}
"""The clocks that a program type can name."""

HALT: Final = 1 << 64
"""The pc after the last instruction of a run: no jump can reach it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run: r0, how many instructions were executed, and the packet as the program left it."""

    value: int
    executed: int
    packet: bytes


class Interpreter:
    """A program made ready to run, verified or not, as often as one likes and from any thread.

    `type` defaults to the program's own; `maps` are the program's, in order (made anew when left out); `clock` defaults to
    the type's; `budget` bounds the instructions of one run and defaults to the type's policy. `strict` traps on a read of
    what was never written: registers, r1 to r5 after a call, and, unless the type's policy lets them be read, bytes of
    the stack; otherwise they read as zero. Raises `ArgumentError` where the arguments do not fit the program.

    >>> program = Program.from_bytes(bytes.fromhex("b7000000 07000000 95000000 00000000"))
    >>> Interpreter(program, "filter").run(b"any packet")
    Outcome(value=7, executed=2, packet=b'any packet')
    """

    def __init__(
        self,
        program: Program,
        type: str | ProgramType | None = None,
        maps: Sequence[BpfMap] | None = None,
        *,
        clock: Clock | None = None,
        budget: int | None = None,
        strict: bool = True,
    ) -> None:
        chosen = type if type is not None else program.type
        if chosen is None:
            raise ArgumentError(f"program {program.name!r} has no type: name one")
        self.program = program
        self.type = program_types.get(chosen)
        self.maps = tuple(map(create, program.maps) if maps is None else maps)
        if len(self.maps) != len(program.maps):
            raise ArgumentError(
                f"program {program.name!r} has {len(program.maps)} maps, {len(self.maps)} are given"
            )
        self.clock = clock or clock_of(self.type)
        self.budget = self.type.policy.max_instructions if budget is None else budget
        self.tracked = strict and not self.type.policy.uninitialised_stack
        self.unwritten = None if strict else 0
        self.map_regions = {FIRST_MAP + i: MapValues(i, map) for i, map in enumerate(self.maps)}
        self._steps = {pc: self._step(pc, instruction) for pc, instruction in program.code.items()}

    def run(self, packet: Bytes, context: Bytes | None = None, *, trace: Trace | None = None) -> Outcome:
        """Run the program once.

        `packet` is copied where the type may write it. `context` holds the scalar fields of the type's context, laid out
        as `type.context` says; left out, they are zero; a writable buffer receives what the program writes. `trace` is
        called before each instruction with its pc, the instruction and the `Execution`. Raises `Trap`, `BudgetExceeded`,
        and `ArgumentError` for a context of the wrong size.
        """
        execution = Execution(self, packet, context)
        steps = self._steps if trace is None else self._traced(trace)
        pc, executed = self._loop(execution, steps)
        if pc != HALT:
            raise Trap(f"no instruction here: {self._what_is_at(pc)}", pc)
        return Outcome(execution.registers[0] or 0, executed, bytes(execution.packet.buffer))

    def _loop(self, execution: Execution, steps: Mapping[int, Step]) -> tuple[int, int]:
        """Run to a pc that has no step: that pc, and the number of instructions executed."""
        pc = 0
        try:
            for executed in range(self.budget):
                step = steps.get(pc)
                if step is None:
                    return pc, executed
                pc = step(execution)
        except Fault as fault:
            raise Trap(fault.message, pc, fault.address) from None
        if pc in steps:
            message = f"still running after {self.budget} instructions"
            raise BudgetExceeded(message, self.budget, program=self.program.name, pc=pc)
        return pc, self.budget

    def _what_is_at(self, pc: int) -> str:
        if pc - 1 in self.program.code and self.program.code[pc - 1].slots == 2:
            return "the second slot of a wide load"
        return f"the program is {self.program.size} slots long"

    def _traced(self, trace: Trace) -> dict[int, Step]:
        def traced(pc: int, step: Step) -> Step:
            instruction = self.program.code[pc]

            def traced_step(run: Execution) -> int:
                trace(pc, instruction, run)
                return step(run)

            return traced_step

        return {pc: traced(pc, step) for pc, step in self._steps.items()}

    def _step(self, pc: int, instruction: Instruction) -> Step:
        for register in (instruction.dst, instruction.src):
            if not 0 <= register <= MAX_REGISTER:
                raise ArgumentError(f"pc {pc}: there is no register r{register}")
        match instruction.op.kind:
            case Kind.ALU:
                return _alu(pc, instruction)
            case Kind.END:
                return _end(pc, instruction)
            case Kind.LOAD_IMM64:
                return _constant(pc, instruction, self._wide_value(pc, instruction))
            case Kind.LOAD:
                return _load(pc, instruction)
            case Kind.STORE:
                return _store(pc, instruction)
            case Kind.ATOMIC:
                return _atomic(pc, instruction)
            case Kind.PACKET:
                return _packet_load(pc, instruction)
            case Kind.JUMP:
                return _jump(instruction.target(pc))
            case Kind.BRANCH:
                return _branch(pc, instruction)
            case Kind.CALL:
                return self._call(pc, instruction)
            case Kind.CALL_LOCAL:
                return _call_local(pc, instruction.target(pc))
            case Kind.CALL_REGISTER:
                return self._call_register(pc, instruction)
            case Kind.EXIT:
                return Execution.leave

    def _wide_value(self, pc: int, instruction: Instruction) -> int | str:
        """What a wide load puts into its register; a text where it cannot be known is the reason."""
        reference = self.program.references.get(pc)
        if reference is not None:
            return self._address_of(reference)
        if instruction.op.code == "imm":
            return instruction.imm
        if instruction.op.code == "function":
            return function_address(pc + 1 + signed(instruction.imm, 32))
        return f"nothing says what the {instruction.op.code} of this wide load is"

    def _address_of(self, reference: Reference) -> int | str:
        match reference.kind:
            case RefKind.MAP:
                return map_address(self.program.map_number(reference.name))
            case RefKind.VALUE:
                number = self.program.map_number(reference.name)
                operations = self.maps[number].operations
                value = operations.lookup(bytes(operations.key_size))
                if value is None:
                    return f"map {reference.name!r} has no value at key 0"
                return map_address(number) + value + reference.offset
            case RefKind.FUNCTION:
                return function_address(reference.offset)
            case _:
                return f"unsupported reference to {reference.name!r}"

    def _call(self, pc: int, instruction: Instruction) -> Step:
        if instruction.op.code != "helper":
            return _refuse("calls of kernel functions are not supported")
        reference = self.program.references.get(pc)
        if reference is None:
            return self._call_helper(pc + 1, instruction.imm)
        for number, helper in self.type.helpers.items():
            if helper.name == reference.name:
                return self._call_helper(pc + 1, number)
        return _refuse(f"program type {self.type.name!r} has no helper {reference.name!r}")

    def _call_helper(self, next_pc: int, number: int) -> Step:
        helper = self.type.helpers.get(number)
        if helper is None:
            return _refuse(f"program type {self.type.name!r} has no helper {number}")
        if helper.body is None:
            return _refuse(f"helper {helper.name!r} cannot be run")
        return _call_body(next_pc, helper, helper.body)

    def _call_register(self, pc: int, instruction: Instruction) -> Step:
        register = instruction.dst

        def step(run: Execution) -> int:
            target = run.registers[register]
            if target is None:
                raise _uninitialised(register)
            if target >> TAG_SHIFT == CODE >> TAG_SHIFT:
                return run.enter((target - CODE) // 8, pc + 1) if target % 8 == 0 else _no_function(target)
            return self._call_helper(pc + 1, target)(run)

        return step


class Execution:
    """One run under way: `helpers.Machine` for the bodies of helpers, and what a trace sees.

    `registers` are r0 to r10, None where uninitialised; `stack.frames` are the frames of the calls under way.
    """

    __slots__ = ("_interpreter", "packet", "regions", "registers", "stack", "unwritten")

    def __init__(self, interpreter: Interpreter, packet: Bytes, context: Bytes | None) -> None:
        type_ = interpreter.type
        self._interpreter = interpreter
        self.unwritten = interpreter.unwritten
        self.registers: list[int | None] = [self.unwritten] * (MAX_REGISTER + 1)
        buffer = bytearray(packet) if type_.packet_writable else memoryview(packet).toreadonly().cast("B")
        self.packet = Packet(buffer, type_.packet_writable)
        self.stack = Stack(interpreter.tracked)
        self.regions: dict[int, Region] = {
            STACK >> TAG_SHIFT: self.stack,
            PACKET >> TAG_SHIFT: self.packet,
            **interpreter.map_regions,
        }
        if type_.context is not None:
            context = bytes(type_.context.size) if context is None else context
            if len(context) != type_.context.size:
                raise ArgumentError(
                    f"a {type_.context.name} is {type_.context.size} bytes, {len(context)} are given"
                )
            fields = bytearray(context) if memoryview(context).readonly else context
            self.regions[CONTEXT >> TAG_SHIFT] = ContextFields(type_.context, fields, self.packet.size)
        for number, entry in enumerate(type_.entry, 1):
            self.registers[number] = self._entry_value(entry)
        self.stack.frames.append(Frame(HALT, []))
        self.registers[MAX_REGISTER] = self.stack.top

    def _entry_value(self, entry: Entry) -> int:
        match entry:
            case Entry.PACKET:
                return PACKET
            case Entry.LENGTH:
                return self.packet.size
            case Entry.CONTEXT:
                return CONTEXT

    def load(self, address: int, size: int) -> int:
        """The little-endian number of 1, 2, 4 or 8 bytes at an address. Raises `Fault`."""
        return self.regions.get(address >> TAG_SHIFT, NOWHERE).load(address, size)

    def store(self, address: int, size: int, value: int) -> None:
        """Write the lower `size` bytes of a number. Raises `Fault`."""
        self.regions.get(address >> TAG_SHIFT, NOWHERE).store(address, size, value)

    def read(self, address: int, size: int) -> bytes:
        """See `helpers.Machine`. No byte at all may be read from anywhere."""
        if size == 0:
            return b""
        buffer, at = self.regions.get(address >> TAG_SHIFT, NOWHERE).find(address, size, False)
        return bytes(buffer[at : at + size])

    def write(self, address: int, data: bytes) -> None:
        """See `helpers.Machine`."""
        if data:
            buffer, at = self.regions.get(address >> TAG_SHIFT, NOWHERE).find(address, len(data), True)
            memoryview(buffer)[at : at + len(data)] = data

    def map_at(self, address: int) -> tuple[helpers.Map, int]:
        """See `helpers.Machine`."""
        number = map_index(address)
        maps = self._interpreter.maps
        if number is None or number >= len(maps) or address != map_address(number):
            raise Fault(f"helper argument {address:#x} is not a map", address)
        return maps[number].operations, address

    def now(self) -> int:
        """See `helpers.Machine`."""
        return self._interpreter.clock()

    def enter(self, target: int, return_pc: int) -> int:
        """Call a function of the program: it gets r1 to r5 and a stack frame; r6 to r9 are saved."""
        if len(self.stack.frames) == MAX_FRAMES:
            raise Fault(f"calls nest deeper than {MAX_FRAMES} frames")
        registers = self.registers
        self.stack.frames.append(Frame(return_pc, registers[6:10]))
        registers[0] = self.unwritten
        registers[6:10] = [self.unwritten] * 4
        registers[10] = self.stack.top
        return target

    def leave(self) -> int:
        """Return from a function, or end the run."""
        frame = self.stack.frames[-1]
        if frame.return_pc == HALT:
            if self.registers[0] is None:
                raise _uninitialised(0)
            return HALT
        self.stack.frames.pop()
        self.registers[1:10] = [self.unwritten] * 5 + frame.saved
        self.registers[10] = self.stack.top
        return frame.return_pc


Step = Callable[[Execution], int]
"""An instruction made ready: runs it and returns the next pc. Raises `Fault`."""

Trace = Callable[[int, Instruction, Execution], None]
"""Called before each instruction: its pc, the instruction, the run (`registers`, `stack.frames`, `load`)."""


def clock_of(type_: ProgramType) -> Clock:
    """The clock that a program type asks for. Raises `ArgumentError` for one that pybpf does not have."""
    if type_.clock not in CLOCKS:
        known = ", ".join(CLOCKS)
        raise ArgumentError(f"program type {type_.name!r}: unknown clock {type_.clock!r}: known are {known}")
    return CLOCKS[type_.clock]


def _uninitialised(register: int) -> Fault:
    return Fault(f"uninitialised register r{register}")


def _no_function(address: int) -> int:
    raise Fault(f"call through a register that holds {address:#x}, which is no function", address)


def _refuse(reason: str) -> Step:
    """The step of an instruction that cannot be run: the program may still be fine as long as it is not reached."""

    def step(run: Execution) -> int:
        raise Fault(reason)

    return step


_FRAME_POINTER_WRITE: Final = "write to r10: the frame pointer is read-only"


def _mask(width: int) -> int:
    return U64 if width == 64 else U32


def _alu(pc: int, instruction: Instruction) -> Step:
    dst, src, code, width = instruction.dst, instruction.src, instruction.op.code, instruction.op.width
    if dst == MAX_REGISTER:
        return _refuse(_FRAME_POINTER_WRITE)
    compute, mask, constant, next_pc = ALU[code], _mask(width), instruction.imm & U64, pc + 1
    from_register = instruction.op.operand is Operand.REG
    reads_dst = not code.startswith("mov")

    def step(run: Execution) -> int:
        registers = run.registers
        a = registers[dst] if reads_dst else 0
        b = registers[src] if from_register else constant
        if a is None or b is None:
            raise _uninitialised(dst if a is None else src)
        registers[dst] = compute(a & mask, b & mask, width) & mask
        return next_pc

    return step


def _end(pc: int, instruction: Instruction) -> Step:
    dst, width = instruction.dst, instruction.op.width
    if dst == MAX_REGISTER:
        return _refuse(_FRAME_POINTER_WRITE)
    swap, next_pc = END[instruction.op.code], pc + 1

    def step(run: Execution) -> int:
        value = run.registers[dst]
        if value is None:
            raise _uninitialised(dst)
        run.registers[dst] = swap(value, width)
        return next_pc

    return step


def _constant(pc: int, instruction: Instruction, value: int | str) -> Step:
    dst, next_pc = instruction.dst, pc + 2
    if isinstance(value, str):
        return _refuse(value)
    if dst == MAX_REGISTER:
        return _refuse(_FRAME_POINTER_WRITE)

    def step(run: Execution) -> int:
        run.registers[dst] = value
        return next_pc

    return step


def _load(pc: int, instruction: Instruction) -> Step:
    dst, src, offset, size = instruction.dst, instruction.src, instruction.offset, instruction.op.size
    if dst == MAX_REGISTER:
        return _refuse(_FRAME_POINTER_WRITE)
    signed_width = 8 * size if instruction.op.code == "memsx" else 0
    next_pc = pc + 1

    def step(run: Execution) -> int:
        base = run.registers[src]
        if base is None:
            raise _uninitialised(src)
        address = (base + offset) & U64
        value = run.regions.get(address >> TAG_SHIFT, NOWHERE).load(address, size)
        run.registers[dst] = signed(value, signed_width) & U64 if signed_width else value
        return next_pc

    return step


def _store(pc: int, instruction: Instruction) -> Step:
    dst, src, offset, size = instruction.dst, instruction.src, instruction.offset, instruction.op.size
    from_register, constant, next_pc = instruction.op.operand is Operand.REG, instruction.imm & U64, pc + 1

    def step(run: Execution) -> int:
        base = run.registers[dst]
        value = run.registers[src] if from_register else constant
        if base is None or value is None:
            raise _uninitialised(dst if base is None else src)
        address = (base + offset) & U64
        run.regions.get(address >> TAG_SHIFT, NOWHERE).store(address, size, value)
        return next_pc

    return step


_ATOMICS: Final = threading.Lock()
"""Makes atomic instructions atomic towards each other in all interpreters of the process."""


def _atomic(pc: int, instruction: Instruction) -> Step:
    """Read-modify-write, load-acquire and store-release: like Linux, only at addresses aligned to their size."""
    code, size, next_pc = instruction.op.code, instruction.op.size, pc + 1
    base, other = instruction.dst, instruction.src
    if code == "load_acquire":
        base, other = other, base
    result = {"load_acquire": other, "cmpxchg": 0, "xchg": other}.get(code)
    if code.startswith("fetch_"):
        result = other
    if result == MAX_REGISTER:
        return _refuse(_FRAME_POINTER_WRITE)

    def operate(run: Execution, address: int, operand: int, r0: int) -> int:
        if code == "store_release":
            run.store(address, size, operand)
            return 0
        old = run.load(address, size)
        if code != "load_acquire":
            run.store(address, size, atomic(code, old, operand, r0, 8 * size))
        return old

    def step(run: Execution) -> int:
        registers = run.registers
        pointer, operand = registers[base], 0 if code == "load_acquire" else registers[other]
        r0 = registers[0] if code == "cmpxchg" else 0
        if pointer is None or operand is None or r0 is None:
            raise _uninitialised(base if pointer is None else other if operand is None else 0)
        address = (pointer + instruction.offset) & U64
        if address % size:
            raise Fault(f"unaligned atomic access of {size} bytes at {address:#x}", address)
        with _ATOMICS:
            old = operate(run, address, operand, r0)
        if result is not None:
            registers[result] = old
        return next_pc

    return step


def _packet_load(pc: int, instruction: Instruction) -> Step:
    """RFC 9669, section 5.5, as Linux does it: r0 in network byte order, and the end of the program out of range."""
    indirect, src, size = instruction.op.operand is Operand.REG, instruction.src, instruction.op.size

    def step(run: Execution) -> int:
        index = run.registers[src] if indirect else 0
        if index is None:
            raise _uninitialised(src)
        offset = signed(index + instruction.imm, 32)
        if offset < 0 or offset + size > run.packet.size:
            run.registers[0] = 0
            return HALT
        run.registers[0] = int.from_bytes(run.packet.buffer[offset : offset + size], "big")
        run.registers[1:6] = [run.unwritten] * 5
        return pc + 1

    return step


def _jump(target: int) -> Step:
    def step(run: Execution) -> int:
        return target

    return step


def _branch(pc: int, instruction: Instruction) -> Step:
    dst, src, width = instruction.dst, instruction.src, instruction.op.width
    test, mask, constant = CONDITION[instruction.op.code], _mask(width), instruction.imm & U64
    from_register = instruction.op.operand is Operand.REG
    target, next_pc = instruction.target(pc), pc + 1

    def step(run: Execution) -> int:
        a = run.registers[dst]
        b = run.registers[src] if from_register else constant
        if a is None or b is None:
            raise _uninitialised(dst if a is None else src)
        return target if test(a & mask, b & mask, width) else next_pc

    return step


def _call_local(pc: int, target: int) -> Step:
    def step(run: Execution) -> int:
        return run.enter(target, pc + 1)

    return step


def _call_body(next_pc: int, helper: Helper, body: helpers.Body) -> Step:
    count = len(helper.args)
    returns_value = helper.returns is not Ret.VOID

    def step(run: Execution) -> int:
        arguments = [0] * 5
        for number in range(count):
            argument = run.registers[1 + number]
            if argument is None:
                raise _uninitialised(1 + number)
            arguments[number] = argument
        value = body(run, *arguments) & U64
        run.registers[:6] = [value if returns_value else run.unwritten] + [run.unwritten] * 5
        return next_pc

    return step
