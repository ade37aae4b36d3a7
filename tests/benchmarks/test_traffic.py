"""Synthetic packets are what their names say."""

from __future__ import annotations

import numpy as np
import pytest

import pybpf
from benchmarks import programs, traffic


@pytest.fixture(scope="module")
def p0f() -> pybpf.Instance:
    return pybpf.instantiate(programs.example("p0f"))


def test_all_match_or_none(p0f):
    assert p0f.run_batch(traffic.filters("match", 50)).tolist() == [1] * 50
    assert p0f.run_batch(traffic.filters("reject", 50)).tolist() == [0] * 50


def test_half_of_a_mixture_match_and_copies_repeat_it(p0f):
    results = p0f.run_batch(traffic.filters("mixed", 2000, copies=2))
    assert results[:2000].tolist() == results[2000:].tolist()
    assert 900 < results[:2000].sum() < 1100


def keys(batch: pybpf.PacketBatch) -> list[bytes]:
    return [packet[26:38] for packet in batch]


def test_flows_differ_and_missing_ones_are_others():
    flows = traffic.flows(1000)
    known = set(keys(traffic.coming(flows, True)))
    assert len(known) == 1000
    assert set(keys(traffic.packets_of(flows, "uniform", 3000))) <= known
    assert set(keys(traffic.packets_of(flows, "skewed", 3000))) <= known
    assert not set(keys(traffic.packets_of(flows, "missing", 3000))) & known


def test_after_churn_all_is_as_it_was():
    flows = traffic.flows(100)
    there = set(keys(traffic.coming(flows[:50], True)))
    now, batch = set(there), traffic.churn(flows, 100)
    for packet, key in zip(batch, keys(batch), strict=True):
        comes = bool(packet[0])
        assert comes != (key in now)
        now ^= {key}
    assert now == there
    assert np.unique([packet[0] for packet in batch]).tolist() == [0, 1]
