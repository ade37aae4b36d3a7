"""The verifier: proves that a program is safe to run, or says why it could not.

`verify` proves, for every input and every content of the maps:

* **Structure.** Every instruction is known and within the policy's ISA level, its reserved fields are zero; jumps and calls stay
  in range; no path falls off the end; every instruction is reachable; functions do not recurse and nest at most 8 deep.
* **Termination.** Every run ends, within `Facts.max_instructions` instructions; or, by policy, there is no loop at all.
* **Registers.** Nothing is read before it is written; r1 to r5 are unreadable after a call; r10 is never written.
* **Memory.** Every load, store and atomic access lies inside the packet, the frame, a map value or a field of the context, and is
  allowed there; null is never dereferenced; no stack byte is read before it is written (by policy: it reads as zero).
* **Calls.** Every helper is one of the program type's, and gets the arguments that its contract demands; what it acquires is
  given back before the program ends.
* **Pointers.** Arithmetic keeps them inside their object; by policy none leaves the program as a number.
* **Result.** r0 is a number at exit, within the type's range.

It does not prove that a program means what its author wanted, that two runs on two threads do not race on a map value, or
anything about the time that a helper takes. What may be read as fact by others is in `pybpf.verifier.facts`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pybpf.verifier.verification import check, verify

__all__ = ["check", "verify"]


def __getattr__(name: str) -> object:
    # Who runs code that is compiled already reads `pybpf.verifier.facts`, and need not wait for the search to be loaded.
    if name in __all__:
        return getattr(import_module("pybpf.verifier.verification"), name)
    raise AttributeError(f"module 'pybpf.verifier' has no attribute {name!r}")
