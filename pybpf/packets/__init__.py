"""Packets: many in one buffer, out of captures and into them.

batch.py    PacketBatch
source.py   the bytes of a capture: opening, mapping, decompressing
pcap.py     the classic format, read and written
pcapng.py   the block format, read
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import IO, Final, Literal

from pybpf.errors import ArgumentError, CaptureError
from pybpf.packets import pcap, pcapng
from pybpf.packets.batch import LINKTYPE_ETHERNET, PacketBatch
from pybpf.packets.source import CaptureInput, Source, name_of, open_source

__all__ = ["LINKTYPE_ETHERNET", "PacketBatch", "read_pcap", "write_pcap"]

_READERS: Final = dict.fromkeys(pcap.MAGICS, pcap.read) | {pcapng.MAGIC: pcapng.read}
_OTHER_FORMATS: Final = {
    b"\x28\xb5\x2f\xfd": "compressed by zstd: decompress it first",
    b"\xfd\x37\x7a\x58": "compressed by xz: decompress it first",
    b"\x34\xcd\xb2\xa1": "a modified pcap with longer record headers: convert it with editcap",
    b"\xa1\xb2\xcd\x34": "a modified pcap with longer record headers: convert it with editcap",
    b"snoo": "a snoop file: convert it with editcap",
}


def read_pcap(
    capture: CaptureInput,
    *,
    truncated: Literal["error", "keep"] = "error",
    memory_map: bool = False,
    max_expanded: int = 1 << 30,
) -> PacketBatch:
    """Read a capture: pcap or pcapng, either byte order, any time resolution, gzip-compressed or not.

    The packets stay where they are in the file's bytes; only their places are worked out.

    `capture` is a path, a binary stream (read to its end) or the bytes themselves. `truncated` says what
    becomes of a capture that ends in the middle of a packet, as that of a killed tcpdump: an error, or
    ``"keep"`` for the whole packets before it. `memory_map` maps a file instead of reading it: for captures
    larger than memory, and only where nobody truncates the file while the batch lives (the system kills a
    process that touches the missing part). A compressed capture that expands to more than `max_expanded`
    bytes (1 GiB) is refused.

    Raises CaptureError, with the file, the byte and the number of whole packets before it, for whatever is
    missing, damaged or of another format, for packets longer than the snap length or 262144 bytes, and for
    packets of different link types in one file.

    >>> import io
    >>> write_pcap(file := io.BytesIO(), PacketBatch.from_packets([b"one", b"two"]))
    >>> list(read_pcap(file.getvalue()))
    [b'one', b'two']
    """
    if truncated not in ("error", "keep"):
        raise ArgumentError(f"truncated={truncated!r}: it is 'error' or 'keep'")
    try:
        source = open_source(capture, memory_map=memory_map, max_expanded=max_expanded)
        batch, fault = _reader(source)(source)
    except MemoryError as error:
        hint = "memory_map=True reads an uncompressed file in place"
        raise CaptureError(f"{name_of(capture)}: does not fit in memory ({hint})") from error
    if fault is not None and truncated == "error":
        raise fault
    return batch


def _reader(source: Source) -> Callable[[Source], tuple[PacketBatch, CaptureError | None]]:
    magic = bytes(source.buffer[:4])
    if not magic:
        raise source.error("empty, not a capture")
    if magic not in _READERS:
        unknown = f"not a pcap or pcapng capture: it begins with {magic.hex(' ')}"
        raise source.error(_OTHER_FORMATS.get(magic, unknown))
    return _READERS[magic]


def write_pcap(file: str | os.PathLike[str] | IO[bytes], batch: PacketBatch) -> None:
    """Write a classic little-endian pcap; timestamps, original lengths and the link type are kept.

    Times are microseconds, or nanoseconds where one of them needs it. `file` is a path or a binary stream.

    Raises CaptureError where the file cannot be written, ArgumentError for what the format cannot hold:
    packets of more than 262144 bytes and times after 2106.
    """
    pieces = pcap.write(batch)
    if not isinstance(file, str | os.PathLike):
        file.writelines(pieces)
        return
    try:
        with open(file, "wb") as stream:
            stream.writelines(pieces)
    except OSError as error:
        raise CaptureError(f"{os.fspath(file)}: {error.strerror}") from error
