"""What code depends on besides its source: pybpf's compiler, LLVM and the processor."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from pybpf.errors import UnsupportedError
from pybpf.jit.loader import loads_images

_ROOMS: Final = ("jit", "maps")
_FILES: Final = ("instruction", "isa", "lookup3", "memory", "semantics")
"""The rooms and files of pybpf that decide what code a program becomes, helpers and program types aside: a source names what it takes of those."""


@cache
def origin() -> bytes | None:
    """A digest of all that makes the same source the same code. None where it cannot be known: pybpf is there without its files, say."""
    try:
        digest = sha256(_compiler())
    except OSError:
        return None
    host = f"{loads_images()} {platform.machine()} {platform.system()}"
    digest.update("\n".join([host, _llvmlite(), *_processor(), ""]).encode())
    return digest.digest()


def _compiler() -> bytes:
    """A digest of pybpf's own files, so that no change of pybpf can leave code of the old behind."""
    package = Path(__file__).parent.parent
    files = [path for room in _ROOMS for path in sorted((package / room).glob("*.py"))]
    files += [package / f"{name}.py" for name in _FILES]
    digest = sha256()
    for path in files:
        digest.update(b"%s %d\n" % (path.name.encode(), path.stat().st_size) + path.read_bytes())
    return digest.digest()


def _llvmlite() -> str:
    """What says llvmlite's version: asking its metadata would take longer than all else here, importing it longer still."""
    found = find_spec("llvmlite")
    if found is None or found.origin is None:
        raise UnsupportedError("native code needs the package llvmlite, which is not installed", "llvmlite")
    try:
        return Path(found.origin).with_name("_version.py").read_text()
    except OSError:
        from pybpf.jit import engine

        return engine.version()


_CPU_FIELDS: Final = frozenset(
    ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")  # x86
    + ("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features")  # arm
    + ("isa", "uarch", "cpu", "machine", "features", "Model Name", "CPU Family")  # others
)


def _processor() -> Iterator[str]:
    """What tells this kind of processor from others: /proc/cpuinfo is read in no time, while LLVM takes some to be imported."""
    try:
        with open("/proc/cpuinfo") as file:
            text = file.read()
    except OSError:
        text = ""
    lines = sorted({line for line in text.splitlines() if line.partition(":")[0].strip() in _CPU_FIELDS})
    if lines:
        yield from lines
    else:
        from pybpf.jit import engine

        yield engine.processor()
