"""The corpus: cases kept as text because they show something new, and replayed by the tests. It grows with every campaign that is asked to.

New is a pair of features (`fuzz.features`) that no kept case has: a spill in a loop, a null test behind a join. A case is
kept for many new pairs at once, or for a new feature, so that few cases show most of what the generator can write.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Final

from fuzz.features import EXPECTED, features
from fuzz.text import read_case
from fuzz.watch import watch
from pybpf import BpfError

FOLDER: Final = Path(__file__).parent / "corpus"

NEWS: Final = 10
"""New pairs for which a case is kept."""

Pair = tuple[str, str]

_EXPECTED: Final = frozenset(EXPECTED)


def pairs(shown: Iterable[str]) -> frozenset[Pair]:
    """The pairs among a program's features, each with itself too; only expected ones count."""
    return frozenset(combinations_with_replacement(sorted(_EXPECTED.intersection(shown)), 2))


def is_news(new: Collection[Pair]) -> bool:
    """Whether a case is kept for the pairs that none before it showed: for many of them, or for one feature that is new itself."""
    return len(new) >= NEWS or any(first == second for first, second in new)


def files(folder: Path = FOLDER) -> list[Path]:
    """The cases of a corpus, in the order of their names."""
    return sorted(folder.glob("*.bpf"))


def known(folder: Path = FOLDER) -> frozenset[Pair]:
    """The pairs that the accepted programs of a corpus show."""
    found: set[Pair] = set()
    for path in files(folder):
        try:
            found |= pairs(features(watch(read_case(path).program)))
        except BpfError:
            continue
    return frozenset(found)


def save(kind: str, text: str, folder: Path = FOLDER) -> Path:
    """Write a case into a corpus, under a name that equal cases share."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    path = folder / f"{kind}-{digest}.bpf"
    path.write_text(text)
    return path
