"""Rules that one instruction breaks by itself, for every row of the instruction table where that is the question."""

from __future__ import annotations

import pytest

from pybpf import DecodeError, Instruction, Policy, Program, VerifierError, verify
from pybpf.instruction import encode
from pybpf.isa import OPS, Kind, Op, Operand, op
from pybpf.verifier.explain import StructureError
from pybpf.verifier.rules import check_rules, writes
from tests.instructions import label

EXIT = Instruction(op(Kind.EXIT, "exit"))


def program(*instructions: Instruction) -> Program:
    code = {}
    pc = 0
    for instruction in instructions:
        code[pc] = instruction
        pc += instruction.slots
    return Program("rules", code, "filter")


def refusal(*instructions: Instruction, policy: Policy | None = None) -> tuple[str, int | None] | None:
    """Reason and slot of the first rule that is broken."""
    try:
        check_rules(program(*instructions), policy or Policy())
    except StructureError as error:
        return error.reason, error.pc
    return None


@pytest.mark.parametrize("row", [row for row in OPS if row.isa > 1], ids=label)
def test_newer_instructions_are_unknown_to_older_levels(row: Op) -> None:
    """Each row is refused below its level and known from it on."""
    instruction = Instruction(row, imm=row.imm if row.imm is not None else 1)
    assert refusal(EXIT, instruction, policy=Policy(isa=row.isa - 1)) == ("isa-level", 1)
    assert refusal(EXIT, instruction, policy=Policy(isa=row.isa)) is None


@pytest.mark.parametrize("row", OPS, ids=label)
def test_a_policy_can_name_the_groups_that_it_has(row: Op) -> None:
    """A row is accepted with its own group, and with the one that includes it, and with no other."""
    instruction = Instruction(row, imm=row.imm if row.imm is not None else 1)
    groups = {each.group for each in OPS}
    accepting = {
        group
        for group in groups
        if refusal(EXIT, instruction, policy=Policy(groups=("base64", group))) is None
    }
    if row.group in ("base32", "base64"):
        assert accepting == groups
    else:
        assert accepting == {row.group, row.group.replace("32", "64")}


@pytest.mark.parametrize(
    "row", [row for row in OPS if row.kind is Kind.ALU and row.operand is Operand.IMM], ids=label
)
def test_immediates_that_make_no_sense(row: Op) -> None:
    """Constant division by zero, and constant shifts as wide as the register or negative, unless the policy has them masked."""
    divides, shifts = row.code in ("div", "mod", "sdiv", "smod"), row.code in ("lsh", "rsh", "arsh")
    zero = "division-by-zero" if divides else None
    wide = "shift-amount" if shifts else None
    for imm, reason in ((0, zero), (1, None), (row.width - 1, None), (row.width, wide), (-1, wide)):
        found = refusal(Instruction(row, imm=imm))
        assert (found and found[0]) == reason, imm
    assert not shifts or refusal(Instruction(row, imm=row.width), policy=Policy(wide_shifts=True)) is None


@pytest.mark.parametrize("row", OPS, ids=label)
def test_r10_is_never_written(row: Op) -> None:
    """Whatever a row writes, it must not be r10; reading r10, or storing through it, is no fault."""
    imm = row.imm if row.imm is not None else 1
    instruction = Instruction(
        row, dst=10 if row.dst is None else row.dst, src=10 if row.src is None else row.src, imm=imm
    )
    written = writes(instruction)
    assert refusal(instruction) == (("frame-pointer", 0) if written == 10 else None)


WRITES_DST = {Kind.ALU, Kind.END, Kind.LOAD, Kind.LOAD_IMM64}


@pytest.mark.parametrize("row", OPS, ids=label)
def test_what_a_row_writes(row: Op) -> None:
    """The destination of arithmetic and loads, the source of an atomic that fetches, r0 of a compare-exchange, nothing else."""
    instruction = Instruction(row, dst=3, src=4, imm=row.imm if row.imm is not None else 1)
    if row.kind in WRITES_DST or row.code == "load_acquire":
        expected: int | None = 3
    elif row.code == "cmpxchg":
        expected = 0
    elif row.kind is Kind.ATOMIC and (row.code.startswith("fetch") or row.code == "xchg"):
        expected = 4
    else:
        expected = None
    assert writes(instruction) == expected


def test_length() -> None:
    """A program longer than the policy allows is refused before anything else; nobody in it is to blame."""
    jump = Instruction(op(Kind.JUMP, "ja"))
    assert refusal(*[jump] * 4, EXIT, policy=Policy(max_size=5)) is None
    assert refusal(*[jump] * 5, EXIT, policy=Policy(max_size=5)) == ("too-long", None)


RESERVED = {
    "exit with an immediate": "9500000001000000",
    "exit with an offset": "9500010000000000",
    "exit with a register": "9501000000000000",
    "a move of a register with an immediate": "bf21000001000000",
    "a move of an immediate with a source": "b720000001000000",
    "negation with a source": "8720000000000000",
    "an addition with an offset": "0f21010000000000",
    "a sign-extending move of 24 bits": "bf21180000000000",
    "a sign-extending move of 32 bits to 32": "bc21200000000000",
    "a byte swap of 8 bits": "d401000008000000",
    "a byte swap with an offset": "dc01010010000000",
    "a load with an immediate": "6112000001000000",
    "a store of a register with an immediate": "6321000001000000",
    "a store of an immediate with a source": "6221000001000000",
    "a jump with an immediate": "0500000001000000",
    "a jump with a register": "0501000000000000",
    "a comparison of registers with an immediate": "2d21000001000000",
    "a comparison with an immediate and a source": "2521000001000000",
    "a call with a destination": "8501000001000000",
    "a call with an offset": "8500010001000000",
    "a call of an unknown kind": "8530000001000000",
    "an atomic of an unknown kind": "db21000002000000",
    "register 11": "bf1b000000000000",
    "source register 15": "bff1000000000000",
    "an opcode that is none": "ff00000000000000",
    "half a wide load": "1801000001000000",
    "a wide load whose second half is an instruction": "180100000100000095000000010000009500000000000000",
    "a wide load of an unknown form": "1871000000000000000000000000000000000000",
}
"""Bytes that RFC 9669 does not define, followed by an exit where there is room for one."""


@pytest.mark.parametrize("bytes_", RESERVED.values(), ids=[name.replace(" ", "-") for name in RESERVED])
def test_reserved_fields(bytes_: str) -> None:
    """Reserved fields must be zero and registers exist (spec U26): such bytes are no program, so nothing can run them."""
    code = bytes.fromhex(bytes_)[: len(bytes_) // 16 * 8] + encode({0: EXIT})
    with pytest.raises(DecodeError) as refused:
        Program.from_bytes(code, "filter")
    assert refused.value.pc == 0


def test_a_program_that_could_not_be_decoded_is_refused_with_its_slot() -> None:
    """An object may hold a program with a defect: verifying it says where and why."""
    broken = Program("broken", {0: EXIT}, "filter", defect=DecodeError("opcode 0xff is unknown", 3))
    with pytest.raises(VerifierError) as refused:
        verify(broken)
    assert (refused.value.reason, refused.value.pc) == ("invalid-instruction", 3)
    assert "opcode 0xff is unknown" in str(refused.value)
