"""Global and static functions, callbacks and what must be given back, in C: pybpf's verdict, and Linux's of the same program."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pybpf import CertificateError, Program, UnsupportedError, VerifierError, check, load, verify
from pybpf.isa import Kind
from pybpf.program import Parameter
from pybpf.program_types import get
from tests import linux
from tests.verifier.test_checker import Mutant, mutants, still_proving

pytestmark = pytest.mark.oracle

PRELUDE = r"""
typedef unsigned int u32;
typedef unsigned long long u64;
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int (*name)[value]
#define __type(name, type) type *name
#define noinline __attribute__((noinline))
#define tag(name) __attribute__((btf_decl_tag("arg:" name)))
#define opaque(x) asm volatile("" : "+r"(x))
static void *(*const lookup)(void *, const void *) = (void *)1;
static long (*const adjust_head)(void *, int) = (void *)44;
static u32 (*const random_)(void) = (void *)7;
static void *(*const sk_lookup)(void *, void *, u32, u64, u64) = (void *)84;
static long (*const sk_release)(void *) = (void *)86;
static long (*const spin_lock)(void *) = (void *)93;
static long (*const spin_unlock)(void *) = (void *)94;
static void *(*const reserve)(void *, u64, u64) = (void *)131;
static void (*const submit)(void *, u64) = (void *)132;
static long (*const each)(void *, void *, void *, u64) = (void *)164;
static long (*const timer_set_callback)(void *, void *) = (void *)170;
static long (*const loop)(u32, void *, void *, u64) = (void *)181;
static long (*const from_mem)(void *, u32, u64, void *) = (void *)197;
static long (*const user_ringbuf_drain)(void *, void *, void *, u64) = (void *)209;
struct xdp_md { u32 data, data_end, data_meta, ifindex, queue, egress; };
struct pair { u32 a, b; };
struct bpf_spin_lock { u32 value; };
struct locked { struct bpf_spin_lock lock; u32 value; };
struct bpf_dynptr { u64 opaque[2]; };
struct { __uint(type, 2); __type(key, u32); __type(value, struct pair); __uint(max_entries, 4); } pairs SEC(".maps");
struct { __uint(type, 2); __type(key, u32); __type(value, struct locked); __uint(max_entries, 4); } locks SEC(".maps");
struct { __uint(type, 31); __uint(max_entries, 4096); } from_user SEC(".maps");
struct { __uint(type, 27); __uint(max_entries, 4096); } records SEC(".maps");
extern int kernel_function(void) SEC(".ksyms");
"""

ACCEPTED = "accepted"

CASES = {
    "static function that trusts its caller": (
        "static noinline int f(struct pair *p) { opaque(p); return p->a; }"
        "SEC('xdp') int main_(struct xdp_md *c) { struct pair p = {1, 2}; return f(&p); }",
        ACCEPTED,
    ),
    "global function that trusts its caller": (
        "noinline int f(struct pair *p) { opaque(p); return p->a; }"
        "SEC('xdp') int main_(struct xdp_md *c) { struct pair p = {1, 2}; return f(&p); }",
        "maybe-null",
    ),
    "global function that asks": (
        "noinline int f(struct pair *p) { return p ? p->a : 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { struct pair p = {1, 2}; return f(&p); }",
        ACCEPTED,
    ),
    "null for a parameter that may be null": (
        "noinline int f(struct pair *p) { return p ? p->a : 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { return f(0); }",
        ACCEPTED,
    ),
    "parameter that is not null": (
        "noinline int f(struct pair *p tag('nonnull')) { return p->a; }"
        "SEC('xdp') int main_(struct xdp_md *c) { struct pair p = {1, 2}; return f(&p); }",
        ACCEPTED,
    ),
    "what may be null for one that is not": (
        "noinline int f(struct pair *p tag('nonnull')) { opaque(p); return 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { u32 k = c->ifindex; return f(lookup(&pairs, &k)); }",
        "global-function",
    ),
    "value of a map": (
        "noinline int f(struct pair *p) { if (!p) return 0; p->b = 3; return p->a; }"
        "SEC('xdp') int main_(struct xdp_md *c) { u32 k = 1; return f(lookup(&pairs, &k)); }",
        ACCEPTED,
    ),
    "memory that is too small": (
        "noinline int f(struct pair *p) { return p ? p->a : 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { u32 k = 1; struct pair *p = lookup(&pairs, &k); return p ? f((void *)&p->b) : 0; }",
        "map-value-bounds",
    ),
    "access beyond the parameter's type": (
        "noinline int f(struct pair *p) { return p ? (&p->a)[2] : 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { struct pair p[2] = {}; return f(p); }",
        "record-bounds",
    ),
    "packet as memory": (
        "noinline int f(struct pair *p) { if (!p) return 0; p->a = 1; return p->b; }"
        "SEC('xdp') int main_(struct xdp_md *c) { char *d = (void *)(long)c->data; if (d + 8 > (char *)(long)c->data_end) return 1; return f((void *)d); }",
        ACCEPTED,
    ),
    "memory on the stack that is written and known no more": (
        "noinline int f(u64 *p) { if (p) *p = 100; return 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { char t[8] = {}; u64 i = 3; f(&i); return *(volatile char *)(t + i); }",
        "stack-bounds",
    ),
    "pointer on the stack that is passed as memory": (
        "noinline int f(u64 *p) { return p ? *p != 0 : 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { void *p = c; return f((void *)&p); }",
        None,
    ),
    "hidden function, which is static to Linux's loaders": (
        "__attribute__((visibility('hidden'))) noinline int f(struct pair *p) { opaque(p); return p->a; }"
        "SEC('xdp') int main_(struct xdp_md *c) { struct pair p = {1, 2}; return f(&p); }",
        ACCEPTED,
    ),
    "context by its tag": (
        "noinline int f(void *c tag('ctx')) { return ((struct xdp_md *)c)->ifindex; }"
        "SEC('xdp') int main_(struct xdp_md *c) { return f(c); }",
        ACCEPTED,
    ),
    "number for the context": (
        "noinline int f(struct xdp_md *c) { opaque(c); return 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { return f((void *)7); }",
        "global-function",
    ),
    "context": (
        "noinline int f(struct xdp_md *c) { return c->ifindex; }"
        "SEC('xdp') int main_(struct xdp_md *c) { return f(c); }",
        ACCEPTED,
    ),
    "number that the caller bounds, static": (
        "static noinline int f(u64 i) { char t[8] = {}; opaque(i); return *(volatile char *)(t + i); }"
        "SEC('xdp') int main_(struct xdp_md *c) { return f(c->ifindex & 7); }",
        ACCEPTED,
    ),
    "number that the caller bounds, global": (
        "noinline int f(u64 i) { char t[8] = {}; opaque(i); return *(volatile char *)(t + i); }"
        "SEC('xdp') int main_(struct xdp_md *c) { return f(c->ifindex & 7); }",
        "unbounded-offset",
    ),
    "result that is known to be small, static": (
        "static noinline u64 f(u64 i) { opaque(i); return i & 7; }"
        "SEC('xdp') int main_(struct xdp_md *c) { char t[8] = {}; u64 i = f(c->ifindex); opaque(i); return *(volatile char *)(t + i); }",
        ACCEPTED,
    ),
    "result that is known to be small, global": (
        "noinline u64 f(u64 i) { opaque(i); return i & 7; }"
        "SEC('xdp') int main_(struct xdp_md *c) { char t[8] = {}; u64 i = f(c->ifindex); opaque(i); return *(volatile char *)(t + i); }",
        "unbounded-offset",
    ),
    "packet that a global function moves": (
        "noinline int g(struct xdp_md *c) { return adjust_head(c, 0); }"
        "noinline int f(struct xdp_md *c) { return g(c); }"
        "SEC('xdp') int main_(struct xdp_md *c) { char *d = (void *)(long)c->data; if (d + 1 > (char *)(long)c->data_end) return 1; f(c); return *d; }",
        "bad-pointer",
    ),
    "packet that a global function might move and never does": (
        "static noinline int h(struct xdp_md *c, u64 move) { return move ? adjust_head(c, 0) : 0; }"
        "noinline int g(struct xdp_md *c, u64 move) { return h(c, move); }"
        "noinline int f(struct xdp_md *c, u64 move) { return g(c, move) + 1; }"
        "SEC('xdp') int main_(struct xdp_md *c) { char *d = (void *)(long)c->data; if (d + 1 > (char *)(long)c->data_end) return 1; f(c, 0); return *d; }",
        "bad-pointer",
    ),
    "packet that a global function leaves": (
        "noinline int f(struct xdp_md *c) { opaque(c); return c->ifindex + random_(); }"
        "SEC('xdp') int main_(struct xdp_md *c) { char *d = (void *)(long)c->data; if (d + 1 > (char *)(long)c->data_end) return 1; f(c); return *d; }",
        ACCEPTED,
    ),
    "global function that is never called": (
        "noinline int g(struct pair *p) { opaque(p); return p->a; }"
        "noinline int f(u64 i) { opaque(i); return i; }"
        "SEC('xdp') int main_(struct xdp_md *c) { u64 zero = 0; int r = f(c->ifindex); if (zero) r += g(0); return r; }",
        ACCEPTED,
    ),
    "global function that calls another": (
        "noinline int g(struct pair *p) { return p ? p->a : 0; }"
        "noinline int f(u64 i) { struct pair p = {1, i}; opaque(i); return g(&p) + g(0); }"
        "SEC('xdp') int main_(struct xdp_md *c) { return f(c->ifindex); }",
        ACCEPTED,
    ),
    "loop in a global function": (
        "noinline int f(u32 n, struct pair *p) { int sum = 0; if (!p) return 0;"
        " for (u32 i = 0; i < (n & 7); i++) { opaque(i); sum += i; p->a = sum; } return sum; }"
        "SEC('xdp') int main_(struct xdp_md *c) { struct pair p = {1, 2}; return f(c->ifindex, &p) + p.a; }",
        ACCEPTED,
    ),
    "global function called in a loop": (
        "noinline int f(u64 i) { opaque(i); return i; }"
        "SEC('xdp') int main_(struct xdp_md *c) { int sum = 0; for (u32 i = 0; i < 20; i++) sum += f(i); return sum & 1; }",
        ACCEPTED,
    ),
    "loop by a helper in a global function": (
        "static int g(u32 i, void *p) { *(u32 *)p += i; return 0; }"
        "noinline int f(u64 i) { u32 sum = i; loop(10, g, &sum, 0); return sum; }"
        "SEC('xdp') int main_(struct xdp_md *c) { return f(1); }",
        ACCEPTED,
    ),
    "global function called by a callback": (
        "noinline int f(u64 i) { opaque(i); return i; }"
        "static int g(u32 i, void *p) { *(u32 *)p += f(i); return 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { u32 sum = 0; loop(10, g, &sum, 0); return sum; }",
        ACCEPTED,
    ),
    "argument that the prototype does not have": (
        "noinline int f(void) { u64 r; asm volatile('%0 = *(u32 *)(r1 + 12)' : '=r'(r)); return r; }"
        "SEC('xdp') int main_(struct xdp_md *c) { return f(); }",
        "uninitialised-register",
    ),
    "result that is never negative, to the caller alone": (
        "noinline u64 f(u64 i) { opaque(i); return i & 7; }"
        "SEC('xdp') int main_(struct xdp_md *c) { u64 i = f(c->ifindex); opaque(i); return i >> 63 ? *(volatile char *)16 : 0; }",
        "bad-pointer",
    ),
    "address as a result": (
        "noinline u64 f(struct pair *p) { u64 r = (u64)p; opaque(r); return r; }"
        "SEC('xdp') int main_(struct xdp_md *c) { u32 k = 1; struct pair *p = lookup(&pairs, &k); if (!p) return 0; u64 r = f(p); opaque(r); return r ? 1 : 2; }",
        "return-value",
    ),
    "five parameters": (
        "noinline int f(u64 a, u64 b, u64 c, u64 d, u64 e) { return a + b + c + d + e; }"
        "SEC('xdp') int main_(struct xdp_md *c) { return f(1, 2, 3, 4, c->ifindex); }",
        ACCEPTED,
    ),
    "global function of type void that sets r0": (
        "noinline void f(u64 i) { opaque(i); random_(); }"
        "SEC('xdp') int main_(struct xdp_md *c) { f(1); return 0; }",
        "global-function",
    ),
    "global function without a result": (
        "noinline void f(u64 i) { opaque(i); }SEC('xdp') int main_(struct xdp_md *c) { f(1); return 0; }",
        "global-function",
    ),
    "pointer to what has no size": (
        "noinline int f(void *p) { opaque(p); return 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { u64 x = 1; return f(&x); }",
        "global-function",
    ),
    "callback of loop": (
        "static int f(u32 i, void *p) { *(u32 *)p += i; return 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { u32 sum = 0; loop(10, f, &sum, 0); return sum; }",
        ACCEPTED,
    ),
    "global callback": (
        "int f(u32 i, void *p) { return 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { loop(10, f, 0, 0); return 0; }",
        "global-function",
    ),
    "callback of for_each_map_elem": (
        "static long f(void *m, u32 *k, struct pair *p, u32 *sum) { *sum += p->a; return 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { u32 sum = 0; each(&pairs, f, &sum, 0); return sum; }",
        ACCEPTED,
    ),
    "callback that gives neither 0 nor 1": (
        "static int f(u32 i, void *p) { opaque(i); return i; }"
        "SEC('xdp') int main_(struct xdp_md *c) { loop(10, f, 0, 0); return 0; }",
        "return-value",
    ),
    "callback that reads beyond an element": (
        "static long f(void *m, u32 *k, struct pair *p, u32 *sum) { *sum += (&p->a)[2]; return 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { u32 sum = 0; each(&pairs, f, &sum, 0); return sum; }",
        "map-value-bounds",
    ),
    "callback of a timer": (
        "static int f(void *m, u32 *k, struct pair *p) { return 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { u32 k = 1; void *p = lookup(&pairs, &k); return p ? timer_set_callback(p, f) : 0; }",
        "timers",
    ),
    "callback of a helper that is not known to loop": (
        "static long f(void *d, void *p) { return 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { return user_ringbuf_drain(&from_user, f, 0, 0); }",
        "callbacks",
    ),
    "socket that is kept": (
        "SEC('xdp') int main_(struct xdp_md *c) { u32 t[3] = {}; return sk_lookup(c, t, 12, -1, 0) ? 1 : 0; }",
        "reference-leak",
    ),
    "socket that a static function releases": (
        "static noinline int f(void *s) { opaque(s); if (s) sk_release(s); return 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { u32 t[3] = {}; return f(sk_lookup(c, t, 12, -1, 0)); }",
        ACCEPTED,
    ),
    "socket that is released twice": (
        "SEC('xdp') int main_(struct xdp_md *c) { u32 t[3] = {}; void *s = sk_lookup(c, t, 12, -1, 0); if (s) { sk_release(s); sk_release(s); } return 0; }",
        "helper-argument",
    ),
    "socket that a callback keeps": (
        "static int f(u32 i, void **p) { u32 t[3] = {}; return sk_lookup(*p, t, 12, -1, 0) ? 1 : 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { void *p = c; loop(10, f, &p, 0); return 0; }",
        "reference-leak",
    ),
    "socket that is released": (
        "SEC('xdp') int main_(struct xdp_md *c) { u32 t[3] = {}; void *s = sk_lookup(c, t, 12, -1, 0); if (s) sk_release(s); return 0; }",
        ACCEPTED,
    ),
    "socket that a global function keeps": (
        "noinline int f(struct xdp_md *c) { u32 t[3] = {}; return sk_lookup(c, t, 12, -1, 0) ? 1 : 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { return f(c); }",
        "reference-leak",
    ),
    "socket that a global function might keep and never does": (
        "noinline int f(struct xdp_md *c, u64 keep) { u32 t[3] = {}; return keep ? sk_lookup(c, t, 12, -1, 0) != 0 : 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { return f(c, 0); }",
        "reference-leak",
    ),
    "record that is submitted behind a global function": (
        "noinline int f(u64 *p) { if (!p) return 0; *p = 1; return 1; }"
        "SEC('xdp') int main_(struct xdp_md *c) { u64 *r = reserve(&records, 8, 0); if (!r) return 0; f(r); submit(r, 0); return 0; }",
        ACCEPTED,
    ),
    "record that a global function cannot submit": (
        "noinline int f(u64 *p) { if (!p) return 0; submit(p, 0); return 1; }"
        "SEC('xdp') int main_(struct xdp_md *c) { u64 *r = reserve(&records, 8, 0); if (!r) return 0; return f(r); }",
        "reference-leak",
    ),
    "kernel function": ("SEC('xdp') int main_(struct xdp_md *c) { return kernel_function(); }", "ksym"),
    "spin lock": (
        "SEC('xdp') int main_(struct xdp_md *c) { u32 k = 1; void *p = lookup(&pairs, &k); return p ? spin_lock(p) : 0; }",
        "spin-locks",
    ),
    "value with a lock": (
        "SEC('xdp') int main_(struct xdp_md *c) { u32 k = 1; struct locked *p = lookup(&locks, &k); if (!p) return 0; spin_lock(&p->lock); p->value++; spin_unlock(&p->lock); return 0; }",
        "spin-locks",
    ),
    "dynptr": (
        "SEC('xdp') int main_(struct xdp_md *c) { u64 x = 1; struct bpf_dynptr d; return from_mem(&x, 8, 0, &d); }",
        "dynptrs",
    ),
    "dynptr as a parameter": (
        "noinline int f(struct bpf_dynptr *d) { opaque(d); return 0; }"
        "SEC('xdp') int main_(struct xdp_md *c) { struct bpf_dynptr d = {}; return f(&d); }",
        "dynptrs",
    ),
}
"""What a program is, its C with ' for double quotes, and its verdict: accepted, or the reason, or the feature that is unsupported."""

