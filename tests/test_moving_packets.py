"""Programs that move their packet: the helpers that adjust its head, its tail and its metadata, in every engine and as Linux does it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

import pybpf
from fuzz import kernel
from pybpf import ArgumentError, Instance, PacketBatch, Program, Trap, UnsupportedError, VerifiedProgram, jit
from pybpf.jit import Level
from pybpf.memory import HEADROOM, PACKET
from pybpf.program_types import XDP
from pybpf.verifier.facts import Access, RegionKind

ENGINES = ("interpreter", "quick", "full")
DATA, END, META = 0, 4, 8


def instance(verified: VerifiedProgram, engine: str) -> Instance:
    if engine == "interpreter":
        return pybpf.instantiate(verified, engine="interpreter")
    return pybpf.instantiate(verified, level=engine)  # type: ignore[arg-type]


def program(body: str) -> VerifiedProgram:
    """A program of XDP that keeps its context in r6."""
    return pybpf.verify(Program.from_asm(f"r6 = r1\n r0 = 2\n{body}\n exit", "xdp"))


def adjust(what: str, by: int) -> str:
    return f"r1 = r6\n r2 = {by}\n call xdp_adjust_{what}\n"


def first_byte(field: int = DATA) -> str:
    """r0 = the byte that a field of the context points to, 77 where there is none."""
    limit = END if field == DATA else DATA
    return f"r2 = *(u32 *)(r6 + {field})\n r3 = *(u32 *)(r6 + {limit})\n r4 = r2\n r4 += 1\n r0 = 77\n if r4 > r3 goto +1\n r0 = *(u8 *)(r2 + 0)\n"


PACKET_OF_30 = bytes(range(1, 31))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("what", "by", "left"),
    [
        ("head", 4, PACKET_OF_30[4:]),
        ("head", -4, bytes(4) + PACKET_OF_30),
        ("head", 16, PACKET_OF_30[16:]),
        ("head", 40 - HEADROOM, bytes(HEADROOM - 40) + PACKET_OF_30),
        ("tail", 5, PACKET_OF_30 + bytes(5)),
        ("tail", -5, PACKET_OF_30[:-5]),
        ("tail", 3520 - 30, PACKET_OF_30 + bytes(3520 - 30)),
        ("meta", -8, PACKET_OF_30),
        ("meta", 0, PACKET_OF_30),
    ],
)
def test_packet_that_is_left(what, by, left, engine):
    result = instance(program(adjust(what, by)), engine).run(PACKET_OF_30)
    assert (result.value, result.packet) == (0, left)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("what", "by", "error"),
    [
        ("head", 17, 22),
        ("head", 39 - HEADROOM, 22),
        ("head", 1 << 30, 22),
        ("tail", -17, 22),
        ("tail", 3521 - 30, 22),
        ("meta", 4, 22),
        ("meta", -HEADROOM, 22),
        ("meta", -6, 13),
    ],
)
def test_what_is_refused_changes_nothing(what, by, error, engine):
    result = instance(program(adjust(what, by)), engine).run(PACKET_OF_30)
    assert (result.value, result.packet) == ((1 << 64) - error, PACKET_OF_30)


@pytest.mark.parametrize("engine", ENGINES)
def test_pointers_are_those_of_the_packet_as_it_is_now(engine):
    body = f"{adjust('head', 4)} {first_byte()} r7 = r0\n {adjust('head', -2)} {first_byte()} r0 <<= 8\n r0 += r7\n"
    result = instance(program(body), engine).run(PACKET_OF_30)
    assert (result.value, result.packet) == (0x0305, PACKET_OF_30[2:])


WRITE_METADATA = f"{adjust('meta', -4)} r2 = *(u32 *)(r6 + {META})\n r3 = *(u32 *)(r6 + {DATA})\n r4 = r2\n r4 += 4\n if r4 > r3 goto +1\n *(u32 *)(r2 + 0) = 0x11223344\n"


@pytest.mark.parametrize("engine", ENGINES)
def test_metadata_come_with_the_head_and_are_not_of_the_packet(engine):
    result = instance(program(f"{WRITE_METADATA} {adjust('head', -8)} {first_byte(META)}"), engine).run(
        PACKET_OF_30
    )
    assert (result.value, result.packet) == (0x44, bytes(4) + b"\x44\x33\x22\x11" + PACKET_OF_30)


@pytest.mark.parametrize("engine", ENGINES)
def test_functions_move_the_packet_of_their_callers(engine):
    text = f"r6 = r1\n call f\n {first_byte()} exit\nf:\n r2 = 9\n call xdp_adjust_head\n exit"
    result = instance(pybpf.verify(Program.from_asm(text, "xdp")), engine).run(PACKET_OF_30)
    assert (result.value, result.packet) == (10, PACKET_OF_30[9:])


@pytest.mark.parametrize("engine", ENGINES)
def test_batches_lists_and_calls_do_the_same(engine):
    """What the packet before left in front of it and behind is gone."""
    write = (
        f"r2 = *(u32 *)(r6 + {DATA})\n r3 = *(u32 *)(r6 + {END})\n r4 = r2\n r4 += 20\n if r4 > r3 goto out\n"
    )
    body = f"{adjust('head', -8)} {adjust('tail', 4)} {write} r0 = *(u32 *)(r2 + 0)\n r5 = *(u8 *)(r2 + 8)\n r0 += r5\n *(u64 *)(r2 + 0) = -1\nout:\n"
    made = instance(program(body), engine)
    packets = [bytes([number]) * (14 + number % 50) for number in range(100)]
    expected = [made.run(packet).value for packet in packets]
    assert expected == list(range(100))
    assert made.run_batch(PacketBatch.from_packets(packets)).tolist() == expected
    assert made.run_batch(packets).tolist() == expected
    assert [made.call(packet) for packet in packets] == expected
    assert made.run_parallel(PacketBatch.from_packets(packets), threads=2).tolist() == expected


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("offset", [-300, -HEADROOM - 1, -HEADROOM, -9, -8, -1, 0, 20, 21, 22, 100, 1 << 20])
def test_a_packet_that_was_moved_has_ends_although_a_proof_is_false(offset, level):
    """8 bytes in front of a packet of 30 and 9 fewer behind: what is read is inside, whatever the proof says."""
    text = f"r6 = r1\n r1 = r6\n r2 = -8\n call xdp_adjust_head\n r1 = r6\n r2 = -9\n call xdp_adjust_tail\n r2 = {PACKET + offset} ll\n r0 = *(u8 *)(r2 + 0)\n exit"
    code = Program.from_asm(text, XDP)
    pc = code.size - 2
    facts = pybpf.Facts(
        accesses={pc: (Access(RegionKind.PACKET, 0, 0, 1),)},
        reached=frozenset(code.code),
        helpers=frozenset({44, 65}),
    )
    native = jit.compile(VerifiedProgram(code, XDP, facts), level).bind()
    packet = bytearray(PACKET_OF_30)
    if -8 <= offset < 21:
        assert native.run(packet) == (PACKET_OF_30[offset] if offset >= 0 else 0)
        assert packet == bytes(8) + PACKET_OF_30[:-9]
    else:
        with pytest.raises(Trap) as raised:
            native.run(packet)
        assert (raised.value.pc, raised.value.address) == (pc, PACKET + offset)


@pytest.mark.parametrize("level", Level)
def test_a_proof_that_hides_the_helper_is_no_danger(level):
    """Nobody made room: the helper is refused."""
    code = Program.from_asm("r2 = -8\n call xdp_adjust_head\n exit", XDP)
    facts = pybpf.Facts(reached=frozenset(code.code))
    with pytest.raises(Trap, match="proved to stay"):
        jit.compile(VerifiedProgram(code, XDP, facts), level).bind().run(bytearray(30))


def test_packets_that_are_read_only_are_not_moved():
    fixed = replace(XDP, packet_writable=False)
    verified = pybpf.verify(Program.from_asm("r2 = 4\n call xdp_adjust_head\n exit", fixed))
    for engine in ENGINES:
        with pytest.raises(Trap, match="read-only"):
            instance(verified, engine).run(bytes(30))


def test_native_code_wants_a_packet_that_can_change_its_length():
    native = jit.compile(program(adjust("head", 4))).bind()
    with pytest.raises(ArgumentError, match="bytearray"):
        native.run(bytes(30))


def test_an_object_for_c_has_no_such_helpers():
    with pytest.raises(UnsupportedError, match="xdp_adjust_head"):
        pybpf.compile_object(program(adjust("head", 4)))


# Linux


def moves(seed: int) -> Iterator[str]:
    """Some adjustments by numbers near the limits, each with what it returned and the byte that is then the first."""
    choose = random.Random(seed)
    near = (
        -256,
        -252,
        -220,
        -217,
        -216,
        -212,
        -32,
        -14,
        -8,
        -4,
        -1,
        0,
        1,
        4,
        8,
        14,
        16,
        46,
        200,
        3420,
        3460,
        3461,
        1 << 30,
    )
    yield "r7 = 0\n"
    for _ in range(choose.randrange(1, 6)):
        yield adjust(choose.choice(("head", "tail", "meta")), choose.choice(near))
        yield "r7 *= 31\n r7 += r0\n"
        yield f"{first_byte()} r7 *= 31\n r7 += r0\n"
        if choose.randrange(2):
            yield f"if r4 > r3 goto +1\n *(u8 *)(r2 + 0) = {choose.randrange(256)}\n"
        if choose.randrange(3) == 0:
            yield f"{first_byte(META)} r7 *= 31\n r7 += r0\n"
    yield "r0 = r7\n"


@pytest.mark.kernel
@pytest.mark.parametrize("seed", range(60))
def test_linux_leaves_the_same_packet(seed):
    if (reason := kernel.available()) is not None:
        pytest.skip(reason)
    verified = program("".join(moves(seed)))
    packets = [bytes(number % 251 for number in range(length)) for length in (14, 15, 60, 100, 3519, 3520)]
    with kernel.Loaded(verified.program) as loaded:
        theirs = [loaded.run(packet) for packet in packets]
    for engine in ("interpreter", "quick"):
        made = instance(verified, engine)
        for packet, (r0, left) in zip(packets, theirs, strict=True):
            result = made.run(packet)
            # Linux gives metadata with the packet.
            assert (result.value & 0xFFFF_FFFF, result.packet) == (r0, left[len(left) - len(result.packet) :])
