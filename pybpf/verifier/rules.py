"""Rules that one instruction breaks or keeps by itself, whatever the state: what the decoder cannot know and needs no proof."""

from __future__ import annotations

from pybpf import map_types
from pybpf.errors import UnsupportedError
from pybpf.instruction import Instruction
from pybpf.isa import INCLUDED, Kind, Operand
from pybpf.program import MapSpec, Program, RefKind
from pybpf.program_types import Policy
from pybpf.verifier.explain import StructureError


def check_rules(program: Program, policy: Policy) -> None:
    """Check every instruction. Raises `StructureError` for the first that breaks a rule."""
    if program.size > policy.max_size:
        message = f"the program has {program.size} slots, more than {policy.max_size}"
        raise StructureError("too-long", message, None)
    for pc, instruction in program.code.items():
        _check(pc, instruction, policy, program.function_at(pc) is not None)
    for pc, reference in program.references.items():
        if reference.kind is RefKind.VALUE:
            _check_value(pc, program.maps[program.map_number(reference.name)], reference.offset, program)


def _check_value(pc: int, spec: MapSpec, offset: int, program: Program) -> None:
    """A wide load may hold an address in the only value of a map, which is there at any time (Linux, resolve_pseudo_ldimm64)."""
    type_ = map_types.TYPES.get(spec.type)
    if type_ is not None and type_.addressable and spec.type != "array":
        message = f"addresses in map {spec.name!r} of type {spec.type} are not supported"
        raise UnsupportedError(message, "map-type", program=program.name, pc=pc)
    if spec.type != "array" or spec.max_entries != 1:
        message = f"address of the value of map {spec.name!r}, which is no array of one value"
        raise StructureError("map-type", message, pc)
    if not 0 <= offset < spec.value_size:
        message = (
            f"address of byte {offset} of the value of map {spec.name!r}, which has {spec.value_size} bytes"
        )
        raise StructureError("map-value-bounds", message, pc)


def _check(pc: int, instruction: Instruction, policy: Policy, refers_to_function: bool) -> None:
    op = instruction.op
    if op.isa > policy.isa:
        message = f"unknown opcode 0x{op.opcode:02x} under ISA v{policy.isa}: it is new in v{op.isa}"
        raise StructureError("isa-level", message, pc)
    groups = policy.groups
    if groups is not None and op.group not in groups and INCLUDED.get(op.group) not in groups:
        message = f"unknown opcode 0x{op.opcode:02x}: group {op.group} is not among the policy's ({', '.join(groups)})"
        raise StructureError("conformance-group", message, pc)
    if op.kind is Kind.CALL_REGISTER and (policy.linux_limits or policy.speculation):
        message = f"unknown opcode 0x{op.opcode:02x}: Linux has no calls through registers"
        raise StructureError("conformance-group", message, pc)
    if writes(instruction) == 10:
        raise StructureError("frame-pointer", "r10 is read only", pc)
    if not policy.functions and (op.kind is Kind.CALL_LOCAL or refers_to_function):
        raise StructureError(
            "function-call", "this policy forbids calls of functions that are no helpers", pc
        )
    if op.kind is Kind.ALU and op.operand is Operand.IMM:
        if (
            op.code in ("lsh", "rsh", "arsh")
            and not policy.wide_shifts
            and not 0 <= instruction.imm < op.width
        ):
            raise StructureError("shift-amount", f"invalid shift by {instruction.imm} of {op.width} bits", pc)
        if op.code in ("div", "mod", "sdiv", "smod") and instruction.imm == 0:
            raise StructureError("division-by-zero", "division by zero", pc)


def writes(instruction: Instruction) -> int | None:
    """The register, but for r0 to r5 of a call, that an instruction writes."""
    op = instruction.op
    match op.kind:
        case Kind.ALU | Kind.END | Kind.LOAD | Kind.LOAD_IMM64:
            return instruction.dst
        case Kind.ATOMIC if op.code == "load_acquire":
            return instruction.dst
        case Kind.ATOMIC if op.code.startswith("fetch") or op.code == "xchg":
            return instruction.src
        case Kind.ATOMIC if op.code == "cmpxchg":
            return 0
    return None
