"""The pages say what is so: links lead somewhere, named files and names exist, and examples do what the page shows."""

from __future__ import annotations

import doctest
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner

from pybpf.cli.main import cli
from tests.docs.markdown import DOCS, PAGES, ROOT, Block, anchors, blocks, codes, links

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
"""What an output and the page may differ in: where the page has three dots, and the width of gaps."""

LANGUAGES = {"", "bpf", "c", "console", "diff", "python", "sh", "text"}
"""``python`` blocks are run, as doctests where they have prompts; so are the lines ``$ pybpf`` of ``console`` blocks."""


def page_id(page: Path) -> str:
    return str(page.relative_to(DOCS))


each_page = pytest.mark.parametrize("page", PAGES, ids=page_id)


@each_page
def test_links_resolve(page: Path):
    """Files are there, and headings in them. Addresses of the web are not asked for."""
    for link in links(page):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


_PATH = re.compile(r"(?:pybpf|tests|docs|examples|fuzz|benchmarks)/[\w./*-]*")
_MODULE = re.compile(r"pybpf(?:\.\w+)+")


@each_page
def test_named_paths_exist(page: Path):
    """Paths from the root of the repository; a star stands for any name."""
    named = [code for code in codes(page) if _PATH.fullmatch(code)]
    assert [path for path in named if not any(ROOT.glob(path.rstrip("/")))] == []


@each_page
def test_named_modules_and_their_names_exist(page: Path):
    """``pybpf.x.y`` is a module, or a name in one."""
    for code in codes(page):
        if _MODULE.fullmatch(code):
            assert _exists(code), code


def _exists(dotted: str) -> bool:
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            fields = getattr(found, "__dataclass_fields__", {})
            if not hasattr(found, name) and name not in fields:
                return False
            found = getattr(found, name, None)
        return True
    return False


@each_page
def test_fenced_blocks_say_what_they_are(page: Path):
    assert {block.language for block in blocks(page)} <= LANGUAGES


PROGRAMS = [page for page in PAGES if any(blocks(page, "python")) and not any(blocks(page, "diff"))]
"""The examples of pages that change pybpf first are run by `tests.docs.test_howtos`."""


@pytest.mark.slow
@pytest.mark.parametrize("page", PROGRAMS, ids=page_id)
def test_python_examples_run(page: Path, monkeypatch: pytest.MonkeyPatch):
    """All ``python`` blocks of a page are one program, run from the root of the repository; prompts are doctests."""
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        if ">>>" in block.text:
            _check(page, block, names)
        else:
            exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)


def _check(page: Path, block: Block, names: dict[str, object]) -> None:
    test = doctest.DocTestParser().get_doctest(block.text, names, page.name, str(page), block.line - 1)
    report: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(test, out=report.append, clear_globs=False)
    assert not report, "".join(report)
    names.update(test.globs)


SESSIONS = [page for page in PAGES if any(blocks(page, "console"))]


@pytest.mark.slow
@pytest.mark.parametrize("page", SESSIONS, ids=page_id)
def test_commands_print_what_the_page_shows(page: Path, monkeypatch: pytest.MonkeyPatch):
    """A ``console`` block is commands, each after a dollar sign, and what they print."""
    monkeypatch.chdir(ROOT)
    for block in blocks(page, "console"):
        for session in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, expected = session.partition("\n")
            program, *arguments = shlex.split(command)
            assert program == "pybpf", command
            got = CliRunner().invoke(cli, arguments)
            assert doctest.OutputChecker().check_output(expected, got.output, OPTIONS), (
                f"{page.name}: $ {command}\n{got.output}"
            )


def test_the_index_leads_to_every_page():
    """Reached by links from docs/index.md, directly or by way of other pages."""
    reached = set()
    waiting = [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = ((page.parent / link.partition("#")[0]).resolve() for link in links(page))
        waiting += [target for target in targets if target in PAGES]
    assert reached == set(PAGES)
