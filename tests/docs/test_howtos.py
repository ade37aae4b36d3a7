"""The how-tos that change pybpf, followed on a copy: after the changes of the page its examples work."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.markdown import DOCS, ROOT, blocks

CHANGING = [page for page in sorted(DOCS.glob("howto/*.md")) if any(blocks(page, "diff"))]

_CHECK = """
import doctest, pathlib, sys
test = doctest.DocTestParser().get_doctest(pathlib.Path(sys.argv[1]).read_text(), {}, sys.argv[1], sys.argv[1], 0)
sys.exit(doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed)
"""


def change(root: Path, diff: str) -> None:
    """Apply a block: the file's name, then lines with " " in front that are there, "+" that come and "-" that go.

    A line of three dots is between two places; without a line that is there, all of them go to the end.
    """
    name, _, rest = diff.removeprefix("--- ").partition("\n")
    path = root / name.strip()
    text = path.read_text() if path.exists() else ""
    for place in re.split(r"^\.\.\.\n", rest, flags=re.MULTILINE):
        lines = place.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] in " -")
        new = "".join(line[1:] for line in lines if line[0] in " +")
        assert not old or text.count(old) == 1, (
            f"{name}: the page's lines are there {text.count(old)} times:\n{old}"
        )
        text = text.replace(old, new) if old else text + new
    path.write_text(text)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "pybpf", tmp_path / "pybpf", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", CHANGING, ids=lambda page: page.stem)
def test_the_changes_of_the_page_do_what_its_examples_show(page: Path, copy: Path):
    for block in blocks(page, "diff"):
        change(copy, block.text)
    (copy / "examples.txt").write_text("".join(block.text for block in blocks(page, "python")))
    done = subprocess.run(
        [sys.executable, "-c", _CHECK, "examples.txt"], cwd=copy, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_tests_of_the_page_on_pytest_pass(tmp_path: Path):
    (script,) = blocks(DOCS / "howto/test-a-program-with-pytest.md", "python")
    (tmp_path / "test_firewall.py").write_text(script.text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{script.text.count('def test_')} passed" in done.stdout
