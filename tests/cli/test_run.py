"""``pybpf run``: verdicts, rates, maps, packets."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import pybpf as library
from pybpf.packets import PacketBatch
from tests.cli.conftest import CAPTURES, Run, compiled
from tests.cli.test_verify import UNSUPPORTED, source

HTTP = CAPTURES / "http.pcap"
ROUTER = compiled("xdp_router")
FIREWALL = compiled("stateful_firewall")
PACKET_NUMBER_TWO = "r0 = 0\nif r2 != 2 goto out\nr0 = 1\nout: exit"
TTL = 22  # byte of the frame


def figures(ran: Any) -> dict[str, Any]:
    """The JSON output without what differs from run to run."""
    return {
        key: value
        for key, value in ran.json.items()
        if key not in ("engine", "seconds", "packets_per_second")
    }


def expected(path: Path, name: str, capture: Path) -> Counter[int]:
    """What the library says that the packets get."""
    verified = library.verify(library.load(path).programs[name])
    return Counter(library.instantiate(verified).run_batch(library.read_pcap(capture)).tolist())


def test_verdicts_are_those_of_the_library(pybpf: Run) -> None:
    ran = pybpf("run", FIREWALL, "--pcap", HTTP, "--format", "json")
    assert (ran.status, ran.err) == (0, "")
    counts = {row["value"]: row["packets"] for row in ran.json["verdicts"]}
    assert counts == expected(FIREWALL, "stateful_firewall", HTTP)
    assert {row["value"]: row["verdict"] for row in ran.json["verdicts"]} == {0: "no match", 1: "match"}


def test_text_names_verdicts_rates_and_stages(pybpf: Run) -> None:
    out = pybpf("run", FIREWALL, "--pcap", HTTP).out
    assert "stateful_firewall (filter): verified" in out
    assert "246 packets" in out
    assert "95.9 %" in out
    execution, overall = (line for line in out.splitlines() if "packets/s" in line)
    assert execution.startswith("execution")
    assert all(stage in overall for stage in ("load", "verify", "read", "compile", "execute"))


def test_engines_agree_in_the_time_of_the_capture(pybpf: Run) -> None:
    """With the capture's clock nothing depends on the machine: both engines leave the same maps."""
    arguments = (
        "run",
        FIREWALL,
        "--pcap",
        CAPTURES / "loss.pcap",
        "--clock",
        "capture",
        "--maps",
        "--format",
        "json",
    )
    native, checked = (pybpf(*arguments, "--engine", engine) for engine in ("jit", "interpreter"))
    assert figures(native) == figures(checked)
    (sessions,) = native.json["maps"]
    assert sessions["entries"]


def test_clock_of_the_capture_is_what_programs_see(pybpf: Run, tmp_path: Path) -> None:
    """The time of the last packet ends up in the map."""
    text = """
    .type filter
    .map last array key=4 value=8 entries=1
    call time_get_ns
    *(u64 *)(r10 - 16) = r0
    *(u32 *)(r10 - 4) = 0
    r1 = last ll
    r2 = r10
    r2 += -4
    r3 = r10
    r3 += -16
    call map_update
    r0 = 1
    exit
    """
    batch = library.read_pcap(HTTP)
    arguments = (
        "run",
        source(tmp_path, text),
        "--pcap",
        HTTP,
        "--clock",
        "capture",
        "--maps",
        "--format",
        "json",
    )
    (entry,) = pybpf(*arguments).json["maps"][0]["entries"]
    assert int.from_bytes(bytes.fromhex(entry["value"]), "little") == int(batch.timestamps[-1])
    (entry,) = pybpf(*arguments, "--repeat", "2").json["maps"][0]["entries"]
    span = int(batch.timestamps.max() - batch.timestamps.min())
    assert int.from_bytes(bytes.fromhex(entry["value"]), "little") == int(batch.timestamps[-1]) + span


