"""What each instruction requires of a state and does to it.

Every instruction of a program becomes one step, a closure over its operands, made once. A step proves its obligations
through `Prover` and `Calls` (which raise `Refusal`), records the facts and then changes the state in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from pybpf.errors import UnsupportedError
from pybpf.instruction import Instruction
from pybpf.isa import Kind, Operand
from pybpf.memory import MAX_FRAMES, MAX_PACKET, function_address
from pybpf.program import Program, RefKind
from pybpf.program_types import Entry, FieldKind, ProgramType
from pybpf.semantics import OTHER_END, U64
from pybpf.verifier.arithmetic import Arithmetic, name_of
from pybpf.verifier.calls import Calls
from pybpf.verifier.explain import Refusal
from pybpf.verifier.facts import RegionKind
from pybpf.verifier.prove import ATOMIC, BTF_POINTERS, READ, WRITE, Prover
from pybpf.verifier.recorder import Recorder
from pybpf.verifier.speculation import Masks, cut
from pybpf.verifier.state import (
    R10,
    Frame,
    State,
    entry_state,
    first_of,
    parts_of,
    read_bytes,
    slot_of,
    write_bytes,
)
from pybpf.verifier.values import (
    LENGTH,
    Atom,
    Cell,
    Number,
    Object,
    Pieces,
    Pointer,
    Target,
    Value,
    Values,
    bases_of,
    renamed,
)

Step = Callable[[State], None]

_NOT_ATOMIC = frozenset({Target.PACKET, Target.PACKET_META, Target.CONTEXT, Target.OBJECT})


class Transfer:
    """The steps of one program. `again` holds the slots that one run may execute more than once. `ahead`: the steps are those
    of a processor that runs ahead of comparisons.
    """

    def __init__(
        self,
        program: Program,
        type_: ProgramType,
        values: Values,
        recorder: Recorder,
        again: frozenset[int],
        *,
        ahead: bool = False,
    ) -> None:
        self.program = program
        self.type = type_
        self.policy = type_.policy
        self.values = values
        self.recorder = recorder
        self.again = again
        self.ahead = ahead
        # A packet that helpers may shorten keeps no least length.
        moves = any("packet" in helper.effects for helper in type_.helpers.values())
        least = 0 if moves else type_.minimum_length
        self.length = values.defined(values.numbers.unsigned(least, MAX_PACKET), LENGTH)
        self.arithmetic = Arithmetic(values, type_.policy, self.length)
        self.prover = Prover(program, type_, values)
        self.calls = Calls(program, type_, values, recorder, self.prover, self)
        self._makers: dict[Kind, Callable[[int, Instruction], Step]] = {
            Kind.ALU: self._alu,
            Kind.END: self._end,
            Kind.LOAD_IMM64: self._load_imm64,
            Kind.LOAD: self._load,
            Kind.STORE: self._store,
            Kind.ATOMIC: self._atomic,
            Kind.CALL: self.calls.step,
            Kind.JUMP: self._nothing,
            Kind.PACKET: self._packet_load,
        }
        self.masks = Masks(self.prover) if type_.policy.speculation and not ahead else None

    def entry(self) -> State:
        """The state in which the program starts."""
        state = entry_state(self.values)
        given: dict[Entry, Value] = {
            Entry.PACKET: self.values.pointer(Target.PACKET),
            Entry.LENGTH: self.length,
            Entry.CONTEXT: self.values.pointer(Target.CONTEXT),
        }
        for register, what in enumerate(self.type.entry, start=1):
            state.cells[register] = given[what]
        state.prove((), self.type.minimum_length)
        return state

    def release(self) -> None:
        """Let go of what knows this in turn: nothing can be stepped any more, and memory is free at once."""
        self._makers.clear()
        del self.calls

    def step(self, pc: int) -> Step:
        """The step of an instruction that neither branches nor leaves its function."""
        instruction = self.program.code[pc]
        reference = self.program.references.get(pc)
        if reference is not None and reference.kind is RefKind.UNSUPPORTED:
            raise UnsupportedError(
                reference.name, reference.feature or "reference", program=self.program.name, pc=pc
            )
        return self._makers[instruction.op.kind](pc, instruction)

    def check_result(self, state: State) -> None:
        """What the program gives back: a number, in the range that the type asks for."""
        value = self.read(state, 0)
        self.no_leak(value, "returned in r0")
        self.nothing_held(state, "the program ends")
        self.in_range(value)

    def in_range(self, value: Value) -> None:
        """The program may give this back."""
        if self.type.returns is None:
            return
        low, high = self.type.returns
        if isinstance(value, Pointer) or value.scalar.wide.umin < low or value.scalar.wide.umax > high:
            raise Refusal(
                "return-value",
                f"r0 at exit is {value!r}, a {self.type.name} program must return {low}..{high}",
                f"{low} <= r0 <= {high}",
                f"r0 = {value!r}",
            )

    def check_call(self, state: State, pc: int, function: int) -> None:
        """There may be one frame more, and it is none of a function that has one: of calls by name alone the graph says so already."""
        if function in self.recorder.functions:
            raise Refusal("recursion", f"call at pc {pc} to the function at pc {function} is recursive")
        if len(state.frames) + 2 > MAX_FRAMES:
            raise Refusal("call-depth", f"calls nest deeper than {MAX_FRAMES} frames")

    def enter_function(self, state: State, pc: int, function: int) -> None:
        """A call of a function of the program: the callee gets r1 to r5 and a frame of its own; the caller's waits."""
        self.check_call(state, pc, function)
        arguments = state.cells[1:6]
        state.cells[0:6] = [None] * 6
        state.frames = (*state.frames, Frame(tuple(state.cells), pc))
        frame = entry_state(self.values)
        state.cells = frame.cells
        state.cells[1:6] = arguments
        state.cells[R10] = self.values.pointer(Target.STACK, len(state.frames))

    def call_register(self, state: State, pc: int, register: int) -> int | None:
        """A call through a register, of the one helper or function that it is known to hold. The function entered, None after a helper."""
        value = self.read(state, register)
        if isinstance(value, Pointer) and value.target is Target.FUNCTION and value.variable is None:
            if value.offset == 0:
                self.enter_function(state, pc, value.number)
                self.recorder.called_through_register(pc, function_address(value.number))
                return value.number
        elif isinstance(value, Number) and value.value is not None:
            helper = self.calls.numbered(pc, value.value)
            if helper is not None:
                helper(state)
                self.recorder.called_through_register(pc, value.value)
                return None
        raise Refusal(
            "unknown-callee",
            f"call through r{register}, which is not known to hold one helper's number or one function's address",
            f"r{register} = the number of a helper of this program type, or the address of a function, on each path",
            f"r{register} = {value!r}",
        )

    def leave_function(self, state: State) -> None:
        """A function returns: the caller's frame is back, r0 is the result, and the callee's frame is gone."""
        depth = len(state.frames)
        result = state.cells[0]
        state.cells = list(state.frames[-1].cells)
        state.frames = state.frames[:-1]
        state.cells[0] = result
        for cells in (state.cells, *(frame.cells for frame in state.frames)):
            for cell in cells:
                for _, _, value in parts_of(cell):
                    if isinstance(value, Pointer) and value.target is Target.STACK and value.number == depth:
                        raise Refusal(
                            "stack-bounds", "a pointer into the function's own frame outlives the function"
                        )

    def read(self, state: State, register: int) -> Value:
        """What a register holds; it must have been written."""
        cell = state.cells[register]
        if cell is None:
            raise Refusal(
                "uninitialised-register",
                f"uninitialised register r{register}",
                f"r{register} written on every path",
            )
        assert not isinstance(cell, Pieces), "only stack slots are in pieces"
        return cell

    def define(self, state: State, pc: int) -> Atom:
        """The name of what the instruction at `pc` defines now. Where it did before, the older value gets another name."""
        atom: Atom = ("at", pc)
        if pc in self.again:
            _forget(self.values, state, atom)
        return atom

    def unknown(self, state: State, pc: int, bits: int) -> Number:
        """A number of so many bits that nobody knows more about."""
        return self.values.defined(self.values.numbers.unsigned(0, (1 << bits) - 1), self.define(state, pc))

    def operand(self, instruction: Instruction, state: State) -> Value:
        """The second operand: a register, or the immediate with its sign."""
        if instruction.op.operand is Operand.REG:
            return self.read(state, instruction.src)
        return self.values.constant(instruction.imm & U64)

    def _nothing(self, pc: int, instruction: Instruction) -> Step:
        return lambda state: None

    def _packet_load(self, pc: int, instruction: Instruction) -> Step:
        """LD_ABS and LD_IND (RFC 9669, section 5.5; Linux, check_ld_abs): r6 is the context, r0 the number.

        An access outside the packet ends the program with 0.
        """
        size, zero = instruction.op.size, self.values.constant(0)
        name = instruction.op.mnemonic.split()[0]

        def step(state: State) -> None:
            if not self.type.packet_loads:
                raise Refusal("packet-load", f"a {self.type.name} program may not use {name}")
            if state.frames and self.type.context is not None:
                # Behind the packet's end Linux ends the function alone, which then gives 0 (gen_ld_abs in net/core/filter.c).
                raise self.calls.unsupported(
                    pc, f"{name} inside a function is not supported", "packet-load-in-function"
                )
            if self.type.context is not None and not self.calls.is_context(self.read(state, 6)):
                raise Refusal(
                    "packet-load", f"r6 of {name} must be the context", known=f"r6 = {state.cells[6]!r}"
                )
            if instruction.op.operand is Operand.REG:
                self.no_leak(self.read(state, instruction.src), "used as an index")
            self.nothing_held(state, "the program may end")
            self.in_range(zero)
            result = self.unknown(state, pc, 8 * size)
            state.cells[0:6] = [result, None, None, None, None, None]
            self.recorder.result(pc, result)

        return step

    def nothing_held(self, state: State, when: str) -> None:
        """What was acquired must be given back before the program ends."""
        if state.held:
            raise Refusal(
                "reference-leak",
                f"{self.calls.acquired(state)} not given back before {when}",
                "a release on every path",
            )

    def _alu(self, pc: int, instruction: Instruction) -> Step:
        op, dst = instruction.op, instruction.dst
        code, width = op.code, op.width
        moves = code.startswith("mov")
        constant = self.values.constant(instruction.imm & U64)
        from_register = op.operand is Operand.REG
        src = instruction.src
        once = pc not in self.again
        atom: Atom = ("at", pc)
        known: dict[tuple[Value, Value], Value] = {}

        def step(state: State) -> None:
            b = self.read(state, src) if from_register else constant
            a = b if moves else self.read(state, dst)
            if not once:
                _forget(self.values, state, atom)
                b = self.read(state, src) if from_register else constant
                a = b if moves else self.read(state, dst)
            result = known.get((a, b))
            if result is None:
                x, y = cut(self.values, code, a, b, atom) if self.ahead and from_register else (a, b)
                result = known[a, b] = self.arithmetic.alu(code, width, x, y, atom)
                if self.masks is not None:
                    self.masks.check(pc, instruction, a, b, result)
                self.recorder.result(pc, result)
            state.cells[dst] = result

        return step

    def _end(self, pc: int, instruction: Instruction) -> Step:
        op, dst = instruction.op, instruction.dst
        code = op.code if self.program.byteorder == "little" else OTHER_END[op.code]

        def step(state: State) -> None:
            value = self.read(state, dst)
            if isinstance(value, Pointer):
                raise Refusal(
                    "pointer-arithmetic",
                    f"forbidden pointer arithmetic: {op.code}{op.width} of {name_of(value)}",
                )
            scalar = self.values.numbers.end(code, op.width, value.scalar)
            kept = code == "le" and value.scalar.wide.umax >> op.width == 0
            form = value.form if kept else ((self.define(state, pc),), 0)
            state.cells[dst] = result = self.values.number(scalar, form)
            self.recorder.result(pc, result)

        return step

    def _load_imm64(self, pc: int, instruction: Instruction) -> Step:
        value = self._constant(pc, instruction)

        def step(state: State) -> None:
            state.cells[instruction.dst] = value

        return step

    def _constant(self, pc: int, instruction: Instruction) -> Value:
        if (function := self.program.function_at(pc)) is not None:
            return self.values.pointer(Target.FUNCTION, function)
        reference = self.program.references.get(pc)
        if reference is None:
            if instruction.op.code == "imm":
                return self.values.constant(instruction.imm)
            raise UnsupportedError(
                f"wide load of form {instruction.op.code!r} without a reference: nothing says what it stands for",
                "unresolved-reference",
                program=self.program.name,
                pc=pc,
            )
        match reference.kind:
            case RefKind.MAP:
                return self.values.pointer(Target.MAP, self.program.map_number(reference.name))
            case RefKind.VALUE:
                number = self.program.map_number(reference.name)
                return self.values.pointer(Target.MAP_VALUE, number, reference.offset)
        raise UnsupportedError(
            f"reference to {reference.name!r} is not supported", "reference", program=self.program.name, pc=pc
        )

    def _load(self, pc: int, instruction: Instruction) -> Step:
        op, dst, src, offset = instruction.op, instruction.dst, instruction.src, instruction.offset
        sign = f"movs{8 * op.size}" if op.code == "memsx" else None

        def step(state: State) -> None:
            value = self._loaded(state, pc, src, offset, op.size, READ)
            if sign is not None:
                zero = self.values.constant(0)
                value = self.arithmetic.alu(sign, 64, zero, value, self.define(state, pc))
            state.cells[dst] = value
            self.recorder.result(pc, value)

        return step

    def _loaded(self, state: State, pc: int, register: int, offset: int, size: int, mode: str) -> Value:
        """What a load gives, once it is proved and recorded."""
        cell = self.read(state, register)
        access = self.prover.access(state, register, cell, offset, size, mode)
        self.recorder.access(pc, access)
        assert isinstance(cell, Pointer)
        if access.region is RegionKind.STACK:
            return self._from_stack(state, pc, register, cell, offset, size)
        if access.region in (RegionKind.CONTEXT, RegionKind.OBJECT):
            return self._from_field(state, pc, cell, offset, size)
        if access.region is RegionKind.MAP_VALUE and mode is READ:
            constant = self._from_constants(cell, offset, size)
            if constant is not None:
                return constant
        return self.unknown(state, pc, 8 * size)

    def _from_stack(self, state: State, pc: int, register: int, p: Pointer, offset: int, size: int) -> Value:
        if not self.prover.initialised(state, register, p, offset, size):
            self.recorder.zero_stack = True
            return self.unknown(state, pc, 8 * size)
        if p.variable is None:
            at = p.offset + offset
            slot = slot_of(at)
            cells = self.prover.frame_cells(state, p.number)
            value = read_bytes(self.values, cells[slot], at - first_of(slot), size)
            assert value is not None, "initialised"
            if isinstance(value, Pointer) and size == 8:
                return value
            self.prover.no_pointers(state, register, p, offset, size)
            if isinstance(value, Number) and value.value is None and value.form is None:
                return self.values.number(value.scalar, ((self.define(state, pc),), 0))
            return value
        self.prover.no_pointers(state, register, p, offset, size)
        return self.unknown(state, pc, 8 * size)

    def _from_field(self, state: State, pc: int, p: Pointer, offset: int, size: int) -> Value:
        field = self.prover.field(p, offset, size)
        assert field is not None, "proved to be one"
        match field.kind:
            case FieldKind.PACKET:
                return self.values.pointer(Target.PACKET)
            case FieldKind.PACKET_END:
                return self.values.pointer(Target.PACKET_END)
            case FieldKind.PACKET_META:
                return self.values.pointer(Target.PACKET_META)
            case FieldKind.SCALAR:
                return self.unknown(state, pc, 8 * size)
            case FieldKind.BTF:
                raise UnsupportedError(
                    f"field {field.name!r} holds what only the kernel's BTF describes",
                    BTF_POINTERS,
                    program=self.program.name,
                    pc=pc,
                )
            case kind:
                null = self.define(state, pc) if kind.value.endswith("?") else None
                number = self.values.object(Object(kind.value.rstrip("?")))
                return self.values.pointer(Target.OBJECT, number, null=null)

    def _from_constants(self, p: Pointer, offset: int, size: int) -> Value | None:
        """A load at a constant offset of a map's only value is a constant where nobody can change it."""
        spec = self.prover.maps[p.number]
        if not spec.read_only or spec.initial is None or spec.max_entries != 1 or p.variable is not None:
            return None
        at = p.offset + offset
        data = spec.initial[at : at + size].ljust(size, b"\0")
        return self.values.constant(int.from_bytes(data, self.program.byteorder))

    def _store(self, pc: int, instruction: Instruction) -> Step:
        op, dst, offset = instruction.op, instruction.dst, instruction.offset

        def step(state: State) -> None:
            value = self.operand(instruction, state)
            cell = self.read(state, dst)
            access = self.prover.access(state, dst, cell, offset, op.size, WRITE)
            self.recorder.access(pc, access)
            assert isinstance(cell, Pointer)
            if access.region is RegionKind.STACK:
                self.store_to_stack(state, cell, offset, op.size, value)
            else:
                self.no_leak(value, f"stored in {name_of(cell)}'s memory")

        return step

    def no_leak(self, value: Value, how: str) -> None:
        """An address must not become a number that others can read, where the policy says so."""
        if isinstance(value, Pointer) and not self.policy.pointer_leaks:
            raise Refusal("pointer-leak", f"pointer leak: {name_of(value)} {how}")

    def store_to_stack(self, state: State, p: Pointer, offset: int, size: int, value: Value) -> None:
        """Write the lower `size` bytes of a value into a frame. A variable address may be any of its slots."""
        if isinstance(value, Pointer) and size < 8:
            self.no_leak(value, "stored in part")
        if isinstance(value, Number) and size < 8 and value.scalar.wide.umax >> 8 * size:
            value = self.values.number(self.values.numbers.extract(value.scalar, 0, 8 * size), None)
        elif isinstance(value, Pointer) and size < 8:
            value = self.values.number(self.values.numbers.unsigned(0, (1 << 8 * size) - 1), None)
        if p.variable is None:
            at = p.offset + offset
            self._write_cells(state, p.number, [(at, size, value)])
            return
        self.no_leak(value, "stored at a variable offset")
        self.clobber_stack(state, p, offset, size, sure=False)

    def clobber_stack(self, state: State, p: Pointer, offset: int, size: int, *, sure: bool) -> None:
        """Any byte of the range may have become any number.

        If `sure`, each one was written; otherwise one that was not initialised may still not be, and one of an address may still be
        that: where no address may be read as a number, it is as if never written.
        """
        values = self.values
        cells = self.prover.frame_cells(state, p.number)
        writes: list[tuple[int, int, Value | None]] = []
        at, end = p.low + offset, p.high + offset + size
        while at < end:
            slot = slot_of(at)
            start = at - first_of(slot)
            here = min(8 - start, end - at)
            if sure:
                writes.append((at, here, values.bytes(here)))
            else:
                for first, length, old in parts_of(cells[slot]):
                    low, high = max(first, start), min(first + length, start + here)
                    if low < high:
                        gone = isinstance(old, Pointer) and not values.leaks
                        writes.append(
                            (first_of(slot) + low, high - low, None if gone else values.bytes(high - low))
                        )
            at += here
        self._write_cells(state, p.number, writes)

    def _write_cells(self, state: State, frame: int, writes: Sequence[tuple[int, int, Value | None]]) -> None:
        current = frame == len(state.frames)
        cells: list[Cell] = state.cells if current else list(state.frames[frame].cells)
        for at, size, value in writes:
            slot = slot_of(at)
            cells[slot] = write_bytes(self.values, cells[slot], at - first_of(slot), size, value)
        if not current:
            saved = Frame(tuple(cells), state.frames[frame].call)
            state.frames = (*state.frames[:frame], saved, *state.frames[frame + 1 :])

    def _atomic(self, pc: int, instruction: Instruction) -> Step:
        op, dst, src, offset = instruction.op, instruction.dst, instruction.src, instruction.offset

        def load_acquire(state: State) -> None:
            self._atomic_target(state, src)
            value = self._loaded(state, pc, src, offset, op.size, READ)
            state.cells[dst] = value
            self.recorder.result(pc, value)

        def store_release(state: State) -> None:
            self._atomic_target(state, dst)
            plain(state)

        def modify(state: State) -> None:
            operand = self.read(state, src)
            self.no_leak(operand, "used as an atomic operand")
            expected = self.read(state, 0) if op.code == "cmpxchg" else operand
            self.no_leak(expected, "used as an atomic operand")
            target = self.read(state, dst)
            old = self._loaded(state, pc, dst, offset, op.size, ATOMIC)
            self.no_leak(old, "overwritten by an atomic operation")
            assert isinstance(target, Pointer)
            if target.target is Target.STACK:
                self.clobber_stack(state, target, offset, op.size, sure=False)
            if op.code.startswith("fetch") or op.code in ("xchg", "cmpxchg"):
                # A stack slot may have held an address: it is what comes back.
                result = old if op.size == 8 else self.unknown(state, pc, 8 * op.size)
                state.cells[0 if op.code == "cmpxchg" else src] = result
                self.recorder.result(pc, result)

        plain = self._store(pc, instruction)
        return {"load_acquire": load_acquire, "store_release": store_release}.get(op.code, modify)

    def _atomic_target(self, state: State, register: int) -> None:
        cell = self.read(state, register)
        if isinstance(cell, Pointer) and cell.target in _NOT_ATOMIC:
            raise Refusal(
                "atomic-target", f"atomic access through r{register}, {name_of(cell)}, is not allowed"
            )


