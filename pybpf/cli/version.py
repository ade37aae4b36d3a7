"""``pybpf version``: what is installed."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import click

from pybpf import __version__
from pybpf.cli.options import examples
from pybpf.cli.output import say


@click.command(short_help="Print what is installed.", **examples("pybpf version"))
def command() -> None:
    """Print the versions of pybpf and of what it stands on."""
    say(f"pybpf {__version__}")
    say(f"Python {platform.python_version()} ({platform.machine()}, {platform.system()})")
    for package in ("llvmlite", "numpy", "pyelftools"):
        say(f"{package} {_installed(package)}")


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"
