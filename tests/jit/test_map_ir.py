"""The machine code of map operations against the same operations in Python, on the same block."""

import ctypes
import errno
import gc
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pybpf import MapSpec, maps
from pybpf.jit import codegen, map_ir
from pybpf.jit.map_operations import NativeOperations
from pybpf.lookup3 import hashlittle
from pybpf.maps.layout import HashLayout
from tests.maps.specs import array_spec, hash_spec

SHAPES = [
    *(
        hash_spec(key, value, entries)
        for key, value, entries in [(1, 1, 3), (4, 8, 40), (13, 8, 25), (64, 64, 13)]
    ),
    *(hash_spec(key, value, 14) for key, value in [(65, 65), (200, 1), (4096, 4096)]),
    array_spec(8, 5),
    array_spec(1, 5, 8),
    array_spec(13, 5),
    array_spec(200, 5, 8),
    array_spec(5, 1, initial=b"hello", read_only=True),
]
NAMES = [f"{spec.type}-{spec.key_size}-{spec.value_size}-{spec.max_entries}" for spec in SHAPES]

STEP = st.tuples(
    st.sampled_from(["lookup", "read", "update", "update", "delete"]),
    st.integers(0, 60),
    st.integers(0, 255),
    st.sampled_from([0, 0, 0, 1, 2, 3, 1 << 63]),
    st.booleans(),
)


def key_of(spec: MapSpec, number: int) -> bytes:
    """Distinct keys: an array's index, or bytes that differ at the front and, if there are two, at the end."""
    if spec.type == "array":
        return number.to_bytes(spec.key_size, "little")
    return (bytes([number]).ljust(spec.key_size - 1, b"k") + bytes([number]))[: spec.key_size]


def inside(map: maps.BpfMap) -> bytes:
    """All but the counts at the beginning of a table."""
    plan = map.layout
    return bytes(map.memory[plan.first_group if isinstance(plan, HashLayout) else 0 :])


@pytest.mark.slow
@pytest.mark.parametrize("spec", SHAPES, ids=NAMES)
@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEP, max_size=120), seed=st.integers(0, 3))
def test_python_and_native_code_are_one(
    spec: MapSpec, steps: list[tuple[str, int, int, int, bool]], seed: int
) -> None:
    """Any sequence of operations, each by either implementation, on one map, and all by Python on another: the same results,
    and the same bytes in both blocks, the table's inner workings included (but not where room is set aside: Python sets none aside).
    """
    mixed, reference = maps.create(spec, seed=seed), maps.create(spec, seed=seed)
    python, native = mixed.operations, NativeOperations(mixed)
    for name, number, fill, flags, natively in steps:
        operations = native if natively else python
        key = key_of(spec, number)
        arguments = (key, bytes([fill]) * spec.value_size, flags) if name == "update" else (key,)
        result = getattr(operations, name)(*arguments)
        assert result == getattr(reference.operations, name)(*arguments)
    assert inside(mixed) == inside(reference)
    assert len(mixed) == len(reference)
    before = bytes(mixed.memory)

    def entries(operations: maps.Operations) -> dict[bytes, bytes]:
        keys, values = operations.snapshot()
        pairs = [(k.tobytes(), v.tobytes()) for k, v in zip(keys, values, strict=True)]
        assert len(pairs) == len(dict(pairs)), "a key came twice"
        return dict(pairs)

    assert entries(native) == entries(python)
    assert bytes(mixed.memory) == before, "a snapshot leaves no trace"


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(key_size=st.integers(1, 4096), value_size=st.integers(1, 4096))
@example(key_size=1, value_size=4096)
@example(key_size=4096, value_size=1)
def test_any_size_of_keys_and_values(key_size: int, value_size: int) -> None:
    """A full map of keys that differ in one bit, the first or the last: inserted, found, updated, and deleted by one implementation while the other looks on."""
    spec = hash_spec(key_size, value_size, 3)
    keys = [number.to_bytes(key_size, "little") for number in (0, 1, 1 << 8 * key_size - 1)]
    for swapped in (False, True):
        table = maps.create(spec)
        writer, reader = table.operations, NativeOperations(table)
        if swapped:
            writer, reader = reader, writer
        for fill in (1, 2):
            for number, key in enumerate(keys):
                assert writer.update(key, bytes([fill + number]) * value_size, 0) == 0
            for number, key in enumerate(keys):
                assert reader.read(key) == bytes([fill + number]) * value_size
                assert reader.lookup(key) == writer.lookup(key) != 0
        assert writer.update(b"\2".ljust(key_size, b"\0"), bytes(value_size), 0) == -errno.E2BIG
        for number, key in enumerate(keys):
            assert writer.delete(key) == 0
            assert writer.delete(key) == -errno.ENOENT
            assert reader.read(key) is None
            assert len(table) == len(keys) - number - 1


