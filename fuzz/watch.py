"""Looking over the verifier's shoulder: the states of the attempt that proved a program."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Final
from unittest import mock

from pybpf import Program, VerifiedProgram
from pybpf.verifier.explore import Exploration, Node

_VERIFIER: Final = import_module("pybpf.verifier")


@dataclass(frozen=True, slots=True)
class Watched:
    """A verified program with the root of the graph of states that proved it, and the slots at which its blocks begin."""

    verified: VerifiedProgram
    root: Node
    blocks: frozenset[int]


def watch(program: Program) -> Watched:
    """Verify a program and keep what `pybpf.verify` throws away. Raises what it raises."""
    attempts: list[Exploration] = []

    class Remembered(Exploration):
        def run(self) -> int:
            attempts.append(self)
            return super().run()

    with mock.patch.object(_VERIFIER, "Exploration", Remembered):
        verified = _VERIFIER.verify(program)
    last = attempts[-1]
    return Watched(verified, root_of(last), frozenset(last.blocks))


def root_of(exploration: Exploration) -> Node:
    """The state at the program's entry."""
    return exploration._done[((), 0), ()][0]
