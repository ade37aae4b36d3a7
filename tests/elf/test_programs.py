"""What becomes a program: functions, sections, calls between them, and what code refers to."""

from __future__ import annotations

import pytest

from pybpf import (
    ArgumentError,
    DecodeError,
    LinkError,
    Object,
    Program,
    Reference,
    RefKind,
    Subprogram,
    UnsupportedError,
    encode,
    load,
    program_types,
)
from pybpf.elf.link import FUNCTION_SLOTS, MAX_SLOTS
from tests.elf.builder import (
    DATA,
    EXIT,
    FUNC,
    GLOBAL,
    LOCAL,
    MOV,
    NOTYPE,
    OBJECT,
    R_64_32,
    R_64_64,
    RETURN_2,
    RETURN_2_BIG,
    SECTION,
    UNDEFINED,
    Elf,
    call,
    load_address,
    slots,
)

HIDDEN = 2  # STV_HIDDEN
BAD = slots((0xFF, 0, 0, 0))


def text(program: Program) -> list[tuple[int, str, int]]:
    """(pc, operation, immediate) of each instruction."""
    return [(pc, each.op.code, each.imm) for pc, each in program.code.items()]


def names(obj: Object) -> list[str]:
    return list(obj.programs)


def test_each_function_of_a_section_is_a_program():
    """Whatever the order of the symbols; a symbol without a size reaches to the next."""
    elf = Elf()
    section = elf.section("xdp", MOV + EXIT + RETURN_2 + MOV + MOV + EXIT)
    elf.symbol("c", section, 32, 24)
    elf.symbol("a", section, 0, 16)
    elf.symbol("b", section, 16, 0)
    obj = load(elf.build())
    assert {name: program.size for name, program in obj.programs.items()} == {"a": 2, "b": 2, "c": 3}
    assert {program.section for program in obj.programs.values()} == {"xdp"}
    assert names(obj) == ["a", "b", "c"]


def test_a_section_without_function_symbols_is_a_program():
    """Labels are no functions: old compilers gave functions no type."""
    elf = Elf()
    section = elf.section("xdp1", RETURN_2)
    elf.section(".text", b"")
    elf.symbol("LBB0_1", section, 8, 0, NOTYPE, LOCAL)
    elf.symbol("xdp_prog1", section, 0, 0, NOTYPE, GLOBAL)
    elf.symbol("", section, 0, 0, SECTION, LOCAL)
    obj = load(elf.build())
    assert names(obj) == ["xdp1"]
    assert obj.programs["xdp1"].type == "xdp"


def test_no_symbol_table_at_all():
    """Stripped of everything, the sections are left."""
    elf = Elf()
    elf.section("xdp", MOV + EXIT)
    assert names(load(elf.build(symtab=False))) == ["xdp"]


@pytest.mark.parametrize(("imm", "section"), [(-1, "xdp"), (1, ".text"), (-1, "tc")])
def test_a_call_that_lost_its_relocation(imm: int, section: str):
    """With the symbols went what says whether a call stays in its section: it is not guessed, and spoils nothing else."""
    elf = Elf()
    elf.section("xdp", MOV + call(imm) + EXIT + RETURN_2)
    if section != "xdp":
        elf.section(section, RETURN_2)
    obj = load(elf.build(symtab=False))
    defect = obj.programs["xdp"].defect
    assert isinstance(defect, UnsupportedError)
    assert defect.feature == "symbols"
    said = "pc 1: the object has no symbols: it cannot be told which function this calls"
    assert str(defect) == f"xdp: {said}"
    assert obj.notes == (f"function 'xdp': {said}",)
    if section == "tc":
        assert obj.programs["tc"].defect is None


def test_a_call_by_offset_needs_no_symbols():
    """Where there is one section of code, a distance is a distance."""
    elf = Elf()
    elf.section("xdp", call(1) + EXIT + RETURN_2)
    program = load(elf.build(symtab=False)).programs["xdp"]
    assert program.defect is None
    assert [(f.name, f.pc) for f in program.functions.values()] == [("xdp", 0), ("xdp+2", 2)]


