"""Objects as today's compiler writes them, in both byte orders, whole and stripped."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pybpf import (
    MapSpec,
    Object,
    Reference,
    RefKind,
    SourceLine,
    UnsupportedError,
    disassemble,
    instantiate,
    load,
    verify,
)

pytestmark = pytest.mark.oracle

PRELUDE = r"""
typedef unsigned int u32;
typedef unsigned long long u64;
#define SEC(name) __attribute__((section(name), used))
#define __uint(name, value) int (*name)[value]
#define __type(name, type) type *name
#define __array(name, type) typeof(type) *name[]
static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*const bpf_tail_call)(void *ctx, void *map, u32 index) = (void *)12;
static long (*const bpf_loop)(u32 n, void *callback, void *ctx, u64 flags) = (void *)181;
char _license[] SEC("license") = "GPL";
"""

Compile = Callable[..., Object]


@pytest.fixture(params=["bpfel", "bpfeb"])
def compiled(request: pytest.FixtureRequest, tool: Callable[[str], str], tmp_path: Path) -> Compile:
    """Compile C, perhaps strip it, and load it."""

    def compile(source: str, *options: str, strip: str = "", type: str | None = None) -> Object:
        path = tmp_path / "a.c"
        path.write_text(PRELUDE + source)
        out = tmp_path / "a.o"
        flags = ["-target", request.param, "-O2", "-Wno-everything", *options]
        subprocess.run([tool("clang-22"), *flags, "-c", path, "-o", out], check=True)
        if strip:
            subprocess.run([tool("llvm-strip-22"), strip, out], check=True)
        obj = load(out, type)
        assert obj.byteorder == ("little" if request.param == "bpfel" else "big")
        return obj

    return compile


def references(obj: Object, name: str) -> list[tuple[str, str, int]]:
    """What a program refers to, in order."""
    program = obj.programs[name]
    return [(ref.kind.value, ref.name, ref.offset) for _, ref in sorted(program.references.items())]


BTF_MAPS = """
struct key { u32 address; u32 port; };
struct value { u64 packets, bytes; };
struct { __uint(type, 1); __type(key, struct key); __type(value, struct value); __uint(max_entries, 100); __uint(map_flags, 1); } flows SEC(".maps");
static struct { __uint(type, 2); __uint(key_size, 4); __uint(value_size, 12); __uint(max_entries, 7); } counts SEC(".maps");
SEC("xdp") int main_prog(void *ctx)
{
    struct key key = {};
    u32 index = 3;
    return bpf_map_lookup_elem(&counts, &index) && bpf_map_lookup_elem(&flows, &key);
}
"""


@pytest.mark.parametrize("cpu", ["v1", "v3", "v4"])
def test_btf_maps(compiled: Compile, cpu: str):
    """Global and static; the programs' numbers follow the code, the object's the file."""
    obj = compiled(BTF_MAPS, "-g", f"-mcpu={cpu}")
    flows, counts = obj.maps["flows"], obj.maps["counts"]
    assert (flows.type, flows.key_size, flows.value_size, flows.max_entries, flows.flags) == (
        "hash",
        8,
        16,
        100,
        1,
    )
    assert counts == MapSpec("counts", "array", 4, 12, 7, byteorder=obj.byteorder)
    assert obj.btf is not None
    assert flows.key_type is not None
    assert flows.value_type is not None
    assert obj.btf[flows.key_type].name == "key"
    assert obj.btf[flows.value_type].name == "value"
    assert references(obj, "main_prog") == [("map", "counts", 0), ("map", "flows", 0)]
    assert [spec.name for spec in obj.programs["main_prog"].maps] == ["counts", "flows"]
    assert (obj.license, obj.notes) == ("GPL", ())


def test_lines_and_columns(compiled: Compile):
    """File, line, column and text, and which function of a program they belong to."""
    source = """
