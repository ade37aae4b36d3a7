"""Programs of big-endian machines, run: their numbers lie in memory as such a machine has them, and everything else is the same."""

from __future__ import annotations

import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pybpf import (
    ArgumentError,
    Instance,
    Instruction,
    MapError,
    MapSpec,
    Program,
    encode,
    helpers,
    instantiate,
    load,
    maps,
    read_pcap,
    semantics,
    verify,
)
from pybpf.interpreter import Interpreter
from pybpf.isa import OPS, Kind, Op, Operand
from pybpf.jit.unproved import compile_unproved
from pybpf.program_types import MEMORY
from pybpf.syntax import write
from tests.instructions import label

SOURCE = Path(__file__).with_name("byteorder.c")
CAPTURES = Path(__file__).parents[1] / "examples/captures"
ENGINES = ("interpreter", "jit")

CELL = MapSpec("cell", "array", 4, 8, 1)
HELD = bytes.fromhex("8182838485868788")
NUMBER = 0xF1F2_F3F4_F5F6_F7F8

either_engine = pytest.mark.parametrize("engine", ENGINES)


def big(text: str, engine: str, type: str = "memory", **names: MapSpec) -> Instance:
    """A verified program of a big-endian machine."""
    program = Program.from_asm(f".byteorder big\n{text}", type, maps=names)
    return instantiate(verify(program), engine=engine)  # type: ignore[arg-type]


def rows(*kinds: Kind) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", [op for op in OPS if op.kind in kinds], ids=label)


# Instructions


@either_engine
@rows(Kind.LOAD)
def test_loads(row: Op, engine: str):
    """Of bytes that the test put there."""
    instance = big(f"r1 = cell + 0 ll\n {write(Instruction(row, 0, 1))}\n exit", engine, cell=CELL)
    instance.maps["cell"][0] = HELD
    number = int.from_bytes(HELD[: row.size], "big", signed=row.code == "memsx")
    assert instance.run(b"").value == number & semantics.U64


@either_engine
@rows(Kind.STORE)
def test_stores(row: Op, engine: str):
    """To bytes that the test looks at."""
    imm = -0x0102_0304
    text = f"r1 = cell + 0 ll\n r2 = {NUMBER:#x} ll\n {write(Instruction(row, 1, 2 * (row.src is None), 0, imm if row.operand is Operand.IMM else 0))}\n r0 = 0\n exit"
    instance = big(text, engine, cell=CELL)
    instance.maps["cell"][0] = HELD
    instance.run(b"")
    number = (imm if row.operand is Operand.IMM else NUMBER) & ((1 << 8 * row.size) - 1)
    assert instance.maps["cell"][0] == number.to_bytes(row.size, "big") + HELD[row.size :]


@either_engine
@pytest.mark.parametrize("expected", [int.from_bytes(HELD, "big"), int.from_bytes(HELD[:4], "big"), NUMBER])
@rows(Kind.ATOMIC)
def test_atomics(row: Op, expected: int, engine: str):
    """What memory holds afterwards, and what a register gets, by the operator's table; r0 is compared with."""
    loads = row.code == "load_acquire"
    instruction = (
        Instruction(row, 2, 1, 0, row.imm or 0) if loads else Instruction(row, 1, 2, 0, row.imm or 0)
    )
    text = f"r1 = cell + 0 ll\n r2 = {NUMBER:#x} ll\n r0 = {expected:#x} ll\n {write(instruction)}\n"
    text += "exit" if row.code == "cmpxchg" else "r0 = r2\n exit"
    instance = big(text, engine, cell=CELL)
    instance.maps["cell"][0] = HELD
    result = instance.run(b"").value
    width, size = 8 * row.size, row.size
    old = int.from_bytes(HELD[:size], "big")
    if loads:
        new = old
    elif row.code == "store_release":
        new = NUMBER & ((1 << width) - 1)
    else:
        new = semantics.atomic(row.code, old, NUMBER, expected, width)
    assert instance.maps["cell"][0] == new.to_bytes(size, "big") + HELD[size:]
    fetches = loads or row.code in ("xchg", "cmpxchg") or row.code.startswith("fetch_")
    assert result == (old if fetches else NUMBER)


