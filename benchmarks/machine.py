"""The machine that results are of: enough to judge them by, and nothing that names it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe() -> dict[str, str]:
    """What the figures depend on, by name."""
    return {
        "processor": _processor(),
        "processors": str(os.cpu_count()),
        "cache": _cache(),
        "kernel": f"{platform.system()} {platform.release().partition('-')[0]}",
        "Python": platform.python_version(),
        "llvmlite": version("llvmlite"),
    }


def _processor() -> str:
    """The model, its family and number: what hypervisors call a processor says little."""
    found: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name.strip(), value.strip())
    except OSError:
        return platform.processor() or platform.machine()
    model = found.get("model name", platform.machine())
    family = found.get("cpu family")
    return f"{model} (family {family}, model {found.get('model')})" if family else model


def _cache() -> str:
    levels = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            levels.append(f"L{level} {size}")
    return ", ".join(levels) or "unknown"
