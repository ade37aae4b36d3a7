"""Whether one state stands for all that another stands for, given what the unknowns of the one are in the other.

This is the meaning of states (docs/soundness.md) written down: for every choice of the arriving state's unknowns, the named sums give
a choice of the claim's under which all that the claim says is true. Nothing is searched for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pybpf.semantics import U64, signed
from pybpf.verifier.certificate import NOT_NULL, NULL, Answer, halved, place_of
from pybpf.verifier.scalar import Scalar, includes
from pybpf.verifier.state import State, parts_of, read_bytes
from pybpf.verifier.values import (
    METADATA,
    Atom,
    Atoms,
    Cell,
    Form,
    Number,
    Pieces,
    Pointer,
    Target,
    Value,
    Values,
)

_HALF: Final = 1 << 63
_FAR: Final = 1 << 32
"""Less than this: no sum of a few such numbers and a packet's length wraps."""


class NotIncluded(Exception):
    """Some run that the arriving state stands for is none that the claim stands for, as far as is shown."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A state as a point claims it: of each frame, the entry function's first, the cells of which something is claimed."""

    frames: tuple[Mapping[int, Cell], ...]
    proofs: Mapping[Atoms, int]
    held: frozenset[Atom]


class Inclusion:
    """One question: is `arriving` included in a claim whose unknowns are `names` and whose questions have `answers` there?"""

    def __init__(
        self, values: Values, arriving: State, names: Mapping[Atom, Form], answers: Mapping[Atom, Answer]
    ) -> None:
        self.values = values
        self.numbers = values.numbers
        self.arriving = arriving
        self.names = names
        self.answers = answers
        self._renamed = {*names, *(("null", question) for question in answers)}

    def check(self, claim: Claim) -> None:
        """Raises `NotIncluded`."""
        arriving = self.arriving
        if len(claim.frames) != len(arriving.frames) + 1:
            raise NotIncluded("it has other frames")
        frames = [frame.cells for frame in arriving.frames]
        for depth, (a, b) in enumerate(zip(claim.frames, (*frames, arriving.cells), strict=True)):
            self._frame(depth, a, b)
        if len(claim.held) != len(arriving.held) or set(map(self._answer, claim.held)) != arriving.held:
            raise NotIncluded("something else is held")
        for atoms, size in claim.proofs.items():
            self._proof(atoms, size)

    def _frame(self, depth: int, claim: Mapping[int, Cell], arriving: Sequence[Cell]) -> None:
        for index, a in claim.items():
            b = arriving[index]
            if a is b and self._is_untouched(a):
                continue
            if isinstance(a, Pieces) or isinstance(b, Pieces):
                self._pieces(a, b, depth, index)
            elif a is None or b is None:
                raise NotIncluded(f"nothing is in {describe(depth, index)}")
            else:
                self._value(a, b, place_of(depth, index))

    def _is_untouched(self, cell: Cell) -> bool:
        """Whether nothing that a cell depends on is renamed."""
        if cell is None or (self.answers and isinstance(cell, Pointer) and self.values.object_of(cell)):
            return cell is None
        return cell.names.isdisjoint(self._renamed)

    def _value(self, a: Value, b: Value, place: Atom) -> None:
        if isinstance(a, Pointer):
            self._pointer(a, b, place)
        elif isinstance(b, Number):
            if not includes(a.scalar, b.scalar):
                raise NotIncluded(f"{b!r} is not within {a!r}")
            if a.form is not None and not self._is_sum(a.form, b, place):
                raise NotIncluded(f"{b!r} is not the sum that {a!r} is")
        else:
            # An address is some number of 64 bits, where that may be known.
            any_number = self.values.leaks and a.scalar is self.numbers.unknown
            if not any_number or (a.form is not None and self._sum(a.form) != ((place,), 0)):
                raise NotIncluded(f"{b!r} is an address and {a!r} a number")

    def _is_sum(self, form: Form, b: Number, place: Atom) -> bool:
        """Whether the claim's sum is a number that arrives: by its identity, by its value, or as a multiple."""
        total = self._sum(form)
        if total == self._form(b, place) or (b.value is not None and total == ((), signed(b.value, 64))):
            return True
        atoms, delta = total
        if len(atoms) != 1 or not isinstance(atoms[0], tuple) or atoms[0][0] != "lsh":
            return False
        _, inner, _, amount, unsigned, signs = atoms[0]
        if inner != (halved(place),):
            return False
        # The unknown occurs only here. It is b - delta shifted right, less what is added to it: then nothing is lost on the way back.
        shifted = self.numbers.alu("sub", 64, b.scalar, self.numbers.constant(delta & U64)).wide
        low = (1 << amount) - 1
        return not (shifted.value | shifted.mask) & low and (not (unsigned and signs) or shifted.smin >= 0)

    def _pointer(self, a: Pointer, b: Value, place: Atom) -> None:
        if isinstance(b, Number):
            if b.value != 0 or a.null is None or self._answer(a.null) != NULL:
                raise NotIncluded(f"{b!r} is a number and {a!r} an address")
            if a.target is Target.STACK and a.number > len(self.arriving.frames):
                raise NotIncluded(f"{a!r} is of a frame that is not there")
            return
        if a.target is not b.target or self._target(a) != self._target(b, claimed=False):
            raise NotIncluded(f"{b!r} points elsewhere than {a!r}")
        answer = NOT_NULL if b.null is None else b.null
        if a.null is None and b.null is not None:
            raise NotIncluded(f"{b!r} may be null")
        if a.null is not None and self._answer(a.null) != answer:
            raise NotIncluded(f"{b!r} is null when {a!r} is not, or the other way round")
        # start + offset of a + variable of a = start + offset of b + variable of b, as integers
        distance = b.offset - a.offset
        if a.variable is None:
            if b.variable is not None or distance:
                raise NotIncluded(f"{b!r} is not at {a!r}")
            return
        if not includes(a.variable, self._moved(b.variable or self.numbers.constant(0), distance)):
            raise NotIncluded(f"{b!r} is not within {a!r}")
        if a.atoms is not None:
            if b.variable is None:
                form: Form = ((), distance)
            else:
                form = ((place,) if b.atoms is None else b.atoms, distance)
            if self._sum((a.atoms, 0)) != form:
                raise NotIncluded(f"{b!r} is not moved by the sum that {a!r} is")

    def _moved(self, variable: Scalar, distance: int) -> Scalar:
        if not -_HALF <= variable.wide.smin + distance <= variable.wide.smax + distance < _HALF:
            raise NotIncluded("an offset wraps")
        return self.numbers.alu("add", 64, variable, self.numbers.constant(distance & U64))

    def _target(self, p: Pointer, *, claimed: bool = True) -> object:
        object = self.values.object_of(p)
        if object is None or object.reference is None or not claimed:
            return p.number if object is None else object
        return object._replace(reference=self._answer(object.reference))

    def _pieces(self, a: Cell, b: Cell, depth: int, index: int) -> None:
        """Part by part. What arrives otherwise divided is what a load of these bytes would give."""
        parts = {(first, size): value for first, size, value in parts_of(b)}
        pointers = {
            first + i for (first, size), v in parts.items() if isinstance(v, Pointer) for i in range(size)
        }
        for first, size, value in parts_of(a):
            other = parts.get((first, size))
            if other is None:
                other = read_bytes(self.values, b, first, size)
                if other is None or (
                    not self.values.leaks and not pointers.isdisjoint(range(first, first + size))
                ):
                    raise NotIncluded(f"not all bytes of {describe(depth, index)} hold numbers")
            self._value(value, other, place_of(depth, index, first))

    def _proof(self, atoms: Atoms, size: int) -> None:
        """What the claim proves behind its sum is proved behind what the sum is here.

        Both sums are the same 64-bit number, and so are they as signed numbers where they do not wrap: not upwards, since the
        arriving sum is below what is proved behind it; nor downwards, unless it is moved down.
        """
        there, distance = self._sum((atoms, 0))
        wraps = distance < 0 and any(atom != METADATA for atom in there)
        if wraps or abs(distance) >= _FAR or abs(size) >= _FAR:
            raise NotIncluded("a proof of the packet's length is about numbers that may wrap")
        if self.arriving.proved(there) < size + distance:
            raise NotIncluded("the packet is not proved to be as long")

    def _answer(self, question: Atom) -> Answer:
        return self.answers.get(question, question)

    def _form(self, b: Number, place: Atom) -> Form:
        """A number as a sum; one without identity is an unknown of its own."""
        return b.form or self.values.form_of(b) or ((place,), 0)

    def _sum(self, form: Form) -> Form:
        return substituted(form, self.names)


