"""What a register or a stack slot holds in an abstract state.

    None       nothing that may be read: never written, dead, or clobbered by a call
    Number     a set of numbers, and what is known of its identity
    Pointer    an address: what it points into, and where
    Pieces     (stack slots only) eight bytes written in parts

**Identity.** A number's `form` is (atoms, delta): the number equals the sum of the atoms plus delta, modulo 2**64. An atom names
the instruction that defined a value nobody knows more about, so two registers with the same atoms hold the same unknown at
a known distance: a check on one is a check on the other, wherever the copy lies. The packet's length is an atom like any
other, and a pointer's variable part carries the atoms of the number that was added, which is how a comparison of the
length with ``ihl * 4 + 34`` becomes a fact about ``packet + ihl * 4``.

Everything here is immutable and interned in one `Values` per verification: equality is identity.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Final, NamedTuple

from pybpf.instruction import ByteOrder
from pybpf.semantics import U64, signed
from pybpf.verifier.scalar import Numbers, Scalar, describe

Atom = Hashable
Atoms = tuple[Atom, ...]
Form = tuple[Atoms, int]

LENGTH: Final[Atom] = "length"
"""The identity of the packet's length."""

METADATA: Final[Atom] = "metadata"
"""Marks what is proved of the metadata before the packet, which is so many bytes from `data_meta` on."""

MAX_ATOMS: Final = 4
"""A sum of more unknowns than this gets an identity of its own: nobody compares such sums twice."""


class Target(Enum):
    """What a pointer points into."""

    __hash__ = object.__hash__  # each is one object; Enum's own hash is that of the name, computed in Python

    STACK = "stack"  # `number` is the depth of the frame; offsets from its r10
    PACKET = "packet"
    PACKET_END = "packet_end"
    PACKET_META = "packet_meta"  # the metadata that ends where the packet begins
    CONTEXT = "context"
    MAP = "map"  # the map itself; `number` as `pybpf.verifier.prove.Prover.maps` counts
    MAP_VALUE = "map_value"  # a value of map `number`
    OBJECT = "object"  # a structure of the kernel's; `number` is its position in Values.objects
    RECORD = "record"  # bytes that the program was given, likewise
    FUNCTION = "function"  # `number` is its pc


class Object(NamedTuple):
    """What a pointer to an object or a record points to.

    `kind` is a name of `pybpf.program_types.OBJECTS`, or one without a layout; `size` are the bytes of a record. `reference`
    names what must be given back, if the pointer lives no longer than that.
    """

    kind: str
    size: int = 0
    reference: Atom | None = None


_NONE: Final[frozenset[Atom]] = frozenset()


@lru_cache(maxsize=1 << 14)
def bases_of(atoms: Atoms) -> frozenset[Atom]:
    """The definitions that an identity depends on, those inside a shifted sum too."""
    found: set[Atom] = set()
    for atom in atoms:
        if isinstance(atom, tuple) and atom[0] == "lsh":
            found |= bases_of(atom[1])
        else:
            found.add(atom)
    return frozenset(found)


Likeness = tuple[Hashable, Hashable, Hashable]
"""What two cells have in common if they differ in nothing but ranges; in constants; in offsets: three keys, from fine to coarse."""

NUMBER: Final = "number"
"""The likeness of all numbers of which nothing more is asked."""


class Number:
    """A set of numbers with an identity, None where it has none (a constant needs none)."""

    __slots__ = ("alike", "bases", "form", "names", "packet", "scalar", "value")

    def __init__(self, scalar: Scalar, form: Form | None) -> None:
        self.scalar: Final = scalar
        self.form: Final = form
        self.value: Final = scalar.value
        """The number, where there is only one."""
        self.bases: Final = bases_of(form[0]) if form is not None else _NONE
        """The definitions that the identity depends on."""
        self.names: Final[frozenset[Atom]] = self.bases
        """All that relates it to other values."""
        self.packet: Final = False
        self.alike: Final[Likeness] = (NUMBER if self.value is None else self.value, NUMBER, NUMBER)

    def __repr__(self) -> str:
        return describe(self.scalar)


