"""Every exception that pybpf raises on purpose.

    BpfError
    ├── ArgumentError          a call's arguments make no sense (also a ValueError)
    ├── DecodeError            bytes that are no instruction             .pc
    ├── AssemblyError          text that is no program                   .line .column
    ├── ElfError               a file that is no object                  .section
    ├── LinkError              an object whose parts do not fit          .symbol
    ├── CaptureError           a file that is no packet capture          .packet
    ├── VerifierError          a program that was not proved safe        .pc .reason
    ├── UnsupportedError       a feature that pybpf does not know        .feature .pc
    ├── BudgetExceeded         work stopped at a limit the caller set    .used
    ├── CertificateError       a certificate that proves nothing
    ├── MapError               a map operation that cannot be done       .map .errno
    ├── Trap                   a run that broke a rule of the machine    .pc .address
    └── InternalError          a bug in pybpf

A class exists where a caller would act differently; everything finer is an attribute. `str(error)` is one line: place, thing, reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pybpf.program import SourceLine
    from pybpf.verifier.explain import Explanation


class BpfError(Exception):
    """The root: whatever goes wrong by a user's input is one of these."""

    def __reduce__(self) -> tuple[object, ...]:
        # Constructors take more than the message, which is all that an exception is pickled with by default.
        return _restore, (type(self), self.args), self.__dict__


def _restore(cls: type[BpfError], args: tuple[object, ...]) -> BpfError:
    return cls.__new__(cls, *args)


class ArgumentError(BpfError, ValueError):
    """A name that is not in a table, a size out of range, an option that does not exist."""


class DecodeError(BpfError):
    """Bytes that RFC 9669 does not define. `pc` counts 8-byte slots from the start of the program."""

    def __init__(self, message: str, pc: int) -> None:
        super().__init__(f"pc {pc}: {message}")
        self.pc = pc
        self.detail = message


class AssemblyError(BpfError):
    """Text that cannot be assembled. `line` and `column` count from 1; `source` is the whole line."""

    def __init__(self, message: str, line: int, column: int, source: str = "") -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.line = line
        self.column = column
        self.source = source
        self.detail = message

    @property
    def context(self) -> str:
        """The line with a caret under the column to blame, for a terminal."""
        caret = "".join("\t" if c == "\t" else " " for c in self.source[: self.column - 1]) + "^"
        return f"{self.source}\n{caret}"


class ElfError(BpfError):
    """A file that cannot be read as an ELF object. `section` is the section's name where one is to blame."""

    def __init__(self, message: str, section: str | None = None) -> None:
        super().__init__(f"section {section!r}: {message}" if section else message)
        self.section = section
        self.detail = message


class LinkError(BpfError):
    """A reference that cannot be resolved. `symbol` names it."""

    def __init__(self, message: str, symbol: str) -> None:
        super().__init__(f"symbol {symbol!r}: {message}")
        self.symbol = symbol
        self.detail = message


class CaptureError(BpfError):
    """A file that cannot be read as a capture. `packet` counts whole packets read before the fault."""

    def __init__(self, message: str, packet: int | None = None) -> None:
        super().__init__(message)
        self.packet = packet


class VerifierError(BpfError):
    """A program that could not be proved safe.

    `reason` is a stable identifier such as ``packet-bounds`` (see docs/reference/rejections.md), `pc` the slot to blame or
    None for the program as a whole, `source` the line of C where the object carries it, and `explanation` the story:
    what was needed, what was known, the path that led there and what to try.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        program: str = "",
        pc: int | None = None,
        instruction: str = "",
        source: SourceLine | None = None,
        explanation: Explanation | None = None,
        explored: int = 0,
    ) -> None:
        self.detail = message
        self.reason = reason
        self.program = program
        self.pc = pc
        self.instruction = instruction
        self.source = source
        self.explanation = explanation
        self.explored = explored
        place = program or "program"
        if source is not None:
            place += f": {source.file}:{source.line}"
        if pc is not None:
            place += f": pc {pc}"
        if instruction:
            place += f": {instruction}"
        super().__init__(f"{place}: {message} [{reason}]")


class UnsupportedError(BpfError):
    """Something that may be right and that pybpf does not know: never reported as the user's mistake."""

    def __init__(self, message: str, feature: str, *, program: str = "", pc: int | None = None) -> None:
        place = ": ".join(part for part in (program, f"pc {pc}" if pc is not None else "") if part)
        super().__init__(f"{place}: {message}" if place else message)
        self.feature = feature
        self.program = program
        self.pc = pc
        self.detail = message


class CertificateError(BpfError):
    """What is no certificate, or one that does not prove its program safe: that says nothing about the program."""

    def __init__(self, message: str, *, program: str = "") -> None:
        super().__init__(f"{program}: the certificate does not prove it: {message}" if program else message)
        self.program = program
        self.detail = message


class BudgetExceeded(BpfError):
    """A limit was reached before the answer: instructions of a run, or states of a verification. `used` says how many."""

    def __init__(self, message: str, used: int, *, program: str = "", pc: int | None = None) -> None:
        place = ": ".join(part for part in (program, f"pc {pc}" if pc is not None else "") if part)
        super().__init__(f"{place}: {message}" if place else message)
        self.used = used
        self.program = program
        self.pc = pc
        self.detail = message


class MapError(BpfError):
    """A map that cannot be made, or an operation it does not have. `errno` is Linux's number where one applies."""

    def __init__(self, message: str, map: str, errno: int | None = None) -> None:
        super().__init__(f"map {map!r}: {message}")
        self.map = map
        self.errno = errno
        self.detail = message


class Trap(BpfError):
    """A run stopped: an access outside every region, a bad instruction, a helper that refused its arguments.

    `address` is the machine's own (see `pybpf.memory`), None where no access is to blame.
    """

    def __init__(self, message: str, pc: int, address: int | None = None) -> None:
        super().__init__(f"pc {pc}: {message}")
        self.pc = pc
        self.address = address
        self.detail = message


class InternalError(BpfError):
    """A bug in pybpf: please report it with the program that shows it."""


def of_packet(packet: int, error: BaseException) -> BaseException:
    """The error of a run in a batch: an error of pybpf's says the packet's number itself, everything else is given a note."""
    match error:
        case Trap():
            return Trap(f"packet {packet}: {error.detail}", error.pc, error.address)
        case BudgetExceeded():
            detail = f"packet {packet}: {error.detail}"
            return BudgetExceeded(detail, error.used, program=error.program, pc=error.pc)
        case ArgumentError():
            return ArgumentError(f"packet {packet}: {error}")
    error.add_note(f"packet {packet}")
    return error
