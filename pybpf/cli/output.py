"""What commands print: lines, tables, JSON, and on a terminal how far they are."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Final

import click

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_WIDE: Final = 10_000
_REDRAW: Final = 0.2
"""Seconds between two states of a progress line, and before the first."""
_ERASE: Final = "\x1b[K"
"""To the end of the line."""


def printable(text: object) -> str:
    r"""Text on one line, harmless on a terminal: names in an object may hold anything.

    >>> printable("flow\x1b[2J\n")
    'flow\\x1b[2J\\x0a'
    """
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", str(text))


def say(text: str = "", **style: Any) -> None:
    """A line on standard output, in colour on a terminal."""
    click.echo(click.style(text, **style) if style else text)


def complain(text: str) -> None:
    """A line on standard error."""
    click.echo(f"pybpf: {printable(text)}", err=True)


def print_json(value: object) -> None:
    """A value as JSON on standard output."""
    import json

    click.echo(json.dumps(value, indent=2))


class Figure(str):
    """A number as text: aligned like one."""

    __slots__ = ()


def has_room(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> bool:
    """Whether a table fits into the terminal without wrapping its cells; off a terminal all do."""
    if not sys.stdout.isatty():
        return True
    import shutil

    widest = [max(len(printable(row[i])) for row in (columns, *rows)) for i in range(len(columns))]
    return sum(widest) + 2 * (len(widest) - 1) <= shutil.get_terminal_size().columns


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table; numbers are right-aligned. Off a terminal it is as wide as it needs to be."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[(printable(cell), isinstance(cell, int | float | Figure)) for cell in row] for row in rows]
    numeric = [bool(cells) and all(row[i][1] for row in cells) for i in range(len(columns))]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name, right in zip(columns, numeric, strict=True):
        table.add_column(
            Text(printable(name)), justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    for row in cells:
        table.add_row(*(Text(text) for text, _ in row))
    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    with console.capture() as drawn:
        console.print(table)
    for line in drawn.get().splitlines():
        click.echo(line.rstrip())


class Progress:
    """A line on standard error that says how far a command is; nothing where that is no terminal.

    `total` is the number of steps.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._terminal = sys.stderr.isatty()
        self._next = time.monotonic() + _REDRAW

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def show(self, done: int, name: str = "") -> None:
        """Say that `done` steps are done and what is in work; drawn a few times a second, and not in the first moment."""
        if self._terminal and (now := time.monotonic()) >= self._next:
            self._next = now + _REDRAW
            line = f"{self._what} {done:,} of {self._total:,} {printable(name)}"[:78]
            click.echo(f"\r{line}{_ERASE}", nl=False, err=True)

    def clear(self) -> None:
        """Take the line away, before something else is printed."""
        if self._terminal:
            click.echo(f"\r{_ERASE}", nl=False, err=True)
