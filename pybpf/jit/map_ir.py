"""Maps in machine code: the text of a map's operations, specialised by its definition.

For map number ``n`` of a module, with offsets counted from the block and errors as negative numbers of Linux:

    i64 @map_lookup_<n>(ptr %block, ptr %key)                            offset of the value, 0 where the key is absent
    i64 @map_update_<n>(ptr %block, ptr %key, ptr %value, i64 %flags)    0 or an error
    i64 @map_delete_<n>(ptr %block, ptr %key)                            0 or an error
    i64 @map_read_<n>(ptr %block, ptr %key, ptr %value)                  1, and a copy of the value; 0 where it is absent
    i64 @map_snapshot_<n>(ptr %block, ptr %keys, ptr %values, i64 %limit)
                                                                         how many keys and values were copied, -1 if more than `limit`

Sizes and offsets are constants; the block's address is an argument and the hash's seed is in the block, so the code serves
every map of the same shape, in this process or another. Lookup is inlined, and so is what copies the arguments of the others.
"""

from __future__ import annotations

from typing import Final

from pybpf.jit import array_ir, table_ir
from pybpf.maps import layout_of
from pybpf.maps.layout import ArrayLayout, HashLayout
from pybpf.program import MapSpec

PARAMETERS: Final[dict[str, tuple[str, ...]]] = {
    "lookup": ("ptr", "ptr"),
    "update": ("ptr", "ptr", "ptr", "i64"),
    "delete": ("ptr", "ptr"),
    "read": ("ptr", "ptr", "ptr"),
    "snapshot": ("ptr", "ptr", "ptr", "i64"),
}
"""The parameter types of each operation; all return i64."""


def operations(number: int, spec: MapSpec) -> str:
    """The functions that a program calls: lookup, update and delete. Raises what `pybpf.maps.layout_of` raises."""
    match layout_of(spec):
        case ArrayLayout() as layout:
            return array_ir.operations(number, layout, spec.read_only)
        case HashLayout() as layout:
            return table_ir.operations(number, layout)


def everything(number: int, spec: MapSpec) -> str:
    """The functions that a program calls, and those that copy out. Raises what `pybpf.maps.layout_of` raises."""
    match layout_of(spec):
        case ArrayLayout() as layout:
            return array_ir.operations(number, layout, spec.read_only) + array_ir.copies(number, layout)
        case HashLayout() as layout:
            return table_ir.operations(number, layout) + table_ir.copies(number, layout)


def module(spec: MapSpec, operation: str) -> str:
    """A module that exports one operation of a map under its plain name (``lookup``, ...)."""
    text = everything(0, spec)
    parameters = ", ".join(f"{kind} %{i}" for i, kind in enumerate(PARAMETERS[operation]))
    return f"""{text}
define i64 @{operation}({parameters}) nounwind {{
  %result = call i64 @map_{operation}_0({parameters})
  ret i64 %result
}}
"""
