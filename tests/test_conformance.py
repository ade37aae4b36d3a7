"""The plugin of the conformance suite: what it computes, and the protocol that its runner speaks."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from pybpf import ArgumentError, BpfError, Instruction, conformance, encode
from pybpf.asm import assemble
from pybpf.conformance import Arguments, parse
from pybpf.instruction import decode
from pybpf.isa import OPS, Kind, Op
from tests.conformance import Vector, read, spaced
from tests.elf.builder import Elf

VECTORS = [read(path) for path in sorted((Path(__file__).parent / "data/conformance").glob("*.data"))]
BY_NAME = {vector.name: vector for vector in VECTORS}

engines = pytest.mark.parametrize("option", ["--interpret", "--jit"])


class Plugin:
    """The plugin, called in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.capsys = capsys
        self.monkeypatch = monkeypatch

    def __call__(self, *words: str, program: bytes | str) -> tuple[int, str, str]:
        text = spaced(program) if isinstance(program, bytes) else program
        self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode("latin-1") + b"\n")))
        status = conformance.main(words)
        return status, *self.capsys.readouterr()


@pytest.fixture
def plugin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Plugin:
    return Plugin(capsys, monkeypatch)


def asm(text: str) -> bytes:
    return encode(assemble(text).code)


# What it computes


@engines
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_vector(plugin: Plugin, vector: Vector, option: str):
    """The result, or where there is none one line on standard error and a status that is not zero."""
    memory = [spaced(vector.memory)] if vector.memory else []
    status, out, error = plugin(*memory, option, program=vector.code)
    if vector.result is not None:
        assert (status, out, error) == (0, f"{vector.result:x}\n", "")
    else:
        assert (status, out, error.count("\n")) == (1, "", 1)
        assert error.startswith("pybpf: ")


def test_the_vectors_use_every_instruction():
    """All rows of the table but the wide loads of what only a loader knows."""
    used: set[Op] = set()
    for vector in VECTORS:
        if vector.result is not None:
            used |= {instruction.op for instruction in decode(vector.code).values()}
    by_code = {(op.kind, op.code) for op in used}
    wanted = {(op.kind, op.code) for op in OPS if op.kind is not Kind.LOAD_IMM64 or op.code == "imm"}
    assert wanted - by_code == {(Kind.CALL, "kfunc")}
    assert {op.group for op in OPS} == {op.group for op in used}


def test_native_code_and_interpreter_change_memory_alike(plugin: Plugin):
    program = asm("r0 = *(u64 *)(r1 + 8)\n *(u64 *)(r1 + 0) = r0\n r0 = *(u64 *)(r1 + 1)\n exit")
    memory = spaced(bytes(range(16)))
    assert plugin(memory, "--jit", program=program) == plugin(memory, program=program)


def test_an_endless_program_ends_in_the_interpreter(plugin: Plugin):
    status, out, error = plugin(program=asm("again: goto again"))
    assert (status, out) == (1, "")
    assert "still running after 1000000 instructions" in error


# The protocol


def test_bytes_stand_in_hexadecimal_with_any_number_of_blanks(plugin: Plugin):
    program = " 71 10 1 0\t0 0 0 0 \n95 0 0 0 0 0 0 0\n"
    assert plugin("0A  fF  ", program=program) == (0, "ff\n", "")


def test_the_result_is_all_64_bits_without_a_prefix(plugin: Plugin):
    assert plugin(program=asm("r0 = -2\n exit"))[1] == "fffffffffffffffe\n"


@engines
def test_r1_is_zero_and_r2_is_zero_without_memory(plugin: Plugin, option: str):
    assert plugin(option, program=asm("r0 = r1\n r0 |= r2\n exit"))[1] == "0\n"
    assert plugin("ff", option, program=asm("r0 = r1\n exit"))[1] != "0\n"


def test_an_empty_argument_is_none(plugin: Plugin):
    """The runner passes its plugin options as one argument, also where there are none."""
    assert plugin("", program=asm("r0 = r2\n exit"))[:2] == (0, "0\n")
    assert plugin("01 02 ", "", program=asm("r0 = r2\n exit"))[:2] == (0, "2\n")