def test_maps_are_shown_by_their_types(pybpf: Run) -> None:
    out = pybpf("run", FIREWALL, "--pcap", HTTP, "--maps").out
    table = out[out.index("map sessions") :].splitlines()
    assert table[0] == "map sessions: hash, 11 of 10,000 entries"
    assert table[1].split() == ["address", "port", "protocol", "zero", "|", "state", "server", "last_seen_ns"]
    assert table[3].startswith("10.0.0.1, 10.0.0.2  80, ")
    assert "CLOSED" in table[3]
    assert len(table) == 3 + 11


@pytest.mark.parametrize("engine", ["jit", "interpreter"])
def test_repeat_goes_through_the_capture_again(pybpf: Run, engine: str) -> None:
    once, thrice = (
        pybpf(
            "run",
            compiled("xdp_counter"),
            "--pcap",
            HTTP,
            "--repeat",
            n,
            "--engine",
            engine,
            "--maps",
            "--format",
            "json",
        ).json
        for n in ("1", "3")
    )
    assert [3 * row["packets"] for row in once["verdicts"]] == [row["packets"] for row in thrice["verdicts"]]
    tcp_once, tcp_thrice = (
        next(entry["value"] for entry in ran["maps"][0]["entries"] if entry["key"] == 6)
        for ran in (once, thrice)
    )
    assert tcp_thrice["packets"] == 3 * tcp_once["packets"]


def test_write_keeps_what_matched(pybpf: Run, tmp_path: Path) -> None:
    """The packets that the program let through, with their times."""
    target = tmp_path / "matched.pcap"
    ran = pybpf("run", FIREWALL, "--pcap", HTTP, "--write", target)
    batch = library.read_pcap(HTTP)
    verified = library.verify(library.load(FIREWALL).programs["stateful_firewall"])
    kept = batch[library.instantiate(verified).run_batch(batch) == 1]
    written = library.read_pcap(target)
    assert f"{len(kept)} packets written to {target}" in ran.out
    assert list(written) == list(kept)
    assert written.timestamps.tolist() == kept.timestamps.tolist()


def test_write_takes_packets_as_the_program_left_them(pybpf: Run, tmp_path: Path) -> None:
    """The router sends packets back with one hop less; original lengths survive a snap length."""
    target = tmp_path / "sent.pcap"
    capture = CAPTURES / "http-snap96.pcap"
    assert pybpf("run", ROUTER, "--pcap", capture, "--write", target, "--verdict", "tx").status == 0
    batch = library.read_pcap(capture)
    verified = library.verify(library.load(ROUTER).programs["xdp_router"])
    results = list(library.instantiate(verified).run_many(batch))
    mask = [result.verdict == "TX" for result in results]
    written = library.read_pcap(target)
    assert list(written) == [result.packet for result, sent in zip(results, mask, strict=True) if sent]
    assert list(written) != [packet for packet, sent in zip(batch, mask, strict=True) if sent]
    assert written.original_lengths.tolist() == batch.original_lengths[mask].tolist()


def test_verdicts_to_write_by_number(pybpf: Run, tmp_path: Path) -> None:
    target = tmp_path / "out.pcap"
    assert (
        pybpf(
            "run", FIREWALL, "--pcap", HTTP, "--write", target, "--verdict", "0", "--verdict", "match"
        ).status
        == 0
    )
    assert list(library.read_pcap(target)) == list(library.read_pcap(HTTP))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--verdict", "match"], "--write"),
        (
            ["--write", "x.pcap", "--verdict", "PASS"],
            "no verdict 'PASS' of program type 'filter': it has match, no match",
        ),
        (["--type", "memory", "--write", "x.pcap"], "choose with --verdict"),
        (["--repeat", "0"], "--repeat"),
        (["--engine", "kernel"], "jit"),
    ],
)
def test_options_that_make_no_sense(pybpf: Run, tmp_path: Path, arguments: list[str], says: str) -> None:
    ran = pybpf("run", source(tmp_path, ".type filter\nr0 = 1\nexit"), "--pcap", HTTP, *arguments)
    assert ran.status == 2
    assert says in ran.err
    assert ran.err.count("\n") == 1


