"""The entry points beside a program: what the host calls.

i64 run(ptr state, ptr packet, i32 length)
r0; a site in the state if the run trapped.
i64 run_batch(ptr state, ptr base, i64 size, ptr offsets, ptr lengths, ptr results, i64 n, ptr copy, i64 limit)
Runs the program on n packets, number i at base + offsets[i] (u64), lengths[i] (u32) bytes long, and writes r0 to
results[i] (u64). Where `copy` is not null each packet is copied there first, so that what the program writes is lost; code of a program that writes to
no packet leaves that out. The number of packets done, n unless a run trapped; then the state has a site. Every packet lies in the `size` bytes from base and is no
longer than `limit`: the caller has seen to that (`pybpf.jit.fitting_ir`).

The loop asks for the memory of packets before their turn comes; that packets lie inside is looked at before the first is run. Where a program is split
(`pybpf.jit.split`) it goes block by block, and looks ahead in each before it runs; where a program is a row of tests (`pybpf.jit.conjunction`) it watches the traffic, and
compares many bytes at once where that pays.
"""

from __future__ import annotations

from typing import Final

from pybpf.jit import compare_ir, hint_ir
from pybpf.jit.builder import RESULT
from pybpf.jit.conjunction import Conjunction
from pybpf.jit.split import Split
from pybpf.jit.state import MAPS, SITE
from pybpf.maps.layout import COUNT
from pybpf.semantics import signed

RUN: Final = "run"
RUN_BATCH: Final = "run_batch"
EXPORTS: Final = (RUN, RUN_BATCH)

AHEAD: Final = 16
"""How many packets ahead the batch loop asks for memory, and how many a batch must have to be split."""

NEAR: Final = 256 << 10
"""Bytes of packets that lie in the processor's second-level cache, or soon will: asking for them ahead takes longer than it saves."""
WATCHED: Final = 128
"""How many packets are watched, or run the other way, before it is decided to compare bytes or not, and a batch must have for that."""
SHORTEST: Final = 1024
"""How many packets are run before the other way is tried for the first time."""
LONGEST: Final = 16384
"""And how many at most, where it does not pay again and again."""

_LOOPS: Final = """
!10 = distinct !{!10, !11}
!11 = !{!"llvm.loop.unroll.disable"}
!12 = distinct !{!12, !13}
!13 = !{!"llvm.loop.unroll.count", i32 2}
"""
"""How the loops of `_comparing` are compiled: what watches is small, and what a filter takes is so little that every second turn's own share tells."""

_RUN: Final = """
define i64 @run(ptr noalias %state, ptr %packet, i32 %length) nounwind {
entry:
  %offset = alloca i64
  %length.slot = alloca i32
  %result = alloca i64
  store i64 0, ptr %offset
  store i32 %length, ptr %length.slot
  %size = zext i32 %length to i64
  %done = call i64 @run_batch(ptr %state, ptr %packet, i64 %size, ptr %offset, ptr %length.slot, ptr %result, i64 1, ptr null, i64 %size)
  %value = load i64, ptr %result
  ret i64 %value
}
"""