@pytest.mark.parametrize(
    ("data", "imm", "told"),
    [(".maps", 0, False), (".rodata", 8, False), ("license", 0, True), (".maps", 1 << 32, True)],
)
def test_a_number_that_may_have_been_an_address(data: str, imm: int, told: bool):
    """Without symbols, a wide load of a small number may have named a map or variable, where there are any."""
    elf = Elf()
    elf.section("xdp", slots((0x18, 1, 0, imm & 0xFFFF_FFFF), (0, 0, 0, imm >> 32)) + MOV + EXIT)
    elf.section(data, bytes(16), DATA)
    obj = load(elf.build(symtab=False))
    what = f"the object has no symbols: it cannot be told whether {imm} is a number, a map or a variable"
    unsupported = {0: Reference(RefKind.UNSUPPORTED, what, feature="symbols")}
    assert obj.programs["xdp"].references == ({} if told else unsupported)
    elf.symbol("xdp", 1, 0, 32)
    assert load(elf.build()).programs["xdp"].references == {}


def test_no_code():
    """A file of data alone is no error: there is nothing to run."""
    elf = Elf()
    elf.section(".text", b"")
    elf.section("license", b"GPL\0", DATA)
    obj = load(elf.build())
    assert (obj.programs, obj.license) == ({}, "GPL")


def test_two_symbols_of_one_place_and_two_functions_of_one_name():
    """An alias is no second program; a second function of the same name is, under another name."""
    elf = Elf()
    one = elf.section("xdp", RETURN_2)
    elf.symbol("f", one, 0, 16)
    elf.symbol("alias", one, 0, 16)
    for name in ("xdp/2", "xdp/3"):
        elf.symbol("f", elf.section(name, RETURN_2), 0, 16, FUNC, LOCAL)
    obj = load(elf.build())
    assert {name: program.section for name, program in obj.programs.items()} == {
        "f": "xdp",
        "f#2": "xdp/2",
        "f#3": "xdp/3",
    }
    assert [program.name for program in obj.programs.values()] == names(obj)


def test_functions_do_not_overlap():
    """A size that reaches into the next function ends there; so linking costs no more than the file is long."""
    elf = Elf()
    section = elf.section("xdp", RETURN_2 * 3)
    for start in (0, 16, 32):
        elf.symbol(f"f{start}", section, start, 2**40)
    assert [program.size for program in load(elf.build()).programs.values()] == [2, 2, 2]


def calling(symbol: str = "section") -> Elf:
    """Section xdp calls the second function of .text, which calls the first."""
    elf = Elf()
    subs = elf.section(".text", MOV + EXIT + call(-3) + EXIT + RETURN_2)
    main = elf.section("xdp", call(1 if symbol == "section" else -1) + MOV + EXIT)
    elf.symbol("", subs, 0, 0, SECTION, LOCAL)
    elf.symbol("first", subs, 0, 16, FUNC, LOCAL)
    elf.symbol("second", subs, 16, 16, FUNC, GLOBAL)
    elf.symbol("unused", subs, 32, 16, FUNC, GLOBAL)
    elf.symbol("main", main, 0, 24, FUNC, GLOBAL)
    elf.relocate(main, 0, 1 if symbol == "section" else 3, R_64_32)
    return elf


@pytest.mark.parametrize("symbol", ["section", "function"])
def test_called_functions_are_linked_behind_the_program(symbol: str):
    """Called by section and offset, by symbol, and inside a section by offset alone."""
    obj = load(calling(symbol).build())
    assert names(obj) == ["main"]
    main = obj.programs["main"]
    assert text(main) == [
        (0, "local", 2),
        (1, "mov", 1),
        (2, "exit", 0),
        (3, "local", 1),
        (4, "exit", 0),
        (5, "mov", 1),
        (6, "exit", 0),
    ]
    assert main.functions == {
        0: Subprogram("main", 0, 3, True),
        3: Subprogram("second", 3, 2, True),
        5: Subprogram("first", 5, 2, False),
    }
    assert main.code[0].target(0) == 3


