"""IR that holds a hash table to `max_entries` keys, without a number that all threads write to.

Room for keys is set aside in advance, some at a time: the count in the header is that of the keys that are there and of the room that is set aside. What is
set aside lies in `SPARES` words, each on a cache line of its own; a thread goes by its stack to one of them, and takes from there for a key that comes and
gives back for a key that has gone. Only a word that has none, or too many, turns to the count, which is moved to and fro under a lock.

* A word counts its changes in its upper half. Who finds no room anywhere looks at all words a second time: where none has changed, nor the count, there was a
  moment at which none of them had any, and at that moment there were `max_entries` keys, or on their way in. So the limit is exact in both directions.
* `TRANSFERS` is odd while room is moved between a word and the count, and a different number after it; who holds it waits for nothing.
* Room is taken with acquire and given back with release, along whatever way it goes: who has it finds the slot of the key that has gone free.
"""

from __future__ import annotations

from pybpf.jit.bytes_ir import function
from pybpf.maps.layout import CACHE_LINE, COUNT, SPARES, SPARES_COUNT, TRANSFERS, HashLayout

_CHANGE = 1 << 32
_ROOM = _CHANGE - 1
_NEAR, _FAR = 18, 23
"""Threads have stacks at least 256 KiB apart, and usually 8 MiB: bits from there on tell them apart."""


def room(n: int, layout: HashLayout) -> str:
    """``i1 @map_reserve_<n>(ptr %block)`` takes room for a key, if there is any; ``void @map_leave_<n>(ptr %block)`` gives it back."""
    return "\n".join([_spare(n), _fetch(n, layout), _reserve(n), _give(n, layout), _leave(n, layout)])


def _spare(n: int) -> str:
    """The word of this thread: any will do, one that no other thread uses at the time is fast."""
    body = f"""
  %here = alloca i8
  %address = ptrtoint ptr %here to i64
  %near = lshr i64 %address, {_NEAR}
  %far = lshr i64 %address, {_FAR}
  %mixed = xor i64 %near, %far
  %number = and i64 %mixed, {SPARES_COUNT - 1}
  %spare = call ptr @map_spare_at_{n}(ptr %block, i64 %number)
  ret ptr %spare
"""
    at = f"""
  %distance = mul nuw nsw i64 %number, {CACHE_LINE}
  %offset = add nuw nsw i64 %distance, {SPARES}
  %spare = getelementptr inbounds i8, ptr %block, i64 %offset
  ret ptr %spare
"""
    return function(f"ptr @map_spare_at_{n}(ptr %block, i64 %number)", at) + function(
        f"ptr @map_spare_{n}(ptr %block)", body
    )


def _reserve(n: int) -> str:
    body = f"""
entry:
  %spare = call ptr @map_spare_{n}(ptr %block)
  %first = load atomic i64, ptr %spare monotonic, align 8
  br label %check
check:
  %word = phi i64 [ %first, %entry ], [ %now, %take ]
  %room = and i64 %word, {_ROOM}
  %none = icmp eq i64 %room, 0
  br i1 %none, label %fetch, label %take
take:
  %less = add i64 %word, {_CHANGE - 1}
  %pair = cmpxchg weak ptr %spare, i64 %word, i64 %less acquire monotonic
  %now = extractvalue {{ i64, i1 }} %pair, 0
  %taken = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %taken, label %reserved, label %check
fetch:
  %fetched = call i1 @map_fetch_{n}(ptr %block, ptr %spare)
  ret i1 %fetched
reserved:
  ret i1 true
"""
    return function(f"i1 @map_reserve_{n}(ptr %block)", body)


