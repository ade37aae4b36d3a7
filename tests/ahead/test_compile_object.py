"""Programs linked into C do what they do in Python: results, packets, maps; here and on other machines."""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pybpf
from pybpf import ArgumentError, MapSpec, Program, UnsupportedError, VerifiedProgram, helpers, maps
from pybpf.ahead import CompiledObject, compile_object
from pybpf.ahead.link import link_shared
from pybpf.interpreter import Interpreter
from pybpf.program_types import FILTER
from tests.ahead.c_program import NOW, build, has, run
from tests.docs.markdown import ROOT

OBJECTS = sorted((ROOT / "examples/objects/v3").glob("*.o"))
CAPTURES = [
    ROOT / "examples/captures" / f"{name}.pcap" for name in ("http", "p0f", "ipv6", "vlan", "synflood")
]

MACHINES = {
    "x86-64": (None, "generic", "cc", [], []),
    "this processor": (None, "native", "cc", [], []),
    "aarch64": ("aarch64-linux-gnu", "generic", "aarch64-linux-gnu-gcc", ["-static"], ["qemu-aarch64"]),
    "riscv64": ("riscv64-linux-gnu", "generic", "riscv64-linux-gnu-gcc", ["-static"], ["qemu-riscv64"]),
}


def proof(path: Path) -> VerifiedProgram:
    return pybpf.verify(next(iter(pybpf.load(path).programs.values())))


def packets_for(verified: VerifiedProgram) -> list[bytes]:
    least = verified.type.minimum_length
    return [packet for path in CAPTURES for packet in pybpf.read_pcap(path) if len(packet) >= least]


