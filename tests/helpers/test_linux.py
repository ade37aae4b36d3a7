"""Linux's helpers: the tables give the verdicts of Linux's own verifier, call by call."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pybpf import Program, UnsupportedError, VerifierError, verify
from pybpf.helpers import LINUX, Arg, Helper, Ret
from pybpf.map_types import TYPES as MAP_TYPES
from pybpf.map_types import MapType
from pybpf.program_types import FieldKind, ProgramType
from tests import linux
from tests.helpers.calls import Call, cannot_be_set_up

FORBIDDEN = ("cannot use helper", "unknown func", "invalid func", "not supported for program type")

CONFIGURED = {"probe_write_user", "override_return"}
"""Depend on how the kernel was built and is locked down."""


def judged(program: Program) -> bool:
    """pybpf's verdict."""
    try:
        verify(program)
    except VerifierError:
        return False
    return True


def name_of(value: str | ProgramType) -> str:
    """A section and a type in the name of a test."""
    return value if isinstance(value, str) else value.name


EACH_TYPE = pytest.mark.parametrize(("section", "type"), linux.types(), ids=name_of)


@pytest.mark.slow
@EACH_TYPE
@linux.asks
def test_types_may_call_what_they_may_in_linux(section: str, type: ProgramType):
    """For every number: Linux refuses the call for what it is exactly where the type's table has no such helper."""
    for number, helper in LINUX.items():
        if helper.name in CONFIGURED:
            continue
        reason = linux.refusal(Program.from_asm(f"call {number}\n r0 = 1\n exit", type), section) or ""
        forbidden = any(words in reason for words in FORBIDDEN)
        assert (helper.name, number in type.helpers) == (helper.name, not forbidden), reason


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "type"),
    # The get_func_ip of a session is another function, without a licence of its own.
    [(section, type) for section, type in linux.types() if section != "kprobe.session"],
    ids=name_of,
)
@linux.asks
def test_licences_are_asked_for_as_in_linux(section: str, type: ProgramType):
    """What is for programs under the GPL is refused to others."""
    for number, helper in type.helpers.items():
        program = Program.from_asm(f"call {number}\n r0 = 1\n exit", type)
        if helper.name not in CONFIGURED:
            reason = linux.refusal(program, section, "Proprietary") or ""
            assert (helper.name, helper.gpl) == (helper.name, "GPL" in reason), reason


def calls() -> Iterator[object]:
    """Each helper from the first type that may call it, with a map that it takes, where one can be set up."""
    sections = {type.name: (section, type) for section, type in linux.types()}
    sections = {name: sections[name] for name in ("tc", "xdp", *sections)}
    for number, helper in LINUX.items():
        for section, type in sections.values():
            called = type.helpers.get(number)
            if called is not None and can_be_called(called, type):
                call = Call(called, type, map_type(called, type))
                yield pytest.param(section, call, id=f"{helper.name} from {type.name}")
                break


def calls_of(type: ProgramType) -> Iterator[Call]:
    """The calls that a type can make."""
    for helper in type.helpers.values():
        if can_be_called(helper, type):
            yield Call(helper, type, map_type(helper, type))


def can_be_called(helper: Helper, type: ProgramType) -> bool:
    """Whether Linux as it is lets the type call the helper, and we know how."""
    if helper.name in CONFIGURED or (helper.sleeps and not type.sleepable):
        return False
    if Arg.MAP in helper.args and not any(fits(each, helper, type) for each in MAP_TYPES.values()):
        return False
    return cannot_be_set_up(helper, type) is None


def fits(map_type: MapType, helper: Helper, type: ProgramType) -> bool:
    """Whether the helper takes the map, and the type may use it."""
    return helper.name in map_type.helpers and (map_type.sleepable or not type.sleepable)


def sees_packets(type: ProgramType) -> bool:
    """Whether its context has the packet's start and end."""
    assert type.context is not None
    return {FieldKind.PACKET, FieldKind.PACKET_END} <= {field.kind for field in type.context.fields}


def map_type(helper: Helper, type: ProgramType) -> str:
    """A type of map that a helper takes."""
    if Arg.MAP not in helper.args:
        return "hash"
    return next(each.name for each in MAP_TYPES.values() if fits(each, helper, type))


CALLS = pytest.mark.parametrize(("section", "call"), [*calls()])


@CALLS
@linux.asks
def test_a_call_that_keeps_its_contract_is_accepted(section: str, call: Call):
    """By both; and by both where the result is used as a number, or not at all."""
    assert judged(call.program())
    assert linux.refusal(call.program(), section) is None
    for after in (
        "r1 = r0",
        "r0 *= 2",
        "r0 = *(u8 *)(r0 + 0)",
        "if r0 == 0 goto out\n r0 = *(u8 *)(r0 + 0)",
        "r0 = r1",
    ):
        if call.helper.returns in (Ret.BTF, Ret.BTF_OR_NULL) and "*(" in after:
            continue
        program = call.program(after=after)
        assert (after, judged(program)) == (after, linux.refusal(program, section) is None)


@pytest.mark.slow
@CALLS
@linux.asks
def test_a_call_with_another_argument_has_linux_s_verdict(section: str, call: Call):
    """One argument at a time is something else."""
    for what, wrong in call.wrong():
        program = call.program(wrong)
        reason = linux.refusal(program, section)
        assert (what, judged(program)) == (what, reason is None), reason


@pytest.mark.slow
@EACH_TYPE
@linux.asks
def test_every_helper_of_a_type_can_be_called_from_it(section: str, type: ProgramType):
    """With what its contract asks for, or a helper that this type cannot be set up to call is named here."""
    for call in calls_of(type):
        reason = linux.refusal(call.program(), section)
        assert (call.helper.name, reason) == (call.helper.name, None)
        assert judged(call.program())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "type"), [each for each in linux.types() if sees_packets(each[1])], ids=name_of
)
@linux.asks
def test_packet_pointers_are_taken_and_die_as_in_linux(section: str, type: ProgramType):
    """As each argument of each helper; and used after the call."""
    for call in calls_of(type):
        after = call.program(packet=True, after="r0 = *(u8 *)(r8 + 0)")
        programs = [call.program({n: f"r{n} = r8"}, packet=True) for n in range(1, len(call.helper.args) + 1)]
        for number, program in enumerate([after, *programs]):
            reason = linux.refusal(program, section)
            assert (call.helper.name, number, judged(program)) == (
                call.helper.name,
                number,
                reason is None,
            ), reason


def test_what_is_not_proved_is_unsupported():
    """By name, and never refused or accepted."""
    features = {
        "spin_lock": "spin-locks",
        "timer_init": "timers",
        "user_ringbuf_drain": "callbacks",
        "dynptr_read": "dynptrs",
        "kptr_xchg": "kptrs",
        "snprintf": "format-strings",
        "task_storage_get": "btf-pointers",
    }
    for name, feature in features.items():
        with pytest.raises(UnsupportedError) as raised:
            verify(Program.from_asm(f"call {name}\n r0 = 0\n exit", "tc"))
        assert raised.value.feature == feature
