"""Verifier cases as text: programs in assembler, each with its verdict and, where it is refused, the line to blame.

A file holds many cases. Each begins with its name and verdict, says in comments what it proves, and may ask for a policy:

    ; === name of the case: rejected
    ; What the case proves.
    ; policy: strict_alignment=True isa=1
    ; minimum_length: 14
    ; linux: why Linux's verdict on this machine is another
    .type filter
      r0 = *(u8 *)(r1 + 14)     ; error: packet-bounds
      exit

The verdict is ``accepted``, ``rejected``, ``budget`` or ``unsupported FEATURE``. A rejected case has exactly one ``error:`` with
the reason, on the line of the instruction to blame, or above the code where the whole program is.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from pybpf import (
    BpfError,
    BudgetExceeded,
    Policy,
    Program,
    UnsupportedError,
    VerifiedProgram,
    VerifierError,
    assemble,
    verify,
)
from pybpf.program_types import ProgramType, get

CASES = Path(__file__).with_name("cases")

_START = re.compile(r"; === (?P<name>[^:]+): (?P<verdict>accepted|rejected|budget|unsupported \S+)\s*")
_ERROR = re.compile(r";\s*error:\s*(?P<reason>[a-z0-9-]+)")
_LABEL = re.compile(r"^\s*[A-Za-z_]\w*:")


@dataclass(frozen=True, slots=True)
class Case:
    """One program and what the verifier must say of it."""

    name: str
    verdict: str
    text: str
    reason: str = ""
    pc: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    minimum_length: int = 0
    linux: str = ""

    def program(self) -> Program:
        """The program of the text."""
        return assemble(self.text, name=self.name)

    def type(self) -> ProgramType:
        """The type that the text names, under the policy that it asks for."""
        type_ = get(self.program().type or "")
        policy = replace(type_.policy, **self.options)
        return replace(type_, policy=policy, minimum_length=self.minimum_length or type_.minimum_length)

    def verify(self) -> VerifiedProgram:
        """Ask the verifier."""
        return verify(self.program(), self.type())

    def said(self) -> tuple[str, str, int | None]:
        """The verdict in the words of a case, the reason and the slot to blame."""
        try:
            self.verify()
        except VerifierError as error:
            return "rejected", error.reason, error.pc
        except UnsupportedError as error:
            return f"unsupported {error.feature}", "", None
        except BudgetExceeded:
            return "budget", "", None
        except BpfError as error:
            raise AssertionError(f"{self.name}: {error}") from error
        return "accepted", "", None


def read(path: Path) -> Iterator[Case]:
    """The cases of a file."""
    start: re.Match[str] | None = None
    lines: list[str] = []
    for line in path.read_text().splitlines():
        found = _START.fullmatch(line)
        if found is None:
            lines.append(line)
            continue
        if start is not None:
            yield _case(path, start, lines)
        start, lines = found, []
    assert start is not None, f"{path.name} holds no case"
    yield _case(path, start, lines)


def _case(path: Path, start: re.Match[str], lines: list[str]) -> Case:
    marks: list[tuple[str, int | None]] = []
    options: dict[str, Any] = {}
    minimum_length = pc = 0
    linux = ""
    for line in lines:
        code = re.sub(r";.*", "", _LABEL.sub("", line)).strip()
        is_instruction = bool(code) and not code.startswith(".")
        if found := _ERROR.search(line):
            marks.append((found["reason"], pc if is_instruction else None))
        if line.startswith("; policy: "):
            options = {
                key: ast.literal_eval(value) for key, value in (w.split("=") for w in line[10:].split())
            }
        if line.startswith("; minimum_length: "):
            minimum_length = int(line[18:])
        if line.startswith("; linux: "):
            linux = line[9:]
        if is_instruction:
            pc += 2 if code.endswith(" ll") else 1
    name, verdict = start["name"], start["verdict"]
    assert len(marks) == (verdict == "rejected"), f"{path.name}: {name}: {len(marks)} errors marked"
    assert not options.keys() - Policy.__dataclass_fields__.keys(), f"{path.name}: {name}: {options}"
    reason, blamed = marks[0] if marks else ("", None)
    return Case(name, verdict, "\n".join(lines), reason, blamed, options, minimum_length, linux)


@cache
def all_cases() -> list[tuple[str, Case]]:
    """Every case with the name of its file."""
    return [(path.stem, case) for path in sorted(CASES.glob("*.bpf")) for case in read(path)]
