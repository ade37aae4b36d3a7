"""Linux's own verifier cases: what pybpf's verifier says of each, as a privileged and as an unprivileged user.

No unsafe program is accepted. Every other difference stands in ``linux_differences.txt`` with its reason, and an entry that
no longer differs is an error too. Cases of what pybpf does not know are `unsupported`, which is neither verdict.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pybpf import (
    BudgetExceeded,
    DecodeError,
    MapSpec,
    Policy,
    Program,
    UnsupportedError,
    VerifierError,
    verify,
)
from pybpf.program_types import UNPRIVILEGED
from tests.conftest import SHARED
from tests.verifier.linux_types import TYPES, attached

CASES = SHARED / "verifier-cases.jsonl"
DIFFERENCES = Path(__file__).with_name("linux_differences.txt")

pytestmark = pytest.mark.skipif(
    not CASES.exists(), reason=f"no {CASES.name}: the vectors are not part of pybpf"
)

CORE_AGREEMENT = 372
"""Of the 376 core cases, how many give Linux's verdict; may only grow."""
CORE_UNPRIVILEGED_AGREEMENT = 221
"""Of the 222 socket filters among them, how many give Linux's verdict for an unprivileged user under the policy `UNPRIVILEGED`."""


@cache
def lines() -> list[Any]:
    return [json.loads(line) for line in CASES.read_text().splitlines()] if CASES.exists() else [{}]


def cases() -> list[Any]:
    """The cases of program types that `linux_types` knows."""
    return [case for case in lines()[1:] if case["prog_type"] in TYPES]


def unprivileged() -> list[Any]:
    """The cases of types that Linux let unprivileged users load."""
    return [case for case in cases() if case["prog_type"] in ("socket_filter", "cgroup_skb")]


def map_spec(key: str) -> MapSpec:
    """A map of the vectors by its name there."""
    return spec_of(key, lines()[0]["_meta"]["maps"][key])


def spec_of(key: str, fields: Any) -> MapSpec:
    """A map of the vectors by what is said of it there."""
    read_only = fields.get("flags") == "BPF_F_RDONLY_PROG"
    initial = (28).to_bytes(28, "little") + (0xABCDEF12).to_bytes(20, "little") if read_only else None
    sizes = fields["key_size"], fields["value_size"], fields["max_entries"]
    inner = spec_of(f"{key}.inner", fields["inner"]) if "inner" in fields else None
    return MapSpec(key, fields["type"], *sizes, read_only=read_only, initial=initial, inner=inner)


def verdict(case: Any, policy: Policy | None = None, **fields: bool) -> str:
    """``accept``, ``reject``, ``unsupported`` or ``budget``, under a policy or the type's own, with some fields of it changed."""
    type_ = attached(case["prog_type"], case.get("expected_attach_type"))
    asked = replace(policy or type_.policy, strict_alignment=bool(case.get("strict_alignment")))
    maps = {int(pc): map_spec(key) for pc, key in case["maps"].items()}
    try:
        program = Program.from_bytes(bytes.fromhex(case["insns"]), type_, maps, name=case["id"])
        verify(program, policy=replace(asked, **fields))
    except (DecodeError, VerifierError):
        return "reject"
    except UnsupportedError:
        return "unsupported"
    except BudgetExceeded:
        return "budget"
    return "accept"


@cache
def differences() -> dict[str, tuple[str, str]]:
    """Case and user -> pybpf's verdict and why it differs; a line reads ``id[!] verdict reason``, ``!`` for unprivileged."""
    found = {}
    for line in DIFFERENCES.read_text().splitlines():
        if line and not line.startswith("#"):
            case, said, reason = line.split(maxsplit=2)
            assert case not in found, f"{case} stands twice in {DIFFERENCES.name}"
            found[case] = (said, reason)
    return found


def judge(key: str, said: str, linux: str) -> None:
    expected = differences().get(key)
    if said == "unsupported":
        assert expected is None, f"{key} is unsupported: no verdict that could differ"
    elif expected is None:
        assert said == linux
    else:
        assert said != linux, f"{key} does not differ any more: take it out of {DIFFERENCES.name}"
        assert said == expected[0]


def test_differences_are_of_cases() -> None:
    """Nothing is excused that is not asked."""
    asked = {case["id"] for case in cases()} | {case["id"] + "!" for case in unprivileged()}
    assert set(differences()) <= asked


LONG = {"v0675"}
"""Cases of thousands of instructions."""

ALIGNED = {"v0004", "v0711", "v0712", "v0713", "v1196", "v1197"}
"""Cases that the vectors mark as unaligned and that access nothing unaligned."""


def named(chosen: list[Any]) -> list[Any]:
    """Cases as parameters, by identifier and name."""
    return [
        pytest.param(
            case, id=f"{case['id']}-{case['name']}", marks=pytest.mark.slow if case["id"] in LONG else ()
        )
        for case in chosen
    ]


@pytest.mark.parametrize("case", named(cases()))
def test_verdict(case: Any) -> None:
    """Linux's as a privileged user, or a difference with its reason."""
    judge(case["id"], verdict(case), case["verdict"])


@pytest.mark.parametrize("case", named(unprivileged()))
def test_unprivileged_verdict(case: Any) -> None:
    """Linux's as an unprivileged user, or a difference with its reason."""
    judge(case["id"] + "!", verdict(case, UNPRIVILEGED), case.get("verdict_unpriv", case["verdict"]))


@pytest.mark.parametrize("case", named([case for case in cases() if case.get("needs_unaligned")]))
def test_strict_alignment(case: Any) -> None:
    """What needs unaligned accesses is not accepted where alignment is asked for."""
    assert (verdict(case, strict_alignment=True) == "accept") == (case["id"] in ALIGNED)


def agreement(chosen: list[Any], policy: Policy | None = None) -> Counter[str]:
    """Of the core cases among some, how many give Linux's verdict, and what the others give."""
    counted: Counter[str] = Counter()
    for case in chosen:
        if case["core"]:
            linux = case.get("verdict_unpriv", case["verdict"]) if policy else case["verdict"]
            said = verdict(case, policy)
            counted["agree" if said == linux else said] += 1
    return counted


@pytest.mark.slow
def test_agreement_over_the_core_cases() -> None:
    """The figures of the docs."""
    privileged = agreement(cases())
    assert privileged.total() == 376
    assert privileged["agree"] >= CORE_AGREEMENT
    as_user = agreement(unprivileged(), UNPRIVILEGED)
    assert as_user.total() == 222
    assert as_user["agree"] >= CORE_UNPRIVILEGED_AGREEMENT
