"""IR of a hash table's operations, specialised by its sizes. `pybpf.maps.hash` tells how the table works and why it is safe.

The orders of the atomic accesses, and what each is for:

* A claim compares and swaps the tag from FREE to BUSY, then adds to the group's version with release: who sees the new
  version with acquire sees that the tag is no longer what it was. A release fence stands between the version and the key's
  bytes, an acquire fence in a lookup between the key's bytes and the second look at the version: who has read any new
  byte sees the new version, and looks again.
* The tag of a filled slot is stored with release and loaded with acquire: who sees it sees the whole key and value.
* Room for a key is taken before a slot is claimed, and given back after the slot is free again (`pybpf.jit.room_ir`): who may insert
  finds a free slot.
* Overflow counts need no order of their own: the release of the tag or of the lock publishes them.

Tags are claimed byte by byte and loaded eight at a time. No processor tears either.
"""

from __future__ import annotations

import errno

from pybpf.jit.bytes_ir import UNROLLED, copy, function, same
from pybpf.jit.hash_ir import hashlittle_seeded
from pybpf.jit.lock_ir import lock
from pybpf.jit.room_ir import room
from pybpf.maps.layout import (
    BUSY,
    FIRST_TAG,
    FREE,
    GROUP_LOCK,
    GROUP_OVERFLOW,
    GROUP_SIZE,
    GROUP_SLOTS,
    GROUP_TAGS,
    GROUP_VERSION,
    SEED,
    HashLayout,
)
from pybpf.maps.operations import BPF_EXIST, BPF_NOEXIST

LIKELY = '!prof !{!"branch_weights", i32 1024, i32 1}'


def operations(n: int, layout: HashLayout) -> str:
    """Lookup, update and delete, as `pybpf.jit.map_ir` names them."""
    key, value = layout.key_size, layout.value_size
    return "\n".join(
        [
            lock(n),
            room(n, layout),
            hashlittle_seeded(f"map_mix_{n}", key),
            same(f"map_same_{n}", key),
            copy(f"map_name_{n}", key, to_map=True, from_map=False),
            copy(f"map_fill_{n}", value, to_map=True, from_map=False),
            *_places(n, layout),
            _find(n, layout),
            _lookup(n),
            _put(n, layout),
            _remove(n, layout),
            _hashing(n, "put", "ptr %block, ptr %key, ptr %value, i64 %flags"),
            _hashing(n, "remove", "ptr %block, ptr %key"),
            local(n, "update", "put", {"key": key, "value": value}, ", i64 %flags"),
            local(n, "delete", "remove", {"key": key}, ""),
        ]
    )


def copies(n: int, layout: HashLayout) -> str:
    """The operations that copy out, as `pybpf.jit.map_ir` names them. They call those of `operations`."""
    return "\n".join(
        [
            copy(f"map_take_{n}", layout.value_size, to_map=False, from_map=True),
            copy(f"map_spell_{n}", layout.key_size, to_map=False, from_map=True),
            _read(n),
            _snapshot(n, layout),
        ]
    )


