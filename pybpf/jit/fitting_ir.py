"""IR that looks at the packets of a batch before any is run: whether they lie where packets may lie, and are not too long.

It is the same for all programs, so it is no part of their code, which is compiled each time.
"""

from __future__ import annotations

from typing import Final

FITTING: Final = """
; How many packets from the first on lie in the `size` bytes and are no longer than `limit`. A pass without branches, which does several at a time, says
; whether any does not. No sum wraps where all offsets are as they should be.
define internal i64 @fitting(i64 %size, ptr %offsets, ptr %lengths, i64 %n, i64 %limit) nounwind {
entry:
  %empty = icmp eq i64 %n, 0
  br i1 %empty, label %all, label %look

look:
  %i = phi i64 [ 0, %entry ], [ %next, %look ]
  %far = phi i64 [ 0, %entry ], [ %farther, %look ]
  %last = phi i64 [ 0, %entry ], [ %later, %look ]
  %longest = phi i32 [ 0, %entry ], [ %longer, %look ]
  %offset.slot = getelementptr inbounds i64, ptr %offsets, i64 %i
  %offset = load i64, ptr %offset.slot
  %length.slot = getelementptr inbounds i32, ptr %lengths, i64 %i
  %narrow = load i32, ptr %length.slot
  %length = zext i32 %narrow to i64
  %end = add i64 %offset, %length
  %farther = call i64 @llvm.umax.i64(i64 %far, i64 %offset)
  %later = call i64 @llvm.umax.i64(i64 %last, i64 %end)
  %longer = call i32 @llvm.umax.i32(i32 %longest, i32 %narrow)
  %next = add nuw i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %look, label %seen

seen:
  %begins = icmp ugt i64 %farther, %size
  %ends = icmp ugt i64 %later, %size
  %longest.wide = zext i32 %longer to i64
  %long = icmp ugt i64 %longest.wide, %limit
  %outside = or i1 %begins, %ends
  %worse = or i1 %outside, %long
  br i1 %worse, label %find, label %all

find:
  %j = phi i64 [ 0, %seen ], [ %after, %find ]
  %at.slot = getelementptr inbounds i64, ptr %offsets, i64 %j
  %at = load i64, ptr %at.slot
  %size.slot = getelementptr inbounds i32, ptr %lengths, i64 %j
  %size.narrow = load i32, ptr %size.slot
  %bytes = zext i32 %size.narrow to i64
  %starts = icmp ugt i64 %at, %size
  %left = sub i64 %size, %at
  %stops = icmp ugt i64 %bytes, %left
  %large = icmp ugt i64 %bytes, %limit
  %beyond = or i1 %starts, %stops
  %first = or i1 %beyond, %large
  %after = add nuw i64 %j, 1
  br i1 %first, label %found, label %find

found:
  ret i64 %j

all:
  ret i64 %n
}
"""
"""``i64 fitting(i64 size, ptr offsets, ptr lengths, i64 n, i64 limit)``, with the arguments of the entry point `run_batch`."""
