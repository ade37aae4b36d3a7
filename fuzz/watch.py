"""Looking over the verifier's shoulder: the states of the attempt that proved a program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Final
from unittest import mock

from pybpf import Program, VerifiedProgram
from pybpf.verifier.explore import Exploration, Node

_VERIFIER: Final = import_module("pybpf.verifier.verification")


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

        def release(self) -> None:
            """The graph is what is wanted."""

    with mock.patch.object(_VERIFIER, "Exploration", Remembered):
        verified = _VERIFIER.verify(program)
    last = attempts[-1]
    return Watched(verified, last.root, frozenset(last.blocks))


def nodes_of(root: Node) -> Iterator[Node]:
    """All nodes of the graph, each once."""
    seen, waiting = {root}, [root]
    while waiting:
        node = waiting.pop()
        yield node
        for edge in node.edges:
            if edge.target not in seen:
                seen.add(edge.target)
                waiting.append(edge.target)
