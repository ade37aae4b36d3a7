"""Where a capture's bytes come from: every input gives the same batch, every bad one a line that names it."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import threading

import pytest

from pybpf import ArgumentError, CaptureError, PacketBatch, read_pcap, write_pcap

PACKETS = [b"one", b"", b"three"]


@pytest.fixture
def capture():
    write_pcap(stream := io.BytesIO(), PacketBatch.from_packets(PACKETS))
    return stream.getvalue()


def refusal(*arguments, **options):
    """The error's text, which must be one line."""
    with pytest.raises(CaptureError) as caught:
        read_pcap(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, io.BytesIO])
def test_bytes_and_streams(capture, wrap):
    assert list(read_pcap(wrap(capture))) == PACKETS


@pytest.mark.parametrize("memory_map", [False, True])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_files(capture, tmp_path, memory_map, compress):
    path = tmp_path / "some.pcap"
    path.write_bytes(compress(capture))
    assert list(read_pcap(path, memory_map=memory_map)) == PACKETS
    assert list(read_pcap(str(path), memory_map=memory_map)) == PACKETS
    with path.open("rb") as stream:
        assert list(read_pcap(stream)) == PACKETS


def test_named_pipe(capture, tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(capture,))
    writer.start()
    assert list(read_pcap(path)) == PACKETS
    writer.join()


def test_reading_shares_the_bytes(capture):
    assert read_pcap(capture).data.tobytes() == capture


def test_several_gzip_members_are_one_capture(capture):
    """As `cat a.gz b.gz` or a parallel compressor writes them."""
    assert list(read_pcap(gzip.compress(capture[:30]) + gzip.compress(capture[30:]))) == PACKETS


@pytest.mark.parametrize("memory_map", [False, True])
def test_no_capture_at_the_path(tmp_path, memory_map):
    empty = tmp_path / "empty.pcap"
    empty.touch()
    missing = tmp_path / "missing.pcap"
    assert refusal(missing, memory_map=memory_map) == f"{missing}: No such file or directory"
    assert refusal(tmp_path, memory_map=memory_map) == f"{tmp_path}: Is a directory"
    assert refusal(empty, memory_map=memory_map) == f"{empty}: empty, not a capture"
    assert refusal("/dev/zero", memory_map=memory_map) == "/dev/zero: a device, not a file or a pipe"
    assert "null byte" in refusal("a\0b", memory_map=memory_map)


def test_other_formats_are_named():
    assert refusal(b"hello world") == "capture: not a pcap or pcapng capture: it begins with 68 65 6c 6c"
    assert refusal(b"\xa1") == "capture: not a pcap or pcapng capture: it begins with a1"
    assert "compressed by zstd" in refusal(b"\x28\xb5\x2f\xfd" + bytes(20))
    assert "not a pcap or pcapng capture" in refusal(gzip.compress(b"hello world"))


def test_text_stream_is_refused(capture):
    assert "binary mode" in refusal(io.StringIO("text"))


def test_no_input_at_all():
    with pytest.raises(ArgumentError, match="not int"):
        read_pcap(3)
    with pytest.raises(ArgumentError, match="'error' or 'keep'"):
        read_pcap(b"", truncated="drop")


def test_gzip_damage(capture):
    compressed = gzip.compress(capture)
    wrong_checksum = compressed[:-8] + bytes(4) + compressed[-4:]
    assert "damaged gzip data: CRC check failed" in refusal(wrong_checksum)
    assert "damaged gzip data" in refusal(compressed[:12] + b"\xff" * 8 + compressed[20:])
    assert "damaged gzip data" in refusal(b"\x1f\x8b\x07" + compressed[3:])


@pytest.mark.parametrize("missing", [1, 8, 20])
def test_gzip_that_ends_early(capture, missing):
    """Even where every packet came through: nobody knows what would have followed."""
    compressed = gzip.compress(capture)[:-missing]
    assert "the compressed data end early" in refusal(compressed)
    kept = list(read_pcap(compressed, truncated="keep"))
    assert kept == PACKETS[: len(kept)]


def test_gzip_bomb(capture):
    """Expansion stops at the limit, long before memory is full."""
    bomb = gzip.compress(capture + bytes(1 << 20))
    assert refusal(bomb, max_expanded=1 << 16).startswith("capture: expands to more than 65536 bytes")
    small = gzip.compress(capture)
    assert list(read_pcap(small, max_expanded=len(capture))) == PACKETS
    refusal(small, max_expanded=len(capture) - 1)


class Broken(io.BytesIO):
    name = "broken"

    def read(self, size=-1):
        raise OSError("Input/output error")


def test_stream_that_cannot_be_read():
    assert refusal(Broken()) == "broken: Input/output error"


LARGER_THAN_MEMORY = """
import resource, sys
from pybpf import CaptureError, read_pcap
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (64 << 20),) * 2)
try:
    read_pcap(sys.argv[1])
except CaptureError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is set with Linux's /proc")
def test_file_larger_than_memory(tmp_path):
    """A process that may use 64 MiB more reads a (sparse) file of 1 GiB."""
    path = tmp_path / "huge.pcap"
    path.touch()
    os.truncate(path, 1 << 30)
    command = [sys.executable, "-c", LARGER_THAN_MEMORY, path]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert output.startswith(f"{path}: does not fit in memory (memory_map=True")