def substituted(form: Form, names: Mapping[Atom, Form]) -> Form:
    """A sum of unknowns, of which some are sums of others. Raises `NotIncluded` where a shift would lose bits."""
    atoms, total = form
    out: list[Atom] = []
    for atom in atoms:
        if isinstance(atom, tuple) and atom[0] == "lsh":
            inner, delta = substituted((atom[1], atom[2]), names)
            if inner:
                out.append(("lsh", inner, delta, *atom[3:]))
            else:
                total += _shifted(delta, *atom[3:])
        else:
            more, delta = names.get(atom, ((atom,), 0))
            out += more
            total += delta
    return tuple(sorted(out, key=repr)), signed(total & U64, 64)


def _shifted(number: int, amount: int, unsigned: bool, signs: bool) -> int:
    """A number shifted left, if the shift loses no bit of it as its flags say. Raises `NotIncluded`."""
    lost = (unsigned and (number & U64) >> (64 - amount)) or (
        signs and not -_HALF <= number << amount < _HALF
    )
    if lost:
        raise NotIncluded("a shift loses bits")
    return number << amount


def describe(depth: int, index: int) -> str:
    """A cell in words."""
    name = f"r{index}" if index <= 10 else f"the stack slot {8 * (10 - index)}"
    return f"{name} of frame {depth}"
