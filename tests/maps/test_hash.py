import errno
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybpf import ArgumentError, MapError, MapSpec, UnsupportedError, maps
from pybpf.lookup3 import hashlittle
from pybpf.maps import BPF_ANY, BPF_EXIST, BPF_NOEXIST, BpfMap
from tests.maps.model import HashModel
from tests.maps.specs import hash_spec

STEP = st.tuples(
    st.sampled_from(["read", "update", "update", "delete"]),
    st.integers(0, 40),
    st.integers(0, 255),
    st.sampled_from([0, 0, 0, 1, 2, 3, 1 << 63]),
)


def key_of(number: int, size: int) -> bytes:
    """Distinct keys that differ in few bits, in any place."""
    return bytes([number] * min(size, 2)).ljust(size, b"k")


@given(
    st.lists(STEP, max_size=150),
    st.integers(1, 70),
    st.integers(1, 20),
    st.integers(1, 30),
    st.integers(0, 9),
)
def test_operations_are_those_of_linux(
    steps: list[tuple[str, int, int, int]], key_size: int, value_size: int, max_entries: int, seed: int
) -> None:
    """Any sequence of operations gives what the model gives, and leaves the same contents and count."""
    table = maps.create(hash_spec(key_size, value_size, max_entries), seed=seed)
    operations, model = table.operations, HashModel(max_entries)
    for name, number, fill, flags in steps:
        key, value = key_of(number, key_size), bytes([fill]) * value_size
        match name:
            case "read":
                assert operations.read(key) == model.read(key)
            case "update":
                assert operations.update(key, value, flags) == model.update(key, value, flags)
            case "delete":
                assert operations.delete(key) == model.delete(key)
    assert len(table) == len(model.entries)
    assert dict(table.items()) == model.entries


def test_values_never_move_and_change_in_place() -> None:
    table = maps.create(hash_spec(4, 8, 100))
    table[b"kept"] = b"12345678"
    offset = table.operations.lookup(b"kept")
    assert offset
    for number in range(99):
        table[number.to_bytes(4, "little")] = bytes(8)
    table[b"kept"] = b"abcdefgh"
    assert table.operations.lookup(b"kept") == offset
    assert bytes(table.memory[offset : offset + 8]) == b"abcdefgh"
    table.memory[offset] = ord("X")
    assert table[b"kept"] == b"Xbcdefgh"


def test_a_full_map_takes_updates_and_no_new_key() -> None:
    for max_entries in (1, 11, 12, 13, 500):
        table = maps.create(hash_spec(4, 8, max_entries))
        for number in range(max_entries):
            table[number.to_bytes(4, "little")] = bytes(8)
        with pytest.raises(MapError, match=f"full: all {max_entries} entries are in use") as caught:
            table[b"more"] = bytes(8)
        assert caught.value.errno == errno.E2BIG
        table[bytes(4)] = b"replaced"
        del table[bytes(4)]
        table[b"more"] = bytes(8)
        assert len(table) == max_entries


def test_update_flags() -> None:
    operations = maps.create(hash_spec(4, 1, 1)).operations
    assert operations.update(b"keyA", b"1", BPF_EXIST) == -errno.ENOENT
    assert operations.update(b"keyA", b"1", BPF_NOEXIST) == 0
    assert operations.update(b"keyA", b"2", BPF_NOEXIST) == -errno.EEXIST
    assert operations.update(b"keyA", b"3", BPF_EXIST) == 0
    assert (
        operations.update(b"keyB", b"4", BPF_EXIST) == -errno.ENOENT
    )  # full, and said to exist: Linux's order
    assert operations.update(b"keyB", b"4", BPF_ANY) == -errno.E2BIG
    assert operations.update(b"keyA", b"5", 3) == -errno.EINVAL
    assert operations.read(b"keyA") == b"3"


def colliding(count: int, seed: int, groups: int) -> list[bytes]:
    """Keys that all want group 0."""
    found: list[bytes] = []
    number = 0
    while len(found) < count:
        key = number.to_bytes(4, "little")
        if hashlittle(key, seed) * groups >> 32 == 0:
            found.append(key)
        number += 1
    return found


def test_keys_that_all_want_one_group_are_found_and_leave_no_trace() -> None:
    """Overflow over several groups, deletion in any order: afterwards only the version counters differ from a new map."""
    spec = hash_spec(4, 8, 120)
    table = maps.create(spec, seed=1)
    assert isinstance(table, maps.HashMap)
    keys = colliding(100, 1, table.layout.groups)
    for key in keys:
        table[key] = key * 2
    assert table.statistics().probes > 3
    assert all(table[key] == key * 2 for key in keys)
    random.Random(1).shuffle(keys)
    for key in keys:
        del table[key]
        assert key not in table
    assert len(table) == 0
    for group in range(table.layout.groups):
        at = table.layout.group(group)
        assert bytes(table.memory[at : at + 16]) == bytes(16)
        assert bytes(table.memory[at + 20 : at + 32]) == bytes(12)


