"""The named differences from Linux: each is real, and each explains what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

import pybpf
from fuzz import kernel
from fuzz.differences import DIFFERENCES, explain, without
from fuzz.kernel import Loaded, Refused
from pybpf import BpfError, Policy, Program, assemble, program_types

XDP = "r6 = r1\n r2 = *(u32 *)(r1 + 0)\n r3 = *(u32 *)(r1 + 4)\n"
OUT = "out:\n r0 = 0\n exit\n"
LOOKUP = "r2 = *(u32 *)(r1 + 12)\n *(u32 *)(r10 - 4) = r2\n r2 = r10\n r2 += -4\n r1 = m ll\n call map_lookup_elem\n"
INDEXED = f"{LOOKUP} if r0 == 0 goto out\n r1 = *(u64 *)(r0 + 0)\n"

EXAMPLES = {
    "division": f"{INDEXED} r1 %= 8\n r0 += r1\n r0 = *(u8 *)(r0 + 0)\n exit\n{OUT}",
    "shift": f"{INDEXED} r2 = r1\n r2 &= 64\n w1 &= 7\n r1 >>= r2\n r0 += r1\n r0 = *(u8 *)(r0 + 0)\n exit\n{OUT}",
    "negative-shift": (
        f"{XDP} r5 = *(u32 *)(r6 + 12)\n r5 &= 7\n r5 -= 3\n r5 <<= 2\n r2 += r5\n r9 = r2\n r9 += 14\n r0 = 0\n exit\n"
    ),
    "stack-parts": (
        f"{INDEXED} r1 &= 7\n *(u64 *)(r10 - 16) = r1\n r1 = *(u32 *)(r10 - 12)\n r0 += r1\n r0 = *(u8 *)(r0 + 0)\n exit\n{OUT}"
    ),
    "packet-length": f"{XDP} r3 -= r2\n if r3 < 14 goto out\n r0 = *(u8 *)(r2 + 13)\n exit\n{OUT}",
    "packet-comparison": f"{XDP} r4 = r2\n r4 += 14\n if r4 s> r3 goto out\n r0 = *(u8 *)(r2 + 13)\n exit\n{OUT}",
    "packet-start": (
        f"{XDP} r4 = r2\n r4 += 14\n if r4 > r3 goto out\n r5 = *(u32 *)(r6 + 0)\n r0 = *(u8 *)(r5 + 13)\n exit\n{OUT}"
    ),
    "packet-sum": (
        f"{XDP} r4 = *(u32 *)(r6 + 12)\n r4 &= 31\n r5 = r2\n r5 += r4\n r2 += r4\n r0 = r5\n r0 += 4\n"
        f" if r0 > r3 goto out\n r0 = *(u8 *)(r2 + 3)\n exit\n{OUT}"
    ),
    "packet-load": (
        f"r6 = r1\n {LOOKUP} if r0 == 0 goto out\n r7 = r0\n r0 = *(u8 *)skb[12]\n r0 >>= 5\n r7 += r0\n"
        f" r0 = *(u8 *)(r7 + 0)\n exit\n{OUT}"
    ),
    "helper-result": (
        f"{LOOKUP} if r0 == 0 goto out\n r7 = r0\n call get_prandom_u32\n r0 >>= 29\n r7 += r0\n r0 = *(u8 *)(r7 + 0)\n exit\n{OUT}"
    ),
    "same-number": f"{LOOKUP} if r0 == 0 goto out\n r1 = *(u64 *)(r0 + 0)\n r2 = r1\n if r1 == r2 goto out\n r0 = *(u8 *)(r0 + 8)\n exit\n{OUT}",
    "negative-offset": f"{INDEXED} r1 &= 3\n r0 += 4\n r0 -= r1\n r0 = *(u8 *)(r0 + 0)\n exit\n{OUT}",
    "null-register": f"{LOOKUP} r1 = 0\n if r0 == r1 goto out\n r0 = *(u8 *)(r0 + 0)\n exit\n{OUT}",
    "returned-stack": "r1 = r10\n r1 += -8\n *(u64 *)(r10 - 8) = 0\n call f\n r0 = *(u64 *)(r0 + 0)\n exit\nf:\n r0 = r1\n exit\n",
    "part-of-pointer": "*(u64 *)(r10 - 8) = r10\n r0 = *(u8 *)(r10 - 8)\n exit\n",
}
"""A program for each difference that Linux refuses for it."""


def _program(text: str) -> Program:
    maps = ".map m array key=4 value=8 entries=1\n" if "m ll" in text else ""
    name = "tc" if "skb[" in text else "xdp"
    program = assemble(f".type {name}\n.license GPL\n{maps}main:\n {text}")
    type_ = program_types.get(name)
    return replace(program, type=replace(type_, policy=Policy(uninitialised_stack=True)))


@pytest.mark.parametrize("name", EXAMPLES)
def test_knowledge_can_be_taken_away(name: str) -> None:
    """pybpf accepts the program, and refuses it without what the difference names."""
    program = _program(EXAMPLES[name])
    pybpf.verify(program)
    [difference] = [difference for difference in DIFFERENCES if difference.name == name]
    with without(difference):
        if difference.without:
            with pytest.raises(BpfError):
                pybpf.verify(program)
    pybpf.verify(program)


@pytest.mark.kernel
@pytest.mark.parametrize("name", EXAMPLES)
def test_linux_differs(name: str) -> None:
    """Linux refuses the program, and its words and the knowledge together give the name."""
    if (reason := kernel.available()) is not None:
        pytest.skip(reason)
    program = _program(EXAMPLES[name])
    with pytest.raises(Refused) as refused, Loaded(program):
        pass
    assert name in (explain(program, refused.value.line) or "").split(" + ")


def test_one_of_several_is_not_enough() -> None:
    """A program that rests on two pieces of knowledge, each of which is enough: both are named."""
    text = (
        f"{INDEXED} r2 = r1\n r2 %= 8\n r1 &= 64\n r2 >>= r1\n r0 += r2\n r0 = *(u8 *)(r0 + 0)\n exit\n{OUT}"
    )
    assert explain(_program(text), "any message") == "division"


def test_what_nothing_explains_has_no_name() -> None:
    """A refusal of Linux that pybpf without any of its knowledge does not share."""
    assert explain(_program("r0 = 0\n exit\n"), "the kernel does not like Mondays") is None


def test_every_difference_has_an_example() -> None:
    """No name without a program."""
    assert {difference.name for difference in DIFFERENCES} - EXAMPLES.keys() <= {
        "packet-offset",
        "stack-subtraction",
    }