def _places(n: int, layout: HashLayout) -> list[str]:
    """Where things are: a key's hash, home and tag; a group, the one behind it, its tags and slots; the way from home."""
    hash = f"""
  %at = getelementptr inbounds i8, ptr %block, i64 {SEED}
  %seed = load i32, ptr %at, align 4, !invariant.load !{{}}
  %hash = call i32 @map_mix_{n}(ptr %key, i32 %seed)
  ret i32 %hash
"""
    home = f"""
  %wide = zext i32 %hash to i64
  %scaled = mul nuw i64 %wide, {layout.groups}
  %home = lshr i64 %scaled, 32
  ret i64 %home
"""
    tag = f"""
  %low = trunc i32 %hash to i8
  %reserved = icmp ult i8 %low, {FIRST_TAG}
  %tag = select i1 %reserved, i8 {FIRST_TAG}, i8 %low
  ret i8 %tag
"""
    group = f"""
  %distance = mul nuw nsw i64 %number, {GROUP_SIZE}
  %offset = add nuw nsw i64 %distance, {layout.first_group}
  %group = getelementptr inbounds i8, ptr %block, i64 %offset
  ret ptr %group
"""
    behind = f"""
  %next = add nuw nsw i64 %number, 1
  %over = icmp eq i64 %next, {layout.groups}
  %result = select i1 %over, i64 0, i64 %next
  ret i64 %result
"""
    matches = f"""
  %low.at = getelementptr inbounds i8, ptr %group, i64 {GROUP_TAGS}
  %high.at = getelementptr inbounds i8, ptr %group, i64 {GROUP_TAGS + 8}
  %low = load atomic i64, ptr %low.at acquire, align 8
  %high = load atomic i64, ptr %high.at acquire, align 8
  %half = insertelement <2 x i64> poison, i64 %low, i64 0
  %both = insertelement <2 x i64> %half, i64 %high, i64 1
  %tags = bitcast <2 x i64> %both to <{GROUP_SLOTS} x i8>
  %one = insertelement <{GROUP_SLOTS} x i8> poison, i8 %tag, i64 0
  %wanted = shufflevector <{GROUP_SLOTS} x i8> %one, <{GROUP_SLOTS} x i8> poison, <{GROUP_SLOTS} x i32> zeroinitializer
  %equal = icmp eq <{GROUP_SLOTS} x i8> %tags, %wanted
  %matches = bitcast <{GROUP_SLOTS} x i1> %equal to i{GROUP_SLOTS}
  ret i{GROUP_SLOTS} %matches
"""
    slot = f"""
  %slots = mul nuw nsw i64 %number, {GROUP_SLOTS}
  %slot = add nuw nsw i64 %slots, %within
  %distance = mul nuw nsw i64 %slot, {layout.stride}
  %offset = add nuw nsw i64 %distance, {layout.slots}
  %at = getelementptr inbounds i8, ptr %block, i64 %offset
  ret ptr %at
"""
    tag_at = f"""
  %offset = add nuw nsw i64 %within, {GROUP_TAGS}
  %at = getelementptr inbounds i8, ptr %group, i64 %offset
  ret ptr %at
"""
    passed = f"""
entry:
  br label %check
check:
  %passed = phi i64 [ %home, %entry ], [ %next, %add ]
  %there = icmp eq i64 %passed, %number
  br i1 %there, label %end, label %add
add:
  %group = call ptr @map_group_{n}(ptr %block, i64 %passed)
  %overflow.at = getelementptr inbounds i8, ptr %group, i64 {GROUP_OVERFLOW}
  %before = atomicrmw add ptr %overflow.at, i32 %amount monotonic
  %next = call i64 @map_behind_{n}(i64 %passed)
  br label %check
end:
  ret void
"""
    return [
        function(f"i32 @map_hash_{n}(ptr %block, ptr %key)", hash),
        function(f"i64 @map_home_{n}(i32 %hash)", home),
        function(f"i8 @map_tag_{n}(i32 %hash)", tag),
        function(f"ptr @map_group_{n}(ptr %block, i64 %number)", group),
        function(f"i64 @map_behind_{n}(i64 %number)", behind),
        function(f"i{GROUP_SLOTS} @map_matches_{n}(ptr %group, i8 %tag)", matches),
        function(f"ptr @map_slot_{n}(ptr %block, i64 %number, i64 %within)", slot),
        function(f"ptr @map_tag_at_{n}(ptr %group, i64 %within)", tag_at),
        function(f"void @map_pass_{n}(ptr %block, i64 %home, i64 %number, i32 %amount)", passed),
    ]


def _find(n: int, layout: HashLayout) -> str:
    """``i64 @map_find(ptr %block, ptr %key, i32 %hash)``: the offset of the key's value, 0 where the key is absent."""
    body = f"""
entry:
  %home = call i64 @map_home_{n}(i32 %hash)
  %tag = call i8 @map_tag_{n}(i32 %hash)
  br label %group
group:
  %number = phi i64 [ %home, %entry ], [ %number, %again ], [ %next, %onward ]
  %group.at = call ptr @map_group_{n}(ptr %block, i64 %number)
  %version.at = getelementptr inbounds i8, ptr %group.at, i64 {GROUP_VERSION}
  %version = load atomic i32, ptr %version.at acquire, align 4
  %matches = call i{GROUP_SLOTS} @map_matches_{n}(ptr %group.at, i8 %tag)
  br label %candidates
candidates:
  %left = phi i{GROUP_SLOTS} [ %matches, %group ], [ %rest, %differs ]
  %none = icmp eq i{GROUP_SLOTS} %left, 0
  br i1 %none, label %absent, label %candidate
candidate:
  %first = call i{GROUP_SLOTS} @llvm.cttz.i{GROUP_SLOTS}(i{GROUP_SLOTS} %left, i1 true)
  %within = zext i{GROUP_SLOTS} %first to i64
  %slot.at = call ptr @map_slot_{n}(ptr %block, i64 %number, i64 %within)
  %same = call i1 @map_same_{n}(ptr %slot.at, ptr %key)
  br i1 %same, label %equal, label %differs, {LIKELY}
differs:
  %less = sub i{GROUP_SLOTS} %left, 1
  %rest = and i{GROUP_SLOTS} %left, %less
  br label %candidates
equal:
  fence acquire
  %version.now = load atomic i32, ptr %version.at monotonic, align 4
  %stable = icmp eq i32 %version.now, %version
  br i1 %stable, label %found, label %again, {LIKELY}
again:
  br label %group
found:
  %slots = mul nuw nsw i64 %number, {GROUP_SLOTS}
  %slot = add nuw nsw i64 %slots, %within
  %distance = mul nuw nsw i64 %slot, {layout.stride}
  %offset = add nuw nsw i64 %distance, {layout.values}
  ret i64 %offset
absent:
  %overflow.at = getelementptr inbounds i8, ptr %group.at, i64 {GROUP_OVERFLOW}
  %overflow = load atomic i32, ptr %overflow.at monotonic, align 4
  %ends = icmp eq i32 %overflow, 0
  br i1 %ends, label %missing, label %onward, {LIKELY}
onward:
  %next = call i64 @map_behind_{n}(i64 %number)
  %round = icmp eq i64 %next, %home
  br i1 %round, label %missing, label %group
missing:
  ret i64 0
"""
    inlined = "alwaysinline nounwind" if layout.key_size <= UNROLLED else "noinline nounwind"
    return function(f"i64 @map_find_{n}(ptr %block, ptr %key, i32 %hash)", body, inlined)


