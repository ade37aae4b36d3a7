"""What a program is given, what it may do, and what it may give back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final

from pybpf.errors import ArgumentError
from pybpf.helpers import Helper
from pybpf.program_types.context import Context
from pybpf.program_types.policy import Policy

Clock = Callable[[], int]
"""Gives the time in nanoseconds."""

CLOCKS: Final[dict[str, Clock]] = {"monotonic": time.monotonic_ns, "realtime": time.time_ns}
"""The clocks that a program type can name."""


class Entry(Enum):
    """What a register holds when the program starts."""

    PACKET = "packet"  # the address of the packet's first byte
    LENGTH = "length"  # the packet's length in bytes, 64 bits
    CONTEXT = "context"  # the address of the context


@dataclass(frozen=True, slots=True)
class ProgramType:
    """A kind of program.

    `entry` says what r1, r2, ... hold; `helpers` maps numbers to functions, and `numbering` those of all types that number
    them the same way; `returns` is the range of results that the verifier demands (None for any); `verdicts` names results
    for people; `sections` are the section names that libbpf's conventions give the type, each for itself and, before a
    ``/``, for what stands behind it; `attached` says for some of them what is different there, as arguments of
    `dataclasses.replace`. `map_numbers` says what the type numbers of 20-byte map definitions mean. `packet_loads`: LD_ABS
    and LD_IND are allowed. `packet_arguments`: whether memory arguments of helpers may lie in the packet; None if each helper
    says that. `sleepable`: helpers that sleep may be called. `runnable`: pybpf can run such programs, not only
    verify them.
    """

    name: str
    entry: tuple[Entry, ...]
    helpers: Mapping[int, Helper]
    context: Context | None = None
    packet_writable: bool = False
    returns: tuple[int, int] | None = None
    verdicts: Mapping[int, str] = field(default_factory=dict)
    sections: tuple[str, ...] = ()
    map_numbers: Mapping[int, str] = field(default_factory=dict)
    clock: str = "monotonic"
    minimum_length: int = 0
    policy: Policy = field(default_factory=Policy)
    numbering: Mapping[int, Helper] = field(default_factory=dict)
    attached: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    packet_loads: bool = False
    packet_arguments: bool | None = None
    sleepable: bool = False
    runnable: bool = True

    @property
    def now(self) -> Clock:
        """The clock that `clock` names. Raises `ArgumentError` where there is none of the name."""
        if self.clock not in CLOCKS:
            known = ", ".join(CLOCKS)
            raise ArgumentError(
                f"program type {self.name!r}: unknown clock {self.clock!r}: known are {known}"
            )
        return CLOCKS[self.clock]

    def verdict(self, value: int) -> str:
        """The name of a result.

        >>> from pybpf.program_types import FILTER, XDP
        >>> XDP.verdict(2), FILTER.verdict(7)
        ('PASS', 'no match')
        """
        return self.verdicts.get(value, self.verdicts.get(-1, str(value)))

    def at(self, section: str) -> ProgramType:
        """The type as it is where a section's name says that the program is attached.

        >>> from pybpf.program_types import CGROUP_SKB
        >>> CGROUP_SKB.at("cgroup_skb/egress").returns, CGROUP_SKB.at("cgroup_skb/ingress").returns
        ((0, 3), (0, 1))
        """
        name = longest(section, self.attached)
        return replace(self, **self.attached[name]) if name is not None else self


def longest(section: str, names: Mapping[str, object]) -> str | None:
    """The longest of some names that a section's name is, or begins with before a slash.

    A question mark before it means to libbpf that the program is loaded only when asked for.
    """
    parts = section.removeprefix("?").split("/")
    heads = ("/".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((head for head in heads if head in names), None)
