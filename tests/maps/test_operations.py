from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from pybpf import maps
from pybpf.maps.operations import Operations, Reference
from tests.maps.specs import hash_spec

if TYPE_CHECKING:
    from pybpf.maps.operations import Bytes


class Recorder:
    """Operations that do nothing but write down what they were asked."""

    key_size = 4
    value_size = 8

    def __init__(self) -> None:
        self.calls: list[str] = []

    def lookup(self, key: bytes) -> int | None:
        self.calls.append("lookup")
        return 128

    def read(self, key: bytes) -> bytes | None:
        self.calls.append("read")
        return bytes(8)

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        self.calls.append("update")
        return 0

    def delete(self, key: bytes) -> int:
        self.calls.append("delete")
        return 0

    def snapshot(self) -> tuple[Bytes, Bytes]:
        self.calls.append("snapshot")
        raise NotImplementedError


def test_use_hands_everything_over_and_old_holders_are_passed_on() -> None:
    flows = maps.create(hash_spec())
    old = flows.operations
    assert isinstance(old, Reference)
    new = Recorder()
    operations: Operations = new
    flows.use(operations)
    assert flows.operations is new
    old.update(b"aaaa", bytes(8), 0)
    old.delete(b"aaaa")
    old.lookup(b"aaaa")
    old.read(b"aaaa")
    flows[b"aaaa"] = bytes(8)
    assert new.calls == ["update", "delete", "lookup", "read", "update"]
    assert len(flows) == 0, "nothing reached the table itself"
    flows.use(Recorder())
    assert flows.operations is new, "native operations are never exchanged"


def test_threads_without_native_code_do_not_lose_insertions() -> None:
    """Operations in Python keep each other out: every key that a thread put in is there."""
    flows = maps.create(hash_spec(4, 8, 4000))

    def insert(thread: int) -> None:
        for number in range(100):
            flows[(thread * 1000 + number).to_bytes(4, "little")] = thread.to_bytes(8, "little")
            if number % 2:
                del flows[(thread * 1000 + number).to_bytes(4, "little")]
            time.sleep(0)

    threads = [threading.Thread(target=insert, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {t * 1000 + n: t for t in range(4) for n in range(0, 100, 2)}
    assert dict(flows.typed("<I", "<Q")) == expected
