"""The corpus of compiled objects: what pybpf's verifier says of each program, beside what Linux's says."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import pytest

from pybpf import (
    BudgetExceeded,
    LinkError,
    Object,
    Program,
    UnsupportedError,
    VerifiedProgram,
    VerifierError,
    instantiate,
    load,
    verify,
)
from pybpf.program_types import get
from tests import linux
from tests.conftest import SHARED

VERDICTS = SHARED / "elf-verdicts.json"

pytestmark = pytest.mark.skipif(
    not VERDICTS.exists(), reason=f"no {VERDICTS.name}: the corpus is not part of pybpf"
)

FLOORS = {
    "XDP": 84,
    "SCHED_CLS": 40,
    "SOCKET_FILTER": 39,
    "KPROBE": 63,
    "TRACEPOINT": 21,
    "SOCK_OPS": 8,
    "CGROUP_SOCK": 4,
    "PERF_EVENT": 2,
    "RAW_TRACEPOINT": 2,
    "CGROUP_SKB": 1,
    "LWT_OUT": 1,
}
"""Of the programs of each type that Linux accepts, how many pybpf accepts; may only grow."""

SAFE_ALL_THE_SAME = {
    (
        "build/correlated_branch.o",
        "ConvergedBranch",
    ): "the length is compared, and data_end - data is the length",
}
"""Accepted here and refused by Linux, with the reason why that is right."""

REFUSED_BY_PROTOTYPE = {
    (
        "build/bpf2bpf.o",
        "func",
    ): "a function that it calls reads through its parameter without asking whether it is null",
}
"""The recorded verdicts are of programs loaded without the types of their functions. With them, as libbpf loads objects, Linux refuses
these too: what global functions do with arguments of which only the prototype is known.
"""

UNSUPPORTED = {
    ("TRACING", "btf-pointers"),
    ("TRACING", "co-re"),
    ("SOCKET_FILTER", "helper"),
}
"""What the corpus uses and pybpf does not know: the type and the feature. An object calls a helper that no kernel has by name."""


class Entry(NamedTuple):
    """A program of the corpus: its place, and Linux's verdict with the class of reason."""

    file: str
    section: str
    function: str
    type: str
    linux: str
    reason: str


@cache
def entries() -> tuple[Entry, ...]:
    """What Linux could be asked about: all but files that cannot be read."""
    rows: list[dict[str, Any]] = json.loads(VERDICTS.read_text()) if VERDICTS.exists() else []
    return tuple(
        Entry(
            r["file"],
            r["section"],
            r["function"],
            r["prog_type"],
            r["linux"]["verdict"],
            r["linux"].get("cls", ""),
        )
        for r in rows
        if r["prog_type"] is not None and not r["linux"].get("cls", "").startswith("not an entry")
    )


FILES = sorted({entry.file for entry in entries()})


@cache
def read(file: str) -> Object:
    return load(SHARED / "elf" / file)


def program(entry: Entry) -> Program:
    """The program of an entry; without function symbols it has the section's name."""
    programs = read(entry.file).programs.values()
    in_section = [each for each in programs if each.section == entry.section]
    named = [each for each in in_section if each.name == entry.function]
    (found,) = named or in_section
    return found


def test_what_is_refused_by_the_prototypes_of_global_functions():
    """Under `global_functions` pybpf refuses these programs of the corpus and no others that it accepts without, and so does Linux if it
    is told the types of functions.
    """
    refused = set()
    for entry in entries():
        found = program(entry)
        if any(pc and each.prototype is not None for pc, each in found.functions.items()):
            type_ = get(entry.type.lower())
            strict = replace(found, type=replace(type_, policy=replace(type_.policy, global_functions=True)))
            if judged(entry)[0] == "accepted":
                try:
                    verify(strict)
                except VerifierError:
                    refused.add((entry.file, entry.function))
                    assert linux.unavailable() or linux.refusal(strict) is not None
                else:
                    assert linux.unavailable() or linux.refusal(strict) is None
    assert refused == REFUSED_BY_PROTOTYPE.keys()


@cache
def judged(entry: Entry) -> tuple[str, str, VerifiedProgram | None]:
    """The verdict, its reason, and the proof."""
    try:
        verified = verify(program(entry), entry.type.lower())
    except VerifierError as error:
        return "rejected", error.reason, None
    except LinkError:
        return "rejected", "link", None
    except UnsupportedError as error:
        return "unsupported", error.feature, None
    except BudgetExceeded:
        return "budget", "budget", None
    return "accepted", "", verified


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_every_program_has_a_verdict_and_none_that_is_unsafe_is_accepted(file: str):
    """Accepted, rejected, out of budget, or unsupported by the name of a feature that is listed here."""
    for entry in entries():
        if entry.file != file:
            continue
        verdict, reason, _ = judged(entry)
        assert verdict != "unsupported" or (entry.type, reason) in UNSUPPORTED, (entry, reason)
        if entry.reason == "safety":
            known = (entry.file, entry.function) in SAFE_ALL_THE_SAME
            assert verdict == ("accepted" if known else "rejected"), (entry, reason)


@pytest.mark.slow
def test_accepted_of_what_linux_accepts():
    """By type, as many as the floor says at least; and no type without a floor."""
    theirs = Counter(entry.type for entry in entries() if entry.linux == "accept")
    ours = Counter(
        entry.type for entry in entries() if entry.linux == "accept" and judged(entry)[0] == "accepted"
    )
    assert FLOORS.keys() == theirs.keys()
    assert {type: ours[type] for type in FLOORS if ours[type] < FLOORS[type]} == {}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["interpreter", "jit"])
@pytest.mark.parametrize("file", FILES)
def test_what_cannot_be_run_is_refused_by_name(file: str, engine: Any):
    """Every accepted program becomes an instance, or is refused for its type, a helper or a type of map."""
    for entry in entries():
        verified = judged(entry)[2] if entry.file == file else None
        if verified is not None:
            missing = missing_for(verified, engine)
            assert missing is None or missing.startswith(("helper ", "map type ", "program-type")), (
                entry,
                missing,
            )
            assert verified.type.runnable or missing == "program-type"


def missing_for(verified: VerifiedProgram, engine: Any) -> str | None:
    """The feature that pybpf lacks to run a program, None if it can."""
    try:
        instantiate(verified, engine=engine)
    except UnsupportedError as error:
        return error.feature
    return None
