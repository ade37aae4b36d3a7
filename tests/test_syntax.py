"""The text of instructions against the assemblers and disassemblers of LLVM and GNU."""

from __future__ import annotations

import io
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pybpf import AssemblyError, DecodeError, Instruction, assemble, decode, encode
from pybpf.instruction import ByteOrder
from pybpf.isa import ANY, KERNEL_OPS, OPS, Kind, Op, op
from pybpf.syntax import lines, quoted, read, words, write

Tool = Callable[[str], str]

LISTED = re.compile(r" *\d+:\t((?:[0-9a-f]{2} ?)+)\t(.*)")
"""A line of llvm-objdump -d: slot, bytes and text of an instruction."""


def samples(rows: tuple[Op, ...] = OPS, offsets: tuple[int, ...] = (0, 7, -8)) -> list[Instruction]:
    """A few instructions of each row: small, large and negative operands."""
    found = []
    for row in rows:
        for n, offset in enumerate(offsets):
            imm = (0x1234, -1, 0x7FFF_FFFF)[n]
            if row.slots == 2:
                imm = (5, 0xFFFF_FFFF_FFFF_FFFF, 0x1234_5678_9ABC_DEF0)[n]
                imm &= 0xFFFF_FFFF_FFFF_FFFF if row.next_imm is ANY else 0xFFFF_FFFF
            free = {"dst": n, "src": (10, 3, 0)[n], "offset": offset, "imm": imm}
            fixed = {name: getattr(row, name) for name in free}
            values = {name: free[name] if value is ANY else value for name, value in fixed.items()}
            found.append(Instruction(row, **values))
    return found


def section(path: Path, name: str = ".text") -> bytes:
    with path.open("rb") as file:
        data: bytes = ELFFile(file).get_section_by_name(name).data()
    return data


def run(*command: str, stdin: str = "") -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# What LLVM has no text for: wide loads by what they refer to, and functions of the kernel by number.
LLVM_LACKS = {"map_fd", "map_value_fd", "variable", "function", "map_index", "map_value_index", "kfunc"}
# The text of a local call is LLVM's text of a helper call; its gotol takes 16 bits; its indirect packet load no displacement.
LLVM_READS = {"local", "gotol", "ind"}


both_orders = pytest.mark.parametrize(("target", "order"), [("bpfel", "little"), ("bpfeb", "big")])


@pytest.mark.oracle
@both_orders
def test_llvm_assembles_what_we_write(tool: Tool, tmp_path: Path, target: str, order: ByteOrder):
    """The bytes of every row, from the text of the disassembler."""
    instructions = samples(tuple(row for row in OPS + KERNEL_OPS if row.code not in LLVM_LACKS | LLVM_READS))
    instructions += [i for i in samples() if i.op.code == "gotol" and abs(i.imm) < 1 << 15]
    text = "\n".join(map(write, instructions)) + "\n"
    path = tmp_path / "rows.o"
    run(tool("llvm-mc-22"), "-triple", target, "-mcpu=v4", "-filetype=obj", "-o", str(path), stdin=text)
    assert section(path) == encode(instructions, order)


@pytest.mark.oracle
@both_orders
def test_we_assemble_what_llvm_writes(tool: Tool, tmp_path: Path, target: str, order: ByteOrder):
    """Every row that LLVM has, disassembled by it."""
    instructions = samples(tuple(row for row in OPS + KERNEL_OPS if row.code not in LLVM_LACKS | {"ind"}))
    instructions += [replace(each, imm=0) for each in samples() if each.op.code == "ind"]
    path = tmp_path / "rows.o"
    octets = ",".join(map(str, encode(instructions, order)))
    run(tool("llvm-mc-22"), "-triple", target, "-filetype=obj", "-o", str(path), stdin=f".byte {octets}\n")
    listing = run(tool("llvm-objdump-22"), "-d", "--mcpu=v4", str(path))
    texts = [match[2] for line in listing.splitlines() if (match := LISTED.match(line))]
    assert len(texts) == len(instructions)
    for text, instruction in zip(texts, instructions, strict=True):
        assert assemble(text).code == _as_others_have_it({0: instruction}), text


@pytest.mark.oracle
@pytest.mark.parametrize("cpu", ["v1", "v3", "v4"])
def test_labels_mean_what_llvm_makes_of_them(tool: Tool, tmp_path: Path, cpu: str):
    text = "start: if r1 == 0 goto out\n r0 = 5 ll\n goto start\n if r1 > r2 goto <out>\n out: exit\n"
    target = tmp_path / "labels.o"
    llvm = text.replace("<out>", "out")
    run(
        tool("llvm-mc-22"), "-triple", "bpfel", f"-mcpu={cpu}", "-filetype=obj", "-o", str(target), stdin=llvm
    )
    assert decode(section(target)) == assemble(text).code


# Instructions that binutils 2.40 does not have in its normal syntax.
AS_LACKS = {"sdiv", "smod", "bswap", "movs8", "movs16", "movs32", "memsx", "gotol", "local", "kfunc"}
AS_ROWS = tuple(
    row
    for row in OPS
    if row.code not in AS_LACKS | LLVM_LACKS and (row.kind is not Kind.ATOMIC or row.code == "add")
)
"""Calls through registers belong to its dialect xBPF; of the atomics it has additions, under an older name."""

gnu_orders = pytest.mark.parametrize(("option", "order"), [("--EL", "little"), ("--EB", "big")])


