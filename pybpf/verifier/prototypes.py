"""Global functions by themselves, as Linux verifies them under the policy `global_functions`.

A global function may be replaced when a program is loaded already, so neither side may count on more than the prototype. Calls are not
followed: their arguments must be what the prototype says, the result is any number, what was passed by address has any contents, and
pointers into the packet die where a helper that moves it stands in the function or what it calls. Each function that is called so is
walked from its own entry, where of the arguments nothing is known but the prototype. The facts of a program come from walking
functions where they are called; what is done here can only refuse. A certificate has the claims of each of these walks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pybpf.errors import UnsupportedError
from pybpf.helpers import Helper
from pybpf.isa import Kind
from pybpf.program import Parameter, Program, Subprogram
from pybpf.verifier.arguments import BYTES
from pybpf.verifier.arithmetic import name_of
from pybpf.verifier.cfg import Graph
from pybpf.verifier.explain import Refusal
from pybpf.verifier.prove import BTF_POINTERS, READ, WRITE
from pybpf.verifier.state import State
from pybpf.verifier.values import Number, Object, Pointer, Target, Value

if TYPE_CHECKING:
    from pybpf.verifier.transfer import Transfer

MAX_PARAMETERS: Final = 5
"""Arguments are in r1 to r5."""

_OTHER_NAMES: Final = {
    "__sk_buff": ("sk_buff",),
    "xdp_md": ("xdp_buff",),
    "pt_regs": ("bpf_user_pt_regs_t",),
}
"""How else C calls a context (Linux, btf_is_prog_ctx_type)."""

_UNSUPPORTED: Final = {"trusted": BTF_POINTERS, "untrusted": BTF_POINTERS, "arena": "arenas"}
"""Tags of parameters that pybpf does not know -> the feature."""


def prototyped(program: Program, graph: Graph) -> dict[int, Subprogram]:
    """The global functions of a program that have a prototype, but for its entry. Raises `Refusal` where one is a callback."""
    found = {
        entry: function
        for entry, function in program.functions.items()
        if entry in graph.functions and entry != 0 and function.prototype is not None
    }
    for pc in program.code:
        if graph.addressed and (entry := program.function_at(pc)) in found:
            refusal = _refusal(f"callbacks must be static, and {found[entry].name} is global")
            refusal.pc = pc
            raise refusal
    return found


class Apart:
    """The parts of a program that are walked if calls of these functions are not followed: what runs from the program's entry on, then
    from each function that was met. `entries` are those so far.
    """

    def __init__(
        self,
        program: Program,
        graph: Graph,
        functions: Mapping[int, Subprogram],
        helpers: Mapping[int, Helper],
    ) -> None:
        self.functions = functions
        self.entries = [0] if functions else []
        moving = movers(program, graph, helpers) if functions else frozenset[int]()
        self._graph = replace(graph, prototyped=functions, moving=moving)

    def __iter__(self) -> Iterator[Graph]:
        for entry in self.entries:
            yield self._part(entry)

    def add(self, called: Iterable[int]) -> None:
        """The functions whose calls a walk met."""
        self.entries += [entry for entry in called if entry not in self.entries]

    def _part(self, start: int) -> Graph:
        """The functions that runs from one entry on can come to."""
        part, waiting = {}, [start]
        while waiting:
            function = self._graph.functions[entry := waiting.pop()]
            if entry in part:
                continue
            calls = {pc: callee for pc, callee in function.calls.items() if callee not in self.functions}
            part[entry] = replace(function, calls=calls)
            waiting += calls.values()
            waiting += self._graph.addressed if function.register_calls else ()
        return replace(self._graph, functions=part, entry=start)


def by_itself(refusal: Refusal, graph: Graph) -> Refusal:
    """The refusal of what is right where functions are walked into from where they are called."""
    told = Refusal(refusal.reason, where(graph) + refusal.message, refusal.needed, refusal.known)
    told.pc = refusal.pc
    return told


def where(graph: Graph) -> str:
    """What a message about a walk begins with: nothing, if the walk follows all calls."""
    if not graph.prototyped:
        return ""
    function = graph.prototyped.get(graph.entry)
    what = "calls of global functions" if function is None else f"global function {function.name}"
    return f"{what} verified by prototype alone: "


def movers(program: Program, graph: Graph, helpers: Mapping[int, Helper]) -> frozenset[int]:
    """The functions in which a helper stands that may move the packet, or that call one of those."""
    moving: set[int] = set()
    for entry, function in graph.functions.items():
        for block in function.blocks.values():
            for pc in block.pcs:
                instruction = program.code[pc]
                helper = helpers.get(instruction.imm) if instruction.op.kind is Kind.CALL else None
                if helper is not None and "packet" in helper.effects:
                    moving.add(entry)
    callers: dict[int, set[int]] = {}
    for entry, function in graph.functions.items():
        for callee in function.calls.values():
            callers.setdefault(callee, set()).add(entry)
    work = list(moving)
    while work:
        more = callers.get(work.pop(), set()) - moving
        moving |= more
        work += more
    return frozenset(moving)


class Prototypes:
    """The functions that one walk does not follow, by their entry; `called` are those that it met. `where` is said in front of what is wrong."""

    def __init__(self, graph: Graph, transfer: Transfer) -> None:
        self.of = graph.prototyped
        self.entry = graph.entry
        self.moving = graph.moving
        self.transfer = transfer
        self.called: dict[int, None] = {}
        self.where = where(graph)

    def begin(self) -> State:
        """The state in which the function of the walk starts: its arguments are what its prototype says."""
        state = self.transfer.entry()
        if (function := self.of.get(self.entry)) is None:
            return state
        state.cells[1:6] = [None] * 5
        state.proofs = {}
        for register, parameter in self._parameters(function).items():
            state.cells[register] = self._given(function, register, parameter)
        return state

    def leave(self, state: State) -> None:
        """The function of the walk returns."""
        function = self.of.get(self.entry)
        if function is None:
            self.transfer.check_result(state)
            return
        result = self.transfer.read(state, 0)
        if isinstance(result, Pointer):
            raise Refusal("return-value", f"{function.name} gives back {name_of(result)}, not a number")
        self.transfer.nothing_held(state, f"{function.name} returns")

    def call(self, state: State, pc: int, entry: int) -> None:
        """A call that is not followed."""
        self.called[entry] = None
        function = self.of[entry]
        for register, parameter in self._parameters(function).items():
            self._check(state, function, register, parameter)
        if entry in self.moving:
            self.transfer.calls.drop_packet(state)
        state.cells[0] = self.transfer.unknown(state, pc, 64)
        state.cells[1:6] = [None] * 5

    def _parameters(self, function: Subprogram) -> Mapping[int, Parameter]:
        """The parameters by register, if Linux takes functions of the prototype."""
        prototype = function.prototype
        assert prototype is not None, "the functions here have one"
        if len(prototype.parameters) > MAX_PARAMETERS:
            raise _refusal(f"{function.name} has more than {MAX_PARAMETERS} parameters")
        if not prototype.gives_number:
            raise _refusal(f"{function.name} does not return a number, as global functions must")
        return dict(enumerate(prototype.parameters, start=1))

    def _is_context(self, parameter: Parameter) -> bool:
        context = self.transfer.type.context
        if context is None or parameter.kind != "pointer":
            return False
        return "ctx" in parameter.tags or not {context.name, *_OTHER_NAMES.get(context.name, ())}.isdisjoint(
            parameter.names
        )

    def _nullable(self, function: Subprogram, register: int, parameter: Parameter) -> bool:
        """Whether memory may be null instead. Raises for a parameter that is neither a number, the context nor memory."""
        what, tags = f"parameter {register} of {function.name}", parameter.tags
        if parameter.kind != "pointer" and tags:
            raise _refusal(f"{what} is tagged {', '.join(sorted(tags))} and is no pointer")
        if parameter.kind == "other":
            raise _refusal(f"{what} is neither a number nor a pointer")
        feature = next((_UNSUPPORTED[tag] for tag in sorted(tags) if tag in _UNSUPPORTED), None)
        if "bpf_dynptr" in parameter.names:
            feature = "dynptrs"
        if feature is not None:
            message = f"{what}: a pointer tagged {', '.join(sorted(tags))}" if tags else f"{what}: a dynptr"
            raise UnsupportedError(
                f"{message} is not supported", feature, program=self.transfer.program.name, pc=function.pc
            )
        if tags - {"nonnull"}:
            raise _refusal(f"{what}: tags {', '.join(sorted(tags))} do not go together")
        if parameter.kind == "pointer" and parameter.size is None:
            raise _refusal(f"{what} points to something without a size")
        return "nonnull" not in tags

    def _given(self, function: Subprogram, register: int, parameter: Parameter) -> Value:
        """What a function may believe of an argument."""
        values, name = self.transfer.values, ("argument", register)
        if self._is_context(parameter):
            return values.pointer(Target.CONTEXT)
        nullable = self._nullable(function, register, parameter)
        if parameter.kind == "number":
            return values.defined(values.numbers.unknown, name)
        memory = values.object(Object("memory", parameter.size or 0))
        return values.pointer(Target.RECORD, memory, null=name if nullable else None)

    def _check(self, state: State, function: Subprogram, register: int, parameter: Parameter) -> None:
        """An argument is what a function may believe of it."""
        value = self.transfer.read(state, register)

        def wrong(needed: str) -> Refusal:
            held = "a number" if isinstance(value, Number) else name_of(value)
            if isinstance(value, Pointer) and value.null is not None:
                held += " that may be null"
            return _refusal(
                f"r{register} of {function.name} must be {needed}, is {held}",
                needed,
                f"r{register} = {value!r}",
            )

        if self._is_context(parameter):
            if not self.transfer.calls.is_context(value):
                raise wrong("the context")
            return
        nullable = self._nullable(function, register, parameter)
        if parameter.kind == "number":
            if isinstance(value, Pointer):
                raise wrong("a number")
            return
        size = parameter.size or 0
        if isinstance(value, Number):
            if value.value != 0 or not nullable:
                raise wrong(f"a pointer to {size} bytes")
            return
        if value.null is not None and not nullable:
            raise wrong(f"a pointer to {size} bytes that is not null")
        packet = value.target in (Target.PACKET, Target.PACKET_META)
        if value.target not in BYTES or (packet and self.transfer.type.packet_arguments is False):
            raise wrong(f"a pointer to {size} bytes")
        if size:
            self._memory(state, register, self.transfer.values.moved(value, null=None), size)

    def _memory(self, state: State, register: int, p: Pointer, size: int) -> None:
        """A function may read and write what it is given the address of."""
        prover = self.transfer.prover
        for mode in (READ, WRITE):
            prover.bounds(state, register, p, 0, size, mode)
        if p.target is Target.STACK:
            prover.no_pointers(state, register, p, 0, size)
            prover.initialised(state, register, p, 0, size)
            self.transfer.clobber_stack(state, p, 0, size, sure=False)


def _refusal(message: str, needed: str = "", known: str = "") -> Refusal:
    return Refusal("global-function", message, needed, known)
