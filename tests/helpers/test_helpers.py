"""Helpers: contracts as text, and bodies on a machine that a test provides."""

from __future__ import annotations

import errno

import pytest

from pybpf import ArgumentError
from pybpf.helpers import LINUX, OKO, Arg, Helper, Map, Ret, number_of
from pybpf.lookup3 import hashlittle
from pybpf.semantics import U64


class OneSlot:
    """A map of one entry, whose value stands 16 bytes into its block."""

    key_size, value_size = 2, 4

    def __init__(self) -> None:
        self.entry: tuple[bytes, bytes] | None = None
        self.flags: list[int] = []

    def lookup(self, key: bytes) -> int | None:
        return 16 if self.entry and self.entry[0] == key else None

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        self.flags.append(flags)
        self.entry = key, value
        return 0

    def delete(self, key: bytes) -> int:
        if not self.entry or self.entry[0] != key:
            return -errno.ENOENT
        self.entry = None
        return 0


class Bench:
    """A machine of 64 bytes at address 0, with one map whose block begins at 0x1000."""

    def __init__(self) -> None:
        self.memory = bytearray(range(64))
        self.map = OneSlot()

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.memory[address : address + size])

    def write(self, address: int, data: bytes) -> None:
        self.memory[address : address + len(data)] = data

    def map_at(self, address: int) -> tuple[Map, int]:
        assert address == 99
        return self.map, 0x1000

    def now(self) -> int:
        return (1 << 64) + 5


def call(helper: Helper, bench: Bench, *args: int) -> int:
    assert helper.body is not None
    return helper.body(bench, *args, *[0xBAD] * (5 - len(args)))


@pytest.mark.parametrize(
    ("contract", "args", "returns"),
    [
        ("-> num", (), Ret.NUM),
        ("->void", (), Ret.VOID),
        ("map key -> value?", (Arg.MAP, Arg.KEY), Ret.VALUE_OR_NULL),
        ("map key value any -> err", (Arg.MAP, Arg.KEY, Arg.VALUE, Arg.ANY), Ret.ERR),
        ("ctx mem size out? size0 -> u32", (Arg.CTX, Arg.MEM, Arg.SIZE, Arg.OUT_OR_NULL, Arg.SIZE_OR_ZERO), Ret.U32),
        ("mem? size0 -> num", (Arg.MEM_OR_NULL, Arg.SIZE_OR_ZERO), Ret.NUM),
    ],
)  # fmt: skip
def test_a_contract_says_arguments_and_result(contract: str, args: tuple[Arg, ...], returns: Ret):
    helper = Helper("mine", contract)
    assert (helper.args, helper.returns) == (args, returns)


@pytest.mark.parametrize(
    ("contract", "reason"),
    [
        ("", "expected at most five arguments, then '->' and a result"),
        ("map key", "expected at most five arguments, then '->' and a result"),
        ("any any any any any any -> num", "expected at most five arguments"),
        ("pointer -> num", "'pointer' is not a valid Arg"),
        ("any ->", "'' is not a valid Ret"),
        ("any -> number", "'number' is not a valid Ret"),
        ("any -> num -> num", "'num -> num' is not a valid Ret"),
        ("mem -> num", "a sized pointer and its size stand together"),
        ("size -> num", "a sized pointer and its size stand together"),
        ("mem any size -> num", "a sized pointer and its size stand together"),
        ("out? out size -> num", "a sized pointer and its size stand together"),
        ("key -> num", "a key or value needs a map argument before it"),
        ("value map -> num", "a key or value needs a map argument before it"),
    ],
)
def test_a_contract_that_makes_no_sense_is_refused(contract: str, reason: str):
    """When it is read, with the contract in the message."""
    with pytest.raises(ArgumentError, match="helper contract") as raised:
        _ = Helper("mine", contract).args
    assert repr(contract) in str(raised.value)
    assert reason in str(raised.value)


@pytest.mark.parametrize("table", [LINUX, OKO])
def test_every_contract_of_the_tables_is_one(table: dict[int, Helper]):
    for helper in table.values():
        assert len(helper.args) <= 5
        assert helper.returns in Ret


def test_numbers_are_those_of_linux_and_oko():
    assert {number: helper.name for number, helper in LINUX.items() if number <= 5} == {
        1: "map_lookup_elem",
        2: "map_update_elem",
        3: "map_delete_elem",
        4: "probe_read",
        5: "ktime_get_ns",
    }
    assert {number: helper.name for number, helper in OKO.items()} == {
        1: "map_lookup",
        2: "map_update",
        3: "map_delete",
        5: "time_get_ns",
        6: "hash",
    }


def test_a_number_is_found_by_either_name():
    for number, helper in LINUX.items():
        assert number_of(LINUX, helper.name) == number_of(LINUX, f"bpf_{helper.name}") == number
    for number, helper in OKO.items():
        assert number_of(OKO, helper.name) == number_of(OKO, f"ubpf_{helper.name}") == number
    assert number_of({7: Helper("bpf_mine", "-> num")}, "bpf_mine") == 7
    assert number_of(OKO, "map_lookup_elem") is None


@pytest.mark.parametrize("table", [LINUX, OKO], ids=["linux", "oko"])
def test_map_functions(table: dict[int, Helper]):
    """Lookup gives an address in the map's block or null; the others zero or a negative error number of 64 bits."""
    bench = Bench()
    key, value = 2, 8
    assert call(table[1], bench, 99, key) == 0
    assert call(table[3], bench, 99, key) == -errno.ENOENT & U64
    assert call(table[2], bench, 99, key, value, 1) == 0
    assert bench.map.entry == (b"\2\3", bytes([8, 9, 10, 11]))
    assert call(table[1], bench, 99, key) == 0x1010
    assert call(table[3], bench, 99, key) == 0
    assert bench.map.entry is None


def test_update_takes_flags_in_linux_alone():
    bench = Bench()
    call(LINUX[2], bench, 99, 2, 8, 1)
    call(OKO[2], bench, 99, 2, 8, 1)
    assert bench.map.flags == [1, 0]


def test_time_is_the_machines_cut_to_a_register():
    assert call(LINUX[5], Bench()) == call(OKO[5], Bench()) == 5


def test_hash_is_lookup3_over_memory():
    assert call(OKO[6], Bench(), 3, 20) == hashlittle(bytes(range(3, 23)))
    assert call(OKO[6], Bench(), 3, 0) == 0xDEADBEEF
