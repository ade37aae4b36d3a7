"""Maps under several threads of machine code at once, with Python reading meanwhile: what must hold at every moment."""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Callable

import numpy as np
import pytest

from pybpf import MapSpec, maps
from pybpf.jit import codegen, map_ir
from pybpf.jit.map_operations import NativeOperations
from pybpf.maps import layout
from tests.jit.ghosts import KEY_SIZE, ghosts
from tests.maps.specs import array_spec, hash_spec

OWNER = """
define i64 @owner(ptr %block, ptr %keys, ptr %present, i64 %count, i64 %steps, i64 %seed) {
entry:
  br label %loop
loop:
  %step = phi i64 [ 0, %entry ], [ %step.next, %next ]
  %wrong = phi i64 [ 0, %entry ], [ %wrong.next, %next ]
  %x0 = phi i64 [ %seed, %entry ], [ %x3, %next ]
  %x0a = shl i64 %x0, 13
  %x1 = xor i64 %x0, %x0a
  %x1a = lshr i64 %x1, 7
  %x2 = xor i64 %x1, %x1a
  %x2a = shl i64 %x2, 17
  %x3 = xor i64 %x2, %x2a
  %high = lshr i64 %x3, 20
  %k = urem i64 %high, %count
  %key.offset = mul i64 %k, 16
  %key = getelementptr i8, ptr %keys, i64 %key.offset
  %mark = getelementptr i8, ptr %present, i64 %k
  %was = load i8, ptr %mark
  %there = icmp ne i8 %was, 0
  %op = and i64 %x3, 3
  switch i64 %op, label %insert [ i64 2, label %delete
                                  i64 3, label %lookup ]
insert:
  %inserted = call i64 @map_update_0(ptr %block, ptr %key, ptr %key, i64 1)
  %ok = icmp eq i64 %inserted, 0
  %exists = icmp eq i64 %inserted, -17
  %full = icmp eq i64 %inserted, -7
  %ok.full = or i1 %ok, %full
  %right.insert = select i1 %there, i1 %exists, i1 %ok.full
  %is = or i1 %there, %ok
  br label %note
delete:
  %deleted = call i64 @map_delete_0(ptr %block, ptr %key)
  %gone = icmp eq i64 %deleted, 0
  %absent = icmp eq i64 %deleted, -2
  %right.delete = select i1 %there, i1 %gone, i1 %absent
  br label %note
note:
  %right.note = phi i1 [ %right.insert, %insert ], [ %right.delete, %delete ]
  %now = phi i1 [ %is, %insert ], [ false, %delete ]
  %now.byte = zext i1 %now to i8
  store i8 %now.byte, ptr %mark
  br label %next
lookup:
  %offset = call i64 @map_lookup_0(ptr %block, ptr %key)
  %hit = icmp ne i64 %offset, 0
  br i1 %hit, label %compare, label %missed
missed:
  %right.missed = xor i1 %there, true
  br label %next
compare:
  %value = getelementptr i8, ptr %block, i64 %offset
  %v = load i128, ptr %value, align 8
  %expected = load i128, ptr %key, align 1
  %same = icmp eq i128 %v, %expected
  %right.compare = and i1 %there, %same
  br label %next
next:
  %right = phi i1 [ %right.note, %note ], [ %right.missed, %missed ], [ %right.compare, %compare ]
  %error = xor i1 %right, true
  %error.wide = zext i1 %error to i64
  %wrong.next = add i64 %wrong, %error.wide
  %step.next = add i64 %step, 1
  %more = icmp ult i64 %step.next, %steps
  br i1 %more, label %loop, label %end
end:
  ret i64 %wrong.next
}
"""
"""A thread with keys that no other thread touches: it knows what every operation must answer, and counts what is otherwise.

Values are equal to their keys. `present` has a byte for each key.
"""

