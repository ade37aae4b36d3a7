"""BTF: the types, and where the source lines are, that a compiler writes into an object.

`Btf` holds the types of a ``.BTF`` section, `Ext` the records of ``.BTF.ext``, `format_type` prints a type as C; `pybpf.btf.values`
reads bytes by their type.
Format: Linux, Documentation/bpf/btf.rst.
"""

from pybpf.btf.ext import CoreRelocation, Ext, Line
from pybpf.btf.text import format_type
from pybpf.btf.types import POINTER_SIZE, Btf, Kind, Member, Type

__all__ = ["POINTER_SIZE", "Btf", "CoreRelocation", "Ext", "Kind", "Line", "Member", "Type", "format_type"]
