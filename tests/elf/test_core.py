"""CO-RE relocations give the instructions that libbpf gives, and say what a target lacks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pybpf import ArgumentError, ElfError, Object, UnsupportedError, encode, instantiate, load, verify
from pybpf.btf import Btf, CoreRelocation, Kind
from pybpf.btf.relocation import Target, describe, resolve
from pybpf.elf.file import image_section
from tests.btf.builder import BtfBuilder
from tests.elf.libbpf import Libbpf

KERNEL = Path("/sys/kernel/btf/vmlinux")
HERE = Path(__file__).parent

Compile = Callable[..., Path]


@pytest.fixture(scope="module")
def compiled(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compile a file of this directory, once for each set of options."""
    directory, made = tmp_path_factory.mktemp("core"), dict[tuple[str, ...], Path]()

    def compile(name: str, *options: str, target: str = "bpfel") -> Path:
        key = (name, target, *options)
        if key not in made:
            made[key] = directory / f"{len(made)}.o"
            flags = ["-target", target, "-g", "-O2", "-Wno-everything", *options]
            subprocess.run([tool("clang-22"), *flags, "-c", HERE / name, "-o", made[key]], check=True)
        return made[key]

    return compile


def code(obj: Object) -> dict[str, bytes]:
    """The bytes of each program."""
    return {name: encode(program.code.values()) for name, program in obj.programs.items()}


@pytest.mark.oracle
@pytest.mark.slow
def test_like_libbpf(compiled: Compile):
    """Every kind of relocation, against types that differ in all the ways that count."""
    path, target = compiled("core.c"), compiled("core_target.c")
    expected = Libbpf().relocated(str(path), str(target))
    if expected is None:
        pytest.skip("libbpf may not load programs here")
    obj = load(path, btf=target)
    ours = code(obj)
    ours.pop("enum_gone")  # two bad calls in place of a wide load; here the load stays, and is unsupported
    expected.pop("enum_gone")
    assert len(ours) > 50
    assert ours == expected
    assert all(program.defect is None for program in obj.programs.values())


@pytest.mark.oracle
@pytest.mark.slow
def test_like_libbpf_for_the_running_kernel(compiled: Compile):
    """The kernel's types are found, and give the same."""
    path = compiled("core_kernel.c")
    expected = Libbpf().relocated(str(path), None) if KERNEL.exists() else None
    if expected is None:
        pytest.skip("no types of a running kernel, or libbpf may not load programs here")
    assert code(load(path, btf="kernel")) == expected


BIT_FIELDS = {"size_bits", "left", "left_negative"}
"""What compilers load a bit-field with is their choice, and libbpf's another."""


@pytest.mark.oracle
@pytest.mark.parametrize("target", ["bpfel", "bpfeb"])
def test_own_types_change_nothing(compiled: Compile, target: str):
    """Where the target is laid out as the compiler thought, its answers are the compiler's."""
    path = compiled("core.c", target=target)
    before, after = code(load(path)), code(load(path, btf=path))
    assert {name for name in before if before[name] != after[name]} <= BIT_FIELDS


@pytest.mark.oracle
@pytest.mark.parametrize(("target", "byte"), [("bpfel", 0b10110_101), ("bpfeb", 0b101_10110)])
def test_bit_fields(compiled: Compile, target: str, byte: int):
    """What is loaded and shifted as the answers say is the field: five bits behind three others."""
    path = compiled("core.c", target=target)
    obj = load(path, btf=path)
    first, size, left, right = (
        obj.programs[name].code[0].imm for name in ("offset_bits", "size_bits", "left", "right")
    )
    data = bytes([0xFF] * 56 + [byte] + [0xFF] * 16)
    loaded = int.from_bytes(data[first : first + size], obj.byteorder)  # type: ignore[arg-type]
    assert (loaded << left & (1 << 64) - 1) >> right == 0b10110


@pytest.mark.oracle
def test_forms_of_the_types(compiled: Compile, tmp_path: Path):
    """Types come as a file of BTF, its bytes, an ELF file, or read already."""
    path, target = compiled("core.c"), compiled("core_target.c")
    types = image_section(target.read_bytes(), ".BTF")
    raw = tmp_path / "raw"
    raw.write_bytes(types)
    expected = code(load(path, btf=target))
    for form in (str(target), target.read_bytes(), raw, types, Btf.parse(types)):
        assert code(load(path, btf=form)) == expected


