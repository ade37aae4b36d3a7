"""Map definitions for the tests."""

from pybpf import MapSpec


def hash_spec(
    key_size: int = 4, value_size: int = 8, max_entries: int = 16, name: str = "flows", **more: object
) -> MapSpec:
    return MapSpec(name, "hash", key_size, value_size, max_entries, **more)  # type: ignore[arg-type]


def array_spec(
    value_size: int = 8, max_entries: int = 4, key_size: int = 4, name: str = "counters", **more: object
) -> MapSpec:
    return MapSpec(name, "array", key_size, value_size, max_entries, **more)  # type: ignore[arg-type]
