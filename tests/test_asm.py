"""Programs as text: the assembler and the disassembler are each other's inverse, and errors say where and why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybpf import (
    ArgumentError,
    AssemblyError,
    DecodeError,
    Instruction,
    MapSpec,
    Program,
    Reference,
    RefKind,
    SourceLine,
    Subprogram,
    assemble,
    decode,
    disassemble,
    encode,
    helpers,
    load,
    program_types,
)
from pybpf.asm import format_instruction
from pybpf.btf import Btf
from pybpf.btf import Kind as BtfKind
from pybpf.isa import OPS, Kind, Op, op
from pybpf.semantics import U32
from pybpf.syntax import Syntax
from tests.btf.builder import BtfBuilder
from tests.instructions import any_instruction, instructions, label

EXAMPLES = Path(__file__).parents[1] / "examples"
FLOWS = MapSpec("flows", "hash", key_size=4, value_size=8, max_entries=16)
RODATA = MapSpec(".rodata", "array", 4, 16, 1, flags=0x80, initial=bytes(range(16)), read_only=True)
MAPS = {spec.name: spec for spec in (FLOWS, RODATA)}


def one(text: str, **options: object) -> Instruction:
    """The only instruction of a text."""
    (instruction,) = assemble(text, **options).code.values()  # type: ignore[arg-type]
    return instruction


def refusal(text: str, **options: object) -> AssemblyError:
    with pytest.raises(AssemblyError) as raised:
        assemble(text, **options)  # type: ignore[arg-type]
    return raised.value


# Both ways


@pytest.mark.parametrize("syntax", ["pseudo-c", "mnemonic"])
@pytest.mark.parametrize("row", OPS, ids=label)
@settings(max_examples=10)
@given(data=st.data())
def test_every_row_is_read_as_it_is_written(row: Op, syntax: Syntax, data: st.DataObject):
    """Any operands, in both syntaxes, with and without the columns of slots and bytes."""
    program = Program("program", {0: data.draw(instructions(row))})
    for columns in (False, True):
        text = disassemble(program, pcs=columns, encoding=columns, syntax=syntax)
        assert assemble(text, syntax=syntax).code == program.code


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Programs with jumps to instructions and beside them, calls, maps, functions and references of every kind."""
    code: dict[int, Instruction] = {}
    for instruction in draw(st.lists(any_instruction(), min_size=1, max_size=12)):
        code[sum(each.slots for each in code.values())] = instruction
    pcs = st.sampled_from(sorted(code))
    functions = {pc: f"function_{pc}" for pc in draw(st.sets(pcs, max_size=3))}
    references: dict[int, Reference] = {}
    maps: dict[str, MapSpec] = {}
    for pc, instruction in code.items():
        if instruction.op.kind in (Kind.JUMP, Kind.BRANCH) and draw(st.booleans()):
            field = "imm" if instruction.op.code == "gotol" else "offset"
            code[pc] = replace(instruction, **{field: draw(pcs) - pc - 1})
        if instruction.op.kind is Kind.CALL_LOCAL:
            callee = draw(st.sampled_from(sorted(functions))) if functions else None
            code[pc] = replace(instruction, imm=1000 if callee is None else callee - pc - 1)
        if instruction.op.kind is Kind.LOAD_IMM64 and draw(st.booleans()):
            spec = draw(
                st.sampled_from([FLOWS, RODATA, replace(FLOWS, name="exit"), replace(FLOWS, name="a b")])
            )
            if draw(st.booleans()):
                references[pc] = Reference(RefKind.MAP, spec.name)
                wide = replace(instruction, op=op(Kind.LOAD_IMM64, "map_fd"), src=1, imm=0)
            else:
                references[pc] = Reference(RefKind.VALUE, spec.name, draw(st.integers(0, U32)))
                imm = references[pc].offset << 32
                wide = replace(instruction, op=op(Kind.LOAD_IMM64, "map_value_fd"), src=2, imm=imm)
            code[pc] = wide
            maps.setdefault(spec.name, spec)
    called = {i.target(pc) for pc, i in code.items() if i.op.kind is Kind.CALL_LOCAL} & functions.keys()
    return Program(
        "program",
        code,
        draw(st.sampled_from([None, "xdp", "filter", "tracepoint"])),
        references=references,
        maps=tuple(maps.values()),
        functions=_subprograms(functions, called, code),
        license=draw(st.sampled_from(["", "GPL", 'Dual "BSD"/GPL'])),
    )


