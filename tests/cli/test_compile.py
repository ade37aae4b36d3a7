"""``pybpf compile``: what it writes and says, and how it fails."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from tests.ahead.c_program import has
from tests.cli.conftest import Run, compiled

FIREWALL = compiled("stateful_firewall")


def source(directory: Path, text: str) -> Path:
    path = directory / "own.bpf"
    path.write_text(text)
    return path


ONE = ".type filter\nr0 = 1\nexit\n"


@pytest.mark.parametrize(
    ("name", "starts"), [("a.o", b"\x7fELF"), ("a.s", b"\t.file"), ("a.ll", b"; ModuleID")]
)
def test_the_name_says_what_is_written(pybpf: Run, tmp_path: Path, name: str, starts: bytes) -> None:
    ran = pybpf("compile", source(tmp_path, ONE), "-o", tmp_path / name)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith("own (filter): verified, 2 instructions, for ")
    assert (tmp_path / name).read_bytes().startswith(starts)
    assert "own_run(" in (tmp_path / "a.h").read_text()


@pytest.mark.skipif(not has("cc"), reason="no C compiler")
def test_shared_library(pybpf: Run, tmp_path: Path) -> None:
    ran = pybpf("compile", source(tmp_path, ONE), "-o", tmp_path / "lib.so", "--name", "mine")
    assert (ran.status, ran.err) == (0, "")
    state = (ctypes.c_uint64 * 7)()
    assert ctypes.CDLL(str(tmp_path / "lib.so")).mine_run(state, b"", 0) == 1


def test_options(pybpf: Run, tmp_path: Path) -> None:
    ran = pybpf(
        "compile", FIREWALL, "stateful_firewall", "-o", tmp_path / "fw.o", "--header", tmp_path / "other.h",
        "--target", "riscv64-linux-gnu", "--counts", "--no-checks",
    )  # fmt: skip
    assert (ran.status, ran.err) == (0, "")
    assert "for riscv64-linux-gnu, processor generic" in ran.out
    assert (tmp_path / "fw.o").read_bytes()[18:20] == (243).to_bytes(2, "little")  # EM_RISCV
    assert "not counted" not in (tmp_path / "other.h").read_text()
    assert not (tmp_path / "fw.h").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "missing option '-o'"),
        (["-o", "x.exe"], 2, "it ends in .o, .so, .s, .ll"),
        (["-o", "x.o", "--target", "nonsense"], 3, "LLVM has no code for target 'nonsense'"),
        (["-o", "x.o", "--target", "s390x-linux-gnu"], 3, "must be little-endian"),
        (
            ["-o", "x.so", "--target", "loongarch64-linux-gnu"],
            3,
            "no linker for target loongarch64-linux-gnu",
        ),
        (["-o", "x.o", "--cpu", "z80"], 2, "LLVM knows no processor 'z80'"),
        (["-o", "x.o", "--name", "7"], 2, "'7' is no name in C"),
        (["-o", "no/where/x.o"], 2, "no/where/x.o: No such file or directory"),
    ],
)
def test_what_cannot_be_done(
    pybpf: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = pybpf("compile", source(tmp_path, ONE), *arguments)
    assert (ran.status, ran.out) == (status, "")
    assert says in ran.err
    assert ran.err.count("\n") == 1
    assert not list(tmp_path.glob("x.*"))


def test_unsafe_program_is_not_compiled(pybpf: Run, tmp_path: Path) -> None:
    ran = pybpf("compile", compiled("unsafe/off_by_one"), "-o", tmp_path / "x.o")
    assert (ran.status, ran.out) == (1, "")
    assert "off_by_one.c:21" in ran.err
    assert not (tmp_path / "x.o").exists()


def test_program_that_is_not_run_is_not_compiled(pybpf: Run, tmp_path: Path) -> None:
    text = ".type kprobe\nr0 = 0\nexit\n"
    ran = pybpf("compile", source(tmp_path, text), "-o", tmp_path / "x.o")
    assert (ran.status, ran.out) == (3, "")
    assert "programs of type kprobe cannot be run" in ran.err
