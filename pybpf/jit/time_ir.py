"""IR that bounds the time of a run: instructions are given out by the slice, and the clock is read between two.

    { i64, i1 } @refill(ptr %state, ptr %fuel, i64 %left, i64 %wanted)

%fuel is to three words: what is left of the slice, what is left of the budget beside it, and when the run must end, 0 before the first slice. The result is what is left then,
at least what is wanted if there is as much; or, if it is too late, all that is left, and true.
"""

from __future__ import annotations

import time
from typing import Final

from pybpf.jit.builder import RESULT

SLICE: Final = 1 << 16
"""Instructions between two looks at the clock."""

CLOCK: Final = "declare i32 @clock_gettime(i32, ptr)\n"
"""What reads clocks."""


def refill(limit: int) -> str:
    """The function; how many nanoseconds a run may take stands `limit` bytes from the start of the state."""
    return f"""
define internal {RESULT} @refill(ptr %state, ptr %fuel, i64 %left, i64 %wanted) noinline cold nounwind {{
entry:
  %time = alloca {{ i64, i64 }}
  %status = call i32 @clock_gettime(i32 {time.CLOCK_MONOTONIC}, ptr %time)
  %seconds = load i64, ptr %time
  %fraction.slot = getelementptr inbounds i8, ptr %time, i64 8
  %fraction = load i64, ptr %fraction.slot
  %whole = mul i64 %seconds, 1000000000
  %now = add i64 %whole, %fraction
  %limit.slot = getelementptr inbounds i8, ptr %state, i64 {limit}
  %limit = load i64, ptr %limit.slot
  %due = call i64 @llvm.uadd.sat.i64(i64 %now, i64 %limit)
  %end.slot = getelementptr inbounds i8, ptr %fuel, i64 16
  %known = load i64, ptr %end.slot
  %first = icmp eq i64 %known, 0
  %end = select i1 %first, i64 %due, i64 %known
  store i64 %end, ptr %end.slot
  %late = icmp uge i64 %now, %end
  %rest.slot = getelementptr inbounds i8, ptr %fuel, i64 8
  %rest = load i64, ptr %rest.slot
  %all = add i64 %left, %rest
  %most = call i64 @llvm.umax.i64(i64 %wanted, i64 {SLICE})
  %slice = call i64 @llvm.umin.i64(i64 %rest, i64 %most)
  %after = sub i64 %rest, %slice
  store i64 %after, ptr %rest.slot
  %more = add i64 %left, %slice
  %result = select i1 %late, i64 %all, i64 %more
  %pair = insertvalue {RESULT} poison, i64 %result, 0
  %both = insertvalue {RESULT} %pair, i1 %late, 1
  ret {RESULT} %both
}}
"""
