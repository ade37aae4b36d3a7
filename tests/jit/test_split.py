"""A batch that is split at a hash table: results, maps and packets are those of one packet after the other in the interpreter."""

from __future__ import annotations

import random
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import pybpf
from pybpf import MapSpec, PacketBatch, Program, Trap, jit, maps
from pybpf.interpreter import Interpreter
from pybpf.jit import Level
from pybpf.jit.lower import Module
from pybpf.jit.options import DEFAULT, Options
from pybpf.jit.source import ProgramSource

SPECS = {
    spec.name: spec
    for spec in (
        MapSpec("flows", "hash", key_size=13, value_size=8, max_entries=300),
        MapSpec("other", "hash", key_size=8, value_size=16, max_entries=300),
        MapSpec("long", "hash", key_size=64, value_size=8, max_entries=300),
        MapSpec("longer", "hash", key_size=65, value_size=8, max_entries=300),
        MapSpec("choice", "array", key_size=4, value_size=8, max_entries=1),
    )
}

KEY = """
    r3 = *(u64 *)(r1 + 0)
    *(u64 *)(r10 - 16) = r3
    r3 = *(u32 *)(r1 + 8)
    *(u32 *)(r10 - 8) = r3
    r3 = *(u8 *)(r1 + 12)
    *(u32 *)(r10 - 4) = 0
    *(u8 *)(r10 - 4) = r3
"""
"""13 bytes of the packet, to the stack."""

COUNT = f"""
    r0 = 9
    if r2 < 16 goto out
    r6 = r1
    {KEY}
    r1 = flows ll
    r2 = r10
    r2 += -16
    call map_lookup
    if r0 == 0 goto new
    r1 = *(u64 *)(r0 + 0)
    r1 += 1
    *(u64 *)(r0 + 0) = r1
    r0 = r1
    exit
new:
    *(u64 *)(r10 - 24) = 1
    r1 = flows ll
    r2 = r10
    r2 += -16
    r3 = r10
    r3 += -24
    call map_update
out:
    exit
"""
CHURN = f"""
    r0 = 9
    if r2 < 16 goto out
    r6 = *(u8 *)(r1 + 15)
    {KEY}
    r1 = flows ll
    r2 = r10
    r2 += -16
    r3 = r2
    if r6 & 1 goto delete
    call map_update
    exit
delete:
    call map_delete
out:
    exit
"""
CLOCK_FIRST = "r6 = r1\n r7 = r2\n call time_get_ns\n r1 = r6\n r2 = r7\n" + COUNT
KEY_OF_THE_TIME = f"""
    r6 = r1
    r7 = r2
    call time_get_ns
    r1 = r6
    r2 = r7
    r7 = r0
    if r2 < 16 goto out
    {KEY}
    r7 &= 7
    *(u8 *)(r10 - 4) = r7
    r1 = flows ll
    r2 = r10
    r2 += -16
    r3 = r2
    call map_update
out:
    r0 = 0
    exit
"""
CHOSEN_BY_EARLIER_PACKETS = f"""
    r0 = 9
    if r2 < 16 goto out
    r6 = r1
    *(u32 *)(r10 - 32) = 0
    r1 = choice ll
    r2 = r10
    r2 += -32
    call map_lookup
    if r0 == 0 goto out
    r7 = *(u64 *)(r0 + 0)
    r8 = r7
    r8 += 1
    *(u64 *)(r0 + 0) = r8
    r1 = r6
    {KEY}
    r7 &= 3
    *(u8 *)(r10 - 4) = r7
    r1 = flows ll
    r2 = r10
    r2 += -16
    r3 = r2
    call map_update
out:
    exit
"""
"""Every packet changes what the key of the next is: nothing that was seen ahead holds."""
TWO_MAPS = f"""
    r0 = 9
    if r2 < 16 goto out
    r6 = r1
    r7 = *(u8 *)(r1 + 14)
    {KEY}
    if r7 & 1 goto flows_
    r1 = other ll
    r2 = r10
    r2 += -16
    r3 = r2
    call map_update
    r0 = 5
    if r7 & 2 goto out
flows_:
    r1 = flows ll
    r2 = r10
    r2 += -16
    call map_lookup
    if r0 == 0 goto missing
    r0 = *(u64 *)(r0 + 0)
    exit
missing:
    r1 = flows ll
    r2 = r10
    r2 += -16
    r3 = r2
    call map_update
out:
    exit
"""
IN_A_LOOP = f"""
    r0 = 9
    if r2 < 16 goto out
    {KEY}
    r6 = 0
again:
    *(u8 *)(r10 - 4) = r6
    r1 = flows ll
    r2 = r10
    r2 += -16
    r3 = r2
    call map_update
    r6 += 1
    if r6 < 3 goto again
out:
    exit
"""


def wide_key(name: str, size: int) -> str:
    """A key that is the packet's first bytes, and their number."""
    offsets = range(0, size - size % 8, 8)
    copies = "".join(f"r3 = *(u64 *)(r1 + {i % 16})\n *(u64 *)(r10 - {72 - i}) = r3\n" for i in offsets)
    copies += "*(u64 *)(r10 - 8) = 0\n"
    return f"""
        r0 = 9
        if r2 < 16 goto out
        {copies}
        r1 = {name} ll
        r2 = r10
        r2 += -72
        r3 = r2
        call map_update
    out:
        exit
    """