MAX_HELD: Final = 16
"""So many things one run may hold at once: a loop that acquires without end must not be followed for ever."""


def _forget(values: Values, state: State, atom: Atom) -> None:
    """An instruction is about to define its value anew: whatever still holds the older one calls it by another name."""
    if not state.mentions(atom):
        return
    used = _names(values, state)
    older: Atom = ("before", atom)
    while older in used:
        older = ("before", older)
    if len(state.held) > MAX_HELD:
        raise Refusal("reference-leak", f"more than {MAX_HELD} things are held at once")
    names = {atom: older}

    def over(cell: Value) -> Cell:
        if isinstance(cell, Number):
            if cell.form is None or atom not in cell.bases:
                return cell
            return values.number(cell.scalar, (renamed(cell.form[0], names), cell.form[1]))
        null = older if cell.null == atom else cell.null
        atoms = renamed(cell.atoms, names) if cell.atoms and atom in cell.bases else cell.atoms
        number = cell.number
        object = values.object_of(cell)
        if object is not None and object.reference == atom:
            number = values.object(object._replace(reference=older))
        return values.pointer(cell.target, number, cell.offset, cell.variable, atoms, null)

    state.rewrite(values, over)
    state.held = frozenset(older if held == atom else held for held in state.held)
    state.proofs = {renamed(atoms, names): size for atoms, size in state.proofs.items()}


def _names(values: Values, state: State) -> set[Atom]:
    """What the values, proofs and references of a state are known by."""
    found: set[Atom] = set(state.held)
    for atoms in state.proofs:
        found |= bases_of(atoms)
    for cells in (state.cells, *(frame.cells for frame in state.frames)):
        for cell in cells:
            for _, _, value in parts_of(cell):
                found |= value.bases
                if isinstance(value, Pointer):
                    found.add(value.null)
                    object = values.object_of(value)
                    if object is not None:
                        found.add(object.reference)
    return found
