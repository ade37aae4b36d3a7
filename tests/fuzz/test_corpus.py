"""The corpus: every case in it is replayed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz import corpus, kernel
from fuzz.features import EXPECTED
from fuzz.properties import PROPERTIES, check
from fuzz.statistics import Statistics
from fuzz.text import read_case

FILES = corpus.files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_replay(path: Path) -> None:
    """Every property that needs no kernel holds, whether the case was kept for what it shows or once was a finding."""
    check(read_case(path), [name for name in PROPERTIES if name not in ("kernel", "engines")], Statistics())


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_replay_in_native_code(path: Path) -> None:
    """Both engines do the same."""
    check(read_case(path), ["engines"], Statistics())


@pytest.mark.kernel
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_replay_in_linux(path: Path) -> None:
    """Linux agrees, or for a named reason does not."""
    if (reason := kernel.available()) is not None:
        pytest.skip(reason)
    check(read_case(path), ["kernel"], Statistics())


@pytest.mark.slow
def test_the_corpus_shows_nearly_everything() -> None:
    """All features that the generator is expected to write, but for the rarest."""
    shown = {feature for pair in corpus.known() for feature in pair}
    assert len(set(EXPECTED) - shown) <= 3


@pytest.mark.slow
def test_what_is_known_is_not_news(tmp_path: Path) -> None:
    """Pairs of expected features count, others do not; a case that is there is known."""
    assert corpus.pairs({"loop", "atomic", "type xdp"}) == {
        ("atomic", "atomic"),
        ("atomic", "loop"),
        ("loop", "loop"),
    }
    assert corpus.is_news({("atomic", "atomic")})
    assert not corpus.is_news({("atomic", "loop")})
    assert corpus.is_news({("atomic", str(number)) for number in range(corpus.NEWS)})
    assert corpus.known(tmp_path) == frozenset()
    corpus.save("kept", FILES[0].read_text(), tmp_path)
    assert corpus.known(tmp_path) <= corpus.known()
