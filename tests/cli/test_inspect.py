"""``pybpf inspect``: what an object holds."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pybpf.btf import Kind
from tests.btf.builder import BtfBuilder
from tests.cli.conftest import Run, compiled
from tests.cli.test_verify import UNSUPPORTED, source
from tests.elf.builder import DATA, NOBITS, OBJECT, R_64_64, RETURN_2, Elf, load_address


def test_json_of_an_example(pybpf: Run) -> None:
    holds = pybpf("inspect", "--format", "json", compiled("stateful_firewall")).json
    assert holds["byteorder"] == "little"
    assert holds["btf"]["types"] > 20
    assert holds["notes"] == []
    (program,) = holds["programs"]
    sources = program.pop("source")
    assert "examples/stateful_firewall.c" in sources
    size = program.pop("bytes")
    assert size % 8 == 0
    assert program == {
        "name": "stateful_firewall",
        "section": "filter",
        "type": "filter",
        "instructions": 198,
        "isa": 3,
        "functions": ["stateful_firewall"],
        "maps": ["sessions"],
        "helpers": ["time_get_ns", "map_lookup", "map_update", "map_delete"],
        "unsupported": [],
        "not_run": [],
    }
    (sessions,) = holds["maps"]
    assert (sessions["type"], sessions["key_size"], sessions["value_size"], sessions["max_entries"]) == (
        "hash",
        16,
        16,
        10000,
    )
    assert (sessions["key_type"], sessions["value_type"]) == ("struct flow", "struct session")
    assert sessions["supported"] is True


def test_text_of_an_example(pybpf: Run) -> None:
    ran = pybpf("inspect", compiled("dapper"))
    assert ran.status == 0
    assert "map_lookup" in ran.out
    assert "struct connection" in ran.out
    assert "unsupported" not in ran.out


def test_says_what_is_unsupported(pybpf: Run, tmp_path: Path) -> None:
    """Maps, helpers and types that pybpf does not know, and still status 0: the file could be read."""
    path = source(tmp_path, f".map routes frobnicator key=8 value=4 entries=1\nr1 = routes ll\n{UNSUPPORTED}")
    ran = pybpf("inspect", path)
    assert ran.status == 0
    assert "no type" in ran.out
    assert "map routes: type frobnicator" in ran.out
    (program,) = pybpf("inspect", "--format", "json", "--type", "filter", path).json["programs"]
    assert program["unsupported"] == ["map routes: type frobnicator", "helper 4242"]
    assert program["helpers"] == ["#4242"]
    assert program["not_run"] == []


def test_says_what_is_verified_and_not_run(pybpf: Run, tmp_path: Path) -> None:
    """The type, maps and helpers that pybpf knows and has no implementation of."""
    path = source(
        tmp_path,
        ".type tc\n.map calls prog_array key=4 value=4 entries=1\nr2 = calls ll\nr3 = 0\ncall tail_call\nr0 = 0\nexit",
    )
    (program,) = pybpf("inspect", "--format", "json", path).json["programs"]
    assert program["unsupported"] == []
    assert program["not_run"] == ["programs of type tc", "map calls: type prog_array", "helper tail_call"]
    out = pybpf("inspect", path).out.splitlines()
    assert "not run" in out
    assert "unsupported" not in out
    assert pybpf("verify", path).status == 0


def test_a_reason_of_a_program_is_not_noted_again(pybpf: Run, tmp_path: Path) -> None:
    """What the loader noted of a function says the same as what the program cannot use."""
    elf = Elf()
    maps = elf.section("maps", elf.words(77, 4, 8, 10), DATA)
    odd = elf.symbol("odd", maps, 0, 16, OBJECT)
    section = elf.section("xdp", load_address() + RETURN_2)
    elf.symbol("main", section, 0, 32)
    elf.relocate(section, 0, odd, R_64_64)
    (tmp_path / "a.o").write_bytes(elf.build())
    out = pybpf("inspect", tmp_path / "a.o").out
    assert out.count("unknown map type 77") == 1


def test_an_object_without_programs(pybpf: Run, tmp_path: Path) -> None:
    """What it holds is shown; a command that needs a program says that there is none."""
    elf = Elf()
    elf.symbol("m", elf.section("maps", elf.words(1, 4, 8, 10), DATA), 0, 16, OBJECT)
    (tmp_path / "a.o").write_bytes(elf.build())
    ran = pybpf("inspect", tmp_path / "a.o")
    assert ran.status == 0
    assert "no programs" in ran.out.splitlines()
    assert "hash" in ran.out
    assert pybpf("inspect", "--format", "json", tmp_path / "a.o").json["programs"] == []
    assert pybpf("verify", tmp_path / "a.o").err.endswith("holds no program\n")


def test_a_section_of_four_gigabytes_of_zeros(pybpf: Run, tmp_path: Path) -> None:
    """Its variables are listed, and no memory is taken for their values."""
    btf = BtfBuilder()
    size = 0xFFFF_FFF0
    variable = btf.add(Kind.VAR, "all", btf.add(Kind.ARRAY, "", 0, btf.int(), btf.int(), size // 4), 1)
    btf.datasec(".bss", (variable, 0, size))
    elf = Elf()
    elf.section(".bss", size, DATA, NOBITS)
    elf.section(".BTF", btf.build(), 0)
    elf.symbol("main", elf.section("xdp", RETURN_2), 0, 16)
    (tmp_path / "a.o").write_bytes(elf.build())
    (row,) = pybpf("inspect", "--format", "json", tmp_path / "a.o").json["globals"]
    assert (row["name"], row["size"], row["value"]) == ("all", size, None)


def test_narrow_terminals(pybpf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one table has no room, what programs use is a second one."""
    wide = pybpf("inspect", compiled("dapper")).out
    monkeypatch.setattr("pybpf.cli.inspect.has_room", lambda *_: False)
    narrow = pybpf("inspect", compiled("dapper")).out
    heads = [line.split() for line in narrow.splitlines() if line.startswith("program ")]
    assert heads == [
        ["program", "section", "type", "instructions", "bytes", "functions"],
        ["program", "maps", "helpers"],
    ]
    assert sum(line.startswith("program ") for line in wide.splitlines()) == 1