def _subprograms(
    names: dict[int, str], called: set[int], code: dict[int, Instruction]
) -> dict[int, Subprogram]:
    """The entry and the functions; one that nobody calls can only be named by making it global."""
    if not names:
        return {}
    starts = sorted({0} | names.keys())
    ends = [*starts[1:], sum(each.slots for each in code.values())]
    return {
        start: Subprogram(names.get(start, "entry"), start, end - start, start not in called)
        for start, end in zip(starts, ends, strict=True)
    }


@pytest.mark.slow
@given(programs())
def test_disassembled_programs_assemble_to_themselves(program: Program):
    """Code, references, maps, functions, type and licence."""
    assert assemble(disassemble(program)) == program
    assert assemble(disassemble(program, pcs=True, encoding=True)) == program


def is_program_or_error(text: str) -> None:
    """A text assembles, and then to the same program again, or raises an error with a place."""
    try:
        program = assemble(text)
    except AssemblyError as error:
        line, column = error.line, error.column
    else:
        assert assemble(disassemble(program)) == program
        return
    assert line >= 1
    assert column >= 1


@given(st.text(max_size=60))
def test_any_text_is_a_program_or_an_error(text: str):
    is_program_or_error(text)


WORDS = [
    *"r0 r1 w2 r11 5 -1 0x10 + - = += * ( ) u32 u64 if goto goto: L: L call exit ll lock ; # /* */".split(),
    *".map .type key , \n".split(" "),
    "r1 = 5",
    "goto L",
]


@given(st.lists(st.sampled_from(WORDS), max_size=10).map(" ".join))
def test_shuffled_words_are_a_program_or_an_error(text: str):
    is_program_or_error(text)


@pytest.mark.parametrize(
    "name", ["exit", "r1", "w10", "pc", "a b", "é", 'quo"te', "back\\slash", "ll", "7up", "<x>", "a;b"]
)
def test_names_that_are_no_plain_words_are_quoted(name: str):
    """A map and a function may have any name that a file can give them."""
    spec = replace(FLOWS, name=name)
    load = Instruction(op(Kind.LOAD_IMM64, "map_fd"), dst=1, src=1)
    program = Program("program", {0: load}, references={0: Reference(RefKind.MAP, name)}, maps=(spec,))
    assert assemble(disassemble(program)) == program
    call = Instruction(op(Kind.CALL_LOCAL, "local"), src=1, imm=0)
    exits = Instruction(op(Kind.EXIT, "exit"))
    functions = {0: Subprogram("main", 0, 1), 1: Subprogram(name, 1, 1)}
    program = Program("program", {0: call, 1: exits}, functions=functions)
    assert assemble(disassemble(program)) == program


def test_names_that_mean_two_things_are_not_written():
    """A function called like a map, and two functions of one name, are told apart by number."""
    text = ".map flows hash key=4 value=8 entries=16\n r1 = flows ll\n call pc+0\n call pc+0\n exit"
    program = assemble(text)
    functions = {0: Subprogram("f", 0, 3), 3: Subprogram("flows", 3, 1), 4: Subprogram("f", 4, 1)}
    clashing = replace(program, functions=functions)
    assert assemble(disassemble(clashing)).code == program.code


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("**/*.bpf")), ids=lambda path: path.name)
def test_assembler_examples(path: Path):
    program = Program.from_asm(path.read_text(), type="filter")
    assert assemble(disassemble(program)) == program


def without_btf(spec: MapSpec) -> MapSpec:
    """A map as text has it: the ids of its types mean nothing without the object."""
    inner = without_btf(spec.inner) if spec.inner is not None else None
    return replace(spec, key_type=None, value_type=None, inner=inner)