def test_shared_functions_are_linked_into_each_program_once():
    """Two callers, two calls each, and recursion: every program has one copy."""
    elf = Elf()
    subs = elf.section(".text", call(-1) + EXIT)
    main = elf.section("xdp", (call(-1) + call(-1) + EXIT) * 2)
    elf.symbol("sub", subs, 0, 16)
    elf.symbol("a", main, 0, 24)
    elf.symbol("b", main, 24, 24)
    for offset in (0, 8, 24, 32):
        elf.relocate(main, offset, 1, R_64_32)
    obj = load(elf.build())
    for name in ("a", "b"):
        assert text(obj.programs[name]) == [
            (0, "local", 2),
            (1, "local", 1),
            (2, "exit", 0),
            (3, "local", -1),
            (4, "exit", 0),
        ]


def test_functions_of_text_are_programs_where_there_is_no_other_code():
    """But for those that others call."""
    elf = Elf()
    section = elf.section(".text", call(1) + EXIT + MOV + EXIT + RETURN_2)
    elf.symbol("main", section, 0, 16)
    elf.symbol("sub", section, 16, 16)
    elf.symbol("other", section, 32, 16)
    assert names(load(elf.build())) == ["main", "other"]


def test_functions_that_only_call_each_other():
    """The first is a program: no code of a file is lost. A function that calls itself is one."""
    elf = Elf()
    section = elf.section(".text", call(1) + EXIT + call(-3) + EXIT + call(-1) + EXIT + RETURN_2)
    for index, name in enumerate(("ping", "pong", "self", "plain")):
        elf.symbol(name, section, 16 * index, 16)
    assert names(load(elf.build())) == ["ping", "self", "plain"]


@pytest.mark.parametrize(
    ("bind", "other", "expected"),
    [(GLOBAL, 0, ["main", "sub"]), (LOCAL, 0, ["main"]), (GLOBAL, HIDDEN, ["main"])],
)
def test_called_functions_of_a_named_section(bind: int, other: int, expected: list[str]):
    """A global one is a program and a function of another; a static or hidden one is only called."""
    elf = Elf()
    section = elf.section("xdp", call(1) + EXIT + RETURN_2)
    elf.symbol("main", section, 0, 16)
    elf.symbol("sub", section, 16, 16, FUNC, bind, other)
    obj = load(elf.build())
    assert names(obj) == expected
    assert obj.programs["main"].functions[2].name == "sub"


def test_functions_without_symbols_begin_where_they_are_called():
    """A stripped file: by offset, and by relocation of the section."""
    elf = Elf()
    subs = elf.section(".text", MOV + EXIT + RETURN_2)
    main = elf.section("xdp", call(1) + call(1) + EXIT + MOV + EXIT)
    elf.symbol("", subs, 0, 0, SECTION, LOCAL)
    elf.relocate(main, 0, 1, R_64_32)
    program = load(elf.build()).programs["xdp"]
    assert [(f.name, f.pc, f.size) for f in program.functions.values()] == [
        ("xdp", 0, 3),
        (".text+2", 3, 2),
        ("xdp+3", 5, 2),
    ]
    assert text(program)[:2] == [(0, "local", 2), (1, "local", 3)]


