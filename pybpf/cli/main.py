"""The group of commands, and the one place where errors become lines and exit statuses."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

import click

from pybpf import __version__
from pybpf.cli.output import complain
from pybpf.cli.status import Failure, Status, status_of
from pybpf.errors import BpfError

_COMMANDS: Final = ("verify", "check", "run", "disasm", "asm", "inspect", "compile", "conformance", "version")
"""Each is the function ``command`` of the module of its name in this package."""

_DEBUG: Final = "PYBPF_DEBUG"


class Commands(click.Group):
    """Imports a command when it is called, and ends in a line on standard error whatever happens."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name."""
        if cmd_name not in _COMMANDS:
            return None
        command = import_module(f"pybpf.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest one of a similar name."""
        if args[0] not in _COMMANDS:
            import difflib

            near = difflib.get_close_matches(args[0], _COMMANDS, 1)
            ctx.fail(f"no such command {args[0]!r}" + (f": did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run, and exit with a `Status`."""
        try:
            status = int(super().main(*args, **kwargs | {"standalone_mode": False}) or 0)
        except click.ClickException as error:
            _complain_of_usage(error)
            status = Status.BAD_INPUT
        except (KeyboardInterrupt, click.Abort):
            complain("interrupted")
            status = Status.INTERRUPTED
        except Exception as error:
            status = _end(error, debug=bool(os.environ.get(_DEBUG)))
        sys.exit(status)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; every error but a wrong use ends in a line and its status."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # Nobody reads on. What is still buffered must not fail once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = Status.BROKEN_PIPE
        except Exception as error:
            status = _end(error, debug=ctx.params["debug"])
        return ctx.exit(status)


def _complain_of_usage(error: click.ClickException) -> None:
    ctx = getattr(error, "ctx", None)
    command = "pybpf" if ctx is None else ctx.command_path
    message = error.format_message().rstrip(".")
    place = "".join(f"{word}: " for word in command.split()[1:])
    complain(f"{place}{message[:1].lower()}{message[1:]} (see {command} --help)")


def _end(error: Exception, *, debug: bool) -> Status:
    """Say what went wrong, and which status that is."""
    status = error.status if isinstance(error, Failure) else status_of(error)
    if status is not Status.INTERNAL or isinstance(error, BpfError | Failure):
        complain(str(error))
    else:
        complain(f"{type(error).__name__}: {error}")
    if isinstance(error, Failure) and error.context:
        click.echo(error.context, err=True)
    if status is Status.INTERNAL:
        if debug:
            import traceback

            traceback.print_exception(error)
        ask = "" if debug else ", and what 'pybpf --debug' prints in front of the same command"
        complain(f"this is a bug in pybpf: please report it with the file{ask}")
    return status


@click.group(
    "pybpf",
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Exit status:
    0  accepted, done          3  uses something that pybpf does not know
    1  rejected               70  internal error
    2  bad input or usage    130  interrupted

\b
Examples:
    pybpf verify firewall.o
    pybpf run firewall.o --pcap traffic.pcap --maps""",
)
@click.version_option(__version__, prog_name="pybpf", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, envvar=_DEBUG, help="Show where in pybpf an internal error arose.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Load, verify, run and compile eBPF programs: no kernel, no root, no C compiler.

    FILE is an ELF object as clang writes it, assembler text (NAME.bpf), or bytecode alone (NAME.bin); a file may be '-' for
    standard input.
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def main(args: Sequence[str] | None = None) -> NoReturn:
    """The entry point of the command line: exits with a `Status`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal cannot show is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    cli.main(args, prog_name="pybpf")