FEW = ("dapper", "stateful_firewall", "xdp_counter", "xdp_router")
"""Examples with maps of both kinds, the clock, a context, loops and packets that are written."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "machine"),
    [(path, machine) for path in OBJECTS for machine in MACHINES if machine == "x86-64" or path.stem in FEW],
    ids=lambda value: getattr(value, "stem", value),
)
def test_examples_in_c(tmp_path, path, machine):
    """Against the interpreter, whose clock stands still as that of the C program does."""
    target, cpu, compiler, options, emulator = MACHINES[machine]
    if not has(compiler, *emulator):
        pytest.skip(f"{', '.join([compiler, *emulator])}: not installed")
    verified = proof(path)
    packets = packets_for(verified)
    made = [maps.create(spec, seed=1) for spec in verified.program.maps]
    interpreter = Interpreter(verified.program, verified.type, made, clock=lambda: NOW)
    outcomes = [interpreter.run(packet) for packet in packets]
    expected = [outcome.value for outcome in outcomes], [outcome.packet for outcome in outcomes]
    compiled = compile_object(verified, target=target, cpu=cpu)
    for batch in (True, False):
        program = build(compiled, tmp_path, compiler, *options, batch=batch)
        values, left, contents = run([*emulator, program], packets)
        assert (values, left) == expected
        assert contents == [dict(map) for map in made]


DATA = MapSpec("data", "array", 4, 16, 1, initial=bytes(range(1, 17)))
CONSTANTS = MapSpec(".rodata", "array", 4, 8, 1, initial=b"constant", read_only=True)
SEEN = MapSpec("seen", "hash", 2, 3, 20)


def verified(text: str, type: Any = FILTER) -> VerifiedProgram:
    known = {spec.name: spec for spec in (DATA, CONSTANTS, SEEN)}
    return pybpf.verify(Program.from_asm(text, type, maps=known))


class Loaded:
    """A shared library in this process."""

    def __init__(self, made: CompiledObject, directory: Path) -> None:
        (directory / "program.o").write_bytes(made.code)
        link_shared(directory / "program.o", directory / "program.so", None)
        self.library = ctypes.CDLL(str(directory / "program.so"))
        self.interface = made.interface
        self.blocks = [ctypes.create_string_buffer(map.layout.size + 64) for map in made.interface.maps]
        self.maps = [-(-ctypes.addressof(block) // 64) * 64 for block in self.blocks]
        self.state = (ctypes.c_uint64 * (6 + len(self.maps)))(0, 0, 0, 0, 0, 2**64 - 1, *self.maps)
        for map, block in zip(made.interface.maps, self.maps, strict=True):
            self.function(f"{map.name}_init", None)(ctypes.c_void_p(block), 77)

    def function(self, name: str, result: Any = ctypes.c_int64) -> Any:
        function = getattr(self.library, f"{self.interface.name}_{name}")
        function.restype = result
        return function

    def run(self, packet: bytes) -> int:
        value: int = self.function("run", ctypes.c_uint64)(self.state, packet, len(packet))
        return value


needs_linker = pytest.mark.skipif(not has("cc"), reason="no C compiler to link with")


@needs_linker
def test_maps_begin_with_their_contents_and_can_be_used_from_c(tmp_path):
    text = """
        r1 = data + 0 ll
        r0 = *(u64 *)(r1 + 0)
        r1 = .rodata + 0 ll
        r1 = *(u64 *)(r1 + 0)
        r0 ^= r1
        r1 = seen ll
        exit
    """
    loaded = Loaded(compile_object(verified(text), name="one.two"), tmp_path)
    assert loaded.interface.name == "one_two"
    first = int.from_bytes(DATA.initial[:8], "little") ^ int.from_bytes(b"constant", "little")
    assert loaded.run(b"") == first
    names = [map.name for map in loaded.interface.maps]
    assert names == ["data", "rodata", "seen"]
    seen = ctypes.c_void_p(loaded.maps[2])
    update, lookup, delete = (loaded.function(f"seen_{name}") for name in ("update", "lookup", "delete"))
    lookup.restype = ctypes.c_void_p
    assert update(seen, b"ab", b"xyz", ctypes.c_uint64(0)) == 0
    assert update(seen, b"ab", b"uvw", ctypes.c_uint64(1)) == -17  # EEXIST
    assert ctypes.string_at(lookup(seen, b"ab"), 3) == b"xyz"
    assert lookup(seen, b"cd") is None
    keys, values = ctypes.create_string_buffer(40), ctypes.create_string_buffer(60)
    assert loaded.function("seen_snapshot")(seen, keys, values, ctypes.c_uint64(20)) == 1
    assert (keys.raw[:2], values.raw[:3]) == (b"ab", b"xyz")
    assert [delete(seen, b"ab"), delete(seen, b"ab")] == [0, -2]
    constants = ctypes.c_void_p(loaded.maps[1])
    assert loaded.function("rodata_update")(constants, bytes(4), bytes(8), ctypes.c_uint64(0)) == -1  # EPERM


@needs_linker
@pytest.mark.parametrize(
    ("offset", "length"),
    [(90, 11), (101, 0), (2**64 - 1, 5), (0, 61)],
    ids=["ends outside", "begins outside", "wraps", "too long"],
)
def test_packet_that_does_not_lie_in_the_buffer_is_not_run(tmp_path, offset, length):
    loaded = Loaded(compile_object(verified("r0 = r2\n exit"), name="one"), tmp_path)
    offsets = (ctypes.c_uint64 * 40)(*range(40))
    lengths, results = (ctypes.c_uint32 * 40)(*range(40)), (ctypes.c_uint64 * 40)(*[7] * 40)
    offsets[33], lengths[33] = offset, length
    size, count, limit = (ctypes.c_uint64(number) for number in (100, 40, 60))
    run = loaded.function("run_batch", ctypes.c_uint64)
    assert run(loaded.state, bytes(100), size, offsets, lengths, results, count, None, limit) == 33
    assert list(results) == [*range(33), *[7] * 7]
    assert loaded.state[0] == 0


@needs_linker
def test_budget_in_c(tmp_path):
    text = "r0 = 0\n r3 = 0\nl:\n r0 += r3\n r3 += 1\n if r3 < 40 goto l\n exit"
    proof = verified(text, "memory")
    loaded = Loaded(compile_object(proof, counts=True), tmp_path)
    assert loaded.run(b"") == 780
    loaded.state[5] = 50
    loaded.run(b"")
    assert (loaded.state[0] >> 32, loaded.state[0] & 0xFFFF_FFFF) == (8, 2)
    loaded.state[0], loaded.state[5] = 0, 123
    assert loaded.run(b"") == 780


def test_header_says_what_the_caller_must_know():
    little = verified("r0 = 1\n exit", replace(FILTER, minimum_length=14))
    assert "at least 14 bytes long" in compile_object(little).header
    assert "at most 2 instructions" in compile_object(little).header
    assert "big-endian" not in compile_object(little).header
    big = pybpf.verify(replace(little.program, byteorder="big"))
    assert "big-endian" in compile_object(big).header


def test_code_with_checks_and_without():
    proof = verified("r0 = 0\n if r2 < 8 goto out\n r2 &= 7\n r1 += r2\n r0 = *(u8 *)(r1 + 0)\nout:\n exit")
    with_checks, without = (compile_object(proof, form="llvm", checks=checks) for checks in (True, False))
    assert with_checks.code != without.code


@pytest.mark.parametrize("form", ["object", "assembly", "llvm"])
def test_forms(form):
    code = compile_object(verified("r0 = 1\n exit"), name="one", form=form).code
    assert code.startswith(b"\x7fELF") == (form == "object")
    assert b"one_run_batch" in code


def test_code_and_header_are_the_same_each_time():
    first, second = (compile_object(proof(OBJECTS[0])) for _ in range(2))
    assert (first.code, first.header) == (second.code, second.header)


@pytest.mark.skipif(not has("cc", "c++"), reason="no C++ compiler")
@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.stem)
def test_header_is_c_and_cpp(tmp_path, path):
    (tmp_path / "program.h").write_text(compile_object(proof(path)).header)
    for compiler, suffix, standard in (("cc", "c", "c99"), ("c++", "cc", "c++11")):
        source = tmp_path / f"main.{suffix}"
        source.write_text('#include "program.h"\n#include "program.h"\nint main(void) { return 0; }\n')
        command = [
            compiler,
            f"-std={standard}",
            "-Wall",
            "-Wextra",
            "-pedantic",
            "-Werror",
            "-fsyntax-only",
            source,
        ]
        subprocess.run(command, check=True, cwd=tmp_path)


def test_two_programs_can_be_linked_together():
    names = [compile_object(verified("r0 = 1\n exit"), name=name, form="llvm").code.decode() for name in "ab"]
    exported = [
        {
            line.split("@")[1].split("(")[0]
            for line in text.splitlines()
            if line.startswith("define ") and " internal " not in line
        }
        for text in names
    ]
    assert exported == [{"a_run", "a_run_batch"}, {"b_run", "b_run_batch"}]


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("s390x-linux-gnu", "must be little-endian with pointers of 64 bits"),
        ("armv7-linux-gnueabihf", "must be little-endian with pointers of 64 bits"),
        ("x86_64-pc-windows-msvc", "and ELF files"),
        ("nonsense-linux", "LLVM has no code for target 'nonsense-linux'"),
    ],
)
def test_machines_that_pybpf_does_not_compile_for(target, says):
    with pytest.raises(UnsupportedError, match=says):
        compile_object(verified("r0 = 1\n exit"), target=target)


def test_processors():
    proof = verified("r0 = 1\n exit")
    with pytest.raises(ArgumentError, match="LLVM knows no processor 'z80' of target 'aarch64-linux-gnu'"):
        compile_object(proof, target="aarch64-linux-gnu", cpu="z80")
    with pytest.raises(ArgumentError, match="the processor at hand is none of target 'riscv64-linux-gnu'"):
        compile_object(proof, target="riscv64-linux-gnu", cpu="native")


@pytest.mark.parametrize("name", ["", "7seas", "...", "while"])
def test_names_that_c_cannot_have(name):
    with pytest.raises(ArgumentError, match="is no name in C"):
        compile_object(verified("r0 = 1\n exit"), name=name)


def test_maps_whose_names_are_one_in_c():
    first, second = replace(SEEN, name="a.b"), replace(SEEN, name="a_b")
    text = "r1 = m ll\n r1 = n ll\n r0 = 1\n exit"
    program = Program.from_asm(
        text, FILTER, maps={"m": replace(SEEN, name="m"), "n": replace(SEEN, name="n")}
    )
    names = {"m": first, "n": second}
    program = replace(
        program,
        maps=tuple(names[spec.name] for spec in program.maps),
        references={pc: replace(r, name=names[r.name].name) for pc, r in program.references.items()},
    )
    with pytest.raises(ArgumentError, match="two maps are called 'a_b' in C"):
        compile_object(pybpf.verify(program))


def test_helper_of_the_host_is_unsupported():
    type = replace(
        FILTER, helpers={**FILTER.helpers, 100: helpers.Helper("alarm", "any -> num", lambda machine, r1: 0)}
    )
    with pytest.raises(UnsupportedError, match="helper alarm is not machine code"):
        compile_object(pybpf.verify(Program.from_asm("r1 = 1\n call alarm\n exit", type)))


@needs_linker
def test_linker_that_refuses(tmp_path):
    (tmp_path / "no.o").write_bytes(b"no object")
    with pytest.raises(UnsupportedError, match="makes no shared library: "):
        link_shared(tmp_path / "no.o", tmp_path / "no.so", None)
