"""What a program has in it that a verifier can get wrong, as a set of words: coverage of the generator, and of the corpus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fuzz.watch import Watched, nodes_of
from pybpf.isa import Kind, Op, Operand
from pybpf.verifier.cfg import build
from pybpf.verifier.facts import Access
from pybpf.verifier.state import FIRST_SLOT
from pybpf.verifier.values import Number, Pieces, Pointer

_REGIONS: Final = ("stack", "packet", "packet_meta", "context", "map_value")
_TARGETS: Final = ("packet", "packet_end", "packet_meta", "context", "stack", "map", "map_value")

_IMMEDIATES: Final = {"imm": "wide constant", "map_value_fd": "map value address", "function": "callback"}

EXPECTED: Final = (
    "division", "signed division", "sign extension", "byte order", "shift by register", "arithmetic at 32 bits",
    "wide constant", "comparison at 32 bits", "signed comparison", "bit test", "far jump", "loads with sign",
    "atomic", "atomic fetch", "compare and exchange", "ordered access", "packet load", "map value address",
    *(f"{how} {region} at {place}" for region in _REGIONS for how in ("read", "write") for place in ("a constant", "a variable offset")
      if (region, place) != ("context", "a variable offset") and (how, region) not in (("write", "packet_meta"), ("read", "packet_meta"))),
    "read packet_meta at a constant", "caller's stack",
    "argument stack at a constant", "argument packet at a constant", "argument map_value at a constant",
    "loop", "nested loops", "loop in a function", "function", "nested functions",
    "decided branch", "stack read before it is written", "joined states", "widened states", "spilled number",
    "parts of a slot", *(f"spilled {target}" for target in _TARGETS if target not in ("map",)),
    "maybe null", "spilled maybe null", "copies of a maybe null", "variable pointer", "variable packet pointer proved",
    "read-only map", "several maps", "program array", "callback",
)  # fmt: skip
"""The features that generated programs should have: a campaign tells which it never saw."""


def features(watched: Watched) -> frozenset[str]:
    """The features of an accepted program."""
    return frozenset((*_code(watched), *_facts(watched), *_states(watched)))


def _code(watched: Watched) -> Iterator[str]:
    program = watched.verified.program
    for op in {instruction.op for instruction in program.code.values()}:
        yield from _row(op)
    graph = build(program)
    blocks = [block for function in graph.functions.values() for block in function.blocks.values()]
    deepest = max(len(block.loops) for block in blocks)
    yield from ("loop", "nested loops")[:deepest]
    if any(
        block.loops
        for start, function in graph.functions.items()
        if start
        for block in function.blocks.values()
    ):
        yield "loop in a function"
    if len(graph.functions) > 1:
        yield "function"
    callers = {start for start, f in graph.functions.items() for block in f.blocks.values()
               if program.code[block.pcs[-1]].op.kind is Kind.CALL_LOCAL}  # fmt: skip
    if callers - {0}:
        yield "nested functions"
    if len(program.maps) > 1:
        yield "several maps"
    for spec in program.maps:
        yield f"map {spec.type}"
        if spec.read_only:
            yield "read-only map"
        if spec.type == "prog_array":
            yield "program array"
    for number in watched.verified.facts.helpers:
        yield f"helper {watched.verified.type.helpers[number].name}"
    yield f"type {watched.verified.type.name}"


def _row(op: Op) -> Iterator[str]:
    """The features of an instruction by itself."""
    code = op.code
    match op.kind:
        case Kind.ALU:
            if op.width == 32:
                yield "arithmetic at 32 bits"
            if code in ("div", "mod"):
                yield "division"
            elif code in ("sdiv", "smod"):
                yield "signed division"
            elif code.startswith("movs"):
                yield "sign extension"
            elif code in ("lsh", "rsh", "arsh") and op.operand is Operand.REG:
                yield "shift by register"
        case Kind.END:
            yield "byte order"
        case Kind.LOAD_IMM64:
            yield _IMMEDIATES.get(code, "map address")
        case Kind.BRANCH:
            if op.width == 32:
                yield "comparison at 32 bits"
            if code.startswith("js") and code != "jset":
                yield "signed comparison"
            elif code == "jset":
                yield "bit test"
        case Kind.JUMP if code == "gotol":
            yield "far jump"
        case Kind.LOAD if code == "memsx":
            yield "loads with sign"
        case Kind.ATOMIC:
            if code in ("load_acquire", "store_release"):
                yield "ordered access"
            else:
                yield (
                    "compare and exchange"
                    if code == "cmpxchg"
                    else "atomic fetch"
                    if "fetch" in code
                    else "atomic"
                )
        case Kind.PACKET:
            yield "packet load"


def _facts(watched: Watched) -> Iterator[str]:
    facts, code = watched.verified.facts, watched.verified.program.code
    for pc, accesses in facts.accesses.items():
        how = "read" if code[pc].op.kind is Kind.LOAD else "write"
        for access in accesses:
            yield f"{how} {_place(access)}"
            if access.frame < max((a.frame for a in accesses), default=0):
                yield "stack of two frames"
        if len(accesses) > 1:
            yield "several regions"
    for arguments in facts.arguments.values():
        for accesses in arguments.values():
            for access in accesses:
                yield f"argument {_place(access)}"
    if facts.branches:
        yield "decided branch"
    if facts.zero_stack:
        yield "stack read before it is written"


def _place(access: Access) -> str:
    return f"{access.region.value} at {'a constant' if access.low == access.high else 'a variable offset'}"


def _states(watched: Watched) -> Iterator[str]:
    """What the states of the proof hold."""
    for node in nodes_of(watched.root):
        if node.joined:
            yield "joined states"
        if node.widened:
            yield "widened states"
        state = node.state
        questions = [cell.null for cell in state.cells if isinstance(cell, Pointer) and cell.null is not None]
        if len(questions) > len(set(questions)):
            yield "copies of a maybe null"
        for index, cell in enumerate(state.cells):
            if isinstance(cell, Pieces):
                yield "parts of a slot"
            elif isinstance(cell, Number):
                if index >= FIRST_SLOT:
                    yield "spilled number"
            elif cell is not None:
                target = cell.target.value
                if index >= FIRST_SLOT:
                    yield f"spilled {target}"
                if cell.null is not None:
                    yield "spilled maybe null" if index >= FIRST_SLOT else "maybe null"
                if cell.variable is not None:
                    yield "variable pointer"
                    if cell.atoms and state.proofs.get(cell.atoms, 0) > 0:
                        yield "variable packet pointer proved"
                if state.frames and target == "stack" and cell.number < len(state.frames):
                    yield "caller's stack"
