"""memset, memcpy, memmove and memcmp, which compilers call and nobody defines."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybpf import Object, VerifierError, assemble, encode, helpers, instantiate, load, program_types, verify
from pybpf.interpreter import Interpreter
from tests.elf.builder import NOTYPE, R_64_32, UNDEFINED, Elf

SIZE = 24
PLACES = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).flatmap(
    lambda pair: st.tuples(st.just(pair[0]), st.just(pair[1]), st.integers(0, SIZE - max(pair)))
)


def calling(name: str, text: str) -> Object:
    """A program whose only call of a helper is one of an undefined function."""
    code = assemble(text).code
    elf = Elf()
    section = elf.section("memory", encode(code.values()))
    elf.symbol("main", section, 0, 8 * len(code))
    (pc,) = (pc for pc, instruction in code.items() if instruction.op.code == "helper")
    elf.relocate(section, 8 * pc, elf.symbol(name, UNDEFINED, 0, 0, NOTYPE), R_64_32)
    return load(elf.build(), type="memory")


def run(name: str, arguments: str, memory: bytes) -> tuple[int, bytes]:
    """r0 and the memory after a call; the arguments are set from r1, the memory."""
    program = calling(name, f"{arguments}\n call 1\n exit").programs["main"]
    outcome = Interpreter(program, program_types.MEMORY, ()).run(memory)
    return outcome.value, outcome.packet


@pytest.mark.slow
@given(PLACES, st.binary(min_size=SIZE, max_size=SIZE))
def test_memmove(places: tuple[int, int, int], memory: bytes) -> None:
    """Also where source and destination overlap, and for no bytes."""
    to, start, size = places
    expected = bytearray(memory)
    expected[to : to + size] = memory[start : start + size]
    _, after = run("memmove", f"r2 = r1\n r2 += {start}\n r1 += {to}\n r3 = {size}", memory)
    assert after == expected


@pytest.mark.slow
@given(st.integers(0, SIZE // 2), st.binary(min_size=SIZE, max_size=SIZE))
def test_memcpy(size: int, memory: bytes) -> None:
    """Bytes that do not overlap; the destination is returned."""
    half = SIZE // 2
    expected = memory[:half] + memory[:size] + memory[half + size :]
    value, after = run("memcpy", f"r2 = r1\n r1 += {half}\n r3 = {size}", memory)
    assert after == expected
    assert value == run("memcpy", f"r2 = r1\n r1 += {half}\n r3 = 0", memory)[0]


@pytest.mark.slow
@given(st.integers(0, SIZE), st.integers(-300, 300), st.binary(min_size=SIZE, max_size=SIZE))
def test_memset(size: int, byte: int, memory: bytes) -> None:
    """The lowest byte of the second argument counts."""
    _, after = run("memset", f"r2 = {byte}\n r3 = {size}", memory)
    assert after == bytes([byte & 255]) * size + memory[size:]


@pytest.mark.slow
@given(
    st.integers(0, 3),
    st.lists(st.integers(0, 255), min_size=3, max_size=3),
    st.binary(min_size=3, max_size=3),
)
def test_memcmp(size: int, one: list[int], other: bytes) -> None:
    """The sign is that of the first difference, of bytes without a sign."""
    a, b = bytes(one), other
    value, _ = run("memcmp", f"r2 = r1\n r2 += 3\n r3 = {size}", a + b)
    difference = (value ^ 1 << 63) - (1 << 63)
    expected = (a[:size] > b[:size]) - (a[:size] < b[:size])
    assert (difference > 0) - (difference < 0) == expected


def test_a_helper_of_the_name_comes_first() -> None:
    """A program type may bring its own."""
    contract = replace(helpers.LINUX[5], name="memset")
    own = replace(program_types.MEMORY, name="own", helpers={77: contract})
    elf = Elf()
    section = elf.section("own", encode(assemble("call 1\n exit").code.values()))
    elf.symbol("main", section, 0, 16)
    elf.relocate(section, 0, elf.symbol("memset", UNDEFINED, 0, 0, NOTYPE), R_64_32)
    program = load(elf.build(), type=own).programs["main"]
    assert program.code[0].imm == 77
    assert list(program.functions) == [0]


def test_types_without_loops_refuse_them() -> None:
    """A loop is a loop wherever it comes from."""
    program = calling("memset", "r2 = 0\n r3 = 8\n call 1\n exit").programs["main"]
    with pytest.raises(VerifierError, match="back-edge"):
        verify(program, "filter")


SOURCE = """
typedef unsigned char u8;
typedef unsigned long long u64;
extern void *memset(void *, int, u64), *memcpy(void *, const void *, u64), *memmove(void *, const void *, u64);
extern int memcmp(const void *, const void *, u64);
#define PROGRAM __attribute__((section("memory"), used)) u64
PROGRAM set(u8 *p, u64 n) { u8 b[64]; memset(b, 0x41, 64); return b[0] + b[63]; }
PROGRAM copy(u8 *p, u64 n) { u8 b[32]; if (n < 32) return 0; memcpy(b, p, 32); return b[0] + 256 * b[31]; }
PROGRAM some(u8 *p, u64 n) { u8 b[32] = {}; if (n > 32) n = 32; memcpy(b, p, n); return b[0] + 256 * b[31]; }
PROGRAM up(u8 *p, u64 n) { u8 b[40]; if (n < 32) return 0; memcpy(b, p, 32); memmove(b + 8, b, 32); return b[8] + 256 * b[39]; }
PROGRAM down(u8 *p, u64 n) { u8 b[40] = {}; if (n < 32) return 0; memcpy(b, p, 32); memmove(b, b + 8, 32); return b[0] + 256 * b[23]; }
PROGRAM compare(u8 *p, u64 n) { u8 b[32]; if (n < 64) return 0; memcpy(b, p, 32); return memcmp(b, p + 32, 32) < 0; }
PROGRAM outside(u8 *p, u64 n) { u8 b[16]; memset(b, 0, 17); return b[0]; }
"""


@pytest.fixture(scope="module")
def compiled(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Object:
    """What clang makes of calls that it does not expand."""
    path = tmp_path_factory.mktemp("builtins") / "a.c"
    path.write_text(SOURCE)
    flags = ["-target", "bpfel", "-O2", "-g", "-fno-builtin", "-c", path, "-o", path.with_suffix(".o")]
    subprocess.run([tool("clang-22"), *flags], check=True)
    return load(Path(path.with_suffix(".o")), type="memory")


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("set", 0x82),
        ("copy", 100 + 256 * 131),
        ("some", 100 + 256 * 131),
        ("up", 100 + 256 * 131),
        ("down", 108 + 256 * 131),
        ("compare", 1),
    ],
)
def test_verified_and_run(compiled: Object, name: str, value: int) -> None:
    """With sizes that are known and not, in both engines."""
    verified = verify(compiled.programs[name])
    for engine in ("jit", "interpreter"):
        assert instantiate(verified, engine=engine).run(bytes(range(100, 164))).value == value  # type: ignore[arg-type]


@pytest.mark.oracle
def test_bytes_outside_are_refused(compiled: Object) -> None:
    """One byte behind the buffer is not on the stack any more."""
    with pytest.raises(VerifierError):
        verify(compiled.programs["outside"])