UNSUPPORTED = {"ksym", "spin-locks", "dynptrs", "timers", "callbacks"}

_XDP = get("xdp")
STRICT = replace(_XDP, policy=replace(_XDP.policy, global_functions=True))

Compile = Callable[[str], Program]


@pytest.fixture
def compiled(tool: Callable[[str], str], tmp_path: Path) -> Compile:
    """Compile C and take its only program."""

    def compile(source: str) -> Program:
        path, out = tmp_path / "a.c", tmp_path / "a.o"
        path.write_text(PRELUDE + source.replace("'", '"'))
        flags = ["-target", "bpfel", "-O2", "-g", "-Wno-everything"]
        subprocess.run([tool("clang-22"), *flags, "-c", path, "-o", out], check=True)
        program = load(out).programs["main_"]
        return replace(program, type=STRICT)

    return compile


def verdict(program: Program) -> str:
    try:
        verify(program)
    except VerifierError as error:
        return error.reason
    except UnsupportedError as error:
        return error.feature
    return ACCEPTED


@pytest.mark.parametrize("case", [name for name, (_, expected) in CASES.items() if expected])
def test_verdict(compiled: Compile, case: str):
    source, expected = CASES[case]
    assert verdict(compiled(source)) == expected


@linux.asks
@pytest.mark.parametrize("case", [name for name, (_, found) in CASES.items() if found not in UNSUPPORTED])
def test_linux_agrees(compiled: Compile, case: str):
    """Linux is given the prototypes that were read from the object; what it refuses is refused."""
    program = compiled(CASES[case][0])
    refused = linux.refusal(program)
    assert (verdict(program) == ACCEPTED) == (refused is None), refused


