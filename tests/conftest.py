"""What tests need from outside the repository, and how they say that it is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared/data"


@pytest.fixture(scope="session", autouse=True)
def _code_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Native code is cached for the session, and neither found nor left in anybody's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYBPF_CACHE", str(tmp_path_factory.mktemp("code")))
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The directory of test data that is not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"no {SHARED.name} beside the repository: the test data is not part of it")
    return SHARED


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """The path of a program to compare with; the test is skipped where it is not installed."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return find
