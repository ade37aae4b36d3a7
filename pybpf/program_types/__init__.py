"""Program types: what a program is given, what it may do, and what it may give back.

A `ProgramType` is a value. The verifier, the engines and the loader read it; a user can make another one with
`dataclasses.replace` or from scratch and hand it to `verify`.

    program_type   what a type is                     layouts     the structures of Linux's contexts, field by field
    context        what a structure is                linux, own  the types
"""

from __future__ import annotations

import re
from typing import Final

from pybpf.errors import ArgumentError
from pybpf.map_types import LINUX_MAPS, OKO_MAPS
from pybpf.program_types.context import Context, Field, FieldKind
from pybpf.program_types.layouts import OBJECTS, SOCKETS, XDP_MD
from pybpf.program_types.linux import (
    CGROUP_SKB,
    KPROBE,
    SOCKET_FILTER,
    TC,
    TRACEPOINT,
    TYPES,
    XDP,
)
from pybpf.program_types.own import FILTER, MEMORY
from pybpf.program_types.policy import UNPRIVILEGED, Policy
from pybpf.program_types.program_type import CLOCKS, Clock, Entry, ProgramType, longest

__all__ = [
    "ALIASES",
    "BY_NAME",
    "CGROUP_SKB",
    "CLOCKS",
    "FILTER",
    "KPROBE",
    "LINUX_MAPS",
    "MEMORY",
    "OBJECTS",
    "OKO_MAPS",
    "SOCKETS",
    "SOCKET_FILTER",
    "TC",
    "TRACEPOINT",
    "XDP",
    "TYPES",
    "UNPRIVILEGED",
    "XDP_MD",
    "Clock",
    "Context",
    "Entry",
    "Field",
    "FieldKind",
    "Policy",
    "ProgramType",
    "from_section",
    "get",
]

BY_NAME: Final[dict[str, ProgramType]] = {type_.name: type_ for type_ in (FILTER, MEMORY, *TYPES)}
"""The program types that pybpf knows."""

ALIASES: Final = {"sched_cls": "tc", "classifier": "tc", "action": "sched_act", "sockops": "sock_ops"}
"""Other names that people know them by."""

_SECTIONS: Final = {section: type_ for type_ in BY_NAME.values() for section in type_.sections}

# Before version 1.0 libbpf and the loader of the kernel's samples took these as prefixes: "xdp1", "socket2", "tc_mark".
_LOOSE: Final = re.compile(
    r"(socket|classifier|action|tc|xdp|perf_event|sockops|sk_skb|sk_msg|cgroup/skb|cgroup/sock|lwt_(?:in|out|xmit))[\d_.-]"
)


def get(type_: str | ProgramType) -> ProgramType:
    """A program type by name; a value is returned as it is. Raises `ArgumentError` that lists the names."""
    if isinstance(type_, ProgramType):
        return type_
    try:
        return BY_NAME[ALIASES.get(type_, type_)]
    except KeyError:
        import difflib

        near = difflib.get_close_matches(type_, [*BY_NAME, *ALIASES], 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ArgumentError(f"unknown program type {type_!r}: {hint}known are {', '.join(BY_NAME)}") from None


def from_section(section: str) -> ProgramType | None:
    """The type that a section's name stands for by libbpf's conventions, None where it stands for none.

    >>> [from_section(name).name for name in ("xdp/firewall", "?kprobe/do_exit", "socket1")], from_section(".text")
    (['xdp', 'kprobe', 'socket_filter'], None)
    """
    name = longest(section, _SECTIONS)
    if name is None and (loose := _LOOSE.match(section.removeprefix("?"))):
        name = loose[1]
    return _SECTIONS[name] if name is not None else None
