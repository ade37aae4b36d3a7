"""The forms in which maps are defined, and data sections as maps."""

from __future__ import annotations

import pytest

from pybpf import MapSpec, Object, Reference, RefKind, load
from pybpf.btf import Kind
from tests.btf.builder import BtfBuilder
from tests.elf.builder import (
    ALLOC,
    DATA,
    EXIT,
    LOCAL,
    NOBITS,
    NOTYPE,
    OBJECT,
    RETURN_2,
    SECTION,
    Elf,
    load_address,
    slots,
)

BYTEORDERS = pytest.mark.parametrize("byteorder", ["little", "big"])


def program(elf: Elf, *symbols: int, section: str = "xdp") -> None:
    """Add a program that loads the address of each symbol."""
    code = b"".join(slots((0x18, 1, 0, 0), (0, 0, 0, 0), byteorder=elf.byteorder) for _ in symbols)
    index = elf.section(section, code + slots((0x95, 0, 0, 0), byteorder=elf.byteorder))
    elf.symbol("main", index, 0, len(code) + 8)
    for number, symbol in enumerate(symbols):
        elf.relocate(index, 16 * number, symbol)


def references(obj: Object, name: str = "main") -> list[tuple[RefKind, str, int]]:
    """What a program refers to, in order."""
    return [(r.kind, r.name, r.offset) for _, r in sorted(obj.programs[name].references.items())]


@BYTEORDERS
@pytest.mark.parametrize("extra", [0, 1, 2, 3, 5, 66])
def test_legacy_definitions(byteorder: str, extra: int):
    """Of 16 bytes and more: what a loader of its day put behind the entries, the flags are the first."""
    elf = Elf(byteorder)
    rest = [0x10 + n for n in range(extra)]
    maps = elf.section("maps", elf.words(1, 8, 16, 100, *rest) + elf.words(2, 4, 32, 7, *rest), DATA)
    size = 16 + 4 * extra
    second = elf.symbol("second", maps, size, size, OBJECT)
    first = elf.symbol("first", maps, 0, size, OBJECT)
    program(elf, second, first, second)
    obj = load(elf.build())
    flags = 0x10 if extra else 0
    assert list(obj.maps.values()) == [
        MapSpec("first", "hash", 8, 16, 100, flags, byteorder=byteorder),
        MapSpec("second", "array", 4, 32, 7, flags, byteorder=byteorder),
    ]
    assert references(obj) == [(RefKind.MAP, name, 0) for name in ("second", "first", "second")]
    assert [spec.name for spec in obj.programs["main"].maps] == ["second", "first"]
    assert obj.notes == ()


def test_a_map_reference_is_the_first_form_of_a_wide_load():
    """src is 1 and the number is nowhere: it stands beside the code."""
    elf = Elf()
    maps = elf.section("maps", elf.words(1, 8, 16, 100), DATA)
    program(elf, elf.symbol("m", maps, 0, 16, OBJECT))
    instruction = load(elf.build()).programs["main"].code[0]
    assert (instruction.op.code, instruction.dst, instruction.src, instruction.imm) == ("map_fd", 1, 1, 0)


def test_static_maps_are_found_by_section_and_offset():
    """Compilers name the section and put the offset into the instruction."""
    elf = Elf()
    maps = elf.section("maps", elf.words(1, 8, 16, 100, 0) + elf.words(2, 4, 32, 7, 0), DATA)
    elf.symbol("first", maps, 0, 20, OBJECT, LOCAL)
    elf.symbol("second", maps, 20, 20, OBJECT, LOCAL)
    index = elf.section("xdp", load_address(imm=20) + load_address(imm=0) + load_address(imm=4) + EXIT)
    elf.symbol("main", index, 0, 56)
    whole = elf.symbol("", maps, 0, 0, SECTION, LOCAL)
    for offset in (0, 16, 32):
        elf.relocate(index, offset, whole)
    assert references(load(elf.build())) == [
        (RefKind.MAP, "second", 0),
        (RefKind.MAP, "first", 0),
        (RefKind.UNSUPPORTED, "section 'maps': no map at byte 4", 0),
    ]