class Pointer:
    """An address: start of the target + `variable` + `offset`.

    `variable` is a signed number, None for a constant address; `atoms` is its identity, None if it has none (then nothing
    can be proved about it by comparison). `null` is not None where the pointer may be null instead, and names the
    question: pointers with one `null` are all null or none is.
    """

    __slots__ = (
        "alike",
        "atoms",
        "bases",
        "names",
        "null",
        "number",
        "offset",
        "packet",
        "target",
        "variable",
    )

    def __init__(
        self,
        target: Target,
        number: int,
        offset: int,
        variable: Scalar | None,
        atoms: Atoms | None,
        null: Atom | None,
    ) -> None:
        self.target: Final = target
        self.number: Final = number
        self.offset: Final = offset
        self.variable: Final = variable
        self.atoms: Final = atoms
        self.null: Final = null
        self.bases: Final = bases_of(atoms) if atoms else _NONE
        self.names: Final = self.bases if null is None else self.bases | {("null", null)}
        """All that relates it to other values: the definitions, and the question of null."""
        self.packet: Final = target in (Target.PACKET, Target.PACKET_META)
        """Whether it points to bytes of the packet or its metadata."""
        where = offset if variable is None else None
        fine = (target, number, null is None, where)
        self.alike: Final[Likeness] = (fine, fine, fine[:3])

    @property
    def low(self) -> int:
        """The least offset from the start of the target."""
        return self.offset if self.variable is None else self.offset + self.variable.wide.smin

    @property
    def high(self) -> int:
        """The greatest offset from the start of the target."""
        return self.offset if self.variable is None else self.offset + self.variable.wide.smax

    def __repr__(self) -> str:
        where = (
            f"{self.offset:+d}" if self.variable is None else f"{self.offset:+d}+({describe(self.variable)})"
        )
        number = f"[{self.number}]" if self.target in (Target.MAP, Target.MAP_VALUE) else ""
        return f"{self.target.value}{number}{where}{' or null' if self.null is not None else ''}"


class Pieces:
    """Eight bytes of stack in parts: (first byte, size, value), in order; bytes in no part were never written."""

    __slots__ = ("alike", "bases", "names", "packet", "parts")

    def __init__(self, parts: tuple[tuple[int, int, Number | Pointer], ...]) -> None:
        self.parts: Final = parts
        self.bases: Final = _NONE.union(*(value.bases for _, _, value in parts))
        self.names: Final = _NONE.union(*(value.names for _, _, value in parts))
        self.packet: Final = False
        numbers = all(isinstance(value, Number) for _, _, value in parts)
        coarse = NUMBER if numbers else "pieces"
        fine = tuple((first, size, value.alike[0]) for first, size, value in parts)
        self.alike: Final[Likeness] = (fine, coarse, coarse)

    def __repr__(self) -> str:
        return (
            "{"
            + ", ".join(f"{first}..{first + size - 1}: {value!r}" for first, size, value in self.parts)
            + "}"
        )


Value = Number | Pointer
Cell = Number | Pointer | Pieces | None


