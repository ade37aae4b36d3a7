"""The properties notice: each is shown a verifier, a proof or an engine that is wrong, and says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

import fuzz.engines
import fuzz.properties
from fuzz.case import Case
from fuzz.enumeration import Differs
from fuzz.facts import WrongFact
from fuzz.membership import Outside
from fuzz.properties import check
from fuzz.recipe import drawn
from fuzz.runs import Unsafe
from fuzz.statistics import Statistics
from fuzz.watch import watch
from pybpf import assemble
from pybpf.verifier.branches import Branches
from pybpf.verifier.explore import Exploration
from pybpf.verifier.scalar import Numbers
from pybpf.verifier.state import State


def _caught(names: tuple[str, ...], programs: int = 400) -> Exception | None:
    """The first failure among drawn programs."""
    random = Random(77)
    for _ in range(programs):
        case = drawn(random, "generated").case()
        assert case is not None
        try:
            check(case, names, Statistics())
        except Exception as error:
            return error
    return None


def _proves_a_byte_too_many(patch: pytest.MonkeyPatch) -> None:
    prove = State.prove
    patch.setattr(State, "prove", lambda self, atoms, size: prove(self, atoms, size + 1))


def _shifts_wrongly(patch: pytest.MonkeyPatch) -> None:
    compute = Numbers._compute

    def wrong(self: Any, code: str, width: int, a: Any, b: Any) -> Any:
        return self.constant(0) if code == "rsh" else compute(self, code, width, a, b)

    patch.setattr(Numbers, "_compute", wrong)


def _never_null(patch: pytest.MonkeyPatch) -> None:
    assume = Branches._assume

    def wrong(self: Any, state: Any, code: str, instruction: Any, left: Any, right: Any) -> None:
        assume(
            self,
            state,
            "jne" if code == "jeq" and getattr(left, "null", None) is not None else code,
            instruction,
            left,
            right,
        )

    patch.setattr(Branches, "_assume", wrong)


def _forgets_paths(patch: pytest.MonkeyPatch) -> None:
    known = Exploration._known

    def wrong(self: Any, place: Any, state: Any, live: Any, fresh: Any, head: Any, change: Any) -> Any:
        return fresh[0] if fresh and head is None else known(self, place, state, live, fresh, head, change)

    patch.setattr(Exploration, "_known", wrong)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "names", "raised"),
    [
        (_proves_a_byte_too_many, ("member",), Outside),
        (_shifts_wrongly, ("member",), Outside),
        (_shifts_wrongly, ("facts",), (WrongFact, Unsafe)),
        (_never_null, ("safe",), Unsafe),
        (_forgets_paths, ("enumerated",), Differs),
        (_forgets_paths, ("member",), Outside),
    ],
)
def test_a_broken_verifier_is_caught(
    fault: Callable[[pytest.MonkeyPatch], None],
    names: tuple[str, ...],
    raised: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A few hundred programs are enough."""
    fault(monkeypatch)
    assert isinstance(_caught(names), raised)


@pytest.mark.slow
def test_the_verifier_as_it_is_passes() -> None:
    """All properties that need no kernel, on drawn programs."""
    names = [name for name in fuzz.properties.PROPERTIES if name != "kernel"]
    assert _caught(tuple(names), 60) is None


def _case(text: str, *packets: bytes) -> Case:
    program = assemble(text)
    return Case(replace(program, type=fuzz.case.program_types.get(program.type or "")), packets)


LOAD = ".type filter\n if r2 < 14 goto L1\n r0 = *(u8 *)(r1 + 13)\n exit\nL1:\n r0 = 0\n exit\n"


@pytest.mark.parametrize(
    "change",
    [
        {"accesses": {}},
        {"reached": frozenset({0})},
        {"ranges": {1: (0, 7)}},
        {"branches": {0: True}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_wrong_fact_is_caught(change: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts that are made wrong after the proof."""
    case = _case(LOAD, bytes(range(200, 214)))
    check(case, ["facts"], Statistics())

    def tampered(program: Any) -> Any:
        watched = watch(program)
        facts = replace(watched.verified.facts, **change)
        return replace(watched, verified=replace(watched.verified, facts=facts))

    monkeypatch.setattr(fuzz.properties, "watch", tampered)
    with pytest.raises(WrongFact):
        check(case, ["facts"], Statistics())


def test_an_engine_that_differs_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Native code that gives another result."""
    case = _case(LOAD, bytes(range(14)))
    instance = fuzz.engines._instance

    def other(case: Case, verified: Any, engine: Any, budget: Any) -> Any:
        if engine == "jit":
            verified = watch(assemble(".type filter\n r0 = 99\n exit\n")).verified
        return instance(case, verified, engine, budget)

    monkeypatch.setattr(fuzz.engines, "_instance", other)
    with pytest.raises(fuzz.engines.Different, match="packet 0, 14 bytes"):
        check(case, ["engines"], Statistics())


def test_a_verifier_that_breaks_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything but a verdict is a crash."""

    def broken(program: Any) -> Any:
        raise RecursionError("too deep")

    monkeypatch.setattr(fuzz.properties, "watch", broken)
    with pytest.raises(fuzz.properties.Crash, match="RecursionError: too deep"):
        check(_case(LOAD), ["safe"], Statistics())


def test_refusals_are_no_failures() -> None:
    """A refused program is counted by its reason."""
    statistics = Statistics()
    check(
        _case(".type filter\n r0 = *(u8 *)(r1 + 0)\n exit\n", b"", b"x"),
        fuzz.properties.PROPERTIES,
        statistics,
    )
    assert statistics.refused == {"packet-bounds": 1}
    assert statistics.outcomes == {("packet-bounds", True, "faults"): 1}
