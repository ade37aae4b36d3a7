"""A verification that takes too much ends, and says of what and where; it is neither an acceptance nor a refusal."""

from __future__ import annotations

import pytest

from pybpf import BudgetExceeded, Policy, assemble, check, verify
from pybpf.verifier import explore, walk

LONG_BLOCK = "\n".join(["r0 = 0", *(f"r0 += {i}" for i in range(1, 2 * walk.LONG)), "exit"])
BRANCHES = "\n".join(
    [
        "r6 = *(u32 *)(r1 + 12)",
        "r0 = 0",
        *(f"if r6 & {1 << i} goto l{i}\nr0 += {3**i}\nl{i}:" for i in range(10)),
        "exit",
    ]
)


@pytest.mark.parametrize(
    ("text", "policy", "words"),
    [
        (BRANCHES, Policy(max_explored=150), "instructions: most states"),
        (BRANCHES, Policy(max_states=100), "112 states: most states"),
        (BRANCHES, Policy(max_memory=400_000), "MB of states: most states"),
        pytest.param(
            LONG_BLOCK,
            Policy(max_memory=walk.LONG * explore.VALUE_BYTES),
            "MB of states: most states, 1, are at pc 0",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_each_budget_is_named(text: str, policy: Policy, words: str) -> None:
    """Inside a block, too, where one is long."""
    program = assemble(text, name="wide")
    verify(program, "xdp")
    with pytest.raises(BudgetExceeded) as caught:
        verify(program, "xdp", policy=policy)
    assert words in str(caught.value)
    assert caught.value.program == "wide"
    assert caught.value.pc is not None


def test_the_number_is_in_the_unit_of_the_budget() -> None:
    with pytest.raises(BudgetExceeded) as caught:
        verify(assemble(BRANCHES), "xdp", policy=Policy(max_states=100))
    assert caught.value.used == 112


def test_a_check_has_the_budget_of_a_verification() -> None:
    """A certificate may have any number of points; one that a verification makes has no more than it looked at."""
    program = assemble(BRANCHES, name="wide")
    verified = verify(program, "xdp", certificate=True)
    assert verified.certificate is not None
    looked_at = check(program, verified.certificate, "xdp").facts.explored
    check(program, verified.certificate, "xdp", policy=Policy(max_explored=looked_at))
    with pytest.raises(BudgetExceeded, match="points for more") as caught:
        check(program, verified.certificate, "xdp", policy=Policy(max_explored=looked_at - 1))
    assert caught.value.used == looked_at
