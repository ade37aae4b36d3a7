"""Every load, store and atomic instruction, in every region: registers and memory afterwards are the interpreter's."""

from __future__ import annotations

import struct
import threading

import pytest

from pybpf import Instruction, MapSpec, Program, jit, maps
from pybpf.interpreter import Interpreter
from pybpf.isa import OPS, Kind, Op, Operand, op
from pybpf.jit import Level
from pybpf.program_types import MEMORY
from tests.jit.traced import observed

TABLE = MapSpec("table", "array", key_size=4, value_size=64, max_entries=2)

ROWS = [row for row in OPS if row.kind in (Kind.LOAD, Kind.STORE, Kind.ATOMIC)]
REGIONS = {
    "packet": "r6 = r1\n r6 += 40",
    "stack": "r6 = r10\n r6 += -24\n r3 = *(u64 *)(r1 + 16)\n *(u64 *)(r6 + 0) = r3",
    "map": "r6 = table + 64 ll\n r3 = *(u64 *)(r1 + 16)\n *(u64 *)(r6 + 0) = r3",
    "one of two": """
        r6 = table + 64 ll
        r3 = *(u64 *)(r1 + 16)
        *(u64 *)(r6 + 0) = r3
        *(u64 *)(r10 - 24) = r3
        r4 = *(u64 *)(r1 + 0)
        if r4 & 1 goto chosen
        r6 = r10
        r6 += -24
    chosen:
        r4 = 0
    """,
}
"""How r6 gets to 8 aligned bytes of each region that hold what the packet has at 16."""

NUMBERS = (
    0,
    1,
    0x80,
    0x7FFF_8000,
    0xFFFF_FFFF,
    0x8000_0000_0000_0000,
    0x1234_5678_9ABC_DEF0,
    0xFFFF_FFFF_FFFF_FFFF,
)
PACKETS = [
    struct.pack("<QQQQQQ", a, b, c, 0, 0, c) + bytes(16)
    for a in NUMBERS
    for b in NUMBERS
    for c in (b, a, 0x8182_8384_8586_8788)
]


def program(row: Op, region: str) -> Program:
    """r0 and r2 are loaded from the packet; after the instruction r0, r2 and the 8 bytes go to its end."""
    load, store = op(Kind.LOAD, "mem", size=8), op(Kind.STORE, "mem", size=8, operand=Operand.REG)
    before = Program.from_asm(f"{REGIONS[region]}\n r7 = r1\n r0 = 0\n exit", MEMORY, maps={"table": TABLE})
    pointer, number = (2, 6) if row.kind is Kind.LOAD or row.code == "load_acquire" else (6, 2)
    tail = [
        Instruction(load, 0, 7, 0),
        Instruction(load, 2, 7, 8),
        Instruction(
            row, pointer, number if row.src is None else 0, 0, -559038737 if row.imm is None else row.imm
        ),
        Instruction(load, 4, 6, 0),
        Instruction(store, 7, 0, 48),
        Instruction(store, 7, 2, 56),
        Instruction(store, 7, 4, 24),
        Instruction(op(Kind.EXIT, "exit")),
    ]
    code = dict(before.code)
    end = max(code) - 1  # in place of "r0 = 0, exit"
    for pc in (end, end + 1):
        del code[pc]
    code |= {end + i: instruction for i, instruction in enumerate(tail)}
    return Program("row", code, MEMORY, references=before.references, maps=before.maps)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.syntax)
def test_instruction(row, region):
    made = program(row, region)
    reference = Interpreter(made, MEMORY, [maps.create(spec) for spec in made.maps])
    verified = observed(made, PACKETS[:: len(PACKETS) // 12 + 1] + PACKETS[-3:], MEMORY)
    for level in Level:
        native = jit.compile(verified, level).bind([maps.create(spec) for spec in made.maps])
        for packet in PACKETS:
            expected, buffer = reference.run(packet), bytearray(packet)
            assert (native.run(buffer), bytes(buffer)) == (expected.value, expected.packet)


def test_atomic_instructions_of_threads_do_not_lose_each_other():
    """Every form that adds, from several threads at once: the sums are exact."""
    text = """
        r6 = table ll
        r6 = table + 0 ll
        r1 = 1
        lock *(u64 *)(r6 + 0) += r1
        lock *(u32 *)(r6 + 8) += w1
        r1 = 1
        r1 = atomic_fetch_add((u64 *)(r6 + 16), r1)
    again:
        r0 = *(u64 *)(r6 + 24)
        r2 = r0
        r3 = r0
        r2 += 1
        r0 = cmpxchg_64(r6 + 24, r0, r2)
        if r0 != r3 goto again
        exit
    """
    made = Program.from_asm(text, MEMORY, maps={"table": TABLE})
    table = maps.create(TABLE)
    native = jit.compile(observed(made)).bind([table])

    def work() -> None:
        buffer = bytearray()
        for _ in range(3000):
            native.run(buffer)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert struct.unpack_from("<QQQQ", table[0]) == (12000,) * 4
