"""From the source of a module to code in memory, by way of the cache: LLVM is not even imported for code that was compiled before."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from hashlib import sha256
from typing import Final, Protocol

from pybpf.errors import InternalError
from pybpf.jit import cache as disk
from pybpf.jit.image import Image, NotFlat, link
from pybpf.jit.loader import Code, LoadedImage, loads_images
from pybpf.jit.origin import origin


class Level(Enum):
    """How much work goes into the code."""

    QUICK = "quick"  # inlining, registers for stack slots, local simplification
    FULL = "full"  # what clang does at -O2, loops and vectors included


class Source(Protocol):
    """What a module is made of. `identity` says all that its text depends on; the text is asked for where it must be compiled."""

    @property
    def identity(self) -> bytes:
        """Two sources of one identity have the same text."""

    def text(self) -> str:
        """LLVM's text."""


def build(source: Source | str, exports: Sequence[str], level: Level = Level.FULL) -> Code:
    """Compile a module, a text or what writes one, unless that was done before, and load it: see `compile` and `load`."""
    found = find(source, exports, level)
    if found is not None:
        return found
    compiled = compile(source if isinstance(source, str) else source.text(), exports, level)
    key, kept = _key(source, exports, level), disk.default()
    if key is not None and kept is not None:
        kept.put(key, compiled)
    return load(compiled, exports)


def find(source: Source | str, exports: Sequence[str], level: Level) -> Code | None:
    """The module's code, if it is in the cache."""
    kept = disk.default()
    key = None if kept is None else _key(source, exports, level)
    compiled = None if kept is None or key is None else kept.get(key)
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


def _key(source: Source | str, exports: Sequence[str], level: Level) -> str | None:
    """A digest of all that code depends on; None where that is not known."""
    made = origin()
    if made is None:
        return None
    kind, identity = ("text", source.encode()) if isinstance(source, str) else ("program", source.identity)
    digest = sha256(made)
    digest.update(f"{kind} {level.value} {' '.join(exports)}\n".encode())
    digest.update(identity)
    return digest.hexdigest()
