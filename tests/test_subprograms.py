"""Functions of a program, from the proof to native code: calls, frames, what survives them, and their limits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pybpf import Facts, Program, VerifierError, helpers, instantiate, verify
from pybpf.lookup3 import hashlittle
from pybpf.memory import MAX_FRAMES, function_address
from pybpf.program_types import MEMORY, XDP, Policy, ProgramType
from pybpf.verifier.facts import RegionKind

PACKETS = (b"", b"\x07", bytes(range(40)))


HASHING = replace(MEMORY, helpers={6: helpers.UBPF_HASH})


def facts(text: str, policy: Policy = MEMORY.policy, type: ProgramType = MEMORY) -> Facts:
    return verify(Program.from_asm(text, type), policy=policy).facts


def results(text: str, type: ProgramType = MEMORY) -> list[int]:
    """r0 for each packet, the same in both engines, of a program that is verified; packets are left alike."""
    verified = verify(Program.from_asm(text, type))
    checked, native = (instantiate(verified, engine=engine) for engine in ("interpreter", "jit"))
    outcomes = [checked.run(packet) for packet in PACKETS]
    assert outcomes == [native.run(packet) for packet in PACKETS]
    return [outcome.value for outcome in outcomes]


def refused(text: str, policy: Policy = MEMORY.policy, type: ProgramType = MEMORY) -> str:
    with pytest.raises(VerifierError) as raised:
        facts(text, policy, type)
    return raised.value.reason


def nested(depth: int, size: int = 0) -> str:
    """A chain of calls `depth` frames deep, each of which counts and uses `size` bytes of its frame."""
    body = f"*(u64 *)(r10 - {size}) = 1\n" if size else ""
    functions = [f"f{n}:\n{body}call f{n + 1}\nr0 += 1\nexit\n" for n in range(1, depth)]
    return "".join(functions).removeprefix("f1:\n") + f"f{depth}:\n{body}r0 = 1\nexit\n"


# What a call keeps


def test_arguments_go_in_and_r0_comes_out():
    text = """
        r0 = r2
        r1 = 1
        r3 = 300
        r4 = 4000
        r5 = 50000
        call f
        exit
    f:
        r0 = r1
        r0 += r2
        r0 += r3
        r0 += r4
        r0 += r5
        exit
    """
    assert results(text) == [54301 + len(packet) for packet in PACKETS]


def test_r6_to_r9_and_the_frame_survive_a_call():
    text = """
        r6 = 6
        r7 = 70
        r8 = 800
        r9 = r2
        *(u64 *)(r10 - 8) = 9000
        call f
        r0 = *(u64 *)(r10 - 8)
        r0 += r6
        r0 += r7
        r0 += r8
        r0 += r9
        exit
    f:
        r6 = 0
        r7 = 0
        r8 = 0
        r9 = 0
        *(u64 *)(r10 - 8) = 1
        r0 = 0
        exit
    """
    assert results(text) == [9876 + len(packet) for packet in PACKETS]


@pytest.mark.parametrize("register", ["r1", "r5"])
def test_r1_to_r5_are_gone_after_a_call(register):
    text = f"r1 = 1\n r5 = 5\n call f\n r0 = {register}\n exit\nf:\n r0 = 0\n exit"
    assert refused(text) == "uninitialised-register"


def test_r6_of_the_caller_is_not_the_function_s():
    assert refused("r6 = 1\n call f\n exit\nf:\n r0 = r6\n exit") == "uninitialised-register"


def test_a_function_may_leave_r0_alone_if_nobody_reads_it():
    assert results("call f\n r0 = 3\n exit\nf:\n exit") == [3] * 3
    assert refused("call f\n exit\nf:\n exit") == "uninitialised-register"


def test_a_function_is_proved_for_each_of_its_calls():
    """What one caller knows of its arguments the other need not know."""
    text = """
        r6 = r1
        r0 = 0
        if r2 < 8 goto small
        r2 = 7
        call nth
        goto out
    small:
        if r2 == 0 goto out
        r1 = r6
        r2 = 0
        call nth
    out:
        exit
    nth:
        r1 += r2
        r0 = *(u8 *)(r1 + 0)
        exit
    """
    assert results(text) == [0, 7, 7]


# Pointers into frames


def test_a_function_writes_to_the_frame_of_its_caller():
    text = """
        *(u64 *)(r10 - 16) = 5
        r1 = r10
        r1 += -16
        call f
        r0 = *(u64 *)(r10 - 16)
        exit
    f:
        r6 = *(u64 *)(r1 + 0)
        r6 *= r2
        *(u64 *)(r1 + 0) = r6
        r0 = 0
        exit
    """
    assert results(text) == [5 * len(packet) for packet in PACKETS]


def test_a_frame_is_gone_when_its_function_returns():
    assert (
        refused(
            "call f\n r0 = *(u8 *)(r0 + 0)\n exit\nf:\n *(u64 *)(r10 - 8) = 1\n r0 = r10\n r0 += -8\n exit"
        )
        == "stack-bounds"
    )


def test_a_function_cannot_reach_its_caller_s_frame_from_its_own():
    assert (
        refused("*(u64 *)(r10 - 8) = 1\n call f\n exit\nf:\n r0 = *(u64 *)(r10 + 504)\n exit")
        == "stack-bounds"
    )


# Limits


def test_calls_nest_as_deep_as_linux_allows():
    assert results(nested(MAX_FRAMES)) == [MAX_FRAMES] * 3
    assert refused(nested(MAX_FRAMES + 1)) == "call-depth"


@pytest.mark.parametrize(
    "text", ["f:\n call f\n exit", "call f\n exit\nf:\n call g\n exit\ng:\n call f\n exit"]
)
def test_recursion_is_refused(text):
    assert refused(text) == "recursion"


def test_the_frames_of_a_chain_share_the_stack():
    """Each counts in steps of 16 bytes (Linux), and a chain may be as large as one frame may."""
    assert results(nested(4, size=128)) == [4] * 3
    assert facts(nested(4, size=128)).stack_size == 4 * 128
    assert refused(nested(4, size=136)) == "stack-depth"


def test_functions_called_in_turn_share_nothing():
    text = "call f\n call g\n r0 = 1\n exit\nf:\n *(u64 *)(r10 - 400) = 1\n exit\ng:\n *(u64 *)(r10 - 480) = 1\n exit"
    assert results(text) == [1] * 3


def test_a_jump_from_one_function_into_another_is_refused():
    assert refused("call f\n goto inside\n exit\nf:\n r0 = 0\ninside:\n exit") == "jump-range"


def test_a_loop_that_calls():
    text = """
        r6 = 0
        r7 = 10
    again:
        r1 = r6
        call square
        r6 = r0
        r7 -= 1
        if r7 != 0 goto again
        r0 = r6
        exit
    square:
        r0 = r1
        r0 += 3
        exit
    """
    assert results(text) == [30] * 3
    assert facts(text).max_instructions == 2 + 10 * 8 + 2
    assert refused(text, replace(MEMORY.policy, loops=False)) == "back-edge"


# Addresses of functions


def test_the_address_of_a_function_is_no_memory():
    assert refused("r1 = f ll\n r0 = *(u8 *)(r1 + 0)\n exit\nf:\n r0 = 1\n exit") == "bad-pointer"


@pytest.mark.parametrize("text", ["r1 = f ll\n r0 = 0\n exit\nf:\n r1 = *(u8 *)(r1 + 0)\n exit"])
def test_a_function_that_is_never_called_is_not_explored(text):
    """Its address alone harms nobody; its form is checked like every function's."""
    assert results(text) == [0] * 3
    assert facts(text).callees == {}


