"""What is dropped is never read: verdicts do not depend on liveness, and small programs have the live cells they should."""

from __future__ import annotations

import json
from typing import Any

import pytest

import pybpf.verifier.verification
from pybpf import DecodeError, Program, UnsupportedError, VerifierError, assemble, verify
from pybpf.memory import STACK_SIZE
from pybpf.program_types import FILTER, XDP, ProgramType
from pybpf.verifier.cfg import Graph, build
from pybpf.verifier.liveness import ALL_BYTES, Live, bytes_from, live_at_entry
from pybpf.verifier.state import FIRST_SLOT
from tests.conftest import SHARED
from tests.verifier.case import Case, all_cases

EVERYTHING = ALL_BYTES | (1 << FIRST_SLOT) - 1

CASES = [
    pytest.param(case, id=f"{file}-{case.name.replace(' ', '-')}")
    for file, case in all_cases()
    if case.verdict != "budget"
]


FOUND_ELSEWHERE = {"callback moves an address out of the frame"}
"""Turns of a loop that differ in dead cells alone are followed one by one, and the first that is wrong is found on its own way."""


FORGOTTEN = {
    "a number stands for an address on another path where no more than safety is asked": (
        "rejected",
        "pointer-arithmetic",
        5,
    )
}
"""What is accepted only because a number does not matter, and what is said where all do."""


def everything_lives(program: Program, graph: Graph, *_: Any) -> dict[int, Live]:
    """No cell is ever dropped, no number ever forgotten."""
    starts = {start for function in graph.functions.values() for start in function.blocks}
    return dict.fromkeys(starts, Live(EVERYTHING, EVERYTHING))