@pytest.mark.parametrize(
    ("section", "first", "second"), [("filter", "array", "hash"), ("xdp", "hash", "percpu_array")]
)
def test_the_program_type_says_what_the_numbers_of_20_bytes_mean(section: str, first: str, second: str):
    """Oko's and Linux's definitions of 20 bytes look alike; the last word is Oko's hash functions, Linux's flags."""
    elf = Elf()
    number = 4 if section == "filter" else 6
    maps = elf.section("maps", elf.words(1, 4, 8, 10, 3) + elf.words(number, 4, 8, 10, 3), DATA)
    elf.symbol("a", maps, 0, 20, OBJECT)
    elf.symbol("b", maps, 20, 20, OBJECT)
    elf.symbol("main", elf.section(section, RETURN_2), 0, 16)
    obj = load(elf.build())
    flags = 0 if section == "filter" else 3
    assert list(obj.maps.values()) == [
        MapSpec("a", first, 4, 8, 10, flags),
        MapSpec("b", second, 4, 8, 10, flags),
    ]


def test_the_type_asked_for_says_what_the_numbers_mean():
    """An object of section .text alone, as Oko's examples are."""
    elf = Elf()
    maps = elf.section("maps", elf.words(1, 4, 8, 10, 0), DATA)
    elf.symbol("m", maps, 0, 20, OBJECT)
    elf.symbol("entry", elf.section(".text", RETURN_2), 0, 16)
    assert load(elf.build()).maps["m"].type == "hash"
    assert load(elf.build(), type="filter").maps["m"].type == "array"
    assert load(elf.build(), type="xdp").maps["m"].type == "hash"


def test_oko_definitions_stand_in_any_writable_section():
    """Beside other variables, which are none: another size, another first word, or not to be written."""
    elf = Elf()
    definition = elf.words(4, 16, 24, 1000, 0)
    data = elf.section(".data", definition + bytes(8) + elf.words(99, 0, 0, 0, 0), DATA)
    constant = elf.section(".rodata", definition, ALLOC)
    symbols = [
        elf.symbol("table", data, 0, 20, OBJECT),
        elf.symbol("counter", data, 20, 8, OBJECT),
        elf.symbol("five", data, 28, 20, OBJECT),
        elf.symbol("constant", constant, 0, 20, OBJECT),
    ]
    program(elf, *symbols, section="filter")
    obj = load(elf.build())
    assert obj.maps["table"] == MapSpec("table", "hash", 16, 24, 1000)
    assert references(obj) == [
        (RefKind.MAP, "table", 0),
        (RefKind.VALUE, ".data", 20),
        (RefKind.VALUE, ".data", 28),
        (RefKind.VALUE, ".rodata", 0),
    ]


def test_a_data_section_of_another_type_holds_no_definitions():
    """For Linux's types a variable of 20 bytes is a variable."""
    elf = Elf()
    data = elf.section(".data", elf.words(1, 16, 24, 1000, 0), DATA)
    program(elf, elf.symbol("table", data, 0, 20, OBJECT))
    assert references(load(elf.build())) == [(RefKind.VALUE, ".data", 0)]


def test_an_unknown_map_type_spoils_what_uses_it():
    """The map is listed, the program that uses it says why it cannot be, the other is not touched."""
    elf = Elf()
    maps = elf.section("maps", elf.words(77, 4, 8, 10) + elf.words(1, 4, 8, 10), DATA)
    odd = elf.symbol("odd", maps, 0, 16, OBJECT)
    elf.symbol("good", maps, 16, 16, OBJECT)
    program(elf, odd)
    obj = load(elf.build())
    assert obj.maps["odd"].type == "type 77"
    assert references(obj) == [(RefKind.UNSUPPORTED, "map 'odd': unknown map type 77", 0)]
    assert obj.maps["good"].type == "hash"
    assert obj.notes == ("map 'odd': unknown map type 77", "function 'main': map 'odd': unknown map type 77")