@pytest.mark.oracle
@gnu_orders
def test_binutils_assembles_our_mnemonics(tool: Tool, tmp_path: Path, option: str, order: ByteOrder):
    """Displacements are not negative: before 2.41 the assembler wants ``[%r1+-8]``."""
    instructions = samples(AS_ROWS, offsets=(0, 7, 0x7FFF))
    source, target = tmp_path / "rows.s", tmp_path / "rows.o"
    text = "".join(write(each, "mnemonic") + "\n" for each in instructions)
    source.write_text(
        re.sub(r"^aadd(32)?", lambda m: "xaddw" if m[1] else "xadddw", text, flags=re.MULTILINE)
    )
    run(tool("bpf-as"), option, "-mxbpf", "-o", str(target), str(source))
    assert section(target) == encode(instructions, order)


@pytest.mark.oracle
@gnu_orders
def test_binutils_writes_what_we_assemble(tool: Tool, tmp_path: Path, option: str, order: ByteOrder):
    instructions = samples(tuple(row for row in AS_ROWS if row.code != "register"))
    source, target = tmp_path / "rows.s", tmp_path / "rows.o"
    source.write_text(f".byte {','.join(map(str, encode(instructions, order)))}\n")
    run(tool("bpf-as"), option, "-o", str(target), str(source))
    listing = run(tool("bpf-objdump"), "-d", str(target)).splitlines()
    texts = [match[1] for line in listing if (match := re.match(r" +[0-9a-f]+:\t[^\t]+\t(\S.*)", line))]
    assert len(texts) == len(instructions)
    for text, instruction in zip(texts, instructions, strict=True):
        assert assemble(text, syntax="mnemonic").code == _as_others_have_it({0: instruction}), text


def executable_sections(path: Path) -> Iterator[tuple[bytes, ByteOrder]]:
    """Contents and byte order of each section with code. Only headers are read: symbols may be damaged."""
    file = ELFFile(io.BytesIO(path.read_bytes()))
    for index in range(file.num_sections()):
        header = file._get_section_header(index)
        if header["sh_flags"] & 4 and header["sh_type"] == "SHT_PROGBITS" and header["sh_size"]:
            code = path.read_bytes()[header["sh_offset"] : header["sh_offset"] + header["sh_size"]]
            yield code, "little" if file.little_endian else "big"


@pytest.mark.oracle
@pytest.mark.slow
def test_objects_disassemble_as_llvm_does(tool: Tool, shared_data: Path):
    """Every instruction of every object: our reading of LLVM's text is our reading of the bytes."""
    undecodable: dict[str, str] = {}
    compared = 0
    seen: dict[tuple[str, str, ByteOrder], str] = {}
    for path in sorted(shared_data.glob("elf/**/*.o")):
        listing = run(tool("llvm-objdump-22"), "-d", "--mcpu=v4", str(path)).splitlines()
        for code, byteorder in executable_sections(path):
            try:
                decode(code, byteorder)
            except DecodeError as error:
                undecodable[path.name] = str(error)
        for match in filter(None, map(LISTED.match, listing)):
            text = re.sub(r" <\S+>$", "", match[2]).strip()
            seen[match[1], text, byteorder] = path.name
            compared += 1
    for (octets, text, byteorder), name in seen.items():
        if name not in undecodable:
            ours = decode(bytes.fromhex(octets), byteorder)
            assert assemble(text).code == _as_others_have_it(ours), (name, text)
    assert compared > 200_000
    assert undecodable == {"invalid-lddw.o": "pc 1: opcode 0x18: field offset is -1, must be 0"}


def _as_others_have_it(code: dict[int, Instruction]) -> dict[int, Instruction]:
    """LLVM and GNU write wide loads without what they refer to, and both kinds of call alike: we tell them by sign."""
    ((pc, instruction),) = code.items()
    if instruction.op.code in ("local", "helper"):
        local = instruction.imm < 0
        row = op(Kind.CALL_LOCAL, "local") if local else op(Kind.CALL, "helper")
        instruction = replace(instruction, op=row, src=int(local))
    if instruction.op.kind is Kind.LOAD_IMM64:
        instruction = replace(instruction, op=op(Kind.LOAD_IMM64, "imm"), src=0)
    return {pc: instruction}


def test_a_line_is_read_into_its_row_and_operands():
    (match,) = read(next(lines("  r2 = *(u32 *)(r1 - 8)  # comment")))
    assert (match.op.kind, match.op.size) == (Kind.LOAD, 4)
    assert {name: value.number for name, value in match.operands.items()} == {"dst": 2, "src": 1, "off": -8}


def test_a_call_reads_as_two_rows():
    """Which one is meant is the assembler's question: it knows the labels."""
    assert [match.op.code for match in read(next(lines("call next")))] == ["helper", "local"]


def test_names_are_quoted_where_they_would_be_read_as_something_else():
    plain = ["flows", ".rodata.str1.1", "_x$1", "LBB0_1", "s8x"]
    assert [quoted(name) for name in plain] == plain
    for name in ["", "r1", "w10", "1up", "a-b", "a b", "exit", "u32", "lddw", "é", "<x>"]:
        assert quoted(name).startswith('"')
        assert next(lines(quoted(name)))[0].name == name


def test_words_of_the_syntaxes():
    assert {"if", "goto", "ll", "u64", "atomic_fetch_xor"} <= words()
    assert {"mov32", "ldxdw", "fetch", "lddw"} <= words("mnemonic")
    assert not {"r", "w", "flows"} & words()


def test_lines_hold_the_places_of_their_tokens():
    found = list(lines("a: /* one\n two */ r1 = 5\n\n\t exit"))
    assert [[(token.text, token.line, token.column) for token in line] for line in found] == [
        [("a", 1, 1), (":", 1, 2), ("r1", 2, 9), ("=", 2, 12), ("5", 2, 14)],
        [("exit", 4, 3)],
    ]
    with pytest.raises(AssemblyError, match="line 2, column 3: unexpected character '@'"):
        list(lines("exit\n  @"))
