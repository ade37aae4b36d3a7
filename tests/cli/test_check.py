"""``pybpf verify --certificate`` and ``pybpf check``: a proof in a file, and what is said of one that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run, compiled


@pytest.fixture
def certificate(pybpf: Run, tmp_path: Path) -> Path:
    path = tmp_path / "router.cert"
    ran = pybpf("verify", "--certificate", path, compiled("xdp_router"))
    assert (ran.status, ran.err) == (0, "")
    return path


def test_a_certificate_proves_its_program(pybpf: Run, certificate: Path) -> None:
    ran = pybpf("check", compiled("xdp_router"), certificate)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith("accepted    xdp_router (xdp): ")


def test_a_certificate_does_not_prove_another_program(pybpf: Run, certificate: Path) -> None:
    ran = pybpf("check", compiled("xdp_counter"), certificate)
    assert (ran.status, ran.out) == (1, "unproved    xdp_counter (xdp): it is one of another program\n")


def test_json_has_the_fields_of_verify(pybpf: Run, certificate: Path) -> None:
    ran = pybpf("check", "--format", "json", compiled("xdp_counter"), certificate)
    assert (ran.status, ran.json["verdict"], ran.json["reason"]) == (1, "unproved", "certificate")


def test_a_stricter_policy_than_it_was_made_for(pybpf: Run, tmp_path: Path) -> None:
    source, path = tmp_path / "loop.bpf", tmp_path / "loop.cert"
    source.write_text(".type xdp\n r1 = 0\nL: r1 += 1\n if r1 < 100 goto L\n r0 = 2\n exit\n")
    assert pybpf("verify", "--certificate", path, source).status == 0
    ran = pybpf("check", "--policy", "loops=no", source, path)
    assert ran.status == 1
    assert ran.out.startswith("rejected ")


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"", "no certificate"), (b"pybpf certificate 9\n", "a certificate of another version")],
)
def test_a_file_that_is_no_certificate(pybpf: Run, tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "x.cert"
    path.write_bytes(data)
    ran = pybpf("check", compiled("xdp_router"), path)
    assert (ran.status, ran.out, ran.err) == (2, "", f"pybpf: {path}: {said}\n")


def test_a_file_that_is_damaged(pybpf: Run, certificate: Path) -> None:
    certificate.write_bytes(certificate.read_bytes()[:-1])
    ran = pybpf("check", compiled("xdp_router"), certificate)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == f"pybpf: {certificate}: a damaged certificate: it ends too soon\n"


def test_a_file_that_is_not_there(pybpf: Run, tmp_path: Path) -> None:
    ran = pybpf("check", compiled("xdp_router"), tmp_path / "none")
    assert (ran.status, ran.err) == (2, f"pybpf: {tmp_path / 'none'}: No such file or directory\n")


def test_nothing_is_written_of_a_rejected_program(pybpf: Run, tmp_path: Path) -> None:
    ran = pybpf("verify", "--certificate", tmp_path / "x.cert", compiled("unsafe/off_by_one"))
    assert ran.status == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written(pybpf: Run, tmp_path: Path) -> None:
    path = tmp_path / "none" / "x.cert"
    ran = pybpf("verify", "--certificate", path, compiled("xdp_router"))
    assert (ran.status, ran.err) == (2, f"pybpf: {path}: No such file or directory\n")
