"""Sockets that must be given back: random programs that acquire, copy, spill, cast, test and release them get Linux's verdict."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from pybpf import Program, VerifierError, verify
from pybpf.program_types import TC
from tests import linux

REGISTERS = ("r7", "r8", "r9")
SLOTS = (40, 48)
COUNTER = 56

START = (
    "r6 = r1\n"
    + "".join(f"{r} = 0\n" for r in REGISTERS)
    + "".join(f"*(u64 *)(r10 - {n}) = 0\n" for n in range(8, 56, 8))
)

LOOKUP = "r2 = r10\n r2 += -16\n r3 = 12\n r4 = 0\n r5 = 0\n call {}"

FUNCTIONS = {
    "put": "put:\n if r1 == 0 goto put_out\n call sk_release\nput_out: r0 = 0\n exit",
    "find": f"find:\n *(u64 *)(r10 - 8) = 0\n *(u64 *)(r10 - 16) = 0\n {LOOKUP.format('sk_lookup_tcp')}\n exit",
    "lose": f"lose:\n *(u64 *)(r10 - 8) = 0\n *(u64 *)(r10 - 16) = 0\n {LOOKUP.format('sk_lookup_udp')}\n r0 = 0\n exit",
}

ONE_INSTRUCTION = "same insn cannot be used with different pointers"
"""Linux rewrites loads from sockets, so one load may not access two kinds of them; here it may."""


class Writer:
    """Writes one program by a seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.labels = 0

    def program(self) -> Program:
        """Blocks, some in a loop; at the end most registers are released."""
        blocks = [self._block(self.random.randint(1, 4)) for _ in range(self.random.randint(1, 3))]
        ends = [self._if(r, f"r1 = {r}\n call sk_release") for r in REGISTERS if self.random.random() < 0.75]
        text = "\n".join([START, *blocks, *ends, "r0 = 0\n exit"])
        called = [body for name, body in FUNCTIONS.items() if f"call {name}\n" in text]
        return Program.from_asm("\n".join([text, *called]), TC)

    def _block(self, operations: int) -> str:
        body = "\n".join(self._operation(0) for _ in range(operations))
        if self.random.random() > 0.35:
            return body
        head, slot = self._label(), f"*(u64 *)(r10 - {COUNTER})"
        turns = self.random.randint(2, 4)
        return f"{slot} = 0\n{head}: r1 = 0\n{body}\n r1 = {slot}\n r1 += 1\n {slot} = r1\n if r1 < {turns} goto {head}"

    def _label(self) -> str:
        self.labels += 1
        return f"l{self.labels}"

    def _if(self, register: str, body: str, otherwise: str | None = None) -> str:
        """Do something if a register is not null."""
        null, end = self._label(), self._label()
        other = "" if otherwise is None else f"goto {end}\n"
        return (
            f"if {register} == 0 goto {null}\n{body}\n{other}{null}: r1 = 0\n{otherwise or ''}\n{end}: r1 = 0"
        )

    def _operation(self, depth: int) -> str:
        r, other, slot = (self.random.choice(each) for each in (REGISTERS, REGISTERS, SLOTS))
        choices: list[tuple[int, Iterator[str]]] = [
            (20, self._acquire(r)),
            (20, self._branch(r, depth)),
            (20, self._release(r)),
            (8, iter([f"{r} = {other}"])),
            (6, iter([f"*(u64 *)(r10 - {slot}) = {r}"])),
            (6, iter([f"{r} = *(u64 *)(r10 - {slot})"])),
            (6, self._cast(r, other)),
            (5, iter([self._if(r, f"r1 = *(u32 *)({r} + 4)")])),
            (2, iter([f"r1 = {r}\n call put\n"])),
            (2, iter([f"r1 = r6\n call find\n {r} = r0"])),
            (1, iter(["r1 = r6\n call lose\n"])),
            (4, iter([f"{r} = 0"])),
        ]
        weights, operations = zip(*choices, strict=True)
        return next(self.random.choices(operations, weights)[0])

    def _acquire(self, r: str) -> Iterator[str]:
        helper = self.random.choice(("sk_lookup_tcp", "sk_lookup_udp", "skc_lookup_tcp"))
        yield f"r1 = r6\n {LOOKUP.format(helper)}\n {r} = r0"

    def _branch(self, r: str, depth: int) -> Iterator[str]:
        if depth == 2:
            yield self._if(r, f"{r} = 0")
        body = "\n".join(self._operation(depth + 1) for _ in range(self.random.randint(1, 3)))
        yield self._if(r, body, self._operation(depth + 1) if self.random.random() < 0.3 else None)

    def _release(self, r: str) -> Iterator[str]:
        release = f"r1 = {r}\n call sk_release" + (f"\n {r} = 0" if self.random.random() < 0.5 else "")
        yield self._if(r, release) if self.random.random() < 0.8 else release

    def _cast(self, r: str, into: str) -> Iterator[str]:
        helper = self.random.choice(("sk_fullsock", "tcp_sock", "get_listener_sock"))
        yield self._if(r, f"r1 = {r}\n call {helper}\n {into} = r0")


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(10))
@linux.asks
def test_verdicts_are_linux_s(batch: int):
    """Of a hundred programs each; some of both verdicts."""
    seen = set()
    for seed in range(100 * batch, 100 * batch + 100):
        program = Writer(seed).program()
        reason = linux.refusal(program)
        if reason == ONE_INSTRUCTION:
            continue
        try:
            verify(program)
            refused = None
        except VerifierError as error:
            refused = str(error)
        assert (seed, refused is None) == (seed, reason is None), (refused, reason)
        seen.add(reason is None)
    assert seen == {True, False}