__attribute__((noinline)) static int twice(int x) {
    return x * 2; /* here */
}
SEC("xdp") int main_prog(int *ctx) {
    return twice(*ctx) + 1;
}
"""
    program = compiled(source, "-g").programs["main_prog"]
    (callee,) = [function for pc, function in program.functions.items() if pc]
    assert callee.name == "twice"
    texts = {line.text.strip() for pc, line in program.lines.items() if pc >= callee.pc}
    assert "return x * 2; /* here */" in texts
    last = program.source(callee.pc + callee.size - 1)
    assert isinstance(last, SourceLine)
    assert last.file.endswith("a.c")
    assert (PRELUDE + source).splitlines()[last.line - 1] == last.text
    assert program.lines[0].text == "    return twice(*ctx) + 1;"
    assert program.lines[0].column == 18


OKO_MAPS = """
struct oko_map { u32 type, key_size, value_size, max_entries, hashes; };
struct oko_map table %s = {4, 8, 16, 1000, 0};
static struct oko_map counter %s = {1, 4, 8, 2, 0};
static u64 total;
%s int entry(void *packet, u64 length)
{
    u64 key = 1; u32 index = 0;
    total += length;
    return bpf_map_lookup_elem(&counter, &index) && bpf_map_lookup_elem(&table, &key);
}
"""


@pytest.mark.parametrize("where", ["", 'SEC("maps")'])
def test_oko_maps(compiled: Compile, where: str):
    """Static and global definitions, in .data or in a section of their own, in a filter by section or by type."""
    specs = (MapSpec("table", "hash", 8, 16, 1000), MapSpec("counter", "array", 4, 8, 2))
    for obj in (
        compiled(OKO_MAPS % (where, where, 'SEC("filter")')),
        compiled(OKO_MAPS % (where, where, ""), type="filter"),
    ):
        expected = {spec.name: spec.ordered(obj.byteorder) for spec in specs}
        assert {name: spec for name, spec in obj.maps.items() if name in expected} == expected
        maps = [name for kind, name, _ in references(obj, "entry") if kind == "map"]
        assert maps == ["counter", "table"]
        assert (RefKind.VALUE.value, ".bss", 0) in references(obj, "entry")


GLOBALS = """
static volatile u32 zero;
volatile u64 number = 5;
static const volatile u32 limit = 9;
const char text[] = "hello";
struct { int a, b; } pair SEC(".data.pairs") = {1, 2};
SEC("tc") int main_prog(int *ctx)
{
    pair.b += 1;
    const char *volatile p = text;
    return zero + number + limit + p[*ctx];
}
"""


def test_globals(compiled: Compile):
    """Variables are bytes of the sections' maps: zeros, values, constants, and a section of the author's."""
    obj = compiled(GLOBALS, "-g")
    order = obj.byteorder
    assert order in ("little", "big")
    bss = obj.maps[".bss"]
    assert bss == MapSpec(".bss", "array", 4, 4, 1, value_type=bss.value_type, byteorder=obj.byteorder)
    assert obj.maps[".data"].initial == (5).to_bytes(8, order)
    assert obj.maps[".data.pairs"].initial == (1).to_bytes(4, order) + (2).to_bytes(4, order)
    constants = obj.maps[".rodata"]
    assert constants.read_only
    assert constants.initial is not None
    found = {(name, offset) for kind, name, offset in references(obj, "main_prog") if kind == "value"}
    sections = {name: {offset for other, offset in found if other == name} for name, _ in found}
    assert sections[".data"] == sections[".bss"] == {0}
    assert sections[".data.pairs"] <= {0, 4}
    contents = {constants.initial[offset : offset + 5] for offset in sections[".rodata"]}
    assert b"hello" in contents
    assert (9).to_bytes(4, order) in {content[:4] for content in contents}


CALLS = """
__attribute__((noinline)) static int inner(int x) { asm volatile(""); return x + 1; }
__attribute__((noinline)) int outer(int x) { asm volatile(""); return inner(x) + inner(x + 1); }
static long callback(u32 index, void *ctx) { return 0; }
SEC("xdp") int first(int *ctx) { return outer(*ctx); }
SEC("xdp") int second(int *ctx) { return inner(*ctx); }
SEC("tc") int third(int *ctx) { return bpf_loop(10, callback, ctx, 0); }
"""


@pytest.mark.parametrize("strip", ["", "--strip-debug"])
def test_calls(compiled: Compile, strip: str):
    """Each program has what it calls: directly, through another function, as a callback."""
    obj = compiled(CALLS, "-g", strip=strip)
    called = {
        name: [function.name for function in program.functions.values()]
        for name, program in obj.programs.items()
    }
    assert called == {
        "first": ["first", "outer", "inner"],
        "second": ["second", "inner"],
        "third": ["third", "callback"],
    }
    callback = obj.programs["third"].functions
    (place,) = (pc for pc in callback if pc)
    assert references(obj, "third") == [("function", "callback", place)]
    for program in obj.programs.values():
        assert program.defect is None
        targets = {i.target(pc) for pc, i in program.code.items() if i.op.code == "local"}
        assert targets <= set(program.functions)


def test_stripped_of_all_symbols_that_can_be_spared(compiled: Compile):
    """The sections are the programs; what relocations name has kept its symbol."""
    obj = compiled(BTF_MAPS, "-g", strip="--strip-unneeded")
    assert len(obj.programs) == 1
    (program,) = obj.programs.values()
    assert program.type == "xdp"
    assert [(pc, i.op.code) for pc, i in program.code.items() if i.op.code == "map_fd"]


def test_stripped_of_all_symbols(compiled: Compile):
    """What cannot be told any more is unsupported: the program is not blamed for it."""
    obj = compiled(BTF_MAPS, "-g", strip="--strip-all")
    assert len(obj.programs) == 1
    (program,) = obj.programs.values()
    with pytest.raises(
        UnsupportedError, match=r"the object has no symbols: it cannot be told whether 0 is a number"
    ) as caught:
        verify(program)
    assert caught.value.feature == "symbols"


MAPS_OF_MAPS = """
struct inner_t { __uint(type, 1); __type(key, u32); __type(value, u64); __uint(max_entries, 4); };
struct inner_t one SEC(".maps"), two SEC(".maps");
struct { __uint(type, 12); __uint(max_entries, 4); __type(key, u32); __array(values, struct inner_t); }
    outer SEC(".maps") = { .values = { [1] = &one, [3] = &two } };
