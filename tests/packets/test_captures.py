"""The captures in examples/captures: other readers agree, and no damage does more than raise CaptureError."""

from __future__ import annotations

import gzip
import io
import re
import shutil
import subprocess
from pathlib import Path

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pybpf import CaptureError, read_pcap, write_pcap

DIRECTORY = Path(__file__).parents[2] / "examples" / "captures"
FILES = sorted(path.name for path in DIRECTORY.glob("*.pcap*"))
CONTENT = {name: (DIRECTORY / name).read_bytes() for name in FILES}
every_capture = pytest.mark.parametrize("name", FILES)


def has(tool):
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def plain(name):
    return gzip.decompress(CONTENT[name]) if name.endswith(".gz") else CONTENT[name]


def test_there_are_captures_of_every_format():
    heads = {plain(name)[:4].hex() for name in FILES}
    assert heads == {"d4c3b2a1", "4d3cb2a1", "0a0d0d0a"}
    assert any(name.endswith(".gz") for name in FILES)
    assert sum(map(len, CONTENT.values())) < 2 << 20


@every_capture
def test_dpkt_reads_the_same(name):
    """Bytes and times; dpkt gives times as floating point or decimal seconds: compared to a microsecond."""
    module = dpkt.pcapng if name.endswith(".pcapng") else dpkt.pcap
    theirs = list(module.Reader(io.BytesIO(plain(name))))
    batch = read_pcap(DIRECTORY / name)
    assert list(batch) == [data for _, data in theirs]
    ours = [ns / 10**9 for ns in batch.timestamps.tolist()]
    assert ours == pytest.approx([float(time) for time, _ in theirs], abs=1e-6, rel=0)


@pytest.mark.oracle
@pytest.mark.slow
@has("tshark")
@every_capture
def test_tshark_reads_the_same_times_and_lengths(name):
    fields = ["-e", "frame.time_epoch", "-e", "frame.cap_len", "-e", "frame.len"]
    command = ["tshark", "-r", DIRECTORY / name, "-T", "fields", *fields]
    rows = [line.split() for line in subprocess.check_output(command, text=True).splitlines()]
    batch = read_pcap(DIRECTORY / name)
    columns = (batch.timestamps.tolist(), batch.lengths.tolist(), batch.original_lengths.tolist())
    ours = [(f"{ns // 10**9}.{ns % 10**9:09}", str(c), str(o)) for ns, c, o in zip(*columns, strict=True)]
    assert ours == [tuple(row) for row in rows]


@pytest.mark.oracle
@has("tcpdump")
@every_capture
def test_tcpdump_reads_what_was_written(name, tmp_path):
    """Written by write_pcap, rewritten by tcpdump, read by dpkt: the same packets as were read at first."""
    batch = read_pcap(DIRECTORY / name)
    write_pcap(tmp_path / "ours.pcap", batch)
    command = ["tcpdump", "-r", tmp_path / "ours.pcap", "-w", tmp_path / "theirs.pcap"]
    subprocess.run(command, check=True, capture_output=True)
    theirs = list(dpkt.pcap.Reader(io.BytesIO((tmp_path / "theirs.pcap").read_bytes())))
    assert [data for _, data in theirs] == list(batch)


@every_capture
def test_every_byte_of_a_cut_capture_is_accounted_for(name):
    """Cut anywhere, a capture gives the packets that lie before the cut and nothing else."""
    data, whole = plain(name), read_pcap(DIRECTORY / name)
    ends = (whole.offsets + whole.lengths).tolist()
    padded = [end + (-end % 4) + 4 for end in ends] if name.endswith(".pcapng") else ends
    for size in range(600, min(len(data), 40_000), 371):
        before = sum(1 for end in padded if end <= size)
        kept = read_pcap(data[:size], truncated="keep")
        # A packet block may have options behind the packet: then its end lies further on.
        assert 0 <= before - len(kept) <= (1 if name.endswith(".pcapng") else 0)
        assert list(kept) == list(whole[: len(kept)])


def mutations(data):
    """A few bytes replaced, a piece cut out or doubled, the end cut off."""
    place = st.integers(0, len(data)) | st.integers(0, 300)
    replace = st.tuples(place, st.binary(min_size=1, max_size=8)).map(
        lambda change: data[: change[0]] + change[1] + data[change[0] + len(change[1]) :]
    )
    splice = st.tuples(place, place).map(lambda cut: data[: cut[0]] + data[cut[1] :])
    return replace | splice | place.map(lambda size: data[:size])


def check_only_capture_errors(data):
    for truncated in ("error", "keep"):
        line = "read"
        try:
            batch = read_pcap(data, truncated=truncated, max_expanded=1 << 24)
            assert sum(len(packet) for packet in batch) == batch.lengths.sum()
        except CaptureError as error:
            line = str(error)
        assert re.fullmatch(r"[^\n]+", line)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.data())
def test_mutated_captures_raise_only_capture_errors(choose):
    name = choose.draw(st.sampled_from(FILES))
    check_only_capture_errors(choose.draw(mutations(CONTENT[name])))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([plain("dns.pcap")[:400], plain("mixed.pcapng")[:1200]])
    .flatmap(mutations)
    .flatmap(mutations)
)
def test_mutated_heads_raise_only_capture_errors(data):
    """Twice damaged and short, so that headers and option lists are hit often."""
    check_only_capture_errors(data)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", *(plain(name)[:4] for name in ("dns.pcap", "mixed.pcapng"))]),
)
def test_noise_raises_only_capture_errors(noise, magic):
    check_only_capture_errors(magic + noise)
