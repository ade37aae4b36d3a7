"""Exit statuses: one number for each way in which a command can end."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from pybpf.errors import BpfError, BudgetExceeded, InternalError, Trap, UnsupportedError, VerifierError


class Status(IntEnum):
    """What a shell sees."""

    ACCEPTED = 0
    REJECTED = 1
    BAD_INPUT = 2
    UNSUPPORTED = 3
    INTERNAL = 70  # EX_SOFTWARE of sysexits.h
    INTERRUPTED = 130  # what shells report for SIGINT
    BROKEN_PIPE = 141  # and for SIGPIPE


_WORST_FIRST: Final = (Status.REJECTED, Status.UNSUPPORTED, Status.ACCEPTED)


def worst(statuses: Iterable[Status]) -> Status:
    """The status of a command that judged several programs: rejected before unsupported before accepted."""
    return min(statuses, key=_WORST_FIRST.index, default=Status.ACCEPTED)


def status_of(error: Exception) -> Status:
    """The status that an error ends a command with."""
    match error:
        case VerifierError() | BudgetExceeded():
            return Status.REJECTED
        case UnsupportedError():
            return Status.UNSUPPORTED
        case InternalError() | Trap():
            return Status.INTERNAL
        case BpfError() | OSError():
            return Status.BAD_INPUT
        case _:
            return Status.INTERNAL


class Failure(Exception):
    """The end of a command: a line for the user, without ``pybpf:``, and the exit status. `context` may follow the line."""

    def __init__(self, message: str, status: Status, context: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.context = context
