"""Which registers and stack bytes may still be read, and of which the value matters: the rest is dropped before states are compared.

Backward data flow over each function, on bit sets: bit r for register r, bit 11 + i for the i-th byte below r10. A stack
access counts for its bytes where its register is known to be r10 plus a constant (`_frame_pointers`); anything that may
point into the stack otherwise reads all of it. Too many live bytes cost time, never soundness: a dead byte is one that no
instruction reads before writing it.

A value matters if it can reach an address, a size, a branch, an argument or the result. Of a number that only travels, from one
packet's field to another's say, the verifier need not know which it is.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Mapping
from typing import Final, NamedTuple

from pybpf.helpers import MEMORY, Arg, Helper, Memory
from pybpf.instruction import Instruction
from pybpf.isa import Kind, Operand
from pybpf.memory import STACK_SIZE
from pybpf.program import MapSpec, Program, RefKind
from pybpf.verifier.cfg import Block, Function, Graph
from pybpf.verifier.rules import writes
from pybpf.verifier.state import FIRST_SLOT

ALL_BYTES: Final = ((1 << STACK_SIZE) - 1) << FIRST_SLOT
_CALLER_SAVED: Final = 0b11_1111
_ARGUMENTS: Final = 0b11_1110
_CALLS: Final = (Kind.CALL, Kind.CALL_LOCAL, Kind.CALL_REGISTER)

# What a register holds, for this analysis: an offset from r10, SOMEWHERE in the stack, or (absent) no stack address.
SOMEWHERE: Final = "somewhere"
_Pointers = dict[int, int | str]


class Live(NamedTuple):
    """At one place: the cells that may be read, and those of which the value matters."""

    read: int
    matters: int


class Effect(NamedTuple):
    """What an instruction does to the two sets, backwards: `used` is read, `killed` written whole; of `asked` the value
    matters, and of `sources` if that of `results` does.
    """

    used: int
    killed: int
    asked: int
    results: int = 0
    sources: int = 0


def live_at_entry(program: Program, graph: Graph, helpers: Mapping[int, Helper]) -> dict[int, Live]:
    """For the first slot of every block, and the slot behind every call of a function, what is live there."""
    flows = {
        entry: _frame_pointers(program, function, loaded=False, arguments=True)
        for entry, function in graph.functions.items()
    }
    escapes = any(_escapes(program, flow) for flow in flows.values())
    live: dict[int, Live] = {}
    for entry, function in graph.functions.items():
        # The program itself has no caller, so that its flow says what is asked for here unless an address escapes.
        pointers = (
            flows[entry] if entry == 0 and not escapes else _frame_pointers(program, function, loaded=escapes)
        )
        live |= _Liveness(program, function, helpers, pointers, escapes, graph.callbacks).solve()
    return live


def bytes_from(offset: int, size: int) -> int:
    """The bits of a range of stack bytes; none outside the frame."""
    first, end = max(-offset - size, 0), min(-offset, STACK_SIZE)
    return ((1 << (end - first)) - 1) << (FIRST_SLOT + first) if first < end else 0


def _escapes(program: Program, flow: Mapping[int, tuple[_Pointers, Block]]) -> bool:
    """Whether some address of the stack may be in memory, so that a loaded register may point into the stack."""
    code = program.code
    for block_pointers, block in flow.values():
        if not any(_stores_register(code[pc]) for pc in block.pcs):
            continue
        pointers = dict(block_pointers)
        for pc in block.pcs:
            instruction = code[pc]
            if instruction.src in pointers and _stores_register(instruction):
                return True
            _step(instruction, pointers, loaded=False)
    return False


def _stores_register(instruction: Instruction) -> bool:
    op = instruction.op
    return op.kind in (Kind.STORE, Kind.ATOMIC) and op.operand is Operand.REG


def _frame_pointers(
    program: Program, function: Function, *, loaded: bool, arguments: bool = False
) -> dict[int, tuple[_Pointers, Block]]:
    """What each block starts with, by forward data flow; a register that differs between paths is SOMEWHERE."""
    # A function's arguments may point into its caller's frame. That is another frame, whose slots are kept while it waits,
    # so they matter only as addresses that a store may let escape.
    start: dict[int, _Pointers] = {function.entry: {10: 0}}
    if arguments and function.entry:
        start[function.entry] |= dict.fromkeys(range(1, 6), SOMEWHERE)
    blocks = function.blocks
    # In the order of visit, so that what can reach a block mostly has been seen before it.
    work = [(blocks[function.entry].position, function.entry)]
    queued = {function.entry}
    while work:
        entry = heapq.heappop(work)[1]
        queued.discard(entry)
        pointers = dict(start[entry])
        block = blocks[entry]
        for pc in block.pcs:
            _step(program.code[pc], pointers, loaded=loaded)
        for successor in block.successors:
            old = start.get(successor)
            new = dict(pointers) if old is None or old == pointers else _merged(old, pointers)
            if new != old:
                start[successor] = new
                if successor not in queued:
                    queued.add(successor)
                    heapq.heappush(work, (blocks[successor].position, successor))
    return {entry: (pointers, function.blocks[entry]) for entry, pointers in start.items()}


def _merged(a: _Pointers, b: _Pointers) -> _Pointers:
    return {r: a[r] if a.get(r) == b.get(r) else SOMEWHERE for r in {**a, **b}}


def _step(instruction: Instruction, pointers: _Pointers, *, loaded: bool) -> None:
    op, dst, src = instruction.op, instruction.dst, instruction.src
    kind = op.kind
    if kind is Kind.ALU:
        source = pointers.get(src) if op.operand is Operand.REG else None
        if source is None and dst not in pointers:
            return
        if op.code == "mov" and source is not None:
            pointers[dst] = source if op.width == 64 else SOMEWHERE
        elif op.code.startswith("mov"):
            pointers.pop(dst, None)
        else:
            known = pointers.get(dst)
            moves = (
                op.code in ("add", "sub")
                and op.width == 64
                and op.operand is Operand.IMM
                and isinstance(known, int)
            )
            if moves and isinstance(known, int):
                pointers[dst] = known + (instruction.imm if op.code == "add" else -instruction.imm)
            else:
                pointers[dst] = SOMEWHERE
    elif kind is Kind.STORE or kind is Kind.BRANCH:
        return
    elif kind is Kind.LOAD or (kind is Kind.ATOMIC and op.code == "load_acquire"):
        pointers.pop(dst, None)
        if loaded and op.size == 8:
            pointers[dst] = SOMEWHERE
    elif kind is Kind.ATOMIC and (op.code.startswith("fetch") or op.code in ("xchg", "cmpxchg")):
        pointers.pop(0 if op.code == "cmpxchg" else src, None)
    elif kind is Kind.LOAD_IMM64:
        pointers.pop(dst, None)
    elif kind in (Kind.CALL, Kind.CALL_LOCAL, Kind.CALL_REGISTER, Kind.PACKET):
        passed = any(register in pointers for register in range(1, 6))
        for register in range(6):
            pointers.pop(register, None)
        if kind in (Kind.CALL_LOCAL, Kind.CALL_REGISTER) and (passed or loaded):
            # The callee may give back an address that it was given, or found in memory.
            pointers[0] = SOMEWHERE


class _Liveness:
    def __init__(
        self,
        program: Program,
        function: Function,
        helpers: Mapping[int, Helper],
        pointers: Mapping[int, tuple[_Pointers, Block]],
        escapes: bool,
        callbacks: Container[int],
    ) -> None:
        self.program = program
        self.function = function
        self.helpers = helpers
        self.escapes = escapes
        self.callbacks = callbacks
        self.pointers = pointers
        maps = [spec for each in program.maps for spec in (each, each.inner) if spec is not None]
        self.key_size = max((spec.key_size for spec in maps), default=0)
        self.value_size = max((spec.value_size for spec in maps), default=0)

    def solve(self) -> dict[int, Live]:
        """What is live at the entry of each block, and behind each call of a function."""
        effects = {entry: self._effects(*self.pointers[entry]) for entry in self.function.blocks}
        before: dict[int, list[int]] = {}
        for entry, block in self.function.blocks.items():
            for successor in block.successors:
                before.setdefault(successor, []).append(entry)
        live = dict.fromkeys(self.function.blocks, Live(0, 0))
        work = sorted(self.function.blocks, key=lambda b: self.function.blocks[b].position)
        queued = set(work)
        while work:
            entry = work.pop()
            queued.discard(entry)
            read = matters = 0
            for successor in self.function.blocks[entry].successors:
                read |= live[successor].read
                matters |= live[successor].matters
            for used, killed, asked, results, sources in effects[entry]:
                wanted = sources if matters & results else 0
                read = (read & ~killed) | used
                matters = (matters & ~killed) | asked | wanted
            if (read, matters) != live[entry]:
                live[entry] = Live(read, matters)
                for previous in before.get(entry, ()):
                    if previous not in queued:
                        queued.add(previous)
                        work.append(previous)
        return live

    def _effects(self, pointers: _Pointers, block: Block) -> list[Effect]:
        """The effects of a block's instructions, last first."""
        pointers = dict(pointers)
        effects: list[Effect] = []
        map_in_r1: MapSpec | None = None
        for pc in block.pcs:
            instruction = self.program.code[pc]
            if pc in self.callbacks:
                effects.append(self._call_function(pointers))
            else:
                effects.append(self._effect(instruction, pointers, map_in_r1))
            _step(instruction, pointers, loaded=self.escapes)
            if instruction.op.kind is Kind.LOAD_IMM64 and instruction.dst == 1:
                map_in_r1 = self._map_at(pc)
            elif map_in_r1 is not None and (instruction.op.kind in _CALLS or writes(instruction) == 1):
                map_in_r1 = None
        effects.reverse()
        return effects

    def _map_at(self, pc: int) -> MapSpec | None:
        reference = self.program.references.get(pc)
        if reference is None or reference.kind is not RefKind.MAP:
            return None
        return self.program.maps[self.program.map_number(reference.name)]

    def _effect(self, instruction: Instruction, pointers: _Pointers, map_in_r1: MapSpec | None) -> Effect:
        op, dst, src = instruction.op, 1 << instruction.dst, 1 << instruction.src
        operand = src if op.operand is Operand.REG else 0
        match op.kind:
            case Kind.ALU:
                used = operand if op.code.startswith("mov") else operand | dst
                # A number that moves a pointer must be bounded, whatever becomes of the pointer.
                moves = op.code in ("add", "sub") and op.width == 64 and op.operand is Operand.REG
                return Effect(used, dst, used if moves else 0, dst, used)
            case Kind.END:
                return Effect(dst, dst, 0, dst, dst)
            case Kind.LOAD_IMM64:
                return Effect(0, dst, 0)
            case Kind.LOAD:
                touched = self._touches(pointers, instruction.src, instruction.offset, op.size)
                return Effect(src | touched, dst, src, dst, touched)
            case Kind.STORE:
                written = self._touches(pointers, instruction.dst, instruction.offset, op.size)
                sure = isinstance(pointers.get(instruction.dst), int)
                return Effect(dst | operand, written if sure else 0, dst, written, operand)
            case Kind.ATOMIC:
                return _all(*self._atomic(instruction, pointers))
            case Kind.PACKET:
                return _all(operand | 1 << 6, _CALLER_SAVED)
            case Kind.BRANCH:
                return _all(operand | dst, 0)
            case Kind.CALL:
                used, asked = self._call(instruction, pointers, map_in_r1)
                return Effect(used, _CALLER_SAVED, asked)
            case Kind.CALL_LOCAL:
                return self._call_function(pointers)
            case Kind.CALL_REGISTER:
                return self._call_function(pointers, dst)
            case Kind.EXIT:
                return _all(1, 0)
            case Kind.JUMP:
                return _all(0, 0)
        raise AssertionError(op.kind)

    def _call_function(self, pointers: _Pointers, callee: int = 0) -> Effect:
        """What a function of the program may read, and the register that says which is called."""
        passed = any(register in pointers for register in range(1, 6))
        return _all(callee | _ARGUMENTS | (ALL_BYTES if passed or self.escapes else 0), _CALLER_SAVED)

    def _touches(self, pointers: _Pointers, register: int, offset: int, size: int) -> int:
        base = pointers.get(register)
        if base is None:
            return 0
        return bytes_from(base + offset, size) if isinstance(base, int) else ALL_BYTES

    def _atomic(self, instruction: Instruction, pointers: _Pointers) -> tuple[int, int]:
        op = instruction.op
        if op.code == "load_acquire":
            touched = self._touches(pointers, instruction.src, instruction.offset, op.size)
            return 1 << instruction.src | touched, 1 << instruction.dst
        used = 1 << instruction.dst | 1 << instruction.src
        if op.code == "store_release":
            return used, 0
        used |= self._touches(pointers, instruction.dst, instruction.offset, op.size)
        if op.code == "cmpxchg":
            return used | 1, 0
        return used, 0

    def _call(
        self, instruction: Instruction, pointers: _Pointers, map_in_r1: MapSpec | None
    ) -> tuple[int, int]:
        """The registers that the helper takes, and the stack that it may read through them.

        Of registers the value matters, and of an array's index, which may show that there is such an element.
        """
        helper = self.helpers.get(instruction.imm)
        if helper is None or instruction.op.code != "helper":
            return _ARGUMENTS | ALL_BYTES, _ARGUMENTS | ALL_BYTES
        used = asked = 0
        for register, argument in enumerate(helper.args, start=1):
            used |= 1 << register
            asked |= 1 << register
            memory = MEMORY.get(argument)
            # A Bloom filter reads where other maps write a value.
            if memory is not None and not memory.reads and argument is not Arg.NEW_VALUE:
                continue
            base = pointers.get(register)
            touched = 0
            if isinstance(base, int):
                size = -base if memory is None else self._size(memory, -base)
                touched = bytes_from(base, size) if size > 0 else 0
            elif base is not None:
                touched = ALL_BYTES
            used |= touched
            if argument is Arg.KEY and (map_in_r1 is None or "array" in map_in_r1.type):
                asked |= touched
        return used, asked

    def _size(self, memory: Memory, most: int) -> int:
        """The greatest number of bytes that a memory argument has."""
        match memory.size:
            case "key":
                return self.key_size
            case "value":
                return self.value_size
            case "next":
                return most
            case size:
                return size


def _all(used: int, killed: int) -> Effect:
    """Of everything that is read the value matters."""
    return Effect(used, killed, used)