FILTERS = {
    "count": COUNT,
    "churn": CHURN,
    "clock first": CLOCK_FIRST,
    "key of the time": KEY_OF_THE_TIME,
    "chosen by earlier packets": CHOSEN_BY_EARLIER_PACKETS,
    "two maps": TWO_MAPS,
    "in a loop": IN_A_LOOP,
    "long key": wide_key("long", 64),
    "longer key": wide_key("longer", 65),
}
TYPE = pybpf.program_types.FILTER


def program(text: str) -> Program:
    from dataclasses import replace

    return Program.from_asm(text, replace(TYPE, policy=pybpf.program_types.Policy()), maps=SPECS)


def packets(count: int, seed: int = 0) -> PacketBatch:
    """Of few flows, some too short to have one, lying one after the other."""
    source = random.Random(seed)
    flows = [source.randbytes(13) for _ in range(40)]
    made = []
    for _ in range(count):
        tail = source.randbytes(source.choice((3, 3, 3, 20)))
        made.append((source.choice(flows) + tail)[: source.choice((16, 36, 36, 36, 9))])
    return PacketBatch.from_packets(made)


class Clock:
    """Each reading is greater, so that a reading too many shows."""

    def __init__(self) -> None:
        self.time = 0

    def __call__(self) -> int:
        self.time += 1
        return self.time


SIZES = (1, 2, 15, 16, 17, 63, 64, 65, 128, 1000)


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("name", FILTERS)
def test_batches_are_the_interpreter_one_by_one(name, level):
    verified = pybpf.verify(program(FILTERS[name]))
    reference = [maps.create(spec, seed=1) for spec in verified.program.maps]
    native_maps = [maps.create(spec, seed=1) for spec in verified.program.maps]
    interpreter = Interpreter(verified.program, verified.type, reference, clock=Clock())
    native = jit.compile(verified, level).bind(native_maps, Clock())
    for size in SIZES:
        batch = packets(size, seed=size)
        results = np.empty(size, np.uint64)
        native.run_batch(batch, results)
        assert results.tolist() == [interpreter.run(packet).value for packet in batch]
        assert [dict(map) for map in native_maps] == [dict(map) for map in reference]


@pytest.mark.parametrize(
    ("name", "map_name"),
    [
        ("count", "flows"),
        ("churn", "flows"),
        ("clock first", "flows"),
        ("two maps", "other"),
        ("long key", "long"),
    ],
)
def test_programs_that_are_split(name, map_name):
    made = program(FILTERS[name])
    split = Module(pybpf.verify(made), DEFAULT).split
    assert split is not None
    assert made.maps[split.number].name == map_name
    assert split.entries == 0


@pytest.mark.parametrize("name", ["in a loop", "longer key"])
def test_programs_that_are_not(name):
    assert Module(pybpf.verify(program(FILTERS[name])), DEFAULT).split is None


def test_code_that_counts_instructions_is_not_split():
    assert Module(pybpf.verify(program(COUNT)), Options(counts=True)).split is None


def test_a_long_way_to_the_key_is_gone_twice_for_large_tables_only():
    way = "r3 += 1\n" * 60
    text = COUNT.replace("r1 = flows ll", way + "r1 = flows ll", 1).replace("r6 = r1", "r3 = 0", 1)
    split = Module(pybpf.verify(program(text)), DEFAULT).split
    assert split is not None
    assert split.entries > 10_000


STORE = "    *(u64 *)(r0 + 0) = r1\n"
ONLY_LOOKS = COUNT.replace(STORE, "")
SOMETIMES_WRITES = COUNT.replace(STORE, f"if r1 > 9 goto many\n{STORE}many:\n")
WRITES_EITHER_WAY = COUNT.replace(STORE, f"if r1 > 9 goto many\n{STORE} goto done\nmany:\n{STORE}done:\n")
ONLY_DELETES = CHURN.replace("call map_update", "r0 = 1")


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        (COUNT, (False, False, True)),
        (CHURN, (True, True, True)),
        (ONLY_LOOKS, (False, False, False)),
        (SOMETIMES_WRITES, (False, False, False)),
        (WRITES_EITHER_WAY, (False, False, True)),
        (ONLY_DELETES, (False, True, False)),
    ],
    ids=["count", "churn", "only looks", "sometimes writes", "writes either way", "only deletes"],
)
def test_memory_is_asked_for_as_the_program_will_use_it(text, intent):
    """Whether keys may be inserted, come and go, and whether values are written. Memory that is only read, or only written now and then, is left to all threads."""
    verified = pybpf.verify(program(text))
    split = Module(verified, DEFAULT).split
    assert split is not None
    assert (split.inserts, split.changes, split.writes) == intent
    _, changes, writes = intent
    code = ProgramSource(verified).text()
    assert bool(re.search(r"prefetch\.p0\(ptr %j\.group, i32 1", code)) == changes
    assert bool(re.search(r"prefetch\.p0\(ptr %slot, i32 1", code)) == writes