SCRIPT = """
define i64 @turns(ptr %block, ptr %keys, i64 %count, i64 %rounds) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %k = urem i64 %i, %count
  %offset = mul i64 %k, 16
  %key = getelementptr i8, ptr %keys, i64 %offset
  %inserted = call i64 @map_update_0(ptr %block, ptr %key, ptr %key, i64 0)
  %deleted = call i64 @map_delete_0(ptr %block, ptr %key)
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %rounds
  br i1 %more, label %loop, label %end
end:
  ret i64 0
}
define i64 @hits(ptr %block, ptr %keys, i64 %count, i64 %rounds) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %hits = phi i64 [ 0, %entry ], [ %hits.next, %loop ]
  %k = urem i64 %i, %count
  %offset = mul i64 %k, 16
  %key = getelementptr i8, ptr %keys, i64 %offset
  %found = call i64 @map_lookup_0(ptr %block, ptr %key)
  %hit = icmp ne i64 %found, 0
  %one = zext i1 %hit to i64
  %hits.next = add i64 %hits, %one
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %rounds
  br i1 %more, label %loop, label %end
end:
  ret i64 %hits.next
}
"""
"""`turns` inserts and deletes keys in turn; `hits` counts the lookups that find something."""

FILL = """
define i64 @fill(ptr %block, ptr %keys, i64 %count) {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %done = phi i64 [ 0, %entry ], [ %done.next, %loop ]
  %offset = mul i64 %i, 16
  %key = getelementptr i8, ptr %keys, i64 %offset
  %error = call i64 @map_update_0(ptr %block, ptr %key, ptr %key, i64 1)
  %fine = icmp eq i64 %error, 0
  %one = zext i1 %fine to i64
  %done.next = add i64 %done, %one
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %loop, label %end
end:
  ret i64 %done.next
}
"""
"""Inserts all keys: how many were taken."""


def native(spec: MapSpec, text: str, *signatures: tuple[str, int]) -> list[Callable[..., int]]:
    """Functions of a module that holds the map's operations: names and numbers of 64-bit parameters."""
    code = codegen.build(
        map_ir.operations(0, spec) + text, [name for name, _ in signatures], codegen.Level.FULL
    )

    def bound(name: str, parameters: int) -> Callable[..., int]:
        function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_uint64] * parameters)(code.address(name))
        return lambda *arguments: (code, int(function(*arguments)))[1]

    return [bound(name, parameters) for name, parameters in signatures]


def together(*work: Callable[[], object]) -> None:
    """Run each in a thread of its own; the first exception of any is raised."""
    failures: list[BaseException] = []

    def run(one: Callable[[], object]) -> None:
        try:
            barrier.wait()
            one()
        except BaseException as error:
            failures.append(error)

    barrier = threading.Barrier(len(work))
    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def check_table(table: maps.BpfMap) -> None:
    """At rest: count, tags and overflow are those of the keys that are there, and deleting these leaves nothing."""
    plan = table.layout
    assert isinstance(plan, layout.HashLayout)
    groups = [bytes(table.memory[plan.group(g) :][: layout.GROUP_SIZE]) for g in range(plan.groups)]
    live = sum(tag >= layout.FIRST_TAG for group in groups for tag in group[: layout.GROUP_SLOTS])
    busy = sum(tag == layout.BUSY for group in groups for tag in group[: layout.GROUP_SLOTS])
    keys = list(table)
    assert busy == 0
    assert len(keys) == len(set(keys)) == len(table) == live <= table.spec.max_entries
    for key in keys:
        del table[key]
    for g in range(plan.groups):
        group = bytes(table.memory[plan.group(g) :][: layout.GROUP_SIZE])
        assert group[: layout.GROUP_SLOTS] == bytes(layout.GROUP_SLOTS)
        assert group[layout.GROUP_OVERFLOW :] == bytes(layout.GROUP_SIZE - layout.GROUP_OVERFLOW)