@pytest.mark.parametrize("section", [".text", "helpers"])
def test_functions_whose_symbols_were_stripped_between_others(section: str):
    """As --strip-unneeded leaves static functions beside global ones: they begin where they are called, and are no programs."""
    elf = Elf()
    zeros = bytes(8)
    subs = elf.section(section, MOV + EXIT + RETURN_2 + zeros + MOV + EXIT + zeros)
    main = elf.section("xdp", call(1) + EXIT)
    elf.symbol("first", subs, 0, 16)
    elf.symbol("", subs, 0, 0, SECTION, LOCAL)
    elf.symbol("last", subs, 40, 16)
    elf.symbol("main", main, 0, 16)
    elf.relocate(main, 0, 2, R_64_32)
    obj = load(elf.build())
    assert names(obj) == (["main"] if section == ".text" else ["first", "last", "main"])
    program = obj.programs["main"]
    assert [(f.name, f.pc) for f in program.functions.values()] == [("main", 0), (f"{section}+2", 2)]
    assert program.code[2].imm == 2
    assert obj.notes == ()


@pytest.mark.parametrize("imm", [0, 2, 50, -3, 2**31 - 1])
def test_a_call_to_no_function(imm: int):
    """Into the middle of a function, behind the section, before it."""
    elf = Elf()
    section = elf.section("xdp", call(imm) + EXIT + RETURN_2)
    elf.symbol("main", section, 0, 16)
    elf.symbol("sub", section, 16, 16)
    obj = load(elf.build())
    defect = obj.programs["main"].defect
    assert isinstance(defect, LinkError)
    assert str(defect) == "symbol 'main': pc 0 refers to a place in the code where no function begins"
    assert obj.programs["sub"].defect is None


@pytest.mark.parametrize("by_section", [True, False])
def test_the_address_of_a_function(by_section: bool):
    """A callback is linked behind the program; the load says how far away it is, as Linux wants it."""
    elf = Elf()
    subs = elf.section(".text", RETURN_2 + MOV + EXIT)
    main = elf.section("tc", MOV + load_address(2, 16 if by_section else 0) + EXIT)
    elf.symbol("", subs, 0, 0, SECTION, LOCAL)
    elf.symbol("callback", subs, 16, 16, FUNC, LOCAL)
    elf.symbol("main", main, 0, 32)
    elf.relocate(main, 8, 1 if by_section else 2, R_64_64)
    program = load(elf.build()).programs["main"]
    assert program.references == {1: Reference(RefKind.FUNCTION, "callback", 4)}
    assert (program.code[1].op.code, program.code[1].src, program.code[1].imm) == ("function", 4, 2)
    assert program.functions[4].name == "callback"
    assert encode(program.code)[8:24] == slots((0x18, 0x42, 0, 2), (0, 0, 0, 0))


def extern(name: str, section: str, relocation: int = R_64_32, **options: str) -> Program:
    elf = Elf()
    main = elf.section(section, call() + EXIT)
    elf.symbol("main", main, 0, 16)
    elf.relocate(main, 0, elf.symbol(name, UNDEFINED, 0, 0, NOTYPE), relocation)
    return load(elf.build(), **options).programs["main"]


@pytest.mark.parametrize(
    ("name", "section", "number"),
    [
        ("bpf_map_lookup_elem", "xdp", 1),
        ("map_update_elem", "xdp", 2),
        ("bpf_ktime_get_ns", "kprobe/x", 5),
        ("map_lookup", "filter", 1),
        ("ubpf_hash", "filter", 6),
        ("time_get_ns", "filter", 5),
    ],
)
@pytest.mark.parametrize("relocation", [R_64_32, 2])
def test_helpers_by_name(name: str, section: str, number: int, relocation: int):
    """By the table of the program's type, Linux's where pybpf has none; both numbers that LLVM gave the relocation."""
    program = extern(name, section, relocation)
    assert program.references == {}
    assert (program.code[0].op.code, program.code[0].src, program.code[0].imm) == ("helper", 0, number)


@pytest.mark.parametrize(
    ("name", "section"), [("strlen", "xdp"), ("bpf_map_lookup_elem", "unknown"), ("hash", "xdp")]
)
def test_helpers_that_no_table_has(name: str, section: str):
    """The call keeps the name."""
    program = extern(name, section)
    assert program.references == {0: Reference(RefKind.HELPER, name)}
    assert (program.code[0].op.code, program.code[0].imm) == ("helper", -1)


