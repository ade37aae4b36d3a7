import ctypes
import errno
import os

import pytest

from pybpf import MapError, MapSpec, maps
from pybpf.maps.block import Block
from tests.maps.specs import array_spec, hash_spec


def test_address_and_memory_are_the_same_bytes() -> None:
    block = Block(8192, "m")
    assert block.address % 4096 == 0
    assert bytes(block.memory) == bytes(8192)
    ctypes.memmove(block.address + 5000, b"native", 6)
    assert bytes(block.memory[5000:5006]) == b"native"


@pytest.mark.parametrize(
    "spec",
    [
        hash_spec(4096, 4096, (1 << 32) - 1),  # beyond what a program can address
        hash_spec(8, 8, 4_000_000_000),  # within that, beyond most machines
        array_spec((1 << 32) - 1, (1 << 32) - 1),
    ],
)
def test_a_map_beyond_the_machine_is_one_clear_line(spec: MapSpec) -> None:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if maps.layout_of(spec).size <= total:
        pytest.skip("this machine has the memory")
    with pytest.raises(MapError, match=rf"^map '{spec.name}': needs [0-9,]+ bytes, and .*$") as caught:
        maps.create(spec)
    assert caught.value.errno == errno.ENOMEM


def test_a_refusal_of_the_system_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    import mmap

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(MapError, match="needs 4,096 bytes: Cannot allocate memory"):
        Block(4096, "m")


def test_views_keep_the_memory_of_a_map_that_is_gone() -> None:
    """A numpy array of the values is valid after the last reference to the map is dropped."""
    counters = maps.create(array_spec(8, 1000))
    counters[7] = (42).to_bytes(8, "little")
    array = counters.array
    del counters
    assert array[7] == 42


def test_after_a_fork_each_process_has_its_own_map() -> None:
    counters = maps.create(array_spec(8, 1))
    child = os.fork()
    if child == 0:
        counters.memory[counters.layout.values] = 9
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert counters.memory[counters.layout.values] == 0
