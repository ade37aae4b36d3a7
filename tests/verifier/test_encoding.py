"""Certificates as bytes: one writing for each, and one line for what is none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import pybpf
from pybpf import Certificate, CertificateError
from pybpf.verifier.encoding import MAGIC
from tests.verifier.case import Case, all_cases

LOOP = "r2 = *(u32 *)(r1 + 12)\n r1 = 0\n L: r1 += 1\n if r1 < r2 goto L\n r0 = 2\n exit"
ROOT = Path(__file__).parents[2]


def certificate() -> Certificate:
    made = pybpf.verify(pybpf.Program.from_asm(LOOP, type="xdp"), certificate=True).certificate
    assert made is not None
    return made


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=f"{f}-{c.name}") for f, c in all_cases() if c.verdict == "accepted"]
)
def test_bytes_and_back(case: Case) -> None:
    made = pybpf.verify(case.program(), case.type(), certificate=True).certificate
    assert made is not None
    data = made.to_bytes()
    read = Certificate.from_bytes(data)
    assert read == made
    assert read.to_bytes() == data


@pytest.mark.slow
def test_another_process_writes_the_same() -> None:
    """Strings hash otherwise there, so sets of them have another order."""
    text = f"import pybpf; p = pybpf.Program.from_asm({LOOP!r}, type='xdp'); print(pybpf.verify(p, certificate=True).certificate.to_bytes().hex())"
    written = {
        subprocess.run(
            [sys.executable, "-c", text],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2", "3")
    }
    assert written == {certificate().to_bytes().hex()}


def test_what_ends_too_soon_is_refused_at_every_length() -> None:
    data = certificate().to_bytes()
    for length in range(len(data)):
        with pytest.raises(CertificateError):
            Certificate.from_bytes(data[:length])


def test_what_goes_on_is_refused() -> None:
    with pytest.raises(CertificateError, match="follows its end"):
        Certificate.from_bytes(certificate().to_bytes() + b"\0")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no certificate"),
        (b"\x7fELF", "no certificate"),
        (MAGIC.replace(b"2", b"1"), "another version"),
        (MAGIC.replace(b"2", b"19"), "another version"),
        (MAGIC, "ends too soon"),
        (MAGIC + b"\xff" * 100, "damaged"),
        (MAGIC + bytes(16) + b"\xff\xff\xff\xff\x0f", "ends too soon"),
        (MAGIC + bytes(16) + b"\x80\x00", "longer than it is"),
    ],
)
def test_what_is_no_certificate(data: bytes, said: str) -> None:
    with pytest.raises(CertificateError, match=said):
        Certificate.from_bytes(data)


POINT = certificate().points[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: replace(c, points=()),
        lambda c: replace(c, cells=()),
        lambda c: replace(c, scalars=()),
        lambda c: replace(c, entry=replace(c.entry, target=1000)),
        lambda c: replace(c, points=(replace(POINT, visits=(1000,)), *c.points[1:])),
        lambda c: replace(c, points=(replace(POINT, frames=({},)), *c.points[1:])),
        lambda c: replace(c, loops=(replace(c.loops[0], head=1000),)),
        lambda c: replace(c, ahead=replace(c, cells=())),
        lambda c: replace(c, functions={0: c, 5: replace(c, cells=())}),
    ],
)
def test_what_refers_to_nothing_is_refused(change: Callable[[Certificate], Certificate]) -> None:
    with pytest.raises(CertificateError, match="not there"):
        Certificate.from_bytes(change(certificate()).to_bytes())


def test_certificates_hold_certificates() -> None:
    """What is claimed of processors that run ahead, and of functions by themselves, in the order of their entries."""
    made = certificate()
    whole = replace(made, ahead=made, functions={7: made, 0: replace(made, ahead=made)})
    data = whole.to_bytes()
    assert Certificate.from_bytes(data) == whole
    assert data == replace(whole, functions=dict(sorted(whole.functions.items()))).to_bytes()


def test_deep_nesting_is_refused() -> None:
    made = certificate()
    loop = made.loops[0]
    for _ in range(100):
        loop = replace(made.loops[0], inner=(loop,))
    with pytest.raises(CertificateError, match="deep"):
        Certificate.from_bytes(replace(made, loops=(loop,)).to_bytes())


def test_long_sums_are_refused() -> None:
    """A few thousand bytes could otherwise make a sum of millions of unknowns."""
    made = certificate()
    point = replace(POINT, edges=(replace(POINT.edges[0], names={0: ((1,) * 9, 0)}), *POINT.edges[1:]))
    with pytest.raises(CertificateError, match="too many parts"):
        Certificate.from_bytes(replace(made, points=(point, *made.points[1:])).to_bytes())
