"""What a campaign has seen: how many programs, of what kinds, with what verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from fuzz.features import EXPECTED, features
from fuzz.watch import Watched
from pybpf.isa import OPS, Op

NEVER: frozenset[str] = frozenset({"kfunc", "register", "variable", "function"})
"""Operators that generated programs do not have: calls through registers, what the loader resolves."""


@dataclass(slots=True)
class Statistics:
    """Counts that can be added up."""

    programs: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, bool, str]] = field(default_factory=Counter)
    """Refused programs by reason, whether the refusal was definite, and what running them came to (`fuzz.refusals`)."""
    certified: int = 0
    enumerated: int = 0
    joined_away: Counter[str] = field(default_factory=Counter)
    """Programs refused although every path by itself is accepted, by reason."""
    runs: int = 0
    followed: int = 0
    instructions: int = 0
    cut: int = 0
    native_runs: int = 0
    kernel_programs: int = 0
    kernel_runs: int = 0
    kernel_stricter: Counter[str] = field(default_factory=Counter)
    kernel_laxer: Counter[str] = field(default_factory=Counter)
    rows: Counter[Op] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)
    features: Counter[str] = field(default_factory=Counter)
    latest: frozenset[str] = frozenset()
    """The features of the last program, if it was accepted."""
    slowest: float = 0.0
    """Seconds of the slowest verification."""

    def add(self, other: Statistics) -> None:
        """Add another's counts."""
        for name in self.__slots__:
            if name == "slowest":
                self.slowest = max(self.slowest, other.slowest)
            elif name != "latest":
                setattr(self, name, getattr(self, name) + getattr(other, name))

    def saw(self, watched: Watched) -> None:
        """An accepted program."""
        self.accepted += 1
        self.rows.update({instruction.op for instruction in watched.verified.program.code.values()})
        self.latest = features(watched)
        self.features.update(self.latest)

    def _precision(self) -> Iterator[str]:
        """What running the refused programs showed."""
        total: Counter[str] = Counter()
        reasons: dict[str, Counter[str]] = {}
        for (reason, definite, outcome), number in self.outcomes.items():
            total[outcome] += number
            reasons.setdefault(reason, Counter())[outcome] += number
            reasons[reason]["definite"] += number * definite
        run = total["faults"] + total["harmless"]
        if run:
            yield (
                f"refused for what a run may do: {run} run on many inputs, {total['faults']} go wrong, "
                f"{total['harmless']} never did; {total['not run']} break rules that no run breaks"
            )
        for reason, counts in sorted(reasons.items()):
            if counts["faults"] or counts["harmless"]:
                yield f"    {reason:<24}{counts['faults']} go wrong, {counts['harmless']} do not; {counts['definite']} definite"
        if self.enumerated:
            lost = ", ".join(f"{reason} {number}" for reason, number in self.joined_away.most_common())
            yield f"{self.enumerated} programs small enough to follow every path; refused though every path is accepted: {lost or 'none'}"

    def report(self) -> Iterator[str]:
        """Lines for people."""
        accepted = 100 * self.accepted / max(self.programs, 1)
        yield f"{self.programs} programs, {self.accepted} accepted ({accepted:.1f} %), slowest verification {self.slowest:.2f} s"
        if self.sizes:
            total = sum(size * count for size, count in self.sizes.items())
            yield f"slots of a program: {total / max(self.programs, 1):.0f} on average, {max(self.sizes)} at most"
        if self.certified:
            yield f"{self.certified} proofs found again by their certificates"
        yield f"{self.runs} runs, {self.followed} of them followed, {self.instructions} instructions, {self.cut} runs cut short; {self.native_runs} runs of native code compared"
        refused = self.programs - self.accepted
        yield f"{refused} refused"
        for reason, count in self.refused.most_common():
            yield f"    {reason:<24}{count}"
        yield from self._precision()
        rows = [op for op in OPS if op.code not in NEVER]
        missing = [op for op in rows if op not in self.rows]
        yield f"instructions in accepted programs: {len(rows) - len(missing)} of {len(rows)} rows"
        for op in missing:
            yield f"    never: {op.mnemonic}"
        never = [feature for feature in EXPECTED if feature not in self.features]
        yield f"features: {len(EXPECTED) - len(never)} of {len(EXPECTED)}, never: {', '.join(never) or 'none'}"
        for feature, count in self.features.most_common():
            yield f"    {feature:<40}{100 * count / max(self.accepted, 1):5.1f} %"
        if self.kernel_programs:
            yield f"Linux: {self.kernel_programs} programs, {self.kernel_runs} runs compared"
            yield f"    accepted here, refused by Linux: {self.kernel_stricter.total()}"
            for name, count in self.kernel_stricter.most_common():
                yield f"        {name:<24}{count}"
            yield f"    refused here, accepted by Linux: {self.kernel_laxer.total()}"
            for name, count in self.kernel_laxer.most_common():
                yield f"        {name:<24}{count}"
