"""``pybpf verify``: verdicts, statuses, explanations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import EXAMPLES, Run, compiled

FIELDS = [
    "program",
    "section",
    "type",
    "verdict",
    "reason",
    "pc",
    "file",
    "line",
    "message",
    "instructions",
    "explored",
    "seconds",
]

UNSUPPORTED = "call 4242\nr0 = 1\nexit"
"""A helper that nobody has."""


def source(tmp_path: Path, text: str, name: str = "program.bpf") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "path", sorted((EXAMPLES / "objects" / "v3").glob("*.o")), ids=lambda path: path.stem
)
def test_examples_are_accepted(pybpf: Run, path: Path) -> None:
    ran = pybpf("verify", path)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith("accepted    ")
    assert "instructions" in ran.out


def test_rejection_names_the_line_of_c(pybpf: Run) -> None:
    """The first line says everything; below it stand the line of C and what to try."""
    ran = pybpf("verify", compiled("unsafe/off_by_one"))
    assert ran.status == 1
    first, *story = ran.out.splitlines()
    assert first.startswith("rejected    off_by_one (filter): examples/unsafe/off_by_one.c:21: pc 2: ")
    assert first.endswith("[packet-bounds]")
    assert "      destination = bpf_ntohl(ip->destination);" in story
    assert any(line.startswith("  known:") and "33 bytes" in line for line in story)
    assert any(line.startswith("  try:") for line in story)
    assert not any("registers" in line for line in story)


def test_verbose_tells_the_path(pybpf: Run) -> None:
    """The path goes through lines of C, a line each, and the registers are those at the failure."""
    out = pybpf("verify", "-v", compiled("unsafe/uninitialised_key")).out
    assert "  registers:" in out
    assert "r10 = stack+0" in out
    path = out[out.index("  path:") :]
    assert "examples/include/filter_packet.h:64  if (ip->source == ip->destination" in path
    assert path.count("filter_packet.h:64") == 1


def test_json_has_exactly_the_documented_fields(pybpf: Run) -> None:
    (row,) = pybpf("verify", "--format", "json", compiled("unsafe/off_by_one")).json
    assert list(row) == FIELDS
    seconds = row.pop("seconds")
    assert seconds > 0
    explored = row.pop("explored")
    assert explored > 0
    assert row == {
        "program": "off_by_one",
        "section": "filter",
        "type": "filter",
        "verdict": "rejected",
        "reason": "packet-bounds",
        "pc": 2,
        "file": "examples/unsafe/off_by_one.c",
        "line": 21,
        "message": "invalid access to packet: read of 4 bytes at offset 30 through r1",
        "instructions": 14,
    }


def test_json_of_an_accepted_program(pybpf: Run) -> None:
    (row,) = pybpf("verify", "--format", "json", compiled("xdp_counter")).json
    assert list(row) == FIELDS
    assert (row["verdict"], row["type"]) == ("accepted", "xdp")
    assert [row[name] for name in ("reason", "pc", "file", "line", "message")] == [None] * 5


@pytest.mark.parametrize(
    ("text", "status", "verdict", "reason"),
    [
        ("r0 = 1\nexit", 0, "accepted", None),
        ("exit", 1, "rejected", "uninitialised-register"),
        (UNSUPPORTED, 3, "unsupported", "helper"),
    ],
)
def test_status_of_each_verdict(
    pybpf: Run, tmp_path: Path, text: str, status: int, verdict: str, reason: str | None
) -> None:
    ran = pybpf("verify", "--type", "filter", "--format", "json", source(tmp_path, text))
    (row,) = ran.json
    assert (ran.status, row["verdict"]) == (status, verdict)
    assert row["reason"] == reason


def test_too_large_to_decide_counts_as_rejected(
    pybpf: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A used-up budget is a verdict of its own, with the status of a rejection."""
    from pybpf import errors
    from pybpf.cli import judge

    def verify(program: object) -> None:
        raise errors.BudgetExceeded("too many states", 200_000, program="program", pc=0)

    monkeypatch.setattr(judge, "verify", verify)
    ran = pybpf("verify", "--type", "filter", "--format", "json", source(tmp_path, "r0 = 1\nexit"))
    (row,) = ran.json
    assert (ran.status, row["verdict"], row["explored"]) == (1, "budget", 200_000)


def test_a_program_without_a_type_is_unsupported(pybpf: Run, tmp_path: Path) -> None:
    """Nobody is to blame, and the line says what helps."""
    ran = pybpf("verify", source(tmp_path, "r0 = 1\nexit"))
    assert ran.status == 3
    assert "give one, such as --type xdp" in ran.out


def test_type_overrides_the_section(pybpf: Run) -> None:
    """As an XDP program, the filter finds a context where it expects a packet."""
    (row,) = pybpf("verify", "--type", "xdp", "--format", "json", compiled("p0f")).json
    assert (row["type"], row["verdict"]) == ("xdp", "rejected")


@pytest.fixture
def several(shared_data: Path) -> Path:
    """An object of several programs, of which pybpf supports some."""
    return shared_data / "elf/linux/xdp2skb_meta_kern.o"


def test_several_programs_get_a_line_each_and_a_summary(pybpf: Run, several: Path) -> None:
    ran = pybpf("verify", several)
    *lines, summary = ran.out.splitlines()
    assert len(lines) == 2
    assert all(line.split()[0] in ("accepted", "rejected", "unsupported") for line in lines)
    assert summary.startswith("2 programs: ")


def test_one_program_of_several(pybpf: Run, several: Path) -> None:
    rows = pybpf("verify", "--format", "json", several).json
    (row,) = pybpf("verify", "--format", "json", several, rows[1]["program"]).json
    assert row["program"] == rows[1]["program"]


