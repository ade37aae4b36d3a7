"""The bytes of a capture, wherever they come from: a file, a pipe, a stream, memory; compressed or not."""

from __future__ import annotations

import gzip
import mmap
import os
import stat
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import IO, TYPE_CHECKING, Final

import numpy as np

from pybpf.errors import ArgumentError, CaptureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CaptureInput = str | os.PathLike[str] | IO[bytes] | bytes | bytearray | memoryview

MAX_CAPTURED: Final = 262144
"""The longest packet in a capture: the limit of tcpdump and Wireshark for link types of network packets."""

_GZIP_MAGIC: Final = b"\x1f\x8b"
_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class Source:
    """A capture's bytes, uncompressed. `name` is what errors call it; `cut` says why the bytes end early."""

    data: NDArray[np.uint8]
    name: str
    cut: str = ""

    @property
    def buffer(self) -> memoryview:
        """The bytes, for the struct module."""
        return self.data.data

    def words(self, byte_order: str) -> NDArray[np.uint32]:
        """The 32-bit number at every byte offset: `words[offsets]` reads one field of many records."""
        count = max(0, len(self.data) - 3)
        return np.ndarray((count,), dtype=f"{byte_order}u4", buffer=self.data, strides=(1,))

    def error(self, reason: str, packets: int | None = None, offset: int | None = None) -> CaptureError:
        """A fault at byte `offset`, behind `packets` whole ones."""
        place = "" if offset is None else f" byte {offset}:"
        place += "" if packets is None else f" after {packets} whole packets:"
        return CaptureError(f"{self.name}:{place} {reason}", packets)

    def cut_short(self, reason: str, packets: int, offset: int) -> CaptureError:
        """The bytes end in the middle of something."""
        hint = "truncated='keep' reads the whole packets"
        return self.error(f"the capture is cut off: {self.cut or reason} ({hint})", packets, offset)


def name_of(capture: CaptureInput) -> str:
    """What errors call it: a path, a stream's name, or "capture" where there is neither."""
    return (
        str(capture) if isinstance(capture, str | os.PathLike) else str(getattr(capture, "name", "capture"))
    )


def open_source(capture: CaptureInput, *, memory_map: bool, max_expanded: int) -> Source:
    """Read and, where gzip's magic is at the start, decompress. Raises CaptureError."""
    if isinstance(capture, bytes | bytearray | memoryview):
        name, content = name_of(capture), memoryview(capture).cast("B")
    elif isinstance(capture, str | os.PathLike):
        name, content = name_of(capture), _read_file(os.fspath(capture), memory_map)
    elif hasattr(capture, "read"):
        name, content = name_of(capture), _read_stream(capture)
    else:
        raise ArgumentError(f"a capture is a path, a binary stream or bytes, not {type(capture).__name__}")
    if bytes(content[:2]) == _GZIP_MAGIC:
        return _decompress(name, content, max_expanded)
    return Source(np.frombuffer(content, dtype=np.uint8), name)


def _read_file(path: str, memory_map: bool) -> memoryview:
    try:
        with open(path, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                raise CaptureError(f"{path}: a device, not a file or a pipe")
            if memory_map and status.st_size > 0:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            return memoryview(file.read())
    except OSError as error:
        raise CaptureError(f"{path}: {error.strerror}") from error
    except ValueError as error:  # a path with a null byte
        raise CaptureError(f"{path!r}: {error}") from error


def _read_stream(stream: IO[bytes]) -> memoryview:
    name = name_of(stream)
    try:
        content: object = stream.read()
    except OSError as error:
        raise CaptureError(f"{name}: {error.strerror or error}") from error
    if not isinstance(content, bytes | bytearray):
        kind = type(content).__name__
        raise CaptureError(f"{name}: a stream of {kind}, not of bytes; open it in binary mode")
    return memoryview(content)


def _decompress(name: str, content: memoryview, max_expanded: int) -> Source:
    expanded, cut = bytearray(), ""
    try:
        with gzip.GzipFile(fileobj=BytesIO(content)) as stream:
            while chunk := stream.read1(_CHUNK):
                expanded += chunk
                if len(expanded) > max_expanded:
                    hint = "max_expanded allows more"
                    raise CaptureError(f"{name}: expands to more than {max_expanded} bytes ({hint})")
    except EOFError:
        cut = "the compressed data end early"
    except (gzip.BadGzipFile, zlib.error) as error:
        raise CaptureError(f"{name}: damaged gzip data: {error}") from error
    return Source(np.frombuffer(expanded, dtype=np.uint8), name, cut)