@pytest.mark.parametrize("sized", [True, False])
def test_definitions_of_different_sizes(sized: bool):
    """Each is as long as its symbol says, or reaches to the next; what stands behind the flags does not matter."""
    elf = Elf()
    definitions = {"a": (1, 4, 8, 10), "b": (2, 4, 16, 20, 0, 2, *[7] * 64), "c": (5, 8, 8, 30, 1, 0, 0)}
    data = b"".join(elf.words(*words) for words in definitions.values())
    maps = elf.section("maps", data, DATA)
    offset, symbols = 0, []
    for name, words in definitions.items():
        symbols.append(elf.symbol(name, maps, offset, 4 * len(words) if sized else 0, OBJECT))
        offset += 4 * len(words)
    program(elf, *symbols)
    obj = load(elf.build())
    assert list(obj.maps.values()) == [
        MapSpec("a", "hash", 4, 8, 10),
        MapSpec("b", "array", 4, 16, 20),
        MapSpec("c", "percpu_hash", 8, 8, 30, 1),
    ]
    assert references(obj) == [(RefKind.MAP, name, 0) for name in definitions]


@pytest.mark.parametrize(
    ("size", "offsets", "notes"),
    [
        (40, [0], []),
        (41, [0, 20], []),
        (40, [0, 30], ["map 'm30': 10 bytes are no definition"]),
        (40, [20, 80], ["map 'm80': 0 bytes are no definition"]),
        (40, [30, 80], ["map 'm30': 10 bytes are no definition", "map 'm80': 0 bytes are no definition"]),
        (40, [20], []),
        (8, [0], ["map 'm0': 8 bytes are no definition"]),
        (40, [80], ["map 'm80': 0 bytes are no definition"]),
        (40, [], ["section 'maps': no symbol says where its maps are"]),
    ],
)
def test_sections_that_cannot_be_cut_into_definitions(size: int, offsets: list[int], notes: list[str]):
    """The notes say why; programs that use no map are not touched."""
    elf = Elf()
    maps = elf.section("maps", elf.words(1, 4, 8, 10).ljust(size, b"\0")[:size], DATA)
    for offset in offsets:
        elf.symbol(f"m{offset}", maps, offset, 20, OBJECT)
    program(elf)
    obj = load(elf.build())
    assert set(obj.maps) == {f"m{offset}" for offset in offsets}
    assert list(obj.notes) == notes
    assert obj.programs["main"].defect is None


@pytest.mark.parametrize(("size", "word", "value"), [(28, 5, 1), (36, 7, 42)])
def test_inner_maps_of_legacy_definitions(size: int, word: int, value: int):
    """The kernel's samples name the inner map by position, iproute2 by id."""
    elf = Elf()

    def definition(type: int, *rest: int) -> bytes:
        return elf.words(type, 4, 4, 10, 0, *rest).ljust(size, b"\0")

    outer = list(elf.words(12, 4, 4, 10).ljust(size, b"\0"))
    outer[4 * word] = value
    maps = elf.section("maps", bytes(outer) + definition(1, 42), DATA)
    elf.symbol("outer", maps, 0, size, OBJECT)
    elf.symbol("inner", maps, size, size, OBJECT)
    program(elf)
    obj = load(elf.build())
    assert obj.maps["outer"].type == "array_of_maps"
    assert obj.maps["outer"].inner == obj.maps["inner"] == MapSpec("inner", "hash", 4, 4, 10)


def test_labels_in_sections_of_other_names_define_no_map():
    """A symbol without a type does: old compilers gave none."""
    elf = Elf()
    maps = elf.section("maps/one", elf.words(1, 4, 8, 10), DATA)
    elf.symbol("one", maps, 0, 0, NOTYPE)
    other = elf.section("mapsx", elf.words(1, 4, 8, 10), DATA)
    elf.symbol("two", other, 0, 16, OBJECT)
    program(elf)
    assert list(load(elf.build()).maps) == ["one"]


