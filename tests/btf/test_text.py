"""Types printed as C."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pybpf import ElfError
from pybpf.btf import Btf, Kind, Type, format_type
from tests.btf.builder import BtfBuilder
from tests.btf.conftest import read

NAMED = (Kind.STRUCT, Kind.UNION, Kind.ENUM, Kind.ENUM64, Kind.TYPEDEF)


def squeezed(text: str) -> str:
    """Without blanks, which are a matter of taste, and the suffix of large constants."""
    return re.sub(r"\s|(?<=\d)U?LL\b", "", text)


@pytest.mark.oracle
def test_every_named_type_as_bpftool_prints_it(compiled: Path, tool: Callable[[str], str]):
    """Declarators of every shape: pointers to arrays, functions that return functions, nested members without names."""
    command = [tool("bpftool"), "btf", "dump", "file", str(compiled), "format", "c"]
    theirs = squeezed(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    btf = read(compiled)
    assert btf is not None
    ours = [format_type(btf, type.id) + ";" for type in btf if type.kind in NAMED and type.name]
    assert len(ours) > 6
    assert [text for text in ours if squeezed(text) not in theirs] == []


LAYOUTS = """
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;
#define packed_ __attribute__((packed))
#define aligned_(n) __attribute__((aligned(n)))
struct plain { u8 a; u16 b; u32 c; u64 d; u8 e; };
struct packed_one { u8 a; u32 b; u8 c[3]; u64 d; } packed_;
struct packed_end { u64 a; u8 b; } packed_;
struct packed_pointer { u16 a; void *p; } packed_;
struct of_packed { u8 a; struct packed_end b; u32 c; };
struct aligned_member { u8 a; u64 b aligned_(32); u8 c; };
struct aligned_whole { u64 a; } aligned_(64);
struct of_aligned { u8 a; struct aligned_whole b; };
struct line { u32 a; u32 b aligned_(64); u8 c; } aligned_(128);
struct nothing_named { u64 : 64; u64 : 64; } aligned_(8);
struct timed { u32 a; struct nothing_named t; u8 b; };
struct bits { u32 a : 3; u32 b : 7; u32 : 4; u32 c : 18; u8 d : 2; u32 : 0; u8 e; u64 f : 40; u64 g : 30; };
struct bits_packed { u8 a : 3; u32 b : 17; u16 c; } packed_;
struct bits_apart { u32 a : 3; u32 : 0; u32 b : 3; };
struct inner { u16 a; struct { u8 x; u32 y; } packed_; union { u8 s[3]; u16 t; } u; u8 last[]; };
union either { u8 a[5]; u32 b; };
union either_packed { u8 a[5]; u32 b; } packed_;
struct wide { __int128 a; u8 b; };
struct empty {};
"""


@pytest.mark.oracle
def test_layouts(tool: Callable[[str], str], tmp_path: Path):
    """What is printed has the members where the type has them: a compiler that reads it lays it out as it was."""

    def compiled(text: str) -> dict[str, Type]:
        tags = re.findall(r"^(struct|union) (\w+) {", text, re.M)
        (tmp_path / "a.c").write_text(text + "\n" + "\n".join(f"{kind} {tag} v_{tag};" for kind, tag in tags))
        options = [tool("clang-22"), "-target", "bpfel", "-g", "-c", "a.c", "-o", "a.o"]
        subprocess.run(options, cwd=tmp_path, check=True)
        btf = read(tmp_path / "a.o")
        assert btf is not None
        types = {type.name: type for type in btf if type.kind in (Kind.STRUCT, Kind.UNION) and type.name}
        assert types.keys() >= {tag for _, tag in tags}
        printed["text"] = "".join(f"{format_type(btf, types[tag].id)};\n" for _, tag in tags)
        return types

    def shape(type: Type) -> tuple[int, list[tuple[str, int, int]]]:
        return type.size, [(member.name, member.offset, member.size) for member in type.members]

    printed: dict[str, str] = {}
    first = compiled(LAYOUTS)
    names = LAYOUTS[: LAYOUTS.index("#define")]
    text = printed["text"]
    second = compiled(names + text)
    assert {name: shape(type) for name, type in second.items()} == {
        name: shape(type) for name, type in first.items()
    }
    assert printed["text"] == text
    assert text.count("packed") > 6
    assert not re.search(r"struct plain {[^}]*(long :|})[^;]*packed", text)


def test_gaps_are_bounded():
    """A size of gigabytes is no reason to write lines of padding for ever."""
    builder = BtfBuilder()
    number = builder.int("int")
    huge = builder.struct("huge", 1 << 31, ("a", number, 0))
    text = format_type(Btf.parse(builder.build()), huge)
    assert text == "struct huge {\n    int a;\n    /* 2147483644 bytes that no member has */\n}"


@pytest.fixture
def btf() -> Btf:
    """A few types."""
    builder = BtfBuilder()
    number = builder.int("int")  # 1
    char = builder.int("char", 1)  # 2
    const = builder.add(Kind.CONST, "", char)  # 3
    text = builder.add(Kind.PTR, "", const)  # 4
    builder.add(Kind.ARRAY, "", 0, text, number, 8)  # 5
    proto = builder.add(Kind.FUNC_PROTO, "", number, builder.string("s"), text, 0, 0, vlen=2)  # 6
    builder.add(Kind.PTR, "", proto)  # 7
    builder.add(Kind.FUNC, "f", proto, vlen=1)  # 8
    inner = builder.struct("", 4, ("a", number, 0))  # 9
    outer = builder.struct("outer", 16, ("", inner, 0), ("name", text, 64))  # 10
    builder.add(Kind.TYPEDEF, "outer_t", outer)  # 11
    builder.add(Kind.FWD, "later", 0, flag=True)  # 12
    builder.add(Kind.VAR, "v", 11, 1)  # 13
    builder.add(Kind.FUNC_PROTO, "", 0)  # 14
    builder.add(Kind.PTR, "", outer)  # 15
    return Btf.parse(builder.build())


@pytest.mark.parametrize(
    ("id", "name", "text"),
    [
        (0, "", "void"),
        (1, "x", "int x"),
        (4, "", "const char *"),
        (5, "names", "const char *names[8]"),
        (7, "call", "int (*call)(const char *s, ...)"),
        (8, "", "int f(const char *s, ...)"),
        (10, "", "struct outer {\n    struct {\n        int a;\n    };\n    const char *name;\n}"),
        (11, "", "typedef struct outer outer_t"),
        (11, "value", "outer_t value"),
        (12, "x", "union later x"),
        (13, "", "outer_t v"),
        (14, "nothing", "void nothing(void)"),
        (15, "p", "struct outer *p"),
    ],
)
def test_declarations(btf: Btf, id: int, name: str, text: str):
    """A name with its type; members are written out for the type itself and not behind a pointer."""
    assert format_type(btf, id, name) == text


def test_without_members(btf: Btf):
    """On request a struct is its name."""
    assert format_type(btf, 10, "o", body=False) == "struct outer o"


def test_tags():
    """A tag stands where C has it: on what a pointer points to, behind the declaration, member or parameter that it marks."""
    builder = BtfBuilder()
    number = builder.int()  # 1
    tag = builder.add(Kind.TYPE_TAG, "user", number)  # 2
    pointer = builder.add(Kind.PTR, "", tag)  # 3
    outer = builder.add(
        Kind.PTR, "", builder.add(Kind.TYPE_TAG, "rcu", builder.add(Kind.CONST, "", pointer))
    )  # 6
    struct = builder.struct("s", 8, ("a", number, 0), ("b", pointer, 64))  # 7
    proto = builder.add(Kind.FUNC_PROTO, "", number, builder.string("x"), number, vlen=1)  # 8
    function = builder.add(Kind.FUNC, "f", proto, vlen=1)  # 9
    tags = [
        builder.add(Kind.DECL_TAG, 'a "mark"', target, component)
        for target, component in ((struct, -1), (struct, 1), (function, -1), (function, 0), (struct, 9))
    ]
    btf = Btf.parse(builder.build())
    user, mark = '__attribute__((btf_type_tag("user")))', '__attribute__((btf_decl_tag("a \\"mark\\"")))'
    assert format_type(btf, pointer, "p") == f"int {user} *p"
    assert format_type(btf, outer, "p") == f'int {user} *__attribute__((btf_type_tag("rcu"))) const *p'
    body = f"struct s {{\n    int a;\n    int {user} *b;\n}}"
    assert [format_type(btf, id) for id in tags] == [
        f"{body} {mark}",
        f"int {user} *b {mark}",
        f"int f(int x) {mark}",
        f"int x {mark}",
        f"{body} {mark}",
    ]


def test_circles_and_doubling():
    """A pointer to itself, a struct in itself, and structs that double at every level end in an error."""
    builder = BtfBuilder()
    builder.add(Kind.PTR, "", 1)
    builder.struct("", 4, ("self", 2, 0))
    builder.add(Kind.FUNC_PROTO, "", 0, 0, 3, vlen=1)
    below = builder.int()
    for _ in range(40):
        below = builder.struct("", 4, ("a", below, 0), ("b", below, 0))
    btf = Btf.parse(builder.build())
    for id in (1, 2, 3, below):
        with pytest.raises(ElfError, match="nested too deeply"):
            format_type(btf, id)
