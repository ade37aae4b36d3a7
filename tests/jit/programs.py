"""Random programs that a verifier accepts: arithmetic on everything, memory of every kind, branches, loops, calls.

A program keeps the packet in r6 and numbers in r0, r3, r4, r5, r8 and r9; r7 counts loops; r1 and r2 are for the moment.
Whatever it does, its packet holds at least `ROOM` bytes, its stack slots have been written, and its map values are not null.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from pybpf import MapSpec, helpers
from pybpf.isa import OPS, Kind
from pybpf.program_types import MEMORY

ROOM = 64
SLOTS = 8
NUMBERS = ("0", "3", "4", "5", "8", "9")
SIZES = {1: "u8", 2: "u16", 4: "u32", 8: "u64"}

TABLE = MapSpec("table", "array", key_size=4, value_size=24, max_entries=4)
FLOWS = MapSpec("flows", "hash", key_size=8, value_size=16, max_entries=5)
MAPS = {spec.name: spec for spec in (TABLE, FLOWS)}

TYPE = replace(MEMORY, helpers={**helpers.LINUX, 6: helpers.UBPF_HASH})
"""Programs over writable memory, with the `hash` helper beside Linux's."""

ALU = [row for row in OPS if row.kind in (Kind.ALU, Kind.END)]
BRANCHES = [row for row in OPS if row.kind is Kind.BRANCH]
ATOMICS = [row for row in OPS if row.kind is Kind.ATOMIC]

registers = st.sampled_from(NUMBERS)
immediates = st.one_of(
    st.integers(-4, 70),
    st.sampled_from([-(1 << 31), (1 << 31) - 1, 0xFF, 0x7FFF]),
    st.integers(-(1 << 31), (1 << 31) - 1),
)


