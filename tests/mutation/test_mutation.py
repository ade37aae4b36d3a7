"""The mutation check itself: what it changes, and that it tells a test that notices from none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mutation import explained
from mutation.mutants import mutants

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "pybpf" / "verifier"

TEXT = '''
def bounded(x: int, low: int = 3) -> bool:
    """A docstring is left alone."""
    if x < 0:
        raise ValueError(f"{x} is negative")
    return min(x, low) == x and not x & 1
'''


def test_every_place_of_a_function_is_changed(tmp_path: Path) -> None:
    """Comparisons, numbers, operators, conditions, calls and statements; not messages, docstrings or default values."""
    path = tmp_path / "pybpf.py"
    path.write_text(TEXT)
    assert [mutant.key.removeprefix("pybpf.bounded: ") for mutant in mutants(path)] == [
        "if x < 0 -> if True", "if x < 0 -> if False", "x < 0 -> x <= 0", "0 -> 1",
        "drop raise ValueError(f'{x} is negative')",
        "drop min(x, low) == x of and", "drop not x & 1 of and",
        "min(x, low) == x -> min(x, low) != x", "min(x, low) -> max(x, low)",
        "not x & 1 -> x & 1", "x & 1 -> x | 1", "1 -> 2", "1 -> 0",
    ]  # fmt: skip


WORDS = """
def refused(low: int, high: int) -> str:
    span = f"offset {low}" if low == high else f"offset {low}..{high}"
    if low < 0:
        span += " in front"
    name = f"u{low}" if low == high else None
    return describe(span, name)
"""


def test_what_only_chooses_words_is_left_alone(tmp_path: Path) -> None:
    """A text without a space may be data."""
    path = tmp_path / "pybpf.py"
    path.write_text(WORDS)
    assert [mutant.key.removeprefix("pybpf.refused: ") for mutant in mutants(path)] == [
        "if low == high -> if True",
        "if low == high -> if False",
        "low == high -> low != high",
    ]


def test_explanations(tmp_path: Path) -> None:
    """A line explains the mutant of its key, or all whose keys begin so; one that explains none is stale."""
    path = tmp_path / "explained.txt"
    path.write_text("# Text.\nmodule.describe: *\nmodule.f: 1 -> 2\n\n# Gone.\nmodule.g: *\n")
    read = explained.read(path)
    assert [read.reason(f"module.{key}") for key in ("describe: 0 -> 1", "f: 1 -> 2", "f: 1 -> 0")] == [
        "Text.", "Text.", None,
    ]  # fmt: skip
    assert read.stale(["module.describe: 0 -> 1"]) == ["module.f: 1 -> 2", "module.g: *"]


def test_a_mutant_is_its_function_with_one_change(tmp_path: Path) -> None:
    """The code object does what the change says."""
    path = tmp_path / "pybpf.py"
    path.write_text(TEXT)
    scope: dict[str, object] = {}
    exec(TEXT, scope)
    function = scope["bounded"]
    (changed,) = [mutant for mutant in mutants(path) if mutant.key.endswith("drop not x & 1 of and")]
    assert not function(3)  # type: ignore[operator]
    function.__code__ = changed.code()  # type: ignore[attr-defined]
    assert function(3)  # type: ignore[operator]


@pytest.mark.slow
def test_keys_name_one_mutant_each() -> None:
    """Over the whole verifier, so that an explanation explains one change."""
    keys = [mutant.key for path in SOURCES.glob("*.py") for mutant in mutants(path)]
    assert len(keys) == len(set(keys)) > 5000
    explained.read()


def run(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mutation", "--state", str(state), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_mutants_are_caught_or_listed(tmp_path: Path) -> None:
    """All mutants of a function are caught by its tests; with tests that do not reach it all survive, and the status says so."""
    caught = run(tmp_path / "a", "tnum.intersect: *", "--test", "tests/verifier/test_tnum.py", "--quick")
    assert caught.returncode == 0, caught.stdout + caught.stderr
    assert "0 neither caught nor explained" in caught.stdout
    missed = run(tmp_path / "b", "tnum.intersect: *", "--test", "tests/verifier/test_cfg.py", "--quick")
    assert missed.returncode == 1, missed.stdout + missed.stderr
    assert "unreached (0 tests)" in missed.stdout
