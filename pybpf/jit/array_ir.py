"""IR of an array's operations (see `pybpf.maps.array`), specialised by its sizes.

A value that is one chunk is read and written in one access. Others are written, and copied out, under the array's lock, so that
an update is whole toward other operations. What a program stores through a pointer is its own business, as in Linux.
"""

from __future__ import annotations

import errno

from pybpf.jit.bytes_ir import UNROLLED, chunks, copy, function
from pybpf.jit.lock_ir import lock
from pybpf.maps.layout import LOCK, ArrayLayout
from pybpf.maps.operations import BPF_EXIST, BPF_NOEXIST


def operations(n: int, layout: ArrayLayout, read_only: bool) -> str:
    """Lookup, update and delete, as `pybpf.jit.map_ir` names them."""
    lookup = f"""
  %stored = load i{8 * layout.key_size}, ptr %key, align 1
{_native("%index", "%stored", layout)}
  %inside = icmp ult i{8 * layout.key_size} %index, {layout.max_entries}
{_cast("%wide", "zext", "%index", 8 * layout.key_size, 64)}
  %distance = mul i64 %wide, {layout.stride}
  %offset = add i64 %distance, {layout.values}
  %result = select i1 %inside, i64 %offset, i64 0
  ret i64 %result
"""
    acquire, release = _locked(n, layout)
    update = f"""
entry:
  %unknown = icmp ugt i64 %flags, {BPF_EXIST}
  br i1 %unknown, label %invalid, label %find
find:
  %offset = call i64 @map_lookup_{n}(ptr %block, ptr %key)
  %outside = icmp eq i64 %offset, 0
  br i1 %outside, label %too.big, label %found
found:
  %create = icmp eq i64 %flags, {BPF_NOEXIST}
  br i1 %create, label %exists, label %write
write:
  %to = getelementptr inbounds i8, ptr %block, i64 %offset
{acquire}
  call void @map_fill_{n}(ptr %to, ptr %value)
{release}
  ret i64 0
invalid:
  ret i64 {-errno.EINVAL}
too.big:
  ret i64 {-errno.E2BIG}
exists:
  ret i64 {-errno.EEXIST}
"""
    if read_only:
        update = f"  ret i64 {-errno.EPERM}"
    inlined = "alwaysinline nounwind" if layout.value_size <= UNROLLED else "noinline nounwind"
    return "\n".join(
        [
            lock(n),
            copy(f"map_fill_{n}", layout.value_size, to_map=True, from_map=False),
            function(f"i64 @map_lookup_{n}(ptr %block, ptr %key)", lookup),
            function(f"i64 @map_update_{n}(ptr %block, ptr %key, ptr %value, i64 %flags)", update, inlined),
            function(f"i64 @map_delete_{n}(ptr %block, ptr %key)", f"  ret i64 {-errno.EINVAL}"),
        ]
    )


def copies(n: int, layout: ArrayLayout) -> str:
    """The operations that copy out, as `pybpf.jit.map_ir` names them. They call those of `operations`."""
    acquire, release = _locked(n, layout)
    read = f"""
entry:
  %offset = call i64 @map_lookup_{n}(ptr %block, ptr %key)
  %outside = icmp eq i64 %offset, 0
  br i1 %outside, label %absent, label %present
absent:
  ret i64 0
present:
  %from = getelementptr inbounds i8, ptr %block, i64 %offset
{acquire}
  call void @map_take_{n}(ptr %value, ptr %from)
{release}
  ret i64 1
"""
    snapshot = f"""
entry:
  %room = icmp uge i64 %limit, {layout.max_entries}
  br i1 %room, label %loop, label %short
short:
  ret i64 -1
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
{_cast("%index", "trunc", "%i", 64, 8 * layout.key_size)}
{_native("%stored", "%index", layout)}
  %key.distance = mul i64 %i, {layout.key_size}
  %key = getelementptr inbounds i8, ptr %keys, i64 %key.distance
  store i{8 * layout.key_size} %stored, ptr %key, align 1
  %value.distance = mul i64 %i, {layout.value_size}
  %value = getelementptr inbounds i8, ptr %values, i64 %value.distance
  %done = call i64 @map_read_{n}(ptr %block, ptr %key, ptr %value)
  %next = add nuw i64 %i, 1
  %more = icmp ult i64 %next, {layout.max_entries}
  br i1 %more, label %loop, label %end
end:
  ret i64 %next
"""
    return "\n".join(
        [
            copy(f"map_take_{n}", layout.value_size, to_map=False, from_map=True),
            function(f"i64 @map_read_{n}(ptr %block, ptr %key, ptr %value)", read),
            function(f"i64 @map_snapshot_{n}(ptr %block, ptr %keys, ptr %values, i64 %limit)", snapshot),
        ]
    )


def _cast(name: str, how: str, value: str, bits: int, to: int) -> str:
    """The cast, or where it changes nothing a copy under the new name."""
    return f"  {name} = add i64 {value}, 0" if bits == to else f"  {name} = {how} i{bits} {value} to i{to}"


def _native(name: str, value: str, layout: ArrayLayout) -> str:
    """An index as numbers are here, from what a key holds, and the other way round."""
    t = f"i{8 * layout.key_size}"
    if layout.byteorder == "little":
        return f"  {name} = add {t} {value}, 0"
    return f"  {name} = call {t} @llvm.bswap.{t}({t} {value})"


def _locked(n: int, layout: ArrayLayout) -> tuple[str, str]:
    """What stands before and after an access to a value."""
    if len(list(chunks(0, layout.value_size))) == 1:
        return "", ""
    acquire = f"  %lock = getelementptr inbounds i8, ptr %block, i64 {LOCK}\n  call void @map_acquire_{n}(ptr %lock)"
    return acquire, f"  call void @map_release_{n}(ptr %lock)"
