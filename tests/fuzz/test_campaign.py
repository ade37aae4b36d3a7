"""Campaigns: decided by their seed, whatever the number of processes; findings are made small, saved and read back."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from random import Random

import pytest

import fuzz.properties
from fuzz.campaign import Report, Work, batch, campaign
from fuzz.corpus import save
from fuzz.properties import Subject, check
from fuzz.recipe import drawn
from fuzz.statistics import Statistics
from fuzz.text import read_case
from pybpf.isa import Kind


class Multiplies(AssertionError):
    """What the property of these tests forbids."""


def _no_multiplication(subject: Subject, statistics: Statistics) -> None:
    if any(i.op.code == "mul" for i in subject.case.program.code.values()):
        raise Multiplies("a product")


def _counts(report: Report) -> tuple[object, ...]:
    s = report.statistics
    return (
        s.programs,
        s.accepted,
        s.refused,
        s.runs,
        s.instructions,
        s.features,
        [f.text for f in report.findings],
    )


@pytest.mark.slow
def test_the_seed_decides() -> None:
    """A batch gives the same counts again, another seed gives others."""
    first = _counts(batch(Work("generated", ("safe",), 1, 25)))
    assert first == _counts(batch(Work("generated", ("safe",), 1, 25)))
    assert first != _counts(batch(Work("generated", ("safe",), 2, 25)))


@pytest.mark.slow
def test_findings_are_small_and_replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A property that fails: its finding holds one multiplication and little else, and fails again when it is read back."""
    monkeypatch.setitem(fuzz.properties.COSTLY, "products", _no_multiplication)
    report = batch(Work("generated", ("safe", "products"), 3, 200))
    assert report.findings
    for finding in report.findings:
        assert finding.message == "Multiplies: a product"
        path = save("multiplies", finding.text, tmp_path)
        assert path == save("multiplies", finding.text, tmp_path), "equal findings are one file"
        case = read_case(path)
        assert sum(i.op.code == "mul" for i in case.program.code.values()) == 1
        assert sum(i.op.kind is Kind.ALU for i in case.program.code.values()) <= 6
        assert not case.packets
        with pytest.raises(Multiplies):
            check(case, ["products"], Statistics())


@pytest.mark.slow
def test_what_is_no_assertion_is_a_finding_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A property that breaks must not end the campaign unseen."""

    def broken(subject: Subject, statistics: Statistics) -> None:
        raise KeyError("gone")

    monkeypatch.setitem(fuzz.properties.COSTLY, "broken", broken)
    assert batch(Work("generated", ("broken",), 3, 5)).findings[0].message == "KeyError: 'gone'"


@pytest.mark.slow
def test_costly_properties_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """One program in so many."""
    seen: list[Subject] = []
    monkeypatch.setitem(fuzz.properties.COSTLY, "seen", lambda subject, statistics: seen.append(subject))
    batch(Work("generated", ("safe", "seen"), 3, 20, every=5))
    assert len(seen) == 4


def _run(tmp_path: Path, **more: object) -> Report:
    shown: list[int] = []
    options: dict[str, object] = {
        "seed": 6, "jobs": 1, "programs": 150, "seconds": None, "scratch": tmp_path,
        "progress": lambda report: shown.append(report.statistics.programs), **more,
    }  # fmt: skip
    report = campaign(["generated"], ["safe"], **options)  # type: ignore[arg-type]
    assert shown == sorted(shown)
    return report


@pytest.mark.slow
def test_any_number_of_processes_sees_the_same(tmp_path: Path) -> None:
    """So many programs, in batches; the notes are gone at the end."""
    one, two = _run(tmp_path), _run(tmp_path, jobs=2)
    assert one.statistics.programs == 150
    assert _counts(one) == _counts(two)
    assert not list(tmp_path.iterdir())


def dies(work: Work) -> Report:
    """A batch in which the process dies of its first case."""
    assert work.notes is not None
    work.notes.write_bytes(pickle.dumps(drawn(Random(work.seed), work.source)))
    os._exit(1)


@pytest.mark.slow
def test_a_process_that_dies_is_a_finding(tmp_path: Path) -> None:
    """The cases that were in work are told of, and can be read."""
    report = _run(tmp_path, check_batch=dies)
    assert report.findings
    for finding in report.findings:
        assert finding.message.startswith("Died")
        assert read_case(save("died", finding.text, tmp_path)).program.code
