"""The verdict and the facts belong to the program: not to the run of the verifier, nor to how the program is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from random import Random
from typing import Any, Final

import pybpf
from fuzz.rewrites import REWRITES, padded, whole
from pybpf import BpfError, Facts, Program, VerifiedProgram

COUNTED: Final = ("explored",)
"""How long the verifier searched is no fact about the program."""


class Varies(AssertionError):
    """A verdict or a fact that is not the program's alone."""


def verdict(program: Program) -> VerifiedProgram | str:
    """The proof, or the kind of refusal."""
    try:
        return pybpf.verify(program)
    except BpfError as error:
        return getattr(error, "reason", type(error).__name__)


def check(program: Program, expected: VerifiedProgram | str, seed: int = 0) -> None:
    """Verify a program again, and what means the same. Raises `Varies`."""
    random = Random(seed)
    _same("a second time", expected, verdict(program), COUNTED)
    if isinstance(expected, str) and not whole(program):
        return
    for name, rewrite in REWRITES.items():
        again = verdict(rewrite(program, random))
        if name == "renamed":
            _same(name, expected, again, COUNTED)
        elif isinstance(expected, str) != isinstance(again, str):
            raise Varies(f"{name}: {_shown(expected)} became {_shown(again)}")
    if isinstance(expected, VerifiedProgram):
        _check_padded(program, expected.facts, random)


def _check_padded(program: Program, facts: Facts, random: Random) -> None:
    """Instructions that do nothing move the facts and leave them as they are.

    But for the ranges of numbers: those that nothing depends on are forgotten sooner or later.
    """
    changed, moved = padded(program, random)
    again = verdict(changed)
    if isinstance(again, str):
        raise Varies(f"padded: accepted became {again}")
    for name in ("accesses", "arguments", "maps", "branches"):
        before: Mapping[int, Any] = getattr(facts, name)
        after: Mapping[int, Any] = getattr(again.facts, name)
        wanted = {moved[pc]: value for pc, value in before.items()}
        found = {pc: value for pc, value in after.items() if pc in set(moved.values())}
        if wanted != found:
            raise Varies(f"padded: {name} {wanted} became {found}")


def _same(
    how: str, expected: VerifiedProgram | str, again: VerifiedProgram | str, without: tuple[str, ...]
) -> None:
    if isinstance(expected, str) or isinstance(again, str):
        if expected != again:
            raise Varies(f"{how}: {_shown(expected)} became {_shown(again)}")
        return
    drop = {name: getattr(Facts(), name) for name in without}
    left, right = replace(expected.facts, **drop), replace(again.facts, **drop)
    for item in fields(Facts):
        if getattr(left, item.name) != getattr(right, item.name):
            raise Varies(f"{how}: {item.name} {getattr(left, item.name)} became {getattr(right, item.name)}")


def _shown(result: VerifiedProgram | str) -> str:
    return result if isinstance(result, str) else "accepted"
