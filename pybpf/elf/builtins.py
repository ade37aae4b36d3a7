"""Bodies for the functions that compilers call without being asked: memset, memcpy, memmove and memcmp (C11, 7.24).

A compiler turns assignments of structs and loops over bytes into calls of these, which an object leaves undefined. Here they
are subprograms like others: verified where they are called, for what they are called with, and run by every engine. Their
loops are loops to program types that forbid them.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from pybpf.elf.file import PROGBITS, Section
from pybpf.elf.functions import Function

# r1 to r3 are the arguments, r0 is the result.
_TEXT: Final = {
    "memset": """
            r0 = r1
            if r3 == 0 goto done
            r4 = 0
        next:
            r5 = r1
            r5 += r4
            *(u8 *)(r5 + 0) = r2
            r4 += 1
            if r4 < r3 goto next
        done:
            exit
    """,
    "memcpy": """
            r0 = r1
            if r3 == 0 goto done
            r4 = 0
        next:
            r5 = r2
            r5 += r4
            r5 = *(u8 *)(r5 + 0)
            r1 = r0
            r1 += r4
            *(u8 *)(r1 + 0) = r5
            r4 += 1
            if r4 < r3 goto next
        done:
            exit
    """,
    # Where the source begins before the destination, its end has to be copied first.
    "memmove": """
            r0 = r1
            if r3 == 0 goto done
            if r2 < r1 goto down
            r4 = 0
        up:
            r5 = r2
            r5 += r4
            r5 = *(u8 *)(r5 + 0)
            r1 = r0
            r1 += r4
            *(u8 *)(r1 + 0) = r5
            r4 += 1
            if r4 < r3 goto up
            exit
        down:
            r3 += -1
            r5 = r2
            r5 += r3
            r5 = *(u8 *)(r5 + 0)
            r1 = r0
            r1 += r3
            *(u8 *)(r1 + 0) = r5
            if r3 != 0 goto down
        done:
            exit
    """,
    "memcmp": """
            r0 = 0
            if r3 == 0 goto done
            r4 = 0
        next:
            r5 = r1
            r5 += r4
            r0 = *(u8 *)(r5 + 0)
            r5 = r2
            r5 += r4
            r5 = *(u8 *)(r5 + 0)
            r0 -= r5
            if r0 != 0 goto done
            r4 += 1
            if r4 < r3 goto next
        done:
            exit
    """,
}


_NOWHERE: Final = Section(-1, "", PROGBITS, 0, 0, 0, 0, 0, 0)


@cache
def builtin(name: str) -> Function | None:
    """The function of a name, which stands in no section of a file; None for any other name."""
    if name not in _TEXT:
        return None
    from pybpf.asm import assemble  # only few objects call any of them

    code = dict(assemble(_TEXT[name], name=name).code)
    size = sum(instruction.slots for instruction in code.values())
    return Function(name, _NOWHERE, list(_TEXT).index(name), size, is_global=False, code=code)
