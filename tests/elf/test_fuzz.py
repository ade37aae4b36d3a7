"""Objects changed at random: an error of the documented tree or an object, in bounded time, whatever was changed."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.objects import EXAMPLES, FINDINGS, main, mutants, problem, read_everything
from pybpf import load
from pybpf.btf import Kind, format_type
from tests.btf.builder import BtfBuilder
from tests.conftest import SHARED
from tests.elf.builder import EXIT, OBJECT, Elf, call

OBJECTS = sorted(EXAMPLES.rglob("*.o"))
SMALL = [path for path in sorted((SHARED / "elf").rglob("*.o")) if path.stat().st_size < 50_000]


@settings(max_examples=150)
@given(data=st.data())
def test_mutated_examples(data: st.DataObject):
    """The examples, in which hypothesis chooses what to change and makes a failure small."""
    whole = data.draw(st.sampled_from(OBJECTS)).read_bytes()
    changes = st.dictionaries(st.integers(0, len(whole) - 1), st.integers(0, 255), max_size=8)
    changed = bytearray(whole)
    for at, value in data.draw(changes).items():
        changed[at] = value
    read_everything(bytes(changed[: data.draw(st.integers(0, len(whole)) | st.just(len(whole)))]))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_mutated_objects(seed: int, tmp_path: Path):
    """Many changes of the examples and of the corpus where it is there; a failure names its seed and number."""
    files = [path.read_bytes() for path in [*OBJECTS, *SMALL]]
    loaded = 0
    for number, data in enumerate(islice(mutants(files, seed), 150)):
        try:
            loaded += read_everything(data) is not None
        except Exception as error:
            (tmp_path / "finding.o").write_bytes(data)
            error.add_note(f"seed {seed}, number {number}: {tmp_path / 'finding.o'}")
            raise
    assert 50 < loaded < 135


def test_what_was_found_before():
    """Files that a campaign kept are read as they should be."""
    assert {path.name: problem(path.read_bytes()) for path in FINDINGS.glob("*.o")} == dict.fromkeys(
        (path.name for path in FINDINGS.glob("*.o")), ""
    )


def test_a_campaign_repeats_and_keeps_what_it_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The same seed damages the same files in the same way; an error that is not documented is saved and told of."""
    files = [path.read_bytes() for path in OBJECTS[:3]]
    first, again, other = ([*islice(mutants(files, seed), 20)] for seed in (1, 1, 2))
    assert first == again != other
    assert any(data not in files for data in first)
    monkeypatch.setattr("fuzz.objects.load", lambda data: 1 // 0)
    ran = CliRunner().invoke(main, ["--count", "2", "--corpus", str(tmp_path), str(EXAMPLES)])
    assert ran.exit_code == 1
    assert len([*tmp_path.glob("ZeroDivisionError-*.o")]) == 2


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_anything_behind_a_good_header(rest: bytes):
    """Whatever follows 64 right bytes."""
    header = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 1, 247, 1, 0, 0, 64, 0, 64, 0, 0, 64, 3, 1)
    )
    read_everything(header + rest)


def _many_functions_of_one_name(elf: Elf, count: int) -> None:
    section = elf.section("xdp", EXIT * count)
    for index in range(count):
        elf.symbol("f", section, 8 * index, 8)


def _many_map_sections(elf: Elf, count: int) -> None:
    for _ in range(count):
        elf.symbol("m", elf.section("maps/x", elf.words(1, 4, 4, 1), 3), 0, 16, OBJECT)


def _many_calls(elf: Elf, count: int) -> None:
    section = elf.section("xdp", call(0) * (count - 1) + EXIT)
    for index in range(count):
        elf.symbol(f"f{index}", section, 8 * index, 8)


def _many_sections(elf: Elf, count: int) -> None:
    for _ in range(count):
        elf.section("xdp", EXIT)


def _many_types_of_long_names(elf: Elf, count: int) -> None:
    btf = BtfBuilder()
    start = btf.string("n" * 100_000)
    for index in range(count):
        btf.records += btf.pack("III", start + index, int(Kind.STRUCT) << 24, 0)
    btf.count = count
    elf.section(".BTF", btf.build(), 0)
    elf.section("xdp", EXIT)


def _many_relocations(elf: Elf, count: int) -> None:
    section = elf.section("xdp", call() + EXIT)
    symbol = elf.symbol("main", section, 0, 16)
    for _ in range(count):
        elf.relocate(section, 0, symbol, 10)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fill",
    [
        _many_functions_of_one_name,
        _many_map_sections,
        _many_calls,
        _many_sections,
        _many_types_of_long_names,
        _many_relocations,
    ],
    ids=lambda fill: fill.__name__,
)
def test_work_does_not_grow_with_the_square_of_the_file(fill: Callable[[Elf, int], None]):
    """Files made to be slow: four times the file makes about four times the function calls."""
    small, large = (_calls_of_reading(fill, count) for count in (600, 2400))
    assert large < 7 * small


def _calls_of_reading(fill: Callable[[Elf, int], None], count: int) -> int:
    """How many functions are called, Python's and the interpreter's own, to read a file of that many things."""
    elf, calls = Elf(), 0
    fill(elf, count)
    data = elf.build()

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        obj = load(data)
        for program in obj.programs.values():
            for pc in program.code:
                program.source(pc)
        for id in range(len(obj.btf) if obj.btf else 0):
            format_type(obj.btf, id)
    finally:
        sys.setprofile(None)
    return calls
