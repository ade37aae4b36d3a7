"""The C header of a compiled program: its struct, its functions, and what they promise."""

from __future__ import annotations

from collections.abc import Iterator

from pybpf.ahead.interface import CMap, Interface
from pybpf.jit.state import TrapCode
from pybpf.memory import MAX_PACKET

_REASONS = {
    TrapCode.ACCESS: "an access outside its region",
    TrapCode.UNREACHED: "an instruction that was proved to be out of reach",
    TrapCode.MISALIGNED: "an unaligned atomic access",
    TrapCode.FRAMES: "calls nest too deep",
    TrapCode.MAP: "a helper's argument is not the map that was proved",
    TrapCode.CALLEE: "a call through a register that holds no function",
    TrapCode.BUDGET: "more instructions than the budget",
    TrapCode.TIME: "more time than allowed (not in objects)",
}


def header(interface: Interface, machine: str) -> str:
    """The text of the header. `machine` says what the object file is for."""
    guard = f"{interface.name.upper()}_H"
    lines = [
        f"/* {interface.name}: the eBPF program '{interface.program}' of type {interface.type.name}, verified and compiled by pybpf for {machine}.",
        " *",
        *(f" * {line}" if line else " *" for line in _promises(interface)),
        " */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "#include <stddef.h>",
        "#include <stdint.h>",
        "#include <string.h>",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        *_struct(interface),
        "",
        *_functions(interface),
    ]
    for map in interface.maps:
        lines += ["", *_map(interface, map)]
    lines += ["", "#ifdef __cplusplus", "}", "#endif", "#endif"]
    return "\n".join(lines) + "\n"


def _promises(interface: Interface) -> Iterator[str]:
    yield f"Each thread that runs the program has a struct {interface.name} of its own; maps are shared by all of them."
    yield "Any number of threads may run the program and use its maps at once."
    if interface.max_instructions is not None:
        yield f"A run executes at most {interface.max_instructions} instructions."
    if interface.type.minimum_length:
        yield f"Packets must be at least {interface.type.minimum_length} bytes long: the caller sees to that."
    if interface.byteorder == "big":
        yield "The program was written for big-endian machines: so are the numbers in its maps and its context, wherever it runs."
    yield "Packets are written in place." if interface.type.packet_writable else "Packets are never written."


def _struct(interface: Interface) -> Iterator[str]:
    name, size = interface.name, interface.type.context.size if interface.type.context is not None else 0
    yield f"struct {name} {{"
    yield "    uint64_t stopped;   /* 0, or why the last run was stopped and where: see below. Set it to 0 before the next */"
    yield "    uint64_t address;   /* with some reasons: the address in the program's machine to blame */"
    yield f"    uint64_t (*clock)(struct {name} *, uint64_t); /* the time in nanoseconds; NULL: clock_gettime({interface.type.clock}) */"
    yield "    void *context;      /* the bytes of the context's scalar fields, laid out as the kernel does */"
    yield "    void *reserved;"
    counts = "" if interface.options.counts else " (not counted in this object)"
    yield f"    uint64_t budget;    /* instructions that a run may execute{counts} */"
    yield f"    void *maps[{max(len(interface.maps), 1)}];"
    if size:
        yield f"    uint8_t scalars[{size}]; /* what context points to, unless the caller has it point elsewhere */"
    yield "};"
    yield ""
    yield f"/* Why a run was stopped: (enum {name}_reason)(stopped >> 32), at instruction (uint32_t)stopped. */"
    yield f"enum {name}_reason {{"
    for code, meaning in _REASONS.items():
        yield f"    {name.upper()}_{code.name} = {code.value}, /* {meaning} */"
    yield "};"
    yield ""
    maps = ", ".join(f"void *{map.name}" for map in interface.maps)
    yield f"static inline void {name}_init(struct {name} *state{', ' if maps else ''}{maps})"
    yield "{"
    yield "    memset(state, 0, sizeof *state);"
    yield "    state->budget = UINT64_MAX;"
    if size:
        yield "    state->context = state->scalars;"
    for map in interface.maps:
        yield f"    state->maps[{map.number}] = {map.name};"
    yield "}"


def _functions(interface: Interface) -> Iterator[str]:
    name = interface.name
    packet = "void *packet" if interface.type.packet_writable else "const void *packet"
    for value, verdict in sorted(interface.type.verdicts.items()):
        if value >= 0:
            macro = "".join(letter if letter.isalnum() else "_" for letter in verdict.upper())
            yield f"#define {name.upper()}_{macro} {value}"
    yield ""
    yield f"/* Run the program on one packet of at most {MAX_PACKET} bytes: r0. */"
    yield f"uint64_t {name}_run(struct {name} *state, {packet}, uint32_t length);"
    yield ""
    yield "/* Run it on n packets: number i is lengths[i] bytes at base + offsets[i], inside the size bytes at base; r0 goes to results[i]."
    yield " * Where copy is not NULL each packet is copied there first, and left as it is; then none may be longer than limit."
    yield " * How many are done: fewer than n where a run was stopped (state->stopped), or where a packet does not lie inside or is too long (0). */"
    yield f"uint64_t {name}_run_batch(struct {name} *state, {packet.replace('packet', 'base')}, uint64_t size, const uint64_t *offsets,"
    yield "    const uint32_t *lengths, uint64_t *results, uint64_t n, void *copy, uint64_t limit);"


def _map(interface: Interface, map: CMap) -> Iterator[str]:
    spec, layout, name = map.spec, map.layout, f"{interface.name}_{map.name}"
    upper = name.upper()
    what = f"{spec.type}, keys of {spec.key_size} bytes, values of {spec.value_size}, at most {spec.max_entries} entries"
    yield f"/* Map '{spec.name}': {what}{', read-only for the program' if spec.read_only else ''}. */"
    yield f"#define {upper}_SIZE UINT64_C({layout.size})"
    yield f"#define {upper}_ALIGNMENT 64"
    yield f"#define {upper}_KEY {spec.key_size}"
    yield f"#define {upper}_VALUE {spec.value_size}"
    yield f"#define {upper}_ENTRIES {spec.max_entries}"
    yield f"/* Make the map in {upper}_SIZE bytes that are zero and aligned. The seed keeps those who send packets from choosing keys that collide. */"
    yield f"void {name}_init(void *map, uint32_t seed);"
    yield "/* The value of a key, which stays where it is; NULL where there is none. */"
    yield f"void *{name}_lookup(void *map, const void *key);"
    yield "/* 0 or a negative error number of Linux; flags are BPF_ANY (0), BPF_NOEXIST (1), BPF_EXIST (2). */"
    yield f"int64_t {name}_update(void *map, const void *key, const void *value, uint64_t flags);"
    yield f"int64_t {name}_delete(void *map, const void *key);"
    yield "/* Copy all keys and values out: how many there were, -1 if more than limit. */"
    yield f"int64_t {name}_snapshot(void *map, void *keys, void *values, uint64_t limit);"