def _fetch(n: int, layout: HashLayout) -> str:
    """``i1 @map_fetch(ptr %block, ptr %spare)``: room from the count, some of it to be kept in the word; from any word if there is no other."""
    body = f"""
entry:
  %count.at = getelementptr inbounds i8, ptr %block, i64 {COUNT}
  %transfers.at = getelementptr inbounds i8, ptr %block, i64 {TRANSFERS}
  br label %begin
begin:
  %before = load atomic i32, ptr %transfers.at acquire, align 4
  %odd = trunc i32 %before to i1
  br i1 %odd, label %begin, label %look
look:
  %count = load atomic i32, ptr %count.at acquire, align 4
  %left = sub i32 {layout.max_entries}, %count
  %some = icmp ne i32 %left, 0
  br i1 %some, label %enter, label %search
enter:
  %within = add i32 %before, 1
  %entry.pair = cmpxchg ptr %transfers.at, i32 %before, i32 %within acquire monotonic
  %entered = extractvalue {{ i32, i1 }} %entry.pair, 1
  br i1 %entered, label %move, label %begin
move:
  %amount = call i32 @llvm.umin.i32(i32 %left, i32 {layout.transfer})
  %more = add i32 %count, %amount
  store atomic i32 %more, ptr %count.at monotonic, align 4
  %wide = zext i32 %amount to i64
  %kept = add i64 %wide, {_CHANGE - 1}
  %spared = atomicrmw add ptr %spare, i64 %kept release
  %after = add i32 %before, 2
  store atomic i32 %after, ptr %transfers.at release, align 4
  ret i1 true
search:
  %i = phi i64 [ 0, %look ], [ %i.next, %empty ]
  %sum = phi i64 [ 0, %look ], [ %sum.next, %empty ]
  %i.at = call ptr @map_spare_at_{n}(ptr %block, i64 %i)
  br label %ask
ask:
  %word = load atomic i64, ptr %i.at acquire, align 8
  %room = and i64 %word, {_ROOM}
  %none = icmp eq i64 %room, 0
  br i1 %none, label %empty, label %take
take:
  %less = add i64 %word, {_CHANGE - 1}
  %pair = cmpxchg ptr %i.at, i64 %word, i64 %less acquire monotonic
  %taken = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %taken, label %found, label %ask
found:
  ret i1 true
empty:
  %sum.next = add i64 %sum, %word
  %i.next = add nuw nsw i64 %i, 1
  %i.more = icmp ult i64 %i.next, {SPARES_COUNT}
  br i1 %i.more, label %search, label %again
again:
  %j = phi i64 [ 0, %empty ], [ %j.next, %again ]
  %same = phi i64 [ 0, %empty ], [ %same.next, %again ]
  %j.at = call ptr @map_spare_at_{n}(ptr %block, i64 %j)
  %j.word = load atomic i64, ptr %j.at acquire, align 8
  %same.next = add i64 %same, %j.word
  %j.next = add nuw nsw i64 %j, 1
  %j.more = icmp ult i64 %j.next, {SPARES_COUNT}
  br i1 %j.more, label %again, label %judge
judge:
  %transfers.now = load atomic i32, ptr %transfers.at monotonic, align 4
  %unmoved = icmp eq i32 %transfers.now, %before
  %unchanged = icmp eq i64 %same.next, %sum.next
  %full = and i1 %unmoved, %unchanged
  br i1 %full, label %refuse, label %begin
refuse:
  ret i1 false
"""
    return function(f"i1 @map_fetch_{n}(ptr %block, ptr %spare)", body, "noinline nounwind")


def _leave(n: int, layout: HashLayout) -> str:
    body = f"""
entry:
  %spare = call ptr @map_spare_{n}(ptr %block)
  %word = atomicrmw add ptr %spare, i64 {_CHANGE + 1} release
  %room = and i64 %word, {_ROOM}
  %many = icmp uge i64 %room, {2 * layout.transfer}
  br i1 %many, label %give, label %end
give:
  call void @map_give_{n}(ptr %block, ptr %spare)
  br label %end
end:
  ret void
"""
    return function(f"void @map_leave_{n}(ptr %block)", body)


def _give(n: int, layout: HashLayout) -> str:
    """``void @map_give(ptr %block, ptr %spare)``: room from the word back to the count, unless somebody else is moving some."""
    body = f"""
entry:
  %count.at = getelementptr inbounds i8, ptr %block, i64 {COUNT}
  %transfers.at = getelementptr inbounds i8, ptr %block, i64 {TRANSFERS}
  %before = load atomic i32, ptr %transfers.at monotonic, align 4
  %odd = trunc i32 %before to i1
  br i1 %odd, label %end, label %enter
enter:
  %within = add i32 %before, 1
  %entry.pair = cmpxchg ptr %transfers.at, i32 %before, i32 %within acquire monotonic
  %entered = extractvalue {{ i32, i1 }} %entry.pair, 1
  br i1 %entered, label %check, label %end
check:
  %word = load atomic i64, ptr %spare monotonic, align 8
  %room = and i64 %word, {_ROOM}
  %enough = icmp uge i64 %room, {layout.transfer}
  br i1 %enough, label %take, label %leave
take:
  %less = add i64 %word, {_CHANGE - layout.transfer}
  %pair = cmpxchg ptr %spare, i64 %word, i64 %less acquire monotonic
  %taken = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %taken, label %move, label %check
move:
  %count = load atomic i32, ptr %count.at monotonic, align 4
  %fewer = sub i32 %count, {layout.transfer}
  store atomic i32 %fewer, ptr %count.at monotonic, align 4
  br label %leave
leave:
  %after = add i32 %before, 2
  store atomic i32 %after, ptr %transfers.at release, align 4
  br label %end
end:
  ret void
"""
    return function(f"void @map_give_{n}(ptr %block, ptr %spare)", body, "noinline nounwind")
