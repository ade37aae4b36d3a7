"""What the bytes of a packet must be: found by following paths, and believed by the batch loop, so it must be true."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pybpf
from benchmarks import programs, traffic
from pybpf import PacketBatch, Program, Trap, jit
from pybpf.jit import Level, conjunction
from pybpf.jit.driver import NEAR, SHORTEST, WATCHED
from pybpf.jit.lower import Module
from pybpf.jit.options import DEFAULT, Options
from pybpf.program_types import FILTER
from pybpf.verifier.facts import Access, Facts, RegionKind, VerifiedProgram


def find(text: str) -> conjunction.Conjunction | None:
    return Module(pybpf.verify(Program.from_asm(text, "filter")), DEFAULT).conjunction


def row_of(*lines: str) -> str:
    """A filter that answers 1 where none of the lines leaves."""
    body = "\n".join(lines)
    return f"r0 = 0\n if r2 < 64 goto out\n{body}\n r0 = 1\nout:\n exit"


def test_equal_bytes_in_both_orders():
    found = find(
        row_of(
            "r3 = *(u16 *)(r1 + 12)",
            "if r3 != 8 goto out",
            "r3 = *(u32 *)(r1 + 20)",
            "r3 = be32 r3",
            "if r3 != 0x01020304 goto out",
        )
    )
    assert found is not None
    assert (found.first, found.end, found.otherwise) == (12, 24, 0)
    assert found.value == b"\x08\0" + bytes(6) + b"\x01\x02\x03\x04"
    assert found.mask == b"\xff\xff" + bytes(6) + b"\xff" * 4


def test_bits_that_are_masked_and_shifted():
    found = find(
        row_of(
            "r3 = *(u32 *)(r1 + 0)",
            "r3 >>= 4",
            "r3 &= 0x0ff0",
            "if r3 != 0x0120 goto out",
            "r4 = *(u8 *)(r1 + 2)",
            "if r4 & 3 goto out",
            "r4 = *(u8 *)(r1 + 3)",
            "if r4 & 0x80 goto set",
            "goto out",
            "set:",
        )
    )
    assert found is not None
    assert int.from_bytes(found.mask, "little") << 8 * found.first == 0x0FF00 | 3 << 16 | 0x80 << 24
    assert int.from_bytes(found.value, "little") << 8 * found.first == 0x01200 | 0x80 << 24


def test_only_what_all_other_paths_ask_for():
    found = find(
        row_of(
            "r3 = *(u32 *)(r1 + 0)",
            "if r3 != 0x11223344 goto out",
            "r4 = *(u8 *)(r1 + 8)",
            "if r4 == 5 goto five",
            "r4 = *(u8 *)(r1 + 9)",
            "if r4 != 6 goto out",
            "five:",
        )
    )
    assert found is not None
    assert (found.first, found.mask, found.value) == (0, b"\xff" * 4, bytes.fromhex("44332211"))


@pytest.mark.parametrize(
    "text",
    [
        row_of("r3 = *(u16 *)(r1 + 0)", "if r3 != 1 goto out"),
        row_of("r3 = *(u32 *)(r1 + 0)", "if r3 > 1 goto out"),
        row_of("r3 = *(u32 *)(r1 + 0)", "r3 += 1", "if r3 != 1 goto out"),
        row_of("r3 = *(u32 *)(r1 + 0)", "if r3 == 1 goto out"),
        "r0 = 1\n exit",
        "if r2 < 64 goto out\n r3 = *(u32 *)(r1 + 0)\n if r3 != 5 goto out\n call time_get_ns\nout:\n r0 = 1\n exit",
    ],
    ids=["too little", "a range", "a sum", "unequal", "no test", "a call"],
)
def test_what_is_no_conjunction(text):
    assert find(text) is None


def test_code_that_counts_instructions_runs_them_all():
    verified = programs.example("p0f")
    assert Module(verified, DEFAULT).conjunction is not None
    assert Module(verified, Options(counts=True)).conjunction is None


def mixed(count: int) -> PacketBatch:
    """Packets that fail at one test or another, some of them too short to compare, or to be looked at."""
    packets = list(traffic.filters("mixed", count))
    for number in range(0, count, 7):
        packets[number] = packets[number][: number % 60]
    return PacketBatch.from_packets(packets)


def far(batch: PacketBatch) -> PacketBatch:
    """The same packets among so many bytes that their memory is asked for."""
    data = np.concatenate([batch.data, np.zeros(NEAR, np.uint8)])
    return PacketBatch(data, batch.offsets, batch.lengths, batch.original_lengths, batch.timestamps)


# Both ways are run in a batch of so many, whichever takes less time: as many as this, some the other way, and again.
BOTH = 4 * SHORTEST + 5


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("name", ["p0f", "p0f_literal"])
def test_batches_are_the_program_one_by_one(name, level):
    verified = programs.example(name)
    native = jit.compile(verified, level).bind()
    checked = pybpf.instantiate(verified, engine="interpreter")
    for count in (1, WATCHED - 1, WATCHED, WATCHED + 1, 2 * WATCHED, BOTH):
        batch, results = mixed(count), np.empty(count, np.uint64)
        expected = [checked.run(packet).value for packet in batch]
        for form in (batch, far(batch)):
            native.run_batch(form, results)
            assert results.tolist() == expected
        assert count == 1 or set(results.tolist()) == ({0, 1} if name == "p0f" else {0})


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("form", [lambda batch: batch, far], ids=["near", "far"])
@pytest.mark.parametrize("at", [0, 200, SHORTEST + WATCHED // 2, 2 * SHORTEST, BOTH - 1])
def test_a_packet_that_traps_ends_the_batch_whichever_way_it_is_run(at, form, level):
    """A program that was wrongly proved: nothing tells that byte 64 is there, which only packets that pass all tests are asked for."""
    text = (
        "r0 = 0\n r3 = *(u32 *)(r1 + 0)\n if r3 != 0x01010101 goto out\n r0 = *(u8 *)(r1 + 64)\nout:\n exit"
    )
    program = Program.from_asm(text, FILTER)
    accesses = {pc: (Access(RegionKind.PACKET, low, low, size),) for pc, low, size in ((1, 0, 4), (3, 64, 1))}
    claims = Facts(accesses=accesses, reached=frozenset(program.code))
    native = jit.compile(VerifiedProgram(program, FILTER, claims), level).bind()
    packets = [bytes(64) if number % 3 else bytes([1] * 65) for number in range(BOTH)]
    packets[at] = bytes([1] * 64)
    results = np.full(BOTH, 7, np.uint64)
    with pytest.raises(Trap, match=f"packet {at}: "):
        native.run_batch(form(PacketBatch.from_packets(packets)), results)
    assert results.tolist() == [0 if number % 3 else 1 for number in range(at)] + [7] * (BOTH - at)


conditions = st.tuples(
    st.integers(0, 56),
    st.sampled_from(["u8", "u16", "u32", "u64"]),
    st.sampled_from(
        [
            "",
            "r3 = be16 r3",
            "r3 = be32 r3",
            "r3 = be64 r3",
            "r3 >>= 3",
            "w3 >>= 5",
            "r3 <<= 7",
            "w3 <<= 9",
            "r3 &= 0x7f0f",
        ]
    ),
    st.sampled_from(["", "r3 &= 0xff", "r3 &= -16", "w3 = w3", "r3 >>= 1", "w3 &= 0x1f3"]),
    st.sampled_from(
        [
            "if r3 != {} goto out",
            "if w3 != {} goto out",
            "if r3 & {} goto out",
            "if r3 == {} goto on{n}\n goto out\non{n}:",
            "if r3 & {} goto on{n}\n goto out\non{n}:",
        ]
    ),
    st.sampled_from([0, 1, 2, 8, 0x40, 0xFF, 0x1234, -1, -256]),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(conditions, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_no_packet_that_lacks_a_bit_is_answered_otherwise(rows, random):
    """Packets near what is asked for, each with bits changed, in the interpreter."""
    lines = []
    for n, (offset, size, first, second, test, value) in enumerate(rows):
        lines += [f"r3 = *({size} *)(r1 + {offset})", first, second, test.format(value, n=n)]
    verified = pybpf.verify(Program.from_asm(row_of(*(line for line in lines if line)), "filter"))
    found = conjunction.find(verified.program.code, verified.facts)
    if found is None:
        return
    checked = pybpf.instantiate(verified, engine="interpreter")
    mask, value = (int.from_bytes(part, "little") << 8 * found.first for part in (found.mask, found.value))
    packets = []
    for _ in range(60):
        packet = int.from_bytes(random.randbytes(64), "little") * random.randrange(2)
        packet = packet & ~mask | value
        for _ in range(random.randrange(3)):
            packet ^= 1 << random.randrange(512)
        packets.append(packet)
    for packet in packets:
        if (packet ^ value) & mask:
            assert checked.run(packet.to_bytes(64, "little")).value == found.otherwise
    batch = PacketBatch.from_packets([packet.to_bytes(64, "little") for packet in packets]).repeat(400)
    results = np.empty(400, np.uint64)
    jit.compile(verified, Level.QUICK).bind().run_batch(batch, results)
    assert (
        results.tolist() == [checked.run(packet).value for packet in batch[:60]] * 6 + results.tolist()[360:]
    )
