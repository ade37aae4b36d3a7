"""``pybpf inspect``: what an object holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, compiled
from tests.cli.test_verify import UNSUPPORTED, source


def test_json_of_an_example(pybpf: Run) -> None:
    holds = pybpf("inspect", "--format", "json", compiled("stateful_firewall")).json
    assert holds["byteorder"] == "little"
    assert holds["btf_types"] > 20
    assert holds["notes"] == []
    (program,) = holds["programs"]
    sources = program.pop("source")
    assert "examples/stateful_firewall.c" in sources
    size = program.pop("bytes")
    assert size % 8 == 0
    assert program == {
        "name": "stateful_firewall",
        "section": "filter",
        "type": "filter",
        "instructions": 198,
        "functions": ["stateful_firewall"],
        "maps": ["sessions"],
        "helpers": ["time_get_ns", "map_lookup", "map_update", "map_delete"],
        "unsupported": [],
    }
    (sessions,) = holds["maps"]
    assert (sessions["type"], sessions["key_size"], sessions["value_size"], sessions["max_entries"]) == (
        "hash",
        16,
        16,
        10000,
    )
    assert (sessions["key_type"], sessions["value_type"]) == ("struct flow", "struct session")
    assert sessions["supported"] is True


def test_text_of_an_example(pybpf: Run) -> None:
    ran = pybpf("inspect", compiled("dapper"))
    assert ran.status == 0
    assert "map_lookup" in ran.out
    assert "struct connection" in ran.out
    assert "unsupported" not in ran.out


def test_says_what_is_unsupported(pybpf: Run, tmp_path: Path) -> None:
    """Maps, helpers and types that pybpf does not know, and still status 0: the file could be read."""
    path = source(tmp_path, f".map routes frobnicator key=8 value=4 entries=1\nr1 = routes ll\n{UNSUPPORTED}")
    ran = pybpf("inspect", path)
    assert ran.status == 0
    assert "no type" in ran.out
    assert "map routes: type frobnicator" in ran.out
    (program,) = pybpf("inspect", "--format", "json", "--type", "filter", path).json["programs"]
    assert program["unsupported"] == ["map routes: type frobnicator", "helper 4242"]
    assert program["helpers"] == ["#4242"]


def test_unknown_program_types(pybpf: Run, tmp_path: Path) -> None:
    """A kind of program that pybpf has never heard of."""
    path = source(tmp_path, ".type frobnicator\nr0 = 0\nexit")
    (program,) = pybpf("inspect", "--format", "json", path).json["programs"]
    assert (program["type"], program["unsupported"]) == ("frobnicator", ["program type frobnicator"])


def test_reasons_are_told_once(pybpf: Run, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for what several programs cannot use, with the first of them and their number."""
    monkeypatch.setattr("pybpf.cli.inspect.TYPES", {})
    out = pybpf("inspect", shared_data / "elf/linux/xdp_redirect_cpu_kern.o").out
    assert "  map cpus_available: type array (xdp_cpu_map0 and 5 more)" in out.splitlines()