def test_unknown_program_types(pybpf: Run, tmp_path: Path) -> None:
    """A kind of program that pybpf has never heard of."""
    path = source(tmp_path, ".type frobnicator\nr0 = 0\nexit")
    (program,) = pybpf("inspect", "--format", "json", path).json["programs"]
    assert (program["type"], program["unsupported"]) == ("frobnicator", ["program type frobnicator"])


def test_reasons_are_told_once(pybpf: Run, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for what several programs cannot use, with the first of them and their number."""
    monkeypatch.setattr("pybpf.cli.describe.TYPES", {})
    out = pybpf("inspect", shared_data / "elf/linux/xdp_redirect_cpu_kern.o").out
    assert "  map cpus_available: type array (xdp_cpu_map0 and 5 more)" in out.splitlines()


GLOBALS = """
typedef unsigned int u32;
struct limits { u32 soft, hard; };
struct limits limits = {1, 2};
const volatile char name[8] = "abc";
static u32 seen;
struct { int (*type)[2]; u32 *key; struct limits *value; int (*max_entries)[4]; int (*pinning)[1]; }
    table __attribute__((section(".maps")));
struct inner { int (*type)[1]; u32 *key; u32 *value; int (*max_entries)[3]; } first __attribute__((section(".maps")));
struct { int (*type)[12]; int (*max_entries)[2]; u32 *key; struct inner *values[]; }
    outer __attribute__((section(".maps"))) = { .values = { [1] = &first } };
static void *(*const lookup)(void *, const void *) = (void *)1;
__attribute__((section("xdp"), used)) int main_prog(void *context)
{
    u32 key = 1;
    seen += limits.hard + name[1];
    return lookup(&table, &key) || lookup(&outer, &key) ? 2 : seen;
}
"""


@pytest.mark.oracle
@pytest.mark.slow
def test_globals_maps_and_compiler(pybpf: Run, tmp_path: Path, tool: Callable[[str], str]) -> None:
    """Variables with types and values, maps as C, what they are filled with, who made it."""
    path = tmp_path / "globals.c"
    path.write_text(GLOBALS)
    command = [
        tool("clang-22"),
        "-target",
        "bpfel",
        "-mcpu=v2",
        "-g",
        "-O2",
        "-c",
        path,
        "-o",
        tmp_path / "a.o",
    ]
    subprocess.run(command, check=True)
    holds = pybpf("inspect", "--format", "json", tmp_path / "a.o").json
    assert "clang version 22" in holds["producer"]
    assert holds["isa"] == holds["programs"][0]["isa"] <= 2
    assert holds["btf"]["kinds"]["datasec"] >= 4
    assert [
        (row["name"], row["section"], row["type"], row["value"], row["read_only"]) for row in holds["globals"]
    ] == [
        ("limits", ".data", "struct limits limits", {"soft": 1, "hard": 2}, False),
        ("name", ".rodata", "volatile const char name[8]", "abc", True),
        ("seen", ".bss", "u32 seen", 0, False),
    ]
    table, outer = (next(row for row in holds["maps"] if row["name"] == name) for name in ("table", "outer"))
    assert table["pinning"] == "name"
    assert table["definitions"] == ["struct limits {\n    u32 soft;\n    u32 hard;\n}"]
    assert (outer["inner"]["type"], outer["values"]) == ("hash", [{"index": 1, "name": "first"}])
    out = pybpf("inspect", tmp_path / "a.o").out
    for line in ("  struct limits {", "outer holds first at 1"):
        assert line in out.splitlines()
    assert "struct limits limits" in out
    assert "table (pinned: name)" in out


@pytest.mark.oracle
@pytest.mark.slow
def test_relocated_for_a_machine(pybpf: Run, tmp_path: Path, tool: Callable[[str], str]) -> None:
    """--btf, for every command that reads objects; what the machine lacks is told."""
    source = tmp_path / "a.c"
    attribute = "__attribute__((preserve_access_index))"
    source.write_text(
        "\n".join(
            [
                f"struct thing {{ int first, there, gone; }} {attribute};",
                '__attribute__((section("socket"), used)) int f(void *c)',
                "{ struct thing *t = 0; long there = (long)&t->there;",
                "  return __builtin_preserve_field_info(t->gone, 2) ? (long)&t->gone : there; }",
            ]
        )
    )
    types = tmp_path / "types.c"
    types.write_text("struct thing { long first; int there; }; int f(struct thing *t) { return t->there; }")
    for path in (source, types):
        command = [
            tool("clang-22"),
            "-target",
            "bpfel",
            "-g",
            "-O2",
            "-c",
            path,
            "-o",
            path.with_suffix(".o"),
        ]
        subprocess.run(command, check=True)
    program, machine = source.with_suffix(".o"), types.with_suffix(".o")
    assert pybpf("verify", program).status == 3
    assert pybpf("verify", "--btf", machine, program).status == 0
    assert "= 8" in pybpf("disasm", "--btf", machine, program).out
    assert "gone: the target has none (if it is reached)" in pybpf("inspect", "--btf", machine, program).out
    missing = pybpf("verify", "--btf", tmp_path / "none", program)
    assert (missing.status, missing.err) == (2, f"pybpf: {tmp_path / 'none'}: No such file or directory\n")
    assert pybpf("verify", "--btf", source, program).err == (
        f"pybpf: {source}: section '.BTF': wrong magic 0x7473, expected 0xeb9f\n"
    )
