"""The addresses of pybpf's machine."""

from __future__ import annotations

from pybpf import memory


def test_regions_do_not_overlap():
    """Every region that a program can hold an address of has a tag of its own, and null has none."""
    places = {
        "null": 0,
        "stack": memory.STACK,
        "packet": memory.PACKET,
        "context": memory.CONTEXT,
        "code": memory.function_address(0),
        "first map": memory.map_address(0),
        "second map": memory.map_address(1),
    }
    tags = {name: address >> memory.TAG_SHIFT for name, address in places.items()}
    assert len(set(tags.values())) == len(places)
    assert tags["null"] == 0


def test_all_frames_lie_in_the_stack_region():
    lowest = memory.STACK_TOP - memory.MAX_FRAMES * memory.STACK_SIZE
    assert lowest == memory.STACK
    assert (memory.STACK_TOP - 1) >> memory.TAG_SHIFT == memory.STACK >> memory.TAG_SHIFT


def test_packet_has_room_before_and_behind():
    """Headroom for an adjusted packet lies below the first byte, in the same region, as do 2**39 bytes behind it."""
    tag = memory.PACKET >> memory.TAG_SHIFT
    assert tag == (memory.PACKET - 4096) >> memory.TAG_SHIFT
    assert tag == (memory.PACKET + 2**39) >> memory.TAG_SHIFT


def test_map_index_inverts_map_address():
    for number in (0, 1, 63, 4095):
        base = memory.map_address(number)
        assert memory.map_index(base) == number
        assert memory.map_index(base + (1 << memory.TAG_SHIFT) - 1) == number
        assert base < 1 << 64


def test_map_index_of_other_regions_is_none():
    for address in (0, 1, memory.STACK, memory.PACKET, memory.CONTEXT, memory.CODE):
        assert memory.map_index(address) is None


def test_pointers_are_aligned():
    """What is aligned relative to a region's start is aligned as an address: atomic accesses rely on it."""
    for address in (memory.STACK_TOP, memory.PACKET, memory.CONTEXT, memory.map_address(3)):
        assert address % 4096 == 0