def test_the_type_that_is_asked_for_gives_the_helpers():
    """An override reaches the names of helpers."""
    assert extern("bpf_map_lookup_elem", "unknown", type="xdp").code[0].imm == 1


@pytest.mark.parametrize(
    ("section", "type"),
    [
        ("xdp", "xdp"),
        ("?xdp/foo", "xdp"),
        ("filter", "filter"),
        ("socket", "socket_filter"),
        ("tc", "tc"),
        ("classifier/ingress", "tc"),
        ("kprobe/do_exit", "kprobe"),
        ("from-netdev", None),
        (".text", None),
    ],
)
def test_the_section_says_the_type(section: str, type: str | None):
    """By libbpf's conventions, also where pybpf cannot verify the type."""
    elf = Elf()
    elf.symbol("main", elf.section(section, RETURN_2), 0, 16)
    assert load(elf.build()).programs["main"].type == type
    assert load(elf.build(), type="filter").programs["main"].type == "filter"
    assert load(elf.build(), type=program_types.XDP).programs["main"].type is program_types.XDP


def test_an_unknown_type_is_refused():
    """Before the file is read."""
    with pytest.raises(ArgumentError, match="unknown program type 'xpd'"):
        load(b"", type="xpd")


@pytest.mark.parametrize(
    ("bad", "pc", "reason", "kept"),
    [
        (MOV + BAD + EXIT, 1, "unknown opcode 0xff", 1),
        (MOV + EXIT + bytes(4), 2, "program is 20 bytes long, not a multiple of 8", 2),
        (MOV + load_address()[:8], 1, "incomplete wide load: the program ends after its first half", 1),
    ],
)
def test_bad_instructions_spoil_one_program(bad: bytes, pc: int, reason: str, kept: int):
    """The defect says where; what stands before it can be shown; the neighbour is not touched."""
    elf = Elf()
    elf.symbol("bad", elf.section("xdp", bad), 0, len(bad))
    elf.symbol("good", elf.section("xdp/2", RETURN_2), 0, 16)
    obj = load(elf.build())
    defect = obj.programs["bad"].defect
    assert isinstance(defect, DecodeError)
    assert (defect.pc, defect.detail) == (pc, reason)
    assert len(obj.programs["bad"].code) == kept
    assert obj.programs["good"].defect is None
    assert obj.notes == (f"function 'bad': pc {pc}: {reason}",)


def test_bad_instructions_of_a_called_function():
    """The defect is the caller's, at the place in the linked program."""
    elf = Elf()
    subs = elf.section(".text", MOV + BAD + EXIT)
    main = elf.section("xdp", call() + EXIT + RETURN_2)
    elf.symbol("sub", subs, 0, 24)
    elf.symbol("main", main, 0, 16)
    elf.symbol("other", main, 16, 16)
    elf.relocate(main, 0, 1, R_64_32)
    obj = load(elf.build())
    defect = obj.programs["main"].defect
    assert isinstance(defect, DecodeError)
    assert defect.pc == 3
    assert obj.programs["other"].defect is None


@pytest.mark.parametrize(
    ("relocated", "offset", "type", "what"),
    [
        (MOV + EXIT, 0, R_64_64, "relocation type 1 of opcode 0xb7"),
        (load_address() + EXIT, 0, R_64_32, "relocation type 10 of opcode 0x18"),
        (load_address() + EXIT, 0, 3, "relocation type 3 of opcode 0x18"),
        (call() + EXIT, 0, 77, "relocation type 77 of opcode 0x85"),
    ],
)
def test_relocations_that_are_not_understood(relocated: bytes, offset: int, type: int, what: str):
    """The reference says so, the instruction stays."""
    elf = Elf()
    section = elf.section("xdp", relocated)
    elf.symbol("main", section, 0, len(relocated))
    elf.relocate(section, offset, 1, type)
    obj = load(elf.build())
    assert obj.programs["main"].references == {0: Reference(RefKind.UNSUPPORTED, what, feature="relocation")}
    assert obj.notes == (f"function 'main': {what}",)


