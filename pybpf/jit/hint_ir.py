"""IR of the operations of a hash table on keys that were seen beforehand, block by block of packets (see `pybpf.jit.split`).

A block of hints is an array of 32-bit numbers for `BLOCK` packets, row by row, so that LLVM computes the hashes of many packets in one go:

    known   0 or 1: whether a key was found for the packet
    hash    the key's hash
    slot    the slot in which it may be: the first of its home group whose tag is that of the key; -1 where there is none
    words   the key, as `pybpf.jit.hash_ir.words` gives it: a row for each word

A hint says nothing that is believed. A lookup looks at the slot with all the care of any lookup, and has found its key if it is there. Every operation compares
its own key with the hint's, and takes the hash from there only if they are the same. So nothing that happens in between makes a difference but to the time that
it takes.

For map number ``n``, with ``ptr %hint`` the place of a packet in the first row:

    void @map_note_<n>(ptr %key, ptr %hint)        writes a key
    void @map_ahead_<n>(ptr %block, ptr %hints)    hashes the keys of a block, asks for the memory of their groups, then of their slots
    i64 @map_lookup_hinted_<n>(ptr %block, ptr %key, ptr %hint), @map_update_hinted_<n>, @map_delete_hinted_<n>
                                                   as without a hint
"""

from __future__ import annotations

from typing import Final

from pybpf.jit.bytes_ir import function
from pybpf.jit.hash_ir import hashlittle_words, words
from pybpf.jit.table_ir import LIKELY, local
from pybpf.maps.layout import CACHE_LINE, FIRST_TAG, FREE, GROUP_SLOTS, GROUP_VERSION, SEED, HashLayout

BLOCK: Final = 64
"""How many packets are looked at ahead of the first of them being run."""
ROW: Final = 4 * BLOCK
_KNOWN: Final = 0
_HASH: Final = ROW
SLOT: Final = 2 * ROW
_WORDS: Final = 3 * ROW
NOWHERE: Final = -1
"""No slot at all: the key is looked for as if there were no hint."""


def size(layout: HashLayout) -> int:
    """Bytes of a block of hints."""
    return _WORDS + ROW * _count(layout)


def operations(
    n: int, layout: HashLayout, *, inserts: bool = False, changes: bool = False, writes: bool = False
) -> str:
    """The functions named above. They call those of `pybpf.jit.table_ir.operations`.

    What the program is to do with the keys says what is asked for: the slots that insertions will take, and memory that will be written at once for
    writing. Otherwise it would come twice, where another thread has written to it last.
    """
    key, value = layout.key_size, layout.value_size
    return "\n".join(
        [
            hashlittle_words(f"map_mix_words_{n}", key),
            _note(n, layout),
            _hinted(n, layout),
            _found(n, layout),
            _lookup(n),
            _hinting(n, "put", "ptr %block, ptr %key, ptr %value, i64 %flags"),
            _hinting(n, "remove", "ptr %block, ptr %key"),
            local(n, "update_hinted", "put_hinted", {"key": key, "value": value}, ", i64 %flags, ptr %hint"),
            local(n, "delete_hinted", "remove_hinted", {"key": key}, ", ptr %hint"),
            _ahead(n, layout, inserts, changes, writes),
        ]
    )


