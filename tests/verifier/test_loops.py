"""Loops: accepted with a bound where something moves one way, refused at once where nothing does, whatever the count."""

from __future__ import annotations

from dataclasses import replace

import pytest

import pybpf
from pybpf import program_types
from pybpf.interpreter import Interpreter

ARRAY = pybpf.MapSpec("a", "array", key_size=4, value_size=1024, max_entries=1)

LOOKUP = """
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = a ll
    call map_lookup_elem
    if r0 != 0 goto found
    exit
found:
"""

ENDS = {
    "counted up to 100": "r1 = 0\n L: r1 += 1\n if r1 < 100 goto L\n r0 = 0\n exit",
    "counted up to 10,000": "r1 = 0\n L: r1 += 1\n if r1 < 10000 goto L\n r0 = 0\n exit",
    "counted up to 1,000,000": "r1 = 0\n L: r1 += 1\n if r1 < 1000000 goto L\n r0 = 0\n exit",
    "counted to an unknown 32-bit number": "r2 = *(u32 *)(r1 + 12)\n r1 = 0\n L: r1 += 1\n if r1 < r2 goto L\n r0 = 0\n exit",
    "in steps of seven": "r1 = 0\n L: r1 += 7\n if r1 < 100000 goto L\n r0 = 0\n exit",
    "counted down": "r1 = 100000\n L: r1 += -1\n if r1 != 0 goto L\n r0 = 0\n exit",
    "counted down from an unknown number": "r2 = *(u32 *)(r1 + 12)\n L: if r2 == 0 goto E\n r2 += -1\n goto L\n E: r0 = 0\n exit",
    "32-bit counter": "w1 = 0\n L: w1 += 1\n if w1 < 5000 goto L\n r0 = 0\n exit",
    "signed counter": "r1 = -1000\n L: r1 += 1\n if r1 s< 1000 goto L\n r0 = 0\n exit",
    "test at the head": "r1 = 0\n L: if r1 >= 3000 goto E\n r1 += 1\n goto L\n E: r0 = 0\n exit",
    "branchy body": """
        r3 = *(u32 *)(r1 + 12)
        r1 = 0
        r0 = 0
      L: r4 = r3
        r4 &= 1
        if r4 == 0 goto even
        r0 += 1
        goto next
      even: r0 += 2
      next: r3 >>= 1
        r1 += 1
        if r1 < 1000 goto L
        exit
    """,
    "steps of different length": """
        r3 = *(u32 *)(r1 + 12)
        r1 = 0
      L: if r3 & 1 goto odd
        r1 += 2
        goto next
      odd: r1 += 3
      next: r3 >>= 1
        if r1 < 5000 goto L
        r0 = 0
        exit
    """,
    "counter on the stack": """
        *(u64 *)(r10 - 8) = 0
      L: r1 = *(u64 *)(r10 - 8)
        r1 += 1
        *(u64 *)(r10 - 8) = r1
        if r1 < 4000 goto L
        r0 = 0
        exit
    """,
    "nested": """
        r1 = 0
      outer: r2 = 0
      inner: r2 += 1
        if r2 < 200 goto inner
        r1 += 1
        if r1 < 300 goto outer
        r0 = 0
        exit
    """,
    "nested, the inner bound depends on the outer counter": """
        r1 = 0
      outer: r2 = 0
      inner: if r2 >= r1 goto done
        r2 += 1
        goto inner
      done: r1 += 1
        if r1 < 300 goto outer
        r0 = 0
        exit
    """,
    "in a function": """
        r6 = 0
      L: r1 = r6
        call f
        r6 += 1
        if r6 < 50 goto L
        exit
      f: r0 = 0
      M: r0 += 1
        if r0 < 300 goto M
        exit
    """,
    "a second turn that the first covers": """
        r0 = *(u32 *)(r1 + 12)
      top: if r0 == 0 goto again
        exit
      again: r0 = 1
        goto top
    """,
    "over an array with a bounded index": LOOKUP
    + """
        r1 = 0
        r5 = 0
      L: r2 = r0
        r2 += r1
        r3 = *(u8 *)(r2 + 0)
        r5 += r3
        r1 += 1
        if r1 < 1024 goto L
        r0 = r5
        exit
    """,
    "over an array with a masked index": LOOKUP
    + """
        r1 = 0
        r5 = 0
      L: r4 = r1
        r4 &= 1023
        r2 = r0
        r2 += r4
        r3 = *(u8 *)(r2 + 0)
        r5 += r3
        r1 += 1
        if r1 < 100000 goto L
        r0 = r5
        exit
    """,
    "over the packet": """
        r2 = *(u32 *)(r1 + 4)
        r1 = *(u32 *)(r1 + 0)
        r5 = 0
        r0 = 0
      L: r3 = r1
        r3 += r5
        r4 = r3
        r4 += 1
        if r4 > r2 goto E
        r4 = *(u8 *)(r3 + 0)
        r0 += r4
        r5 += 1
        if r5 < 1500 goto L
      E: exit
    """,
}