BY_PROTOTYPE = [
    "global function that trusts its caller",
    "what may be null for one that is not",
    "memory that is too small",
    "access beyond the parameter's type",
    "number for the context",
    "number that the caller bounds, global",
    "result that is known to be small, global",
    "packet that a global function might move and never does",
    "argument that the prototype does not have",
    "result that is never negative, to the caller alone",
    "address as a result",
    "global function of type void that sets r0",
    "global function without a result",
    "pointer to what has no size",
    "global callback",
    "socket that a global function might keep and never does",
    "record that a global function cannot submit",
    "dynptr as a parameter",
]
"""What nothing is wrong with but what prototypes do not say."""


@pytest.mark.parametrize("case", BY_PROTOTYPE)
def test_prototypes_are_not_asked_about_unless_the_policy_says_so(compiled: Compile, case: str):
    """Linux takes these programs, too, if nothing tells it the types of functions, and by default pybpf does as it does then."""
    program = replace(compiled(CASES[case][0]), type=get("xdp"))
    assert verdict(program) == ACCEPTED
    assert linux.unavailable() or linux.refusal(program) is None


CERTIFIED = [name for name, (_, expected) in CASES.items() if expected == ACCEPTED]
"""What has a certificate: every case that is accepted."""


@pytest.mark.parametrize("case", CERTIFIED)
def test_certificates_prove_global_functions_too(compiled: Compile, case: str):
    """A certificate has the claims of each walk of its own, and proves nothing under the policy if one is missing or too much."""
    program = compiled(CASES[case][0])
    verified = verify(program, certificate=True)
    certificate = verified.certificate
    assert certificate is not None
    checked = check(program, certificate.to_bytes())
    assert checked.certificate == certificate
    assert replace(checked.facts, explored=0) == replace(verified.facts, explored=0)
    functions = certificate.functions
    for entry in functions:
        fewer = {each: claims for each, claims in functions.items() if each != entry}
        with pytest.raises(CertificateError, match="by prototype alone: it says nothing of that"):
            check(program, replace(certificate, functions=fewer))
    if functions:
        with pytest.raises(CertificateError, match="no call leads to the function at pc 1 by itself"):
            check(program, replace(certificate, functions={**functions, 1: certificate}))


