"""Two operations on one hash table in the worst order, every time: the machine code of one is interrupted at a chosen
instruction, and the other runs from start to end in between. Threads meet such moments too rarely to be a test of them.
"""

from __future__ import annotations

import ctypes
import errno
import re
import threading
from collections.abc import Callable

import pytest

from pybpf import maps
from pybpf.jit import codegen, hint_ir, map_ir
from pybpf.jit.map_operations import NativeOperations
from pybpf.maps import HashMap, layout
from tests.jit.ghosts import KEY_SIZE, ghosts
from tests.maps.specs import array_spec, hash_spec

SEED = 3
SPEC = hash_spec(KEY_SIZE, KEY_SIZE, 10)


@pytest.fixture
def table() -> HashMap:
    """A table of one group."""
    result = maps.create(SPEC, seed=SEED)
    assert isinstance(result, HashMap)
    assert result.layout.groups == 1
    return result


class Interrupted:
    """An operation of `table` in machine code that stops at a place, the first time that it comes by, and lets `meanwhile`
    run there. The place is an instruction of one of its functions, named by how it begins.
    """

    def __init__(
        self, table: HashMap, operation: str, place: tuple[str, str], meanwhile: Callable[[], object]
    ) -> None:
        self.times = 0
        self._table = table
        self._failure: BaseException | None = None

        def interrupt() -> None:
            self.times += 1
            if self.times == 1:
                try:
                    meanwhile()
                except BaseException as error:
                    self._failure = error

        self._interrupt = ctypes.CFUNCTYPE(None)(interrupt)
        address = ctypes.cast(self._interrupt, ctypes.c_void_p).value
        before, function, after = _function(map_ir.module(table.spec, operation), place[0])
        assert function.count(place[1]) == 1, "the place to interrupt is not in the code, or not alone"
        text = function.replace(place[1], f"call void inttoptr (i64 {address} to ptr)()\n  {place[1]}")
        self._code = codegen.build(before + text + after, [operation], codegen.Level.FULL)
        parameters = [
            ctypes.c_void_p if kind == "ptr" else ctypes.c_uint64 for kind in map_ir.PARAMETERS[operation]
        ]
        self._function = ctypes.CFUNCTYPE(ctypes.c_int64, *parameters)(self._code.address(operation))

    def __call__(self, *arguments: object) -> int:
        result = int(self._function(self._table.address, *arguments))
        assert self.times, "was never interrupted"
        if self._failure is not None:
            raise self._failure
        return result