def test_packets_are_needed(pybpf: Run) -> None:
    ran = pybpf("run", FIREWALL)
    assert (ran.status, ran.err) == (2, "pybpf: run: missing option '--pcap' (see pybpf run --help)\n")


def test_unsafe_program_is_not_run(pybpf: Run) -> None:
    ran = pybpf("run", compiled("unsafe/off_by_one"), "--pcap", HTTP)
    assert (ran.status, ran.out) == (1, "")
    assert "off_by_one.c:21" in ran.err
    assert ran.err.count("\n") == 1


def test_unsupported_program_is_not_run(pybpf: Run, tmp_path: Path) -> None:
    ran = pybpf("run", "--type", "filter", source(tmp_path, UNSUPPORTED), "--pcap", HTTP)
    assert (ran.status, ran.out) == (3, "")
    assert "4242" in ran.err


@pytest.mark.parametrize("engine", ["jit", "interpreter"])
def test_budget_stops_a_packet(pybpf: Run, engine: str) -> None:
    """The line says which packet took too long."""
    ran = pybpf("run", FIREWALL, "--pcap", HTTP, "--engine", engine, "--budget", "20")
    assert ran.status == 1
    assert ran.err.startswith(f"pybpf: {FIREWALL}: ")
    assert "packet 2: " in ran.err
    assert "still running after" in ran.err


def test_map_too_large_for_memory(pybpf: Run, tmp_path: Path) -> None:
    text = """
    .type filter
    .map huge array key=4 value=4294967288 entries=4294967295
    r1 = huge ll
    r0 = 1
    exit
    """
    ran = pybpf("run", source(tmp_path, text), "--pcap", HTTP)
    assert ran.status == 2
    assert "map 'huge'" in ran.err
    assert ran.err.count("\n") == 1


def test_cut_capture(pybpf: Run, tmp_path: Path) -> None:
    """A capture that ends within a packet is refused, unless its whole packets are asked for."""
    capture = tmp_path / "cut.pcap"
    capture.write_bytes(HTTP.read_bytes()[:-10])
    refused = pybpf("run", FIREWALL, "--pcap", capture)
    assert refused.status == 2
    assert refused.err.startswith(f"pybpf: {capture}: ")
    assert refused.err.count("\n") == 1
    assert pybpf("run", FIREWALL, "--pcap", capture, "--truncated", "--format", "json").json["packets"] == 245


@pytest.mark.parametrize("engine", ["jit", "interpreter"])
def test_capture_without_packets(pybpf: Run, tmp_path: Path, engine: str) -> None:
    capture = tmp_path / "none.pcap"
    library.write_pcap(capture, PacketBatch.from_packets([]))
    arguments = (
        "run",
        FIREWALL,
        "--pcap",
        capture,
        "--maps",
        "--write",
        tmp_path / "out.pcap",
        "--engine",
        engine,
    )
    ran = pybpf(*arguments)
    assert ran.status == 0
    assert "no packets" in ran.out
    assert pybpf(*arguments, "--format", "json").json["packets_per_second"] == {
        "execution": None,
        "overall": None,
    }


def test_other_link_types_are_doubted(pybpf: Run, tmp_path: Path) -> None:
    capture = tmp_path / "raw.pcap"
    library.write_pcap(capture, PacketBatch.from_packets([bytes(40)], link_type=101))
    ran = pybpf("run", FIREWALL, "--pcap", capture)
    assert ran.status == 0
    assert (
        ran.err
        == f"pybpf: note: {capture}: packets of link type 101, which do not begin with an Ethernet header\n"
    )


def test_many_values_are_cut_short(pybpf: Run, tmp_path: Path) -> None:
    """Every packet of another length gives another result; the table says what it leaves out."""
    capture = tmp_path / "lengths.pcap"
    library.write_pcap(capture, PacketBatch.from_packets([bytes(n) for n in range(14, 114)]))
    out = pybpf("run", source(tmp_path, ".type memory\nr0 = r2\nexit"), "--pcap", capture).out
    assert "and 80 more values of r0, for 80 packets" in out
