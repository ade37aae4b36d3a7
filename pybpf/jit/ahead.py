"""The beginning of a program as a function that only finds the key of its first operation on a hash table (see `pybpf.jit.split`).

    void @ahead(ptr %state, ptr %packet, i64 %length, ptr %hint)

It writes the hint of one packet: whether there is a key, and the key. It ends, without one, where the program ends or traps, before anything that leaves something
behind, at loops, and before operations on other tables.
"""

from __future__ import annotations

from pybpf import helpers
from pybpf.instruction import Instruction
from pybpf.jit import hint_ir, map_ir
from pybpf.jit.blocks import function_graph
from pybpf.jit.builder import RESULT, Builder, Value
from pybpf.jit.calls import Call
from pybpf.jit.conjunction import Conjunction
from pybpf.jit.lower import Function, Module
from pybpf.jit.split import Split


def ahead(module: Module) -> str:
    """The text of the function, and of the operations with hints; empty for a program that is not split."""
    split = module.split
    if split is None:
        return ""
    text = _Ahead(module, split).text()
    module.support.setdefault(
        f"map{split.number}", map_ir.operations(split.number, module.maps[split.number][0])
    )
    return text + hint_ir.operations(
        split.number, split.layout, inserts=split.inserts, changes=split.changes, writes=split.writes
    )


def rest(module: Module) -> str:
    """The function ``@rest``, as ``@program``: what a program does with packets that have the bytes it asks for (see `pybpf.jit.conjunction`); empty where there is none."""
    return (
        ""
        if module.conjunction is None or module.split is not None
        else _Rest(module, module.conjunction).text()
    )


class _Rest(Function):
    """The function being written."""

    def __init__(self, module: Module, conjunction: Conjunction) -> None:
        code = conjunction.rest
        super().__init__(module, 0, function_graph(code, code.keys(), 0, module.effect), code=code)

    def _signature(self) -> str:
        return f"{RESULT} @rest(ptr noalias %state, ptr noalias %packet, i64 %length) alwaysinline"


class _Ahead(Function):
    """The function being written. Its graph is that of the instructions that come before an operation, with the operations."""

    def __init__(self, module: Module, split: Split) -> None:
        graph = function_graph(module.program.code, split.before | split.pcs, 0, module.effect)
        super().__init__(module, 0, graph, Builder(leaves=True))
        self._split = split
        self.b.do("store i32 0, ptr %hint, align 4")

    def _signature(self) -> str:
        return "void @ahead(ptr noalias %state, ptr noalias %packet, i64 %length, ptr noalias %hint) alwaysinline"

    def _instruction(self, pc: int, instruction: Instruction) -> None:
        if pc not in self._split.pcs:
            super()._instruction(pc, instruction)
            return
        module, n = self.module, self._split.number
        number = module.helper(pc)
        call = Call(pc, number, self.registers[1:6], self.regions, module.type, module.facts, module.support)
        key = call.pointer(2, self._split.layout.key_size)
        self.b.do(f"call void @map_note_{n}(ptr {key}, ptr %hint)")
        self.b.do("ret void")
        self.b.block(self.b.name())  # where nothing ever arrives
        self.registers[0] = 0

    def _call_helper(self, pc: int, number: int) -> Value:
        # Nobody's key depends on the time; where one does, its hint is of no use.
        return 0 if self.module.bodies[pc] is helpers.KTIME.body else super()._call_helper(pc, number)

    def _exit(self, value: Value) -> None:
        self.b.do("ret void")
