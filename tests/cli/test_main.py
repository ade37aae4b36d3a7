"""What becomes of errors, interruptions and output that nobody reads; and what a command does not load."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from pybpf import __version__
from pybpf.cli.main import cli
from tests.cli.conftest import CAPTURES, Run, command, compiled, surroundings

OBJECT = compiled("stateful_firewall").read_bytes()
HTTP = (CAPTURES / "http.pcap").read_bytes()
MACHINE, BYTE_ORDER, CLASS = 18, 5, 4  # bytes of an ELF header


def changed(data: bytes, offset: int, byte: int) -> bytes:
    return data[:offset] + bytes([byte]) + data[offset + 1 :]


BAD_OBJECTS = {
    "empty": b"",
    "text": b"int main() { return 0; }\n",
    "header only": OBJECT[:64],
    "half": OBJECT[: len(OBJECT) // 2],
    "one byte short": OBJECT[:-1],
    "machine": changed(OBJECT, MACHINE, 62),
    "byte order": changed(OBJECT, BYTE_ORDER, 2),
    "32 bits": changed(OBJECT, CLASS, 1),
}
BAD_CAPTURES = {
    "empty": b"",
    "text": b"not a capture at all, not even nearly one",
    "header cut": HTTP[:20],
    "packet cut": HTTP[:-1],
    "packet header cut": HTTP[: 24 + 8],
}


@pytest.mark.parametrize("name", ["verify", "disasm", "inspect", "run"])
@pytest.mark.parametrize("data", BAD_OBJECTS.values(), ids=BAD_OBJECTS)
def test_bad_objects(pybpf: Run, tmp_path: Path, name: str, data: bytes) -> None:
    """One line that names the file, and status 2."""
    path = tmp_path / "bad.o"
    path.write_bytes(data)
    ran = pybpf(name, path, *(["--pcap", CAPTURES / "http.pcap"] if name == "run" else []))
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"pybpf: {path}: ")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("data", BAD_CAPTURES.values(), ids=BAD_CAPTURES)
def test_bad_captures(pybpf: Run, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.pcap"
    path.write_bytes(data)
    ran = pybpf("run", compiled("p0f"), "--pcap", path)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith(f"pybpf: {path}: ")
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize("name", ["verify", "disasm", "inspect", "asm"])
def test_files_that_cannot_be_read(pybpf: Run, tmp_path: Path, name: str) -> None:
    output = ["-o", tmp_path / "out.bin"] if name == "asm" else []
    missing = pybpf(name, tmp_path / "missing.o", *output)
    assert (missing.status, missing.err) == (2, f"pybpf: {tmp_path}/missing.o: No such file or directory\n")
    folder = pybpf(name, tmp_path, *output)
    assert (folder.status, folder.err) == (2, f"pybpf: {tmp_path}: Is a directory\n")


def test_file_that_cannot_be_written(pybpf: Run, tmp_path: Path) -> None:
    target = tmp_path / "no" / "out.pcap"
    ran = pybpf("run", compiled("p0f"), "--pcap", CAPTURES / "http.pcap", "--write", target)
    assert (ran.status, ran.err) == (2, f"pybpf: {target}: No such file or directory\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frobnicate"], "pybpf: no such command 'frobnicate' (see pybpf --help)\n"),
        (["verfy", "a.o"], "pybpf: no such command 'verfy': did you mean 'verify'? (see pybpf --help)\n"),
        (["--frobnicate"], "pybpf: no such option '--frobnicate' (see pybpf --help)\n"),
        (["verify"], "pybpf: verify: missing argument 'FILE' (see pybpf verify --help)\n"),
        (
            ["verify", "a", "b", "c"],
            "pybpf: verify: got unexpected extra argument (c) (see pybpf verify --help)\n",
        ),
    ],
)
def test_wrong_use(pybpf: Run, arguments: list[str], says: str) -> None:
    ran = pybpf(*arguments)
    assert (ran.status, ran.err) == (2, says)


def test_bug_of_ours_asks_for_a_report(pybpf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lines and status 70; the traceback comes with --debug alone."""
    from pybpf.cli import verify

    def broken(program: object, policy: object, *, certify: bool) -> None:
        raise RuntimeError("the sky\nfell")

    monkeypatch.setattr(verify, "judge", broken)
    ran = pybpf("verify", compiled("p0f"))
    assert ran.status == 70
    said, asked = ran.err.splitlines()
    assert said == "pybpf: RuntimeError: the sky\\x0afell"
    assert "report" in asked
    monkeypatch.setenv("PYBPF_DEBUG", "1")
    assert "Traceback" in pybpf("verify", compiled("p0f")).err
    monkeypatch.delenv("PYBPF_DEBUG")
    assert "Traceback" in pybpf("--debug", "verify", compiled("p0f")).err


