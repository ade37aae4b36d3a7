import errno

import pytest

from pybpf import MapError, maps
from tests.maps.specs import array_spec, hash_spec


def test_a_map_is_a_mutable_mapping() -> None:
    flows = maps.create(hash_spec(4, 2, 10))
    flows.update({b"aaaa": b"11", b"bbbb": b"22"})
    assert dict(flows) == {b"aaaa": b"11", b"bbbb": b"22"}
    assert sorted(flows.values()) == [b"11", b"22"]
    assert flows.pop(b"aaaa") == b"11"
    assert flows.get(b"aaaa") is None
    assert flows == {b"bbbb": b"22"}
    with pytest.raises(KeyError):
        flows[b"aaaa"]
    with pytest.raises(KeyError):
        del flows[b"aaaa"]
    flows[bytearray(b"cccc")] = memoryview(b"33")  # type: ignore[index, assignment]
    assert flows[b"cccc"] == b"33"
    assert repr(flows) == "<hash map 'flows': 2 of 10 entries>"
    flows.clear()
    assert len(flows) == 0


def test_sizes_are_checked_wherever_keys_and_values_come_in() -> None:
    flows = maps.create(hash_spec(4, 2, 10))
    for wrong in (b"", b"abc", b"abcde"):
        with pytest.raises(MapError, match=f"key has {len(wrong)} bytes: expected 4") as caught:
            flows[wrong]
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(MapError):
            del flows[wrong]
        with pytest.raises(MapError):
            flows[wrong] = b"11"
        with pytest.raises(MapError):
            wrong in flows  # noqa: B015
    with pytest.raises(MapError, match="value has 1 bytes: expected 2"):
        flows[b"abcd"] = b"1"
    with pytest.raises(TypeError):
        flows[4]


def test_setdefault_inserts_once() -> None:
    flows = maps.create(hash_spec(4, 2, 1))
    assert flows.setdefault(b"aaaa", b"11") == b"11"
    assert flows.setdefault(b"aaaa", b"22") == b"11"
    with pytest.raises(MapError, match="full"):
        flows.setdefault(b"bbbb", b"22")
    del flows[b"aaaa"]
    assert flows.setdefault(b"bbbb") == bytes(2)


def test_entries_may_go_while_iterating() -> None:
    flows = maps.create(hash_spec(4, 2, 100))
    for number in range(100):
        flows[number.to_bytes(4, "little")] = b"xx"
    seen = 0
    for key in flows:
        del flows[key]
        seen += 1
    assert (seen, len(flows)) == (100, 0)


def test_statistics_say_how_full_a_map_is() -> None:
    flows = maps.create(hash_spec(4, 2, 100))
    flows[b"aaaa"] = b"11"
    statistics = flows.statistics()
    assert (statistics.entries, statistics.max_entries, statistics.probes) == (1, 100, 1.0)
    assert statistics.size == len(flows.memory) == flows.size
    assert maps.create(array_spec(8, 3)).statistics().entries == 3