# Calls through a register

CHOICE = """
    r6 = first ll
    if r2 > 1 goto chosen
    r6 = second ll
chosen:
    r1 = r2
    callx r6
    exit
first:
    r0 = r1
    r0 += 1000
    exit
second:
    r6 = r1
    call third
    r0 += r6
    exit
third:
    r0 = 2000
    exit
"""


def test_a_function_whose_address_is_known_on_each_path():
    assert results(CHOICE) == [2000, 2001, 1040]
    first, second = 8, 11
    assert facts(CHOICE).callees == {6: (function_address(first), function_address(second))}


def test_an_address_without_a_reference_is_that_of_the_bytes():
    """RFC 9669, section 5.4: a wide load with 4 in its source field; the distance is that of a local call."""
    code = bytes.fromhex(
        "1841000002000000 0000000000000000 8d01000000000000 9500000000000000".replace(" ", "")
    )
    code += bytes.fromhex("b700000005000000 9500000000000000".replace(" ", ""))
    code = code[:4] + (3).to_bytes(4, "little") + code[8:]
    program = Program.from_bytes(code, MEMORY)
    assert program.function_at(0) == 4
    verified = verify(program)
    for engine in ("interpreter", "jit"):
        assert instantiate(verified, engine=engine).run(b"").value == 5


def test_an_address_is_known_wherever_it_was_kept():
    """In the frame, in a callee-saved register, and as an argument of another call."""
    text = """
        r1 = f ll
        *(u64 *)(r10 - 8) = r1
        r1 = 1
        r2 = *(u64 *)(r10 - 8)
        call apply
        r6 = r0
        r1 = r10
        r1 += -8
        call apply_in_memory
        r0 += r6
        exit
    apply:
        callx r2
        exit
    apply_in_memory:
        r2 = *(u64 *)(r1 + 0)
        r1 = 20
        callx r2
        exit
    f:
        r0 = r1
        r0 *= 3
        exit
    """
    assert results(text) == [63] * 3


def test_the_number_of_a_helper_and_the_address_of_a_function_through_one_register():
    text = """
        *(u32 *)(r10 - 4) = 7
        r6 = f ll
        if r2 == 0 goto chosen
        r6 = 6
    chosen:
        r1 = r10
        r1 += -4
        r2 = 4
        callx r6
        exit
    f:
        r0 = *(u32 *)(r1 + 0)
        exit
    """
    hashed = hashlittle((7).to_bytes(4, "little"))
    assert results(text, HASHING) == [7, hashed, hashed]
    proved = facts(text, type=HASHING)
    assert proved.helpers == {6}
    assert proved.callees == {8: (6, function_address(10))}
    assert proved.arguments[8][1][0].region is RegionKind.STACK