@pytest.mark.slow
@pytest.mark.parametrize("max_entries", [10, 37, 300, 5000])
def test_no_operation_of_any_thread_is_lost_or_wrong(max_entries: int) -> None:
    """Four threads insert, delete and look up keys of their own in crowded groups, each checking every answer against
    what it did; Python takes snapshots and reads meanwhile. Permanent keys are always there; no key comes twice; the count never
    passes the limit.
    """
    spec = hash_spec(KEY_SIZE, KEY_SIZE, max_entries)
    table = maps.create(spec, seed=11)
    table.use(NativeOperations(table))
    (owner,) = native(spec, OWNER, ("owner", 6))
    chance = np.random.default_rng(5)
    permanent = [chance.bytes(KEY_SIZE) for _ in range(3)]
    for key in permanent:
        table[key] = key
    per_thread = max(4, max_entries // 3)
    keys = chance.integers(0, 256, (4, per_thread, KEY_SIZE), np.uint8)
    known = {key.tobytes() for key in keys.reshape(-1, KEY_SIZE)} | set(permanent)
    present = np.zeros((4, per_thread), np.uint8)
    wrong = [-1] * 4
    running = threading.Event()
    running.set()

    def work(i: int) -> None:
        try:
            wrong[i] = owner(
                table.address, keys[i].ctypes.data, present[i].ctypes.data, per_thread, 1_000_000, i + 1
            )
        finally:
            running.clear()

    def watch() -> None:
        while running.is_set():
            assert len(table) <= max_entries
            entries = list(table.items())
            found = dict(entries)
            assert len(found) == len(entries), "a key came twice"
            assert set(found) <= known, "a key that nobody inserted"
            assert all(key == value for key, value in entries), "a value of another key"
            assert set(permanent) <= set(found)
            for key in permanent:
                assert table[key] == key

    together(*(lambda i=i: work(i) for i in range(4)), watch)
    assert wrong == [0, 0, 0, 0]
    expected = {
        key.tobytes()
        for key, there in zip(keys.reshape(-1, KEY_SIZE), present.reshape(-1), strict=True)
        if there
    }
    assert set(table) == expected | set(permanent)
    check_table(table)


@pytest.mark.slow
@pytest.mark.parametrize("max_entries", [4, 64, 1000, 20_000])
def test_no_insertion_is_refused_while_there_is_room(max_entries: int) -> None:
    """Four threads insert and delete keys of their own, as many in all as the map may hold: wherever room is set aside, all of it is found."""
    spec = hash_spec(KEY_SIZE, KEY_SIZE, max_entries)
    table = maps.create(spec, seed=12)
    table.use(NativeOperations(table))
    never_full = OWNER.replace("icmp eq i64 %inserted, -7", "icmp eq i64 %inserted, 1")
    assert never_full != OWNER
    (owner,) = native(spec, never_full, ("owner", 6))
    each = max_entries // 4
    keys = np.random.default_rng(13).integers(0, 256, (4, each, KEY_SIZE), np.uint8)
    present = np.zeros((4, each), np.uint8)
    wrong = [-1] * 4

    def work(i: int) -> None:
        wrong[i] = owner(table.address, keys[i].ctypes.data, present[i].ctypes.data, each, 1_000_000, i + 1)

    together(*(lambda i=i: work(i) for i in range(4)))
    assert wrong == [0, 0, 0, 0]
    assert len(table) == present.sum()
    check_table(table)


@pytest.mark.slow
@pytest.mark.parametrize("max_entries", [1, 10, 100, 5000])
def test_as_many_keys_as_allowed_are_taken_and_no_more(max_entries: int) -> None:
    """Four threads fill a map that is too small for the keys of any, again and again with whatever room the last time left aside."""
    spec = hash_spec(KEY_SIZE, KEY_SIZE, max_entries)
    table = maps.create(spec, seed=14)
    table.use(NativeOperations(table))
    (fill,) = native(spec, FILL, ("fill", 3))
    keys = np.random.default_rng(15).integers(0, 256, (4, 2 * max_entries, KEY_SIZE), np.uint8)
    for _ in range(5):
        taken = [0] * 4

        def work(i: int, taken: list[int] = taken) -> None:
            taken[i] = fill(table.address, keys[i].ctypes.data, len(keys[i]))

        together(*(lambda i=i: work(i) for i in range(4)))
        assert sum(taken) == max_entries
        check_table(table)


@pytest.mark.slow
def test_threads_that_fight_for_the_same_keys_make_no_duplicates() -> None:
    """All insert and delete the same few keys: at every moment, and at the end, each is there at most once."""
    spec = hash_spec(KEY_SIZE, KEY_SIZE, 20)
    table = maps.create(spec, seed=2)
    table.use(NativeOperations(table))
    (turns,) = native(spec, SCRIPT, ("turns", 4))
    keys = np.random.default_rng(6).integers(0, 256, (24, KEY_SIZE), np.uint8)

    def work() -> None:
        turns(table.address, keys.ctypes.data, len(keys), 3_000_000)

    def update() -> None:
        for _, key in zip(range(100_000), itertools.cycle(key.tobytes() for key in keys), strict=False):
            table.operations.update(key, key, 0)

    def watch() -> None:
        for _ in range(300):
            seen = list(table)
            assert len(seen) == len(set(seen))

    together(work, work, update, watch)
    check_table(table)


@pytest.mark.slow
def test_a_key_that_is_being_written_is_never_taken_for_another() -> None:
    """A slot changes from A to B and back while others look for keys that are half A, half B and have the same tag: a lookup
    that believed a half-written key would find them.
    """
    spec = hash_spec(KEY_SIZE, KEY_SIZE, 1)
    table = maps.create(spec, seed=3)
    turns, hits = native(spec, SCRIPT, ("turns", 4), ("hits", 4))
    real, unreal = (np.frombuffer(b"".join(keys), np.uint8) for keys in ghosts(3))
    found = []

    def look() -> None:
        found.append(hits(table.address, unreal.ctypes.data, 2, 20_000_000))

    together(lambda: turns(table.address, real.ctypes.data, 2, 20_000_000), look)
    assert found == [0]
    assert hits(table.address, real.ctypes.data, 2, 2) == 0


@pytest.mark.slow
def test_updates_of_greater_array_values_are_whole() -> None:
    """Threads write values of one repeated byte; whatever is read or in a snapshot is one byte repeated."""
    counters = maps.create(array_spec(40, 3))
    counters.use(NativeOperations(counters))

    def write(byte: int) -> None:
        for _ in range(100_000):
            counters.operations.update(bytes(4), bytes([byte]) * 40, 0)

    def read() -> None:
        for _ in range(100_000):
            assert len(set(counters[0])) == 1
        for _ in range(200):
            assert len(set(counters.snapshot()[1][0].tobytes())) == 1

    together(lambda: write(1), lambda: write(2), read)


@pytest.mark.slow
def test_ten_million_operations_do_not_degrade_a_full_table() -> None:
    """Displaced keys, and groups that send a lookup for a missing key on, stay as few as after the first fill, within what a
    table of this load settles at; and when all keys are gone, so is every trace.
    """
    table = maps.create(hash_spec(KEY_SIZE, KEY_SIZE, 1000), seed=4)
    (owner,) = native(table.spec, OWNER, ("owner", 6))
    keys = np.random.default_rng(7).integers(0, 256, (3000, KEY_SIZE), np.uint8)
    present = np.zeros(3000, np.uint8)
    plan = table.layout
    assert isinstance(plan, layout.HashLayout)
    overflows = [plan.group(number) + layout.GROUP_OVERFLOW for number in range(plan.groups)]
    for seed in range(1, 11):
        assert owner(table.address, keys.ctypes.data, present.ctypes.data, 3000, 1_000_000, seed) == 0
        assert len(table) == int(present.sum()) > 980, "full, but for the last deletions"
        assert table.statistics().probes < 1.06
        assert sum(table.memory[offset] > 0 for offset in overflows) < plan.groups / 4
    check_table(table)
