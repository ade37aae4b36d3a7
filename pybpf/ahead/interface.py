"""What C sees of a program: names, and the functions around it as text of LLVM.

    NAME_run, NAME_run_batch               the entry points of `pybpf.jit.driver`, renamed
    NAME_MAP_init                          makes a map of zeroed memory: its seed, its first contents
    NAME_MAP_lookup, _update, _delete      the operations of `pybpf.jit.map_ir`
    NAME_MAP_snapshot                      all keys and values

All take a map's memory, so that whoever administers maps needs no program to run. Their code is that of the program's own operations once more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pybpf.errors import ArgumentError
from pybpf.instruction import ByteOrder
from pybpf.jit import map_ir
from pybpf.jit.driver import EXPORTS, RUN_BATCH
from pybpf.jit.fitting_ir import FITTING
from pybpf.jit.options import Options
from pybpf.maps import Layout, layout_of
from pybpf.maps.layout import SEED
from pybpf.program import MapSpec
from pybpf.program_types import ProgramType
from pybpf.verifier.facts import VerifiedProgram


@dataclass(frozen=True, slots=True)
class CMap:
    """A map as C knows it: `name` is its part of the functions' names, `number` its place among the program's."""

    name: str
    number: int
    spec: MapSpec
    layout: Layout


@dataclass(frozen=True, slots=True)
class Interface:
    """The names of a program in C, and what they stand for."""

    name: str
    program: str
    type: ProgramType
    maps: tuple[CMap, ...]
    options: Options
    byteorder: ByteOrder
    max_instructions: int | None

    @classmethod
    def of(cls, verified: VerifiedProgram, name: str, options: Options) -> Interface:
        """The names that begin with `name`. Raises `ArgumentError` where C cannot have them."""
        prefix = identifier(name)
        names = [identifier(spec.name) for spec in verified.program.maps]
        for index, one in enumerate(names):
            if one in names[:index]:
                raise ArgumentError(f"two maps are called {one!r} in C: rename one")
        maps = tuple(
            CMap(one, number, spec, layout_of(spec))
            for number, (one, spec) in enumerate(zip(names, verified.program.maps, strict=True))
        )
        program, bound = verified.program, verified.facts.max_instructions
        return cls(prefix, program.name, verified.type, maps, options, program.byteorder, bound)


def identifier(name: str) -> str:
    """A name as C can have it: what is no letter, digit or underscore becomes one, at the ends nothing.

    >>> identifier(".rodata.str1.1"), identifier("xdp-router")
    ('rodata_str1_1', 'xdp_router')
    """
    found = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
    if not found or found[0].isdigit() or found in _RESERVED:
        raise ArgumentError(f"{name!r} is no name in C: give another")
    return found


_RESERVED: Final = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int long register restrict return short "
    "signed sizeof static struct switch typedef union unsigned void volatile while".split()
)


def functions(interface: Interface, text: str) -> str:
    """The text of a program with the functions that C calls: `text` has its entry points under their plain names."""
    names = "|".join(EXPORTS)
    renamed = re.sub(rf"@({names})\(", rf"@{interface.name}_\1(", text)
    # C calls the batch by way of a look at its packets.
    name, inner = f"{interface.name}_{RUN_BATCH}", f"{interface.name}_fitting_batch"
    renamed = renamed.replace(f"define i64 @{name}(", f"define internal i64 @{inner}(")
    renamed = renamed.replace(f"call i64 @{name}(", f"call i64 @{inner}(")
    parts = [renamed, FITTING, _checked(name, inner)]
    return "\n".join([*parts, *(_operations(interface, map) for map in interface.maps)])


def _checked(name: str, inner: str) -> str:
    return f"""
define i64 @{name}(ptr %state, ptr %base, i64 %size, ptr %offsets, ptr %lengths, ptr %results, i64 %n, ptr %copy, i64 %limit) nounwind {{
  %fitting = call i64 @fitting(i64 %size, ptr %offsets, ptr %lengths, i64 %n, i64 %limit)
  %done = call i64 @{inner}(ptr %state, ptr %base, i64 %size, ptr %offsets, ptr %lengths, ptr %results, i64 %fitting, ptr %copy, i64 %limit)
  ret i64 %done
}}
"""


def _operations(interface: Interface, map: CMap) -> str:
    # The program may have these operations under the map's number, or may not.
    number, name = len(interface.maps) + map.number, f"{interface.name}_{map.name}"
    return "\n".join(
        [
            map_ir.everything(number, map.spec),
            _init(name, map),
            f"""
define ptr @{name}_lookup(ptr %block, ptr %key) nounwind {{
  %offset = call i64 @map_lookup_{number}(ptr %block, ptr %key)
  %absent = icmp eq i64 %offset, 0
  %value = getelementptr inbounds i8, ptr %block, i64 %offset
  %found = select i1 %absent, ptr null, ptr %value
  ret ptr %found
}}

define i64 @{name}_update(ptr %block, ptr %key, ptr %value, i64 %flags) nounwind {{
  %error = call i64 @map_update_{number}(ptr %block, ptr %key, ptr %value, i64 %flags)
  ret i64 %error
}}

define i64 @{name}_delete(ptr %block, ptr %key) nounwind {{
  %error = call i64 @map_delete_{number}(ptr %block, ptr %key)
  ret i64 %error
}}

define i64 @{name}_snapshot(ptr %block, ptr %keys, ptr %values, i64 %limit) nounwind {{
  %count = call i64 @map_snapshot_{number}(ptr %block, ptr %keys, ptr %values, i64 %limit)
  ret i64 %count
}}
""",
        ]
    )


def _init(name: str, map: CMap) -> str:
    contents, copied = "", ""
    if map.spec.initial:
        data = "".join(f"\\{byte:02x}" for byte in map.spec.initial)
        size = len(map.spec.initial)
        contents = f'@{name}_contents = private unnamed_addr constant [{size} x i8] c"{data}"\n'
        copied = f"""  %values = getelementptr inbounds i8, ptr %block, i64 {map.layout.values}
  call void @llvm.memcpy.p0.p0.i64(ptr %values, ptr @{name}_contents, i64 {size}, i1 false)
"""
    return f"""{contents}
define void @{name}_init(ptr %block, i32 %seed) nounwind {{
  %seed.at = getelementptr inbounds i8, ptr %block, i64 {SEED}
  store i32 %seed, ptr %seed.at, align 4
{copied}  ret void
}}
"""