def result(obj: Object, name: str) -> int:
    """What a program gives."""
    return instantiate(verify(obj.programs[name], "memory"), engine="interpreter").run(bytes(64)).value


@pytest.mark.oracle
def test_what_the_target_lacks(compiled: Compile):
    """It is unsupported only where it is reached: a test of its existence guards it."""
    obj = load(compiled("core.c"), btf=compiled("core_target.c"))
    assert obj.notes == ()
    assert result(obj, "exists") == 2
    assert result(obj, "load_gone") == 3
    for name, what in (("offset_gone", "struct moved.gone"), ("enum_gone", "enum color.MAUVE")):
        with pytest.raises(UnsupportedError, match=f"of {what}: the target has none") as caught:
            verify(obj.programs[name])
        assert caught.value.feature == "co-re"


@pytest.mark.oracle
def test_ambiguous_answers(compiled: Compile):
    """Two types of one name that disagree spoil the program that asks, and no other."""
    obj = load(compiled("core.c", "-DAMBIGUOUS"), btf=compiled("core_target.c"))
    with pytest.raises(UnsupportedError, match="2 types called 'twice' differ"):
        verify(obj.programs["offset_twice"])
    assert result(obj, "type_size_union") == 8


@pytest.mark.oracle
def test_without_types(compiled: Compile):
    """A program that needs none can be used."""
    obj = load(compiled("core.c"))
    assert result(obj, "type_id_local") > 0
    with pytest.raises(
        UnsupportedError, match=r"offset_moved: pc 0: .*struct moved.second: it needs the types"
    ):
        verify(obj.programs["offset_moved"])


@pytest.mark.oracle
def test_types_of_another_byte_order(compiled: Compile):
    """Bit-fields would be elsewhere."""
    with pytest.raises(ArgumentError, match="big-endian machine, the object is little-endian"):
        load(compiled("core.c"), btf=compiled("core_target.c", target="bpfeb"))


def test_no_types():
    """A file without them is refused."""
    for data in (b"", b"\x7fELF", bytes(100)):
        with pytest.raises(ElfError):
            load((HERE.parents[1] / "examples/objects").rglob("*.o").__next__(), btf=data)


def nested(members: int, levels: int) -> BtfBuilder:
    """A struct whose unnamed members are structs with unnamed members, and so on: more places than can be searched."""
    builder = BtfBuilder()
    inner = builder.struct("", 4, ("x", builder.int(), 0))
    for _ in range(levels):
        inner = builder.struct("", 4, *(("", inner, 0) for _ in range(members)))
    builder.struct("thing", 4, ("", inner, 0))
    return builder


@pytest.mark.parametrize(("members", "levels"), [(10, 12), (1, 80)])
def test_types_without_end(members: int, levels: int):
    """The search for a field is bounded, by members and by depth."""
    local = BtfBuilder()
    thing = local.struct("thing", 4, ("wanted", local.int(), 0))
    target = Target(Btf.parse(nested(members, levels).build()))
    with pytest.raises(ElfError, match="nested too deeply"):
        resolve(Btf.parse(local.build()), CoreRelocation(0, thing, "0:0", 0), target)


@pytest.mark.parametrize(
    "access", ["", ":", "0:", "x", "0:1:99999999999", "0:" * 80 + "0", "0:7", "0:0:0", "-1"]
)
@pytest.mark.parametrize("kind", [0, 10, 99])
def test_paths_that_lead_nowhere(access: str, kind: int):
    """Refused, and described all the same."""
    local = BtfBuilder()
    thing = local.struct("thing", 4, ("wanted", local.int(), 0))
    btf = Btf.parse(local.build())
    record = CoreRelocation(0, thing, access, kind)
    with pytest.raises(ElfError):
        resolve(btf, record, Target(btf))
    assert "type id 2" in describe(btf, record)


def test_types_that_refer_to_themselves():
    """Comparing pointers to pointers to ... ends."""
    local = BtfBuilder()
    local.add(Kind.PTR, "", 1)
    local.add(Kind.TYPEDEF, "endless", 1)
    btf = Btf.parse(local.build())
    for kind in (8, 12):
        with pytest.raises(ElfError, match="too deeply"):
            resolve(btf, CoreRelocation(0, 2, "0", kind), Target(btf))
