"""IR that moves and compares a constant number of bytes.

Bytes are handled in chunks that do not overlap: as many of 8 as there are, then 4, 2 and 1. A program writes a key field by
field; loads that overlap, or that span two stores, wait for those to reach the cache and keep LLVM from holding the key in registers.

Bytes in a map may be read and written by several threads at once. There the accesses are atomic chunk by chunk (monotonic:
free on every processor we know), so no chunk is ever torn; who needs more to be whole sees to it himself. Keys and values are
aligned in a map, elsewhere nothing is known of their alignment.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

UNROLLED: Final = 64
"""Bytes up to which code is straight; for more, a loop does all but the last few."""


def function(signature: str, body: str, attributes: str = "alwaysinline nounwind") -> str:
    """A function that only its module sees."""
    return f"define internal {signature} {attributes} {{\n{body.strip(chr(10))}\n}}\n"


def chunks(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Offset and size of each chunk between two offsets, the first a multiple of 8.

    >>> list(chunks(0, 13))
    [(0, 8), (8, 4), (12, 1)]
    """
    for size in (8, 4, 2, 1):
        while end - start >= size:
            yield start, size
            start += size


def load(name: str, pointer: str, offset: int, size: int, *, shared: bool) -> str:
    """Two instructions that load a chunk; `shared` is for bytes in a map."""
    how = f"atomic i{8 * size}, ptr {name}.at monotonic, align {size}"
    if not shared:
        how = f"i{8 * size}, ptr {name}.at, align 1"
    return f"  {name}.at = getelementptr inbounds i8, ptr {pointer}, i64 {offset}\n  {name} = load {how}\n"


def store(name: str, value: str, pointer: str, offset: int, size: int, *, shared: bool) -> str:
    """Two instructions that store a chunk; `shared` is for bytes in a map."""
    how = f"atomic i{8 * size} {value}, ptr {name}.at monotonic, align {size}"
    if not shared:
        how = f"i{8 * size} {value}, ptr {name}.at, align 1"
    return f"  {name}.at = getelementptr inbounds i8, ptr {pointer}, i64 {offset}\n  store {how}\n"


def copy(name: str, size: int, *, to_map: bool, from_map: bool) -> str:
    """``void @name(ptr %to, ptr %from)``: copies `size` bytes."""

    def move(value: str, offset: int, width: int, to: str = "%to", source: str = "%from") -> str:
        return load(value, source, offset, width, shared=from_map) + store(
            f"{value}.to", value, to, offset, width, shared=to_map
        )

    looped = _looped(size)
    body = "".join(move(f"%c{offset}", offset, width) for offset, width in chunks(looped, size))
    body += "  ret void\n"
    if looped:
        step = move("%word", 0, 8, "%to.word", "%from.word")
        body = f"""
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %to.word = getelementptr inbounds i8, ptr %to, i64 %i
  %from.word = getelementptr inbounds i8, ptr %from, i64 %i
{step}  %next = add nuw i64 %i, 8
  %more = icmp ult i64 %next, {looped}
  br i1 %more, label %loop, label %rest
rest:
{body}"""
    return function(f"void @{name}(ptr %to, ptr %from)", body)


def same(name: str, size: int) -> str:
    """``i1 @name(ptr %stored, ptr %key)``: whether `size` bytes in a map and elsewhere are equal."""

    def differ(value: str, offset: int, width: int, stored: str = "%stored", key: str = "%key") -> str:
        return (
            load(f"{value}.s", stored, offset, width, shared=True)
            + load(f"{value}.k", key, offset, width, shared=False)
            + f"  {value} = xor i{8 * width} {value}.s, {value}.k\n"
        )

    looped = _looped(size)
    body, found = "", "0"
    for offset, width in chunks(looped, size):
        body += differ(f"%d{offset}", offset, width)
        wide = f"%d{offset}"
        if width < 8:
            wide = f"%w{offset}"
            body += f"  {wide} = zext i{8 * width} %d{offset} to i64\n"
        body += f"  %f{offset} = or i64 {found}, {wide}\n"
        found = f"%f{offset}"
    body += f"  %equal = icmp eq i64 {found}, 0\n  ret i1 %equal\n"
    if looped:
        step = differ("%word", 0, 8, "%stored.word", "%key.word")
        body = f"""
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %onward ]
  %stored.word = getelementptr inbounds i8, ptr %stored, i64 %i
  %key.word = getelementptr inbounds i8, ptr %key, i64 %i
{step}  %unequal = icmp ne i64 %word, 0
  br i1 %unequal, label %no, label %onward
onward:
  %next = add nuw i64 %i, 8
  %more = icmp ult i64 %next, {looped}
  br i1 %more, label %loop, label %rest
no:
  ret i1 false
rest:
{body}"""
    return function(f"i1 @{name}(ptr %stored, ptr %key)", body)


def _looped(size: int) -> int:
    """How many of the bytes a loop does."""
    return size // 8 * 8 if size > UNROLLED else 0
