"""Helper functions: what a program may call, as a contract and a body in one place.

A contract is one line of text, ``"map key -> value?"``: the arguments in order of r1 to r5, then what r0 holds afterwards.
The verifier proves the contract, the engines run the body. The words:

    argument  any      any initialised value                  map     the address of a map
              ctx      the program's context                  key     readable, key_size bytes of the map argument
              mem      readable bytes, sized by the next      value   readable, value_size bytes of the map argument
              out      writable bytes, sized by the next      size    bytes of the pointer before it, at least 1
              mem? out? null too, if the size is zero         size0   the same, zero allowed
    result    num      any number                             value?  a value of the map argument, or null
              u32      an unsigned 32-bit number              void    nothing: r0 is uninitialised
              err      zero or a negative error number (Linux's errno)

A number belongs to a program type's table (`pybpf.program_types`), since Oko's and Linux's numbers clash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from pybpf.errors import ArgumentError
from pybpf.lookup3 import hashlittle
from pybpf.semantics import U64


class Arg(Enum):
    """What an argument must be: the words of a contract."""

    ANY = "any"
    CTX = "ctx"
    MAP = "map"
    KEY = "key"
    VALUE = "value"
    MEM = "mem"
    MEM_OR_NULL = "mem?"
    OUT = "out"
    OUT_OR_NULL = "out?"
    SIZE = "size"
    SIZE_OR_ZERO = "size0"


class Ret(Enum):
    """What r0 holds afterwards."""

    NUM = "num"
    U32 = "u32"
    ERR = "err"
    VALUE_OR_NULL = "value?"
    VOID = "void"


class Map(Protocol):
    """What a body needs of a map: offsets count from the start of the map's block, keys and values are bytes."""

    def lookup(self, key: bytes) -> int | None:
        """The offset of the key's value, None where the key is absent."""

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """Zero or a negative errno."""

    def delete(self, key: bytes) -> int:
        """Zero or a negative errno."""

    @property
    def key_size(self) -> int:
        """Bytes of a key."""

    @property
    def value_size(self) -> int:
        """Bytes of a value."""


class Machine(Protocol):
    """The running program as a body sees it. Every access is checked and traps like the program's own."""

    def read(self, address: int, size: int) -> bytes:
        """Bytes of the program's memory."""

    def write(self, address: int, data: bytes) -> None:
        """Write the program's memory."""

    def map_at(self, address: int) -> tuple[Map, int]:
        """The map whose address this is, and the base of its block."""

    def now(self) -> int:
        """The instance's clock, in nanoseconds."""


Body = Callable[[Machine, int, int, int, int, int], int]


@dataclass(frozen=True, slots=True)
class Helper:
    """A function that a program may call.

    `contract` is the text described above; `effects` names what a call changes besides r0 to r5: ``packet`` moves or
    resizes the packet, so every pointer into it dies. `body` is None where pybpf knows the contract and cannot run it.
    """

    name: str
    contract: str
    body: Body | None = None
    effects: frozenset[str] = frozenset()

    @property
    def args(self) -> tuple[Arg, ...]:
        """The kinds of r1 to r5, as many as the helper reads."""
        return _parse(self.contract)[0]

    @property
    def returns(self) -> Ret:
        """What r0 holds afterwards."""
        return _parse(self.contract)[1]


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
        _check_sizes(contract, args)
        _PARSED[contract] = (args, returns)
    return _PARSED[contract]


_SIZED: Final = frozenset({Arg.MEM, Arg.MEM_OR_NULL, Arg.OUT, Arg.OUT_OR_NULL})
_SIZES: Final = frozenset({Arg.SIZE, Arg.SIZE_OR_ZERO})


def _check_sizes(contract: str, args: tuple[Arg, ...]) -> None:
    """Every sized pointer is followed by its size, every size follows one; a key or value follows a map."""
    for before, after in zip((None, *args), (*args, None), strict=True):
        if (before in _SIZED) != (after in _SIZES):
            raise ArgumentError(f"helper contract {contract!r}: a sized pointer and its size stand together")
    before_map = args[: args.index(Arg.MAP)] if Arg.MAP in args else args
    if Arg.KEY in before_map or Arg.VALUE in before_map:
        raise ArgumentError(f"helper contract {contract!r}: a key or value needs a map argument before it")


def _map_lookup(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    map, base = machine.map_at(r1)
    offset = map.lookup(machine.read(r2, map.key_size))
    return 0 if offset is None else base + offset


def _map_update(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    map, _ = machine.map_at(r1)
    return map.update(machine.read(r2, map.key_size), machine.read(r3, map.value_size), r4) & U64


def _map_update_any(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    return _map_update(machine, r1, r2, r3, 0, 0)


def _map_delete(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    map, _ = machine.map_at(r1)
    return map.delete(machine.read(r2, map.key_size)) & U64


def _now(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    return machine.now() & U64


def _hash(machine: Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    return hashlittle(machine.read(r1, r2))


MAP_LOOKUP: Final = Helper("map_lookup_elem", "map key -> value?", _map_lookup)
MAP_UPDATE: Final = Helper("map_update_elem", "map key value any -> err", _map_update)
MAP_DELETE: Final = Helper("map_delete_elem", "map key -> err", _map_delete)
KTIME: Final = Helper("ktime_get_ns", "-> num", _now)

# Oko's: update has no flags (thesis, table 3.2), the clock is the wall's, the hash is lookup3 with seed 0.
UBPF_UPDATE: Final = Helper("map_update", "map key value -> err", _map_update_any)
UBPF_TIME: Final = Helper("time_get_ns", "-> num", _now)
UBPF_HASH: Final = Helper("hash", "mem size0 -> u32", _hash)

LINUX: Final[dict[int, Helper]] = {1: MAP_LOOKUP, 2: MAP_UPDATE, 3: MAP_DELETE, 5: KTIME}
"""Linux's numbers (include/uapi/linux/bpf.h)."""

OKO: Final[dict[int, Helper]] = {
    1: Helper("map_lookup", "map key -> value?", _map_lookup),
    2: UBPF_UPDATE,
    3: Helper("map_delete", "map key -> err", _map_delete),
    5: UBPF_TIME,
    6: UBPF_HASH,
}
"""Oko's numbers for the five functions of the thesis (section 3.3)."""


def number_of(table: Mapping[int, Helper], name: str) -> int | None:
    """The number of a helper in a program type's table, by its name or by the name that C gives it.

    >>> number_of(LINUX, "bpf_ktime_get_ns"), number_of(OKO, "ubpf_hash"), number_of(OKO, "ktime_get_ns")
    (5, 6, None)
    """
    plain = name.removeprefix("ubpf_").removeprefix("bpf_")
    return next((number for number, helper in table.items() if helper.name in (name, plain)), None)
