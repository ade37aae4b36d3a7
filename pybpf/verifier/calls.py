"""Helper calls: which may be made, the words of a contract as obligations, and what a call leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from pybpf import map_types
from pybpf.errors import UnsupportedError
from pybpf.helpers import MEMORY, UNPROVED, Arg, Helper, Ret, number_of
from pybpf.instruction import Instruction
from pybpf.isa import Kind
from pybpf.program import MapSpec, Program, RefKind
from pybpf.program_types import SOCKETS, ProgramType
from pybpf.semantics import U32
from pybpf.verifier.arguments import Argument, constant_key
from pybpf.verifier.callbacks import callees
from pybpf.verifier.explain import Refusal
from pybpf.verifier.prove import Prover
from pybpf.verifier.recorder import Recorder
from pybpf.verifier.state import State
from pybpf.verifier.values import (
    LENGTH,
    Atom,
    Cell,
    Object,
    Pointer,
    Target,
    Value,
    Values,
    mentions,
)

if TYPE_CHECKING:
    from pybpf.verifier.transfer import Step, Transfer

MAX_ERRNO: Final = 4095
"""Error numbers end here (Linux, include/linux/err.h)."""

_OBJECTS: Final[Mapping[Ret, str]] = {
    Ret.SOCKET_OR_NULL: "sock",
    Ret.SOCK_COMMON_OR_NULL: "sock_common",
    Ret.TCP_SOCK_OR_NULL: "tcp_sock",
    Ret.BTF: "btf",
    Ret.BTF_OR_NULL: "btf",
}
"""Results that are structures of the kernel -> their kind."""

_CALL: Final = "at"
_STACK: Final = "null or an address of the stack"


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
        self.callbacks = callees(program)

    def step(self, pc: int, instruction: Instruction) -> Step:
        """The step of a call. A function that nobody knows is unsupported: Linux may well have it."""
        name, number, helper = self._named(pc, instruction)
        return self._refused(name) if helper is None else self._known(pc, number, helper)

    def numbered(self, pc: int, number: int) -> Step | None:
        """The step of a call of the helper with a number; None where there is none of the number."""
        if number in self.type.helpers:
            return self._known(pc, number, self.type.helpers[number])
        return self._refused(self.type.numbering[number].name) if number in self.type.numbering else None

    def _known(self, pc: int, number: int, helper: Helper) -> Step:
        self._provable(pc, helper)
        return self._step(pc, number, helper)

    def _named(self, pc: int, instruction: Instruction) -> tuple[str, int, Helper | None]:
        """What an instruction calls; no helper where the type may not call what others may."""
        reference = self.program.references.get(pc)
        if instruction.op.code != "helper" or (
            reference is not None and reference.kind is not RefKind.HELPER
        ):
            name = reference.name if reference is not None else f"kfunc {instruction.imm}"
            raise self.unsupported(pc, f"call of {name} is not supported", "kfunc")
        type_, number = self.type, instruction.imm
        name = f"helper {number}"
        if reference is not None:
            name = reference.name
            found = number_of(type_.helpers, name)
            number = found if found is not None else number_of(type_.numbering, name) or -1
        if number in type_.helpers:
            return name, number, type_.helpers[number]
        if number in type_.numbering:
            return type_.numbering[number].name, number, None
        raise self.unsupported(pc, f"program type {type_.name!r} knows no {name}", "helper")

    def _refused(self, name: str) -> Step:
        def step(state: State) -> None:
            raise self._not_allowed(name)

        return step

    def modelled(self, pc: int, instruction: Instruction) -> tuple[int, Helper]:
        """The helper that takes a callback. Raises what says that it may not be called, or is not modelled."""
        name, number, helper = self._named(pc, instruction)
        if helper is None:
            raise self._not_allowed(name)
        self._provable(pc, helper)
        return number, helper

    def proved(self, state: State, pc: int, helper: Helper) -> Call:
        """A call whose arguments are those of the contract. Raises `Refusal`."""
        call = Call(self, state, pc, helper)
        call.prove()
        return call

    def _not_allowed(self, name: str) -> Refusal:
        return Refusal("helper-not-allowed", f"a program of type {self.type.name} cannot use helper {name}")

    def _provable(self, pc: int, helper: Helper) -> None:
        for feature in helper.unproved:
            raise self.unsupported(pc, f"helper {helper.name}: {feature} are not supported", feature)

    def unsupported(self, pc: int, message: str, feature: str) -> UnsupportedError:
        """The error of something that pybpf does not know."""
        return UnsupportedError(message, feature, program=self.program.name, pc=pc)

    def _step(self, pc: int, number: int, helper: Helper) -> Step:
        changes: list[Callable[[State], None]] = []
        if "packet" in helper.effects:
            changes.append(self.drop_packet)
        ends = helper.name == "tail_call"

        def step(state: State) -> None:
            if helper.sleeps and not self.type.sleepable:
                raise Refusal("helper-not-allowed", f"helper {helper.name} may sleep, the program may not")
            if ends:
                self._may_end(state, pc)
            call = self.proved(state, pc, helper)
            for change in changes:
                change(state)
            state.cells[0] = given = call.result()
            self.recorder.called(pc, number, helper, call.map, given)
            state.cells[1:6] = [None] * 5

        return step

    def _may_end(self, state: State, pc: int) -> None:
        """A tail call ends the program, if it succeeds."""
        if state.frames:
            # Another program then returns to the caller, with any result and, it may be, another packet.
            raise self.unsupported(
                pc, "a tail call inside a function is not supported", "tail-call-in-function"
            )
        self.transfer.nothing_held(state, "the tail call")

    def is_context(self, value: Value) -> bool:
        """Whether a value is the context pointer as the program got it."""
        return (
            isinstance(value, Pointer)
            and value.target is Target.CONTEXT
            and value.offset == 0
            and value.variable is None
        )

    def acquired(self, state: State) -> str:
        """What is held, by the calls that acquired it, for a message."""
        names = sorted({self._acquired_by(held) for held in state.held})
        return f"what {' and '.join(names)} gave {'is' if len(names) == 1 else 'are'}"

    def _acquired_by(self, held: Atom) -> str:
        while isinstance(held, tuple) and held[0] != _CALL:
            held = held[1]
        if not isinstance(held, tuple):
            return "a call before"  # a point of a certificate does not say which
        pc = int(held[1])
        instruction = self.program.code[pc]
        if instruction.op.kind is Kind.CALL_REGISTER:
            return f"the call at pc {pc}"
        name = self._named(pc, instruction)[2]
        return f"{name.name if name else 'the call'} at pc {pc}"

    def release(self, state: State, reference: Atom) -> None:
        """Give something back: every pointer to it dies."""
        state.held -= {reference}

        def over(cell: Value) -> Cell:
            object = self.values.object_of(cell) if isinstance(cell, Pointer) else None
            return cell if object is None or object.reference != reference else self.dead

        state.rewrite(self.values, over)

    @property
    def dead(self) -> Cell:
        """What is left of a pointer that died."""
        return self.values.unknown if self.values.leaks else None

    def drop_packet(self, state: State) -> None:
        """The packet may have moved: no pointer into it, and nothing that was proved about its length, survives."""
        values = self.values

        def over(cell: Value) -> Cell:
            if isinstance(cell, Pointer):
                if cell.target in (Target.PACKET, Target.PACKET_END, Target.PACKET_META):
                    return self.dead
                if mentions(cell.atoms, LENGTH):
                    return values.pointer(
                        cell.target, cell.number, cell.offset, cell.variable, None, cell.null
                    )
                return cell
            if cell.form is not None and mentions(cell.form[0], LENGTH):
                return values.number(cell.scalar, None)
            return cell

        state.rewrite(values, over)
        state.proofs = {}


class Call:
    """One call in one state: `prove` takes the arguments in order, `result` is what r0 holds then."""

    def __init__(self, calls: Calls, state: State, pc: int, helper: Helper) -> None:
        self.calls = calls
        self.state = state
        self.pc = pc
        self.helper = helper
        self.map: int | None = None
        """The number of the map argument."""
        self.object: Object | None = None
        """The structure of the kernel among the arguments."""
        self.constant = 0
        self.most = 0
        """The greatest size that an argument has."""
        self.key: int | None = None
        self.releases: Atom | None = None

    @property
    def spec(self) -> MapSpec:
        """The map argument's specification."""
        assert self.map is not None, "a contract names the map first"
        return self.calls.prover.maps[self.map]

    def prove(self) -> None:
        """Prove every argument. Raises `Refusal`."""
        for register, kind in enumerate(self.helper.args, start=1):
            value = self.calls.transfer.read(self.state, register)
            argument = Argument(
                self.calls.prover, self.calls.transfer, self.state, self.pc, self.helper, register, value
            )
            self._prove(kind, argument)
        if self.releases is not None:
            self.calls.release(self.state, self.releases)

    def _prove(self, kind: Arg, argument: Argument) -> None:
        if kind in MEMORY:
            self._memory(kind, argument)
            return
        match kind:
            case Arg.MAP:
                self._map(argument)
            case Arg.CTX | Arg.CTX_OR_NULL:
                null = kind is Arg.CTX_OR_NULL and argument.is_null
                if not null and not self.calls.is_context(argument.value):
                    raise argument.wrong("the context")
            case Arg.SIZE | Arg.SIZE_OR_ZERO:
                argument.number("a size")
            case Arg.CONSTANT:
                self.constant = argument.constant()
            case Arg.ZERO:
                if argument.constant() != 0:
                    raise argument.wrong("0")
            case Arg.TEXT:
                argument.text()
            case Arg.CALLBACK:
                if argument.function() != self.calls.callbacks.get(self.pc):
                    message = f"helper {self.helper.name}: which function it calls depends on the path"
                    raise self.calls.unsupported(self.pc, message, UNPROVED[kind])
            case Arg.STACK_OR_NULL:
                if not argument.is_null and argument.pointer(_STACK).target is not Target.STACK:
                    raise argument.wrong(_STACK)
            case Arg.SOCKET | Arg.SOCKET_OR_NULL | Arg.RELEASED_SOCKET:
                if not (kind is Arg.SOCKET_OR_NULL and argument.is_null):
                    self._object(
                        argument, SOCKETS if kind is not Arg.SOCKET_OR_NULL else {"sock"}, "a socket"
                    )
                if kind is Arg.RELEASED_SOCKET:
                    self._release(argument)
            case Arg.RELEASED_RECORD:
                argument.record()
                self._release(argument)
            case _:
                self.calls.transfer.no_leak(argument.value, f"passed to {self.helper.name} as a number")

    def _map(self, argument: Argument) -> None:
        self.map = argument.map()
        spec, name = self.spec, self.helper.name
        takes = map_types.takes(name, spec)
        if takes is None:
            message = f"{name} on map {spec.name!r} of type {spec.type} is not supported"
            raise self.calls.unsupported(self.pc, message, "map-type")
        if not takes:
            raise Refusal("map-type", f"{name} takes no map of type {spec.type}, as {spec.name!r} is")
        if map_types.changes(name) and not map_types.writable(spec):
            raise Refusal("map-write", f"{name} on read-only map {spec.name!r}")
        type_ = self.calls.type
        map_type = map_types.TYPES[spec.type]
        if map_type.gives == "sock" and type_.name not in map_types.SOCKET_MAP_TYPES.get(name, (type_.name,)):
            raise Refusal(
                "map-type",
                f"{name} from a program of type {type_.name} takes no map {spec.name!r} of sockets",
            )
        if type_.sleepable and not map_type.sleepable:
            raise Refusal(
                "map-type", f"a program that may sleep cannot use map {spec.name!r} of type {spec.type}"
            )

    def _memory(self, kind: Arg, argument: Argument) -> None:
        memory = MEMORY[kind]
        reads, writes = memory.reads, memory.writes
        if memory.nullable and argument.is_null and memory.size != "next":
            return
        match memory.size:
            case "next":
                self.most = argument.sized(self.helper.args[argument.register], memory)
                return
            case "key":
                size = self.spec.key_size
            case "value":
                if map_types.TYPES[self.spec.type].gives == "sock":
                    self._object(argument, SOCKETS, "a socket")
                    return
                size = self.spec.value_size
                if kind is Arg.NEW_VALUE and self.spec.type == "bloom_filter":
                    reads, writes = True, False
            case size:
                pass
        if size == 0:
            raise Refusal(
                "helper-argument",
                f"r{argument.register} of {self.helper.name}: map {self.spec.name!r} has none",
            )
        if memory.aligned:
            argument.aligned(size)
        argument.memory(size, reads=reads, writes=writes, sure=True)
        # The index alone says what is found, unless the helper is given more: a processor's number, which may be that of none.
        if self.helper.args == (Arg.MAP, Arg.KEY) and self.spec.type in ("array", "percpu_array"):
            self.key = constant_key(self.calls.prover, self.state, argument.value, size)

    def _object(self, argument: Argument, kinds: frozenset[str] | set[str], needed: str) -> None:
        object = argument.object(needed)
        if object.kind == "btf":
            raise self.calls.unsupported(
                self.pc,
                f"helper {self.helper.name} on what only the kernel's BTF describes",
                UNPROVED[Arg.BTF],
            )
        if object.kind not in kinds:
            raise argument.wrong(needed)
        self.object = object

    def _release(self, argument: Argument) -> None:
        needed = "something that was acquired and not given back"
        object = self.calls.values.object_of(argument.pointer(needed))
        if object is None or object.reference is None or object.reference not in self.state.held:
            raise argument.wrong(needed)
        self.releases = object.reference

    def result(self) -> Value | None:
        """What r0 holds after the call."""
        returns = self.helper.returns
        if returns is Ret.VOID:
            return None
        define = self.calls.transfer.define(self.state, self.pc)
        values = self.calls.values
        numbers = values.numbers
        match returns:
            case Ret.NUM:
                return values.defined(numbers.unknown, define)
            case Ret.U32:
                return values.defined(numbers.unsigned(0, U32), define)
            case Ret.ERR:
                return values.defined(numbers.signed(-MAX_ERRNO, 0), define)
            case Ret.LENGTH:
                return values.defined(numbers.signed(-MAX_ERRNO, self.most), define)
            case Ret.VALUE:
                return self._value(None)
            case Ret.VALUE_OR_NULL:
                return self._value(define)
            case Ret.RECORD_OR_NULL:
                return self._given(Target.RECORD, Object("record", self.constant), define, define)
        null = None if returns is Ret.BTF else define
        return self._given(Target.OBJECT, Object(_OBJECTS[returns]), null, define)

    def _given(self, target: Target, object: Object, null: Atom | None, define: Atom) -> Pointer:
        """A pointer that must be given back, if the helper says so; one that was cast dies with what it was."""
        values = self.calls.values
        reference = None
        if self.helper.acquires:
            reference = define
            self.state.held |= {define}
        elif self.helper.casts and self.object is not None:
            reference = self.object.reference
        return values.pointer(target, values.object(object._replace(reference=reference)), null=null)

    def _value(self, null: Atom | None) -> Pointer:
        """What a lookup finds: a value, or a map, or a socket."""
        values = self.calls.values
        assert self.map is not None, "a contract that returns a value takes a map"
        match map_types.TYPES[self.spec.type].gives if self.spec.type in map_types.TYPES else "value":
            case "map":
                inner = self.calls.prover.inner.get(self.map)
                if inner is None:
                    message = f"map {self.spec.name!r}: nothing says what maps it holds"
                    raise self.calls.unsupported(self.pc, message, "inner-map")
                return values.pointer(Target.MAP, inner, null=null)
            case "sock":
                assert null is not None, "a lookup may fail"
                self.state.held |= {null}
                return values.pointer(Target.OBJECT, values.object(Object("sock", reference=null)), null=null)
            case "xdp_sock":
                return values.pointer(Target.OBJECT, values.object(Object("xdp_sock")), null=null)
            case _:
                found = self.key is not None and self.map < len(self.calls.program.maps)
                if found and self.key is not None and self.key < self.spec.max_entries:
                    # An array has all its values, always.
                    null = None
                return values.pointer(Target.MAP_VALUE, self.map, null=null)
