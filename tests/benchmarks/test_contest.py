"""What is made of the times of competitors."""

from __future__ import annotations

import pytest

from benchmarks.contest import Competitor, Row, hold
from benchmarks.marks import MARKS, least, mean


def work(steps: int) -> Competitor:
    return Competitor(str(steps), lambda: sum(range(steps)), 1)


def test_the_first_competitor_is_the_measure():
    rows = hold([work(20_000), work(200_000)], rounds=3, slice_ns=100_000)
    assert [name for name, _, _ in rows] == ["20000", "200000"]
    assert rows[0][2] == 1
    assert rows[1][2] > 1


def test_what_an_empty_run_takes_is_taken_off():
    same = Competitor("same", work(50_000).run, 1, less="50000")
    rows = hold([work(50_000), same], rounds=5, slice_ns=1_000_000)
    assert rows[1][1] < rows[0][1]


def row(ratio: float, competitor: str = "clang-22 -O2, called") -> Row:
    return Row("alu", "sort", "64 bytes", competitor, 100.0, ratio)


def test_figures_of_marks():
    assert mean([row(2), row(8)]) == pytest.approx(4)
    assert least([row(2), row(0.5)]) == 0.5


def test_a_mark_is_about_its_rows_alone():
    overall, lowest, *_ = MARKS
    rows = [row(1.5), row(0.8), row(0.1, "gcc -O2, called")]
    assert overall.judge(rows) == (pytest.approx(1.2**0.5), True)
    assert lowest.judge(rows) == (0.8, False)
    assert overall.judge([row(1, "gcc -O2, called")]) is None
