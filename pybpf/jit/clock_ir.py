"""The clock of a program type as machine code, unless the host has put its own into the run's state."""

from __future__ import annotations

import time
from typing import Final

from pybpf.jit.state import CLOCK
from pybpf.program_types import Clock

NUMBERS: Final = {time.monotonic_ns: time.CLOCK_MONOTONIC, time.time_ns: time.CLOCK_REALTIME}
"""The clocks of program types (`program_types.CLOCKS`) by their number for clock_gettime(2)."""


def now(clock: Clock) -> str:
    """The text of ``i64 now(ptr state, i64 site)``: nanoseconds, which needs `time_ir.CLOCK`. A site comes back in the state if the host's clock fails."""
    return f"""
define internal i64 @now(ptr %state, i64 %site) nounwind {{
entry:
  %time = alloca {{ i64, i64 }}
  %slot = getelementptr inbounds i8, ptr %state, i64 {CLOCK}
  %host = load ptr, ptr %slot, !invariant.load !1
  %default = icmp eq ptr %host, null
  br i1 %default, label %machine, label %given

given:
  %told = call i64 %host(ptr %state, i64 %site)
  ret i64 %told

machine:
  %status = call i32 @clock_gettime(i32 {NUMBERS[clock]}, ptr %time)
  %seconds = load i64, ptr %time
  %fraction.slot = getelementptr inbounds i8, ptr %time, i64 8
  %fraction = load i64, ptr %fraction.slot
  %whole = mul i64 %seconds, 1000000000
  %total = add i64 %whole, %fraction
  ret i64 %total
}}
"""
