"""Types printed as C."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pybpf import ElfError
from pybpf.btf import Btf, Kind, format_type
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