def test_worst_verdict_decides(pybpf: Run, several: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rejected goes before unsupported, and that before accepted."""
    from pybpf.cli.status import Status, worst

    assert worst([Status.ACCEPTED, Status.UNSUPPORTED, Status.REJECTED]) is Status.REJECTED
    assert worst([Status.UNSUPPORTED, Status.ACCEPTED]) is Status.UNSUPPORTED
    assert worst([Status.ACCEPTED]) is Status.ACCEPTED
    verdicts = {row["verdict"] for row in pybpf("verify", "--format", "json", several).json}
    expected = 1 if "rejected" in verdicts else 3 if "unsupported" in verdicts else 0
    assert pybpf("verify", several).status == expected


def test_unknown_program_is_bad_input(pybpf: Run) -> None:
    ran = pybpf("verify", compiled("p0f"), "p0")
    assert ran.status == 2
    assert ran.err == f"pybpf: {compiled('p0f')}: no program 'p0': did you mean 'p0f'?\n"


def test_types_by_other_names(pybpf: Run, tmp_path: Path) -> None:
    """A type is found by the names that libbpf and bpftool give it; one that does not exist by none."""
    (row,) = pybpf(
        "verify", "--type", "classifier", "--format", "json", source(tmp_path, "r0 = 0\nexit")
    ).json
    assert row["type"] == "tc"
    ran = pybpf("verify", "--type", "socks", source(tmp_path, "exit"))
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "unknown program type 'socks': did you mean 'sockops'? known are filter, " in ran.err


def test_a_program_can_be_held_to_a_level_of_the_instruction_set(pybpf: Run, tmp_path: Path) -> None:
    path = source(tmp_path, ".type memory\nr0 = 7\nr0 s/= 2\nexit")
    assert pybpf("verify", "--isa", "v4", path).status == pybpf("verify", path).status == 0
    ran = pybpf("verify", "--isa", "v3", path)
    assert ran.status == 1
    assert "pc 1: unknown opcode 0x37 under ISA v3: it is new in v4 [isa-level]" in ran.out
    assert pybpf("verify", "--isa", "v5", path).status == 2


def test_a_level_leaves_the_rest_of_the_policy_of_the_type(pybpf: Run, tmp_path: Path) -> None:
    """A filter may not loop at any level, and an unknown type is still one."""
    loop = source(tmp_path, ".type filter\nr0 = 9\nagain:\nr0 -= 1\nif r0 != 0 goto again\nexit")
    assert "[back-edge]" in pybpf("verify", "--isa", "v4", loop).out
    assert pybpf("verify", "--isa", "v1", source(tmp_path, "r0 = 1\nexit")).status == 3


def test_policy(pybpf: Run, tmp_path: Path) -> None:
    """Fields of the policy by name, alone and together, and Linux's for unprivileged users."""
    loop = tmp_path / "loop.bpf"
    loop.write_text(".type socket_filter\nr0 = 0\ntop:\nr0 += 1\nif r0 < 9 goto top\nexit\n")
    assert pybpf("verify", loop).status == 0
    assert pybpf("verify", "--policy", "loops=yes,max_instructions=100", loop).status == 0
    for policy, reason in [
        ("loops=no", "back-edge"),
        ("max_instructions=10", "instruction-limit"),
        ("isa=1", "isa-level"),
        ("unprivileged", "back-edge"),
        ("unprivileged,loops=yes,max_size=3", "too-long"),
    ]:
        result = pybpf("verify", "--policy", policy, loop)
        assert result.status == 1
        assert f"[{reason}]" in result.out


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("loop=no", "unknown field 'loop': known are loops, functions,"),
        ("loops", "'loops': loops is yes or no"),
        ("loops=1", "'loops=1': loops is yes or no"),
        ("max_size=many", "'max_size=many': max_size is a number"),
        ("", "unknown field ''"),
    ],
)
def test_wrong_policy(pybpf: Run, tmp_path: Path, policy: str, said: str) -> None:
    """One line that says what is wrong and what there is."""
    program = tmp_path / "p.bpf"
    program.write_text(".type filter\nr0 = 0\nexit\n")
    result = pybpf("verify", "--policy", policy, program)
    assert result.status == 2
    assert said in result.err


def test_facts(pybpf: Run, tmp_path: Path) -> None:
    """What was proved, instruction by instruction, for people and for scripts; nothing for what was rejected."""
    program = tmp_path / "p.bpf"
    program.write_text(
        ".type filter\n.map flows hash key=4 value=8 entries=4\nr0 = 0\nif r2 < 34 goto out\nr2 = r1\nr2 += 26\n"
        "r1 = flows ll\ncall map_lookup\nif r0 == 0 goto out\nr0 = *(u64 *)(r0 + 0)\nif r2 == 0 goto out\nout:\nexit\n"
    )
    assert "[uninitialised-register]" in pybpf("verify", "--facts", program).out
    program.write_text(program.read_text().replace("if r2 == 0", "if r10 == 0"))
    out = pybpf("verify", "--facts", program).out
    for line in (
        "at most 10 instructions a run",
        "16 bytes of stack",
        "helpers: map_lookup",
        "map flows: lookup, read",
        "r2: 4 bytes of packet at +26; r0 may be null",
        "8 bytes of value of flows at +0",
        "never taken",
    ):
        assert line in out, out
    said = json.loads(pybpf("verify", "--facts", "--format", "json", program).out)[0]["facts"]
    assert said["maps"] == {"flows": ["lookup", "read"]}
    assert said["null"] == {"6": True}
    assert said["branches"] == {"9": False}
    assert "facts" not in json.loads(pybpf("verify", "--format", "json", program).out)[0]
    program.write_text(".type filter\nexit\n")
    assert json.loads(pybpf("verify", "--facts", "--format", "json", program).out)[0]["facts"] is None
