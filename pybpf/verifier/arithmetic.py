"""What an ALU instruction makes of abstract values: numbers, their identities, and pointers.

For numbers the range comes from `Numbers.alu`; this file says what becomes of the identity. Each rule is an equation
between 64-bit numbers that holds for every operand in range, so that a fact about the result is one about the operand.
"""

from __future__ import annotations

from typing import Final

from pybpf.program_types import Policy
from pybpf.semantics import U32, signed
from pybpf.verifier.explain import Refusal
from pybpf.verifier.scalar import Scalar
from pybpf.verifier.values import (
    Atom,
    Form,
    Number,
    Pointer,
    Target,
    Value,
    Values,
    add_forms,
    subtract_forms,
)

MAX_OFFSET: Final = 1 << 29
"""No pointer is further than this from the start of its target (Linux, BPF_MAX_VAR_OFF), so offsets never wrap."""

_MOVABLE: Final = frozenset(
    {Target.STACK, Target.PACKET, Target.PACKET_META, Target.MAP_VALUE, Target.RECORD, Target.CONTEXT}
)
_OPERATORS: Final = {"add": "+=", "sub": "-="}


class Arithmetic:
    """The operations on values under a policy. `length` is the identity of the packet's length."""

    def __init__(self, values: Values, policy: Policy, length: Value) -> None:
        self.values = values
        self.numbers = values.numbers
        self.policy = policy
        self.length = length

    def alu(self, code: str, width: int, a: Value, b: Value, atom: Atom) -> Value:
        """`a` `code` `b`; `atom` names the result if nothing else does."""
        if isinstance(a, Number) and isinstance(b, Number):
            return self._numbers(code, width, a, b, atom)
        if code == "mov":
            return self._move_pointer(width, b)
        if code in ("add", "sub") and width == 64:
            return self._move_by(code, a, b, atom)
        if code == "sub" and self.policy.pointer_leaks:
            # The lower half of a difference of addresses is a number that means nothing, and harmless where addresses may leak.
            return self.values.defined(self.numbers.unsigned(0, U32), atom)
        return self._number_of_pointer(code, width, a if isinstance(a, Pointer) else b)

    def _numbers(self, code: str, width: int, a: Number, b: Number, atom: Atom) -> Number:
        scalar = self.numbers.alu(code, width, a.scalar, b.scalar)
        if scalar.value is not None:
            return self._constant(code, width, a, b, scalar)
        form = self._identity(code, width, a, b, scalar)
        if form is not None and not form[0]:
            # The atoms cancelled: the difference of two numbers with one unknown is a constant, whatever the ranges say.
            return self.values.constant(form[1])
        return self.values.number(scalar, form or ((atom,), 0))

    def _constant(self, code: str, width: int, a: Number, b: Number, scalar: Scalar) -> Number:
        """A constant that comes from one with an identity, and moved by a constant, keeps it."""
        if (a.form or b.form) and width == 64 and code in ("add", "sub", "mov"):
            left, right = a.form or self.values.form_of(a), b.form or self.values.form_of(b)
            form = right if code == "mov" else (add_forms if code == "add" else subtract_forms)(left, right)
            if form is not None and form[0]:
                return self.values.pinned(scalar, form)
        return self.values.number(scalar, None)

    def _identity(self, code: str, width: int, a: Number, b: Number, result: Scalar) -> Form | None:
        """The form of a result that is a sum of what the operands are sums of, None where it is something new."""
        if code in ("mov", "le", "movs8", "movs16", "movs32"):
            return b.form if self._same(b.scalar, code, width) else None
        if width == 32 and not self._exact_in_32(code, a.scalar, b.scalar):
            return None
        if code == "add":
            return add_forms(self.values.form_of(a), self._signed_form(b, width))
        if code == "sub":
            return subtract_forms(self.values.form_of(a), self._signed_form(b, width))
        if b.value is None:
            return None
        k = b.value & (width - 1)
        possible = a.scalar.wide.value | a.scalar.wide.mask
        if code == "and" and possible & ~b.value == 0:
            return a.form
        if code in ("or", "xor") and b.value == 0:
            return a.form
        if code in ("lsh", "rsh", "arsh") and k == 0:
            return a.form
        if code == "mul" and b.value == 1:
            return a.form
        return self._shifted(code, k, a)

    def _same(self, b: Scalar, code: str, width: int) -> bool:
        """Whether a move leaves the number as it is: the bits that it cuts or copies the sign into change nothing."""
        if code == "mov":
            return width == 64 or b.wide.umax < 1 << 32
        bits = int(code[4:])
        half = 1 << (bits - 1)
        return -half <= b.wide.smin and b.wide.smax < half and (width == 64 or b.wide.smin >= 0)

    @staticmethod
    def _exact_in_32(code: str, a: Scalar, b: Scalar) -> bool:
        """Whether a 32-bit operation gives what the 64-bit one on the same operands gives; a constant counts with its sign."""
        x, y = a.wide, b.wide
        if x.umax >> 32:
            return False
        if code in ("add", "sub") and b.value is not None:
            step = signed(b.value, 32) if code == "add" else -signed(b.value, 32)
            return x.umin + step >= 0 and (x.umax + step) >> 32 == 0
        if y.umax >> 32:
            return False
        if code == "add":
            return (x.umax + y.umax) >> 32 == 0
        if code == "sub":
            return x.umin >= y.umax
        return code in ("and", "or", "xor")

    def _signed_form(self, b: Number, width: int) -> Form | None:
        """The second operand as a sum; a 32-bit constant counts with its sign."""
        if width == 32 and b.value is not None:
            return ((), signed(b.value, 32))
        return self.values.form_of(b)

    def _shifted(self, code: str, k: int, a: Number) -> Form | None:
        """Left shifts that lose no bit are remembered, so that the right shift back gives the number itself.

        Compilers cut numbers to 32 bits by shifting them up and down.
        """
        if a.form is None:
            return None
        atoms, delta = a.form
        wide = a.scalar.wide
        if code == "lsh":
            unsigned, signs = (
                wide.umax >> (64 - k) == 0,
                -(1 << (63 - k)) <= wide.smin and wide.smax < 1 << (63 - k),
            )
            if unsigned or signs:
                return ((("lsh", atoms, delta, k, unsigned, signs),), 0)
            return None
        if delta == 0 and len(atoms) == 1 and isinstance(atoms[0], tuple) and atoms[0][0] == "lsh":
            _, inner, inner_delta, amount, unsigned, signs = atoms[0]
            if amount == k and ((code == "rsh" and unsigned) or (code == "arsh" and signs)):
                return inner, inner_delta
        return None

    def _move_pointer(self, width: int, p: Value) -> Value:
        if width == 64:
            return p
        assert isinstance(p, Pointer)
        return self._number_of_pointer("mov", width, p)

    def _number_of_pointer(self, code: str, width: int, p: Value) -> Value:
        """Arithmetic that turns an address into a number: refused, but for moves where addresses may leak."""
        if code in ("mov", "neg") and self.policy.pointer_leaks:
            bound = (1 << width) - 1
            return self.values.number(self.numbers.unsigned(0, bound), None)
        what = "32-bit arithmetic" if width == 32 else f"{code}"
        raise Refusal("pointer-arithmetic", f"forbidden pointer arithmetic: {what} on {name_of(p)}")

    def _move_by(self, code: str, a: Value, b: Value, atom: Atom) -> Value:
        if isinstance(a, Pointer) and isinstance(b, Pointer):
            return self._difference(code, a, b, atom)
        if isinstance(a, Number):
            a, b = b, a
            if code == "sub":
                raise Refusal("pointer-arithmetic", f"forbidden pointer arithmetic: number - {name_of(a)}")
        assert isinstance(a, Pointer)
        assert isinstance(b, Number)
        if a.null is not None:
            raise Refusal(
                "maybe-null",
                f"pointer arithmetic on {name_of(a)}, which may be null",
                "a pointer that is not null",
                repr(a),
            )
        if a.target not in _MOVABLE:
            raise Refusal(
                "pointer-arithmetic", f"forbidden pointer arithmetic: {_OPERATORS[code]} on {name_of(a)}"
            )
        if code == "sub" and a.target is Target.STACK and self.policy.linux_limits:
            # Linux fears for its translators to machine code (adjust_ptr_min_max_vals).
            raise Refusal(
                "pointer-arithmetic", "forbidden pointer arithmetic: subtraction from a stack pointer"
            )
        moved = self._moved(code, a, b, atom)
        self._check_range(moved, b)
        return moved

    def _moved(self, code: str, p: Pointer, n: Number, atom: Atom) -> Pointer:
        """p + n: the constant part of n's form goes to the offset, its atoms to the variable part.

        Invariant: address = start + variable + offset as integers, and `atoms` is the identity of `variable`, the sum of
        the atoms exactly; `_check_range` keeps the integers small enough not to wrap.
        """
        form = self.values.form_of(n)
        if n.value is not None:
            step = signed(n.value, 64) if code == "add" else -signed(n.value, 64)
            return self.values.pointer(p.target, p.number, p.offset + step, p.variable, p.atoms)
        if code == "sub" or form is None or p.atoms is None:
            scalar = n.scalar if p.variable is None else self.numbers.alu(code, 64, p.variable, n.scalar)
            if p.variable is None and code == "sub":
                scalar = self.numbers.alu("neg", 64, n.scalar, n.scalar)
            return self.values.pointer(p.target, p.number, p.offset, scalar, (atom,))
        atoms, delta = form
        base = self.numbers.alu("sub", 64, n.scalar, self.numbers.constant(delta & ((1 << 64) - 1)))
        total = add_forms((p.atoms, 0), (atoms, 0))
        scalar = base if p.variable is None else self.numbers.alu("add", 64, p.variable, base)
        if total is None:
            return self.values.pointer(p.target, p.number, p.offset + delta, scalar, (atom,))
        return self.values.pointer(p.target, p.number, p.offset + delta, scalar, total[0])

    def _check_range(self, p: Pointer, n: Number) -> None:
        if p.variable is None:
            if not -MAX_OFFSET < p.offset < MAX_OFFSET:
                raise Refusal(
                    "pointer-arithmetic", f"{name_of(p)} with offset {p.offset} is out of every object"
                )
            return
        if p.target is Target.CONTEXT:
            raise Refusal(
                "pointer-arithmetic", f"forbidden pointer arithmetic: variable offset into {name_of(p)}"
            )
        assert p.variable is not None
        v = p.variable.wide
        if v.smin <= -MAX_OFFSET or v.smax >= MAX_OFFSET or not -MAX_OFFSET < p.offset < MAX_OFFSET:
            raise Refusal(
                "unbounded-offset",
                f"math between {name_of(p)} and a number that is not bounded",
                f"an offset between {-MAX_OFFSET} and {MAX_OFFSET}",
                f"the number is {n!r}",
            )

    def _difference(self, code: str, a: Pointer, b: Pointer, atom: Atom) -> Value:
        """Of two addresses only the difference means anything, and only inside one target."""
        if code != "sub":
            raise Refusal("pointer-arithmetic", f"forbidden pointer arithmetic: {name_of(a)} += {name_of(b)}")
        packet = {Target.PACKET, Target.PACKET_END}
        if a.null is None and b.null is None and {a.target, b.target} <= packet:
            difference = self._packet_difference(a, b, atom)
            if difference is not None:
                return difference
        if self.policy.pointer_leaks:
            return self.values.defined(self.numbers.unknown, atom)
        raise Refusal("pointer-arithmetic", f"forbidden pointer arithmetic: {name_of(a)} -= {name_of(b)}")

    def _packet_difference(self, a: Pointer, b: Pointer, atom: Atom) -> Value | None:
        """data_end - (packet + c) is the length - c; two packet pointers with one variable part differ by a constant."""
        assert isinstance(self.length, Number)
        if a.target is b.target and a.variable is b.variable and a.atoms == b.atoms and a.atoms is not None:
            return self.values.constant(a.offset - b.offset)
        if a.target is Target.PACKET_END and b.target is Target.PACKET and b.variable is None:
            offset = self.values.constant(b.offset)
            return self._numbers("sub", 64, self.length, offset, atom)
        return self.values.defined(self.numbers.unknown, atom)


def name_of(value: Value) -> str:
    """A value's kind as a message names it."""
    if isinstance(value, Number):
        return "a number"
    names = {
        Target.STACK: "a stack pointer",
        Target.PACKET: "a packet pointer",
        Target.PACKET_END: "the end of the packet",
        Target.PACKET_META: "a packet metadata pointer",
        Target.CONTEXT: "the context pointer",
        Target.MAP: "a map",
        Target.MAP_VALUE: "a map value pointer",
        Target.OBJECT: "a pointer to a structure of the kernel",
        Target.RECORD: "a pointer to a record",
        Target.FUNCTION: "a function",
    }
    return names[value.target]