def test_data_sections_are_maps_of_one_value():
    """Contents, whether they may be written, and the offset in the instruction's second immediate."""
    elf = Elf()
    data = elf.section(".data", b"abcdefgh", DATA)
    bss = elf.section(".bss", 24, DATA, NOBITS)
    constants = elf.section(".rodata.str1.1", b"hello\0", ALLOC)
    custom = elf.section("tunables", b"12345678", DATA)
    elf.section(".eh_frame", bytes(8), ALLOC)
    elf.section(".data.empty", b"", DATA)
    symbols = [
        elf.symbol("d", data, 4, 4, OBJECT),
        elf.symbol("b", bss, 16, 8, OBJECT),
        elf.symbol("s", constants, 0, 6, OBJECT),
        elf.symbol("t", custom, 8, 0, OBJECT),
    ]
    program(elf, *symbols)
    obj = load(elf.build())
    assert list(obj.maps.values()) == [
        MapSpec(".data", "array", 4, 8, 1, initial=b"abcdefgh"),
        MapSpec(".bss", "array", 4, 24, 1),
        MapSpec(".rodata.str1.1", "array", 4, 6, 1, initial=b"hello\0", read_only=True),
        MapSpec("tunables", "array", 4, 8, 1, initial=b"12345678"),
    ]
    assert references(obj) == [
        (RefKind.VALUE, ".data", 4),
        (RefKind.VALUE, ".bss", 16),
        (RefKind.VALUE, ".rodata.str1.1", 0),
        (RefKind.VALUE, "tunables", 8),
    ]
    instruction = obj.programs["main"].code[0]
    assert (instruction.op.code, instruction.src, instruction.imm) == ("map_value_fd", 2, 4 << 32)


@pytest.mark.parametrize("imm", [9, -1])
def test_addresses_outside_of_a_data_section(imm: int):
    """One byte behind the end is still an address of the section, two are not."""
    elf = Elf()
    data = elf.section(".data", bytes(8), DATA)
    index = elf.section("xdp", load_address(imm=imm) + EXIT)
    elf.symbol("main", index, 0, 24)
    elf.relocate(index, 0, elf.symbol("", data, 0, 0, SECTION, LOCAL))
    assert references(load(elf.build())) == [
        (RefKind.UNSUPPORTED, f"section '.data': address of byte {imm}", 0)
    ]


def test_an_address_in_debug_information():
    """A section that is not loaded has no address."""
    elf = Elf()
    debug = elf.section(".debug_str", bytes(8), 0)
    program(elf, elf.symbol("", debug, 0, 0, SECTION, LOCAL))
    assert references(load(elf.build())) == [
        (RefKind.UNSUPPORTED, "section '.debug_str': address of byte 0", 0)
    ]


def test_data_that_holds_addresses():
    """A table of strings or functions needs them filled in: programs that use it are unsupported, its neighbours not."""
    elf = Elf()
    data = elf.section(".data", bytes(32), DATA)
    before = elf.symbol("before", data, 0, 8, OBJECT)
    table = elf.symbol("table", data, 8, 16, OBJECT)
    after = elf.symbol("after", data, 24, 8, OBJECT)
    elf.relocate(data, 16, before)
    program(elf, before, table, after)
    assert references(load(elf.build())) == [
        (RefKind.VALUE, ".data", 0),
        (RefKind.UNSUPPORTED, "section '.data': addresses in data, from byte 8, are not filled in", 0),
        (RefKind.VALUE, ".data", 24),
    ]


def btf_object(btf: BtfBuilder, *maps: tuple[str, int, int], byteorder: str = "little") -> Elf:
    """An object whose .maps section has those symbols (name, value, size); symbol numbers follow their order."""
    elf = Elf(byteorder)
    section = elf.section(".maps", bytes(max((value + size for _, value, size in maps), default=8)), DATA)
    elf.section(".BTF", btf.build(), 0)
    for name, value, size in maps:
        elf.symbol(name, section, value, size, OBJECT)
    return elf


