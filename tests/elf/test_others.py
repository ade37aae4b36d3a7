"""Files that people take for BPF objects: the error says what they are."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pybpf import ElfError, load

CAPTURES = Path(__file__).parents[2] / "examples/captures"

FILES = {
    "C": (b"int main(void) { return 0; }\n", "text: an object is what clang -target bpf -c makes of C"),
    "one letter": (b"x", "text: "),
    "archive": (b"!<arch>\n" + bytes(60), "an archive: give one of the objects in it"),
    "gzip": (gzip.compress(b"\x7fELF"), "compressed by gzip: unpack it first"),
    "capture": ((CAPTURES / "http.pcap").read_bytes(), "a capture: give it to --pcap"),
    "types": (b"\xeb\x9f\x01\x00" + bytes(20), "types in BTF, without programs: give it to --btf"),
}


def told(data: bytes) -> str:
    with pytest.raises(ElfError) as caught:
        load(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("data", "what"), FILES.values(), ids=FILES.keys())
def test_what_begins_otherwise(data: bytes, what: str):
    """The first bytes are shown and, where they tell, what they mean."""
    assert told(data).startswith(f"wrong magic: the file begins with {data[:4].hex(' ')}, ")
    assert f"({what}" in told(data)


def test_bytes_that_tell_nothing():
    """No guess."""
    assert told(b"\0\1\2\3\4") == "wrong magic: the file begins with 00 01 02 03, not with 7f 45 4c 46"


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("-c",), "x86-64: compile with clang -target bpf"),
        (("-target", "bpf", "-emit-llvm", "-c"), "LLVM bitcode: compile without -emit-llvm and -flto"),
        (("-target", "bpf", "-S"), "text: "),
    ],
)
def test_what_compilers_write_instead(
    options: tuple[str, ...], what: str, tool: Callable[[str], str], tmp_path: Path
):
    """An option too few, or one too many."""
    (tmp_path / "a.c").write_text("int main(void) { return 0; }\n")
    command = [tool("clang-22"), *options, tmp_path / "a.c", "-o", tmp_path / "a.o"]
    subprocess.run(command, check=True)
    assert f"({what}" in told((tmp_path / "a.o").read_bytes())
