"""Programs broken on purpose are refused, each for its reason and with the line of C to blame."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pybpf
from tests.examples.conftest import EXAMPLES

SOURCES = sorted((EXAMPLES / "unsafe").glob("*.c"))
MARK = re.compile(r"\s*/\* BLAME: ([a-z-]+) \*/")


def blame(source: Path) -> tuple[str, int]:
    """The reason that a source is marked with, and the line below the mark."""
    marks = [
        (match[1], number + 1)
        for number, line in enumerate(source.read_text().splitlines(), 1)
        if (match := MARK.fullmatch(line))
    ]
    assert len(marks) == 1, f"{source.name} has {len(marks)} marks"
    return marks[0]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_refused(cpu: str, source: Path) -> None:
    """Reason and place are those of the mark."""
    reason, line = blame(source)
    program = pybpf.load(EXAMPLES / "objects" / cpu / "unsafe" / f"{source.stem}.o").programs[source.stem]
    with pytest.raises(pybpf.VerifierError) as refused:
        pybpf.verify(program)
    place = refused.value.source
    assert place is not None
    assert (refused.value.reason, place.file, place.line) == (reason, f"examples/unsafe/{source.name}", line)
    assert f"{place.file}:{line}" in str(refused.value)


def test_ten_ways() -> None:
    """There are programs for all these reasons."""
    assert {blame(source)[0] for source in SOURCES} == {
        "back-edge",
        "helper-argument",
        "map-value-bounds",
        "maybe-null",
        "packet-bounds",
        "packet-write",
        "pointer-arithmetic",
        "pointer-leak",
        "stack-bounds",
        "uninitialised-register",
        "uninitialised-stack",
    }
