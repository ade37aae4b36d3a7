"""Objects of public projects, old and new: every one loads, and other readers of the field find the same in it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pybpf import ElfError, MapSpec, Object, Program, RefKind, load
from pybpf.elf.file import ElfFile
from pybpf.program_types import LINUX_MAPS
from tests.conftest import SHARED
from tests.elf.libbpf import Libbpf

ELF = SHARED / "elf"
OBJECTS = sorted(path.relative_to(ELF) for path in ELF.rglob("*.o") if "invalid" not in path.parts)
INVALID = sorted(path.relative_to(ELF) for path in (ELF / "invalid").glob("*"))
EACH = pytest.mark.parametrize("path", OBJECTS, ids=str)


@pytest.fixture(scope="module")
def verdicts(shared_data: Path) -> dict[str, list[dict[str, object]]]:
    """What other verifiers were given, by file: section, function and number of slots."""
    by_file: dict[str, list[dict[str, object]]] = {}
    for row in json.loads((shared_data / "elf-verdicts.json").read_text()):
        by_file.setdefault(row["file"], []).append(row)
    return by_file


def test_the_objects_are_there(shared_data: Path):
    """The cases below are made from the files of the directory: it must not be empty."""
    assert len(OBJECTS) > 100
    assert len(INVALID) > 5


@EACH
def test_programs(path: Path, verdicts: dict[str, list[dict[str, object]]]):
    """By section, name and size as other tools count them, before functions are linked behind."""
    obj = load(ELF / path)
    expected = {
        (row["section"], row["function"], row["insns"])
        for row in verdicts[str(path)]
        if "not an entry program" not in row["linux"]["cls"]  # type: ignore[index]
    }
    assert {(p.section, p.name, p.functions[0].size) for p in obj.programs.values()} == expected


# What is not understood in the whole collection.
NOTED = {
    "cilium-examples/tcprtt_bpf_bpfel.o": [
        "function 'tcp_close': pc 1: CO-RE: field byte offset of struct sock.__sk_common.skc_family: "
        "it needs the types of a kernel (btf=..., --btf)"
    ],
}


@EACH
def test_nothing_is_left_open(path: Path):
    """Every operand is understood, but for the notes listed above; every program uses maps of the object."""
    obj = load(ELF / path)
    assert list(obj.notes) == NOTED.get(str(path), [])
    for program in obj.programs.values():
        assert (program.defect is None) == (str(path) not in NOTED)
        assert all(obj.maps[spec.name] == spec for spec in program.maps)
        assert sorted(program.functions) == list(program.functions)
        assert program.size == sum(function.size for function in program.functions.values())


@pytest.mark.parametrize("path", INVALID, ids=str)
def test_invalid_objects(path: Path):
    """Files that a fuzzer damaged: a documented error in one line, or an object."""
    try:
        message = " ".join(load(ELF / path).notes)
    except ElfError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.oracle
@EACH
def test_libbpf_finds_the_same(path: Path):
    """Where libbpf opens the file: programs by name, section, size and type; maps with all their numbers."""
    opened = Libbpf().open(str(ELF / path))
    if opened is None or not opened[0]:
        pytest.skip("this libbpf refuses the file: legacy maps, or function symbols without types")
    programs, maps = opened
    obj = load(ELF / path)
    assert {(p.name, p.section, p.slots) for p in programs} == {
        (p.name, p.section, p.functions[0].size) for p in obj.programs.values()
    }
    for program in programs:
        if program.type is not None:
            assert obj.programs[program.name].type == program.type
    numbers = {name: number for number, name in LINUX_MAPS.items()}
    data = {name for name in obj.maps if name.startswith(".")}
    ours = {
        (
            _short(m.name),
            numbers[m.type],
            m.key_size,
            m.value_size,
            m.max_entries,
            0 if m.name in data else m.flags,
        )
        for m in obj.maps.values()
    }
    theirs = {
        (_short(m.name), m.type, m.key_size, m.value_size, m.max_entries, 0 if "." in m.name else m.flags)
        for m in maps
    }
    assert ours == theirs


def _short(name: str) -> str:
    """libbpf puts a piece of the file's name before a data section's, and flags for the kernel on its map."""
    return name[name.index(".") :] if "." in name else name


@pytest.mark.oracle
@pytest.mark.slow
def test_map_references_are_where_readelf_finds_relocations(shared_data: Path, tool: Callable[[str], str]):
    """Every relocation of a wide load, in every object: the program refers to the map of that name at that slot."""
    readelf = tool("llvm-readelf-22")
    compared = 0
    for path in OBJECTS:
        obj = load(ELF / path)
        text = subprocess.run(
            [readelf, "-rsSW", ELF / path], capture_output=True, text=True, check=True
        ).stdout
        starts = _function_starts(text)
        for section, slots in _map_relocations(text, obj).items():
            found = {
                starts.get((program.section, program.name), 0) + pc: reference.name
                for program in obj.programs.values()
                if program.section == section
                for pc, reference in program.references.items()
                if reference.kind is RefKind.MAP and pc < program.functions[0].size
            }
            assert found == slots, path
            compared += len(slots)
    assert compared > 10_000


def _function_starts(text: str) -> dict[tuple[str, str], int]:
    """(section, function) -> first slot."""
    sections = dict(re.findall(r"^ +\[ *(\d+)\] (\S+) +PROGBITS", text, re.M))
    rows = re.findall(r"^ +\d+: ([0-9a-f]+) +\d+ FUNC +\w+ +\w+ +(\d+) (\S+)", text, re.M)
    return {(sections[index], name): int(value, 16) // 8 for value, index, name in rows}


def _map_relocations(text: str, obj: Object) -> dict[str, dict[int, str]]:
    """Section -> slot -> map, of the sections that hold programs."""
    sections = {program.section for program in obj.programs.values()}
    found: dict[str, dict[int, str]] = {}
    for block in re.split(r"^Relocation section ", text, flags=re.M)[1:]:
        section = re.match(r"'\.rel(.*?)'", block)
        assert section
        if section[1] in sections:
            rows = re.findall(r"^([0-9a-f]{16}) +\S+ R_BPF_64_64 +\S+ (\S+)", block, re.M)
            found[section[1]] = {
                int(offset, 16) // 8: name
                for offset, name in rows
                if name in obj.maps and not name.startswith(".")
            }
    return found


@pytest.mark.oracle
@pytest.mark.slow
def test_legacy_maps_are_the_bytes_that_objdump_shows(shared_data: Path, tool: Callable[[str], str]):
    """Definitions cut from the section by the symbols' values, in every object with a section `maps`."""
    dump = tool("llvm-objdump-22")
    compared = 0
    for path in OBJECTS:
        text = subprocess.run(
            [dump, "-s", "-j", "maps", "-t", ELF / path], capture_output=True, text=True
        ).stdout
        content = re.search(r"^Contents of section maps:\n((?: .*\n)+)", text, re.M)
        if content is None:
            continue
        data = b"".join(bytes.fromhex(line[6:41].replace(" ", "")) for line in content[1].splitlines())
        symbols = re.findall(r"^([0-9a-f]{16}) g +(?:O +)?maps\s+\S+ (\S+)$", text, re.M)
        obj = load(ELF / path)
        for value, name in symbols:
            words = [int.from_bytes(data[int(value, 16) + at :][:4], "little") for at in range(0, 20, 4)]
            expected = MapSpec(name, LINUX_MAPS[words[0]], *words[1:])
            assert {**_shown(obj.maps[name]), "inner": None} == {**_shown(expected), "inner": None}, path
            compared += 1
    assert compared > 100