@pytest.mark.parametrize(
    ("case", "names"),
    [
        ("static function that trusts its caller", []),
        ("global function that is never called", ["main_", "f"]),
        ("global function that calls another", ["main_", "f", "g"]),
    ],
)
def test_which_functions_a_certificate_is_about(compiled: Compile, case: str, names: list[str]):
    """The program, and each global function to which a call leads that runs may come to."""
    program = compiled(CASES[case][0])
    made = verify(program, certificate=True).certificate
    assert made is not None
    assert [program.functions[entry].name for entry in made.functions] == names


@pytest.mark.slow
@pytest.mark.parametrize("case", CERTIFIED)
def test_altered_certificates_of_functions_are_refused(compiled: Compile, case: str):
    """A sample: what is claimed of a global function is derived as what is claimed of the program is."""
    verified = verify(compiled(CASES[case][0]), certificate=True)
    certificate = verified.certificate
    assert certificate is not None
    for entry, claims in certificate.functions.items():
        every = [
            Mutant(
                mutant.what,
                replace(certificate, functions={**certificate.functions, entry: mutant.certificate}),
            )
            for mutant in mutants(claims)
        ]
        assert still_proving(verified, every[:: len(every) // 8 + 1]) == []


def test_claims_about_a_program_do_not_stand_for_its_functions(compiled: Compile):
    """The proof of a program without the policy proves nothing of its global functions by themselves, wherever it is put."""
    program = compiled(CASES["global function that trusts its caller"][0])
    certificate = verify(program, "xdp", certificate=True).certificate
    assert certificate is not None
    check(program, certificate, "xdp")
    with pytest.raises(
        CertificateError, match="calls of global functions verified by prototype alone: it says"
    ):
        check(program, certificate)
    with pytest.raises(CertificateError, match="verified by prototype alone: point 0 "):
        check(program, replace(certificate, functions={0: certificate}))
    points = (replace(certificate.points[0], edges=()), *certificate.points[1:])
    with pytest.raises(CertificateError, match=r"^main_: the certificate does not prove it: point 0 has"):
        check(program, replace(certificate, points=points), "xdp")


def test_refusals_say_where(compiled: Compile):
    """The place is that of the instruction, and the message says in which walk it was reached."""
    program = compiled(CASES["global function that trusts its caller"][0])
    (entry,) = (pc for pc, each in program.functions.items() if each.name == "f")
    with pytest.raises(VerifierError, match=r": global function f verified by prototype alone: ") as error:
        verify(program)
    assert error.value.pc is not None
    assert error.value.pc >= entry
    assert program.code[error.value.pc].op.kind is Kind.LOAD
    program = compiled(CASES["global callback"][0])
    with pytest.raises(VerifierError, match="callbacks must be static, and f is global") as error:
        verify(program)
    assert error.value.pc is not None
    assert program.function_at(error.value.pc) is not None


def test_a_function_has_at_most_five_parameters(compiled: Compile):
    program = compiled(CASES["five parameters"][0])
    (entry,) = (pc for pc, each in program.functions.items() if each.name == "f")
    prototype = program.functions[entry].prototype
    assert prototype is not None
    six = replace(prototype, parameters=(*prototype.parameters, Parameter("number")))
    functions = {**program.functions, entry: replace(program.functions[entry], prototype=six)}
    with pytest.raises(VerifierError, match="f has more than 5 parameters"):
        verify(replace(program, functions=functions))


def test_results_of_functions_are_not_those_of_programs(compiled: Compile):
    """What a program may return is not asked of its functions."""
    program = compiled(
        "noinline int f(u64 i) { opaque(i); return i; }SEC('xdp') int main_(struct xdp_md *c) { return f(7) & 1; }"
    )
    verify(program, replace(STRICT, returns=(0, 1)))


def test_facts_do_not_depend_on_the_policy(compiled: Compile):
    """What is proved of global functions by themselves can only refuse."""
    program = compiled(CASES["packet that a global function leaves"][0])
    facts = [verify(program, each).facts for each in (STRICT, "xdp")]
    assert replace(facts[0], explored=0) == replace(facts[1], explored=0)
    assert facts[0].explored > facts[1].explored
