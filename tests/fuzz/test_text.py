"""Cases as text."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from fuzz.recipe import drawn
from fuzz.text import read_case, text_of
from pybpf import ArgumentError


def test_a_case_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Program, policy, packets and map contents."""
    random = Random(3)
    path = tmp_path / "generated.bpf"
    for _ in range(40):
        case = drawn(random, "generated").case()
        assert case is not None
        path.write_text(text_of(case, "Unsafe: a note\nof two lines"))
        read = read_case(path)
        assert read.program.code == case.program.code
        assert read.type == case.type
        assert read.packets == case.packets
        assert {name: entries for name, entries in case.entries.items() if entries} == read.entries


def test_an_unknown_directive_is_named(tmp_path: Path) -> None:
    """The file and the word."""
    path = tmp_path / "bad.bpf"
    path.write_text("#: frobnicate 1\n.type filter\nr0 = 0\nexit\n")
    with pytest.raises(ArgumentError, match=r"bad\.bpf: unknown directive 'frobnicate'"):
        read_case(path)