@pytest.mark.parametrize("offset", [4, 16])
def test_relocations_between_instructions(offset: int):
    """In the middle of a slot, or of a wide load."""
    elf = Elf()
    section = elf.section("xdp", MOV + load_address() + EXIT)
    elf.symbol("main", section, 0, 32)
    elf.relocate(section, offset, 1)
    defect = load(elf.build()).programs["main"].defect
    assert isinstance(defect, LinkError)
    assert defect.detail == f"bad relocation offset {offset}"


def test_what_only_a_kernel_has():
    """An undefined variable is unsupported where its address is taken, and nowhere else."""
    elf = Elf()
    section = elf.section("xdp", load_address() + EXIT + RETURN_2)
    elf.symbol("main", section, 0, 24)
    elf.symbol("other", section, 24, 16)
    elf.relocate(section, 0, elf.symbol("LINUX_KERNEL_VERSION", UNDEFINED, 0, 0, NOTYPE))
    obj = load(elf.build())
    what = "extern variable 'LINUX_KERNEL_VERSION'"
    assert obj.programs["main"].references == {0: Reference(RefKind.UNSUPPORTED, what, feature="extern")}
    assert obj.programs["other"].references == {}
    assert obj.notes == (f"function 'main': {what}",)


def test_license_and_version():
    """The license ends at its first zero byte; the version is a number in the file's byte order."""
    elf = Elf("big")
    elf.symbol("main", elf.section("xdp", RETURN_2_BIG), 0, 16)
    elf.section("license", b"Dual MIT/GPL\0\0\0", DATA)
    elf.section("version", elf.words(0x060102), DATA)
    obj = load(elf.build())
    assert (obj.license, obj.version) == ("Dual MIT/GPL", 0x060102)
    assert obj.programs["main"].license == "Dual MIT/GPL"


@pytest.mark.slow
def test_programs_of_an_object_are_bounded():
    """Every program has its own copy of what it calls: thousands of small callers of a large function are too much."""
    elf = Elf()
    size = 4000
    subs = elf.section(".text", MOV * (size - 1) + EXIT)
    main = elf.section("xdp", (call() + EXIT) * 300)
    elf.symbol("sub", subs, 0, size * 8)
    for index in range(300):
        elf.symbol(f"main{index}", main, 16 * index, 16)
        elf.relocate(main, 16 * index, 1, R_64_32)
    defects = [program.defect for program in load(elf.build()).programs.values()]
    fit = MAX_SLOTS // (size + 2 + 2 * FUNCTION_SLOTS)
    assert 200 < fit < 300
    assert defects[:fit] == [None] * fit
    assert all(isinstance(defect, UnsupportedError) for defect in defects[fit:])
    assert str(defects[-1]) == "main299: the programs of the object have more than 1048576 slots"


def test_call_into_data():
    """A call needs code."""
    elf = Elf()
    section = elf.section("xdp", call() + EXIT)
    data = elf.section(".data", bytes(8), DATA)
    elf.symbol("main", section, 0, 16)
    elf.relocate(section, 0, elf.symbol("x", data, 0, 8, OBJECT), R_64_32)
    program = load(elf.build()).programs["main"]
    what = "call into section '.data'"
    assert program.references == {0: Reference(RefKind.UNSUPPORTED, what, feature="relocation")}


def test_code_that_is_not_relocated_stays_as_it_is():
    """A wide load of a constant is one, a helper's number is one."""
    elf = Elf()
    source = slots((0x18, 1, 0, 0x1234567), (0, 0, 0, 0x89ABCD)) + call(5, src=0) + MOV + EXIT
    elf.symbol("main", elf.section("xdp", source), 0, 40)
    program = load(elf.build()).programs["main"]
    assert encode(program.code) == source
    assert program.references == {}
    assert program.maps == ()
