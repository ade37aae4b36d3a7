"""What the tests read of a page: its fenced blocks, its links, and the paths that it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))

_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]\[]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: the word behind its fence, its text, and the line of the page on which the text begins."""

    language: str
    text: str
    line: int


def blocks(page: Path, language: str | None = None) -> Iterator[Block]:
    """The fenced blocks of a page in their order, or those of one language."""
    text = page.read_text()
    for match in _FENCE.finditer(text):
        if language in (None, match[1]):
            yield Block(match[1], match[2], text.count("\n", 0, match.start(2)) + 1)


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def links(page: Path) -> list[str]:
    """Where the links of a page lead."""
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """The names by which a link can lead to a heading of the page, as GitHub makes them."""
    headings = (heading.lower().replace("`", "") for heading in _HEADING.findall(prose(page)))
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in headings}


def sections(page: Path, level: int) -> dict[str, str]:
    """Heading -> the text below it, down to the next heading of the same level."""
    parts = re.split(rf"^{'#' * level} +(.*)$", page.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def codes(page: Path) -> list[str]:
    """The texts in backquotes, outside fenced blocks."""
    return _CODE.findall(prose(page))
