"""IR of a spin lock: a 32-bit word in a map's block, 0 when it is free.

Who holds one waits for nothing but memory: not for the GIL, not for a second lock. So it is held for some tens of nanoseconds,
and a thread that holds the GIL may wait for it.
"""

from __future__ import annotations

from pybpf.jit.bytes_ir import function


def lock(n: int) -> str:
    """``void @map_acquire_<n>(ptr %lock)`` and ``@map_release_<n>``.

    What was done before a release is seen after the acquisition that follows it.
    """
    acquire = """
entry:
  br label %try
try:
  %pair = cmpxchg weak ptr %lock, i32 0, i32 1 acquire monotonic
  %done = extractvalue { i32, i1 } %pair, 1
  br i1 %done, label %held, label %wait
wait:
  %word = load atomic i32, ptr %lock monotonic, align 4
  %free = icmp eq i32 %word, 0
  br i1 %free, label %try, label %wait
held:
  ret void
"""
    release = "  store atomic i32 0, ptr %lock release, align 4\n  ret void"
    return function(f"void @map_acquire_{n}(ptr %lock)", acquire) + function(
        f"void @map_release_{n}(ptr %lock)", release
    )