XDP = """
    r0 = 2
    r2 = *(u32 *)(r1 + 0)
    r3 = *(u32 *)(r1 + 4)
    r4 = r2
    r4 += 16
    if r4 > r3 goto out
    {before}
    r5 = *(u64 *)(r2 + 0)
    *(u64 *)(r10 - 8) = r5
    {after}
    r1 = other ll
    r2 = r10
    r2 += -8
    call map_lookup_elem
    r6 = r0
    r0 = 1
    if r6 == 0 goto out
    r0 = 3
out:
    exit
"""


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize(
    ("before", "after", "is_split", "writes"),
    [
        ("", "", True, False),
        ("*(u8 *)(r2 + 0) = 7", "", False, True),
        ("", "*(u8 *)(r2 + 1) = 7", False, True),
    ],
)
def test_programs_that_write_packets(level, before, after, is_split, writes):
    """What is written first is not run ahead; packets are copied where a program writes to one, and overlapping packets stay whole."""
    made = Program.from_asm(XDP.format(before=before, after=after), "xdp", maps=SPECS)
    verified = pybpf.verify(made)
    module = Module(verified, DEFAULT)
    assert (module.split is not None, module.writes_packet) == (is_split, writes)
    data = np.frombuffer(random.Random(1).randbytes(300), np.uint8)
    count = 200
    lengths = np.full(count, 20, np.uint32)
    batch = PacketBatch(data, np.arange(count, dtype=np.uint64), lengths, lengths, np.zeros(count, np.uint64))
    made_maps = [maps.create(spec, seed=1) for spec in made.maps]
    for packet in batch[::3]:
        made_maps[0][(b"\x07" if before else packet[:1]) + packet[1:8]] = bytes(16)
    interpreter = Interpreter(made, verified.type, made_maps)
    results = np.empty(count, np.uint64)
    kept = data.copy()
    jit.compile(verified, level).bind(made_maps).run_batch(batch, results)
    assert results.tolist() == [interpreter.run(packet).value for packet in batch]
    assert set(results.tolist()) == {1, 3}
    assert (data == kept).all()


@pytest.mark.parametrize("at", [0, 15, 63, 64, 70, 199])
def test_a_trap_says_its_packet_and_what_came_before_stands(at):
    """The facts say that the packet is long enough, which one packet is not."""
    verified = pybpf.verify(
        program(COUNT.replace("if r2 < 16 goto out", "if r2 < 1 goto out\n if r2 < 16 goto out"))
    )
    from dataclasses import replace

    code = dict(verified.program.code)
    for pc, instruction in code.items():
        if instruction.op.code == "jlt" and instruction.imm == 16:
            code[pc] = replace(instruction, imm=2)
    false = replace(verified, program=replace(verified.program, code=code))
    made = [b"a" * 16] * 200
    made[at] = b"a" * 5
    native_maps = [maps.create(spec, seed=1) for spec in verified.program.maps]
    native, results = jit.compile(false).bind(native_maps), np.zeros(200, np.uint64)
    with pytest.raises(Trap, match=f"packet {at}: "):
        native.run_batch(PacketBatch.from_packets(made), results)
    assert results.tolist() == [*([0] + list(range(2, at + 1)))[:at], *[0] * (200 - at)]
    assert len(native_maps[0]) == (1 if at else 0)


@pytest.mark.slow
def test_keys_that_stay_are_found_while_others_come_and_go():
    """One thread looks up in split batches, another inserts and deletes other keys of the same groups, Python iterates meanwhile."""
    counting, churning = (pybpf.verify(program(FILTERS[name])) for name in ("count", "churn"))
    flows = maps.create(SPECS["flows"], seed=1)
    source = random.Random(5)
    stay = [source.randbytes(13) for _ in range(100)]
    turning = [source.randbytes(13) for _ in range(150)]
    for key in stay:
        flows[key] = bytes(8)
    lookups = PacketBatch.from_packets([source.choice(stay) + bytes(3) for _ in range(2000)])
    turns = PacketBatch.from_packets([key + bytes([0, 0, goes]) for goes in (0, 1) for key in turning])
    native, other = (jit.compile(one).bind([flows]) for one in (counting, churning))
    done = threading.Event()

    def churn() -> None:
        results = np.empty(len(turns), np.uint64)
        while not done.is_set():
            other.run_batch(turns, results)
            assert not results.any()

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(churn)
        try:
            results = np.empty(len(lookups), np.uint64)
            for turn in range(300):
                native.run_batch(lookups, results)
                assert results.min() >= 1  # nobody's count began anew: each was found
                if turn % 10 == 0:
                    seen = list(flows)
                    assert len(set(seen)) == len(seen)
                    assert set(stay) <= set(seen) <= {*stay, *turning}
        finally:
            done.set()
        future.result()
    assert sum(int.from_bytes(flows[key], "little") for key in stay) == 300 * len(lookups)
    assert set(flows) == set(stay)
