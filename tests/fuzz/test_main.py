"""``python -m fuzz``."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fuzz.__main__ import main
from fuzz.campaign import Report


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "say when to stop: --seconds or --count"),
        (["--count", "x"], "'x' is not a valid integer"),
        (["--count", "1", "--property", "beauty"], "'beauty' is not one of"),
        (["--count", "1", "--source", "nowhere"], "'nowhere' is not one of"),
        (["--count", "1", "--every", "0"], "0 is not in the range x>=1"),
    ],
)
def test_mistakes(arguments: list[str], said: str) -> None:
    """One line that names what is wrong, and status 2."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output


@pytest.mark.slow
def test_a_campaign(tmp_path: Path) -> None:
    """A short one: it ends by itself, reports, finds nothing, and lets a new corpus grow."""
    arguments = ["--count", "40", "--seed", "2", "--property", "safe", "--property", "enumerated", "--grow"]
    result = CliRunner().invoke(main, [*arguments, "--corpus", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "40 programs" in result.output
    assert "features:" in result.output
    assert list(tmp_path.glob("kept-*.bpf"))


def test_a_finding_is_status_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found is saved, told of at once, and says so to a shell."""
    from fuzz.campaign import Finding

    def found(*arguments: object, progress: object, **more: object) -> Report:
        report = Report(findings=[Finding("# Unsafe: x\n.type filter\nr0 = 0\nexit\n", "Unsafe: x")])
        progress(report)  # type: ignore[operator]
        return report

    monkeypatch.setattr("fuzz.__main__.campaign", found)
    result = CliRunner().invoke(main, ["--count", "1", "--property", "safe", "--corpus", str(tmp_path)])
    assert result.exit_code == 1
    assert "found: Unsafe: x" in result.output
    [path] = tmp_path.iterdir()
    assert path.name.startswith("unsafe-")
    assert path.name in result.output.replace("\n", "")
