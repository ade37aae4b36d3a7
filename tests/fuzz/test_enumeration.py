"""Every path by itself."""

from __future__ import annotations

import pytest

from fuzz.enumeration import TooMany, refused
from pybpf import assemble
from pybpf.program_types import FILTER, XDP


@pytest.mark.parametrize(
    ("text", "reason", "pc"),
    [
        (".type filter\n r0 = 1\n exit\n", None, None),
        (".type filter\n if r2 < 14 goto L1\n r0 = *(u8 *)(r1 + 14)\n exit\nL1:\n r0 = 0\n exit\n", "packet-bounds", 1),
        (".type filter\n r6 = 0\n if r2 < 14 goto L1\n r6 = r1\nL1:\n if r2 < 14 goto L2\n r0 = *(u8 *)(r6 + 0)\n exit\nL2:\n r0 = 0\n exit\n", None, None),
        (".type filter\n r1 = 2\n call f\n r0 = r6\n exit\nf:\n r0 = 0\n exit\n", "uninitialised-register", 2),
    ],
)  # fmt: skip
def test_paths(text: str, reason: str | None, pc: int | None) -> None:
    """Each path alone: what is known of one is not lost on the other; calls return to where they came from."""
    refusal = refused(assemble(text), FILTER)
    assert (refusal and refusal.reason, refusal and refusal.pc) == (reason, pc)


def test_loops_are_followed_turn_by_turn() -> None:
    """A counted loop ends; one that does not is too much."""
    loop = ".type xdp\n r0 = 0\nL1:\n r0 += 1\n if r0 < 30 goto L1\n exit\n"
    assert refused(assemble(loop), XDP) is None
    with pytest.raises(TooMany):
        refused(assemble(loop.replace("+= 1", "+= 0")), XDP)
    with pytest.raises(TooMany):
        refused(assemble(loop), XDP, limit=20)
