"""The classic capture format (draft-ietf-opsawg-pcap): a file header, then records of a header and a packet.

                 0                4               8               12              16
    file header  magic            major | minor   reserved        reserved        snap length     link type
    record       seconds          fraction        captured        original        the packet ...

The magic tells the byte order and whether a fraction counts micro- or nanoseconds.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from pybpf.errors import ArgumentError, CaptureError
from pybpf.packets.batch import PacketBatch
from pybpf.packets.source import MAX_CAPTURED, Source

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MICROSECONDS: Final = 0xA1B2C3D4
_NANOSECONDS: Final = 0xA1B23C4D
_FRACTION_NS: Final = {_MICROSECONDS: 1000, _NANOSECONDS: 1}
_VERSION: Final = (2, 4)
_FILE_HEADER: Final = "IHHiIII"
_FILE_HEADER_SIZE: Final = 24
_RECORD_HEADER_SIZE: Final = 16
_LINK_TYPE: Final = 0xFFFF  # the upper half of that field describes frame check sequences

MAGICS: Final = {struct.pack(f"{order}I", magic): order for order in "<>" for magic in _FRACTION_NS}
"""The first four bytes of a file, and the byte order they tell."""


def read(source: Source) -> tuple[PacketBatch, CaptureError | None]:
    """The whole packets, and what is wrong with the end where the capture is cut off. Raises CaptureError."""
    if len(source.data) < _FILE_HEADER_SIZE:
        raise source.error(f"{len(source.data)} bytes of a file header of {_FILE_HEADER_SIZE}", offset=0)
    order = MAGICS[bytes(source.buffer[:4])]
    magic, *version, _, _, snap_length, link = struct.unpack_from(order + _FILE_HEADER, source.buffer)
    if tuple(version) != _VERSION:
        raise source.error(f"pcap version {version[0]}.{version[1]} is not known, only 2.4 is", offset=4)
    records, end = _walk(source, order, snap_length)

    words = source.words(order)
    seconds, fractions = words[records].astype(np.uint64), words[records + 4].astype(np.uint64)
    batch = PacketBatch(
        source.data,
        (records + _RECORD_HEADER_SIZE).astype(np.uint64),
        words[records + 8].astype(np.uint32),
        words[records + 12].astype(np.uint32),
        seconds * np.uint64(10**9) + fractions * np.uint64(_FRACTION_NS[magic]),
        link & _LINK_TYPE,
    )
    rest = len(source.data) - end
    if rest == 0 and not source.cut:
        return batch, None
    return batch, source.cut_short(f"{rest} bytes of a packet", len(batch), end)


def _walk(source: Source, order: str, snap_length: int) -> tuple[NDArray[np.int64], int]:
    """Where each whole record begins, and where the last one ends."""
    captured_at = struct.Struct(f"{order}8xI").unpack_from
    data, size = source.buffer, len(source.data)
    longest = min(snap_length or MAX_CAPTURED, MAX_CAPTURED)
    records: list[int] = []
    append = records.append
    position, last = _FILE_HEADER_SIZE, size - _RECORD_HEADER_SIZE
    while position <= last:
        (captured,) = captured_at(data, position)
        if captured > longest:
            limit = f"the snap length {snap_length}" if longest == snap_length else f"any packet's {longest}"
            reason = f"a captured length of {captured} bytes is more than {limit}"
            raise source.error(reason, len(records), position)
        append(position)
        position += _RECORD_HEADER_SIZE + captured
    if position > size:
        position = records.pop()
    return np.array(records, dtype=np.int64), position


def write(batch: PacketBatch) -> Iterator[bytes | memoryview]:
    """The file, piece by piece: little-endian, with nanoseconds only where a timestamp needs them.

    Raises ArgumentError for what the format cannot hold: packets of more than 262144 bytes, times after 2106.
    """
    seconds, fractions = np.divmod(batch.timestamps, np.uint64(10**9))
    unfit = (batch.lengths > MAX_CAPTURED) | (seconds >> np.uint64(32) > 0)
    if unfit.any():
        i = int(unfit.argmax())
        place = f"packet {i}: {batch.lengths[i]} bytes at {seconds[i]} s"
        raise ArgumentError(
            f"{place} do not fit a pcap record of {MAX_CAPTURED} bytes and 32 bits of seconds"
        )
    magic = _NANOSECONDS if (fractions % np.uint64(1000)).any() else _MICROSECONDS
    headers = np.empty((len(batch), 4), dtype="<u4")
    headers[:, 0] = seconds
    headers[:, 1] = fractions // np.uint64(_FRACTION_NS[magic])
    headers[:, 2] = batch.lengths
    headers[:, 3] = batch.original_lengths
    file_header = struct.pack("<" + _FILE_HEADER, magic, *_VERSION, 0, 0, MAX_CAPTURED, batch.link_type)
    return _pieces(file_header, headers.tobytes(), batch)


def _pieces(file_header: bytes, record_headers: bytes, batch: PacketBatch) -> Iterator[bytes | memoryview]:
    yield file_header
    headers, data = memoryview(record_headers), batch.data.data
    starts, ends = batch.offsets.tolist(), (batch.offsets + batch.lengths).tolist()
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        yield headers[i * _RECORD_HEADER_SIZE : (i + 1) * _RECORD_HEADER_SIZE]
        yield data[start:end]