@pytest.mark.parametrize("where", ["r10 - 8", "r1 + 0"])
@rows(Kind.ATOMIC)
def test_atomics_where_only_one_run_sees_them(row: Op, where: str):
    """In the frame and in a packet, native code and the interpreter leave the same bytes."""
    base = int(where[1 : where.index(" ")])
    offset = int(where[where.index(" ") :].replace(" ", ""))
    loads = row.code == "load_acquire"
    instruction = (
        Instruction(row, 2, base, offset, row.imm or 0)
        if loads
        else Instruction(row, base, 2, offset, row.imm or 0)
    )
    text = (
        f".byteorder big\n r3 = *(u64 *)(r1 + 0)\n *(u64 *)(r10 - 8) = r3\n r2 = {NUMBER:#x} ll\n r0 = r3\n"
        f"{write(instruction)}\n r3 = *(u64 *)({where})\n r0 ^= r2\n r0 ^= r3\n exit"
    )
    program = Program.from_asm(text, "memory")
    packet = bytearray(HELD)
    outcome = Interpreter(program).run(HELD)
    assert compile_unproved(program, MEMORY).bind().run(packet) == outcome.value
    assert bytes(packet) == outcome.packet


@either_engine
@rows(Kind.END)
def test_byte_orders(row: Op, engine: str):
    """`be` cuts and `le` swaps; `bswap` swaps everywhere (RFC 9669, section 4.2)."""
    instance = big(f"r0 = {NUMBER:#x} ll\n {write(Instruction(row, 0, 0, 0, row.imm or 0))}\n exit", engine)
    cut = (NUMBER & ((1 << row.width) - 1)).to_bytes(row.width // 8, "big")
    assert instance.run(b"").value == int.from_bytes(cut, "big" if row.code == "be" else "little")


@either_engine
def test_packet_loads_are_in_network_order_everywhere(engine: str):
    text = "r6 = r1\n r0 = *(u32 *)skb[1]\n exit"
    values = [
        instantiate(verify(Program.from_asm(order + text, "memory")), engine=engine).run(HELD).value  # type: ignore[arg-type]
        for order in ("", ".byteorder big\n")
    ]
    assert values == [0x8283_8485] * 2


@either_engine
def test_fields_of_the_context(engine: str):
    """Given by name they are numbers; given as bytes they are the program's."""
    text = "r2 = *(u32 *)(r1 + 4)\n r3 = *(u32 *)(r1 + 0)\n r2 -= r3\n r0 = *(u32 *)(r1 + 12)\n r0 <<= 32\n r0 += r2\n exit"
    instance = big(text, engine, "xdp")
    expected = 0x0102_0304 << 32 | 8
    assert instance.run(HELD, {"ingress_ifindex": 0x0102_0304}).value == expected
    layout = instance.verified.type.context
    assert layout is not None
    context = bytearray(layout.size)
    context[12:16] = b"\1\2\3\4"
    assert instance.run(HELD, context).value == expected


def test_bytes_of_a_program():
    """The same text as bytes in both orders is the same program."""
    program = Program.from_asm("r0 = 0x123456789 ll\n r0 += -2\n exit", "memory")
    for order in ("little", "big"):
        again = Program.from_bytes(encode(program.code, order), "memory", byteorder=order)
        assert again == replace(program, byteorder=order)
        assert instantiate(verify(again)).run(b"").value == 0x1_2345_6787


# Maps


@either_engine
def test_an_index_is_a_number_of_the_program(engine: str):
    spec = MapSpec("counters", "array", 4, 8, 300)
    text = """
        *(u32 *)(r10 - 4) = 258
        r1 = counters ll
        r2 = r10
        r2 += -4
        call map_lookup
        if r0 == 0 goto out
        *(u64 *)(r0 + 0) = 7
        r0 = 1
    out:
        exit
    """
    instance = big(text, engine, "filter", counters=spec)
    assert instance.run(b"").verdict == "match"
    counters = instance.maps["counters"]
    assert counters.spec.byteorder == "big"
    assert counters[258] == counters[b"\0\0\1\2"] == bytes(7) + b"\7"
    assert counters.view()[258] == 7
    assert counters.typed(">I", ">Q")[258] == 7
    assert [key for key, value in counters.items() if any(value)] == [b"\0\0\1\2"]
    counters[258] = bytes(8)
    assert not counters.view().any()
    with pytest.raises(MapError, match="index 300 is out of range"):
        counters[300] = bytes(8)


def test_a_map_of_the_other_order_is_no_substitute():
    program = Program.from_asm(".byteorder big\n r1 = cell ll\n r0 = 0\n exit", "memory", maps={"cell": CELL})
    with pytest.raises(ArgumentError, match="byteorder"):
        instantiate(verify(program), maps={"cell": maps.create(CELL)})
    own = maps.create(program.maps[0])
    assert instantiate(verify(program), maps={"cell": own}).maps["cell"] is own


@either_engine
def test_helpers_see_the_order(engine: str):
    def double(machine: helpers.Machine, r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        number = int.from_bytes(machine.read(r1, 4), machine.byteorder)
        machine.write(r1, (2 * number).to_bytes(4, machine.byteorder))
        return number

    own = replace(MEMORY, helpers={1: helpers.Helper("double", "any -> num", double)})
    text = ".byteorder big\n *(u32 *)(r10 - 8) = 0x01020304\n r1 = r10\n r1 += -8\n call double\n r0 <<= 32\n r1 = *(u32 *)(r10 - 8)\n r0 += r1\n exit"
    instance = instantiate(verify(Program.from_asm(text, own)), engine=engine)  # type: ignore[arg-type]
    assert instance.run(b"").value == 0x0102_0304_0204_0608


def test_additions_of_several_threads_are_not_lost():
    """There is no addition of swapped numbers in hardware: it is a loop that tries until nobody was in between."""
    text = "r1 = cell + 0 ll\n r2 = 1\n lock *(u64 *)(r1 + 0) += r2\n r2 = 1\n r2 = atomic_fetch_add((u64 *)(r1 + 0), r2)\n r0 = 0\n exit"
    instance = big(text, "jit", cell=CELL)
    packets = read_pcap(CAPTURES / "http.pcap")

    def run() -> None:
        for _ in range(50):
            instance.run_batch(packets)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert instance.maps["cell"].view()[0] == 3 * 50 * len(packets) * 2


# Whole programs


@pytest.fixture(scope="module", params=["v1", "v2", "v3", "v4"])
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    clang = shutil.which("clang-22") or pytest.skip("no clang-22")
    directory = tmp_path_factory.mktemp("objects")
    found = {}
    for order, target in (("little", "bpfel"), ("big", "bpfeb")):
        found[order] = directory / f"{order}.o"
        options = ["-target", target, "-O2", "-g", "-Wall", f"-mcpu={request.param}"]
        subprocess.run([clang, *options, "-c", SOURCE, "-o", found[order]], check=True)
    return found


def after_packets(path: Path, engine: str) -> tuple[list[tuple[int, bytes]], dict[str, Any], Instance]:
    """Verdicts, packets and the typed contents of the maps, after real traffic."""
    (program,) = load(path).programs.values()
    instance = instantiate(verify(program), engine=engine, seed=1)  # type: ignore[arg-type]
    verdicts = []
    for name in ("http.pcap", "vlan.pcap", "dns.pcap"):
        for number, packet in enumerate(read_pcap(CAPTURES / name)):
            result = instance.run(packet, {"ingress_ifindex": number % 3})
            verdicts.append((result.value, result.packet))
    return verdicts, {name: dict(map.typed) for name, map in instance.maps.items()}, instance


@pytest.mark.oracle
@pytest.mark.slow
def test_one_source_for_machines_of_both_orders(objects: dict[str, Path]):
    """The same verdicts, the same numbers in maps and variables; the bytes of a number are in reverse."""
    little, contents, _ = after_packets(objects["little"], "interpreter")
    assert len({value for value, _ in little}) > 1
    assert len(contents["flows"]) > 10
    for engine in ENGINES:
        verdicts, typed, instance = after_packets(objects["big"], engine)
        assert verdicts == little
        assert typed == contents
        (octets,) = (values["octets"] for values in typed[".data"].values())
        assert octets.to_bytes(4, "big") in instance.maps[".data"][0]