def entry_points(
    split: Split | None, conjunction: Conjunction | None = None, *, copies: bool, short: bool = False
) -> str:
    """The text of the entry points; `copies`: the program may write to its packets; `short`: the loop is the shortest there is, to be compiled soon."""
    functions = ""
    if split is not None:
        before, call, after = _by_block(split)
    elif conjunction is not None:
        functions = compare_ir.differs(conjunction) + _LOOPS
        before, call, after = _comparing(conjunction)
    elif short:
        before, call, after = _SHORT
    else:
        before, call, after = _straight()
    return f"""{functions}{_RUN}
define i64 @run_batch(ptr noalias %state, ptr %base, i64 %size, ptr %offsets, ptr %lengths, ptr %results, i64 %n, ptr %copy, i64 %limit) noinline nounwind {{
entry:
  %empty = icmp eq i64 %n, 0
  br i1 %empty, label %nothing, label %begin

nothing:
  ret i64 0

{before}
place:
{_COPIED if copies else _IN_PLACE}
run:
  %packet = phi ptr {"[ %arrived, %place ], [ %copy, %move ]" if copies else "[ %arrived, %place ]"}
{call}  %value = extractvalue {RESULT} %outcome, 0
  %over = extractvalue {RESULT} %outcome, 1
  br i1 %over, label %over.early, label %done

over.early:
  %site.slot = getelementptr inbounds i8, ptr %state, i64 {SITE}
  %site = load i64, ptr %site.slot
  %ended = icmp eq i64 %site, 0
  br i1 %ended, label %done, label %stop

done:
  %result.slot = getelementptr inbounds i64, ptr %results, i64 %i
  store i64 %value, ptr %result.slot
  %next = add nuw i64 %i, 1
{after}
all:
  ret i64 %n

stop:
  ret i64 %i
}}
"""


_IN_PLACE: Final = "  br label %run\n"
_COPIED: Final = """  %in.place = icmp eq ptr %copy, null
  br i1 %in.place, label %run, label %move

move:
  call void @llvm.memcpy.p0.p0.i64(ptr %copy, ptr %arrived, i64 %length, i1 false)
  br label %run
"""


def _prefetch(number: str, name: str = "%") -> str:
    """Ask for the memory of a packet that is some packets later: `%later` is the array of offsets from there on. Names have a prefix."""
    return f"""  {name}later.slot = getelementptr inbounds i64, ptr %later, i64 {number}
  {name}later.offset = load i64, ptr {name}later.slot
  {name}later.packet = getelementptr i8, ptr %base, i64 {name}later.offset
  call void @llvm.prefetch.p0(ptr {name}later.packet, i32 0, i32 3, i32 1)
"""


_CALL: Final = f"  %outcome = call {RESULT} @program(ptr %state, ptr %packet, i64 %length)\n"


def _packet(name: str, number: str) -> str:
    """A packet's length and where it is, under a prefix."""
    return f"""  {name}offset.slot = getelementptr inbounds i64, ptr %offsets, i64 {number}
  {name}offset = load i64, ptr {name}offset.slot
  {name}length.slot = getelementptr inbounds i32, ptr %lengths, i64 {number}
  {name}length.narrow = load i32, ptr {name}length.slot
  {name}length = zext i32 {name}length.narrow to i64
  {name}arrived = getelementptr inbounds i8, ptr %base, i64 {name}offset
"""


_SHORT: Final = (
    f"""begin:
  br label %loop

loop:
  %i = phi i64 [ 0, %begin ], [ %next, %done ]
{_packet("%", "%i")}  br label %place
""",
    _CALL,
    """  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %all
""",
)


def _straight() -> tuple[str, str, str]:
    """One packet after the other: what comes before `%packet` is known, the call, and what follows the result. All that can be is done for many packets at once, since
    a small filter takes no longer than a test or two.
    """
    before = f"""begin:
  %near = icmp ule i64 %size, {NEAR}
  br label %block

block:
  %start = phi i64 [ 0, %begin ], [ %end, %block.end ]
  %full = add nuw i64 %start, {AHEAD}
  %end = call i64 @llvm.umin.i64(i64 %full, i64 %n)
  %fuller = add nuw i64 %start, {2 * AHEAD}
  %far = call i64 @llvm.umin.i64(i64 %fuller, i64 %n)
  %last.block = icmp eq i64 %end, %far
  %fetched = or i1 %last.block, %near
  br i1 %fetched, label %loop, label %fetch

fetch:
  %ahead = phi i64 [ %end, %block ], [ %ahead.next, %fetch ]
  %ahead.slot = getelementptr inbounds i64, ptr %offsets, i64 %ahead
  %ahead.offset = load i64, ptr %ahead.slot
  %ahead.packet = getelementptr i8, ptr %base, i64 %ahead.offset
  call void @llvm.prefetch.p0(ptr %ahead.packet, i32 0, i32 3, i32 1)
  %ahead.next = add nuw i64 %ahead, 1
  %ahead.more = icmp ult i64 %ahead.next, %far
  br i1 %ahead.more, label %fetch, label %loop

loop:
  %i = phi i64 [ %start, %block ], [ %start, %fetch ], [ %next, %done ]
{_packet("%", "%i")}  br label %place
"""
    after = """  %more = icmp ult i64 %next, %end
  br i1 %more, label %loop, label %block.end

block.end:
  %further = icmp ult i64 %next, %n
  br i1 %further, label %block, label %all
"""
    return before, _CALL, after


