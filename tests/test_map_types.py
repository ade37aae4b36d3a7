"""Map types: the table agrees with itself, and with Linux on which helper takes which map."""

from __future__ import annotations

import pytest

from pybpf import MapSpec, Program, UnsupportedError, VerifierError, map_types, verify
from pybpf.helpers import LINUX, Arg
from pybpf.map_types import TYPES
from pybpf.program_types import BY_NAME
from tests import linux
from tests.helpers.calls import Call, cannot_be_set_up, map_of, sees_sockets

NOT_MADE = {"unspec", "struct_ops", "arena", "insn_array"}
"""What Linux does not make of sizes alone."""

TAKERS = {number: helper for number, helper in LINUX.items() if Arg.MAP in helper.args}


def test_the_helpers_of_the_table_take_maps():
    """Every helper that the table names has a map argument, and every helper that has one is named."""
    names = {helper.name for helper in TAKERS.values()}
    assert names == map_types.RESTRICTED
    assert list(map_types.LINUX_MAPS) == list(range(len(TYPES)))


def test_what_is_keyed_is_looked_up_set_and_deleted():
    keyed = {name for name, type in TYPES.items() if type.keyed}
    assert keyed == {
        "hash", "array", "percpu_hash", "percpu_array", "lru_hash", "lru_percpu_hash", "lpm_trie",
    }  # fmt: skip


def test_helpers_and_types_that_are_not_linux_s():
    """A user's helper takes maps with keys and values; of other maps, and of other types, nothing is known."""
    assert map_types.takes("mine", MapSpec("m", "hash", 4, 8, 1)) is True
    assert map_types.takes("mine", MapSpec("m", "ringbuf", 0, 0, 4096)) is None
    assert map_types.takes("map_lookup_elem", MapSpec("m", "count_min", 4, 8, 1)) is None
    assert map_types.takes("map_lookup_elem", MapSpec("m", "ringbuf", 0, 0, 4096)) is False


@pytest.mark.parametrize(
    ("flags", "read_only", "readable", "writable"),
    [
        (0, False, True, True),
        (1 << 7, False, True, False),
        (1 << 8, False, False, True),
        (0, True, True, False),
    ],
)
def test_flags_say_what_programs_may_do_with_values(
    flags: int, read_only: bool, readable: bool, writable: bool
):
    """BPF_F_RDONLY_PROG and BPF_F_WRONLY_PROG; what the loader made read-only."""
    spec = MapSpec("m", "array", 4, 8, 1, flags=flags, read_only=read_only)
    assert (map_types.readable(spec), map_types.writable(spec)) == (readable, writable)
    program = "*(u32 *)(r10 - 4) = 0\n r2 = r10\n r2 += -4\n r1 = m ll\n call map_lookup_elem\n if r0 == 0 goto out\n"
    for access, allowed in (("r1 = *(u64 *)(r0 + 0)", readable), ("*(u64 *)(r0 + 0) = 1", writable)):
        assert (
            accepted(Program.from_asm(f"{program} {access}\nout: r0 = 0\n exit", "xdp", {"m": spec}))
            == allowed
        )


def accepted(program: Program) -> bool:
    """pybpf's verdict."""
    try:
        verify(program)
    except VerifierError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("map_type", [name for name in TYPES if name not in NOT_MADE])
@pytest.mark.parametrize("name", ["tc", "xdp", "sk_msg", "sock_ops", "cgroup_skb", "kprobe", "syscall"])
@linux.asks
def test_maps_are_taken_as_in_linux(name: str, map_type: str):
    """By every helper that the type may call and that can be set up: pybpf's verdict is Linux's."""
    type = BY_NAME[name]
    for number in TAKERS.keys() & type.helpers.keys():
        helper = type.helpers[number]
        call = Call(helper, type, map_type)
        if cannot_be_set_up(helper, type) or (call.needs_socket and not sees_sockets(type)):
            continue
        program = call.program()
        reason = linux.refusal(program)
        assert (helper.name, accepted(program)) == (helper.name, reason is None), reason


@pytest.mark.slow
@pytest.mark.parametrize("flags", [1 << 7, 1 << 8])
@linux.asks
def test_flags_are_heeded_as_in_linux(flags: int):
    """Every helper on an array that programs may only read, or only write."""
    for helper in TAKERS.values():
        call = Call(helper, BY_NAME["tc"], "array")
        if helper.name in TYPES["array"].helpers and not cannot_be_set_up(helper, call.type):
            for after in (
                "",
                "if r0 == 0 goto out\n r1 = *(u8 *)(r0 + 0)",
                "if r0 == 0 goto out\n *(u8 *)(r0 + 0) = 1",
            ):
                program = call.program(after=after)
                spec = MapSpec("m", "array", 4, 8, 4, flags=flags)
                program = Program(
                    program.name, program.code, program.type, references=program.references, maps=(spec,)
                )
                reason = linux.refusal(program)
                assert (helper.name, after, accepted(program)) == (helper.name, after, reason is None), reason


def test_an_inner_map_is_used_like_any_other():
    """A lookup in a map of maps gives a map; one that nothing describes is unsupported."""
    text = """
        *(u32 *)(r10 - 4) = 0
        r2 = r10
        r2 += -4
        r1 = m ll
        call map_lookup_elem
        if r0 == 0 goto out
        r1 = r0
        r2 = r10
        r2 += -4
        call map_lookup_elem
        if r0 == 0 goto out
        r1 = *(u64 *)(r0 + {})
    out:
        r0 = 0
        exit
    """
    assert accepted(Program.from_asm(text.format(0), "xdp", {"m": map_of("array_of_maps")}))
    assert not accepted(Program.from_asm(text.format(8), "xdp", {"m": map_of("array_of_maps")}))
    unknown = MapSpec("m", "array_of_maps", 4, 4, 4)
    with pytest.raises(UnsupportedError, match="nothing says what maps it holds"):
        verify(Program.from_asm(text.format(0), "xdp", {"m": unknown}))