@pytest.mark.slow
def test_programs_of_objects_assemble_to_themselves(shared_data: Path):
    """Each program of the corpus with its references, maps and functions."""
    count = 0
    for path in sorted(shared_data.glob("elf/**/*.o")):
        if path.parent.name == "invalid":
            continue
        for program in load(path).programs.values():
            again = assemble(disassemble(program), name=program.name)
            assert (again.code, again.references) == (program.code, program.references), (path, program.name)
            assert again.maps == tuple(map(without_btf, program.maps))
            assert again.functions == program.functions
            assert again.license == program.license
            count += 1
    assert count > 250


@pytest.mark.slow
@pytest.mark.parametrize("syntax", ["pseudo-c", "mnemonic"])
@pytest.mark.parametrize(
    ("file", "field"), [("verifier-cases.jsonl", "insns"), ("engine-cases.jsonl", "insns")]
)
def test_cases_of_linux_assemble_to_themselves(file: str, field: str, syntax: Syntax, shared_data: Path):
    """Programs that were written by hand to be odd: jumps out of range and into wide loads, calls of nothing."""
    count = 0
    for case in map(json.loads, (shared_data / file).read_text().splitlines()[1:]):
        if case.get("kind", "ebpf") != "ebpf":
            continue
        try:
            code = decode(bytes.fromhex(case[field]))
        except DecodeError:
            continue
        assert assemble(disassemble(code, syntax=syntax), syntax=syntax).code == code
        count += 1
    assert count > 300


# What is read


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("r1=5", "r1 = 5"),
        ("  r1\t=  0x05  ", "r1 = 5"),
        ("r1 = +5 # c", "r1 = 5"),
        ("r1 = -0x5 // r2 = 3", "r1 = -5"),
        ("r1 = 0b101 ; the answer", "r1 = 5"),
        ("/* a\n b */ r1 = /*\n*/ 5 /**/", "r1 = 5"),
        ("r1 = 5;", "r1 = 5"),
        ("here: r1 = 5", "r1 = 5"),
        ("<here>: r1 = 5", "r1 = 5"),
        ("0000000000000000 <here>:\n r1 = 5", "r1 = 5"),
        ("  12: r1 = 5", "r1 = 5"),
        ("  12:\tb7 01 00 00 05 00 00 00\tr1 = 0x5", "r1 = 5"),
        ("w1 = 0xffffffff", "w1 = -1"),
        ("w1 = *(u32*)(r2)", "r1 = *(u32 *)(r2 + 0)"),
        ("w1 = *(u8 *)(r2+0x10)", "r1 = *(u8 *)(r2 + 16)"),
        ("r1 = *(u16 *)(r2 + -16)", "r1 = *(u16 *)(r2 - 16)"),
        ("*(u16 *)(r10 - 2) = w3", "*(u16 *)(r10 - 2) = r3"),
        ("*(u32 *)(r10-4)=4294967295", "*(u32 *)(r10 - 4) = -1"),
        ("lock *(u32 *)(r1 + 4) += r2", "lock *(u32 *)(r1 + 4) += w2"),
        ("w1 = load_acquire((u8 *)(r2))", "w1 = load_acquire((u8 *)(r2 + 0))"),
        ("r0 = *(u8 *)skb[r1]", "r0 = *(u8 *)skb[r1 + 0]"),
        ("if r1==5 goto +0x1 <f+0x10>", "if r1 == 5 goto +1"),
        ("if w1 s> -1 goto -1", "if w1 s> -0x1 goto -1"),
        ("goto 5", "goto +5"),
        ("goto pc+5", "goto +5"),
        ("call pc-2", "call -2"),
        ("r1 = -1 ll", "r1 = 0xffffffffffffffff ll"),
        ("r1 = map_value_by_fd(3) + 8 ll", "r1 = map_value_by_fd(0x3)+0x8 ll"),
        ("call 0xffffffff", "call 4294967295"),
    ],
)
def test_spellings_of_one_instruction(text: str, same: str):
    assert one(text) == one(same)
    assert decode(encode([one(text)])) == {0: one(text)}


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("mov32 %r0, 1", "w0 = 1"),
        ("mov r0,r1", "r0 = r1"),
        ("ldxdw %r0,[%r1+0x10]", "r0 = *(u64 *)(r1 + 16)"),
        ("stxw [%r10], %r2", "*(u32 *)(r10 + 0) = r2"),
        ("ldindw %r1,5", "r0 = *(u32 *)skb[r1 + 5]"),
        ("movs %r0,%r1,16", "r0 = (s16)r1"),
        ("movsx1632 %r0, %r1", "w0 = (s16)w1"),
        ("endbe %r1,16", "r1 = be16 r1"),
        ("be16 %r1", "r1 = be16 r1"),
        ("bswap %r1,64", "r1 = bswap64 r1"),
        ("swap64 %r1", "r1 = bswap64 r1"),
        ("aadd32 [%r10-4],%r1", "lock *(u32 *)(r10 - 4) += w1"),
        ("lock add32 [%r10-4], %r1", "lock *(u32 *)(r10 - 4) += w1"),
        ("xaddw [%r10-4],%r1", "lock *(u32 *)(r10 - 4) += w1"),
        ("xadddw [%r10-8],%r1", "lock *(u64 *)(r10 - 8) += r1"),
        ("lock fetch add [%r10-8], %r1", "r1 = atomic_fetch_add((u64 *)(r10 - 8), r1)"),
        ("lock cmpxchg [%r10-8], %r1", "r0 = cmpxchg_64(r10 - 8, r0, r1)"),
        ("jal -70000", "gotol -70000"),
        ("ja32 +7", "gotol +7"),
        ("jne32 %r0, 0xffffffff, +2", "if w0 != -1 goto +2"),
        ("call helper 5", "call 5"),
        ("call local +5", "call +5"),
        ("call runtime 5", "call kfunc(5)"),
        ("callx %r1", "callx r1"),
        ("call %r1", "callx r1"),
        ("lddw %r1, -1", "r1 = -1 ll"),
    ],
)
def test_mnemonics_of_binutils_and_ubpf(text: str, same: str):
    assert one(text, syntax="mnemonic") == one(same)