def _lookup(n: int) -> str:
    body = f"""
  %hash = call i32 @map_hash_{n}(ptr %block, ptr %key)
  %offset = call i64 @map_find_{n}(ptr %block, ptr %key, i32 %hash)
  ret i64 %offset
"""
    return function(f"i64 @map_lookup_{n}(ptr %block, ptr %key)", body)


def _put(n: int, layout: HashLayout) -> str:
    """``i64 @map_put_hashed(ptr %block, ptr %key, ptr %value, i64 %flags, i32 %hash)``: an update."""
    body = f"""
entry:
  %unknown = icmp ugt i64 %flags, {BPF_EXIST}
  br i1 %unknown, label %invalid, label %search
invalid:
  ret i64 {-errno.EINVAL}
search:
{_enter(n)}
  %present = icmp ne i64 %offset, 0
  br i1 %present, label %old, label %new
old:
  %create = icmp eq i64 %flags, {BPF_NOEXIST}
  br i1 %create, label %end, label %replace
replace:
  %old.at = getelementptr inbounds i8, ptr %block, i64 %offset
  call void @map_fill_{n}(ptr %old.at, ptr %value)
  br label %end
new:
  %exists = icmp eq i64 %flags, {BPF_EXIST}
  br i1 %exists, label %end, label %reserve
reserve:
  %reserved = call i1 @map_reserve_{n}(ptr %block)
  br i1 %reserved, label %claim, label %end
claim:
  %number = phi i64 [ %home, %reserve ], [ %next, %claim.onward ]
  %group.at = call ptr @map_group_{n}(ptr %block, i64 %number)
  %free = call i{GROUP_SLOTS} @map_matches_{n}(ptr %group.at, i8 {FREE})
  br label %claim.check
claim.check:
  %left = phi i{GROUP_SLOTS} [ %free, %claim ], [ %rest, %claim.slot ]
  %none = icmp eq i{GROUP_SLOTS} %left, 0
  br i1 %none, label %claim.onward, label %claim.slot
claim.slot:
  %first = call i{GROUP_SLOTS} @llvm.cttz.i{GROUP_SLOTS}(i{GROUP_SLOTS} %left, i1 true)
  %within = zext i{GROUP_SLOTS} %first to i64
  %tag.at = call ptr @map_tag_at_{n}(ptr %group.at, i64 %within)
  %less = sub i{GROUP_SLOTS} %left, 1
  %rest = and i{GROUP_SLOTS} %left, %less
  %pair = cmpxchg ptr %tag.at, i8 {FREE}, i8 {BUSY} acquire monotonic
  %won = extractvalue {{ i8, i1 }} %pair, 1
  br i1 %won, label %write, label %claim.check
claim.onward:
  %next = call i64 @map_behind_{n}(i64 %number)
  br label %claim
write:
  call void @map_pass_{n}(ptr %block, i64 %home, i64 %number, i32 1)
  %version.at = getelementptr inbounds i8, ptr %group.at, i64 {GROUP_VERSION}
  %version = atomicrmw add ptr %version.at, i32 1 release
  fence release
  %key.at = call ptr @map_slot_{n}(ptr %block, i64 %number, i64 %within)
  call void @map_name_{n}(ptr %key.at, ptr %key)
  %value.at = getelementptr inbounds i8, ptr %key.at, i64 {layout.values - layout.slots}
  call void @map_fill_{n}(ptr %value.at, ptr %value)
  %tag = call i8 @map_tag_{n}(i32 %hash)
  store atomic i8 %tag, ptr %tag.at release, align 1
  br label %end
end:
  %result = phi i64 [ 0, %replace ], [ 0, %write ], [ {-errno.EEXIST}, %old ], [ {-errno.ENOENT}, %new ], [ {-errno.E2BIG}, %reserve ]
  call void @map_release_{n}(ptr %lock)
  ret i64 %result
"""
    signature = f"i64 @map_put_hashed_{n}(ptr %block, ptr %key, ptr %value, i64 %flags, i32 %hash)"
    return function(signature, body)


