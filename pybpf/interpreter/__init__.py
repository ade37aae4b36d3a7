"""The reference engine: what a program means (RFC 9669), with every rule of the machine checked as it runs.

Whatever the code is, a run ends in one of three ways: a result, a `Trap` that says which rule was broken where, or
`BudgetExceeded`. It never reaches memory outside its regions. A program that was verified does not trap; the tests hold the
verifier to that and the native code to the results.

    interpreter   Interpreter: a program made ready, and the loop
    steps         what each instruction does
    execution     one run: registers, stack frames, memory

The memory of a run, with every access checked, is `pybpf.regions`.

A register holds a number, so an address says which region it points into and not which object it was made from: an access
that leaves one stack frame or one map value for its neighbour is a valid access to the neighbour. Everything else that the
verifier proves of an access is checked.
"""

from __future__ import annotations

from pybpf.interpreter.execution import Execution
from pybpf.interpreter.interpreter import Interpreter, Outcome, Trace
from pybpf.regions import Fault

__all__ = ["Execution", "Fault", "Interpreter", "Outcome", "Trace"]
