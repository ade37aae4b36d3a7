"""The words of a contract, and what a helper is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from pybpf.errors import ArgumentError
from pybpf.helpers.machine import Body


class Arg(Enum):
    """What an argument must be: the words of a contract."""

    ANY = "any"
    ZERO = "zero"
    CTX = "ctx"
    CTX_OR_NULL = "ctx?"
    MAP = "map"
    KEY = "key"
    VALUE = "value"
    VALUE_OR_NULL = "value?"
    NEW_VALUE = "newvalue"
    MEM = "mem"
    MEM_OR_NULL = "mem?"
    OUT = "out"
    OUT_OR_NULL = "out?"
    INOUT = "inout"
    SIZE = "size"
    SIZE_OR_ZERO = "size0"
    MEM20 = "mem20"
    MEM40 = "mem40"
    OUT8 = "out8"
    INOUT4 = "inout4"
    CONSTANT = "constant"
    TEXT = "text"
    FORMAT = "format"
    SOCKET = "sk"
    SOCKET_OR_NULL = "sk?"
    RELEASED_SOCKET = "sk!"
    RELEASED_RECORD = "record!"
    BTF = "btf"
    BTF_OR_NULL = "btf?"
    PER_CPU = "percpu"
    LOCK = "lock"
    TIMER = "timer"
    KPTR = "kptr"
    DYNPTR = "dynptr"
    CALLBACK = "callback"
    STACK_OR_NULL = "stack?"


class Ret(Enum):
    """What r0 holds afterwards."""

    NUM = "num"
    U32 = "u32"
    ERR = "err"
    LENGTH = "length"
    VALUE = "value"
    VALUE_OR_NULL = "value?"
    RECORD_OR_NULL = "record?"
    SOCKET_OR_NULL = "sock?"
    SOCK_COMMON_OR_NULL = "sock_common?"
    TCP_SOCK_OR_NULL = "tcp_sock?"
    BTF = "btf"
    BTF_OR_NULL = "btf?"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Memory:
    """What a helper does with the bytes that an argument points to, and how many there are; `aligned` to that many, perhaps."""

    size: int | Literal["next", "key", "value"]
    reads: bool = True
    writes: bool = False
    nullable: bool = False
    aligned: bool = False


MEMORY: Final[Mapping[Arg, Memory]] = {
    Arg.KEY: Memory("key"),
    Arg.VALUE: Memory("value"),
    Arg.VALUE_OR_NULL: Memory("value", nullable=True),
    Arg.NEW_VALUE: Memory("value", reads=False, writes=True),
    Arg.MEM: Memory("next"),
    Arg.MEM_OR_NULL: Memory("next", nullable=True),
    Arg.OUT: Memory("next", reads=False, writes=True),
    Arg.OUT_OR_NULL: Memory("next", reads=False, writes=True, nullable=True),
    Arg.INOUT: Memory("next", writes=True),
    Arg.MEM20: Memory(20),
    Arg.MEM40: Memory(40),
    Arg.OUT8: Memory(8, reads=False, writes=True, aligned=True),
    Arg.INOUT4: Memory(4, writes=True, aligned=True),
}
"""The arguments that point to memory."""

UNPROVED: Final[Mapping[Arg, str]] = {
    Arg.BTF: "btf-pointers",
    Arg.BTF_OR_NULL: "btf-pointers",
    Arg.PER_CPU: "btf-pointers",
    Arg.LOCK: "spin-locks",
    Arg.TIMER: "timers",
    Arg.KPTR: "kptrs",
    Arg.DYNPTR: "dynptrs",
    Arg.CALLBACK: "callbacks",
    Arg.STACK_OR_NULL: "callbacks",
    Arg.FORMAT: "format-strings",
}
"""Arguments whose rules the verifier does not know -> the feature that is missing."""

LOOPS: Final = frozenset({"loop", "for_each_map_elem"})
"""Helpers that call a function of the program again and again, and of which the verifier knows how."""


@dataclass(frozen=True, slots=True)
class Helper:
    """A function that a program may call.

    `contract` is the text described in `pybpf.helpers`; `effects` names what a call changes besides r0 to r5: ``packet``
    moves or resizes the packet, so every pointer into it dies; ``unwind`` ends the whole run where the result is 0, with
    r0 = 0. `body` is None where pybpf knows the contract and cannot run it. `gpl`: Linux gives it only to programs under the GPL. `takes_packet`: memory arguments may lie in the packet.
    `acquires`: what it returns must be given back. `casts`: what it returns is what it was given, seen otherwise. `sleeps`:
    only programs that may sleep may call it.
    """

    name: str
    contract: str
    body: Body | None = None
    effects: frozenset[str] = frozenset()
    gpl: bool = False
    takes_packet: bool = True
    acquires: bool = False
    casts: bool = False
    sleeps: bool = False

    @property
    def args(self) -> tuple[Arg, ...]:
        """The kinds of r1 to r5, as many as the helper reads."""
        return _parse(self.contract)[0]

    @property
    def returns(self) -> Ret:
        """What r0 holds afterwards."""
        return _parse(self.contract)[1]

    @property
    def unproved(self) -> tuple[str, ...]:
        """The features that the verifier would have to know to prove a call, in the order of the arguments."""
        missing = dict.fromkeys(UNPROVED[argument] for argument in self.args if argument in UNPROVED)
        return tuple(feature for feature in missing if feature != "callbacks" or self.name not in LOOPS)


_PARSED: Final[dict[str, tuple[tuple[Arg, ...], Ret]]] = {}


def _parse(contract: str) -> tuple[tuple[Arg, ...], Ret]:
    if contract not in _PARSED:
        arguments, arrow, result = contract.partition("->")
        if not arrow or len(arguments.split()) > 5:
            raise ArgumentError(
                f"helper contract {contract!r}: expected at most five arguments, then '->' and a result"
            )
        try:
            args = tuple(Arg(word) for word in arguments.split())
            returns = Ret(result.strip())
        except ValueError as error:
            raise ArgumentError(f"helper contract {contract!r}: {error}") from None
        _check(contract, args)
        _PARSED[contract] = (args, returns)
    return _PARSED[contract]


_SIZES: Final = frozenset({Arg.SIZE, Arg.SIZE_OR_ZERO})


def _check(contract: str, args: tuple[Arg, ...]) -> None:
    """Every sized pointer is followed by its size, every size follows one; a key or value follows a map."""
    for before, after in zip((None, *args), (*args, None), strict=True):
        sized = before is not None and before in MEMORY and MEMORY[before].size == "next"
        if sized != (after in _SIZES):
            raise ArgumentError(f"helper contract {contract!r}: a sized pointer and its size stand together")
    of_map = [n for n, arg in enumerate(args) if arg in MEMORY and MEMORY[arg].size in ("key", "value")]
    if of_map and Arg.MAP not in args[: of_map[0]]:
        raise ArgumentError(f"helper contract {contract!r}: a key or value needs a map argument before it")
