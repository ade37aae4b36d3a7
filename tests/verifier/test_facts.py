"""What was proved, as plain data: how maps are used, what may be null, dead branches, the longest run, the stack."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from pybpf import BudgetExceeded, instantiate, load, verify
from pybpf.cli import facts as printed
from pybpf.program import Program
from pybpf.verifier.facts import Facts, RegionKind

OBJECTS = sorted((Path(__file__).parents[2] / "examples/objects/v3").glob("*.o"))

LOOKUP = """
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = values ll
    call map_lookup_elem
"""


def facts(text: str, type: str = "xdp") -> Facts:
    return verify(Program.from_asm(f".type {type}\n{text}")).facts


@pytest.mark.parametrize(
    ("then", "uses"),
    [
        ("", {"lookup"}),
        ("r1 = *(u64 *)(r0 + 0)", {"lookup", "read"}),
        ("*(u64 *)(r0 + 0) = 7", {"lookup", "write"}),
        ("r1 = 1\nlock *(u64 *)(r0 + 0) += r1", {"lookup", "read", "write"}),
        ("r1 = load_acquire((u64 *)(r0 + 0))", {"lookup", "read"}),
        ("r1 = 1\nstore_release((u64 *)(r0 + 0), r1)", {"lookup", "write"}),
        ("r1 = r0\nr2 = 8\ncall trace_printk", {"lookup", "read"}),
        ("r1 = values ll\nr2 = r0\nr3 = r0\nr4 = 0\ncall map_update_elem", {"lookup", "update", "read"}),
        ("r1 = values ll\nr2 = r0\ncall map_delete_elem", {"lookup", "delete", "read"}),
    ],
)
def test_uses_of_a_map(then: str, uses: set[str]) -> None:
    """Instructions and arguments of helpers read and write values; helpers do to the map what their names say."""
    text = (
        f".map values hash key=4 value=8 entries=4\n{LOOKUP}\nif r0 == 0 goto out\n{then}\nout:\nr0 = 2\nexit"
    )
    assert facts(text).uses == {0: uses}


def test_uses_of_each_of_two_maps() -> None:
    """A call that may get either map uses both; a map that is named and not used is not there."""
    text = """
        .map values array key=4 value=8 entries=4
        .map others array key=4 value=8 entries=4
        .map unused array key=4 value=8 entries=4
          r3 = *(u32 *)(r1 + 12)
          *(u32 *)(r10 - 4) = 9
          r2 = r10
          r2 += -4
          r4 = unused ll
          r1 = values ll
          if r3 == 0 goto look
          r1 = others ll
        look:
          call map_lookup_elem
          if r0 == 0 goto out
          *(u64 *)(r0 + 0) = 1
        out:
          r0 = 2
          exit
    """
    verified = verify(Program.from_asm(f".type xdp\n{text}"))
    uses = {verified.program.maps[number].name: how for number, how in verified.facts.uses.items()}
    assert uses == {"values": {"lookup", "write"}, "others": {"lookup", "write"}}
    assert verified.facts.maps == {}


@pytest.mark.parametrize(
    ("map_", "null"), [("hash key=4 value=8 entries=4", True), ("array key=4 value=8 entries=1", False)]
)
def test_null(map_: str, null: bool) -> None:
    """A lookup may find nothing, but for that of a constant key in an array; the test of what is never null is dead."""
    found = facts(
        f".map values {map_}\n{LOOKUP}\nif r0 == 0 goto out\nr1 = *(u64 *)(r0 + 0)\nout:\nr0 = 2\nexit"
    )
    assert found.null == {5: null}
    assert found.branches == ({} if null else {6: False})


def test_null_on_one_path_of_two() -> None:
    """What may be null in one state may be null."""
    text = f"""
        .map values array key=4 value=8 entries=1
          r6 = *(u32 *)(r1 + 12)
          r7 = 0
          if r6 == 0 goto look
          r7 = 1
        look:
          *(u32 *)(r10 - 4) = r7
          {LOOKUP.replace("*(u32 *)(r10 - 4) = 0", "")}
          if r0 == 0 goto out
          r1 = *(u64 *)(r0 + 0)
        out:
          r0 = 2
          exit
    """
    assert facts(text).null == {9: True}


def test_dead_branches_and_what_is_never_reached() -> None:
    found = facts("r0 = 2\nr1 = 7\nif r1 > 6 goto out\nr0 = 1\nout:\nexit")
    assert found.branches == {2: True}
    assert found.reached == {0, 1, 2, 4}


LONGEST = {
    "a line": ("r0 = 2\nexit", 2),
    "the longer side": (
        "r0 = *(u32 *)(r1 + 12)\nif r0 == 0 goto out\nr0 += 1\nr0 += 1\nout:\nr0 = 2\nexit",
        6,
    ),
    "the shorter side alone": ("r0 = 2\nif r0 == 2 goto out\nr0 += 1\nr0 += 1\nout:\nexit", 3),
    "two sides that exclude each other": (
        "r6 = *(u32 *)(r1 + 12)\nr0 = 2\nif r6 == 0 goto a\nr7 = 1\nr7 = 1\nr7 = 1\na:\nif r6 != 0 goto b\nr7 = 1\nb:\nexit",
        8,
    ),
    "a function called twice": ("call f\ncall f\nexit\nf:\nr0 = 2\nexit", 7),
    "a wide load": ("r0 = 0x100000000 ll\nr0 = 2\nexit", 3),
}


@pytest.mark.parametrize("name", LONGEST)
def test_the_longest_run_of_code_without_loops_is_exact(name: str) -> None:
    """Some run takes so many instructions: one instruction fewer is too few for it, and the bound is enough for all."""
    text, longest = LONGEST[name]
    verified = verify(Program.from_asm(f".type memory\n{text.replace('*(u32 *)(r1 + 12)', 'r2')}"))
    assert verified.facts.max_instructions == longest
    inputs = (b"", bytes(20))

    def steps(packet: bytes) -> int:
        for budget in range(1, longest + 1):
            with suppress(BudgetExceeded):
                instantiate(verified, engine="interpreter", budget=budget).run(packet)
                return budget
        raise AssertionError("the bound is not enough")

    assert max(map(steps, inputs)) == longest


def test_stack_depth() -> None:
    """The frames of the deepest chain of calls, each in steps of 16 bytes."""
    text = """
          *(u64 *)(r10 - 40) = 1
          call f
          r0 = 2
          exit
        f:
          *(u8 *)(r10 - 17) = 1
          r0 = 0
          exit
    """
    assert facts(text).stack_size == 48 + 32


@pytest.mark.parametrize(
    ("text", "pc", "region"),
    [
        (
            """
            r2 = *(u32 *)(r1 + 8)
            r3 = *(u32 *)(r1 + 0)
            r4 = r2
            r4 += 4
            if r4 > r3 goto out
            r0 = *(u32 *)(r2 + 0)
            """,
            5,
            RegionKind.PACKET_META,
        ),
        (
            """
            r2 = *(u32 *)(r1 + 0)
            r3 = *(u32 *)(r1 + 4)
            r4 = r2
            r4 += 4
            if r4 > r3 goto out
            r0 = *(u32 *)(r2 + 0)
            """,
            5,
            RegionKind.PACKET,
        ),
        ("r0 = *(u32 *)(r1 + 12)", 0, RegionKind.CONTEXT),
        (
            """
            .map sockets xskmap key=4 value=4 entries=1
            *(u32 *)(r10 - 4) = 0
            r2 = r10
            r2 += -4
            r1 = sockets ll
            call map_lookup_elem
            if r0 == 0 goto out
            r0 = *(u32 *)(r0 + 0)
            """,
            7,
            RegionKind.OBJECT,
        ),
        (
            """
            .map events ringbuf key=0 value=0 entries=4096
            r1 = events ll
            r2 = 16
            r3 = 0
            call ringbuf_reserve
            if r0 == 0 goto out
            *(u64 *)(r0 + 8) = 0
            r1 = r0
            r2 = 0
            call ringbuf_submit
            """,
            6,
            RegionKind.RECORD,
        ),
    ],
    ids=lambda value: value.value if isinstance(value, RegionKind) else "",
)
def test_regions(text: str, pc: int, region: RegionKind) -> None:
    """Engines learn which memory an access is in."""
    (access,) = facts(f"{text}\nout:\nr0 = 2\nexit").accesses[pc]
    assert access.region is region


@pytest.mark.parametrize(
    ("text", "zero"),
    [
        ("r1 = *(u64 *)(r10 - 8)", True),
        ("*(u32 *)(r10 - 8) = 0\nr1 = *(u64 *)(r10 - 8)", True),
        ("*(u64 *)(r10 - 8) = 0\nr1 = *(u64 *)(r10 - 8)", False),
        ("r1 = r10\nr1 += -8\nr2 = 8\nr3 = 0\nr4 = 0\nr5 = 0\ncall csum_diff", True),
        (
            "*(u64 *)(r10 - 8) = 0\nr1 = r10\nr1 += -8\nr2 = 8\nr3 = 0\nr4 = 0\nr5 = 0\ncall csum_diff",
            False,
        ),
    ],
)
def test_stack_that_must_be_zero(text: str, zero: bool) -> None:
    """Where bytes may be read before they are written, by an instruction or a helper, engines clear the stack."""
    assert facts(f"{text}\nr0 = 2\nexit").zero_stack is zero


@pytest.mark.parametrize(
    ("text", "pc", "most"),
    [
        ("r0 = *(u16 *)(r1 + 16)\nr0 &= 255", 1, 0xFF),
        ("r0 = *(u32 *)(r1 + 16)\nr0 = be16 r0", 1, 0xFFFF),
        ("r0 = *(u32 *)(r1 + 16)", 0, 0xFFFF_FFFF),
        ("r6 = r1\nr0 = *(u8 *)skb[12]", 1, 0xFF),
        ("*(u64 *)(r10 - 8) = 7\nr2 = 1\nw2 = xchg32_32(r10 - 8, w2)", 2, 0xFFFF_FFFF),
        ("*(u64 *)(r10 - 8) = 7\nr2 = load_acquire((u32 *)(r10 - 8))", 1, 0xFFFF_FFFF),
    ],
)
def test_ranges_of_what_is_written(text: str, pc: int, most: int) -> None:
    """Of each instruction that writes a number it is known which it may be."""
    found = facts(f"{text}\nr0 = 0\nexit", "tc")
    low, high = found.ranges.get(pc) or (found.constants[pc],) * 2
    assert 0 <= low <= high <= most


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.stem)
def test_the_same_again(path: Path) -> None:
    """Facts do not depend on the run of the verifier; they are plain data, and print as lines and as JSON."""
    for name, program in load(path).programs.items():
        first, second = verify(program), verify(load(path).programs[name])
        assert first.facts == second.facts
        assert all(_plain(getattr(first.facts, field.name)) for field in fields(Facts))
        assert list(printed.lines(first)) == list(printed.lines(second))
        assert json.loads(json.dumps(printed.data(first))) == printed.data(second)
        assert asdict(first.facts) == asdict(second.facts)


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, int) and _plain(item) for key, item in value.items())
    if isinstance(value, tuple | frozenset):
        return all(map(_plain, value))
    return value is None or isinstance(value, int | str) or type(value).__name__ == "Access"
