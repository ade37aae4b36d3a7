"""Type information as compilers write it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pybpf.btf import Btf
from pybpf.elf.file import ElfFile

SOURCE = Path(__file__).with_name("types.c")


@pytest.fixture(scope="session", params=["bpfel", "bpfeb"])
def compiled(
    request: pytest.FixtureRequest, tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """`types.c` in both byte orders."""
    path = tmp_path_factory.mktemp("types") / f"{request.param}.o"
    command = [
        tool("clang-22"),
        "-target",
        request.param,
        "-g",
        "-O2",
        "-Wno-everything",
        "-c",
        SOURCE,
        "-o",
        path,
    ]
    subprocess.run(command, check=True)
    return path


def read(path: Path) -> Btf | None:
    """The types of a file."""
    file = ElfFile(path.read_bytes())
    section = file.section(".BTF")
    return Btf.parse(file.data(section), file.byteorder) if section else None
