"""What a suite is made of: one program over one kind of traffic, and who takes part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from benchmarks.contest import Competitor
from benchmarks.toolchain import Missing

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Case:
    """`build` makes the competitors, pybpf first, when it is their turn: not all traffic of a run fits into memory at once."""

    suite: str
    program: str
    traffic: str
    build: Callable[[], list[Competitor]]


@dataclass(slots=True)
class Bench:
    """A run of the benchmarks: a folder to compile in, how much is asked for, and who could not take part, with the reason."""

    work: Path
    quick: bool
    skipped: dict[str, str] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def hold(self, resource: AbstractContextManager[_T]) -> _T:
        """Enter a context that is left when the run is over."""
        return self._open.enter_context(resource)

    @contextmanager
    def optional(self, who: str) -> Iterator[None]:
        """Leave a competitor out, and note it, where it is missing."""
        try:
            yield
        except Missing as reason:
            self.skipped.setdefault(who, str(reason))

    def size(self, count: int) -> int:
        """How many packets stand for so many: all of them, or in a quick run a tenth of those that are many."""
        return count // 10 if self.quick and count >= 100_000 else count
