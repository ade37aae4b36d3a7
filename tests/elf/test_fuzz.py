"""Objects changed at random: an error of the documented tree or an object, in bounded time, whatever was changed."""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybpf import BpfError, ElfError, Object, load
from pybpf.btf import Kind, format_type
from tests.btf.builder import BtfBuilder
from tests.conftest import SHARED
from tests.elf.builder import EXIT, OBJECT, Elf, call

EXAMPLES = Path(__file__).parents[2] / "examples/objects"
OBJECTS = sorted(EXAMPLES.rglob("*.o"))
SMALL = [path for path in sorted((SHARED / "elf").rglob("*.o")) if path.stat().st_size < 50_000]
NUMBERS = [
    0,
    1,
    7,
    8,
    16,
    24,
    0x7F,
    0x80,
    0xFF,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    2**63,
    2**64 - 1,
]


def read_all(data: bytes) -> Object | None:
    """Load, then look at everything that is read later; only documented errors pass."""
    try:
        obj = load(data)
    except ElfError as error:
        message = str(error)
        obj = None
    if obj is None:
        assert "\n" not in message
        return None
    for program in obj.programs.values():
        assert program.defect is None or isinstance(program.defect, BpfError)
        for pc in program.code:
            program.source(pc)
        assert set(program.references) <= set(program.code)
        assert {spec.name for spec in program.maps} <= set(obj.maps)
    if obj.btf:  # CO-RE relocations against types that may be as damaged
        assert set(load(data, btf=obj.btf).programs) == set(obj.programs)
    for id in range(len(obj.btf) if obj.btf else 0):
        assert obj.btf
        try:
            format_type(obj.btf, id)
            obj.btf.size_of(id)
        except ElfError:
            continue
    return obj


def mutated(data: bytes, random: random.Random) -> bytes:
    """A few changes of the kinds that files suffer, most of them in the tables and not in the code."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 6)):
        size = len(changed)
        at = random.choice(
            [random.randrange(size), max(0, size - random.randrange(1, 2000)), random.randrange(64)]
        )
        at = min(at, size - 1)
        match random.randrange(6):
            case 0:
                changed[at] = random.randrange(256)
            case 1:
                changed[at] ^= 1 << random.randrange(8)
            case 2 | 3:
                width = random.choice([1, 2, 4, 8])
                value = random.choice(NUMBERS) % 256**width
                changed[at : at + width] = value.to_bytes(width, random.choice(["little", "big"]))
            case 4:
                length = random.randrange(1, 64)
                source = random.randrange(size)
                changed[at : at + length] = changed[source : source + length]
            case 5 if random.random() < 0.1:
                del changed[at:]
                changed = changed or bytearray(b"\x7f")
    return bytes(changed)


@settings(max_examples=150)
@given(data=st.data())
def test_mutated_examples(data: st.DataObject):
    """The examples, in which hypothesis chooses what to change and makes a failure small."""
    whole = data.draw(st.sampled_from(OBJECTS)).read_bytes()
    changes = st.dictionaries(st.integers(0, len(whole) - 1), st.integers(0, 255), max_size=8)
    changed = bytearray(whole)
    for at, value in data.draw(changes).items():
        changed[at] = value
    read_all(bytes(changed[: data.draw(st.integers(0, len(whole)) | st.just(len(whole)))]))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_mutated_objects(seed: int):
    """Many changes of the examples and of the corpus where it is there; a failure names its seed and number."""
    chance = random.Random(seed)
    files = [path.read_bytes() for path in [*OBJECTS, *SMALL]]
    loaded = 0
    for number in range(400):
        data = mutated(chance.choice(files), chance)
        try:
            loaded += read_all(data) is not None
        except Exception as error:
            error.add_note(f"seed {seed}, number {number}")
            raise
    assert 40 < loaded < 390


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_anything_behind_a_good_header(rest: bytes):
    """Whatever follows 64 right bytes."""
    header = (
        b"\x7fELF\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 1, 247, 1, 0, 0, 64, 0, 64, 0, 0, 64, 3, 1)
    )
    read_all(header + rest)


def _many_functions_of_one_name(elf: Elf, count: int) -> None:
    section = elf.section("xdp", EXIT * count)
    for index in range(count):
        elf.symbol("f", section, 8 * index, 8)


def _many_map_sections(elf: Elf, count: int) -> None:
    for _ in range(count):
        elf.symbol("m", elf.section("maps/x", elf.words(1, 4, 4, 1), 3), 0, 16, OBJECT)


def _many_calls(elf: Elf, count: int) -> None:
    section = elf.section("xdp", call(0) * (count - 1) + EXIT)
    for index in range(count):
        elf.symbol(f"f{index}", section, 8 * index, 8)


def _many_sections(elf: Elf, count: int) -> None:
    for _ in range(count):
        elf.section("xdp", EXIT)


def _many_types_of_long_names(elf: Elf, count: int) -> None:
    btf = BtfBuilder()
    start = btf.string("n" * 100_000)
    for index in range(count):
        btf.records += btf.pack("III", start + index, int(Kind.STRUCT) << 24, 0)
    btf.count = count
    elf.section(".BTF", btf.build(), 0)
    elf.section("xdp", EXIT)


def _many_relocations(elf: Elf, count: int) -> None:
    section = elf.section("xdp", call() + EXIT)
    symbol = elf.symbol("main", section, 0, 16)
    for _ in range(count):
        elf.relocate(section, 0, symbol, 10)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fill",
    [
        _many_functions_of_one_name,
        _many_map_sections,
        _many_calls,
        _many_sections,
        _many_types_of_long_names,
        _many_relocations,
    ],
    ids=lambda fill: fill.__name__,
)
def test_work_does_not_grow_with_the_square_of_the_file(fill: Callable[[Elf, int], None]):
    """Files made to be slow: four times the file makes about four times the function calls."""
    small, large = (_calls_of_reading(fill, count) for count in (600, 2400))
    assert large < 7 * small


def _calls_of_reading(fill: Callable[[Elf, int], None], count: int) -> int:
    """How many functions are called, Python's and the interpreter's own, to read a file of that many things."""
    elf, calls = Elf(), 0
    fill(elf, count)
    data = elf.build()

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        read_all(data)
    finally:
        sys.setprofile(None)
    return calls
