"""What is in a map: keys and values by the types that the object gives them, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any, Final

from pybpf.btf import Btf
from pybpf.btf.values import read_value
from pybpf.cli.output import print_table, printable, say
from pybpf.errors import ElfError

if TYPE_CHECKING:
    from pybpf.btf.values import Value
    from pybpf.maps import BpfMap

_SHOWN: Final = 20
"""Entries that a table shows."""
_COLUMNS: Final = 12
"""More columns than these are put into one."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The entries of a map in the order of their keys. `zeros` counts the values of an array that are left out, being zero."""

    map: BpfMap
    entries: tuple[tuple[Value, Value], ...]
    zeros: int = 0


def contents(map: BpfMap, btf: Btf | None) -> Contents:
    """Read a map."""
    spec = map.spec
    is_array = spec.type == "array"
    entries = []
    zeros = 0
    for key, value in map.items() if is_array else sorted(map.items()):
        if is_array and not any(value):
            zeros += 1
            continue
        index: Value = int.from_bytes(key, spec.byteorder) if is_array else _typed(btf, spec.key_type, key)
        entries.append((index, _typed(btf, spec.value_type, value)))
    return Contents(map, tuple(entries), zeros)


def print_contents(read: Contents) -> None:
    """A table of a map, with a column for each member of keys and, behind a bar, of values."""
    map, shown = read.map, read.entries[:_SHOWN]
    used = f"{len(read.entries):,} of {map.spec.max_entries:,} entries" + (" not zero" if read.zeros else "")
    say(printable(f"map {map.name}: {map.spec.type}, {used}"), bold=True)
    if not shown:
        return
    is_array = map.spec.type == "array"
    if is_array and map.spec.max_entries == 1 and isinstance(members := shown[0][1], dict):
        print_table(("member", "value"), [(name, as_text(part)) for name, part in members.items()])
        return
    key_name = "index" if is_array else "key"
    rows = [[*_cells(key_name, key), ("|", "|"), *_cells("value", value)] for key, value in shown]
    if len(rows[0]) > _COLUMNS:
        rows = [[(key_name, as_text(key)), ("|", "|"), ("value", as_text(value))] for key, value in shown]
    print_table([name for name, _ in rows[0]], [[text for _, text in row] for row in rows])
    if len(read.entries) > _SHOWN:
        say(f"and {len(read.entries) - _SHOWN:,} more: --format json prints them all", dim=True)


def as_json(read: Contents) -> dict[str, Any]:
    """A map as JSON holds it."""
    return {
        "name": read.map.name,
        "type": read.map.spec.type,
        "max_entries": read.map.spec.max_entries,
        "entries": [{"key": as_plain(key), "value": as_plain(value)} for key, value in read.entries],
        "zeros": read.zeros,
    }


def _typed(btf: Btf | None, type: int | None, data: bytes) -> Value:
    """By type where there is a usable one."""
    if btf is None or type is None:
        return data
    try:
        return read_value(btf, type, data)
    except ElfError:
        return data


def _cells(name: str, value: Value) -> Iterator[tuple[str, str | int]]:
    """The columns of a value with their headings."""
    if isinstance(value, dict) and value:
        yield from ((member, _cell(part)) for member, part in value.items())
    else:
        yield name, _cell(value)


def _cell(value: Value) -> str | int:
    return value if isinstance(value, int) and not isinstance(value, bool) else as_text(value)


def as_text(value: Value) -> str:
    """A value on one line."""
    match value:
        case bytes():
            return value.hex(" ")
        case dict():
            return ", ".join(f"{name}={_nested(part)}" for name, part in value.items())
        case list():
            return ", ".join(_nested(part) for part in value)
        case _:
            return str(value)


def _nested(value: Value) -> str:
    return f"{{{as_text(value)}}}" if isinstance(value, dict | list) else as_text(value)


def as_plain(value: Value) -> Any:
    """A value as JSON holds it: bytes are hexadecimal."""
    match value:
        case bytes():
            return value.hex()
        case dict():
            return {name: as_plain(part) for name, part in value.items()}
        case list():
            return [as_plain(part) for part in value]
        case IPv4Address():
            return str(value)
        case _:
            return value
