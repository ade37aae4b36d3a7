"""The pages outside docs/: links lead somewhere, examples run, and the README shows what a newcomer will see."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pybpf.cli.main import cli
from tests.docs import test_pages
from tests.docs.markdown import ROOT, blocks

README = ROOT / "README.md"
PAGES = [
    README,
    *(
        ROOT / name
        for name in ("CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md", "examples/captures/README.md")
    ),
]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@each_page
def test_links_resolve(page: Path):
    test_pages.test_links_resolve(page)


@pytest.mark.slow
def test_python_examples_run(monkeypatch: pytest.MonkeyPatch):
    test_pages.test_python_examples_run(README, monkeypatch)


@pytest.mark.slow
def test_commands_print_what_the_readme_shows(monkeypatch: pytest.MonkeyPatch):
    test_pages.test_commands_print_what_the_page_shows(README, monkeypatch)


def words(line: str) -> list[str]:
    """A line as its words, with figures of which only the form repeats from run to run replaced."""
    return re.sub(r"\b\d[\d.,]*\b", "#", re.sub(r"\d ms|\d s\b", "0 ms", line)).split()


@pytest.mark.slow
def test_a_run_looks_as_the_readme_shows(monkeypatch: pytest.MonkeyPatch):
    """Line by line but for figures, up to the three dots."""
    monkeypatch.chdir(ROOT)
    (shown,) = (block.text for block in blocks(README, "text") if block.text.startswith("$ pybpf run"))
    command, *expected = shown.rstrip().splitlines()
    assert expected.pop() == "..."
    got = CliRunner().invoke(cli, shlex.split(command)[2:])
    assert got.exit_code == 0
    assert [words(line) for line in got.output.splitlines()[: len(expected)]] == [
        words(line) for line in expected
    ]


def test_the_demo_is_what_the_readme_shows():
    """The commands of ``make demo`` are those of the page."""
    shown = {line[2:] for line in README.read_text().splitlines() if line.startswith("$ pybpf")}
    recipe = (ROOT / "Makefile").read_text()
    assert set(re.findall(r"echo '\$\$ (pybpf [^']+)'", recipe)) == shown
    for line in shown:
        assert line.replace("pybpf", "@$(PYBPF)", 1) in recipe


@pytest.mark.parametrize("name", cli.list_commands(click.Context(cli)))
def test_the_page_of_the_command_line_names_every_option(name: str):
    """docs/cli.md has a section for each command but ``version``, and all their options."""
    page = (ROOT / "docs/cli.md").read_text()
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert f"pybpf {name}" in page
    if name != "version":
        assert re.search(rf"^## .*\b{name}\b", page, re.MULTILINE)
    options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
    assert [option for option in options if f"`{option}" not in page] == []