def _function(text: str, name: str) -> tuple[str, str, str]:
    """What stands before a function, the function, and what stands after it."""
    found = re.search(rf"^define internal \S+ @{name}_0\(.*?^}}$", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no function {name}"
    return text[: found.start()], found[0], text[found.end() :]


SECOND_HALF = ("map_same", "%d8.s.at = getelementptr")
"""In a lookup: the first eight bytes of a stored key have been compared."""
CLAIM = ("map_put_hashed", "%pair = cmpxchg")
"""In an insertion: a free slot has been seen."""
KEY_WRITTEN = ("map_put_hashed", "%value.at = getelementptr")
"""In an insertion: the key is in its slot, the value is not."""
COPIED_HALF = ("map_spell", "%c8.at = getelementptr")
"""In a snapshot: the first eight bytes of a key have been copied."""


def test_a_key_that_changes_under_a_lookup_is_not_believed(table: HashMap) -> None:
    """A's slot is given to B between the two halves of the comparison: a key made of A's first and B's second half is not found."""
    (a, b), (unreal, _) = ghosts(SEED)
    python = table.operations

    def exchange() -> None:
        assert python.delete(a) == 0
        assert python.update(b, b, 0) == 0
        assert python.lookup(b) == offset

    table[a] = a
    offset = python.lookup(a)
    lookup = Interrupted(table, "lookup", SECOND_HALF, exchange)
    assert lookup(unreal) == 0
    assert lookup.times == 2, "looked again"


def test_a_key_that_was_there_is_found_although_its_group_changes(table: HashMap) -> None:
    """Insertions beside a key make a lookup look again, not miss."""
    a, b = ghosts(SEED)[0]
    table[a] = a
    lookup = Interrupted(table, "lookup", SECOND_HALF, lambda: table.operations.update(b, b, 0))
    assert lookup(a) == table.operations.lookup(a)
    assert lookup.times == 2


def test_a_slot_that_is_deleted_under_a_lookup_was_found_before(table: HashMap) -> None:
    """A lookup during a deletion answers as if it had come first: with an offset in the map."""
    a, _ = ghosts(SEED)[0]
    table[a] = a
    offset = table.operations.lookup(a)
    lookup = Interrupted(table, "lookup", SECOND_HALF, lambda: table.operations.delete(a))
    assert lookup(a) == offset
    assert lookup(a) == 0


def test_a_slot_that_somebody_else_claims_is_left_to_him(table: HashMap) -> None:
    a, b = ghosts(SEED)[0]
    update = Interrupted(table, "update", CLAIM, lambda: table.operations.update(b, b, 0))
    assert update(a, a, 0) == 0
    assert dict(table) == {a: a, b: b}
    assert len(table) == 2


def test_a_slot_that_is_being_filled_is_not_seen(table: HashMap) -> None:
    """Between key and value, and before the tag: the key is absent, its slot is not free, and other keys are where they were."""
    a, b = ghosts(SEED)[0]
    table[b] = b

    def look() -> None:
        assert table.operations.lookup(a) is None
        assert table[b] == b
        assert list(table) == [b]
        tags = bytes(table.memory[table.layout.group(0) :][: layout.GROUP_SLOTS])
        assert tags.count(layout.BUSY) == 1

    update = Interrupted(table, "update", KEY_WRITTEN, look)
    assert update(a, a, 0) == 0
    assert dict(table) == {a: a, b: b}


def test_a_snapshot_reads_a_key_again_that_changed_under_it(table: HashMap) -> None:
    """A's slot is given to B when half of the key has been copied: the copy is thrown away."""
    a, b = ghosts(SEED)[0]
    table[a] = a

    def exchange() -> None:
        del table[a]
        table[b] = b

    keys, values = (ctypes.create_string_buffer(16 * KEY_SIZE) for _ in range(2))
    snapshot = Interrupted(table, "snapshot", COPIED_HALF, exchange)
    assert snapshot(keys, values, 16) == 1
    assert keys.raw[:KEY_SIZE] == values.raw[:KEY_SIZE] == b


def test_a_snapshot_without_room_says_so(table: HashMap) -> None:
    for number in range(10):
        table[number.to_bytes(KEY_SIZE, "little")] = bytes(KEY_SIZE)
    keys, values = (ctypes.create_string_buffer(16 * KEY_SIZE) for _ in range(2))
    snapshot = Interrupted(table, "snapshot", COPIED_HALF, lambda: None)
    assert snapshot(keys, values, 9) == -1
    assert keys.raw[9 * KEY_SIZE :] == bytes(7 * KEY_SIZE), "nothing is written behind the room"
    assert snapshot(keys, values, 10) == 10
    assert len(NativeOperations(table).snapshot()[0]) == 10, "the lock was released"


@pytest.mark.parametrize("operation", ["update", "delete", "read", "snapshot"])
def test_operations_wait_for_the_lock_of_the_home_group(table: HashMap, operation: str) -> None:
    """While the lock is held nothing happens; when it is released the operation is done."""
    key = b"k" * KEY_SIZE
    table[key] = key
    before = bytes(table.memory)
    native = NativeOperations(table)
    arguments = {"update": (key, bytes(KEY_SIZE), 0), "snapshot": ()}.get(operation, (key,))
    getattr(native, operation)(*arguments)  # compile
    table.memory[:] = before
    lock = table.layout.group(0) + layout.GROUP_LOCK
    table.memory[lock] = 1
    done = threading.Event()

    def run() -> None:
        getattr(native, operation)(*arguments)
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    waited = not done.wait(0.05)
    held = bytes(table.memory)
    table.memory[lock] = 0
    thread.join()
    assert waited
    assert held[:lock] + held[lock + 1 :] == before[:lock] + before[lock + 1 :]
    assert done.is_set()
    assert table.memory[lock] == 0


LOOKED_AT = ("map_fetch", "%sum.next = add")
"""In an insertion that finds no room in the count, nor in the spare that it has just looked at."""
SEARCHED = ("map_fetch", "%transfers.now = load")
"""In an insertion that has found no room anywhere, twice: it only asks whether the count is as it was."""


def spare(table: HashMap, number: int, change: int) -> None:
    """What an insertion (-1) or a deletion (1) of another thread does to a spare."""
    at = layout.SPARES + layout.CACHE_LINE * number
    word = int.from_bytes(table.memory[at : at + 8], "little") + (1 << 32) + change
    table.memory[at : at + 8] = word.to_bytes(8, "little")


def full(table: HashMap, *spares: int) -> None:
    """Make a table full, but for room in some spares."""
    table.memory[layout.COUNT] = table.spec.max_entries
    for number in spares:
        spare(table, number, 1)


def test_room_that_moves_while_it_is_looked_for_is_found(table: HashMap) -> None:
    """All the time there is room for one key. It goes from a spare that comes last to the first, which has been looked at: another thread inserts and deletes."""
    key = b"k" * KEY_SIZE
    last = (
        layout.SPARES_COUNT - 1 - (_own(table) == layout.SPARES_COUNT - 1)
    )  # not the one that this thread takes from at once
    full(table, last)

    def move() -> None:
        spare(table, last, -1)
        spare(table, 0, 1)

    update = Interrupted(table, "update", LOOKED_AT, move)
    assert update(key, key, 0) == 0
    assert len(table) == table.spec.max_entries


def _own(table: HashMap) -> int:
    """The spare that this thread goes by: where a deletion leaves its room."""
    other = maps.create(table.spec, seed=SEED)
    native = NativeOperations(other)
    assert native.update(b"o" * KEY_SIZE, bytes(KEY_SIZE), 0) == 0
    assert native.delete(b"o" * KEY_SIZE) == 0
    words = range(layout.SPARES, layout.SPARES_END, layout.CACHE_LINE)
    (mine,) = (number for number, at in enumerate(words) if other.memory[at])
    return mine


def test_room_that_goes_back_while_it_is_looked_for_is_found(table: HashMap) -> None:
    """The spares have none, but while they are looked at another thread moves room to the count."""
    key = b"k" * KEY_SIZE
    full(table)

    def move() -> None:
        table.memory[layout.COUNT] -= 1
        table.memory[layout.TRANSFERS] += 2

    assert Interrupted(table, "update", SEARCHED, move)(key, key, 0) == 0
    full(table)
    update = Interrupted(table, "update", SEARCHED, lambda: None)
    assert update(b"o" * KEY_SIZE, key, 0) == -errno.E2BIG
    assert update.times == 1, "nothing has changed"


def test_room_that_is_being_moved_is_waited_for_unless_there_is_other(table: HashMap) -> None:
    """An insertion waits for a transfer where it has nothing to take from itself, and deletions never do."""
    first, second = b"k" * KEY_SIZE, b"l" * KEY_SIZE
    native = NativeOperations(table)
    assert native.update(first, first, 0) == 0
    assert native.delete(first) == 0
    table.memory[layout.TRANSFERS] += 1
    assert native.update(first, first, 0) == 0, "with the room that the deletion has left"
    done = threading.Event()

    def run() -> None:
        native.update(second, second, 0)
        done.set()

    thread = threading.Thread(target=run)
    thread.start()
    waited = not done.wait(0.05)
    table.memory[layout.TRANSFERS] += 1
    thread.join()
    assert waited
    table.memory[layout.TRANSFERS] += 1
    for key in (first, second):
        assert native.delete(key) == 0
    table.memory[layout.TRANSFERS] += 1
    assert len(table) == 0


def test_a_spare_keeps_little(table: HashMap) -> None:
    """One thread fills and empties a table: nearly all room is in the count again."""
    spec = hash_spec(KEY_SIZE, KEY_SIZE, 10_000)
    table = maps.create(spec, seed=SEED)
    assert isinstance(table, HashMap)
    native = NativeOperations(table)
    keys = [number.to_bytes(KEY_SIZE, "little") for number in range(200)]
    for key in keys:
        assert native.update(key, key, 0) == 0
    assert len(table) == 200
    for key in keys:
        assert native.delete(key) == 0
    count = int.from_bytes(table.memory[layout.COUNT : layout.COUNT + 4], "little")
    assert len(table) == 0 <= count <= 2 * layout.LARGEST_TRANSFER


@pytest.mark.parametrize("operation", ["update", "read"])
def test_greater_values_of_arrays_are_written_and_copied_under_a_lock(operation: str) -> None:
    """A value of several chunks waits for the lock; one of a single chunk needs none, nor does a lookup."""
    for value_size, locked in ((40, True), (3, True), (8, False)):
        counters = maps.create(array_spec(value_size, 2))
        native = NativeOperations(counters)
        arguments = (bytes(4), b"x" * value_size, 0) if operation == "update" else (bytes(4),)
        getattr(native, operation)(*arguments)  # compile
        counters.memory[layout.LOCK] = 1
        done = threading.Event()

        def run(
            native: NativeOperations = native,
            arguments: tuple[object, ...] = arguments,
            done: threading.Event = done,
        ) -> None:
            getattr(native, operation)(*arguments)
            done.set()

        thread = threading.Thread(target=run)
        thread.start()
        assert native.lookup(bytes(4)) == layout.HEADER_SIZE
        assert done.wait(0.05 if locked else 10) != locked
        counters.memory[layout.LOCK] = 0
        thread.join()
        assert counters.memory[layout.LOCK] == 0


@pytest.mark.parametrize(
    "name",
    [
        "find",
        "matches",
        "put_hashed",
        "pass",
        "remove_hashed",
        "snapshot",
        "acquire",
        "release",
        "reserve",
        "fetch",
        "leave",
        "give",
    ],
)
def test_what_threads_share_is_only_touched_by_atomic_instructions(name: str) -> None:
    """The functions that read and write tags, versions, counts and locks do it by no plain load or store."""
    _, function, _ = _function(map_ir.module(SPEC, "snapshot"), f"map_{name}")
    accesses = re.findall(r"^.*\b(?:load|store|cmpxchg|atomicrmw)\b.*$", function, re.MULTILINE)
    assert accesses
    assert [line for line in accesses if not re.search(r"\b(atomic|cmpxchg|atomicrmw)\b", line)] == []


@pytest.mark.parametrize("name", ["found", "ahead"])
def test_what_is_looked_at_ahead_is_only_read_by_atomic_instructions(name: str) -> None:
    """The rows of hints are the thread's own; groups and slots are not."""
    made = layout.HashLayout.of(SPEC)
    _, function, _ = _function(hint_ir.operations(0, made), f"map_{name}")
    accesses = re.findall(r"^.*\b(?:load|store|cmpxchg|atomicrmw)\b.*$", function, re.MULTILINE)
    own = re.compile(r"ptr %(slot|hash|word\d+|row\d+|[jk]\.hash|k\.slot)\.at|invariant.load")
    assert [line for line in accesses if not own.search(line) and " atomic " not in line] == []
    assert any("atomic" in line for line in accesses) == (name == "found")


def test_a_lookup_waits_for_nobody(table: HashMap) -> None:
    key = b"k" * KEY_SIZE
    table[key] = key
    table.memory[table.layout.group(0) + layout.GROUP_LOCK] = 1
    assert NativeOperations(table).lookup(key) == table.operations.lookup(key)
