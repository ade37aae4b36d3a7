"""``pybpf asm`` and ``pybpf disasm``: between text and bytecode."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pybpf import Program, decode, encode, load
from tests.cli.conftest import EXAMPLES, Run, command, compiled, surroundings
from tests.cli.test_verify import source


def test_assembles_to_bytecode(pybpf: Run, tmp_path: Path) -> None:
    target = tmp_path / "code"
    ran = pybpf("asm", source(tmp_path, "r0 = 7 ll\nexit"), "-o", target)
    assert (ran.status, ran.out) == (0, f"{target}: 24 bytes, 3 slots, 2 instructions\n")
    assert target.read_bytes() == bytes.fromhex("1800000007000000 0000000000000000 9500000000000000")


def test_writes_beside_the_text(pybpf: Run, tmp_path: Path) -> None:
    assert pybpf("asm", source(tmp_path, "r0 = 1\nexit")).status == 0
    assert (tmp_path / "program.bin").stat().st_size == 16


@pytest.mark.slow
def test_standard_input_and_output() -> None:
    """Bytecode alone goes to standard output."""
    done = subprocess.run(
        command("asm", "-", "-o", "-"), input=b"exit", capture_output=True, env=surroundings(), check=True
    )
    assert (done.stdout, done.stderr) == (bytes.fromhex("9500000000000000"), b"")


def test_standard_input_has_no_place_beside_it(pybpf: Run) -> None:
    assert pybpf("asm", "-", stdin=b"exit").status == 2


def test_maps_become_their_numbers(pybpf: Run, tmp_path: Path) -> None:
    """Maps are counted by first reference; an offset into a value stays."""
    text = """
    .map first array key=4 value=8 entries=1
    .map second array key=4 value=8 entries=1
    r1 = second ll
    r2 = first + 4 ll
    r3 = second ll
    exit
    """
    target = tmp_path / "out.bin"
    assert pybpf("asm", source(tmp_path, text), "-o", target).status == 0
    loads = list(decode(target.read_bytes()).values())[:3]
    assert [(load.src, load.imm & 0xFFFF_FFFF, load.imm >> 32) for load in loads] == [
        (1, 0, 0),
        (2, 1, 4),
        (1, 0, 0),
    ]


def test_helper_names_need_a_type(pybpf: Run, tmp_path: Path) -> None:
    """A name has a number only where a program type gives it one."""
    text = source(tmp_path, "call ktime_get_ns\nexit")
    ran = pybpf("asm", text)
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "'ktime_get_ns'" in ran.err
    assert pybpf("asm", "--type", "xdp", text).status == 0
    assert decode((tmp_path / "program.bin").read_bytes())[0].imm == 5


def test_error_is_shown_in_its_line(pybpf: Run, tmp_path: Path) -> None:
    """Place and reason on the first line, as compilers write them; then the line with a caret."""
    path = source(tmp_path, "r0 = 1\n  if r0 == 3 goto nowhere\nexit")
    ran = pybpf("asm", path)
    assert ran.status == 2
    first, line, caret = ran.err.splitlines()
    assert first == f"pybpf: {path}:2:19: no label 'nowhere'"
    assert line == "  if r0 == 3 goto nowhere"
    assert caret.index("^") == line.index("nowhere")


def test_text_must_be_text(pybpf: Run, tmp_path: Path) -> None:
    path = tmp_path / "program.bpf"
    path.write_bytes(b"r0 = 1\n\xff")
    ran = pybpf("verify", path)
    assert (ran.status, ran.err) == (2, f"pybpf: {path}: no text: byte 7 is not UTF-8\n")


@pytest.mark.parametrize("name", ["stateful_firewall", "dapper", "xdp_router"])
def test_round_trip(pybpf: Run, tmp_path: Path, name: str) -> None:
    """What disasm prints, asm turns back into the bytes of the program, maps numbered."""
    (program,) = load(compiled(name)).programs.values()
    text = source(tmp_path, pybpf("disasm", compiled(name)).out)
    assert pybpf("asm", text).status == 0
    code = (tmp_path / "program.bin").read_bytes()
    assert len(code) == 8 * program.size
    numbers = {pc: program.map_number(reference.name) for pc, reference in program.references.items()}
    assert {pc: instruction.imm for pc, instruction in decode(code).items() if pc in numbers} == numbers
    ours = {pc: instruction for pc, instruction in program.code.items() if pc not in numbers}
    assert {pc: instruction for pc, instruction in decode(code).items() if pc not in numbers} == ours


def test_bytecode_can_be_read_again(pybpf: Run, tmp_path: Path) -> None:
    path = tmp_path / "accept.bin"
    path.write_bytes(encode(Program.from_asm("r0 = 1\nexit").code))
    assert pybpf("verify", "--type", "filter", path).status == 0
    assert pybpf("disasm", path).out == "    r0 = 1\n    exit\n"
    path.write_bytes(bytes(7))
    assert pybpf("verify", "--type", "filter", path).status == 2


def test_bytecode_of_a_big_endian_machine(pybpf: Run, tmp_path: Path) -> None:
    """Bytecode does not say its byte order: one has to. What does say it is not asked."""
    text = source(tmp_path, ".type filter\n.byteorder big\nr0 = 1\nexit")
    code = tmp_path / "program.bin"
    assert pybpf("asm", text).status == 0
    assert code.read_bytes() == bytes.fromhex("b700000000000001 9500000000000000")
    assert "r0 = 16777216" in pybpf("disasm", code).out
    assert "r0 = 1\n" in pybpf("disasm", "--byteorder", "big", code).out
    assert pybpf("inspect", code).out.startswith(f"{code}: little-endian")
    for told in (("--byteorder", "big", code), (text,)):
        assert pybpf("inspect", *told).out.startswith(f"{told[-1]}: big-endian")
        assert pybpf("verify", "--type", "filter", *told).status == 0
    for whole in (text, compiled("p0f")):
        ran = pybpf("verify", "--byteorder", "big", whole)
        assert (ran.status, ran.err.count("\n")) == (2, 1)
        assert "this says its own" in ran.err


def test_disasm_shows_source_slots_and_bytes(pybpf: Run) -> None:
    plain = pybpf("disasm", "--no-source", compiled("p0f")).out
    assert "; examples/" not in plain
    assert "; examples/p0f.c:" in pybpf("disasm", compiled("p0f")).out
    full = pybpf("disasm", "--pcs", "--encoding", compiled("p0f"), "p0f").out
    assert any(line.startswith("     0: b7 00 00 00 00 00 00 00") for line in full.splitlines())


def test_disasm_in_mnemonics(pybpf: Run) -> None:
    assert "mov32 %r0,0" in pybpf("disasm", "--syntax", "mnemonic", EXAMPLES / "objects/v3/p0f.o").out


def test_disasm_of_several_programs(pybpf: Run, shared_data: Path) -> None:
    """A comment before each says which it is, and a line is free between them."""
    out = pybpf("disasm", shared_data / "elf/linux/xdp_redirect_kern.o").out
    assert out.count("; program ") == 2
    assert "\n\n; program " in out