def _shown(spec: MapSpec) -> dict[str, object]:
    return {
        name: getattr(spec, name)
        for name in ("name", "type", "key_size", "value_size", "max_entries", "flags")
    }


@pytest.mark.oracle
@pytest.mark.slow
def test_source_lines_are_those_of_the_debug_information(shared_data: Path, tool: Callable[[str], str]):
    """DWARF, as objdump reads it, names the same line for every instruction of a program that has both.

    But for the first line: clang's BTF names that of the declaration, its DWARF that of the opening brace.
    """
    dump = tool("llvm-objdump-22")
    compared = 0
    for name in [path for path in OBJECTS if path.parent.name == "build"]:
        obj = load(ELF / name)
        for program in obj.programs.values():
            lines = _dwarf_lines(dump, ELF / name, program)
            opening = len(program.lines) > 1 and sorted(program.lines)[1]
            for pc, line in lines.items():
                if pc < opening:
                    continue
                source = program.source(pc)
                assert source is not None
                assert (Path(source.file).name, source.line) == line, (name, program.name, pc)
                compared += 1
    assert compared > 300


def _dwarf_lines(dump: str, path: Path, program: Program) -> dict[int, tuple[str, int]]:
    """Slot of the entry function -> (file, line)."""
    text = subprocess.run(
        [dump, "-dl", "--no-show-raw-insn", "-j", program.section, path],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    body = text.partition(f"<{program.name}>:\n")[2].partition("\n\n")[0]
    lines: dict[int, tuple[str, int]] = {}
    current, start = None, None
    for row in body.splitlines():
        if place := re.match(r"; (.*):(\d+)$", row):
            current = (Path(place[1]).name, int(place[2]))
        elif instruction := re.match(r" +(\d+):", row):
            slot = int(instruction[1])
            if start is None:
                start = slot
            elif current and current[1]:
                lines[slot - start] = current
    return lines


@pytest.mark.slow
def test_loading_touches_no_debug_information_but_btf(shared_data: Path):
    """DWARF is most of the largest object: that it is destroyed is not noticed."""
    path = max((ELF / path for path in OBJECTS), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    clean = load(bytes(data))
    for section in ElfFile(bytes(data)).sections:
        if section.name.startswith((".debug", ".rel.debug")):
            data[section.offset : section.offset + section.size] = b"\xff" * section.size
    assert load(bytes(data)).programs == clean.programs


@pytest.mark.parametrize("path", OBJECTS[::10], ids=str)
def test_every_object_under_any_type(path: Path):
    """Asking for a type changes the type, and never makes an object fail to load."""
    for type in ("filter", "xdp", "memory"):
        obj = load(ELF / path, type=type)
        assert {program.type for program in obj.programs.values()} == {type}