def test_mnemonics_have_labels_and_names_too():
    text = """
        .type xdp
        .map flows hash key=4 value=8 entries=16
        main:   lddw %r1,flows
                call map_lookup_elem
                jeq %r0,0,done
                call local next
        done:   exit
        next:   exit
    """
    program = assemble(text, syntax="mnemonic")
    assert (
        program
        == assemble(disassemble(program))
        == assemble(disassemble(program, syntax="mnemonic"), syntax="mnemonic")
    )
    assert [program.code[pc].target(pc) for pc in (3, 4)] == [5, 6]


def test_labels_stand_for_distances():
    program = assemble("""
        again:  r1 = 5 ll           # two slots
                if r1 == 0 goto out
                gotol again
                goto <out>
        out:    exit
    """)
    assert [program.code[pc].target(pc) for pc in (2, 3, 4)] == [5, 0, 5]
    assert program.functions == {}


def test_functions_are_the_labels_that_are_called():
    program = assemble("""
        .global pick
        main:   call pick
                r1 = compare ll
                goto L3
        L3:     exit
        pick:   call compare
                exit
        compare: exit
    """)
    assert program.functions == {
        0: Subprogram("main", 0, 5),
        5: Subprogram("pick", 5, 2, is_global=True),
        7: Subprogram("compare", 7, 1),
    }
    assert program.references == {1: Reference(RefKind.FUNCTION, "compare", 7)}
    assert program.code[1].op.code == "function"
    assert program.code[1].imm == 5
    assert assemble(disassemble(program)) == program


def test_maps_are_named_by_the_text_or_beside_it():
    """The program holds the maps that its code names, by first use."""
    text = ".map unused array key=4 value=4 entries=1\n r1 = flows ll\n r2 = .rodata + 8 ll\n r3 = flows ll"
    program = assemble(text, maps=MAPS)
    assert program.maps == (FLOWS, RODATA)
    assert program.references == {
        0: Reference(RefKind.MAP, "flows"),
        2: Reference(RefKind.VALUE, ".rodata", 8),
        4: Reference(RefKind.MAP, "flows"),
    }
    assert [program.code[pc].op.code for pc in (0, 2)] == ["map_fd", "map_value_fd"]


