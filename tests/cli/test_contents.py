"""Maps as tables and JSON."""

from __future__ import annotations

import pytest

from pybpf import MapSpec, maps
from pybpf.cli.contents import as_json, contents, print_contents
from tests.cli.conftest import CAPTURES, Run, compiled


def test_without_types_bytes_are_shown_in_hex(capsys: pytest.CaptureFixture[str]) -> None:
    flows = maps.create(MapSpec("flows", "hash", key_size=2, value_size=3, max_entries=8))
    flows[b"\x02\x00"] = b"abc"
    flows[b"\x01\xff"] = b"\0\0\0"
    read = contents(flows, None)
    assert as_json(read)["entries"] == [
        {"key": "01ff", "value": "000000"},
        {"key": "0200", "value": "616263"},
    ]
    print_contents(read)
    assert capsys.readouterr().out.splitlines() == [
        "map flows: hash, 2 of 8 entries",
        "key    |  value",
        "──────────────────",
        "01 ff  |  00 00 00",
        "02 00  |  61 62 63",
    ]


def test_arrays_leave_out_zeros_and_count_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Indices are numbers, in their order."""
    counters = maps.create(MapSpec("counters", "array", key_size=4, value_size=1, max_entries=300))
    counters[256] = b"\x01"
    counters[2] = b"\x02"
    read = contents(counters, None)
    assert [key for key, _ in read.entries] == [2, 256]
    assert read.zeros == 298
    print_contents(read)
    assert capsys.readouterr().out.startswith("map counters: array, 2 of 300 entries not zero\n")


def test_empty_map_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_contents(contents(maps.create(MapSpec("flows", "hash", 2, 3, 8)), None))
    assert capsys.readouterr().out == "map flows: hash, 0 of 8 entries\n"


def test_long_maps_are_cut_short(capsys: pytest.CaptureFixture[str]) -> None:
    counters = maps.create(MapSpec("counters", "array", key_size=4, value_size=1, max_entries=30))
    for index in range(30):
        counters[index] = b"\x01"
    read = contents(counters, None)
    print_contents(read)
    out = capsys.readouterr().out
    assert out.endswith("and 10 more: --format json prints them all\n")
    assert len(as_json(read)["entries"]) == 30


def test_single_value_is_shown_by_member(pybpf: Run) -> None:
    """One row for each member reads better than one wide row."""
    out = pybpf(
        "run", compiled("dapper"), "--pcap", CAPTURES / "http.pcap", "--maps", "--clock", "capture"
    ).out
    table = out[out.index("map monitor") :].splitlines()
    assert table[0] == "map monitor: array, 1 of 1 entries"
    assert [line.split() for line in (table[1], *table[3:6])] == [
        ["member", "value"],
        ["reported_ns", "1795539863649951000"],
        ["opened", "11"],
        ["refused", "0"],
    ]
