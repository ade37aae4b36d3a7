"""What code on disk is found by: equal for equal programs anywhere, and another as soon as the text is another."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings

import pybpf
from pybpf import MapSpec, Program, VerifiedProgram, VerifierError, helpers, jit
from pybpf.isa import OPS
from pybpf.jit import origin, source
from pybpf.jit.options import DEFAULT, Options
from pybpf.jit.source import ProgramSource
from pybpf.program_types import FILTER, XDP
from tests.jit.programs import MAPS, TYPE, texts
from tests.jit.test_cache import place as place

OBJECTS = sorted((Path(__file__).parents[2] / "examples/objects/v3").glob("*.o"))
SESSIONS = MapSpec("sessions", "hash", key_size=4, value_size=8, max_entries=100)
FLOWS = MapSpec("flows", "hash", key_size=4, value_size=8, max_entries=100)

TEXT = """
    r6 = r1
    *(u32 *)(r10 - 4) = 7
    r2 = r10
    r2 += -4
    r1 = sessions ll
    call map_lookup_elem
    if r0 == 0 goto out
    r1 = *(u64 *)(r0 + 0)
    r2 = *(u32 *)(r6 + 12)
out:
    r1 = flows ll
    r2 = r10
    r2 += -4
    call map_lookup_elem
    call ktime_get_ns
    r0 = 1
    exit
