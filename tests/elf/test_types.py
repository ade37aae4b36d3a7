"""A section called filter: Oko's filters, and the socket filters of others."""

from __future__ import annotations

import pytest

from pybpf import load
from pybpf.btf import Kind
from tests.btf.builder import BtfBuilder
from tests.elf.builder import DATA, EXIT, MOV, OBJECT, RETURN_2, Elf, load_address, slots

LOAD_HALF = slots((0x28, 0, 0, 12))
WIDE_OF_THOSE_BYTES = slots((0x18, 1, 0, 0x28), (0x28, 0, 0, 0x28))


def btf_of(parameter: str) -> bytes:
    """Types of a function ``main`` whose parameter is a pointer to a const struct."""
    btf = BtfBuilder()
    number = btf.int()
    struct = btf.struct(parameter, 4, ("len", number, 0))
    pointer = btf.add(Kind.PTR, "", btf.add(Kind.CONST, "", struct))
    proto = btf.add(Kind.FUNC_PROTO, "", number, btf.string("context"), pointer, vlen=1)
    btf.add(Kind.FUNC, "main", proto, vlen=1)
    return btf.build()


@pytest.mark.parametrize(
    ("code", "parameter", "type"),
    [
        (RETURN_2, None, "filter"),
        (RETURN_2, "packet", "filter"),
        (RETURN_2, "__sk_buff", "socket_filter"),
        (LOAD_HALF + EXIT, None, "socket_filter"),
        (WIDE_OF_THOSE_BYTES + MOV + EXIT, None, "filter"),
    ],
)
def test_what_a_filter_is(code: bytes, parameter: str | None, type: str):
    """Types of its parameter and loads from the packet tell them apart; the numbers of map types follow."""
    elf = Elf()
    section = elf.section("filter", code)
    elf.symbol("main", section, 0, len(code))
    elf.symbol("m", elf.section("maps", elf.words(2, 4, 8, 10, 0), DATA), 0, 20, OBJECT)
    if parameter:
        elf.section(".BTF", btf_of(parameter), 0)
    obj = load(elf.build())
    assert obj.programs["main"].type == type
    assert (obj.maps["m"].type == "array") == (type == "socket_filter")
    assert load(elf.build(), type="xdp").programs["main"].type == "xdp"


def test_types_in_a_circle_say_nothing():
    """The section's name is what is left."""
    btf = BtfBuilder()
    typedef = btf.add(Kind.TYPEDEF, "t", btf.count + 1)
    btf.add(Kind.FUNC, "main", typedef, vlen=1)
    elf = Elf()
    elf.symbol("main", elf.section("filter", load_address() + RETURN_2), 0, 32)
    elf.section(".BTF", btf.build(), 0)
    assert load(elf.build()).programs["main"].type == "filter"