def _count(layout: HashLayout) -> int:
    return -(-layout.key_size // 4)


def _place(name: str, offset: int, base: str = "%hint") -> str:
    return f"  {name}.at = getelementptr inbounds i8, ptr {base}, i64 {offset}\n"


def _note(n: int, layout: HashLayout) -> str:
    body, found = words("k", "%key", layout.key_size)
    for i, word in enumerate(found):
        body += _place(f"%row{i}", _WORDS + i * ROW) + f"  store i32 {word}, ptr %row{i}.at, align 4\n"
    body += "  store i32 1, ptr %hint, align 4\n  ret void"
    return function(f"void @map_note_{n}(ptr %key, ptr %hint)", body)


def _hinted(n: int, layout: HashLayout) -> str:
    """``i32 @map_hinted(ptr %block, ptr %key, ptr %hint)``: the hash of the key, the hint's if that is of the same key."""
    lines, found = words("k", "%key", layout.key_size)
    differs = "0"
    for i, word in enumerate(found):
        lines += _place(f"%row{i}", _WORDS + i * ROW)
        lines += f"  %row{i} = load i32, ptr %row{i}.at, align 4\n  %x{i} = xor i32 %row{i}, {word}\n"
        lines += f"  %d{i} = or i32 {differs}, %x{i}\n"
        differs = f"%d{i}"
    body = f"""
entry:
  %known = load i32, ptr %hint, align 4
  %unknown = icmp eq i32 %known, 0
  br i1 %unknown, label %compute, label %compare
compare:
{lines}  %same = icmp eq i32 {differs}, 0
  br i1 %same, label %given, label %compute, !prof !{{!"branch_weights", i32 1024, i32 1}}
given:
{_place("%hash", _HASH)}  %hash = load i32, ptr %hash.at, align 4
  ret i32 %hash
compute:
  %computed = call i32 @map_hash_{n}(ptr %block, ptr %key)
  ret i32 %computed
"""
    return function(f"i32 @map_hinted_{n}(ptr %block, ptr %key, ptr %hint)", body)


def _found(n: int, layout: HashLayout) -> str:
    """``i64 @map_found(ptr %block, ptr %key, i32 %at)``: the offset of the key's value if the key is in that slot, else 0."""
    body = f"""
entry:
  %slot = zext i32 %at to i64
  %number = udiv i64 %slot, {GROUP_SLOTS}
  %within = urem i64 %slot, {GROUP_SLOTS}
  %group = call ptr @map_group_{n}(ptr %block, i64 %number)
  %tag.at = call ptr @map_tag_at_{n}(ptr %group, i64 %within)
  %version.at = getelementptr inbounds i8, ptr %group, i64 {GROUP_VERSION}
  %version = load atomic i32, ptr %version.at acquire, align 4
  %tag = load atomic i8, ptr %tag.at acquire, align 1
  %live = icmp uge i8 %tag, {FIRST_TAG}
  br i1 %live, label %compare, label %elsewhere, {LIKELY}
compare:
  %key.at = call ptr @map_slot_{n}(ptr %block, i64 %number, i64 %within)
  %same = call i1 @map_same_{n}(ptr %key.at, ptr %key)
  br i1 %same, label %equal, label %elsewhere, {LIKELY}
equal:
  fence acquire
  %version.now = load atomic i32, ptr %version.at monotonic, align 4
  %stable = icmp eq i32 %version.now, %version
  br i1 %stable, label %found, label %elsewhere, {LIKELY}
found:
  %distance = mul nuw nsw i64 %slot, {layout.stride}
  %offset = add nuw nsw i64 %distance, {layout.values}
  ret i64 %offset
elsewhere:
  ret i64 0
"""
    return function(f"i64 @map_found_{n}(ptr %block, ptr %key, i32 %at)", body)


def _lookup(n: int) -> str:
    # Where no tag was that of the key it is most likely absent, and any slot that is looked at is looked at for nothing.
    body = f"""
entry:
{_place("%slot", SLOT)}  %slot = load i32, ptr %slot.at, align 4
  %nowhere = icmp eq i32 %slot, {NOWHERE}
  br i1 %nowhere, label %search, label %look
look:
  %there = call i64 @map_found_{n}(ptr %block, ptr %key, i32 %slot)
  %missing = icmp eq i64 %there, 0
  br i1 %missing, label %search, label %end
end:
  ret i64 %there
search:
  %hash = call i32 @map_hinted_{n}(ptr %block, ptr %key, ptr %hint)
  %offset = call i64 @map_find_{n}(ptr %block, ptr %key, i32 %hash)
  ret i64 %offset
"""
    return function(f"i64 @map_lookup_hinted_{n}(ptr %block, ptr %key, ptr %hint)", body)


def _hinting(n: int, operation: str, parameters: str) -> str:
    body = f"""
  %hash = call i32 @map_hinted_{n}(ptr %block, ptr %key, ptr %hint)
  %result = call i64 @map_{operation}_hashed_{n}({parameters}, i32 %hash)
  ret i64 %result
"""
    return function(f"i64 @map_{operation}_hinted_{n}({parameters}, ptr %hint)", body, "noinline nounwind")


def _ahead(n: int, layout: HashLayout, inserts: bool, changes: bool, writes: bool) -> str:
    """Three loops over a block. The second has asked for all groups before the third reads the first of them."""
    rows = ""
    for i in range(_count(layout)):
        rows += (
            _place(f"%word{i}", _WORDS + i * ROW, "%hint")
            + f"  %word{i} = load i32, ptr %word{i}.at, align 4\n"
        )
    arguments = ", ".join(f"i32 %word{i}" for i in range(_count(layout)))
    straddles = CACHE_LINE % layout.stride != 0
    second = f"""  %slot.end = getelementptr inbounds i8, ptr %slot, i64 {layout.stride - 1}
  call void @llvm.prefetch.p0(ptr %slot.end, i32 {int(writes)}, i32 3, i32 1)
"""
    candidates, free = "%matches", ""
    if inserts:
        candidates = "%either"
        free = f"""  %none = icmp eq i{GROUP_SLOTS} %matches, 0
  %free = call i{GROUP_SLOTS} @map_matches_{n}(ptr %group, i8 {FREE})
  %either = select i1 %none, i{GROUP_SLOTS} %free, i{GROUP_SLOTS} %matches
"""
    body = f"""
entry:
  %seed.at = getelementptr inbounds i8, ptr %block, i64 {SEED}
  %seed = load i32, ptr %seed.at, align 4, !invariant.load !{{}}
  br label %mix
mix:
  %i = phi i64 [ 0, %entry ], [ %i.next, %mix ]
  %hint = getelementptr inbounds i32, ptr %hints, i64 %i
{rows}  %mixed = call i32 @map_mix_words_{n}(i32 %seed, {arguments})
{_place("%hash", _HASH)}  store i32 %mixed, ptr %hash.at, align 4
  %i.next = add nuw nsw i64 %i, 1
  %i.more = icmp ult i64 %i.next, {BLOCK}
  br i1 %i.more, label %mix, label %ask
ask:
  %j = phi i64 [ 0, %mix ], [ %j.next, %ask ]
  %j.at = getelementptr inbounds i32, ptr %hints, i64 %j
  %j.hash.at = getelementptr inbounds i8, ptr %j.at, i64 {_HASH}
  %j.hash = load i32, ptr %j.hash.at, align 4
  %j.home = call i64 @map_home_{n}(i32 %j.hash)
  %j.group = call ptr @map_group_{n}(ptr %block, i64 %j.home)
  call void @llvm.prefetch.p0(ptr %j.group, i32 {int(changes)}, i32 3, i32 1)
  %j.next = add nuw nsw i64 %j, 1
  %j.more = icmp ult i64 %j.next, {BLOCK}
  br i1 %j.more, label %ask, label %look
look:
  %k = phi i64 [ 0, %ask ], [ %k.next, %look ]
  %k.at = getelementptr inbounds i32, ptr %hints, i64 %k
  %k.hash.at = getelementptr inbounds i8, ptr %k.at, i64 {_HASH}
  %k.hash = load i32, ptr %k.hash.at, align 4
  %home = call i64 @map_home_{n}(i32 %k.hash)
  %tag = call i8 @map_tag_{n}(i32 %k.hash)
  %group = call ptr @map_group_{n}(ptr %block, i64 %home)
  %matches = call i{GROUP_SLOTS} @map_matches_{n}(ptr %group, i8 %tag)
{free}  %some = or i{GROUP_SLOTS} {candidates}, {-(1 << GROUP_SLOTS - 1)}
  %first = call i{GROUP_SLOTS} @llvm.cttz.i{GROUP_SLOTS}(i{GROUP_SLOTS} %some, i1 true)
  %within = zext i{GROUP_SLOTS} %first to i64
  %slot = call ptr @map_slot_{n}(ptr %block, i64 %home, i64 %within)
  %k.slots = mul nuw nsw i64 %home, {GROUP_SLOTS}
  %k.number = add nuw nsw i64 %k.slots, %within
  %k.narrow = trunc i64 %k.number to i32
  %absent = icmp eq i{GROUP_SLOTS} %matches, 0
  %k.known = select i1 %absent, i32 {NOWHERE}, i32 %k.narrow
  %k.slot.at = getelementptr inbounds i8, ptr %k.at, i64 {SLOT}
  store i32 %k.known, ptr %k.slot.at, align 4
  call void @llvm.prefetch.p0(ptr %slot, i32 {int(writes)}, i32 3, i32 1)
{second if straddles else ""}  %k.next = add nuw nsw i64 %k, 1
  %k.more = icmp ult i64 %k.next, {BLOCK}
  br i1 %k.more, label %look, label %end
end:
  ret void
"""
    return function(f"void @map_ahead_{n}(ptr %block, ptr noalias %hints)", body, "noinline nounwind")