def test_arguments():
    assert parse([]) == Arguments()
    assert parse(["1f 00", "--jit", "--elf"]) == Arguments(b"\x1f\0", jit=True, elf=True)
    assert parse(["--jit", "--interpret"]) == Arguments()


@pytest.mark.parametrize(
    "words",
    [["--fast"], ["00", "11"], ["--jit", "00"], ["zz"], ["123"], ["-1"], ["0x11"], ["+1"]],
    ids=" ".join,
)
def test_bad_arguments(plugin: Plugin, words: list[str]):
    with pytest.raises(ArgumentError):
        parse(words)
    status, out, error = plugin(*words, program=asm("r0 = 1\n exit"))
    assert (status, out, error.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("program", ["", "b7", "hello", "\xff\xfe", "b7 00 00 00 01 00 00"])
@engines
def test_bad_programs(plugin: Plugin, program: str, option: str):
    status, out, error = plugin(option, program=program)
    assert (status, out, error.count("\n")) == (1, "", 1)


@engines
def test_a_field_that_is_not_used_must_be_zero(plugin: Plugin, option: str):
    """Each such field of each instruction, one bit set at a time where no other instruction has that bit."""
    refused = 0
    for op in OPS:
        code = bytearray(encode([_plain(op)]))
        for bit in range(8, 8 * len(code)):
            code[bit // 8] ^= 1 << bit % 8
            try:
                decode(bytes(code))
            except BpfError:
                refused += 1
            code[bit // 8] ^= 1 << bit % 8
    assert refused == 5540
    assert plugin(option, program="b7 00 00 00 01 00 00 00 95 01 00 00 00 00 00 00")[0] == 1


def _plain(op: Op) -> Instruction:
    fields = {name: getattr(op, name) or 0 for name in ("dst", "src", "offset", "imm")}
    return Instruction(op, **fields)


# Objects


def object_with(section: str, code: bytes) -> bytes:
    """An object of one function, as the runner writes it."""
    elf = Elf()
    elf.symbol("main", elf.section(section, code), 0, len(code))
    return elf.build()


@engines
def test_an_object_of_plain_code_runs_over_memory(plugin: Plugin, option: str):
    """The runner writes the program as function ``main`` of section ``.text``."""
    program = object_with(".text", asm("r0 = *(u8 *)(r1 + 1)\n r0 += r2\n exit"))
    assert plugin("10 20 30", option, "--elf", program=program) == (0, "23\n", "")


@engines
def test_an_object_of_an_xdp_program_runs_over_a_packet(plugin: Plugin, option: str):
    text = """
        r2 = *(u32 *)(r1 + 4)
        r1 = *(u32 *)(r1 + 0)
        r2 -= r1
        r0 = *(u8 *)(r1 + 1)
        r0 += r2
        exit
    """
    program = object_with("xdp", asm(text))
    assert plugin("10 20 30", option, "--elf", program=program) == (0, "23\n", "")


def test_what_is_no_object(plugin: Plugin):
    assert plugin("--elf", program=asm("r0 = 0\n exit"))[0] == 1


# The process


@pytest.mark.parametrize(
    "command",
    [
        ["-m", "pybpf", "conformance"],
        ["-c", "import sys; from pybpf.conformance import main; sys.exit(main())"],
    ],
    ids=["command", "executable"],
)
def test_process(command: list[str]):
    vector = BY_NAME["memory-and-length"]
    done = subprocess.run(
        [sys.executable, *command, spaced(vector.memory), "--interpret"],
        input=spaced(vector.code) + "\n",
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "544\n", "")


def test_the_interpreter_starts_without_what_it_does_not_need():
    code = "import sys\nfrom pybpf.conformance import main\nmain([])\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], input=b"95 0 0 0 0 0 0 0", capture_output=True, check=True
    )
    loaded = done.stdout.decode().split()
    assert "pybpf.interpreter" in loaded
    for module in (
        "llvmlite",
        "numpy",
        "click",
        "rich",
        "elftools",
        "pybpf.verifier",
        "pybpf.asm",
        "pybpf.maps",
    ):
        assert module not in loaded
