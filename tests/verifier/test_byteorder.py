"""Programs of big-endian machines: what they load is what such a machine loads."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pybpf import (
    MapSpec,
    Program,
    VerifierError,
    assemble,
    disassemble,
    instantiate,
    verify,
)

LOADS = {
    "part of a stored word": ("*(u32 *)(r10 - 8) = 0x01020304\n r0 = *(u8 *)(r10 - 8)", 1, 4),
    "last part of a stored word": ("*(u32 *)(r10 - 8) = 0x01020304\n r0 = *(u16 *)(r10 - 6)", 0x0304, 0x0102),
    "of a register": (
        "r1 = 0x0102030405060708 ll\n *(u64 *)(r10 - 8) = r1\n r0 = *(u32 *)(r10 - 8)",
        0x01020304,
        0x05060708,
    ),
    "of two stores": (
        "*(u16 *)(r10 - 8) = 1\n *(u16 *)(r10 - 6) = 2\n r0 = *(u32 *)(r10 - 8)",
        0x10002,
        0x20001,
    ),
    "of a store in another": (
        "*(u64 *)(r10 - 8) = 0\n *(u8 *)(r10 - 1) = 9\n r0 = *(u64 *)(r10 - 8)",
        9,
        9 << 56,
    ),
    "be": ("r0 = 0x1234\n r0 = be16 r0", 0x1234, 0x3412),
    "le": ("r0 = 0x1234\n r0 = le16 r0", 0x3412, 0x1234),
    "bswap": ("r0 = 0x1234\n r0 = bswap16 r0", 0x3412, 0x3412),
    "constant data": ("r1 = .rodata + 0 ll\n r0 = *(u16 *)(r1 + 0)", 0x0102, 0x0201),
}


def program(text: str, expected: int, byteorder: str) -> Program:
    """Rejected unless r0 is proved to be what is expected: any other value is used as an address."""
    rest = f"r1 = {expected:#x} ll\n if r0 != r1 goto bad\n r0 = 0\n exit\nbad:\n r0 = *(u8 *)(r0 + 0)\n exit"
    maps = {".rodata": MapSpec(".rodata", "array", 4, 2, 1, initial=b"\1\2", read_only=True)}
    return Program.from_asm(f".byteorder {byteorder}\n {text}\n {rest}", type="filter", maps=maps)


@pytest.mark.parametrize("case", LOADS)
def test_loads(case: str) -> None:
    """Each order proves its own number, and not the other's."""
    text, big, little = LOADS[case]
    verify(program(text, big, "big"))
    verify(program(text, little, "little"))
    if big != little:
        with pytest.raises(VerifierError):
            verify(program(text, little, "big"))
        with pytest.raises(VerifierError):
            verify(program(text, big, "little"))


@pytest.mark.parametrize("engine", ["interpreter", "jit"])
@pytest.mark.parametrize("case", LOADS)
def test_engines_load_what_was_proved(case: str, engine: str) -> None:
    text, big, little = LOADS[case]
    for order, expected in (("big", big), ("little", little)):
        found = program(f"{text}\n exit", expected, order)
        kept = {pc: each for pc, each in found.code.items() if pc <= max(_exits(found)[:1])}
        value = instantiate(verify(replace(found, code=kept)), engine=engine).run(b"").value  # type: ignore[arg-type]
        assert value == expected


def _exits(program: Program) -> list[int]:
    return [pc for pc, instruction in program.code.items() if instruction.op.code == "exit"]


def test_text_keeps_the_order() -> None:
    """A directive, and the bytes beside the instructions."""
    text = program(*LOADS["be"][:2], "big")
    assert assemble(disassemble(text), name=text.name).byteorder == "big"
    assert "b7 00 00 00 00 00 12 34" in disassemble(text, encoding=True)
    assert "b7 00 00 00 34 12 00 00" in disassemble(replace(text, byteorder="little"), encoding=True)
