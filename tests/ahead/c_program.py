"""A C program around a compiled object: it reads packets, runs them, and says what came of it."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

from pybpf.ahead import CompiledObject
from pybpf.ahead.interface import Interface

NOW = 1_000_000_007

MAIN = r"""
#include <stdio.h>
#include <stdlib.h>
#include "program.h"

static uint64_t now(struct NAME *state, uint64_t site) { return @NOW@; }

static void *zeroed(size_t size)
{
    size = (size + 63) / 64 * 64;
    return memset(aligned_alloc(64, size), 0, size);
}

static void show(const void *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        printf("%02x", ((const unsigned char *)data)[i]);
}

int main(void)
{
    static struct NAME state;
    uint32_t n, total = 0;
    unsigned char *data = NULL;
@MAKE@
    NAME_init(&state@ARGUMENTS@);
    state.clock = now;
    if (fread(&n, 4, 1, stdin) != 1)
        return 2;
    uint64_t *offsets = calloc(n + 1, 8), *results = calloc(n + 1, 8);
    uint32_t *lengths = calloc(n + 1, 4);
    for (uint32_t i = 0; i < n; i++) {
        if (fread(&lengths[i], 4, 1, stdin) != 1)
            return 2;
        offsets[i] = total;
        data = realloc(data, (total += lengths[i]) + 1);
        if (lengths[i] && fread(data + offsets[i], lengths[i], 1, stdin) != 1)
            return 2;
    }
    if (@BATCH@) {
        if (NAME_run_batch(&state, data, total, offsets, lengths, results, n, NULL, 65535) != n)
            return 3;
    } else {
        for (uint32_t i = 0; i < n; i++) {
            results[i] = NAME_run(&state, data + offsets[i], lengths[i]);
            if (state.stopped)
                return 3;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        printf("%llu ", (unsigned long long)results[i]);
        show(data + offsets[i], lengths[i]);
        puts("");
    }
@SHOW@
    return 0;
}
"""

SHOW = r"""
    {
        char *keys = malloc((size_t)UPPER_KEY * UPPER_ENTRIES * 2), *values = malloc((size_t)UPPER_VALUE * UPPER_ENTRIES * 2);
        int64_t count = LOWER_snapshot(map@NUMBER@, keys, values, UPPER_ENTRIES * 2);
        puts("map @NUMBER@");
        for (int64_t i = 0; i < count; i++) {
            void *value = LOWER_lookup(map@NUMBER@, keys + i * UPPER_KEY);
            if (value == NULL || memcmp(value, values + i * UPPER_VALUE, UPPER_VALUE))
                return 4;
            show(keys + i * UPPER_KEY, UPPER_KEY);
            putchar(' ');
            show(values + i * UPPER_VALUE, UPPER_VALUE);
            puts("");
        }
    }
"""


def text(interface: Interface, batch: bool) -> str:
    """The text of the program."""
    make, arguments, show = "", "", ""
    for map in interface.maps:
        lower = f"{interface.name}_{map.name}"
        make += f"    void *map{map.number} = zeroed({lower.upper()}_SIZE);\n    {lower}_init(map{map.number}, 1);\n"
        arguments += f", map{map.number}"
        shown = SHOW.replace("UPPER", lower.upper()).replace("LOWER", lower)
        show += shown.replace("@NUMBER@", str(map.number))
    parts = {"@NOW@": str(NOW), "@MAKE@": make, "@ARGUMENTS@": arguments, "@SHOW@": show}
    parts |= {"@BATCH@": str(int(batch)), "NAME": interface.name}
    whole = MAIN
    for mark, part in parts.items():
        whole = whole.replace(mark, part)
    return whole


def build(made: CompiledObject, directory: Path, compiler: str, *options: str, batch: bool = True) -> Path:
    """Compile and link it."""
    (directory / "program.h").write_text(made.header)
    (directory / "program.o").write_bytes(made.code)
    (directory / "main.c").write_text(text(made.interface, batch))
    command = [compiler, "-std=c11", "-Wall", "-Werror", "-Wno-unused-function", "-O1", *options]
    files = ["-o", "main", "main.c", "program.o"]
    subprocess.run([*command, *files], cwd=directory, check=True)
    return directory / "main"


def run(
    command: list[str | Path], packets: list[bytes]
) -> tuple[list[int], list[bytes], list[dict[bytes, bytes]]]:
    """Results, packets afterwards, and what each map holds."""
    data = struct.pack("<I", len(packets)) + b"".join(struct.pack("<I", len(p)) + p for p in packets)
    lines = subprocess.run(command, input=data, capture_output=True, check=True).stdout.decode().splitlines()
    values, left = [], []
    for line in lines[: len(packets)]:
        value, _, packet = line.partition(" ")
        values.append(int(value))
        left.append(bytes.fromhex(packet))
    maps: list[dict[bytes, bytes]] = []
    for line in lines[len(packets) :]:
        if line.startswith("map "):
            maps.append({})
        else:
            key, _, contents = line.partition(" ")
            maps[-1][bytes.fromhex(key)] = bytes.fromhex(contents)
    return values, left, maps


def has(*tools: str) -> bool:
    """Whether all these are installed."""
    return all(shutil.which(tool) for tool in tools)