class Values:
    """The interning tables of one verification."""

    def __init__(self, *, leaks: bool = True, byteorder: ByteOrder = "little") -> None:
        self.numbers: Final = Numbers()
        self.leaks: Final = leaks
        """Whether an address may be read as a number (`Policy.pointer_leaks`)."""
        self.byteorder: Final = byteorder
        """Which of a stored number's bytes comes first."""
        self._numbers: dict[tuple[Scalar, Form | None], Number] = {}
        self._pointers: dict[tuple[Target, int, int, Scalar | None, Atoms | None, Atom | None], Pointer] = {}
        self._pieces: dict[tuple[tuple[int, int, Value], ...], Cell] = {}
        self.objects: Final[list[Object]] = []
        self._objects: dict[Object, int] = {}
        self.unknown: Final = self.number(self.numbers.unknown, None)

    @property
    def count(self) -> int:
        """How many values there are, and scalars in them."""
        return len(self._numbers) + len(self._pointers) + len(self._pieces) + len(self.numbers)

    def number(self, scalar: Scalar, form: Form | None) -> Number:
        """The number of a scalar and an identity; a constant drops its identity."""
        key = (scalar, None if scalar.value is not None else form)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = Number(*key)
        return number

    def pinned(self, scalar: Scalar, form: Form) -> Number:
        """A number that keeps its identity even as a constant: how a loop's counter is known again where its value is known."""
        key = (scalar, form)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = Number(scalar, form)
        return number

    def constant(self, x: int) -> Number:
        """Exactly x modulo 2**64."""
        return self.number(self.numbers.constant(x & U64), None)

    def bytes(self, size: int) -> Number:
        """Any number of so many bytes, of which nobody knows more."""
        return self.number(self.numbers.unsigned(0, (1 << 8 * size) - 1), None)

    def defined(self, scalar: Scalar, atom: Atom) -> Number:
        """A number that an instruction has just made and nothing else holds yet."""
        return self.number(scalar, ((atom,), 0))

    def pointer(
        self,
        target: Target,
        number: int = 0,
        offset: int = 0,
        variable: Scalar | None = None,
        atoms: Atoms | None = (),
        null: Atom | None = None,
    ) -> Pointer:
        """The pointer of these parts; a variable part of one number becomes part of the offset."""
        if variable is not None and variable.value is not None:
            offset, variable, atoms = offset + signed(variable.value, 64), None, ()
        key = (target, number, offset, variable, atoms, null)
        pointer = self._pointers.get(key)
        if pointer is None:
            pointer = self._pointers[key] = Pointer(*key)
        return pointer

    def object(self, object: Object) -> int:
        """The number of an object, in `objects`."""
        number = self._objects.get(object)
        if number is None:
            number = self._objects[object] = len(self.objects)
            self.objects.append(object)
        return number

    def object_of(self, p: Pointer) -> Object | None:
        """What a pointer to an object or a record points to; None for any other."""
        return self.objects[p.number] if p.target in (Target.OBJECT, Target.RECORD) else None

    def moved(self, p: Pointer, *, null: Atom | None) -> Pointer:
        """The same address with another answer to the question of null."""
        return self.pointer(p.target, p.number, p.offset, p.variable, p.atoms, null)

    def pieces(self, parts: tuple[tuple[int, int, Value], ...]) -> Cell:
        """A slot of these parts: one part of eight bytes is the value itself, no parts are nothing."""
        if not parts:
            return None
        if parts[0][1] == 8:
            return parts[0][2]
        cell = self._pieces.get(parts)
        if cell is None:
            cell = self._pieces[parts] = Pieces(parts)
        return cell

    def form_of(self, n: Number) -> Form | None:
        """A number as a sum: a constant is a sum of nothing."""
        return ((), signed(n.value, 64)) if n.value is not None else n.form


def add_forms(a: Form | None, b: Form | None) -> Form | None:
    """The identity of a sum, None where an operand has none or there are too many atoms."""
    if a is None or b is None or len(a[0]) + len(b[0]) > MAX_ATOMS:
        return None
    return tuple(sorted(a[0] + b[0], key=repr)), signed(a[1] + b[1], 64)


def subtract_forms(a: Form | None, b: Form | None) -> Form | None:
    """The identity of a difference: b's atoms must all be among a's, and cancel."""
    if a is None or b is None:
        return None
    atoms = list(a[0])
    for atom in b[0]:
        if atom not in atoms:
            return None
        atoms.remove(atom)
    return tuple(atoms), signed(a[1] - b[1], 64)


def proof_of(p: Pointer, *, whole: bool = False) -> Atoms | None:
    """The name under which a state proves how many bytes lie behind the start of a pointer's target plus its variable part.

    `whole`: behind the start itself. None where the variable part has no identity.
    """
    atoms = () if whole else p.atoms
    return (METADATA, *atoms) if p.target is Target.PACKET_META and atoms is not None else atoms


def mentions(atoms: Atoms | None, atom: Atom) -> bool:
    """Whether an identity depends on an atom, directly or inside a shifted sum."""
    return bool(atoms) and atom in bases_of(atoms or ())


def renamed(atoms: Atoms, names: Mapping[Atom, Atom]) -> Atoms:
    """The identity with unknowns called otherwise."""
    out: list[Atom] = []
    for atom in atoms:
        if isinstance(atom, tuple) and atom[0] == "lsh":
            out.append(("lsh", renamed(atom[1], names), *atom[2:]))
        else:
            out.append(names.get(atom, atom))
    return tuple(sorted(out, key=repr))