def _remove(n: int, layout: HashLayout) -> str:
    """``i64 @map_remove_hashed(ptr %block, ptr %key, i32 %hash)``: a deletion."""
    body = f"""
entry:
{_enter(n)}
  %absent = icmp eq i64 %offset, 0
  br i1 %absent, label %end, label %free
free:
  %distance = sub nuw i64 %offset, {layout.values}
  %slot = udiv exact i64 %distance, {layout.stride}
  %number = udiv i64 %slot, {GROUP_SLOTS}
  %within = urem i64 %slot, {GROUP_SLOTS}
  %group.at = call ptr @map_group_{n}(ptr %block, i64 %number)
  %tag.at = call ptr @map_tag_at_{n}(ptr %group.at, i64 %within)
  store atomic i8 {FREE}, ptr %tag.at release, align 1
  call void @map_pass_{n}(ptr %block, i64 %home, i64 %number, i32 -1)
  call void @map_leave_{n}(ptr %block)
  br label %end
end:
  %result = phi i64 [ 0, %free ], [ {-errno.ENOENT}, %entry ]
  call void @map_release_{n}(ptr %lock)
  ret i64 %result
"""
    return function(f"i64 @map_remove_hashed_{n}(ptr %block, ptr %key, i32 %hash)", body)


def _hashing(n: int, operation: str, parameters: str) -> str:
    """``@map_<operation>``, not inlined, that computes the key's hash itself."""
    body = f"""
  %hash = call i32 @map_hash_{n}(ptr %block, ptr %key)
  %result = call i64 @map_{operation}_hashed_{n}({parameters}, i32 %hash)
  ret i64 %result
"""
    return function(f"i64 @map_{operation}_{n}({parameters})", body, "noinline nounwind")


def _read(n: int) -> str:
    body = f"""
entry:
  %hash = call i32 @map_hash_{n}(ptr %block, ptr %key)
{_enter(n)}
  %absent = icmp eq i64 %offset, 0
  br i1 %absent, label %end, label %present
present:
  %from = getelementptr inbounds i8, ptr %block, i64 %offset
  call void @map_take_{n}(ptr %value, ptr %from)
  br label %end
end:
  %result = phi i64 [ 0, %entry ], [ 1, %present ]
  call void @map_release_{n}(ptr %lock)
  ret i64 %result
"""
    return function(f"i64 @map_read_{n}(ptr %block, ptr %key, ptr %value)", body)


def _enter(n: int) -> str:
    """Take the lock of a key's home group, then look for the key."""
    return f"""  %home = call i64 @map_home_{n}(i32 %hash)
  %home.at = call ptr @map_group_{n}(ptr %block, i64 %home)
  %lock = getelementptr inbounds i8, ptr %home.at, i64 {GROUP_LOCK}
  call void @map_acquire_{n}(ptr %lock)
  %offset = call i64 @map_find_{n}(ptr %block, ptr %key, i32 %hash)"""


