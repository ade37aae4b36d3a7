"""What the generator knows of the program that it writes: enough to write sensible code, and no more.

A register or slot holds a kind: a number in a range, a pointer and where it points. The generator's rules are much simpler
than the verifier's and were written apart from them. Where they are wrong a program is refused that was meant to be accepted,
or the other way round; either only costs acceptance, since what counts is what happens when the program runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

U64: Final = (1 << 64) - 1
STACK: Final = 512


@dataclass(frozen=True, slots=True)
class Num:
    """A number from `low` to `high`, unsigned. It is the unknown `name` plus `delta`; equal names are equal unknowns."""

    low: int
    high: int
    name: int
    delta: int = 0


@dataclass(frozen=True, slots=True)
class Packet:
    """The packet's first byte + the unknown `name` (0: none) + `offset`."""

    offset: int
    name: int = 0


@dataclass(frozen=True, slots=True)
class End:
    """The packet's end."""


@dataclass(frozen=True, slots=True)
class Meta:
    """The first byte of the metadata before the packet."""


@dataclass(frozen=True, slots=True)
class Context:
    """The program's context."""


@dataclass(frozen=True, slots=True)
class Frame:
    """r10 of the function's own frame + `low` to `high`."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Buffer:
    """`offset` bytes into `size` bytes of numbers that a caller lent."""

    size: int
    offset: int = 0


@dataclass(frozen=True, slots=True)
class MapValue:
    """`low` to `high` bytes into a value of a map; null too where `question` is not 0: equal questions have one answer."""

    map: str
    low: int = 0
    high: int = 0
    question: int = 0


@dataclass(frozen=True, slots=True)
class Mixed:
    """Something else on every path: it can be carried about."""


Kind = Num | Packet | End | Meta | Context | Frame | Buffer | MapValue | Mixed

LENGTH: Final = 1
"""The name of the packet's length."""


@dataclass(slots=True)
class State:
    """Registers r0 to r9, whole stack slots by their offset, the stack bytes that were written (bit 512 + offset), and how
    many bytes of packet were found behind each unknown.
    """

    registers: list[Kind | None] = field(default_factory=lambda: [None] * 10)
    slots: dict[int, Kind] = field(default_factory=dict)
    written: int = 0
    proofs: dict[int, int] = field(default_factory=dict)

    def copy(self) -> State:
        """A state that can be changed apart from this one."""
        return State(self.registers.copy(), self.slots.copy(), self.written, self.proofs.copy())

    def proved(self, packet: Packet) -> int:
        """How many bytes may be accessed from the pointer on; negative where none."""
        return self.proofs.get(packet.name, 0) - packet.offset

    def prove(self, packet: Packet, size: int) -> None:
        """`size` bytes were found from the pointer on."""
        self.proofs[packet.name] = max(self.proofs.get(packet.name, 0), packet.offset + size)

    def rewrite(self, over: Callable[[Kind], Kind]) -> None:
        """Apply a function to every kind."""
        self.registers = [None if kind is None else over(kind) for kind in self.registers]
        self.slots = {offset: over(kind) for offset, kind in self.slots.items()}

    def store(self, offset: int, size: int, kind: Kind | None) -> None:
        """`size` bytes of stack were written; the half of a pointer that is left over is no value any more."""
        for slot in range(offset - offset % 8, offset + size, 8):
            if is_pointer(self.slots.pop(slot, None)):
                self.written &= ~bits(slot, 8)
        self.written |= bits(offset, size)
        if kind is not None and size == 8 and offset % 8 == 0:
            self.slots[offset] = kind

    def readable(self, offset: int, size: int) -> bool:
        """Whether bytes of the stack are there and are numbers, or are one whole slot."""
        if bits(offset, size) & ~self.written:
            return False
        whole = size == 8 and offset % 8 == 0
        return whole or not any(
            is_pointer(self.slots.get(slot)) for slot in range(offset - offset % 8, offset + size, 8)
        )

    def answer(self, question: int, *, null: bool, name: int) -> None:
        """The pointers that ask whether they are null are told."""

        def over(kind: Kind) -> Kind:
            if isinstance(kind, MapValue) and kind.question == question:
                return Num(0, 0, name) if null else replace(kind, question=0)
            return kind

        self.rewrite(over)


def bits(offset: int, size: int) -> int:
    """The bits of a range of stack bytes."""
    return ((1 << size) - 1) << (STACK + offset)


def is_pointer(kind: Kind | None) -> bool:
    """Whether the kind may be an address."""
    return kind is not None and not isinstance(kind, Num)


def join(a: State, b: State, fresh: Callable[[], int]) -> State:
    """What holds on either of two paths."""
    names: dict[object, int] = {}

    def name(key: object) -> int:
        if key not in names:
            names[key] = fresh()
        return names[key]

    proofs = {n: min(size, b.proofs[n]) for n, size in a.proofs.items() if n in b.proofs}

    def both(x: Kind | None, y: Kind | None) -> Kind | None:
        match x, y:
            case _ if x == y:
                return x
            case (None, _) | (_, None):
                return None
            case Num(), Num():
                same = x.name == y.name and x.delta == y.delta
                joined = (x.name, x.delta) if same else (name((x.name, y.name, x.delta - y.delta)), 0)
                return Num(min(x.low, y.low), max(x.high, y.high), *joined)
            case Packet(), Packet():
                found = Packet(0, name((x.name, y.name, x.offset - y.offset)))
                proofs[found.name] = min(a.proved(x), b.proved(y))
                return found
            case Frame(), Frame():
                return Frame(min(x.low, y.low), max(x.high, y.high))
            case MapValue(), MapValue() if x.map == y.map:
                question = 0 if x.question == y.question == 0 else name((x.question, y.question))
                return MapValue(x.map, min(x.low, y.low), max(x.high, y.high), question)
            case (MapValue(), Num(high=0)) | (Num(high=0), MapValue()):
                value = x if isinstance(x, MapValue) else y
                assert isinstance(value, MapValue)
                return replace(value, question=name((x, y)))
        return Mixed()

    registers = [both(x, y) for x, y in zip(a.registers, b.registers, strict=True)]
    slots = {offset: both(kind, b.slots.get(offset)) for offset, kind in a.slots.items()}
    kept = {offset: kind for offset, kind in slots.items() if kind is not None}
    written = a.written & b.written
    for offset in (a.slots.keys() | b.slots.keys()) - kept.keys():
        if is_pointer(a.slots.get(offset)) or is_pointer(b.slots.get(offset)):
            written &= ~bits(offset, 8)
    return State(registers, kept, written, proofs)
