"""What was proved about a program, as lines for people and as plain data for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pybpf.verifier.facts import Access, VerifiedProgram


def lines(verified: VerifiedProgram) -> Iterator[str]:
    """The facts of the whole program, then those of its instructions, for every one that has some."""
    from pybpf.asm import format_instruction

    facts, program = verified.facts, verified.program
    if facts.max_instructions is not None:
        yield f"at most {facts.max_instructions} instructions a run"
    yield f"{facts.stack_size} bytes of stack" + (
        ", which are read before they are written" if facts.zero_stack else ""
    )
    if facts.helpers:
        yield "helpers: " + ", ".join(_helpers(verified))
    for number, how in facts.uses.items():
        yield f"map {_map(verified, number)}: {', '.join(sorted(how))}"
    for pc, instruction in program.code.items():
        said = "; ".join(_of_instruction(verified, pc))
        if said:
            yield f"pc {pc:<5}{format_instruction(instruction, pc, program):<40} {said}"


def _of_instruction(verified: VerifiedProgram, pc: int) -> Iterator[str]:
    facts = verified.facts
    if pc not in facts.reached:
        yield "never reached"
    yield from (_access(verified, access) for access in facts.accesses.get(pc, ()))
    for register, accesses in facts.arguments.get(pc, {}).items():
        yield f"r{register}: " + " or ".join(_access(verified, access) for access in accesses)
    if pc in facts.null:
        yield "r0 may be null" if facts.null[pc] else "r0 is never null"
    if pc in facts.branches:
        yield "always taken" if facts.branches[pc] else "never taken"
    if pc in facts.constants:
        yield f"= {facts.constants[pc]:#x}"
    if pc in facts.ranges:
        low, high = facts.ranges[pc]
        yield f"{low:#x}..{high:#x}"


def _access(verified: VerifiedProgram, access: Access) -> str:
    where = f"{access.low:+d}" if access.low == access.high else f"{access.low:+d}..{access.high:+d}"
    region = access.region.value
    if access.map is not None:
        region = f"value of {_map(verified, access.map)}"
    elif access.frame:
        region = f"stack of frame {access.frame}"
    return f"{access.size} bytes of {region} at {where}"


def _map(verified: VerifiedProgram, number: int) -> str:
    """A map by its name. Maps that others hold are counted behind the program's own."""
    own = verified.program.maps
    if number < len(own):
        return own[number].name
    holders = [spec.name for spec in own if spec.inner is not None]
    return f"in {holders[number - len(own)]}"


def _helpers(verified: VerifiedProgram) -> list[str]:
    return [verified.type.helpers[number].name for number in sorted(verified.facts.helpers)]


def data(verified: VerifiedProgram) -> dict[str, Any]:
    """The facts as JSON has them: pcs are texts, ranges pairs, maps and helpers names."""
    facts = verified.facts
    return {
        "max_instructions": facts.max_instructions,
        "stack_size": facts.stack_size,
        "zero_stack": facts.zero_stack,
        "helpers": _helpers(verified),
        "maps": {_map(verified, number): sorted(how) for number, how in facts.uses.items()},
        "reached": sorted(facts.reached),
        "accesses": {
            str(pc): [_access_data(verified, access) for access in accesses]
            for pc, accesses in facts.accesses.items()
        },
        "arguments": {
            str(pc): {
                f"r{register}": [_access_data(verified, access) for access in accesses]
                for register, accesses in by_register.items()
            }
            for pc, by_register in facts.arguments.items()
        },
        "null": {str(pc): null for pc, null in facts.null.items()},
        "branches": {str(pc): taken for pc, taken in facts.branches.items()},
        "ranges": {str(pc): list(range_) for pc, range_ in facts.ranges.items()},
        "constants": {str(pc): value for pc, value in facts.constants.items()},
    }


def _access_data(verified: VerifiedProgram, access: Access) -> dict[str, Any]:
    return {
        "region": access.region.value,
        "low": access.low,
        "high": access.high,
        "size": access.size,
        "map": _map(verified, access.map) if access.map is not None else None,
        "frame": access.frame,
    }
