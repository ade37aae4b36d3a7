"""What programs may give back, of types that allow other results than those that there are; and what they may not refer to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pybpf import Program, UnsupportedError, VerifierError, verify
from pybpf.program import Reference, RefKind
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


@pytest.mark.parametrize(
    ("text", "reference", "feature"),
    [
        ("r0 = 5 ll", Reference(RefKind.UNSUPPORTED, "a variable of the kernel", feature="ksym"), "ksym"),
        ("r0 = 5 ll", Reference(RefKind.UNSUPPORTED, "something"), "reference"),
        ("r0 = 5", Reference(RefKind.UNSUPPORTED, "a relocation", feature="core"), "core"),
        ("r0 = 5 ll", Reference(RefKind.HELPER, "get_prandom_u32"), "reference"),
    ],
)
def test_references_that_nobody_knows_are_unsupported(text: str, reference: Reference, feature: str) -> None:
    """Also where the immediate would do."""
    program = Program.from_asm(f"{text}\nr0 = 0\nexit", "socket_filter")
    with pytest.raises(UnsupportedError) as raised:
        verify(replace(program, references={0: reference}))
    assert raised.value.feature == feature