def test_directives_say_what_is_no_code():
    program = assemble("""
        .type xdp
        .license "Dual MIT/GPL"
        .map inner array key=4 value=8 entries=2
        .map outer hash_of_maps key=4 value=4 entries=0x10 flags=1 inner=inner 0=inner 3="a b"
        .map .rodata array key=4 value=3 entries=1 readonly data="01ff00"
        r1 = outer ll
        r1 = .rodata + 0 ll
    """)
    inner = MapSpec("inner", "array", 4, 8, 2)
    outer = MapSpec(
        "outer", "hash_of_maps", 4, 4, 16, flags=1, inner=inner, values=((0, "inner"), (3, "a b"))
    )
    assert program.maps == (outer, MapSpec(".rodata", "array", 4, 3, 1, initial=b"\1\xff\0", read_only=True))
    assert (program.type, program.license) == ("xdp", "Dual MIT/GPL")
    assert assemble(disassemble(program)) == program
    assert assemble(".type xdp", type="filter").type == "filter"


def test_helpers_have_names_by_program_type():
    assert one("call map_update", type="filter").imm == one("call ubpf_map_update", type="filter").imm == 2
    assert one("call bpf_map_delete_elem", type="xdp").imm == one("call 3").imm == 3
    assert one("call ktime_get_ns", type="a type that only Linux knows").imm == 5
    own = replace(program_types.FILTER, helpers={7: helpers.Helper("mine", "-> num")})
    assert one("call mine", type=own).imm == 7
    program = assemble("call mine", type=own)
    assert assemble(disassemble(program), type=own) == program


def test_without_a_type_a_helper_is_a_reference():
    program = assemble("call bpf_map_lookup_elem")
    assert program.references == {0: Reference(RefKind.HELPER, "bpf_map_lookup_elem")}
    assert program.code[0] == Instruction(op(Kind.CALL, "helper"), imm=-1)
    assert assemble(disassemble(program)) == program


def test_a_function_goes_before_a_helper_of_its_name():
    program = assemble(".type xdp\n call ktime_get_ns\n call 5\n exit\n ktime_get_ns: exit")
    assert [program.code[pc].op.code for pc in (0, 1)] == ["local", "helper"]
    assert assemble(disassemble(program)) == program


