import itertools

import pytest

from pybpf import MapSpec, maps
from pybpf.maps import layout
from tests.maps.specs import array_spec, hash_spec

SIZES = [1, 2, 3, 7, 8, 9, 13, 16, 40, 63, 64, 100, 4096]


@pytest.mark.parametrize(("key_size", "value_size"), list(itertools.product(SIZES, SIZES)))
def test_nothing_in_a_hash_block_overlaps(key_size: int, value_size: int) -> None:
    """Groups, keys and values lie apart, aligned and inside the block, whatever the sizes."""
    for max_entries in (1, 12, 13, 1000):
        plan = maps.layout_of(hash_spec(key_size, value_size, max_entries))
        assert isinstance(plan, layout.HashLayout)
        assert plan.places >= max_entries * 1.6
        last_group_ends = plan.group(plan.groups - 1) + layout.GROUP_SIZE
        assert plan.group(0) >= layout.HEADER_SIZE
        assert last_group_ends <= plan.key(0)
        for slot in (0, 1, plan.places - 1):
            assert plan.key(slot) % 8 == plan.value(slot) % 8 == 0
            assert plan.key(slot) + key_size <= plan.value(slot)
            assert plan.value(slot) + value_size <= plan.key(slot + 1)
            assert plan.slot(plan.value(slot)) == slot
        assert plan.key(plan.places) == plan.size


def test_fields_of_header_and_group_do_not_overlap() -> None:
    assert layout.SEED + 4 <= layout.CACHE_LINE <= layout.COUNT < layout.LOCK < layout.HEADER_SIZE
    fields = [
        layout.GROUP_TAGS,
        layout.GROUP_VERSION,
        layout.GROUP_OVERFLOW,
        layout.GROUP_LOCK,
        layout.GROUP_SIZE,
    ]
    sizes = [b - a for a, b in itertools.pairwise(fields)]
    assert sizes[0] == layout.GROUP_SLOTS
    assert all(size >= 4 for size in sizes[1:])


@pytest.mark.parametrize("value_size", SIZES)
def test_array_values_are_aligned_and_apart(value_size: int) -> None:
    plan = maps.layout_of(array_spec(value_size, 5))
    assert plan.values % 8 == plan.stride % 8 == 0
    assert value_size <= plan.stride < value_size + 8
    assert plan.values + 5 * plan.stride == plan.size


@pytest.mark.parametrize("spec", [array_spec(13, 3), hash_spec(5, 13, 3)])
def test_contains_knows_the_bytes_of_values_and_no_others(spec: MapSpec) -> None:
    """Byte by byte over the block: exactly value_size bytes for each place lie within a value."""
    plan = maps.layout_of(spec)
    inside = [offset for offset in range(plan.size) if plan.contains(offset, 1)]
    expected = [plan.values + i * plan.stride + j for i in range(plan.places) for j in range(13)]
    assert inside == expected
    assert plan.contains(plan.values, 13)
    assert not plan.contains(plan.values, 14)
    assert not plan.contains(plan.values + 1, 13)
    assert not plan.contains(plan.values - 1, 1)
    assert not plan.contains(-1, 1)
