"""What a run hands to native code, and what it gets back: the one argument that carries every address of the host.

Code holds no address itself, so an object file can be kept on disk and loaded again. The layout, in bytes:

     0  site      0, or why and where the run stopped: trap code in the upper half, pc in the lower
     8  address   the address to blame, 0 where none is
    16  clock     null, or the host's: i64 (ptr state, i64 site)
    24  context   the bytes of the context's scalar fields
    32  helper    runs helpers that are written in Python: see `pybpf.jit.callback`
    40  budget    how many instructions a run may execute, for code that counts them
    48  maps      the blocks of maps 0, 1, ...
     *  edges     where the metadata in front of the packet begins, the packet itself, and what is
                  behind it: offsets from where it arrived, for programs that move it (`edge`)
     *  time      nanoseconds that a run may take, for code that looks at the time (`edge`)
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from pybpf.semantics import U64, signed

SITE: Final = 0
ADDRESS: Final = 8
CLOCK: Final = 16
CONTEXT: Final = 24
HELPER: Final = 32
BUDGET: Final = 40
MAPS: Final = 48
META, HEAD, END, TIME = range(4)


def edge(which: int, maps: int) -> int:
    """Where the state of a program with so many maps has an edge of the packet, META, HEAD or END, or TIME."""
    return MAPS + 8 * (maps + which)


class TrapCode(IntEnum):
    """Why a run stopped."""

    ACCESS = 1  # an address outside the regions that the verifier named
    UNREACHED = 2  # an instruction that the verifier never reached
    MISALIGNED = 3  # an atomic instruction across the natural alignment
    FRAMES = 4  # a call deeper than the stack
    MAP = 5  # r1 is not a map, or not the one that the verifier named
    PYTHON = 6  # a function of the host's raised an exception
    CALLEE = 7  # a register that holds no function is called
    BUDGET = 8  # the next instructions are more than the budget; the address is how many were left
    TIME = 9  # the time is over; the address is how many instructions were left


def site(code: TrapCode, pc: int) -> int:
    """What `SITE` holds after a trap; never 0."""
    return code << 32 | pc


def unpack_site(value: int) -> tuple[TrapCode, int]:
    """The code and the pc of a site.

    >>> unpack_site(site(TrapCode.MAP, 7))
    (<TrapCode.MAP: 5>, 7)
    """
    return TrapCode(value >> 32), value & 0xFFFF_FFFF


class RunState:
    """The state of one run at a time. `failure` is the exception of a function of the host's that stopped it."""

    __slots__ = ("_context", "_words", "address", "failure")

    def __init__(self, clock: int, helper: int, maps: Sequence[int], budget: int = 0, time: int = 0) -> None:
        """Addresses of the host's functions, 0 for none, and of the maps' blocks."""
        self._words = (ctypes.c_uint64 * (MAPS // 8 + len(maps) + 4))(
            0, 0, clock, 0, helper, budget, *maps, 0, 0, 0, time
        )
        self.address = ctypes.addressof(self._words)
        self.failure: BaseException | None = None

    @property
    def site(self) -> int:
        """See the layout."""
        return self._words[SITE // 8]

    @property
    def trap_address(self) -> int:
        """The address to blame."""
        return self._words[ADDRESS // 8]

    @property
    def context(self) -> ctypes.Array[ctypes.c_char]:
        """The bytes of the context."""
        return self._context

    @context.setter
    def context(self, context: ctypes.Array[ctypes.c_char]) -> None:
        self._context = context
        self._words[CONTEXT // 8] = ctypes.addressof(context)

    @property
    def edges(self) -> tuple[int, int, int]:
        """META, HEAD and END of the run."""
        meta, head, end = (signed(word, 64) for word in self._words[-4:-1])
        return meta, head, end

    @edges.setter
    def edges(self, edges: tuple[int, int, int]) -> None:
        self._words[-4:-1] = [edge & U64 for edge in edges]

    def stop(self, site: int, failure: BaseException) -> None:
        """End the run under way when control returns to it."""
        self._words[SITE // 8], self._words[ADDRESS // 8] = site, 0
        self.failure = failure

    def clear(self) -> None:
        """Make the state ready for another run after a trap."""
        self._words[SITE // 8], self.failure = 0, None
