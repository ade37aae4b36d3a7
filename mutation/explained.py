"""The survivors that are right to survive, each group with its reason, in `explained.txt`.

A paragraph is a reason, on lines that begin with ``#``, and below it the mutants by their keys, one a line. A key that ends with ``*`` stands for all
that begin so: for functions that only make text, say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).with_name("explained.txt")


@dataclass(frozen=True, slots=True)
class Explained:
    """Keys of mutants with the reason why no test can, or needs to, notice them."""

    reasons: dict[str, str]

    def reason(self, key: str) -> str | None:
        """Why a mutant may survive, None where nothing says so."""
        found = self.reasons.get(key)
        if found is None:
            found = next((reason for k, reason in self.reasons.items() if _stands_for(k, key)), None)
        return found

    def stale(self, keys: Iterable[str]) -> list[str]:
        """Lines that name no mutant: the code has changed."""
        known = list(keys)
        return [key for key in self.reasons if not any(_stands_for(key, other) for other in known)]


def _stands_for(line: str, key: str) -> bool:
    return key.startswith(line[:-1]) if line.endswith("*") else key == line


def read(path: Path = FILE) -> Explained:
    """The file. Raises ValueError where a mutant stands without a reason or twice."""
    reasons: dict[str, str] = {}
    for paragraph in path.read_text().split("\n\n"):
        lines = [line for line in paragraph.splitlines() if line]
        reason = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
        for key in lines:
            if key.startswith("#"):
                continue
            if not reason:
                raise ValueError(f"{path}: no reason for {key}")
            if key in reasons:
                raise ValueError(f"{path}: twice: {key}")
            reasons[key] = reason
    return Explained(reasons)
