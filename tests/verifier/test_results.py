"""What a program may give back, of types that allow other results than those that there are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pybpf import Program, VerifierError, verify
from pybpf.program_types import get

UNKNOWN = "r0 = *(u32 *)(r1 + 0)\nr0 &= {mask}\nr0 += {least}\nexit"


def said(text: str, returns: tuple[int, int], type: str = "socket_filter") -> str:
    """The reason of the refusal, if a program may only return numbers in this range."""
    try:
        verify(Program.from_asm(text), replace(get(type), returns=returns))
    except VerifierError as error:
        return error.reason
    return "accepted"


@pytest.mark.parametrize(
    ("least", "mask", "returns", "expected"),
    [
        (1, 3, (1, 4), "accepted"),
        (1, 3, (2, 4), "return-value"),
        (1, 3, (1, 3), "return-value"),
        (0, 3, (1, 4), "return-value"),
        (1, 0, (1, 1), "accepted"),
        (0, 0, (1, 1), "return-value"),
    ],
)
def test_results_are_in_the_range_of_the_type(
    least: int, mask: int, returns: tuple[int, int], expected: str
) -> None:
    """From the least on to the greatest."""
    assert said(UNKNOWN.format(mask=mask, least=least), returns) == expected


def test_a_packet_load_may_end_the_program_with_zero() -> None:
    """Where the type does not allow that result, there are no such loads."""
    text = "r6 = r1\nr0 = *(u8 *)skb[12]\nr0 = 1\nexit"
    assert said(text, (0, 1)) == "accepted"
    assert said(text, (1, 1)) == "return-value"
