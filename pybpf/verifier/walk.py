"""A walk through one block: the states behind it, and where they stand. Proves what the block's instructions require on the way.

Exploration decides which states are walked, and a certificate names some; what a walk gives is the same for both.
"""

from __future__ import annotations

from typing import Final

from pybpf.isa import Kind
from pybpf.program import Program
from pybpf.verifier.branches import Branches
from pybpf.verifier.callbacks import Callbacks
from pybpf.verifier.cfg import Block, Graph
from pybpf.verifier.explain import Refusal
from pybpf.verifier.prototypes import Prototypes
from pybpf.verifier.state import State
from pybpf.verifier.transfer import Step, Transfer

Place = tuple[tuple[int, ...], int]
"""A block under a stack of calls: the slots of the calls, the block's first slot."""

_CHOOSING: Final = frozenset({Kind.BRANCH, Kind.EXIT, Kind.CALL_LOCAL, Kind.CALL_REGISTER})
"""Instructions that end a block and choose the next: `_behind` handles them."""


LONG: Final = 4096
"""So many instructions are walked without a question."""


class Walk:
    """The blocks of one program, each made into steps when it is first walked. Runs begin at `start`."""

    def __init__(self, program: Program, graph: Graph, transfer: Transfer) -> None:
        self.program = program
        self.start: Place = ((), graph.entry)
        self.transfer = transfer
        self.branches = Branches(transfer)
        self.callbacks = Callbacks(graph.callbacks, transfer, self.branches)
        self.prototypes = Prototypes(graph, transfer)
        self.blocks: dict[int, Block] = {s: b for f in graph.functions.values() for s, b in f.blocks.items()}
        self.watch: Step | None = None
        """What is asked now and then inside a long block, whether to go on."""
        self._steps: dict[int, list[tuple[int, Step]]] = {}
        self._function_of: dict[int, int] = {}
        for function in graph.functions.values():
            self._function_of |= dict.fromkeys(function.blocks, function.entry)
            self._function_of |= dict.fromkeys((*function.calls, *function.register_calls), function.entry)

    def begin(self) -> State:
        """The state in which runs begin."""
        return self.prototypes.begin()

    def through(self, place: Place, state: State) -> list[tuple[Place, State]]:
        """The states behind a block and their places, a branch's fall-through first; `state` is used up.

        Raises `Refusal` with its `pc` where an obligation cannot be proved.
        """
        calls, start = place
        block = self.blocks[start]
        steps = self._steps.get(start)
        if steps is None:
            steps = self._steps[start] = self._compile(block)
        recorder = self.transfer.recorder
        recorder.reached(block.pcs)
        # A call stands in the function that the call before it entered.
        recorder.enter(tuple(self._function_of[pc] for pc in (*calls, start)))
        at = start
        try:
            for pc, step in steps:
                at = pc
                step(state)
            at = block.pcs[-1]
            behind = self._behind(calls, block, state)
            if not calls or self.program.code[at].op.kind is not Kind.EXIT:
                for (_, target), after in behind:
                    if target in self.callbacks.of and target != at:
                        self.callbacks.begin(target, after)
            return behind
        except Refusal as refusal:
            refusal.pc = at
            raise

    def release(self) -> None:
        """Drop what was made of the blocks."""
        self._steps.clear()
        self.watch = None
        self.transfer.release()

    def _compile(self, block: Block) -> list[tuple[int, Step]]:
        """The steps of a block: all but an instruction that chooses the next block."""
        last = self.program.code[block.pcs[-1]].op.kind
        pcs = block.pcs[:-1] if last in _CHOOSING or block.pcs[-1] in self.callbacks.of else block.pcs
        steps = [(pc, self.transfer.step(pc)) for pc in pcs]
        if self.watch is not None:
            for at in reversed(range(LONG, len(steps), LONG)):
                steps.insert(at, (pcs[at], self.watch))
        return steps

    def _behind(self, calls: tuple[int, ...], block: Block, state: State) -> list[tuple[Place, State]]:
        pc = block.pcs[-1]
        instruction = self.program.code[pc]
        match instruction.op.kind:
            case Kind.BRANCH:
                return [
                    ((calls, instruction.target(pc) if taken else pc + instruction.slots), after)
                    for taken, after in self.branches.sides(state, pc, instruction)
                ]
            case Kind.EXIT if not calls:
                self.prototypes.leave(state)
                return []
            case Kind.EXIT if calls[-1] in self.callbacks.of:
                call = calls[-1]
                again, stopped = self.callbacks.end(call, state)
                return _taken([((calls[:-1], call), again), ((calls[:-1], call + 1), stopped)])
            case Kind.EXIT:
                self.transfer.leave_function(state)
                call = calls[-1]
                return [((calls[:-1], call + self.program.code[call].slots), state)]
            case Kind.CALL_LOCAL if instruction.target(pc) in self.prototypes.of:
                self.prototypes.call(state, pc, instruction.target(pc))
            case Kind.CALL_LOCAL:
                callee = instruction.target(pc)
                self.transfer.enter_function(state, pc, callee)
                return [(((*calls, pc), callee), state)]
            case Kind.CALL_REGISTER:
                entered = self.transfer.call_register(state, pc, instruction.dst)
                if entered is not None:
                    return [(((*calls, pc), entered), state)]
            case Kind.CALL if pc in self.callbacks.of:
                inside, after = self.callbacks.turn(pc, state)
                return _taken([(((*calls, pc), self.callbacks.of[pc]), inside), ((calls, pc + 1), after)])
        return [((calls, block.successors[0]), state)]


def _taken(ways: list[tuple[Place, State | None]]) -> list[tuple[Place, State]]:
    return [(place, state) for place, state in ways if state is not None]