def _comparing(conjunction: Conjunction) -> tuple[str, str, str]:
    """Block by block, each either by branches or by comparing. Where with the first packets it is often another byte than with the packet before that tells, branches would be
    mispredicted; where none does, all of them would be gone through: then the first block is compared. From there on time decides: between two blocks some packets are run
    the other way, and if they take less time than those of the last block did, so do those that follow; if not, the next block is twice as long. A machine on which time is
    not told goes on as it began.

    Compared, bytes are looked at and the rest of the program is run for every packet. A packet that is too short, or that the rest was not made for and traps at, is run as
    all others are.

    The last packets are a block of their own, whose memory has been asked for: so nobody need ask whether there is a packet so much later.
    """
    before = f"""begin:
  %body = call i64 @llvm.usub.sat.i64(i64 %n, i64 {AHEAD})
  %enough = icmp uge i64 %n, {WATCHED}
  %near = icmp ule i64 %size, {NEAR}
  br label %block

block:
  %start = phi i64 [ 0, %begin ], [ %reached, %block.end ]
  %pays = phi i1 [ false, %begin ], [ %pays.next, %block.end ]
  %trial = phi i1 [ false, %begin ], [ %trial.next, %block.end ]
  %length.next = phi i64 [ {SHORTEST}, %begin ], [ %length.after, %block.end ]
  %spent = phi i64 [ 0, %begin ], [ %spent.next, %block.end ]
  %for = phi i64 [ 0, %begin ], [ %for.next, %block.end ]
  %in.body = icmp ult i64 %start, %body
  %many = select i1 %trial, i64 {WATCHED}, i64 %length.next
  %most = add nuw i64 %start, %many
  %most.end = call i64 @llvm.umin.i64(i64 %most, i64 %body)
  %end = select i1 %in.body, i64 %most.end, i64 %n
  %distance = select i1 %in.body, i64 {AHEAD}, i64 0
  %later = getelementptr i64, ptr %offsets, i64 %distance
  %first = icmp eq i64 %start, 0
  %watches = and i1 %first, %enough
  br i1 %watches, label %few, label %known

known:
  %tries = and i1 %trial, %in.body
  %known.compares = xor i1 %pays, %tries
  br label %go

few:
  %watch.end = call i64 @llvm.umin.i64(i64 {WATCHED}, i64 %end)
  br label %watch

watch:
  %j = phi i64 [ 0, %few ], [ %j.next, %watched ]
  %before = phi i64 [ 0, %few ], [ %byte, %watched ]
  %costly = phi i64 [ 0, %few ], [ %costly.next, %watched ]
{_prefetch("%j", "%j.")}{_packet("%j.", "%j")}  %j.long = icmp uge i64 %j.length, {conjunction.end}
  br i1 %j.long, label %watch.at, label %watched

watch.at:
  %j.differs = call i64 @differs(ptr %j.arrived)
  %j.byte = call i64 @llvm.cttz.i64(i64 %j.differs, i1 false)
  br label %watched

watched:
  %byte = phi i64 [ 0, %watch ], [ %j.byte, %watch.at ]
  %other = icmp ne i64 %byte, %before
  %none = icmp eq i64 %byte, 64
  %costs = or i1 %other, %none
  %costs.wide = zext i1 %costs to i64
  %costly.next = add nuw nsw i64 %costly, %costs.wide
  %j.next = add nuw i64 %j, 1
  %j.more = icmp ult i64 %j.next, %watch.end
  br i1 %j.more, label %watch, label %seen, !llvm.loop !10

seen:
  %often = icmp ugt i64 %costly.next, {WATCHED // 8}
  br label %go

go:
  %compares = phi i1 [ %known.compares, %known ], [ %often, %seen ]
  %paid = phi i1 [ %pays, %known ], [ %often, %seen ]
  %began = call i64 @ticks()
  br i1 %compares, label %both, label %plain

plain:
  br i1 %near, label %close, label %loop

close:
  %m = phi i64 [ %start, %plain ], [ %m.next, %close.done ]
{_packet("%m.", "%m")}  %m.outcome = call {RESULT} @program(ptr %state, ptr %m.arrived, i64 %m.length)
  %m.value = extractvalue {RESULT} %m.outcome, 0
  %m.over = extractvalue {RESULT} %m.outcome, 1
  br i1 %m.over, label %again, label %close.done, !prof !2

close.done:
  %m.result = getelementptr inbounds i64, ptr %results, i64 %m
  store i64 %m.value, ptr %m.result
  %m.next = add nuw i64 %m, 1
  %m.more = icmp ult i64 %m.next, %end
  br i1 %m.more, label %close, label %block.end, !llvm.loop !12

both:
  %k = phi i64 [ %start, %go ], [ %k.next, %answered ], [ %next, %after.loop ]
{_prefetch("%k", "%k.")}{_packet("%k.", "%k")}  %k.long = icmp uge i64 %k.length, {conjunction.end}
  br i1 %k.long, label %compare, label %alone, !prof !0

compare:
  %k.outcome = call {RESULT} @rest(ptr %state, ptr %k.arrived, i64 %k.length)
  %k.value = extractvalue {RESULT} %k.outcome, 0
  %k.over = extractvalue {RESULT} %k.outcome, 1
  %differs = call i64 @differs(ptr %k.arrived)
  %equal = icmp eq i64 %differs, 0
  br i1 %k.over, label %again, label %answered, !prof !2

again:
  %trapped = phi i64 [ %k, %compare ], [ %m, %close ]
  %trapped.slot = getelementptr inbounds i8, ptr %state, i64 {SITE}
  store i64 0, ptr %trapped.slot
  br label %alone

answered:
  %k.answer = select i1 %equal, i64 %k.value, i64 {signed(conjunction.otherwise, 64)}, !unpredictable !1
  %k.result = getelementptr inbounds i64, ptr %results, i64 %k
  store i64 %k.answer, ptr %k.result
  %k.next = add nuw i64 %k, 1
  %k.more = icmp ult i64 %k.next, %end
  br i1 %k.more, label %both, label %block.end

alone:
  %single = phi i64 [ %k, %both ], [ %trapped, %again ]
  %single.end = add nuw i64 %single, 1
  br label %loop

loop:
  %i = phi i64 [ %start, %plain ], [ %single, %alone ], [ %next, %done ]
  %until = phi i64 [ %end, %plain ], [ %single.end, %alone ], [ %until, %done ]
{_prefetch("%i")}{_packet("%", "%i")}  br label %place
"""
    after = f"""  %more = icmp ult i64 %next, %until
  br i1 %more, label %loop, label %after.loop

after.loop:
  %rest.more = icmp ult i64 %next, %end
  br i1 %rest.more, label %both, label %block.end

block.end:
  %reached = phi i64 [ %next, %after.loop ], [ %k.next, %answered ], [ %m.next, %close.done ]
  %now = call i64 @ticks()
  %took = sub i64 %now, %began
  %packets = sub nuw i64 %reached, %start
  %cost = mul i64 %took, %for
  %usual = mul i64 %spent, %packets
  %less = icmp ult i64 %cost, %usual
  %turns = and i1 %trial, %less
  %pays.next = xor i1 %paid, %turns
  %twice = shl i64 %length.next, 1
  %longer = call i64 @llvm.umin.i64(i64 %twice, i64 {LONGEST})
  %length.tried = select i1 %turns, i64 {SHORTEST}, i64 %longer
  %length.after = select i1 %trial, i64 %length.tried, i64 %length.next
  %spent.next = select i1 %trial, i64 %spent, i64 %took
  %for.next = select i1 %trial, i64 %for, i64 %packets
  %trial.next = xor i1 %trial, true
  %further = icmp ult i64 %reached, %n
  br i1 %further, label %block, label %all
"""
    return before, _CALL, after


