"""What the loader takes from BTF beside maps: source lines, CO-RE relocations, the names of kernel symbols."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pybpf import Object, SourceLine, UnsupportedError, load
from pybpf.btf import Kind
from tests.btf.builder import BtfBuilder
from tests.btf.test_ext import ExtBuilder
from tests.elf.builder import EXIT, MOV, NOTYPE, R_64_32, UNDEFINED, Elf, call


def described(
    elf: Elf,
    btf: BtfBuilder,
    lines: Sequence[tuple[int, ...]] = (),
    core: Sequence[tuple[int, ...]] = (),
) -> Object:
    """Load with records for section xdp."""
    ext = ExtBuilder(btf)
    data = ext.build(ext.part(8), ext.part(16, ("xdp", list(lines))), ext.part(16, ("xdp", list(core))))
    elf.section(".BTF", btf.build(), 0)
    elf.section(".BTF.ext", data, 0)
    return load(elf.build())


def two_functions() -> Elf:
    """A program of three slots that calls another, of two, with a slot between them."""
    elf = Elf()
    section = elf.section("xdp", call(3) + MOV + EXIT + MOV + MOV + EXIT)
    elf.symbol("main", section, 0, 24)
    elf.symbol("sub", section, 32, 16, bind=0)
    return elf


def test_lines_belong_to_functions():
    """Kept where they change, moved with the function, dropped between functions and behind the section."""
    btf = BtfBuilder()
    file, one, two = (btf.string(text) for text in ("a.c", "one();", "two();"))
    lines = [
        (0, file, one, 5 << 10 | 2),
        (8, file, one, 5 << 10 | 2),
        (16, file, 0, 0),
        (24, file, two, 77 << 10),
        (32, file, two, 9 << 10),
        (4800, file, two, 78 << 10),
    ]
    program = described(two_functions(), btf, lines).programs["main"]
    assert program.lines == {0: SourceLine("a.c", 5, 2, "one();"), 3: SourceLine("a.c", 9, 0, "two();")}
    assert program.source(2) == program.lines[0]
    assert program.source(4) == program.lines[3]


def test_two_records_for_one_instruction():
    """The last one counts, as it does for debuggers."""
    btf = BtfBuilder()
    file = btf.string("a.c")
    program = described(two_functions(), btf, [(0, file, 0, 9 << 10), (0, file, 0, 4 << 10)]).programs["main"]
    assert program.lines[0].line == 4


@pytest.mark.parametrize(
    ("struct", "kind", "fixed"),
    [
        ("xdp_md", 0, True),
        ("xdp_md", 2, True),
        ("xdp_md", 9, False),
        ("task_struct", 0, False),
        ("task_struct", 6, True),
        ("", 0, False),
    ],
)
def test_core_relocations(struct: str, kind: int, fixed: bool):
    """Fields of structs whose layout never changes, and the object's own type ids, need no kernel."""
    btf = BtfBuilder()
    id = btf.struct(struct, 4)
    program = described(two_functions(), btf, core=[(32, id, btf.string("0:0"), kind)]).programs["main"]
    if fixed:
        assert program.defect is None
    else:
        assert isinstance(program.defect, UnsupportedError)
        assert program.defect.feature == "co-re"
        assert str(program.defect).startswith("main: pc 3: CO-RE: ")
        assert str(program.defect).endswith("it needs the types of a kernel (btf=..., --btf)")


def test_core_relocations_of_types_that_are_not_there():
    """Unsupported like others."""
    btf = BtfBuilder()
    program = described(two_functions(), btf, core=[(0, 99, 0, 0)]).programs["main"]
    assert isinstance(program.defect, UnsupportedError)


def test_sections_of_one_name():
    """BTF names sections and does not number them: the lines are those of the first."""
    btf = BtfBuilder()
    elf = Elf()
    for name in ("one", "two"):
        elf.symbol(name, elf.section("xdp", MOV + EXIT), 0, 16)
    programs = described(elf, btf, [(0, btf.string("a.c"), 0, 3 << 10)]).programs
    assert [len(programs[name].lines) for name in ("one", "two")] == [1, 0]


def test_damaged_records():
    """Lines are lost, types are not."""
    elf, btf = two_functions(), BtfBuilder()
    btf.int()
    elf.section(".BTF", btf.build(), 0)
    elf.section(".BTF.ext", bytes(8), 0)
    obj = load(elf.build())
    assert obj.notes == ("section '.BTF.ext': not enough data for BTF.ext header",)
    assert obj.btf is not None
    assert obj.programs["main"].lines == {}


def test_types_that_refer_to_nothing():
    """Damage in the middle of the types is found before they are used."""
    btf = BtfBuilder()
    btf.datasec(".kconfig", (77, 0, 0))
    obj = described(two_functions(), btf)
    assert obj.btf is None
    assert obj.notes == ("section '.BTF': type id 1 refers to type id 77, which does not exist",)


def test_kernel_symbols():
    """The name of BTF's section says what an undefined symbol is."""
    btf = BtfBuilder()
    variable = btf.add(Kind.VAR, "CONFIG_HZ", btf.int(), 2)
    function = btf.add(Kind.FUNC, "bpf_cpumask_create", btf.add(Kind.FUNC_PROTO, "", 1), vlen=2)
    btf.datasec(".kconfig", (variable, 0, 4))
    btf.datasec(".ksyms", (function, 0, 0))
    elf = Elf()
    section = elf.section("xdp", call() + EXIT)
    elf.symbol("main", section, 0, 16)
    elf.relocate(section, 0, elf.symbol("bpf_cpumask_create", UNDEFINED, 0, 0, NOTYPE), R_64_32)
    program = described(elf, btf).programs["main"]
    assert program.references[0].name == "kernel symbol 'bpf_cpumask_create'"
    assert (program.code[0].op.code, program.code[0].src) == ("kfunc", 2)


def test_struct_ops():
    """A section of function pointers for the kernel is noted."""
    elf = two_functions()
    elf.section(".struct_ops", bytes(64), 3)
    assert load(elf.build()).notes == ("section '.struct_ops': maps of type struct_ops are not read",)