SEC("tc") int target(void *ctx) { return 1; }
struct { __uint(type, 3); __uint(max_entries, 2); __type(key, u32); __array(values, int(void *)); }
    jumps SEC(".maps") = { .values = { [1] = target } };
SEC("tc") int main_prog(void *ctx)
{
    u32 zero = 0;
    bpf_tail_call(ctx, &jumps, 1);
    return bpf_map_lookup_elem(&outer, &zero) != 0;
}
"""


def test_maps_that_hold_maps_and_programs(compiled: Compile):
    """The type of what is held, and the slots that the source fills."""
    obj = compiled(MAPS_OF_MAPS, "-g")
    outer, jumps = obj.maps["outer"], obj.maps["jumps"]
    assert (outer.type, outer.values) == ("array_of_maps", ((1, "one"), (3, "two")))
    assert outer.inner is not None
    assert (outer.inner.type, outer.inner.key_size, outer.inner.value_size, outer.inner.max_entries) == (
        "hash",
        4,
        8,
        4,
    )
    assert (jumps.type, jumps.values) == ("prog_array", ((1, "target"),))
    assert set(obj.programs) == {"target", "main_prog"}
    assert obj.notes == ()


def test_programs_of_big_endian_machines(compiled: Compile):
    """They are read, disassembled, verified and run by their own byte order."""
    obj = compiled('SEC("xdp") int main_prog(void *ctx) { return 2; }')
    program = obj.programs["main_prog"]
    assert program.byteorder == obj.byteorder
    assert disassemble(program, source=False).endswith("0 = 2\n    exit")
    verified = verify(program)
    assert instantiate(verified).run(bytes(64)).verdict == "PASS"


KERNEL = """
#define __kconfig __attribute__((section(".kconfig")))
#define __ksym __attribute__((section(".ksyms")))
extern u32 LINUX_KERNEL_VERSION __kconfig;
extern int runqueues __ksym;
extern void bpf_rcu_read_lock(void) __ksym;
SEC("tc") int plain(void *ctx) { return 1; }
SEC("tc") int version(void *ctx) { return LINUX_KERNEL_VERSION; }
SEC("tc") int address(void *ctx) { return (long)&runqueues; }
SEC("tc") int kfunc(void *ctx) { bpf_rcu_read_lock(); return 0; }
"""


def test_what_only_a_kernel_has(compiled: Compile):
    """Configuration, variables and functions of the kernel are named, and spoil only what uses them."""
    obj = compiled(KERNEL, "-g")
    assert obj.programs["plain"].references == {}
    assert [
        each.name
        for name in ("version", "address", "kfunc")
        for each in obj.programs[name].references.values()
    ] == [
        "kernel configuration 'LINUX_KERNEL_VERSION'",
        "kernel symbol 'runqueues'",
        "kernel symbol 'bpf_rcu_read_lock'",
    ]
    call = obj.programs["kfunc"].code[0]
    assert (call.op.code, call.src) == ("kfunc", 2)


OF_V4 = """
u32 seen[4];
SEC("tc") int plain(u32 *ctx) { return seen[*ctx & 3]; }
SEC("tc") int patient(u32 *ctx)
{
    u32 i;
    for (i = 0;; i++) { asm volatile goto("may_goto %l[out]" : : : : out); seen[i & 3]++; }
out:
    return i;
}
SEC("tc") int table(u32 *ctx)
{
    static void *const places[] = {&&one, &&two};
    goto *places[*ctx & 1];
one:
    return 1;
two:
    return seen[0];
}
SEC("tc") int arena(u32 *ctx) { return *(u32 __attribute__((address_space(1))) *)4096; }
"""


def test_what_clang_emits_for_kernels_alone(compiled: Compile):
    """Instructions of v4 that pybpf cannot run are read, named, and spoil only the programs that have them."""
    obj = compiled(OF_V4, "-g", "-mcpu=v4")
    verify(obj.programs["plain"])
    for name, feature in (("patient", "may_goto"), ("table", "gotox"), ("arena", "addr_space_cast")):
        program = obj.programs[name]
        assert program.defect is None
        assert feature in disassemble(program)
        with pytest.raises(UnsupportedError) as caught:
            verify(program)
        assert caught.value.feature == feature


CORE = """
#define PRESERVE __attribute__((preserve_access_index))
struct task_struct { int pid; int tgid; } PRESERVE;
struct xdp_md { u32 data, data_end, data_meta; } PRESERVE;
SEC("xdp") int stable(struct xdp_md *ctx) { return ctx->data_meta; }
SEC("kprobe/x") int moving(struct task_struct *task) { return task->tgid; }
"""


def test_core_relocations(compiled: Compile):
    """A program that needs a kernel's layout says so; the context's layout is the same in every kernel."""
    obj = compiled(CORE, "-g")
    assert obj.programs["stable"].defect is None
    defect = obj.programs["moving"].defect
    assert getattr(defect, "feature", None) == "co-re"
    assert "struct task_struct.tgid: it needs the types of a kernel" in str(defect)
    assert len(obj.notes) == 1


def test_helpers_by_name(compiled: Compile):
    """An undefined function is a helper of the type's table, or a name to be found by whoever runs the program."""
    source = """
extern u64 bpf_ktime_get_ns(void);
extern int not_a_helper(void *);
SEC("xdp") int main_prog(void *ctx) { return bpf_ktime_get_ns() + not_a_helper(ctx); }
"""
    program = compiled(source).programs["main_prog"]
    assert list(program.references.values()) == [Reference(RefKind.HELPER, "not_a_helper")]
    assert sorted(i.imm for i in program.code.values() if i.op.code == "helper") == [-1, 5]
