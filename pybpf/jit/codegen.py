"""From the text of a module to code in memory, by way of the cache: LLVM is not even imported for code that was compiled before."""

from __future__ import annotations

import pkgutil
import platform
from collections.abc import Iterator, Sequence
from enum import Enum
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from pybpf.errors import InternalError, UnsupportedError
from pybpf.jit import cache as disk
from pybpf.jit.image import Image, NotFlat, link
from pybpf.jit.loader import Code, LoadedImage, loads_images


class Level(Enum):
    """How much work goes into the code."""

    QUICK = "quick"  # inlining, registers for stack slots, local simplification
    FULL = "full"  # what clang does at -O2, loops and vectors included


def build(ir: str, exports: Sequence[str], level: Level = Level.FULL) -> Code:
    """Compile a module, unless that was done before, and load it: see `compile` and `load`."""
    found = find(ir, exports, level)
    if found is not None:
        return found
    compiled, kept = compile(ir, exports, level), disk.default()
    if kept is not None:
        kept.put(_key(ir, exports, level), compiled)
    return load(compiled, exports)


def find(ir: str, exports: Sequence[str], level: Level) -> Code | None:
    """The module's code, if it is in the cache."""
    kept = disk.default()
    compiled = None if kept is None else kept.get(_key(ir, exports, level))
    return None if compiled is None else load(compiled, exports)


def compile(ir: str, exports: Sequence[str], level: Level = Level.FULL) -> bytes:
    """What `load` takes of a module: an image where they can be used, else the object file. Raises what `engine.emit` raises."""
    from pybpf.jit import engine

    object_file = engine.emit(ir, level)
    try:
        return link(object_file, exports).to_bytes() if loads_images() else object_file
    except NotFlat:
        return object_file


def load(compiled: bytes, exports: Sequence[str]) -> Code:
    """Load what `compile` made, in this process or another on the same kind of machine. What the code needs from outside (memcpy, ...)
    comes from the process.

    Raises `InternalError` for a symbol that is nowhere, or where the system refuses executable memory.
    """
    if compiled.startswith(_ELF):
        from pybpf.jit import engine

        return engine.Library(compiled, exports)
    try:
        return LoadedImage(Image.from_bytes(compiled))
    except OSError as error:
        raise InternalError(f"the system gives no executable memory: {error.strerror}") from None


_ELF: Final = b"\x7fELF"


def _key(ir: str, exports: Sequence[str], level: Level) -> str:
    """A digest of all that code depends on. The text says it all of the program, the facts and the way pybpf compiles them."""
    digest = sha256(_environment())
    digest.update(f"{level.value} {' '.join(exports)}\n{ir}".encode())
    return digest.hexdigest()


@cache
def _environment() -> bytes:
    """How code is made of a text, and the processor, for which it is made in every detail."""
    host = f"{loads_images()} {platform.machine()} {platform.system()}"
    made_by = b"".join(pkgutil.get_data(__package__, f"{name}.py") or b"" for name in ("engine", "image"))
    return made_by + "\n".join([host, _llvmlite(), *_processor(), ""]).encode()


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
