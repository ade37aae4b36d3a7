"""The machine code of map operations against the same operations in Python, on the same block."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybpf import MapSpec, maps
from pybpf.jit.map_operations import NativeOperations
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


@pytest.mark.parametrize("spec", SHAPES, ids=NAMES)
@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEP, max_size=120), seed=st.integers(0, 3))
def test_python_and_native_code_are_one(
    spec: MapSpec, steps: list[tuple[str, int, int, int, bool]], seed: int
) -> None:
    """Any sequence of operations, each by either implementation, on one map, and all by Python on another: the same results,
    and the same bytes in both blocks, the table's inner workings included.
    """
    mixed, reference = maps.create(spec, seed=seed), maps.create(spec, seed=seed)
    python, native = mixed.operations, NativeOperations(mixed)
    for name, number, fill, flags, natively in steps:
        operations = native if natively else python
        key = key_of(spec, number)
        arguments = (key, bytes([fill]) * spec.value_size, flags) if name == "update" else (key,)
        result = getattr(operations, name)(*arguments)
        assert result == getattr(reference.operations, name)(*arguments)
    assert bytes(mixed.memory) == bytes(reference.memory)

    def entries(operations: maps.Operations) -> dict[bytes, bytes]:
        keys, values = operations.snapshot()
        pairs = [(k.tobytes(), v.tobytes()) for k, v in zip(keys, values, strict=True)]
        assert len(pairs) == len(dict(pairs)), "a key came twice"
        return dict(pairs)

    assert entries(native) == entries(python)
    assert bytes(mixed.memory) == bytes(reference.memory), "a snapshot leaves no trace"
