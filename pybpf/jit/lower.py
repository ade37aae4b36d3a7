"""From bytecode to the text of LLVM functions, in static single assignment from the start.

Registers are 64-bit values; where control flow meets, a live register that differs gets a phi. Nothing of a register is ever in
memory, and no address of the host is ever in a register: addresses are `pybpf.memory`'s, and `access` turns them into pointers.

    define internal { i64, i1 } @program(ptr %state, ptr %packet, i64 %length)       and ptr %hint, where a batch is split (`pybpf.jit.split`)
    define internal { i64, i1 } @function_<pc>(... the same ..., ptr %stack, i64 %frame, i64 %r1, ..., i64 %r5)

Where instructions are counted, functions other than the first are also given ``ptr %fuel``, to the number of those that may still be executed; a block
takes its own from that before it begins. A function returns r0 and whether the whole run is over: by a trap, or by a packet load out of range, which ends a program
with r0 = 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from graphlib import CycleError, TopologicalSorter
from typing import Final

from pybpf.errors import UnsupportedError
from pybpf.helpers import Body, Helper, number_of
from pybpf.instruction import Instruction
from pybpf.isa import MAX_REGISTER, Kind, Operand
from pybpf.jit import arithmetic, conjunction, memory, split, time_ir
from pybpf.jit.access import END as PACKET_END
from pybpf.jit.access import LENGTH, Regions
from pybpf.jit.blocks import ARGUMENTS, Graph, function_graph, register_effect
from pybpf.jit.builder import METADATA, RESULT, Builder, Value, text
from pybpf.jit.calls import NATIVE, Call
from pybpf.jit.conjunction import Conjunction
from pybpf.jit.options import DEFAULT, Options
from pybpf.jit.split import Split
from pybpf.jit.state import BUDGET, END, HEAD, META, TIME, TrapCode, edge
from pybpf.maps import Layout, layout_of
from pybpf.memory import (
    CONTEXT,
    HEADROOM,
    MAX_FRAMES,
    PACKET,
    STACK,
    STACK_SIZE,
    STACK_TOP,
    function_address,
    function_of,
    map_address,
)
from pybpf.program import MapSpec, RefKind
from pybpf.program_types import Entry, ProgramType
from pybpf.semantics import OTHER_END
from pybpf.verifier.facts import Facts, RegionKind, VerifiedProgram

_SMALL: Final = 64
"""Instructions of a loop around others that is unrolled. LLVM would do that up to eight times; the inner loops would stand there as often, each with branches that the
processor has to learn (sorting: 1.17 times as long as four times)."""
MOVES: Final = "packet"
"""The effect of helpers that move the packet."""
_CALLER: Final = -1
"""What stands for a function's caller among the predecessors of its first block."""


def lower(verified: VerifiedProgram, options: Options = DEFAULT) -> str:
    """The functions of a program, as text that lacks only entry points; `@program` is the program.

    Raises `UnsupportedError` for what pybpf has no native code for.
    """
    return Module(verified, options).text()


def is_runnable(helper: Helper) -> bool:
    """Whether there is native code for calls of a helper."""
    return helper.body is not None and not helper.effects - {"unwind", MOVES}


def moves_packet(type_: ProgramType, facts: Facts) -> bool:
    """Whether a program calls helpers after which its packet may begin or end elsewhere."""
    return type_.packet_writable and any(MOVES in type_.helpers[number].effects for number in facts.helpers)