class Writer:
    """Draws statements and writes them down."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.lines: list[str] = []
        self.labels = 0
        self.called: set[str] = set()

    def put(self, *lines: str) -> None:
        self.lines += lines

    def label(self) -> str:
        self.labels += 1
        return f"l{self.labels}"

    def function(self, name: str, statements: int, calls: bool) -> None:
        """r1 is the packet, r2 and r3 are numbers."""
        self.put(f"{name}:", "r6 = r1", "r8 = r2", "r9 = r3", "r7 = 0")
        for slot in range(SLOTS):
            self.put(f"*(u64 *)(r10 - {8 * (slot + 1)}) = {slot * 77}")
        self.renew()
        self.put("r0 = r8")
        self.block(statements, loops=True, calls=calls)
        self.put("exit")

    def renew(self) -> None:
        """Write to the registers that a call leaves undefined."""
        self.put("r3 = r8", "r4 = r9", "r4 ^= 21845", "r5 = r10", "r5 = 12345")

    def block(self, statements: int, loops: bool, calls: bool) -> None:
        for _ in range(statements):
            kinds = [
                self.alu,
                self.alu,
                self.alu,
                self.stack,
                self.packet,
                self.window,
                self.atomic,
                self.table,
                self.flows,
                self.hash,
            ]
            kind = self.draw(st.sampled_from([*kinds, "branch", *(["loop"] * loops), *(["call"] * calls)]))
            match kind:
                case "branch":
                    self.branch(loops, calls)
                case "loop":
                    self.loop(calls)
                case "call":
                    name = self.draw(st.sampled_from(["f1", "f2"]))
                    self.called.add(name)
                    self.put("r1 = r6", f"r2 = r{self.draw(registers)}", "r3 = r9", f"call {name}")
                    self.renew()
                case write:
                    write()  # type: ignore[operator]

    def alu(self) -> None:
        row = self.draw(st.sampled_from(ALU))
        imm = self.draw(immediates) if row.imm is None else row.imm
        if row.code in ("lsh", "rsh", "arsh"):
            imm %= row.width
        elif "div" in row.code or "mod" in row.code:
            imm = imm or 3
        self.put(row.syntax.format(dst=self.draw(registers), src=self.draw(registers), imm=imm))

    def access(self, base: str, low: int, high: int, aligned: bool = False) -> None:
        """A load, a store of a register or of a constant, at an offset from `low` to `high`, where 8 bytes have room."""
        size = self.draw(st.sampled_from(list(SIZES)))
        offset = self.draw(st.integers(low, high))
        address = f"{base} {offset - offset % size if aligned else offset:+d}"
        at, number = f"*({SIZES[size]} *)({address})", self.draw(registers)
        self.put(
            self.draw(
                st.sampled_from([f"r{number} = {at}", f"{at} = r{number}", f"{at} = {self.draw(immediates)}"])
            )
        )

    def stack(self) -> None:
        if self.draw(st.booleans()):
            self.access("r10", -8 * SLOTS, -8, aligned=True)
        else:
            self.put(
                f"r1 = r{self.draw(registers)}",
                f"r1 &= {8 * SLOTS - 8}",
                "r2 = r10",
                f"r2 += -{8 * SLOTS}",
                "r2 += r1",
            )
            self.access("r2", 0, 0)

    def packet(self) -> None:
        self.access("r6", 0, ROOM - 8)

    def window(self) -> None:
        """An access to the packet at an offset that varies."""
        mask = self.draw(st.sampled_from([7, 15, 31]))
        self.put(f"r1 = r{self.draw(registers)}", f"r1 &= {mask}", "r2 = r6", "r2 += r1")
        self.access("r2", 0, ROOM - 8 - mask)

    def atomic(self) -> None:
        row = self.draw(st.sampled_from(ATOMICS))
        slot = self.draw(st.integers(1, SLOTS))
        base, number = ("10", f"- {8 * slot}"), self.draw(registers)
        dst, src = (number, base[0]) if row.code == "load_acquire" else (base[0], number)
        self.put(row.syntax.format(dst=dst, src=src, off=base[1]))

    def value(self) -> None:
        """Use the value that r0 points to, unless it is null."""
        absent = self.label()
        self.put(f"if r0 == 0 goto {absent}", "r2 = r0")
        self.renew()
        self.put("r0 = 1")
        for _ in range(self.draw(st.integers(1, 3))):
            if self.draw(st.booleans()):
                self.access("r2", 0, 8)
            else:
                row = self.draw(st.sampled_from(ATOMICS))
                number = self.draw(registers)
                dst, src = (number, "2") if row.code == "load_acquire" else ("2", number)
                self.put(row.syntax.format(dst=dst, src=src, off="+ 8"))
        self.put(f"{absent}:", "r0 = 2")
        self.renew()

    def table(self) -> None:
        self.put(f"r1 = r{self.draw(registers)}", "r1 &= 7", "*(u32 *)(r10 - 72) = r1", "r1 = table ll")
        self.put("r2 = r10", "r2 += -72", "call map_lookup_elem")
        self.value()

    def flows(self) -> None:
        self.put(
            f"r1 = r{self.draw(registers)}",
            "r1 &= 7",
            "*(u64 *)(r10 - 72) = r1",
            "r1 = flows ll",
            "r2 = r10",
            "r2 += -72",
        )
        match self.draw(st.sampled_from(["update", "lookup", "delete"])):
            case "update":
                self.put(
                    "r3 = r10", "r3 += -16", f"r4 = {self.draw(st.integers(0, 3))}", "call map_update_elem"
                )
                self.renew()
            case "lookup":
                self.put("call map_lookup_elem")
                self.value()
            case "delete":
                self.put("call map_delete_elem")
                self.renew()

    def hash(self) -> None:
        if self.draw(st.booleans()):
            self.put("r1 = r6", f"r2 = {self.draw(st.integers(0, ROOM))}")
        else:
            self.put(f"r2 = r{self.draw(registers)}", "r2 &= 31", "r1 = r10", f"r1 += -{8 * SLOTS}")
        self.put("call hash")
        self.renew()

    def branch(self, loops: bool, calls: bool) -> None:
        row = self.draw(st.sampled_from(BRANCHES))
        other, end = self.label(), self.label()
        operands = {"dst": self.draw(registers), "src": self.draw(registers), "imm": self.draw(immediates)}
        self.put(row.syntax.format(**operands, target=other))
        self.block(self.draw(st.integers(0, 3)), loops, calls)
        if self.draw(st.booleans()):
            self.put(f"goto {end}", f"{other}:")
            self.block(self.draw(st.integers(1, 3)), loops, calls)
            self.put(f"{end}:")
        else:
            self.put(f"{other}:")

    def loop(self, calls: bool) -> None:
        head = self.label()
        self.put("r7 = 0", f"{head}:")
        self.block(self.draw(st.integers(1, 4)), loops=False, calls=False)
        self.put("r7 += 1", f"if r7 < {self.draw(st.integers(2, 4))} goto {head}")


@st.composite
def texts(draw: st.DrawFn, statements: int = 12) -> str:
    """The text of a program of type `TYPE` over `MAPS`."""
    writer = Writer(draw)
    writer.put(
        "r6 = r1", f"if r2 < {ROOM} goto short", "*(u64 *)(r10 - 72) = 0", "r3 = r2", "r2 = 99", "r1 = r6"
    )
    writer.put(
        "r8 = *(u64 *)(r6 + 0)", "r9 = *(u64 *)(r6 + 8)", "call f0", "exit", "short:", "r0 = 99", "exit"
    )
    writer.function("f0", draw(st.integers(1, statements)), calls=True)
    for name in sorted(writer.called):
        writer.function(name, draw(st.integers(0, 3)), calls=False)
    return "\n".join(writer.lines)