def test_false_proof_is_a_bug_of_ours(pybpf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verified program does not trap; if it does, that is no fault of the user's."""
    from pybpf.errors import Trap
    from pybpf.runtime import Instance

    def traps(self: Instance, packet: bytes) -> None:
        raise Trap("access of 8 bytes at 0x0", 3, 0)

    monkeypatch.setattr(Instance, "run", traps)
    ran = pybpf("run", compiled("p0f"), "--pcap", CAPTURES / "http.pcap", "--engine", "interpreter")
    assert ran.status == 70
    assert ran.err.startswith(f"pybpf: {compiled('p0f')}: packet 0: pc 3: access of 8 bytes")
    assert "report" in ran.err


def test_names_cannot_write_to_the_terminal(pybpf: Run, tmp_path: Path) -> None:
    """Control characters of a file's name, and of names in files, are shown as numbers."""
    path = tmp_path / "a\x1b[2J\nb.bpf"
    path.write_text('.type filter\n.license "G\x1b[2J"\nr0 = 1\nexit')
    assert pybpf("verify", path).out.startswith("accepted    a\\x1b[2J\\x0ab (filter): ")
    assert "\x1b" not in pybpf("disasm", path).out
    assert "\x1b" not in pybpf("inspect", path).out
    assert pybpf("verify", path, "x\n").err.count("\n") == 1


def test_interruption(pybpf: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from pybpf.cli import verify

    def interrupted(program: object, policy: object, *, certify: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(verify, "judge", interrupted)
    ran = pybpf("verify", compiled("p0f"))
    assert ran.status == 130
    assert ran.err.strip() == "pybpf: interrupted"


@pytest.mark.slow
def test_control_c_ends_a_long_run(tmp_path: Path) -> None:
    """The capture is a pipe: whoever opens it is at work. Jobs in the background ignore the signal, which a terminal's do not."""
    pipe = tmp_path / "capture.pcap"
    os.mkfifo(pipe)
    arguments = ("run", compiled("p0f"), "--pcap", pipe, "--engine", "interpreter", "--repeat", "1000000")
    with subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=surroundings(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as running:
        try:
            feed(pipe, running)
            time.sleep(0.5)
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=60)
        finally:
            running.kill()
    assert (running.returncode, out, err.strip()) == (130, "", "pybpf: interrupted")


def feed(pipe: Path, running: subprocess.Popen[str]) -> None:
    """Write a capture into a pipe as soon as somebody reads it."""
    while running.poll() is None:
        try:
            writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody yet
            time.sleep(0.02)
        else:
            os.set_blocking(writer, True)
            with open(writer, "wb") as stream:
                stream.write(HTTP)
            return


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [("disasm", compiled("dapper")), ("inspect", compiled("dapper"))], ids=lambda a: a[0]
)
def test_output_that_nobody_reads(arguments: tuple[str | Path, ...]) -> None:
    """No message and no traceback, neither during the command nor at exit."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command(*arguments), stdout=writer, stderr=subprocess.PIPE, env=surroundings())
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "unloaded"),
    [
        (
            ("verify", compiled("stateful_firewall")),
            {"llvmlite", "numpy", "rich", "elftools", "pathlib", "pybpf.asm"},
        ),
        (("disasm", compiled("stateful_firewall")), {"llvmlite", "numpy", "rich"}),
        (("inspect", compiled("stateful_firewall")), {"llvmlite", "numpy"}),
        (("--help",), {"llvmlite", "numpy", "rich"}),
        (("version",), {"llvmlite", "numpy", "rich"}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_commands_load_what_they_need(arguments: tuple[str | Path, ...], unloaded: set[str]) -> None:
    script = (
        "import sys\nfrom pybpf.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as end:\n    print(end.code, *sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        env=surroundings(),
        check=True,
    )
    status, *loaded = done.stderr.split()
    assert status == "0"
    assert "pybpf.cli.main" in loaded
    assert not unloaded & set(loaded)


@pytest.mark.slow
@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_on_a_terminal(no_color: str, coloured: bool) -> None:
    """Verdicts are coloured where a person reads them, who has not asked otherwise."""
    ours, theirs = pty.openpty()
    environment = surroundings(TERM="xterm", NO_COLOR=no_color)
    subprocess.run(command("verify", compiled("p0f")), stdout=theirs, env=environment, check=True)
    os.close(theirs)
    assert (b"\x1b[32m" in os.read(ours, 10_000)) is coloured
    os.close(ours)


@pytest.mark.slow
def test_python_m_pybpf(process: Run) -> None:
    """The module is the command, with its statuses."""
    assert process("--version").out == f"pybpf {__version__}\n"
    assert process("verify", compiled("unsafe/loop")).status == 1


def test_version(pybpf: Run) -> None:
    lines = pybpf("version").out.splitlines()
    assert lines[0] == f"pybpf {__version__}"
    assert [line.split()[0] for line in lines[1:]] == ["Python", "llvmlite", "numpy", "pyelftools"]


@pytest.mark.parametrize("name", cli.list_commands(None))  # type: ignore[arg-type]
def test_every_help_has_examples(pybpf: Run, name: str) -> None:
    ran = pybpf(name, "--help")
    assert ran.status == 0
    assert f"pybpf {name}" in ran.out[ran.out.index("Examples:") :]


def test_help_lists_commands_and_statuses(pybpf: Run) -> None:
    out = pybpf("--help").out
    assert all(f"  {name} " in out for name in cli.list_commands(None))  # type: ignore[arg-type]
    assert "70  internal error" in out


def test_program_names_complete() -> None:
    """A shell offers the programs of the file that was typed."""
    offers: Callable[[list[str], str], list[str]] = lambda words, start: [  # noqa: E731
        item.value
        for item in ShellComplete(cli, {}, "pybpf", "_PYBPF_COMPLETE").get_completions(words, start)
    ]
    assert offers([], "ver") == ["verify", "version"]
    assert offers(["run", str(compiled("p0f"))], "p") == ["p0f"]
    assert offers(["run", str(compiled("p0f"))], "x") == []
    assert offers(["run", "missing.o"], "") == []
    assert offers(["verify", "--type"], "xd") == ["xdp"]
