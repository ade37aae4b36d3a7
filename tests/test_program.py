"""Programs, maps and objects as values."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from pybpf import (
    ArgumentError,
    DecodeError,
    MapSpec,
    Object,
    Program,
    Reference,
    RefKind,
    SourceLine,
    assemble,
    decode,
    encode,
)

FLOWS = MapSpec("flows", "hash", key_size=4, value_size=8, max_entries=16)
COUNTERS = MapSpec("counters", "array", key_size=4, value_size=8, max_entries=2)

CODE = encode(
    assemble("""
        r1 = map_by_fd(0) ll
        r2 = map_value_by_fd(7) + 4 ll
        r3 = map_by_idx(3) ll
        r0 = 0 ll
        exit
    """).code
)


def test_from_bytes_takes_maps_by_the_slot_of_their_load():
    """Any number and any form; equal definitions are one map, in order of first use."""
    program = Program.from_bytes(
        CODE, "xdp", maps={4: FLOWS, 2: COUNTERS, 0: FLOWS, 6: COUNTERS}, name="mine"
    )
    assert program.maps == (FLOWS, COUNTERS)
    assert program.references == {
        0: Reference(RefKind.MAP, "flows"),
        2: Reference(RefKind.VALUE, "counters", 4),
        4: Reference(RefKind.MAP, "flows"),
        6: Reference(RefKind.MAP, "counters"),
    }
    assert program.code == decode(CODE)
    assert (program.name, program.type, program.size) == ("mine", "xdp", 9)
    assert [program.map_number(name) for name in ("flows", "counters")] == [0, 1]


def test_from_bytes_without_maps():
    program = Program.from_bytes(CODE)
    assert (program.name, program.type, program.maps, program.references) == ("program", None, (), {})


@pytest.mark.parametrize("pc", [1, 8, 9, -1])
def test_from_bytes_refuses_a_map_where_no_wide_load_stands(pc: int):
    with pytest.raises(ArgumentError, match=f"maps names pc {pc}, where no wide load stands"):
        Program.from_bytes(CODE, maps={pc: FLOWS})


def test_from_bytes_refuses_two_maps_of_one_name():
    with pytest.raises(ArgumentError, match="two different maps are called 'flows'"):
        Program.from_bytes(CODE, maps={0: FLOWS, 2: replace(FLOWS, max_entries=1)})


def test_from_bytes_refuses_what_is_no_program():
    with pytest.raises(DecodeError, match="pc 9: unknown opcode 0xff"):
        Program.from_bytes(CODE + b"\xff" * 8)


def test_from_asm_is_the_assembler():
    text = "r1 = flows ll\n exit"
    program = Program.from_asm(text, "filter", maps={"flows": FLOWS}, name="mine")
    assert program == assemble(text, type="filter", maps={"flows": FLOWS}, name="mine")
    assert program.maps == (FLOWS,)


def test_a_map_that_is_not_used_has_no_number():
    with pytest.raises(ArgumentError, match="program 'program' uses no map 'flows'"):
        assemble("exit").map_number("flows")


def test_programs_are_frozen_values():
    """Neither the program nor its mappings can change, nor by the mapping that it was made from."""
    code = dict(decode(CODE))
    program = Program("mine", code)
    del code[8]
    assert program == Program("mine", decode(CODE))
    with pytest.raises(FrozenInstanceError):
        program.name = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        program.code[0] = program.code[8]  # type: ignore[index]


def test_a_source_line_holds_until_the_next():
    first, second = SourceLine("a.c", 1), SourceLine("a.c", 2, 5, "return 0;")
    program = replace(Program.from_bytes(CODE), lines={2: first, 6: second})
    assert [program.source(pc) for pc in (0, 1, 2, 4, 6, 8)] == [None, None, first, first, second, second]


def test_an_object_holds_its_mappings_frozen():
    object = Object({"mine": Program.from_bytes(CODE)}, {"flows": FLOWS})
    with pytest.raises(TypeError):
        object.maps["counters"] = COUNTERS  # type: ignore[index]
    assert (object.byteorder, object.license, object.notes) == ("little", "", ())