@BYTEORDERS
def test_btf_definitions(byteorder: str):
    """Sizes by type or number; the types are kept; offsets come from the symbols, as BTF's are not filled in."""
    btf = BtfBuilder(byteorder)
    key, value = btf.int("u32", 4, 0), btf.struct("session", 24)
    pointer, to_value = btf.add(Kind.PTR, "", key), btf.add(Kind.PTR, "", value)
    size, entries, flags = btf.number(4), btf.number(1000), btf.number(1)
    first = btf.map(
        "first", type=btf.number(1), key=pointer, value=to_value, max_entries=entries, map_flags=flags
    )
    second = btf.map("second", type=btf.number(2), key_size=size, value_size=size, max_entries=entries)
    btf.datasec(".maps", (first, 0, 0), (second, 0, 0))
    elf = btf_object(btf, ("second", 0, 32), ("first", 32, 40), byteorder=byteorder)
    program(elf, 1, 2)
    obj = load(elf.build())
    assert list(obj.maps.values()) == [
        MapSpec("second", "array", 4, 4, 1000, byteorder=byteorder),
        MapSpec("first", "hash", 4, 24, 1000, 1, key_type=key, value_type=value, byteorder=byteorder),
    ]
    assert references(obj) == [(RefKind.MAP, "second", 0), (RefKind.MAP, "first", 0)]
    assert obj.btf is not None
    assert obj.btf[value].name == "session"
    assert obj.notes == ()


def test_pinning_and_placement_are_ignored():
    """They are wishes for a kernel."""
    btf = BtfBuilder()
    one = btf.number(1)
    ring = btf.map(
        "ring", type=btf.number(27), max_entries=btf.number(4096), pinning=one, numa_node=one, map_extra=one
    )
    btf.datasec(".maps", (ring, 0, 0))
    elf = btf_object(btf, ("ring", 0, 40))
    program(elf, 1)
    ring_spec = load(elf.build()).maps["ring"]
    assert ring_spec == MapSpec("ring", "ringbuf", max_entries=4096)
    assert ring_spec.pinning == "name"


def test_maps_of_maps_and_of_programs():
    """`values` says what a map holds, and its initialiser which; values are then numbers of 4 bytes."""
    btf = BtfBuilder()
    u32 = btf.add(Kind.PTR, "", btf.int("u32", 4, 0))
    one = btf.number(1)
    inner = btf.struct(
        "inner_t", 32, ("type", one, 0), ("key", u32, 64), ("value", u32, 128), ("max_entries", one, 192)
    )
    holds = btf.add(Kind.ARRAY, "", 0, btf.add(Kind.PTR, "", inner), 1, 0)
    outer = btf.map("outer", type=btf.number(12), key=u32, max_entries=btf.number(3), values=holds)
    proto = btf.add(Kind.FUNC_PROTO, "", 1)
    holds = btf.add(Kind.ARRAY, "", 0, btf.add(Kind.PTR, "", proto), 1, 0)
    jumps = btf.map("jumps", type=btf.number(3), key=u32, max_entries=btf.number(2), values=holds)
    flow = btf.add(Kind.VAR, "flow", inner, 1)
    btf.datasec(".maps", (outer, 0, 0), (jumps, 0, 0), (flow, 0, 0))
    elf = btf_object(btf, ("outer", 0, 48), ("jumps", 48, 40), ("flow", 88, 32))
    program(elf, 1, 2)
    elf.relocate(1, 40, 3)
    elf.relocate(1, 24, 3)
    elf.relocate(1, 48 + 32, 4)
    obj = load(elf.build())
    spec = MapSpec("outer.inner", "hash", 4, 4, 1, key_type=1, value_type=1)
    assert obj.maps["outer"] == MapSpec(
        "outer", "array_of_maps", 4, 4, 3, inner=spec, key_type=1, values=((0, "flow"), (2, "flow"))
    )
    assert obj.maps["jumps"] == MapSpec("jumps", "prog_array", 4, 4, 2, key_type=1, values=((1, "main"),))


def _no_btf(btf: BtfBuilder) -> None:
    btf.datasec(".data")


def _no_struct(btf: BtfBuilder) -> None:
    btf.datasec(".maps", (btf.add(Kind.VAR, "m", btf.int(), 1), 0, 0))


def _unknown_member(btf: BtfBuilder) -> None:
    btf.datasec(".maps", (btf.map("m", colour=btf.number(1)), 0, 0))


def _no_number(btf: BtfBuilder) -> None:
    btf.datasec(".maps", (btf.map("m", type=btf.int()), 0, 0))


def _unknown_type(btf: BtfBuilder) -> None:
    btf.datasec(".maps", (btf.map("m", type=btf.number(200)), 0, 0))


