"""The verdict on a program: what `verify` prints and what `run` asks before it runs anything."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from pybpf import program_types
from pybpf.cli.status import Failure, Status
from pybpf.errors import (
    BpfError,
    BudgetExceeded,
    CertificateError,
    ElfError,
    InternalError,
    LinkError,
    UnsupportedError,
    VerifierError,
)
from pybpf.program import Program
from pybpf.program_types import BY_NAME
from pybpf.verifier import check, verify
from pybpf.verifier.facts import VerifiedProgram

if TYPE_CHECKING:
    from pybpf.verifier.certificate import Certificate

STATUS: Final = {
    "accepted": Status.ACCEPTED,
    "rejected": Status.REJECTED,
    "budget": Status.REJECTED,
    "unproved": Status.REJECTED,
    "unsupported": Status.UNSUPPORTED,
}
"""The exit status of each verdict."""

_UNCHANGED: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Row:
    """The fields of the JSON output, in their order.

    `reason` is the stable identifier of a rejection, or the feature that is missing; `pc`, `file` and `line` say where, as
    far as that is known. `instructions` are the program's, `explored` those that the verifier went through, None where it
    does not say.
    """

    program: str
    section: str
    type: str | None
    verdict: str
    reason: str | None
    pc: int | None
    file: str | None
    line: int | None
    message: str | None
    instructions: int
    explored: int | None
    seconds: float


class Judgement(NamedTuple):
    """A row, and what stands behind it: the proof or the error."""

    row: Row
    verified: VerifiedProgram | None
    error: BpfError | None


def judge(
    program: Program,
    policy: Mapping[str, int] = _UNCHANGED,
    *,
    certify: bool = False,
    certificate: Certificate | None = None,
) -> Judgement:
    """Verify a program under its type's policy, of which some fields are changed, with a certificate of it (`certify`); or check
    it by one. Raises `InternalError`; every other outcome is a verdict.
    """
    verified = error = None
    start = time.perf_counter()
    try:
        verified = _proved(program, policy, certify, certificate)
    except InternalError:
        raise
    except BpfError as caught:
        error = caught
    seconds = time.perf_counter() - start
    verdict, reason, explored = _outcome(verified, error)
    pc = getattr(error, "pc", None)
    source = program.source(pc) if pc is not None else None
    row = Row(
        program=program.name,
        section=program.section,
        type=program.type if isinstance(program.type, str) or program.type is None else program.type.name,
        verdict=verdict,
        reason=reason,
        pc=pc,
        file=source.file if source else None,
        line=source.line if source else None,
        message=getattr(error, "detail", str(error)) if error else None,
        instructions=len(program.code),
        explored=explored,
        seconds=round(seconds, 6),
    )
    return Judgement(row, verified, error)


def _proved(
    program: Program, changed: Mapping[str, int], certify: bool, certificate: Certificate | None
) -> VerifiedProgram:
    if program.type is None:
        place = f"section {program.section!r}" if program.section else "the file"
        raise UnsupportedError(
            f"{place} does not say the program's type: give one, such as --type xdp",
            "program-type",
        )
    asked: dict[str, Any] = {"certificate": True} if certify else {}
    if changed and (not isinstance(program.type, str) or program.type in BY_NAME):
        fields: dict[str, Any] = dict(changed)
        asked["policy"] = replace(program_types.get(program.type).policy, **fields)
    if certificate is not None:
        return check(program, certificate, **asked)
    return verify(program, **asked)  # which says of an unknown type that it is one


def _outcome(verified: VerifiedProgram | None, error: BpfError | None) -> tuple[str, str | None, int | None]:
    """Verdict, reason and the number of instructions explored."""
    match error:
        case None:
            assert verified is not None
            return "accepted", None, verified.facts.explored
        case VerifierError():
            return "rejected", error.reason, error.explored
        case CertificateError():
            return "unproved", "certificate", None
        case BudgetExceeded():
            return "budget", "budget", error.used
        case UnsupportedError():
            return "unsupported", error.feature, None
        case LinkError() | ElfError():  # found when the object was read, told when the program is wanted
            return "rejected", "link", None
        case _:
            raise error


def accepted(file: str, judgement: Judgement) -> VerifiedProgram:
    """The proof of a program that is to be run; any other verdict ends the command."""
    row = judgement.row
    if judgement.verified is not None:
        return judgement.verified
    where = f"{click.format_filename(file)}: {row.verdict}: {judgement.error}"
    hint = (
        f" (pybpf verify -v {click.format_filename(file)} {row.program} explains)"
        if row.verdict == "rejected"
        else ""
    )
    raise Failure(where + hint, STATUS[row.verdict]) from judgement.error
