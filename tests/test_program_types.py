"""Program types: the tables agree with themselves, with Linux and with Oko."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from pybpf import ArgumentError, program_types
from pybpf.program_types import (
    BY_NAME,
    FILTER,
    LINUX_MAPS,
    MEMORY,
    OKO_MAPS,
    XDP,
    XDP_MD,
    Context,
    Entry,
    Field,
    FieldKind,
    ProgramType,
    from_section,
)

TYPES = pytest.mark.parametrize("type", BY_NAME.values(), ids=BY_NAME)


def test_a_type_is_found_by_name_or_is_itself():
    assert program_types.get("filter") is FILTER
    own = replace(XDP, name="mine")
    assert program_types.get(own) is own
    with pytest.raises(ArgumentError, match="unknown program type 'mine': known are filter, xdp, memory"):
        program_types.get("mine")


@TYPES
def test_tables_are_whole(type: ProgramType):
    """A context exactly where a register holds one; fields inside it, in order, without overlap; helpers by number."""
    assert (type.context is not None) == (Entry.CONTEXT in type.entry)
    assert all(number > 0 for number in type.helpers)
    assert type.now() > 0
    if type.context is not None:
        end = 0
        for field in type.context.fields:
            assert field.offset >= end
            end = field.offset + field.size
        assert end <= type.context.size


def test_no_two_types_claim_a_section():
    sections = [section for type in BY_NAME.values() for section in type.sections]
    assert len(sections) == len(set(sections))


@pytest.mark.parametrize(
    ("section", "type"),
    [("xdp", XDP), ("xdp/firewall", XDP), ("xdp.frags/x/y", XDP), ("filter", FILTER), ("memory", MEMORY)],
)
def test_section_names_stand_for_types(section: str, type: ProgramType):
    assert from_section(section) is type


@pytest.mark.parametrize("section", ["", ".text", "xdpfirewall", "/xdp", "kprobe/x"])
def test_other_section_names_stand_for_none(section: str):
    assert from_section(section) is None


def test_verdicts_have_names():
    assert [XDP.verdict(n) for n in range(6)] == ["ABORTED", "DROP", "PASS", "TX", "REDIRECT", "5"]
    assert [FILTER.verdict(n) for n in (0, 1, 2)] == ["no match", "match", "no match"]
    assert MEMORY.verdict(1) == "1"


def test_xdp_md_is_that_of_linux():
    """include/uapi/linux/bpf.h, struct xdp_md: six fields of 32 bits, the first three packet pointers."""
    kinds = [FieldKind.PACKET, FieldKind.PACKET_END, FieldKind.PACKET_META] + [FieldKind.SCALAR] * 3
    assert [(field.offset, field.size, field.kind) for field in XDP_MD.fields] == [
        (4 * n, 4, kind) for n, kind in enumerate(kinds)
    ]
    assert not any(field.writable for field in XDP_MD.fields)


def test_pointer_fields_are_read_whole_and_scalars_in_part():
    pointer, number = Field("data", 0, 4, FieldKind.PACKET), Field("mark", 4, 4)
    context = Context("mine", 16, (pointer, number))
    assert context.field_at(0, 4) is pointer
    assert context.field_at(4, 4) is context.field_at(6, 2) is context.field_at(7, 1) is number
    for offset, size in ((0, 2), (2, 2), (0, 8), (6, 4), (8, 4), (-1, 1), (16, 1)):
        assert context.field_at(offset, size) is None


def test_map_numbers_are_those_of_linux_and_oko():
    """Array and hash trade places."""
    assert (LINUX_MAPS[1], LINUX_MAPS[2], LINUX_MAPS[11], LINUX_MAPS[27]) == (
        "hash",
        "array",
        "lpm_trie",
        "ringbuf",
    )
    assert (OKO_MAPS[1], OKO_MAPS[4]) == ("array", "hash")


def test_a_clock_has_a_name():
    assert FILTER.now is time.time_ns
    assert XDP.now is time.monotonic_ns
    with pytest.raises(ArgumentError, match="unknown clock 'sun': known are monotonic, realtime"):
        _ = replace(XDP, clock="sun").now