def _two_sizes(btf: BtfBuilder) -> None:
    pointer = btf.add(Kind.PTR, "", btf.int())
    btf.datasec(".maps", (btf.map("m", type=btf.number(1), key=pointer, key_size=btf.number(8)), 0, 0))


def _no_pointer(btf: BtfBuilder) -> None:
    btf.datasec(".maps", (btf.map("m", key=btf.int()), 0, 0))


def _no_size(btf: BtfBuilder) -> None:
    btf.datasec(".maps", (btf.map("m", key=btf.add(Kind.PTR, "", 0)), 0, 0))


def _circle(btf: BtfBuilder) -> None:
    typedef = btf.add(Kind.TYPEDEF, "t", btf.count + 1)
    btf.datasec(".maps", (btf.add(Kind.VAR, "m", typedef, 1), 0, 0))


def _itself(btf: BtfBuilder) -> None:
    number = btf.number(12)
    struct = btf.count + 3
    holds = btf.add(Kind.ARRAY, "", 0, btf.add(Kind.PTR, "", struct), 1, 0)
    btf.struct("outer", 16, ("type", number, 0), ("values", holds, 64))
    btf.datasec(".maps", (btf.add(Kind.VAR, "m", struct, 1), 0, 0))


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (_no_btf, "the object has no BTF that defines it"),
        (_no_struct, "its type is no struct but int"),
        (_unknown_member, "unknown member 'colour'"),
        (_no_number, "member 'type' holds no number"),
        (_unknown_type, "unknown map type 200"),
        (_two_sizes, "its key has 4 and 8 bytes"),
        (_no_pointer, "member 'key' is no pointer"),
        (_no_size, "type id 0 has no size: it is void"),
        (_circle, "type id 1 refers to itself"),
        (_itself, "a map of maps holds a map of maps"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_btf_definitions_that_are_not_understood(damage, problem: str):
    """The map is listed and noted, and unsupported where it is used."""
    btf = BtfBuilder()
    damage(btf)
    elf = btf_object(btf, ("m", 0, 32))
    program(elf, 1)
    obj = load(elf.build())
    assert list(obj.maps) == ["m"]
    assert references(obj) == [(RefKind.UNSUPPORTED, f"map 'm': {problem}", 0)]
    assert obj.notes == (f"map 'm': {problem}", f"function 'main': map 'm': {problem}")


def test_an_unknown_member_leaves_the_others():
    """A parameter of tomorrow: the map is unsupported, and shown with all that is understood."""
    btf = BtfBuilder()
    value = btf.add(Kind.PTR, "", btf.int("long", 8))
    btf.datasec(".maps", (btf.map("m", colour=btf.number(1), type=btf.number(1), value=value), 0, 0))
    elf = btf_object(btf, ("m", 0, 32))
    program(elf, 1)
    obj = load(elf.build())
    assert (obj.maps["m"].type, obj.maps["m"].value_size) == ("hash", 8)
    assert references(obj) == [(RefKind.UNSUPPORTED, "map 'm': unknown member 'colour'", 0)]


def test_damaged_btf():
    """Types are lost, and with them the maps that they define; the rest is read."""
    elf = btf_object(BtfBuilder(), ("m", 0, 32))
    elf.sections[1] = (".BTF", b"\x9f\xeb\x01", *elf.sections[1][2:])
    program(elf)
    obj = load(elf.build())
    assert obj.btf is None
    assert obj.notes == (
        "section '.BTF': not enough data for BTF header",
        "map 'm': the object has no BTF that defines it",
    )
    assert obj.programs["main"].defect is None


def test_a_name_is_given_once():
    """Two static maps of one name are two maps."""
    elf = Elf()
    maps = elf.section("maps", elf.words(1, 4, 8, 10) + elf.words(2, 4, 8, 10), DATA)
    one = elf.symbol("m", maps, 0, 16, OBJECT, LOCAL)
    two = elf.symbol("m", maps, 16, 16, OBJECT, LOCAL)
    program(elf, two, one)
    obj = load(elf.build())
    assert {name: spec.type for name, spec in obj.maps.items()} == {"m": "hash", "m#2": "array"}
    assert obj.programs["main"].references == {
        0: Reference(RefKind.MAP, "m#2"),
        2: Reference(RefKind.MAP, "m"),
    }