def colliding(count: int, seed: int, groups: int) -> list[bytes]:
    """Keys of four bytes that all want group 0."""
    keys = (number.to_bytes(4, "little") for number in itertools.count())
    wanted = (key for key in keys if hashlittle(key, seed) * groups >> 32 == 0)
    return list(itertools.islice(wanted, count))


@pytest.mark.slow
@given(steps=st.lists(STEP, min_size=60, max_size=300))
@settings(max_examples=60, deadline=None)
def test_crowded_groups_are_the_same_to_both(steps: list[tuple[str, int, int, int, bool]]) -> None:
    """The same with keys that all want one group of three, so that most of them are somewhere else."""
    spec = hash_spec(4, 8, 30)
    keys = CROWD
    mixed, reference = maps.create(spec, seed=1), maps.create(spec, seed=1)
    python, native = mixed.operations, NativeOperations(mixed)
    for name, number, fill, flags, natively in steps:
        arguments = (keys[number], bytes([fill]) * 8, flags) if name == "update" else (keys[number],)
        result = getattr(native if natively else python, name)(*arguments)
        assert result == getattr(reference.operations, name)(*arguments)
    assert inside(mixed) == inside(reference)
    assert len(mixed) == len(reference)


CROWD = colliding(61, 1, 3)

BULK = """
define i64 @bulk(ptr %block, ptr %keys, i64 %count, i64 %insert) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %join ]
  %done = phi i64 [ 0, %entry ], [ %done.next, %join ]
  %distance = mul i64 %i, 4
  %key = getelementptr i8, ptr %keys, i64 %distance
  %inserting = icmp ne i64 %insert, 0
  br i1 %inserting, label %put, label %get
put:
  %error = call i64 @map_update_0(ptr %block, ptr %key, ptr %key, i64 1)
  %fine = icmp eq i64 %error, 0
  br label %join
get:
  %offset = call i64 @map_lookup_0(ptr %block, ptr %key)
  %found = icmp ne i64 %offset, 0
  br label %join
join:
  %good = phi i1 [ %fine, %put ], [ %found, %get ]
  %one = zext i1 %good to i64
  %done.next = add i64 %done, %one
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %loop, label %end
end:
  ret i64 %done.next
}
"""


@pytest.mark.slow
def test_ten_million_entries() -> None:
    """All are inserted and found, the next one is refused, keys that were never inserted are not found, a snapshot has all; the memory is given back with the map."""
    if os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 2 << 30:
        pytest.skip("needs 2 GiB of free memory")
    count = 10_000_000
    spec = hash_spec(4, 4, count)
    table = maps.create(spec)
    code = codegen.build(map_ir.operations(0, spec) + BULK, ["bulk"], codegen.Level.FULL)
    bulk = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_uint64] * 4)(code.address("bulk"))
    keys = np.arange(2 * count, dtype="<u4") * np.uint32(2654435761)
    assert bulk(table.address, keys.ctypes.data, count + 1, 1) == count == len(table)
    assert bulk(table.address, keys.ctypes.data, count, 0) == count
    assert bulk(table.address, keys[count:].ctypes.data, count, 0) == 0
    table.use(NativeOperations(table))
    found, values = table.snapshot()
    assert (found == values).all()
    assert np.array_equal(np.sort(found), np.sort(keys[:count]))
    assert table.statistics().probes < 1.1
    held, block = _resident(), len(table.memory)
    del table, found, values
    assert _resident() < held - 0.9 * block


def _resident() -> int:
    """Bytes of this process that are in memory, once nothing waits to be collected."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