# What is refused


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("exitt", 1, "no instruction starts with 'exitt': did you mean 'exit'?"),
        ("r1 = *(u33 *)(r2 + 4)", 8, "unexpected 'u33': did you mean 'u32'?"),
        ("r11 = 5", 1, "there is no register r11: they are r0 to r10"),
        ("if r1 s> w2 goto +1", 10, "unexpected 'w2': expected a number or name, r0 to r10"),
        ("r1 = -r2", 7, "unexpected 'r2': the instruction reads 'r{dst} = -r{dst}'"),
        ("r2 = atomic_fetch_add((u64 *)(r1 + 0), r3)", 40, "unexpected 'r3': the instruction reads"),
        ("r1 =", 5, "the instruction is incomplete"),
        ("goto", 5, "the instruction is incomplete: expected a number or name"),
        ("r1 = 5 6", 8, "unexpected '6': expected 'll', the end of the line"),
        ("r1 == 5", 4, "unexpected '=='"),
        ("r1 = 010", 6, "010 has leading zeros: write 0x for hexadecimal or none"),
        ("r1 = 5ll", 6, "'5ll' is no number"),
        ("r1 = 5 @", 8, "unexpected character '@'"),
        ("r1 = 5; exit", 7, "';' starts a comment: write each instruction on a line of its own"),
        ("/* r1 = 5", 1, "comment is not closed"),
        ('r1 = "flows ll', 6, "name is not closed"),
        ('r1 = "\\x" ll', 6, "a quoted name holds ASCII and the escapes of Python"),
        ("r1 = 0xffffffff", 6, "0xffffffff does not fit the signed 32 bits of an immediate: load it with 'rN = ... ll'"),
        ("*(u64 *)(r1 + 0) = 0x80000000", 20, "does not fit the signed 32 bits"),
        ("w1 = 0x100000000", 6, "0x100000000 does not fit the 32 bits of an immediate"),
        ("r1 = 0x10000000000000000 ll", 6, "does not fit: it goes from -9223372036854775808 to 18446744073709551615"),
        ("*(u8 *)(r1 + 40000) = 1", 12, "offset + 40000 does not fit: it goes from -32768 to 32767"),
        ("*(u8 *)(r1 flows) = 1", 12, "expected a number, not 'flows'"),
        ("goto +40000", 6, "the jump is 40000 slots long and does not fit 16 bits: use gotol"),
        ("goto nowhere", 6, "no label 'nowhere'"),
        ("goto hree", 6, "no label 'hree': did you mean 'here'?"),
        ("goto here + 1", 6, "a number cannot be added to a label"),
        ("here: exit", 1, "label 'here' is defined twice"),
        ("r1 = flow ll", 6, "no map and no function 'flow': did you mean 'flows'?"),
        ("r1 = flows", 6, "expected a number, not 'flows': the address of a map is loaded by 'rN = flows ll'"),
        ("r1 = flows - 8 ll", 6, "-8 bytes lie before the value of map 'flows'"),
        ("call ktime_get", 6, "no function and no helper 'ktime_get': did you mean 'ktime_get_ns'?"),
        (".global nowhere", 9, "no label 'nowhere'"),
        (".mapp x", 1, "unknown directive '.mapp': known are .type, .license, .byteorder, .map, .global"),
        (".map x", 1, "expected .map NAME TYPE key=SIZE value=SIZE entries=NUMBER"),
        (".map x hash kye=4", 13, "a map has no field 'kye': known are key, value, entries, flags, readonly, data, inner and slots by number"),
        (".map x hash key 4", 13, "expected field=value, not 'key'"),
        (".map x hash key=-1", 17, "-1 is negative"),
        (".map x hash key=four", 17, "'four' is no number"),
        ('.map x hash data="0"', 18, "data is a string of hexadecimal digits, two a byte"),
        (".map x hash inner=y", 19, "map 'y' is not defined before this line"),
        (".map flows hash", 6, "map 'flows' is defined twice"),
    ],
)  # fmt: skip
def test_an_error_names_its_place_and_reason(text: str, column: int, message: str):
    """The same after other lines, and the caret of its context stands under the column."""
    error = refusal(f".type xdp\nhere:\n{text}\nexit\n", maps=MAPS)
    assert (error.line, error.column) == (3, column)
    assert message in str(error)
    assert error.source == text
    assert error.context.splitlines() == [text, " " * (column - 1) + "^"]


def test_a_label_at_the_end_names_nothing():
    assert str(refusal("exit\n end:")) == "line 2, column 2: no instruction follows label 'end'"


def test_a_map_is_given_under_its_name():
    with pytest.raises(ArgumentError, match="map 'flows' is given as 'other'"):
        assemble("exit", maps={"other": FLOWS})


def test_the_caret_stands_under_the_column_with_tabs():
    assert refusal("\tr1 = *(u33 *)(r2 + 4)").context.endswith("\n\t       ^")


# What is written