class Module:
    """A program being lowered: what its functions share."""

    def __init__(self, verified: VerifiedProgram, options: Options) -> None:
        self.program = verified.program
        self.options = options
        self.type = verified.type
        self.facts = verified.facts
        self.maps: list[tuple[MapSpec, Layout]] = [(spec, layout_of(spec)) for spec in self.program.maps]
        self.support: dict[str, str] = {}
        self.graphs: dict[int, Graph] = {}
        self._find_functions(0)
        self.moves = moves_packet(self.type, self.facts)
        self.split = self._find_split() if options.splits and not options.counts and not self.moves else None
        """Where the batch loop may run ahead of the program."""
        depth = self._depth()
        self.frames = min(depth, MAX_FRAMES)
        self.may_overflow = depth > MAX_FRAMES

    def text(self) -> str:
        """The functions, those of the host that they need, and metadata."""
        functions = [Function(self, entry).text() for entry in self.graphs]
        return "\n".join([*functions, *self.support.values(), METADATA])

    def _find_split(self) -> Split | None:
        graph = self.graphs.get(0)
        if graph is None:
            return None
        return split.find(graph, self.program.code, self.bodies, self.facts, self.maps)

    @cached_property
    def bodies(self) -> dict[int, Body | None]:
        """The Python bodies of the helpers that are called by name or number, by the pc of the call."""
        code = self.program.code
        calls = (pc for pc in code if code[pc].op.kind is Kind.CALL and self.is_reached(pc))
        return {pc: self.type.helpers[self.helper(pc)].body for pc in calls}

    @cached_property
    def writes_packet(self) -> bool:
        """Whether a run may leave its packet other than it was."""
        if not self.type.packet_writable:
            return False
        code, facts = self.program.code, self.facts
        stores = (pc for pc in facts.accesses if pc in code and code[pc].op.kind in (Kind.STORE, Kind.ATOMIC))
        touches = (access.region is RegionKind.PACKET for pc in stores for access in facts.accesses[pc])
        through_register = any(code[pc].op.kind is Kind.CALL_REGISTER for pc in facts.reached if pc in code)
        return any(touches) or through_register or any(body not in NATIVE for body in self.bodies.values())

    @cached_property
    def conjunction(self) -> Conjunction | None:
        """What the batch loop may compare before it runs the program."""
        graph = self.graphs.get(0)
        if graph is None or graph.carried or not self.options.splits or self.options.counts:
            return None
        if self.program.byteorder != "little":
            return None
        return conjunction.find(self.program.code, self.facts)

    def _find_functions(self, entry: int) -> None:
        pending = [entry]
        while pending:
            entry = pending.pop()
            if entry not in self.graphs and self.is_reached(entry):
                self.graphs[entry] = function_graph(self.program.code, self.facts.reached, entry, self.effect)
                pending.extend(self._callees(entry))

    def is_reached(self, pc: int) -> bool:
        """Whether there is an instruction that the verifier has reached."""
        return pc in self.facts.reached and pc in self.program.code

    def _callees(self, entry: int) -> set[int]:
        code = self.program.code
        pcs = [pc for block in self.graphs[entry].blocks.values() for pc in block.pcs]
        called = {code[pc].target(pc) for pc in pcs if code[pc].op.kind is Kind.CALL_LOCAL}
        through_register = {value for pc in pcs for value in self.facts.callees.get(pc, ())}
        return called.union(entry for entry in map(function_of, through_register) if entry is not None)

    def _depth(self) -> int:
        """How many frames a run can have open, the entry's included; where calls may come back, more than there are."""
        calls = {entry: self._callees(entry) for entry in self.graphs}
        frames: dict[int, int] = {}
        try:
            for entry in TopologicalSorter(calls).static_order():  # callees first
                frames[entry] = 1 + max((frames[callee] for callee in calls.get(entry, ())), default=0)
        except CycleError as error:
            if any(0 in callees for callees in calls.values()):
                raise self._unsupported(
                    error.args[1][0], "recursive calls of the entry", "recursion"
                ) from None
            return MAX_FRAMES + 1
        return frames.get(0, 1)

    def helper(self, pc: int) -> int:
        """The number of the helper that a call names, itself or by name."""
        instruction, reference = self.program.code[pc], self.program.references.get(pc)
        if instruction.op.code != "helper":
            raise self._unsupported(pc, "calls of kernel functions", "kfunc")
        helpers = self.type.helpers
        number = instruction.imm if reference is None else number_of(helpers, reference.name)
        if number is None or number not in helpers:
            name = str(instruction.imm) if reference is None else repr(reference.name)
            raise self._unsupported(pc, f"helper {name} of program type {self.type.name!r}", f"helper {name}")
        return self.runnable(pc, number)

    def runnable(self, pc: int, number: int) -> int:
        """The number of a helper of the program type, if there is native code for its calls."""
        helper = self.type.helpers[number]
        if not is_runnable(helper):
            raise self._unsupported(pc, f"helper {helper.name!r}", f"helper {helper.name}")
        return number

    def _unsupported(self, pc: int, what: str, feature: str) -> UnsupportedError:
        return UnsupportedError(f"{what}: not in native code", feature, program=self.program.name, pc=pc)

    def effect(self, pc: int, instruction: Instruction) -> tuple[int, int]:
        """The registers that an instruction reads and writes, as sets."""
        match instruction.op.kind:
            case Kind.CALL:
                number = self.helper(pc)
                count = len(self.type.helpers[number].args)
                return (1 << count + 1) - 2, 1 | ARGUMENTS
            case Kind.CALL_LOCAL:
                return ARGUMENTS, 1 | ARGUMENTS
            case Kind.CALL_REGISTER:
                return ARGUMENTS | 1 << instruction.dst, 1 | ARGUMENTS
            case _:
                return register_effect(instruction)


