"""What is dropped before states are compared is what nobody reads; what remains is written in one way and holds the same bytes."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pybpf.verifier.forget import Forgetting
from pybpf.verifier.liveness import Live, bytes_from
from pybpf.verifier.scalar import includes
from pybpf.verifier.state import FIRST_SLOT, State, entry_state, read_bytes, write_bytes
from pybpf.verifier.values import LENGTH, Cell, Number, Pointer, Target, Values

SLOT = FIRST_SLOT
ALL = bytes_from(-8, 8)
REGISTERS = (1 << FIRST_SLOT) - 1


def kept(values: Values, cell: Cell, read: int, matters: int | None = None) -> Cell:
    """What remains of the slot below r10."""
    state = entry_state(values)
    state.cells[SLOT] = cell
    live = {0: Live(read, read if matters is None else matters)}
    Forgetting(values, live, lasting=True).at(0, state)
    return state.cells[SLOT]


def written(values: Values, *parts: tuple[int, int, int]) -> Cell:
    """A slot after numbers were written: (first byte, size, number)."""
    cell: Cell = None
    for first, size, number in parts:
        cell = write_bytes(values, cell, first, size, values.constant(number))
    return cell


@pytest.mark.parametrize("byteorder", ["little", "big"])
def test_equal_bytes_are_one_cell(byteorder: Any) -> None:
    """However they were written."""
    values = Values(byteorder=byteorder)
    low, high = (0x2211, 0x4433) if byteorder == "little" else (0x1122, 0x3344)
    whole = 0x44332211 if byteorder == "little" else 0x11223344
    read = bytes_from(-8, 4)
    two, one = written(values, (0, 2, low), (2, 2, high)), written(values, (0, 4, whole))
    assert two is not one
    assert kept(values, two, read) is kept(values, one, read)


def test_bytes_that_nobody_reads_are_gone() -> None:
    values = Values()
    cell = kept(values, values.constant(0x8877665544332211), bytes_from(-8, 2))
    assert cell is written(values, (0, 2, 0x2211))
    assert kept(values, cell, bytes_from(-4, 4)) is None


def test_bytes_that_do_not_matter_are_there_and_may_be_anything() -> None:
    values = Values()
    cell = kept(values, values.constant(0x2211), ALL, bytes_from(-8, 1))
    low, high = read_bytes(values, cell, 0, 1), read_bytes(values, cell, 1, 7)
    assert isinstance(low, Number)
    assert low.value == 0x11
    assert isinstance(high, Number)
    assert high.scalar is values.numbers.unsigned(0, (1 << 56) - 1)


def test_an_address_is_kept_or_dropped_whole() -> None:
    """Also where a part of it is read, or its value does not matter."""
    values = Values()
    pointer = values.pointer(Target.MAP_VALUE, 1, 8)
    assert kept(values, pointer, bytes_from(-8, 1), 0) is pointer
    assert kept(values, pointer, 0) is None


def test_what_remains_holds_what_was_there() -> None:
    """For random slots and sets of bytes: what a load of live bytes gave is within what it gives."""
    chosen = random.Random(3)
    for _ in range(2000):
        values = Values(byteorder=chosen.choice(["little", "big"]))
        cell: Cell = None
        for number in range(chosen.randint(1, 4)):
            size = chosen.choice([1, 2, 4, 8])
            known = values.constant(chosen.choice([0, chosen.getrandbits(8 * size)]))
            unknown = values.defined(values.numbers.unsigned(0, (1 << 8 * size) - 1), ("at", number))
            first = chosen.randrange(0, 8, size)
            cell = write_bytes(values, cell, first, size, chosen.choice([known, unknown]))
        live = chosen.getrandbits(8) << FIRST_SLOT
        after = kept(values, cell, live, live & chosen.getrandbits(8) << FIRST_SLOT)
        for size in (1, 2, 4, 8):
            for first in range(0, 8, size):
                if bytes_from(first - 8, size) & ~live:
                    continue
                before, now = (read_bytes(values, each, first, size) for each in (cell, after))
                assert (before is None) == (now is None)
                if isinstance(before, Number) and isinstance(now, Number):
                    assert includes(now.scalar, before.scalar)


def proofs(values: Values, cells: dict[int, Cell], *, lasting: bool) -> tuple[dict[Any, int], bool]:
    """What remains of some proofs where these registers live, and whether something was given up."""
    state = State([None] * len(entry_state(values).cells), (), {(): 34, (("at", 3),): 20})
    for register, cell in cells.items():
        state.cells[register] = cell
    forgetting = Forgetting(values, {0: Live(REGISTERS, REGISTERS)}, lasting=lasting)
    forgetting.at(0, state)
    return state.proofs, forgetting.lossy


def test_proofs_go_with_their_pointers() -> None:
    """The one behind a sum with the pointers moved by it, the one behind the start with the last; or with the sum's unknowns."""
    values = Values()
    unknown = values.defined(values.numbers.unsigned(0, 60), ("at", 3))
    start = values.pointer(Target.PACKET)
    moved = values.pointer(Target.PACKET, 0, 14, unknown.scalar, (("at", 3),))
    assert isinstance(moved, Pointer)
    both = {(): 34, (("at", 3),): 20}
    assert proofs(values, {1: start, 2: moved}, lasting=False) == (both, False)
    assert proofs(values, {1: start, 2: unknown}, lasting=False) == ({(): 34}, True)
    assert proofs(values, {2: unknown}, lasting=False) == ({}, True)
    assert proofs(values, {2: unknown}, lasting=True) == (both, False)
    assert proofs(values, {1: start}, lasting=True) == ({(): 34}, False)
    assert LENGTH not in unknown.bases