def test_a_program_as_people_read_it():
    program = replace(
        assemble("""
            .type xdp
            .map flows hash key=4 value=8 entries=16
            firewall:
                r1 = flows ll
                call map_lookup_elem
                if r0 == 0 goto out
                r1 = *(u8 *)(r0 - 3)
                r2 = 0x1122334455667788 ll
                call next
            out:
                r0 = -1
                exit
            next: exit
        """),
        lines={0: SourceLine("fw.c", 12, 1, "  v = lookup(&flows,\tkey);\n"), 3: SourceLine("fw.c\n", 13)},
    )
    assert disassemble(program).splitlines() == [
        ".type xdp",
        ".map flows hash key=4 value=8 entries=16",
        "firewall:",
        "; fw.c:12: v = lookup(&flows, key);",
        "    r1 = flows ll",
        "    call map_lookup_elem",
        "; fw.c :13",
        "    if r0 == 0 goto L8",
        "    r1 = *(u8 *)(r0 - 3)",
        "    r2 = 0x1122334455667788 ll",
        "    call next",
        "L8:",
        "    r0 = -1",
        "    exit",
        "next:",
        "    exit",
    ]
    assert "fw.c" not in disassemble(program, source=False)
    columns = disassemble(program, pcs=True, encoding=True).splitlines()
    assert columns[-6] == "     7: 85 10 00 00 02 00 00 00" + " " * 25 + "call next"
    assert disassemble(program, pcs=True).splitlines()[-1] == "    10: exit"


def test_a_line_of_source_is_shown_where_it_begins():
    """Other columns of the same line are not another line; coming back to it is."""
    places = [("a.c", 1, 2), ("a.c", 1, 7), ("a.c", 2, 2), ("a.c", 1, 2)]
    program = replace(
        assemble("r0 = 1\n r1 = 2\n r2 = 3\n exit"),
        lines={pc: SourceLine(file, line, column, "text") for pc, (file, line, column) in enumerate(places)},
    )
    shown = [line for line in disassemble(program).splitlines() if line.startswith(";")]
    assert shown == ["; a.c:1: text", "; a.c:2: text", "; a.c:1: text"]


def test_variables_are_named():
    """Where the object's types say what stands at an offset of a section of data; a comment, which is not read."""
    btf = BtfBuilder()
    number = btf.int()
    variables = [
        (btf.add(BtfKind.VAR, name, number, 1), at, size) for name, at, size in (("b", 8, 8), ("a", 0, 4))
    ]
    section = btf.datasec(".data", *variables)
    spec = MapSpec(
        ".data", "array", 4, 16, 1, initial=bytes(16), value_type=section, btf=Btf.parse(btf.build())
    )
    program = assemble(
        "".join(f"r1 = .data + {offset} ll\n" for offset in (0, 4, 8, 15, 16)) + "exit", maps={".data": spec}
    )
    text = disassemble(program)
    assert [line.partition("; ")[2] for line in text.splitlines() if "ll" in line] == [
        "a",
        "",
        "b",
        "b+7",
        "",
    ]
    assert assemble(text).code == program.code


def test_code_is_disassembled_without_a_program():
    """Bytes or instructions by slot; nothing else is known of them."""
    code = encode(assemble("r0 = 1\n goto +0\n exit").code)
    assert disassemble(code) == disassemble(decode(code)) == "    r0 = 1\n    goto L2\nL2:\n    exit"
    assert disassemble(b"") == ""
    with pytest.raises(DecodeError):
        disassemble(b"\xff" * 8)


def test_what_is_not_supported_is_a_comment():
    program = replace(
        assemble("r1 = 0 ll"), references={0: Reference(RefKind.UNSUPPORTED, "extern\nvariable x")}
    )
    assert disassemble(program) == "    r1 = 0x0 ll  ; unsupported: extern variable x"


def test_one_instruction_for_a_message():
    """Without a program by number, with it by name."""
    program = assemble(".type filter\n call map_lookup\n if r0 == 0 goto +1\n r0 = 1\n exit")
    assert format_instruction(program.code[0]) == "call 1"
    assert format_instruction(program.code[0], 0, program) == "call map_lookup"
    assert format_instruction(program.code[1]) == "if r0 == 0 goto +1"
    assert format_instruction(program.code[1], 1, program) == "if r0 == 0 goto L3"
    assert format_instruction(program.code[1], syntax="mnemonic") == "jeq %r0,0,+1"


def test_jumps_to_no_instruction_stay_numbers():
    """Into the second half of a wide load, before the program and behind it."""
    text = "    r1 = 0x0 ll\n    goto -2\n    goto -9\n    goto +70"
    assert disassemble(assemble(text)) == text
