"""The committed objects: complete, made from the sources beside them, and free of traces of where they were made."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import pybpf
from tests.examples.conftest import EXAMPLES

SOURCES = sorted([*EXAMPLES.glob("*.c"), *(EXAMPLES / "unsafe").glob("*.c")])
NAMES = [source.relative_to(EXAMPLES).with_suffix("") for source in SOURCES]
CLANG = shutil.which("clang-22")


def test_every_source_has_its_objects() -> None:
    """One for each instruction set, and none without a source."""
    for cpu in ("v1", "v3"):
        folder = EXAMPLES / "objects" / cpu
        assert sorted(path.relative_to(folder).with_suffix("") for path in folder.rglob("*.o")) == sorted(
            NAMES
        )


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_source_lines(cpu: str, name: Path) -> None:
    """Every instruction comes from a line of a file of the examples, named from the root of the repository."""
    data = (EXAMPLES / "objects" / cpu / name.with_suffix(".o")).read_bytes()
    assert str(EXAMPLES.parent).encode() not in data
    program = pybpf.load(data).programs[name.name]
    files = set()
    for pc in program.code:
        line = program.source(pc)
        assert line is not None
        assert (
            line.text.strip() == (EXAMPLES.parent / line.file).read_text().splitlines()[line.line - 1].strip()
        )
        files.add(line.file)
    assert f"examples/{name}.c" in files


@pytest.mark.parametrize("name", [name for name in NAMES if name.parent == Path()], ids=str)
def test_first_instruction_set(name: Path) -> None:
    """The objects of v1 need nothing that came later, but for the addition in memory that clang emits at every level."""
    program = pybpf.load(EXAMPLES / "objects" / "v1" / name.with_suffix(".o")).programs[name.name]
    type_ = pybpf.program_types.get(program.type or "filter")
    pybpf.verify(program, replace(type_, policy=replace(type_.policy, isa=2)))


@pytest.mark.slow
@pytest.mark.oracle
@pytest.mark.skipif(CLANG is None, reason="clang-22 is not installed")
def test_rebuilding_changes_no_byte(tmp_path: Path) -> None:
    """The Makefile makes the same objects in another place, with the compiler that made the committed ones."""
    committed = EXAMPLES / "objects"
    assert CLANG is not None
    version = subprocess.run([CLANG, "--version"], capture_output=True, check=True).stdout.splitlines()[0]
    if version not in (committed / "v1" / "p0f.o").read_bytes():
        pytest.skip(f"the objects were made by another clang than {version.decode()}")
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("objects", "captures"))
    subprocess.run(["make", "-s", "-C", tmp_path / "examples"], check=True)
    for path in committed.rglob("*.o"):
        assert (
            path.read_bytes()
            == (tmp_path / "examples" / "objects" / path.relative_to(committed)).read_bytes()
        ), path
