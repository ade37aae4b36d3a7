"""Errors: one tree, one line each, and what a caller needs to act as attributes."""

from __future__ import annotations

import inspect
import pickle

import pytest

from pybpf import errors
from pybpf.errors import (
    ArgumentError,
    AssemblyError,
    BpfError,
    BudgetExceeded,
    CaptureError,
    CertificateError,
    DecodeError,
    ElfError,
    InternalError,
    LinkError,
    MapError,
    Trap,
    UnsupportedError,
    VerifierError,
)
from pybpf.program import SourceLine

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if cls.__module__ == errors.__name__]

EXAMPLES = {
    "no such map type": ArgumentError("no such map type"),
    "pc 3: unknown opcode 0xff": DecodeError("unknown opcode 0xff", 3),
    "line 2, column 5: unexpected 'x'": AssemblyError("unexpected 'x'", 2, 5, "r1 = x"),
    "not an ELF file": ElfError("not an ELF file"),
    "section 'maps': too short": ElfError("too short", "maps"),
    "symbol 'f': not defined": LinkError("not defined", "f"),
    "f: the certificate does not prove it: no points": CertificateError("no points", program="f"),
    "packet 7 is cut short": CaptureError("packet 7 is cut short", 7),
    "f: a.c:12: pc 3: r0 = *(u8 *)(r1 + 0): outside the packet [packet-bounds]": VerifierError(
        "outside the packet", reason="packet-bounds", program="f", pc=3, instruction="r0 = *(u8 *)(r1 + 0)",
        source=SourceLine("a.c", 12),
    ),
    "program: no instructions [empty-program]": VerifierError("no instructions", reason="empty-program"),
    "f: pc 3: calls of kernel functions": UnsupportedError("calls of kernel functions", "kfunc", program="f", pc=3),
    "map type 'arena'": UnsupportedError("map type 'arena'", "map-type"),
    "f: stopped after 10 instructions": BudgetExceeded("stopped after 10 instructions", 10, program="f"),
    "map 'flows': full": MapError("full", "flows", 7),
    "pc 3: load of 4 bytes outside every region": Trap("load of 4 bytes outside every region", 3, 0),
    "a fact was false": InternalError("a fact was false"),
}  # fmt: skip


def test_the_docstring_draws_the_tree():
    drawn = {line.split()[1] for line in (errors.__doc__ or "").splitlines() if "──" in line}
    assert drawn == {cls.__name__ for cls in CLASSES} - {"BpfError"}


def test_every_error_is_a_bpf_error_and_bad_arguments_are_value_errors():
    assert all(issubclass(cls, BpfError) for cls in CLASSES)
    assert issubclass(ArgumentError, ValueError)


def test_there_is_an_example_of_each():
    assert {type(error) for error in EXAMPLES.values()} == set(CLASSES) - {BpfError}


@pytest.mark.parametrize(
    ("text", "error"), EXAMPLES.items(), ids=[type(e).__name__ for e in EXAMPLES.values()]
)
def test_the_text_is_one_line_of_place_thing_and_reason(text: str, error: BpfError):
    assert str(error) == text
    assert "\n" not in text
    assert getattr(error, "detail", text) in text


@pytest.mark.parametrize("error", EXAMPLES.values(), ids=lambda error: type(error).__name__)
def test_errors_cross_processes(error: BpfError):
    """As they must for multiprocessing: the text and every attribute arrive."""
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_attributes_say_what_a_caller_acts_on():
    error = VerifierError("m", reason="packet-bounds", program="f", pc=3, explored=9)
    assert (error.reason, error.program, error.pc, error.explored, error.source) == (
        "packet-bounds",
        "f",
        3,
        9,
        None,
    )
    assert (Trap("m", 3, 7).pc, Trap("m", 3, 7).address, Trap("m", 3).address) == (3, 7, None)
    assert (MapError("m", "flows", 7).map, MapError("m", "flows").errno) == ("flows", None)
    assert (UnsupportedError("m", "kfunc").feature, BudgetExceeded("m", 10).used) == ("kfunc", 10)


def test_an_assembly_error_shows_its_place():
    assert AssemblyError("m", 2, 6, "r1 = x").context == "r1 = x\n     ^"
    assert AssemblyError("m", 2, 3, "\t x").context == "\t x\n\t ^"
