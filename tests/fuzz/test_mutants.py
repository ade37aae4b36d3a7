"""Programs with bytes changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.mutants import mutant, real_programs
from pybpf import DecodeError, assemble, encode

PROGRAM = ".type xdp\n.map m array key=4 value=8 entries=1\n r1 = m ll\n r0 = 2\n exit\n"


def test_a_byte_is_changed() -> None:
    """The byte that is named, in the slot modulo the size, and no other."""
    program = assemble(PROGRAM)
    before, after = encode(program.code), encode(mutant(program, [(4 + 2, 4, 9)]).code)
    assert [i for i, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]] == [2 * 8 + 4]
    assert after[20] == 9


def test_what_refers_to_nothing_any_more_is_dropped() -> None:
    """A load of a map that became something else is no reference; what is no program raises."""
    program = assemble(PROGRAM)
    assert mutant(program, [(2, 4, 1)]).references == program.references
    moved = mutant(program, [(0, 0, 0xB7), (0, 1, 0), (1, 0, 0xB7), (0, 4, 0)])
    assert not moved.references
    with pytest.raises(DecodeError):
        mutant(program, [(0, 0, 0x8F)])


def test_real_programs_have_their_types() -> None:
    """The examples' objects: each program with its type as a value, none that is too long or of a type that is not under test."""
    found = list(real_programs(sorted(Path("examples/objects/v3").glob("*.o"))))
    assert found
    assert {program.type.name for program in found if program.type and not isinstance(program.type, str)} <= {
        "filter",
        "xdp",
    }


def test_files_that_are_no_objects_are_left_out(tmp_path: Path) -> None:
    """Nothing is raised for them."""
    path = tmp_path / "no.o"
    path.write_bytes(b"nothing")
    assert not list(real_programs([path]))