@pytest.mark.parametrize("case", CASES)
def test_verdicts_do_not_depend_on_liveness(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that was dropped and is read would make a safe program be refused; one that is kept changes nothing."""
    monkeypatch.setattr(pybpf.verifier.verification, "live_at_entry", everything_lives)
    said = case.said()
    if case.name in FORGOTTEN:
        assert said == FORGOTTEN[case.name]
        return
    assert said[0] == case.verdict
    if case.name not in FOUND_ELSEWHERE:
        assert said == (case.verdict, case.reason, case.pc)


def live(text: str, type_: ProgramType = FILTER, at: int = 0) -> tuple[set[str], set[str]]:
    """The names of the live cells at a block, and of those whose value matters."""
    program = assemble(text, type=type_)
    found = live_at_entry(program, build(program), type_.helpers)[at]
    return names(found.read), names(found.matters)


def names(cells: int) -> set[str]:
    """Registers by name, runs of stack bytes as fp offset:size."""
    found = {f"r{i}" for i in range(11) if cells >> i & 1}
    start = None
    for offset in range(-STACK_SIZE, 1):
        live = offset < 0 and cells >> (FIRST_SLOT - offset - 1) & 1
        if live and start is None:
            start = offset
        elif not live and start is not None:
            found.add(f"fp{start}:{offset - start}")
            start = None
    return found


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("r0 = 0\n exit", set()),
        ("exit", {"r0"}),
        ("r0 = r3\n exit", {"r3"}),
        ("r0 += r3\n exit", {"r0", "r3"}),
        ("r0 = *(u8 *)(r1 + 0)\n exit", {"r1"}),
        ("if r1 > r2 goto +0\n r0 = 0\n exit", {"r1", "r2"}),
        ("r0 = *(u64 *)(r10 - 8)\n exit", {"r10", "fp-8:8"}),
        ("r0 = *(u8 *)(r10 - 9)\n exit", {"r10", "fp-9:1"}),
        ("*(u64 *)(r10 - 8) = r3\n r0 = *(u64 *)(r10 - 8)\n exit", {"r10", "r3"}),
        ("*(u8 *)(r10 - 8) = r3\n r0 = *(u16 *)(r10 - 8)\n exit", {"r10", "r3", "fp-7:1"}),
        ("*(u32 *)(r10 - 8) = r3\n r0 = *(u64 *)(r10 - 8)\n exit", {"r10", "r3", "fp-4:4"}),
        ("r3 = r10\n r3 += -16\n r0 = *(u64 *)(r3 + 8)\n exit", {"r10", "fp-8:8"}),
        ("lock *(u64 *)(r10 - 8) += r3\n r0 = 0\n exit", {"r10", "r3", "fp-8:8"}),
        ("r3 = atomic_fetch_add((u64 *)(r10 - 8), r3)\n r0 = 0\n exit", {"r10", "r3", "fp-8:8"}),
        ("r0 = cmpxchg_64(r10 - 8, r0, r3)\n exit", {"r0", "r10", "r3", "fp-8:8"}),
        ("call time_get_ns\n exit", set()),
        ("r3 = r6\n call time_get_ns\n exit", {"r6"}),
        ("r0 = be16 r0\n exit", {"r0"}),
        ("r0 = -r0\n exit", {"r0"}),
        ("r1 = 5 ll\n r0 = 0\n exit", set()),
    ],
)  # fmt: skip
def test_what_is_read(text: str, read: set[str]) -> None:
    """Operands, addresses, and the slots that an access touches; what is overwritten first is not."""
    assert live(text)[0] == read


def test_a_helper_reads_its_key() -> None:
    """The bytes from the address on, as many as the largest key has."""
    text = ".map m hash key=12 value=4 entries=1\n r2 = r10\n r2 += -24\n r1 = m ll\n call map_lookup\n r0 = 0\n exit"
    assert live(text)[0] == {"r10", "fp-24:12"}


def test_an_address_at_an_unknown_place_reads_everything() -> None:
    """Where the offset is not known, any byte may be read."""
    read, _ = live("r3 = r10\n r3 -= r4\n r0 = *(u64 *)(r3 + 0)\n exit")
    assert "fp-512:512" in read


def test_an_escaped_address_reads_everything() -> None:
    """Once an address of the stack is in memory, a loaded address may be it."""
    text = "*(u64 *)(r10 - 8) = r10\n r3 = *(u64 *)(r10 - 8)\n r0 = *(u64 *)(r3 - 16)\n exit"
    assert "fp-512:504" in live(text)[0]


def test_a_callee_may_read_the_slots_whose_address_it_gets() -> None:
    """Passing an address keeps the caller's frame."""
    passed = "r1 = r10\n r1 += -8\n call f\n exit\n f: r0 = *(u64 *)(r1 + 0)\n exit"
    assert "fp-512:512" in live(passed)[0]
    number = "r1 = 5\n call f\n exit\n f: r0 = r1\n exit"
    assert not any(name.startswith("fp") for name in live(number)[0])


def test_what_only_travels_does_not_matter() -> None:
    """A number copied from one place of the packet to another: read, and its value of no consequence."""
    text = """
        r2 = *(u32 *)(r1 + 0)
        r3 = *(u32 *)(r1 + 4)
        r4 = r2
        r4 += 8
        if r4 > r3 goto out
        r5 = *(u32 *)(r2 + 0)
        if r5 == 0 goto out
        *(u32 *)(r2 + 4) = r6
        out: r0 = 2
        exit
    """
    read, matters = live("r6 = r7\n" + text, XDP)
    assert "r7" in read
    assert "r7" not in matters


@pytest.mark.parametrize(
    "use",
    [
        "r1 += r6\n r0 = *(u8 *)(r1 + 0)",
        "if r6 > 5 goto +0",
        "*(u64 *)(r10 - 8) = r6\n r7 = *(u64 *)(r10 - 8)\n r1 += r7\n r0 = *(u8 *)(r1 + 0)",
        "r7 = r6\n r7 &= 7\n r1 += r7\n r0 = *(u8 *)(r1 + 0)",
        "r1 = r10\n r2 = r6\n call hash",
    ],
)
def test_what_reaches_an_address_a_branch_or_a_size_matters(use: str) -> None:
    """Directly, through the stack or through arithmetic."""
    assert "r6" in live(f"{use}\n r0 = 0\n exit")[1]


@pytest.mark.parametrize(
    ("offset", "size", "there"),
    [
        (-8, 8, {"fp-8:8"}),
        (-8, 1, {"fp-8:1"}),
        (-9, 1, {"fp-9:1"}),
        (-12, 8, {"fp-12:8"}),
        (-512, 8, {"fp-512:8"}),
        (-520, 16, {"fp-512:8"}),
        (-8, 16, {"fp-8:8"}),
        (0, 8, set()),
        (8, 8, set()),
        (-600, 8, set()),
    ],
)
def test_bytes_of_a_range(offset: int, size: int, there: set[str]) -> None:
    """Every byte of it that is in the frame."""
    assert names(bytes_from(offset, size)) == there


LINUX = SHARED / "verifier-cases.jsonl"


@pytest.mark.slow
@pytest.mark.skipif(not LINUX.exists(), reason=f"no {LINUX.name}: the vectors are not part of pybpf")
def test_linux_verdicts_do_not_depend_on_liveness(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same over Linux's own cases for packet programs."""

    def verdict(case: Any) -> str:
        try:
            verify(Program.from_bytes(bytes.fromhex(case["insns"]), case["prog_type"]))
        except DecodeError:
            return "undecodable"
        except VerifierError as error:
            return error.reason
        except UnsupportedError as error:
            return error.feature
        return "accepted"

    chosen = [
        case
        for case in map(json.loads, LINUX.read_text().splitlines()[1:])
        if case["core"] and not case["maps"] and case["prog_type"] in ("xdp", "socket_filter")
    ]
    assert len(chosen) > 250
    with_liveness = [verdict(case) for case in chosen]
    monkeypatch.setattr(pybpf.verifier.verification, "live_at_entry", everything_lives)
    assert [verdict(case) for case in chosen] == with_liveness