"""


def verified(text: str = TEXT, type: Any = XDP) -> VerifiedProgram:
    return pybpf.verify(Program.from_asm(text, type, maps={"sessions": SESSIONS, "flows": FLOWS}))


def test_equal_programs_are_known_by_the_same_bytes_in_every_process():
    script = (
        "import hashlib, pybpf; from pybpf.jit.source import ProgramSource;"
        f"p = list(pybpf.load({str(OBJECTS[0])!r}).programs.values())[0];"
        "print(hashlib.sha256(ProgramSource(pybpf.verify(p)).identity).hexdigest())"
    )
    program = next(iter(pybpf.load(OBJECTS[0]).programs.values()))
    ours = sha256(ProgramSource(pybpf.verify(program)).identity).hexdigest()
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert done.stdout.strip() == ours


def program(**changes: Any) -> Callable[[VerifiedProgram], VerifiedProgram]:
    return lambda proof: VerifiedProgram(replace(proof.program, **changes), proof.type, proof.facts)


def type_(**changes: Any) -> Callable[[VerifiedProgram], VerifiedProgram]:
    return lambda proof: VerifiedProgram(proof.program, replace(proof.type, **changes), proof.facts)


def facts(change: Callable[[Any], dict[str, Any]]) -> Callable[[VerifiedProgram], VerifiedProgram]:
    return lambda proof: VerifiedProgram(
        proof.program, proof.type, replace(proof.facts, **change(proof.facts))
    )


LOAD = 8  # the pc of the load from the value
CALL = 6

CHANGES = {
    "an immediate": lambda proof: verified(TEXT.replace("= 7", "= 8")),
    "an operator": lambda proof: verified(TEXT.replace("*(u64 *)(r0 + 0)", "*(u32 *)(r0 + 0)")),
    "an offset": lambda proof: verified(TEXT.replace("r6 + 12", "r6 + 16")),
    "a helper": lambda proof: verified(TEXT.replace("lookup_elem\n    call k", "delete_elem\n    call k")),
    "the size of a map": program(maps=(replace(SESSIONS, max_entries=200), FLOWS)),
    "the order of maps": program(maps=(FLOWS, SESSIONS)),
    "the type of a map": program(maps=(replace(SESSIONS, type="array"), FLOWS)),
    "a map that is read-only": program(maps=(replace(SESSIONS, type="array", read_only=True), FLOWS)),
    "the byte order": program(byteorder="big"),
    "what the program is given": type_(entry=FILTER.entry),
    "the clock": type_(clock="realtime"),
    "no machine code for a helper": type_(
        helpers={**helpers.LINUX, 5: replace(helpers.KTIME, body=lambda machine: 5)}
    ),
    "the arguments of a helper": type_(
        helpers={
            **helpers.LINUX,
            5: replace(helpers.KTIME, contract="any any -> num", body=lambda m, a, b: 5),
        }
    ),
    "a region": facts(lambda f: {"accesses": {**f.accesses, LOAD: f.accesses[1]}}),
    "no region": facts(lambda f: {"accesses": {**f.accesses, LOAD: ()}}),
    "which map": facts(lambda f: {"accesses": {**f.accesses, LOAD: (replace(f.accesses[LOAD][0], map=1),)}}),
    "an argument": facts(lambda f: {"arguments": {**f.arguments, CALL: {2: ()}}}),
    "a map that is not known": facts(lambda f: {"maps": {}}),
    "what is reached": facts(lambda f: {"reached": f.reached - {LOAD}}),
    "a stack that must be clear": facts(lambda f: {"zero_stack": True}),
    "a stack that must be clear, and its size": facts(lambda f: {"zero_stack": True, "stack_size": 512}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changes_the_text_changes_the_identity(change):
    before = ProgramSource(verified())
    after = ProgramSource(change(verified()))
    assert after.text() != before.text()
    assert after.identity != before.identity


def test_what_a_register_may_call_is_part_of_it():
    text = "r6 = f ll\n r2 = *(u32 *)(r1 + 12)\n if r2 != 0 goto known\n r6 = g ll\nknown:\n callx r6\n exit\nf: r0 = 1\n exit\ng: r0 = 2\n exit"
    proof = verified(text, replace(XDP, policy=replace(XDP.policy, linux_limits=False)))
    ((pc, callees),) = proof.facts.callees.items()
    assert len(callees) == 2
    fewer = replace(proof.facts, callees={pc: callees[:1]})
    before = ProgramSource(proof)
    after = ProgramSource(VerifiedProgram(proof.program, proof.type, fewer))
    assert after.text() != before.text()
    assert after.identity != before.identity


def test_options_are_part_of_it():
    with_checks, without = ProgramSource(verified()), ProgramSource(verified(), Options(checks=False))
    assert with_checks.text() != without.text()
    assert with_checks.identity != without.identity


def test_rows_of_the_table_are_told_apart_by_what_the_identity_has_of_them():
    assert len({(row.opcode, row.code, row.width) for row in OPS}) == len(OPS)


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.stem)
def test_examples_differ_as_their_texts_do(path):
    seen: dict[bytes, str] = {}
    for one in pybpf.load(path).programs.values():
        try:
            proof = pybpf.verify(one)
            for options in (DEFAULT, Options(checks=False)):
                made = ProgramSource(proof, options)
                assert seen.setdefault(made.identity, made.text()) == made.text()
        except pybpf.BpfError:
            continue


_seen: dict[bytes, str] = {}


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(texts(statements=4))
def test_random_programs_of_one_identity_have_one_text(text):
    try:
        made = ProgramSource(pybpf.verify(Program.from_asm(text, TYPE, maps=MAPS)))
    except VerifierError:
        assume(False)
    assert _seen.setdefault(made.identity, made.text()) == made.text()


def test_code_on_disk_is_found_without_the_text(place, monkeypatch):
    compiled = jit.compile(verified("r0 = 5\n exit"))
    monkeypatch.setattr(source, "Module", None)
    again = jit.compile(verified("r0 = 5\n exit"))
    assert compiled.bind().run(b"") == again.bind().run(b"") == 5


def test_every_file_that_decides_what_code_is_made_is_part_of_the_key():
    """All that lowering imports, but for what a source says of a program, its type and its proof."""
    script = "import sys, pybpf.jit.source; print(*(n for n in sys.modules if n.startswith('pybpf.')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[1] for name in done.stdout.split()}
    said = {
        "asm",
        "directives",
        "errors",
        "helpers",
        "map_types",
        "program",
        "program_types",
        "regions",
        "syntax",
    }
    assert loaded - said - {"verifier"} == {*origin._ROOMS, *origin._FILES}


def test_change_of_the_compiler_is_noticed(monkeypatch):
    before = origin.origin()
    origin.origin.cache_clear()
    read = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: read(path) + (b"#" if path.name == "lower.py" else b"")
    )
    try:
        assert origin.origin() != before
    finally:
        monkeypatch.undo()
        origin.origin.cache_clear()
    assert origin.origin() == before
