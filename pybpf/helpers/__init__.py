"""Helper functions: what a program may call, as a contract and a body in one place.

A contract is one line of text, ``map key -> value?``: the arguments in order of r1 to r5, then what r0 holds afterwards.
The verifier proves the contract, the engines run the body. The words:

    argument  any      any initialised value                  key      readable, key_size bytes of the map argument
              zero     the number 0                           value    readable, value_size bytes of the map argument
              ctx      the program's context                  newvalue writable, value_size bytes of the map argument
              map      the address of a map                   mem40    readable, 40 bytes; mem20 likewise
              mem      readable bytes, sized by the next      out8     writable, 8 bytes
              out      writable bytes, sized by the next      inout4   readable and writable, 4 bytes
              inout    both                                   text     the address of a text that never changes
              size     bytes of the pointer before it, >= 1   sk       a socket; sk! one that was acquired, and is given back
              size0    the same, zero allowed                 record!  a record of a ring buffer, which is given back
              constant a number that is known                 ...?     the same, or null (memory: if the size is zero)
              btf, percpu, lock, timer, kptr, dynptr, callback, stack, format: what Linux describes by BTF, guards, calls
              or reads; known here, and not yet proved
    result    num      any number                             value    a value of the map argument; value? or null
              u32      an unsigned 32-bit number              record?  new bytes, as many as the constant says, or null
              err      zero or a negative error number        sock?    a socket (sock_common?, tcp_sock? by kind), or null
              length   at most the size, or negative          btf      what Linux describes by BTF; btf? or null
              void     nothing: r0 is uninitialised

A number belongs to a program type's table (`pybpf.program_types`), since Oko's and Linux's numbers clash.

    contract   the words, and what a helper is          linux, oko   the tables
    machine    the running program as bodies see it     access       which program type may call what
    bodies     what helpers do
"""

from __future__ import annotations

from collections.abc import Mapping

from pybpf.helpers.access import helpers_of
from pybpf.helpers.contract import MEMORY, UNPROVED, Arg, Helper, Memory, Ret
from pybpf.helpers.linux import KTIME, LINUX, MAP_DELETE, MAP_LOOKUP, MAP_UPDATE
from pybpf.helpers.machine import Body, Machine, Map
from pybpf.helpers.oko import OKO, UBPF_HASH, UBPF_TIME, UBPF_UPDATE

__all__ = [
    "KTIME",
    "LINUX",
    "MAP_DELETE",
    "MAP_LOOKUP",
    "MAP_UPDATE",
    "MEMORY",
    "OKO",
    "UBPF_HASH",
    "UBPF_TIME",
    "UBPF_UPDATE",
    "UNPROVED",
    "Arg",
    "Body",
    "Helper",
    "Machine",
    "Map",
    "Memory",
    "Ret",
    "helpers_of",
    "number_of",
]


def number_of(table: Mapping[int, Helper], name: str) -> int | None:
    """The number of a helper in a program type's table, by its name or by the name that C gives it.

    >>> number_of(LINUX, "bpf_ktime_get_ns"), number_of(OKO, "ubpf_hash"), number_of(OKO, "ktime_get_ns")
    (5, 6, None)
    """
    plain = name.removeprefix("ubpf_").removeprefix("bpf_")
    return next((number for number, helper in table.items() if helper.name in (name, plain)), None)
