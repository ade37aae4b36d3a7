"""What each instruction does (RFC 9669), as a function of the run.

`make_steps` turns a program into `Step` functions, each of which runs its instruction and returns the next pc; it is the
dispatch, with one maker of steps per kind of instruction. What operators compute stands in `pybpf.semantics`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from pybpf.errors import ArgumentError
from pybpf.helpers import Body, Helper, Ret, number_of
from pybpf.instruction import Instruction
from pybpf.interpreter.execution import HALT, Environment, Execution, uninitialised
from pybpf.isa import MAX_REGISTER, Kind, Operand
from pybpf.memory import TAG_SHIFT, function_address, function_of, map_address
from pybpf.program import Program, Reference, RefKind
from pybpf.program_types import ProgramType
from pybpf.regions import NOWHERE, Fault
from pybpf.semantics import ALU, CONDITION, END, OTHER_END, U32, U64, atomic, signed

Step = Callable[[Execution], int]
"""An instruction made ready: runs it and returns the next pc. Raises `Fault`."""


def make_steps(program: Program, environment: Environment) -> dict[int, Step]:
    """The steps of a program by pc. Raises `ArgumentError` for operands that no instruction can have."""
    return {pc: _step(pc, instruction, program, environment) for pc, instruction in program.code.items()}


def _step(pc: int, instruction: Instruction, program: Program, environment: Environment) -> Step:
    for register in (instruction.dst, instruction.src):
        if not 0 <= register <= MAX_REGISTER:
            raise ArgumentError(f"pc {pc}: there is no register r{register}")
    reference = program.references.get(pc)
    if reference is not None and reference.kind is RefKind.UNSUPPORTED:
        return _refuse(f"{reference.name} is not supported")
    match instruction.op.kind:
        case Kind.ALU:
            return _alu(pc, instruction)
        case Kind.END:
            return _end(pc, instruction, program)
        case Kind.LOAD_IMM64:
            return _constant(pc, instruction, _wide_value(pc, instruction, program, environment))
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
            return _call(pc, instruction, program, environment)
        case Kind.CALL_LOCAL:
            return _call_local(pc, instruction.target(pc))
        case Kind.CALL_REGISTER:
            return _call_register(pc, instruction, environment)
        case Kind.EXIT:
            return Execution.leave
        case Kind.KERNEL:
            return _refuse(f"{instruction.op.code} means nothing outside of Linux's kernel")


def _wide_value(pc: int, instruction: Instruction, program: Program, environment: Environment) -> int | str:
    """What a wide load puts into its register; a text where it cannot be known is the reason."""
    if (function := program.function_at(pc)) is not None:
        return function_address(function)
    reference = program.references.get(pc)
    if reference is not None:
        return _address_of(reference, program, environment)
    if instruction.op.code == "imm":
        return instruction.imm
    return f"nothing says what the {instruction.op.code} of this wide load is"


def _address_of(reference: Reference, program: Program, environment: Environment) -> int | str:
    match reference.kind:
        case RefKind.MAP:
            return map_address(program.map_number(reference.name))
        case RefKind.VALUE:
            number = program.map_number(reference.name)
            operations = environment.maps[number].operations
            value = operations.lookup(bytes(operations.key_size))
            if value is None:
                return f"map {reference.name!r} has no value at key 0"
            return map_address(number) + value + reference.offset
        case _:
            return f"unsupported reference to {reference.name!r}"


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
            raise uninitialised(dst if a is None else src)
        registers[dst] = compute(a & mask, b & mask, width) & mask
        return next_pc

    return step


def _end(pc: int, instruction: Instruction, program: Program) -> Step:
    dst, width, code = instruction.dst, instruction.op.width, instruction.op.code
    if dst == MAX_REGISTER:
        return _refuse(_FRAME_POINTER_WRITE)
    swap, next_pc = END[code if program.byteorder == "little" else OTHER_END[code]], pc + 1

    def step(run: Execution) -> int:
        value = run.registers[dst]
        if value is None:
            raise uninitialised(dst)
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
            raise uninitialised(src)
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
            raise uninitialised(dst if base is None else src)
        address = (base + offset) & U64
        run.regions.get(address >> TAG_SHIFT, NOWHERE).store(address, size, value)
        return next_pc

    return step


_ATOMICS: Final = threading.Lock()
"""Makes atomic instructions atomic towards each other in all interpreters of the process."""


def _atomic(pc: int, instruction: Instruction) -> Step:
    """Like Linux, only at addresses that are aligned to the size of the access."""
    match instruction.op.code:
        case "load_acquire":
            base, access = instruction.src, _load(pc, instruction)
        case "store_release":
            base, access = instruction.dst, _store(pc, instruction)
        case _:
            base, access = instruction.dst, _modify(pc, instruction)
    offset, size = instruction.offset, instruction.op.size

    def step(run: Execution) -> int:
        address = run.registers[base]
        if address is not None and (address + offset) % size:
            where = f"{(address + offset) & U64:#x}"
            raise Fault(f"unaligned atomic access of {size} bytes at {where}", (address + offset) & U64)
        return access(run)

    return step


def _modify(pc: int, instruction: Instruction) -> Step:
    """Read, modify and write in one step; some operators leave in a register what memory held."""
    code, width, size = instruction.op.code, instruction.op.width, instruction.op.size
    dst, src, offset, next_pc = instruction.dst, instruction.src, instruction.offset, pc + 1
    compares = code == "cmpxchg"
    fetched = 0 if compares else src if code == "xchg" or code.startswith("fetch_") else None
    if fetched == MAX_REGISTER:
        return _refuse(_FRAME_POINTER_WRITE)

    def step(run: Execution) -> int:
        registers = run.registers
        base, operand, expected = registers[dst], registers[src], registers[0] if compares else 0
        if base is None or operand is None or expected is None:
            raise uninitialised(dst if base is None else src if operand is None else 0)
        address = (base + offset) & U64
        region = run.regions.get(address >> TAG_SHIFT, NOWHERE)
        with _ATOMICS:
            old = region.load(address, size)
            region.store(address, size, atomic(code, old, operand, expected, width))
        if fetched is not None:
            registers[fetched] = old
        return next_pc

    return step


def _packet_load(pc: int, instruction: Instruction) -> Step:
    """RFC 9669, section 5.5, as Linux does it: r0 in network byte order, and the end of the program out of range."""
    indirect, src, size = instruction.op.operand is Operand.REG, instruction.src, instruction.op.size

    def step(run: Execution) -> int:
        index = run.registers[src] if indirect else 0
        if index is None:
            raise uninitialised(src)
        offset = signed(index + instruction.imm, 32)
        if offset < 0 or offset + size > run.packet.size:
            run.registers[0] = 0
            return HALT
        at = run.packet.at + run.packet.head + offset
        run.registers[0] = int.from_bytes(run.packet.buffer[at : at + size], "big")
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
            raise uninitialised(dst if a is None else src)
        return target if test(a & mask, b & mask, width) else next_pc

    return step


def _call_local(pc: int, target: int) -> Step:
    def step(run: Execution) -> int:
        return run.enter(target, pc + 1)

    return step


def _call(pc: int, instruction: Instruction, program: Program, environment: Environment) -> Step:
    if instruction.op.code != "helper":
        return _refuse("calls of kernel functions are not supported")
    reference = program.references.get(pc)
    if reference is None:
        return _call_helper(pc + 1, instruction.imm, environment.type)
    number = number_of(environment.type.helpers, reference.name)
    if number is None:
        return _refuse(f"program type {environment.type.name!r} has no helper {reference.name!r}")
    return _call_helper(pc + 1, number, environment.type)


def _call_helper(next_pc: int, number: int, type_: ProgramType) -> Step:
    helper = type_.helpers.get(number)
    if helper is None:
        return _refuse(f"program type {type_.name!r} has no helper {number}")
    if helper.body is None:
        return _refuse(f"helper {helper.name!r} cannot be run")
    return _call_body(next_pc, helper, helper.body)


def _call_register(pc: int, instruction: Instruction, environment: Environment) -> Step:
    register = instruction.dst

    def step(run: Execution) -> int:
        target = run.registers[register]
        if target is None:
            raise uninitialised(register)
        function = function_of(target)
        if function is None:
            return _call_helper(pc + 1, target, environment.type)(run)
        return run.enter(function, pc + 1) if target % 8 == 0 else _no_function(target)

    return step


def _call_body(next_pc: int, helper: Helper, body: Body) -> Step:
    count = len(helper.args)
    returns_value, unwinds = helper.returns is not Ret.VOID, "unwind" in helper.effects

    def step(run: Execution) -> int:
        arguments = [0] * 5
        for number in range(count):
            argument = run.registers[1 + number]
            if argument is None:
                raise uninitialised(1 + number)
            arguments[number] = argument
        value = body(run, *arguments) & U64
        run.registers[:6] = [value if returns_value else run.unwritten] + [run.unwritten] * 5
        return HALT if unwinds and value == 0 else next_pc

    return step