def test_a_table_whose_every_group_overflowed_still_ends_a_lookup() -> None:
    """Two groups that send keys to each other: a missing key is missing, not an endless search."""
    table = maps.create(hash_spec(4, 8, 20), seed=1)
    assert isinstance(table, maps.HashMap)
    first = colliding(17, 1, 2)
    for key in first:
        table[key] = bytes(8)
    number = 0
    while len(table) < 20 or table.memory[table.layout.group(1) + 20] == 0:
        key = (1 << 31 | number).to_bytes(4, "little")
        number += 1
        if hashlittle(key, 1) * 2 >> 32 == 1:
            if len(table) == 20:
                del table[first.pop(0)]
            table[key] = bytes(8)
    assert table.memory[table.layout.group(0) + 20]
    assert b"none" not in table


@pytest.mark.slow
def test_churn_does_not_degrade_a_full_table() -> None:
    """Insert and delete for many lifetimes of the table: probes stay where a fresh table of the same keys has them."""
    size = 600
    table = maps.create(hash_spec(4, 8, size), seed=7)
    chance = random.Random(7)
    live = [number.to_bytes(4, "little") for number in range(size)]
    for key in live:
        table[key] = bytes(8)
    for number in range(size, 60 * size):
        victim = chance.randrange(size)
        del table[live[victim]]
        live[victim] = number.to_bytes(4, "little")
        table[live[victim]] = bytes(8)
    assert len(table) == size
    assert set(table) == set(live)
    fresh = maps.create(hash_spec(4, 8, size), seed=7)
    for key in live:
        fresh[key] = bytes(8)
    assert table.statistics().probes < fresh.statistics().probes + 0.2
    for key in live:
        del table[key]
    assert table.statistics().probes == 1.0


def test_a_seed_makes_maps_repeat_and_none_makes_them_differ() -> None:
    def contents(map: BpfMap) -> bytes:
        for number in range(64):
            map[number.to_bytes(4, "little")] = bytes(8)
        return b"".join(map)

    spec = hash_spec(4, 8, 64)
    assert contents(maps.create(spec, seed=5)) == contents(maps.create(spec, seed=5))
    assert contents(maps.create(spec, seed=5)) != contents(maps.create(spec, seed=6))
    assert len({contents(maps.create(spec)) for _ in range(4)}) == 4
    zero = hash_spec(4, 8, 64, flags=1 << 6)
    assert contents(maps.create(zero)) == contents(maps.create(spec, seed=0))
    with pytest.raises(ArgumentError, match="seed -1"):
        maps.create(spec, seed=-1)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4096), st.integers(1, 4096))
def test_any_size_of_keys_and_values(key_size: int, value_size: int) -> None:
    """Keys that differ only in the last byte are apart; values are whole."""
    table = maps.create(hash_spec(key_size, value_size, 3))
    one, two = b"\1".rjust(key_size, b"k"), b"\2".rjust(key_size, b"k")
    table[one], table[two] = b"1" * value_size, b"2" * value_size
    assert dict(table.items()) == {one: b"1" * value_size, two: b"2" * value_size}


def test_snapshot_gives_arrays_of_both() -> None:
    table = maps.create(hash_spec(8, 4, 50))
    for number in range(50):
        table[number.to_bytes(8, "little")] = (number * number).to_bytes(4, "little")
    keys, values = table.snapshot()
    assert keys.dtype == "<u8"
    assert values.dtype == "<u4"
    assert sorted(keys.tolist()) == list(range(50))
    assert (keys**2 == values).all()
    pairs, _ = table.snapshot(key="<u4,<u4")
    assert sorted(pairs["f0"].tolist()) == list(range(50))
    with pytest.raises(MapError, match="type hash has no array of its values: take a snapshot"):
        table.array  # noqa: B018
    empty = maps.create(hash_spec(13, 5, 50)).snapshot()
    assert [array.shape for array in empty] == [(0,), (0,)]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (hash_spec(key_size=0), "key_size is 0"),
        (hash_spec(value_size=0), "value_size is 0"),
        (hash_spec(max_entries=0), "max_entries is 0"),
        (hash_spec(flags=1 << 20), "flags 0x100000 are not known for type hash"),
    ],
)
def test_specs_that_are_no_hash_table_are_refused(spec: MapSpec, reason: str) -> None:
    with pytest.raises(MapError, match=f"^map 'flows': {reason}"):
        maps.create(spec)


def test_unknown_types_are_unsupported() -> None:
    with pytest.raises(UnsupportedError, match=r"^map 'm': maps of type 'lru_hash' cannot be made$"):
        maps.create(MapSpec("m", "lru_hash", 4, 4, 4))