class Function:
    """One function of a program being lowered; `graph`, `b` and `code` are given for one that is not all of the program's."""

    def __init__(
        self,
        module: Module,
        entry: int,
        graph: Graph | None = None,
        b: Builder | None = None,
        code: Mapping[int, Instruction] | None = None,
    ) -> None:
        self.module = module
        self.code = code or module.program.code
        self.entry = entry
        self.graph = graph or module.graphs[entry]
        self.b = b or Builder()
        self.regions = Regions(
            self.b,
            module.maps,
            module.type.context,
            module.type.packet_writable,
            module.frames,
            module.options.checks,
            swapped=module.program.byteorder == "big",
            moves=module.moves,
        )
        if entry == 0:
            self.b.prologue("%stack", f"alloca [{module.frames * STACK_SIZE} x i8], align 16")
        self.registers = self._initial_registers()
        self.frame = self.registers[MAX_REGISTER]
        self._start = entry
        # After each block that is done: the registers, and the label of the LLVM block that it ends in.
        self._ends: dict[int, tuple[list[Value], str]] = {}
        # How many bytes the packet surely has, on the edge from a block to another.
        self._rooms: dict[tuple[int, int], int] = {}
        # Phis to be completed once every block is done: their line, their block, their register.
        self._open: list[tuple[int, int, int]] = []

    def text(self) -> str:
        """The function."""
        if self.module.facts.zero_stack:
            self._clear_frame()
        if self.module.options.counts and self.entry == 0:
            times = self.module.options.times
            self.b.prologue("%fuel", "alloca [3 x i64]" if times else "alloca i64")
            limit = self.b.value(f"load i64, ptr {self.b.pointer('%state', BUDGET)}")
            for word, value in enumerate(("0", limit, "0") if times else (limit,)):
                self.b.do(f"store i64 {value}, ptr {self.b.pointer('%fuel', 8 * word)}")
        if self.module.moves and self.entry == 0:
            self._place_packet()
        self._ends[_CALLER] = list(self.registers), self.b.label
        self.b.do(f"br label %pc{self.entry}")
        for start in self.graph.blocks:
            self._block(start)
        self._close_phis()
        return f"define internal {self._signature()} nounwind {{\n{self.b.body()}\n}}\n"

    def _signature(self) -> str:
        parameters = "ptr noalias %state, ptr noalias %packet, i64 %length"
        if self.entry == 0:
            hint = ", ptr noalias %hint" if self.module.split else ""
            inlined = " alwaysinline" if self.module.options.splits else ""
            return f"{RESULT} @program({parameters}{hint}){inlined}"
        registers = ", ".join(f"i64 %r{number}" for number in range(1, 6))
        fuel = ", ptr noalias %fuel" if self.module.options.counts else ""
        return f"{RESULT} @function_{self.entry}({parameters}, ptr noalias %stack, i64 %frame, {registers}{fuel})"

    def _initial_registers(self) -> list[Value]:
        registers: list[Value] = [0] * (MAX_REGISTER + 1)
        if self.entry:
            registers[1:6] = [f"%r{number}" for number in range(1, 6)]
            registers[MAX_REGISTER] = "%frame"
            return registers
        values: dict[Entry, Value] = {Entry.PACKET: PACKET, Entry.LENGTH: "%length", Entry.CONTEXT: CONTEXT}
        for number, what in enumerate(self.module.type.entry, 1):
            registers[number] = values[what]
        registers[MAX_REGISTER] = STACK_TOP
        return registers

    def _clear_frame(self) -> None:
        size = STACK_SIZE
        if self.module.frames == 1:
            size = min(size, self.module.facts.stack_size)
        offset = self.b.add(self.frame, -size - self.regions.stack.start)
        pointer = self.b.pointer("%stack", offset)
        self.b.do(f"call void @llvm.memset.p0.i64(ptr {pointer}, i8 0, i64 {size}, i1 false)")

    def _place_packet(self) -> None:
        """The packet is where it arrived, with zeros in front of it."""
        for which, value in ((META, "0"), (HEAD, "0"), (END, LENGTH)):
            self.b.do(f"store i64 {value}, ptr {self.regions.edge_slot(which)}")
        front = self.b.pointer("%packet", -HEADROOM)
        self.b.do(f"call void @llvm.memset.p0.i64(ptr {front}, i8 0, i64 {HEADROOM}, i1 false)")

    # Blocks.

    def _block(self, start: int) -> None:
        block, code = self.graph.blocks[start], self.code
        self._start = start
        self.b.block(f"pc{start}")
        self.registers = self._merge(start)
        self.regions.room = self._room(start)
        if self.module.options.counts:
            self._take_fuel(start, len(block.pcs))
        for pc in block.pcs:
            self._instruction(pc, code[pc])
        pc = block.pcs[-1]
        if code[pc].op.kind not in (Kind.BRANCH, Kind.EXIT):
            self._goto(block.successors[0])
        self._ends[start] = self.registers, self.b.label
        for successor in block.successors:
            self._rooms.setdefault((start, successor), self.regions.room)

    def _room(self, start: int) -> int:
        """How many bytes the packet surely has at the start of a block. Blocks that are not done lead here by back edges: they come by here first, if the loop has
        no other way in.
        """
        before = self._predecessors(start)
        if self.entry in self.graph.loops.get(start, ()) and start != self.entry:
            return 0
        return min(self._rooms.get((block, start), 0) for block in before if block in self._ends)

    def _take_fuel(self, pc: int, instructions: int) -> None:
        left = self.b.value("load i64, ptr %fuel")
        if self.module.options.times:
            left = self._refill(pc, left, instructions)
        self.b.guard(self.b.compare("uge", left, instructions), TrapCode.BUDGET, pc, left)
        self.b.do(f"store i64 {self.b.subtract(left, instructions)}, ptr %fuel")

    def _refill(self, pc: int, left: str, wanted: int) -> str:
        """Have another slice where too little is left, if there is time."""
        b, module = self.b, self.module
        module.support.setdefault("clock_gettime", time_ir.CLOCK)
        module.support.setdefault("refill", time_ir.refill(edge(TIME, len(module.maps))))
        before, more, onward = b.label, b.name(), b.name()
        b.do(f"br i1 {b.value(f'icmp uge i64 {left}, {wanted}')}, label %{onward}, label %{more}, !prof !0")
        b.block(more)
        found = b.value(f"call {RESULT} @refill(ptr %state, ptr %fuel, i64 {left}, i64 {wanted})")
        refilled = b.value(f"extractvalue {RESULT} {found}, 0")
        late = b.value(f"extractvalue {RESULT} {found}, 1")
        b.guard(b.value(f"xor i1 {late}, true"), TrapCode.TIME, pc, refilled)
        last = b.label
        b.do(f"br label %{onward}")
        b.block(onward)
        return b.value(f"phi i64 [ {left}, %{before} ], [ {refilled}, %{last} ]")

    def _merge(self, start: int) -> list[Value]:
        """The registers at the start of a block."""
        before = self._predecessors(start)
        done = [self._ends[block] for block in before if block in self._ends]
        carried = self.graph.carried.get(start, 0)
        registers: list[Value] = [0] * (MAX_REGISTER + 1)
        for number in range(MAX_REGISTER + 1):
            if not self.graph.live[start] >> number & 1:
                continue
            values = {values[number] for values, _ in done}
            if len(values) == 1 and not carried >> number & 1:
                registers[number] = values.pop()
            else:
                self._open.append((len(self.b.lines), start, number))
                registers[number] = self.b.value("phi")
        return registers

    def _predecessors(self, start: int) -> tuple[int, ...]:
        before = self.graph.predecessors[start]
        return (_CALLER, *before) if start == self.entry else before

    def _close_phis(self) -> None:
        for line, start, number in self._open:
            ends = [self._ends[block] for block in self._predecessors(start)]
            values = ", ".join(f"[ {text(registers[number])}, %{label} ]" for registers, label in ends)
            self.b.lines[line] += f" i64 {values}"

    def _goto(self, pc: int) -> None:
        if pc in self.graph.blocks:
            self.b.do(f"br label %pc{pc}{self._hint(pc)}")
        else:
            self.b.trap(TrapCode.UNREACHED, pc)

    def _branch(self, condition: str | bool, taken: int, after: int) -> None:
        """The edge to a place that the verifier never reached is kept, and ends in a trap."""
        blocks = self.graph.blocks
        if taken == after or (taken not in blocks and after not in blocks):
            self._goto(after)
            return
        targets = [
            f"label %pc{pc}" if pc in blocks else f"label %{self.b.trap_edge(TrapCode.UNREACHED, pc)}"
            for pc in (taken, after)
        ]
        self.b.do(f"br i1 {str(condition).lower()}, {', '.join(targets)}{self._hint(taken, after)}")

    def _note_room(self, instruction: Instruction, taken: int, after: int) -> None:
        """What a branch tells of the packet's length, on its two ways."""
        op, room = instruction.op, self.regions.room
        if op.width != 64 or taken == after or self.module.moves:
            return
        dst, src = self.registers[instruction.dst], self._operand(instruction)
        for name, base in ((LENGTH, 0), (PACKET_END, PACKET)):
            if name in (dst, src):
                more, less = arithmetic.least(op.code, dst, src, name, base)
                self._rooms[self._start, taken] = max(room, more)
                self._rooms[self._start, after] = max(room, less)

    def _hint(self, *targets: int) -> str:
        """What LLVM is told of a branch that ends a loop around others."""
        for head in self.graph.loops.keys() & targets:
            body = self.graph.loops[head]
            size = sum(len(self.graph.blocks[start].pcs) for start in body)
            around = any(inner in body for inner in self.graph.loops if inner != head)
            if self._start in body and around and size <= _SMALL:
                return ", !llvm.loop !3"
        return ""

    # Instructions.

    def _instruction(self, pc: int, instruction: Instruction) -> None:
        b, op, registers = self.b, instruction.op, self.registers
        match op.kind:
            case Kind.ALU:
                registers[instruction.dst] = arithmetic.alu(
                    b, op.code, registers[instruction.dst], self._operand(instruction), op.width
                )
            case Kind.END:
                code = OTHER_END[op.code] if self.regions.swapped else op.code
                registers[instruction.dst] = arithmetic.end(b, code, registers[instruction.dst], op.width)
            case Kind.LOAD_IMM64:
                registers[instruction.dst] = self._wide(pc, instruction)
            case Kind.LOAD:
                value = self._load(pc, instruction)
                if op.code == "memsx":
                    value = arithmetic.alu(b, f"movs{8 * op.size}", 0, value, 64)
                registers[instruction.dst] = value
            case Kind.STORE:
                address = b.add(registers[instruction.dst], instruction.offset)
                accesses = self.module.facts.accesses.get(pc, ())
                memory.store(self.regions, pc, accesses, address, op.size, self._operand(instruction))
            case Kind.ATOMIC:
                self._atomic(pc, instruction)
            case Kind.PACKET:
                self._packet_load(pc, instruction)
            case Kind.BRANCH:
                taken = arithmetic.condition(
                    b, op.code, registers[instruction.dst], self._operand(instruction), op.width
                )
                self._note_room(instruction, instruction.target(pc), pc + 1)
                self._branch(taken, instruction.target(pc), pc + 1)
            case Kind.CALL:
                registers[0] = self._call_helper(pc, self.module.helper(pc))
            case Kind.CALL_LOCAL:
                registers[0] = self._call_function(pc, instruction.target(pc))
            case Kind.CALL_REGISTER:
                registers[0] = self._call_register(pc, registers[instruction.dst])
            case Kind.EXIT:
                self._exit(registers[0])
            case Kind.JUMP:
                pass

    def _operand(self, instruction: Instruction) -> Value:
        op = instruction.op
        if op.operand is Operand.REG:
            return self.registers[instruction.src]
        return arithmetic.immediate(instruction.imm, op.width)

    def _load(self, pc: int, instruction: Instruction) -> Value:
        address = self.b.add(self.registers[instruction.src], instruction.offset)
        accesses = self.module.facts.accesses.get(pc, ())
        return memory.load(self.regions, pc, accesses, address, instruction.op.size)

    def _wide(self, pc: int, instruction: Instruction) -> Value:
        reference, program = self.module.program.references.get(pc), self.module.program
        if (entry := program.function_at(pc)) is not None:
            return function_address(entry)
        if reference is None:
            if instruction.op.code == "imm":
                return instruction.imm
        elif reference.kind is RefKind.MAP:
            return map_address(program.map_number(reference.name))
        elif reference.kind is RefKind.VALUE:
            number = program.map_number(reference.name)
            spec, layout = self.module.maps[number]
            if spec.type == "array":
                return map_address(number) + layout.values + reference.offset
        what = f"wide load of {instruction.op.code if reference is None else reference.name!r}"
        raise UnsupportedError(f"{what}: not in native code", "wide load", program=program.name, pc=pc)

    def _atomic(self, pc: int, instruction: Instruction) -> None:
        code, size, registers = instruction.op.code, instruction.op.size, self.registers
        base, other = instruction.dst, instruction.src
        if code == "load_acquire":
            base, other = other, base
        old = memory.atomic(
            self.regions,
            pc,
            self.module.facts.accesses.get(pc, ()),
            self.b.add(registers[base], instruction.offset),
            size,
            code,
            registers[other],
            registers[0],
        )
        if code == "cmpxchg":
            registers[0] = old
        elif code in ("xchg", "load_acquire") or code.startswith("fetch_"):
            registers[other] = old

    def _packet_load(self, pc: int, instruction: Instruction) -> None:
        """Network byte order; out of range the program ends with 0 (RFC 9669, section 5.5)."""
        b, size = self.b, instruction.op.size
        index = self.registers[instruction.src] if instruction.op.operand is Operand.REG else 0
        # The index is a signed number of 32 bits: the sum wraps there, and what is negative is out of range.
        index = arithmetic.alu(b, "add", index, instruction.imm, 32)
        index = arithmetic.alu(b, "movs32", 0, index, 64)
        too_short = b.value(f"icmp ult i64 %length, {size}")
        room = b.value(f"sub i64 %length, {size}")
        outside = b.value(f"icmp ugt i64 {text(index)}, {room}")
        b.halt_if(b.value(f"or i1 {too_short}, {outside}"))
        value = memory.read(b, b.pointer("%packet", index), size)
        self.registers[0] = arithmetic.byte_swap(b, value, 8 * size)

    def _call_helper(self, pc: int, number: int) -> Value:
        module, arguments = self.module, self.registers[1:6]
        hinted = module.split.number if module.split is not None and self.entry == 0 else None
        call = Call(pc, number, arguments, self.regions, module.type, module.facts, module.support, hinted)
        result = call.write()
        if "unwind" in module.type.helpers[number].effects:
            self.b.halt_if(self.b.value(f"icmp eq i64 {text(result)}, 0"))
        return result

    def _call_function(self, pc: int, target: int) -> Value:
        b = self.b
        if target not in self.module.graphs:
            return b.refuse(TrapCode.UNREACHED, target)
        if self.module.may_overflow:
            b.guard(b.compare("uge", self.frame, STACK + 2 * STACK_SIZE), TrapCode.FRAMES, pc)
        frame = text(b.add(self.frame, -STACK_SIZE))
        arguments = ", ".join(f"i64 {text(value)}" for value in self.registers[1:6])
        fuel = ", ptr %fuel" if self.module.options.counts else ""
        result = b.value(
            f"call {RESULT} @function_{target}"
            f"(ptr %state, ptr %packet, i64 %length, ptr %stack, i64 {frame}, {arguments}{fuel})"
        )
        b.halt_if(b.value(f"extractvalue {RESULT} {result}, 1"))
        return b.value(f"extractvalue {RESULT} {result}, 0")

    def _call_register(self, pc: int, callee: Value) -> Value:
        """A choice between the helpers and functions that were proved, by the register's value."""

        def call(value: int) -> Value:
            function = function_of(value)
            if function is not None:
                return self._call_function(pc, function)
            return self._call_helper(pc, self.module.runnable(pc, value))

        cases = {value: partial(call, value) for value in self.module.facts.callees.get(pc, ())}
        if not cases:
            return self.b.refuse(TrapCode.CALLEE, pc, callee)
        return self.b.switch(text(callee), cases, TrapCode.CALLEE, pc, callee)

    def _exit(self, value: Value) -> None:
        b = self.b
        if isinstance(value, int):
            b.do(f"ret {RESULT} {{ i64 {text(value)}, i1 false }}")
        else:
            result = b.value(f"insertvalue {RESULT} {{ i64 poison, i1 false }}, i64 {value}, 0")
            b.do(f"ret {RESULT} {result}")