def test_what_a_helper_asks_for_is_asked_for_through_a_register_too():
    assert refused("r6 = 6\n r1 = 5\n r2 = 8\n callx r6\n exit", type=HASHING) == "helper-argument"
    text = "*(u64 *)(r10 - 8) = 0\n r6 = 6\n r1 = r10\n r1 += -8\n r2 = 8\n callx r6\n r0 += r1\n exit"
    assert refused(text, type=HASHING) == "uninitialised-register"


def test_a_function_called_through_a_register_is_proved_for_its_arguments():
    text = "r3 = f ll\n {}\n callx r3\n exit\nf:\n r0 = *(u8 *)(r1 + 0)\n exit"
    assert refused(text.format("")) == "packet-bounds"
    assert refused(text.format("r1 = 5")) == "bad-pointer"


@pytest.mark.parametrize(
    "register",
    [
        "r3 = 0",
        "r3 = -1",
        "r3 = 4000",
        "r3 = r2\n r3 &= 1\n r3 += 5",
        "r3 = f ll\n r3 += 8",
        "r3 = r1",
        "r3 = r10",
    ],
)
def test_a_register_that_is_not_known_to_hold_one_is_refused(register):
    text = f"{register}\n r1 = 1\n callx r3\n exit\nf:\n r0 = 1\n exit"
    if "f ll" not in register:
        text = "r4 = f ll\n" + text
    assert refused(text) in ("unknown-callee", "pointer-arithmetic")


def test_a_helper_that_the_type_may_not_call():
    policy = replace(XDP.policy, linux_limits=False)
    with pytest.raises(VerifierError) as raised:
        verify(Program.from_asm("r6 = 26\n callx r6\n r0 = 0\n exit", "xdp"), policy=policy)
    assert raised.value.reason == "helper-not-allowed"


@pytest.mark.parametrize(
    "text",
    [
        "r1 = f ll\n callx r1\n exit\nf:\n r1 = f ll\n callx r1\n exit",
        "r1 = f ll\n callx r1\n exit\nf:\n call g\n exit\ng:\n r1 = f ll\n callx r1\n exit",
        "f:\n r1 = f ll\n callx r1\n exit",
    ],
)
def test_recursion_through_a_register_is_refused(text):
    assert refused(text) == "recursion"


def test_functions_that_call_each_other_and_never_in_turn():
    """Each may call the other, but no chain of calls has one of them twice."""
    text = """
        r1 = f ll
        r2 = g ll
        callx r1
        r6 = r0
        r1 = g ll
        r2 = f ll
        callx r1
        r0 += r6
        exit
    f:
        if r2 == 0 goto f_ends
        r1 = r2
        r2 = 0
        callx r1
        r0 += 1
        exit
    f_ends:
        r0 = 10
        exit
    g:
        if r2 == 0 goto g_ends
        r1 = r2
        r2 = 0
        callx r1
        r0 += 100
        exit
    g_ends:
        r0 = 1000
        exit
    """
    assert results(text) == [1111] * 3


def through_registers(depth: int, size: int) -> str:
    functions = [
        f"f{n}:\n *(u64 *)(r10 - {size}) = 1\n r1 = f{n + 1} ll\n callx r1\n r0 += 1\n exit\n"
        for n in range(1, depth)
    ]
    last = f"f{depth}:\n *(u64 *)(r10 - {size}) = 1\n r0 = 1\n exit\n"
    return "".join([*functions, last]).removeprefix("f1:\n")


def test_chains_of_calls_through_registers_have_the_limits_of_others():
    assert results(through_registers(MAX_FRAMES, 64)) == [MAX_FRAMES] * 3
    assert refused(through_registers(MAX_FRAMES + 1, 8)) == "call-depth"
    assert facts(through_registers(4, 128)).stack_size == 4 * 128
    assert refused(through_registers(4, 136)) == "stack-depth"


def test_a_call_through_a_register_in_a_loop():
    text = """
        r6 = 0
        r7 = 10
    again:
        r1 = r6
        r2 = odd ll
        if r7 & 1 goto known
        r2 = even ll
    known:
        callx r2
        r6 = r0
        r7 -= 1
        if r7 != 0 goto again
        r0 = r6
        exit
    odd:
        r0 = r1
        r0 += 1
        exit
    even:
        r0 = r1
        r0 *= 2
        exit
    """
    assert results(text) == [31] * 3


def test_a_call_of_one_of_two_is_bounded_by_the_longer():
    text = CHOICE.replace("r0 = 2000", "r0 = 2000\n r0 += 0\n r0 += 0")
    assert facts(text).max_instructions == facts(CHOICE).max_instructions + 2


def test_through_a_register_the_caller_s_registers_survive_and_the_arguments_do_not():
    text = "r6 = 1\n r3 = f ll\n callx r3\n r0 += {}\n exit\nf:\n r6 = 5\n r0 = 1\n exit"
    assert results(text.format("r6")) == [2] * 3
    assert refused(text.format("r3")) == "uninitialised-register"