def _snapshot(n: int, layout: HashLayout) -> str:
    """Home after home, under its lock: its keys can neither come nor go, so none is seen twice and none is missed.

    The slots that are looked through hold keys of other homes too, which may change; a key is believed if the version says so, and
    kept if its home is the one that is locked.
    """
    body = f"""
entry:
  br label %home
home:
  %home.number = phi i64 [ 0, %entry ], [ %home.next, %home.end ]
  %n.home = phi i64 [ 0, %entry ], [ %n.slot, %home.end ]
  %home.at = call ptr @map_group_{n}(ptr %block, i64 %home.number)
  %lock = getelementptr inbounds i8, ptr %home.at, i64 {GROUP_LOCK}
  call void @map_acquire_{n}(ptr %lock)
  br label %group
group:
  %number = phi i64 [ %home.number, %home ], [ %next, %onward ]
  %n.group = phi i64 [ %n.home, %home ], [ %n.slot, %onward ]
  %group.at = call ptr @map_group_{n}(ptr %block, i64 %number)
  %version.at = getelementptr inbounds i8, ptr %group.at, i64 {GROUP_VERSION}
  br label %slot
slot:
  %within = phi i64 [ 0, %group ], [ %within.next, %slot.end ]
  %n = phi i64 [ %n.group, %group ], [ %n.slot, %slot.end ]
  %tag.at = call ptr @map_tag_at_{n}(ptr %group.at, i64 %within)
  br label %look
look:
  %version = load atomic i32, ptr %version.at acquire, align 4
  %tag = load atomic i8, ptr %tag.at acquire, align 1
  %live = icmp uge i8 %tag, {FIRST_TAG}
  br i1 %live, label %room, label %slot.end
room:
  %full = icmp uge i64 %n, %limit
  br i1 %full, label %short, label %believe
believe:
  %slot.at = call ptr @map_slot_{n}(ptr %block, i64 %number, i64 %within)
  %key.distance = mul i64 %n, {layout.key_size}
  %key = getelementptr inbounds i8, ptr %keys, i64 %key.distance
  call void @map_spell_{n}(ptr %key, ptr %slot.at)
  fence acquire
  %version.now = load atomic i32, ptr %version.at monotonic, align 4
  %stable = icmp eq i32 %version.now, %version
  br i1 %stable, label %whose, label %look
whose:
  %hash = call i32 @map_hash_{n}(ptr %block, ptr %key)
  %key.home = call i64 @map_home_{n}(i32 %hash)
  %ours = icmp eq i64 %key.home, %home.number
  br i1 %ours, label %keep, label %slot.end
keep:
  %value.distance = mul i64 %n, {layout.value_size}
  %value = getelementptr inbounds i8, ptr %values, i64 %value.distance
  %value.at = getelementptr inbounds i8, ptr %slot.at, i64 {layout.values - layout.slots}
  call void @map_take_{n}(ptr %value, ptr %value.at)
  %n.more = add nuw i64 %n, 1
  br label %slot.end
slot.end:
  %n.slot = phi i64 [ %n, %look ], [ %n, %whose ], [ %n.more, %keep ]
  %within.next = add nuw nsw i64 %within, 1
  %within.more = icmp ult i64 %within.next, {GROUP_SLOTS}
  br i1 %within.more, label %slot, label %group.end
group.end:
  %overflow.at = getelementptr inbounds i8, ptr %group.at, i64 {GROUP_OVERFLOW}
  %overflow = load atomic i32, ptr %overflow.at monotonic, align 4
  %ends = icmp eq i32 %overflow, 0
  br i1 %ends, label %home.end, label %onward
onward:
  %next = call i64 @map_behind_{n}(i64 %number)
  %round = icmp eq i64 %next, %home.number
  br i1 %round, label %home.end, label %group
home.end:
  call void @map_release_{n}(ptr %lock)
  %home.next = add nuw i64 %home.number, 1
  %home.more = icmp ult i64 %home.next, {layout.groups}
  br i1 %home.more, label %home, label %end
short:
  call void @map_release_{n}(ptr %lock)
  ret i64 -1
end:
  ret i64 %n.slot
"""
    return function(f"i64 @map_snapshot_{n}(ptr %block, ptr %keys, ptr %values, i64 %limit)", body)


def local(n: int, name: str, operation: str, sizes: dict[str, int], rest: str) -> str:
    """``@map_<name>``: calls the operation, which is not inlined, with copies of small arguments.

    A pointer that is given away would keep the memory it points to, the program's stack, out of registers.
    """
    body, functions, passed = "", "", ""
    for argument, size in sizes.items():
        if size > UNROLLED:
            passed += f", ptr %{argument}"
            continue
        functions += copy(f"map_{name}_{argument}_{n}", size, to_map=False, from_map=False)
        body += f"  %{argument}.copy = alloca [{size} x i8], align 8\n"
        body += f"  call void @map_{name}_{argument}_{n}(ptr %{argument}.copy, ptr %{argument})\n"
        passed += f", ptr %{argument}.copy"
    body += f"  %result = call i64 @map_{operation}_{n}(ptr %block{passed}{rest})\n  ret i64 %result\n"
    parameters = "".join(f", ptr %{argument}" for argument in sizes)
    return functions + function(f"i64 @map_{name}_{n}(ptr %block{parameters}{rest})", body)
