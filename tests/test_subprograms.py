"""Functions of a program, from the proof to native code: calls, frames, what survives them, and their limits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pybpf import Facts, Program, UnsupportedError, VerifierError, instantiate, verify
from pybpf.memory import MAX_FRAMES
from pybpf.program_types import MEMORY, Policy

PACKETS = (b"", b"\x07", bytes(range(40)))


def facts(text: str, policy: Policy = MEMORY.policy) -> Facts:
    return verify(Program.from_asm(text, MEMORY), policy=policy).facts


def results(text: str) -> list[int]:
    """r0 for each packet, the same in both engines, of a program that is verified; packets are left alike."""
    verified = verify(Program.from_asm(text, MEMORY))
    checked, native = (instantiate(verified, engine=engine) for engine in ("interpreter", "jit"))
    outcomes = [checked.run(packet) for packet in PACKETS]
    assert outcomes == [native.run(packet) for packet in PACKETS]
    return [outcome.value for outcome in outcomes]


def refused(text: str, policy: Policy = MEMORY.policy) -> str:
    with pytest.raises(VerifierError) as raised:
        facts(text, policy)
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


def test_calls_through_registers_are_not_verified():
    with pytest.raises(UnsupportedError) as raised:
        facts("r1 = f ll\n callx r1\n exit\nf:\n r0 = 1\n exit")
    assert raised.value.feature == "callx"
