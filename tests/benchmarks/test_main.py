"""The command, end to end, on a part of what it measures."""

from __future__ import annotations

import json
import shutil

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.suites import SUITES


@pytest.mark.slow
def test_results_as_a_table_and_as_json(tmp_path):
    path = tmp_path / "results.json"
    done = CliRunner().invoke(main, ["--quick", "--only", "calls", "--repeat", "1", "--json", str(path)])
    assert done.exit_code == 0, done.output
    assert "ns a packet" in done.output
    result = json.loads(path.read_text())
    assert {row["suite"] for row in result["rows"]} == {"calls"}
    assert result["rows"][0]["competitor"] == "pybpf"
    assert result["rows"][0]["ratio"] == 1


@pytest.mark.slow
@pytest.mark.oracle
@pytest.mark.skipif(shutil.which("clang-22") is None, reason="clang-22 is not installed")
def test_competitors_agree_on_a_program_in_c(tmp_path):
    path = tmp_path / "results.json"
    options = ["--quick", "--only", "alu", "--match", "siphash", "--repeat", "1", "--json", str(path)]
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 0, done.output
    competitors = {row["competitor"] for row in json.loads(path.read_text())["rows"]}
    assert {"pybpf", "pybpf's interpreter", "clang-22 -O2, called", "clang-22 -O2, inlined"} <= competitors


def test_an_unknown_suite_is_one_line_of_usage():
    done = CliRunner().invoke(main, ["--only", "nothing"])
    assert done.exit_code == 2
    assert all(name in done.output for name in SUITES)