def _by_block(split: Split) -> tuple[str, str, str]:
    """A block of packets after the other: first a look at each, then each is run. Looking for keys is left out where it would not pay."""
    n, size = split.number, hint_ir.size(split.layout)
    before = f"""begin:
  %hints = alloca [{size} x i8], align 64
  store i32 0, ptr %hints, align 4
  %slot.hint = getelementptr inbounds i8, ptr %hints, i64 {hint_ir.SLOT}
  store i32 {hint_ir.NOWHERE}, ptr %slot.hint, align 4
  %map.slot = getelementptr inbounds i8, ptr %state, i64 {MAPS + 8 * n}
  %map = load ptr, ptr %map.slot, align 8, !invariant.load !1
  %count.at = getelementptr inbounds i8, ptr %map, i64 {COUNT}
  %count = load atomic i32, ptr %count.at monotonic, align 4
  %large = icmp uge i32 %count, {split.entries}
  %many = icmp uge i64 %n, {AHEAD}
  %splits = and i1 %large, %many
  br i1 %splits, label %fresh, label %block

fresh:
  call void @llvm.memset.p0.i64(ptr align 64 %hints, i8 0, i64 {size}, i1 false)
  br label %block

block:
  %start = phi i64 [ 0, %begin ], [ 0, %fresh ], [ %end, %block.end ]
  %full = add nuw i64 %start, {hint_ir.BLOCK}
  %end = call i64 @llvm.umin.i64(i64 %full, i64 %n)
  %left = sub nuw i64 %n, %start
  %whole.next = icmp uge i64 %left, {2 * hint_ir.BLOCK}
  %distance = select i1 %whole.next, i64 {hint_ir.BLOCK}, i64 0
  %later = getelementptr i64, ptr %offsets, i64 %distance
  br i1 %splits, label %look, label %loop

look:
  %j = phi i64 [ %start, %block ], [ %j.next, %look ]
{_packet("%j.", "%j")}  %j.within = sub nuw nsw i64 %j, %start
  %j.hint = getelementptr inbounds i32, ptr %hints, i64 %j.within
  call void @ahead(ptr %state, ptr %j.arrived, i64 %j.length, ptr %j.hint)
  %j.next = add nuw i64 %j, 1
  %j.more = icmp ult i64 %j.next, %end
  br i1 %j.more, label %look, label %hash

hash:
  call void @map_ahead_{n}(ptr %map, ptr %hints)
  br label %loop

loop:
  %i = phi i64 [ %start, %block ], [ %start, %hash ], [ %next, %done ]
{_prefetch("%i")}{_packet("%", "%i")}  %within = sub nuw nsw i64 %i, %start
  %row = select i1 %splits, i64 %within, i64 0
  %hint = getelementptr inbounds i32, ptr %hints, i64 %row
  br label %place
"""
    call = f"  %outcome = call {RESULT} @program(ptr %state, ptr %packet, i64 %length, ptr %hint)\n"
    after = """  %more = icmp ult i64 %next, %end
  br i1 %more, label %loop, label %block.end

block.end:
  %further = icmp ult i64 %end, %n
  br i1 %further, label %block, label %all
"""
    return before, call, after
