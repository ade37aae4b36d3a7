"""The support matrix says what is so."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from pybpf import MapSpec, Program, UnsupportedError, VerifiedProgram, helpers, instantiate, maps, verify
from pybpf.errors import Trap
from pybpf.interpreter import Interpreter
from pybpf.program_types import BY_NAME, FILTER, LINUX_MAPS, MEMORY

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/support-matrix.md"
OTHERS = "every other type of Linux"

PROGRAMS = {
    "base32": "w0 = 1\nw0 += 2\nif w0 > 4 goto out\n*(u32 *)(r10 - 4) = w0\nw0 = *(u32 *)(r10 - 4)\nr0 = be16 r0\nout: exit",
    "base64": "r0 = 0x123456789 ll\nr0 <<= 3\nif r0 s< 4 goto out\n*(u64 *)(r10 - 8) = r0\nr0 = *(u64 *)(r10 - 8)\nout: exit",
    "divmul32": "w0 = 7\nw0 *= 9\nw0 /= 4\nw0 %= 4\nw0 s/= -2\nexit",
    "divmul64": "r0 = 7\nr0 *= 9\nr0 /= 4\nr0 %= 4\nr0 s%= -2\nexit",
    "atomic32": "w0 = 1\n*(u32 *)(r10 - 4) = w0\nlock *(u32 *)(r10 - 4) += w0\nw0 = xchg32_32(r10 - 4, w0)\nexit",
    "atomic64": "r0 = 1\n*(u64 *)(r10 - 8) = r0\nr0 = atomic_fetch_add((u64 *)(r10 - 8), r0)\nexit",
    "load-acquire, store-release": "r0 = 1\nstore_release((u64 *)(r10 - 8), r0)\nr0 = load_acquire((u64 *)(r10 - 8))\nexit",
    "functions of the program": "call add\nexit\nadd: r0 = 3\nexit",
    "bounded loops": "r0 = 0\nagain: r0 += 1\nif r0 < 10 goto again\nexit",
    "packet": "r6 = r1\nr0 = *(u8 *)skb[0]\nexit",
    "callx": "r1 = add ll\ncallx r1\nexit\nadd: r0 = 3\nexit",
    "kernel functions (kfunc)": "call kfunc(1)\nexit",
    "may_goto, gotox, addr_space_cast": "may_goto out\nr1 = addr_space_cast(r1, 0, 1)\nout: gotox r1",
}
"""A program for each row of the first table."""


@cache
def tables() -> dict[str, dict[str, list[str]]]:
    """Heading -> name of the row -> its other cells."""
    found: dict[str, dict[str, list[str]]] = {}
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            found[heading := line[3:]] = {}
            rows = 0
        elif line.startswith("|"):
            rows += 1
            if rows > 2:  # the head and the line below it
                name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
                found[heading][name] = cells
    return found


def yes(works: bool) -> str:
    return "yes" if works else "no"


def verified(program: Program) -> VerifiedProgram | None:
    try:
        return verify(program)
    except UnsupportedError:
        return None


def interprets(program: Program) -> bool:
    try:
        Interpreter(program, MEMORY).run(bytes(16))
    except Trap:
        return False
    return True


def test_every_row_of_instructions_has_its_program():
    assert tables()["Instructions"].keys() == PROGRAMS.keys()


@pytest.mark.parametrize("group", PROGRAMS)
def test_instructions(group: str):
    """The interpreter runs the program or traps; what is verified runs in native code with the same result."""
    program = Program.from_asm(PROGRAMS[group], type="memory")
    proof = verified(program)
    if proof is not None:
        native, checked = (
            instantiate(proof, engine=engine).run(bytes(16)) for engine in ("jit", "interpreter")
        )
        assert native == checked
    assert tables()["Instructions"][group] == [
        yes(proof is not None),
        yes(interprets(program)),
        yes(proof is not None),
    ]


def test_program_types():
    """The rows are the types that are run; every other type is verified and not run."""
    rows = tables()["Program types"]
    runnable = {name: type_ for name, type_ in BY_NAME.items() if type_.runnable}
    assert [name for name, cells in rows.items() if cells[-2:] == ["yes", "yes"]] == [*runnable, "your own"]
    for name, type_ in runnable.items():
        assert set(re.findall(r"`([^`]+)`", rows[name][0])) == set(type_.sections)
        instantiate(verify(Program.from_asm("r0 = 0\nexit", type=name)), engine="interpreter").run(bytes(14))
    assert rows[OTHERS][-2:] == ["yes", "no"]
    assert re.findall(r"`([^`]+)`", rows[OTHERS][1]) == [name for name in BY_NAME if name not in runnable]
    for name in BY_NAME.keys() - runnable.keys():
        proof = verify(Program.from_asm("r0 = 0\nexit", type=name))
        with pytest.raises(UnsupportedError):
            instantiate(proof)


def test_program_type_of_a_user():
    number_of_helpers = len(FILTER.helpers)
    own = replace(
        FILTER,
        name="own",
        helpers={
            **FILTER.helpers,
            77: helpers.Helper("twice", "any -> num", lambda machine, r1, *rest: 2 * r1),
        },
        verdicts={42: "found"},
    )
    assert len(own.helpers) == number_of_helpers + 1
    program = Program.from_asm("r1 = 21\ncall twice\nexit", type=own)
    for engine in ("interpreter", "jit"):
        assert instantiate(verify(program), engine=engine).run(b"x").verdict == "found"


def test_map_types():
    """A map of each type that says yes can be made; of any other, not."""
    rows = tables()["Map types"]
    assert [name for name, cells in rows.items() if cells == ["yes"]] == [*maps.TYPES]
    assert rows[OTHERS] == ["no"]
    for name in LINUX_MAPS.values():
        spec = MapSpec("m", name, key_size=4, value_size=8, max_entries=1)
        if name in maps.TYPES:
            assert maps.create(spec).spec.type == name
        else:
            with pytest.raises(UnsupportedError):
                maps.create(spec)


def elsewhere() -> list[tuple[str, str]]:
    return [
        (name, cells[-1])
        for heading in ("Objects", "Captures")
        for name, cells in tables()[heading].items()
        if cells[0] != "no"
    ]


@pytest.mark.parametrize(("name", "test"), elsewhere(), ids=[name for name, _ in elsewhere()])
def test_tests_named_in_rows_exist(name: str, test: str):
    path, _, function = test.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_versions_of_python():
    """The classifiers are the versions that the page names."""
    classifiers = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    first, last = re.findall(r"3\.\d+", tables()["Where it runs"]["CPython"][0])
    assert (classifiers[0], classifiers[-1]) == (first, last)
