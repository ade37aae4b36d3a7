"""ISA levels: the rows that a level has are what clang emits for it, and programs can be held to one."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from functools import cache

import pytest

from pybpf import Policy, Program, VerifierError, load, verify
from pybpf.isa import OPS, Kind
from pybpf.program_types import MEMORY

CLANG = shutil.which("clang-22") or shutil.which("clang")

# Comparisons that jump on less (v2) and on 32 bits (v3), atomics that fetch (v3), and what v4 added: signed division, loads and
# moves with a sign, byte swaps, long jumps, store-release.
SOURCE = """
typedef unsigned long u64; typedef unsigned int u32; typedef unsigned short u16;
typedef long s64; typedef int s32; typedef short s16; typedef signed char s8;

__attribute__((section("memory"), used)) u64 small(u64 *m, u64 n) {
    u64 sum = 0;
    for (u64 i = 0; i < n; i++) sum += m[i];
    if ((u32)sum < 7) sum = 1;
    __sync_fetch_and_add(m, 1);
    return sum;
}
#if LEVEL >= 3
__attribute__((section("memory"), used)) u64 atomics(u64 *m, u32 *w) {
    return __sync_fetch_and_or(m, 3) + __sync_lock_test_and_set(m, 5) + __sync_fetch_and_xor(w, 7);
}
#endif
#if LEVEL >= 4
__attribute__((section("memory"), used)) s64 with_sign(s64 *m, s8 *b, s16 *h, s32 *w) {
    __atomic_store_n(m, __builtin_bswap64(m[1]), __ATOMIC_RELEASE);
    return m[0] / m[1] + m[2] % m[3] + *b + *h + *w + (s32)m[4];
}
#endif
"""

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(CLANG is None, reason="no clang: the compiler that defines the levels"),
]


@cache
def compiled(level: int) -> tuple[Program, ...]:
    assert CLANG is not None
    options = [
        "-target",
        "bpf",
        f"-mcpu=v{level}",
        f"-DLEVEL={level}",
        "-O2",
        "-c",
        "-x",
        "c",
        "-",
        "-o",
        "-",
    ]
    done = subprocess.run([CLANG, *options], input=SOURCE.encode(), capture_output=True, check=True)
    return tuple(load(done.stdout).programs.values())


def levels(level: int) -> set[int]:
    """The levels of the instructions that clang emits for one."""
    return {each.op.isa for program in compiled(level) for each in program.code.values()}


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_clang_emits_a_level_s_rows_and_none_of_a_newer_one(level):
    assert max(levels(level)) == level


def test_an_addition_in_memory_is_of_every_level():
    """Linux always had it, and clang has no other form for it before v3."""
    codes = {
        each.op.code
        for program in compiled(1)
        for each in program.code.values()
        if each.op.kind is Kind.ATOMIC
    }
    assert codes == {"add"}


def test_v4_is_nearly_all_of_its_rows():
    """Of each operator that level 4 added, what this source asks for."""
    used = {each.op.code for program in compiled(4) for each in program.code.values() if each.op.isa == 4}
    added = {op.code for op in OPS if op.isa == 4}
    assert used >= {"sdiv", "smod", "memsx", "movs32", "bswap", "store_release"}
    assert added - used == {"movs8", "movs16", "gotol", "load_acquire"}


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_a_program_can_be_held_to_a_level(level):
    """What clang compiled for a level is within it, and not within the one before."""
    newest = max(compiled(level), key=lambda program: max(each.op.isa for each in program.code.values()))
    for allowed in range(1, 5):
        reason = None
        try:
            verify(newest, policy=Policy(isa=allowed, max_explored=2000))
        except VerifierError as error:
            reason = error.reason
        assert (reason == "isa-level") == (allowed < level)


def test_the_policy_of_a_type_allows_all():
    assert MEMORY.policy.isa == max(op.isa for op in OPS) == replace(MEMORY.policy).isa
