"""The entry points beside a program: what the host calls.

i64 run(ptr state, ptr packet, i32 length)
r0; a site in the state if the run trapped.
i64 run_batch(ptr state, ptr base, i64 size, ptr offsets, ptr lengths, ptr results, i64 n, ptr copy, i64 limit)
Runs the program on n packets, number i at base + offsets[i] (u64), lengths[i] (u32) bytes long, and writes r0 to
results[i] (u64). Where `copy` is not null each packet is copied there first, so that what the program writes is lost.
The number of packets done, n unless a run trapped, or a packet is longer than `limit` or does not lie in the `size`
bytes from base; then the state has a site, or none for such a packet.
"""

from __future__ import annotations

from typing import Final

from pybpf.jit.builder import RESULT
from pybpf.jit.state import SITE

RUN: Final = "run"
RUN_BATCH: Final = "run_batch"
EXPORTS: Final = (RUN, RUN_BATCH)

AHEAD: Final = 16
"""How many packets ahead the batch loop asks for memory."""

ENTRY_POINTS: Final = f"""
define i64 @run(ptr noalias %state, ptr %packet, i32 %length) nounwind {{
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
}}

define i64 @run_batch(ptr noalias %state, ptr %base, i64 %size, ptr %offsets, ptr %lengths, ptr %results, i64 %n, ptr %copy, i64 %limit) noinline nounwind {{
entry:
  %last = sub i64 %n, 1
  %in.place = icmp eq ptr %copy, null
  %empty = icmp eq i64 %n, 0
  br i1 %empty, label %stop, label %loop

loop:
  %i = phi i64 [ 0, %entry ], [ %next, %done ]
  %far = add nuw i64 %i, {AHEAD}
  %known = icmp ult i64 %far, %n
  %ahead = select i1 %known, i64 %far, i64 %last
  %ahead.slot = getelementptr inbounds i64, ptr %offsets, i64 %ahead
  %ahead.offset = load i64, ptr %ahead.slot
  %ahead.packet = getelementptr i8, ptr %base, i64 %ahead.offset
  call void @llvm.prefetch.p0(ptr %ahead.packet, i32 0, i32 3, i32 1)
  %offset.slot = getelementptr inbounds i64, ptr %offsets, i64 %i
  %offset = load i64, ptr %offset.slot
  %length.slot = getelementptr inbounds i32, ptr %lengths, i64 %i
  %length.narrow = load i32, ptr %length.slot
  %length = zext i32 %length.narrow to i64
  %begins = icmp ule i64 %offset, %size
  %room = sub i64 %size, %offset
  %ends = icmp ule i64 %length, %room
  %short = icmp ule i64 %length, %limit
  %inside = and i1 %begins, %ends
  %fits = and i1 %inside, %short
  br i1 %fits, label %place, label %stop, !prof !0

place:
  %arrived = getelementptr inbounds i8, ptr %base, i64 %offset
  br i1 %in.place, label %call, label %move

move:
  call void @llvm.memcpy.p0.p0.i64(ptr %copy, ptr %arrived, i64 %length, i1 false)
  br label %call

call:
  %packet = phi ptr [ %arrived, %place ], [ %copy, %move ]
  %outcome = call {RESULT} @program(ptr %state, ptr %packet, i64 %length)
  %value = extractvalue {RESULT} %outcome, 0
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
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %stop

stop:
  %finished = phi i64 [ 0, %entry ], [ %i, %loop ], [ %i, %over.early ], [ %next, %done ]
  ret i64 %finished
}}
"""