REFUSED = {
    "no progress": ("infinite-loop", "r0 = *(u32 *)(r1 + 12)\n L: if r0 != 1 goto L\n exit"),
    "progress on one path only": (
        "infinite-loop",
        """
        r3 = *(u32 *)(r1 + 12)
        r1 = 0
      L: if r3 & 1 goto next
        r1 += 1
      next: r3 = r3
        if r1 < 100 goto L
        r0 = 0
        exit
    """,
    ),
    "what grows is defined anew on another path": (
        "infinite-loop",
        """
        r6 = r1
        r8 = 0
        r2 = 0
      top: if r2 == 500 goto out
        r2 = *(u32 *)(r6 + 16)
        if r8 == 0 goto first
        if r2 > 100 goto out
        r2 += 1
        goto top
      first: r8 = 1
        goto top
      out: r0 = 0
        exit
    """,
    ),
    "a cursor that nothing but the end of the packet stops": (
        "unbounded-offset",
        """
        r7 = *(u32 *)(r1 + 4)
        r9 = *(u32 *)(r1 + 0)
        r8 = 0
      top: r0 = r9
        r0 += 1
        if r0 > r7 goto out
        r3 = *(u8 *)(r9 + 0)
        r8 >>= 58
        r9 += r8
        r9 += 1
        r8 += 1
        if r8 < 2 goto top
      out: r0 = r8
        exit
    """,
    ),
    "forth and back": ("infinite-loop", "r1 = 5\n L: r1 += 1\n r1 += -1\n if r1 != 0 goto L\n r0 = 0\n exit"),
    "the inner loop makes no progress": (
        "infinite-loop",
        """
        r3 = *(u32 *)(r1 + 12)
        r1 = 0
      outer: if r3 == 7 goto outer2
      outer2: r3 = r3
      inner: if r3 == 9 goto inner
        r1 += 1
        if r1 < 300 goto outer
        r0 = 0
        exit
    """,
    ),
    "nothing but overflow ends it": ("instruction-limit", "r0 = 0\n L: r0 += 1\n if r0 != 0 goto L\n exit"),
    "one element too far": (
        "map-value-bounds",
        LOOKUP
        + """
        r1 = 0
      L: r2 = r0
        r2 += r1
        r3 = *(u8 *)(r2 + 0)
        r1 += 1
        if r1 <= 1024 goto L
        r0 = 0
        exit
    """,
    ),
}


def _verify(text: str, policy: pybpf.Policy | None = None) -> pybpf.VerifiedProgram:
    program = pybpf.Program.from_asm(text, type="xdp", maps={"a": ARRAY})
    return pybpf.verify(program, policy=policy)


@pytest.mark.slow
@pytest.mark.parametrize("name", ENDS)
def test_a_loop_that_ends_is_accepted_with_a_bound(name: str) -> None:
    """Accepted after few instructions; no run executes more than the bound (the long ones are not run)."""
    verified = _verify(ENDS[name])
    bound = verified.facts.max_instructions
    assert bound is not None
    assert verified.facts.explored < 20_000
    if bound <= 40_000:
        for ingress in (0, 1, 2, 0xFFFF_FFFF):
            from pybpf.maps import create

            machine = Interpreter(verified.program, "xdp", [create(s) for s in verified.program.maps])
            context = bytearray(24)
            context[12:16] = ingress.to_bytes(4, "little")
            assert machine.run(bytes(range(64)), bytes(context)).executed <= bound


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_a_loop_without_an_end_is_refused(name: str) -> None:
    """Refused for its reason, soon."""
    reason, text = REFUSED[name]
    with pytest.raises(pybpf.VerifierError) as caught:
        _verify(text)
    assert caught.value.reason == reason
    assert caught.value.explored < 100_000


def test_a_bound_above_the_policy_is_refused() -> None:
    """The policy says how long a run may be."""
    policy = replace(program_types.XDP.policy, max_instructions=100)
    with pytest.raises(pybpf.VerifierError) as caught:
        _verify(ENDS["counted up to 100"], policy)
    assert caught.value.reason == "instruction-limit"


@pytest.mark.slow
@pytest.mark.parametrize("count", [20, 100, 1000])
def test_branches_that_meet_again_cost_linear_time(count: int) -> None:
    """Independent two-way branches: 2**n paths, and work that grows with n."""
    lines = ["r7 = *(u32 *)(r1 + 12)", "r0 = 0"]
    for i in range(count):
        lines += [f"if r7 & {1 << i % 31} goto L{i}", f"r0 += {i}", f"L{i}:"]
    verified = _verify("\n".join([*lines, "exit"]))
    assert verified.facts.explored < 30 * count
