"""Commands as a user calls them, in this process or in one of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from pybpf.cli.main import cli

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CAPTURES = EXAMPLES / "captures"


class Ran(NamedTuple):
    """How a command ended and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed as JSON."""
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def pybpf() -> Run:
    """Call a command in this process."""

    def run(*arguments: str | Path, stdin: bytes = b"") -> Ran:
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=stdin)
        if not isinstance(result.exception, SystemExit | None):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def process() -> Run:
    """Call a command in a process of its own."""

    def run(*arguments: str | Path, **environment: str) -> Ran:
        done = subprocess.run(
            command(*arguments), capture_output=True, text=True, env=surroundings(**environment)
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


def command(*arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "pybpf", *arguments]


def surroundings(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def compiled(name: str) -> Path:
    """An object of the examples."""
    return EXAMPLES / "objects" / "v3" / f"{name}.o"
