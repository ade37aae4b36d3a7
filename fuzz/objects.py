"""Damaged objects: files changed where it hurts, and everything that pybpf reads of them.

    python -m fuzz.objects --seconds 60 --seed 1

Most changes go into the tables (headers, symbols, relocations, types), as a field of a record that becomes a number from the edge of
its range, or one that is a little off. Whatever was changed, the outcome is an error of the documented tree or an object, soon, and
in little memory. What is not is saved with its reason in its name.
"""

from __future__ import annotations

import hashlib
import struct
import sys
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import click

from pybpf import BpfError, ElfError, Object, disassemble, load
from pybpf.btf import format_type
from pybpf.cli.describe import describe
from pybpf.cli.judge import judge
from pybpf.instruction import ByteOrder

EXAMPLES: Final = Path(__file__).parents[1] / "examples/objects"
FINDINGS: Final = Path(__file__).parent / "corpus/objects"

SLOW: Final = 2.0
"""Seconds of process time in which everything of an object is read."""
LARGE: Final = 64 << 20
"""Bytes that Python may take for it at most."""

VERIFIED: Final = 400
"""Slots of the programs of a file that are verified too: the first ones."""

NUMBERS: Final = (
    0, 1, 2, 3, 7, 8, 15, 16, 24, 31, 32, 63, 64, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFF00, 0xFFF1, 0xFFFF, 1 << 16,
    0x7FFF_FFFF, 1 << 31, 0xFFFF_FFFF, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 8, (1 << 64) - 1,
)  # fmt: skip
"""Where counts, sizes and offsets end."""

_STEPS: Final = (-64, -24, -16, -8, -4, -1, 1, 2, 4, 8, 16, 24, 64, 256)

# Offset and bytes of the fields of a section's header: name, type, flags, offset, size, link, info, entry size.
_FIELDS: Final = ((0, 4), (4, 4), (8, 8), (24, 8), (32, 8), (40, 4), (44, 4), (56, 8))
_HEADER: Final = 64


class _Row(NamedTuple):
    """A section: where its header stands, where its contents."""

    header: int
    start: int
    size: int


def mutated(data: bytes, random: Random) -> bytes:
    """The file with a few changes."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 5, 8))):
        if len(changed) > _HEADER:
            _change(changed, random)
    return bytes(changed)


def _change(data: bytearray, random: Random) -> None:
    rows = _rows(data)
    match random.randrange(10):
        case 0:
            _number(data, random.randrange(_HEADER), random.choice((1, 2, 4, 8)), random)
        case 1 | 2 if rows:
            at, width = random.choice(_FIELDS)
            header, other = random.choice(rows).header, random.choice(rows).header
            if random.random() < 0.3:
                data[header + at : header + at + width] = data[other + at : other + at + width]
            else:
                _number(data, header + at, width, random)
        case 3 | 4 | 5 | 6 if rows:
            row, width = random.choice(rows), random.choice((1, 2, 4, 4, 8))
            within = random.randrange(min(row.size, random.choice((64, row.size))))
            _number(data, row.start + within - within % width, width, random)
        case 7 if rows:
            row, length = random.choice(rows), random.choice((4, 8, 12, 16, 24, 64))
            source, target = (row.start + random.randrange(row.size) for _ in range(2))
            data[target : target + length] = data[source : source + length]
        case 8:
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        case 9 if random.random() < 0.15:
            del data[random.randrange(1, len(data)) :]


def _rows(data: bytearray) -> list[_Row]:
    """The sections that have contents, as far as the damage lets one see them."""
    order = "<" if data[5] == 1 else ">"
    (table,), (count,) = struct.unpack_from(order + "Q", data, 40), struct.unpack_from(order + "H", data, 60)
    if table + count * _HEADER > len(data):
        return []
    places = (
        (at, *struct.unpack_from(order + "QQ", data, at + 24))
        for at in range(table, table + count * _HEADER, _HEADER)
    )
    return [_Row(at, start, size) for at, start, size in places if size and start + size <= len(data)]


def _number(data: bytearray, at: int, width: int, random: Random) -> None:
    """Another number there: from the edge of a range, a little off, or any."""
    order: ByteOrder = "little" if data[5] == 1 else "big"
    old = int.from_bytes(data[at : at + width], order)
    new = random.choice((random.choice(NUMBERS), old + random.choice(_STEPS), random.getrandbits(64)))
    data[at : at + width] = (new % 256**width).to_bytes(width, order)


def read_everything(data: bytes) -> Object | None:
    """Load an object, then all that is read later: its description, text, types, verdicts. None for a file that is refused.

    Errors that are documented pass, if they are one line; any other is raised.
    """
    try:
        obj = load(data)
    except ElfError as error:
        _one_line(error)
        return None
    describe(obj)
    slots = 0
    for program in obj.programs.values():
        disassemble(program, pcs=True, encoding=True)
        slots += program.size
        if slots <= VERIFIED:
            message = judge(program).row.message
            assert message is None or "\n" not in message
        assert set(program.references) <= set(program.code)
        assert {spec.name for spec in program.maps} <= set(obj.maps)
    if obj.btf:
        assert set(load(data, btf=obj.btf).programs) == set(obj.programs)
        for id in range(len(obj.btf)):
            try:
                format_type(obj.btf, id)
            except ElfError as error:
                _one_line(error)
    return obj


def _one_line(error: BpfError) -> None:
    assert "\n" not in str(error)


def problem(data: bytes) -> str:
    """What is wrong with how a file is read: an error that is not documented, too long, or too much memory; empty if nothing."""
    start = time.process_time()
    tracemalloc.start()
    try:
        read_everything(data)
        peak = tracemalloc.get_traced_memory()[1]
    except Exception as error:
        return type(error).__name__
    finally:
        tracemalloc.stop()
    if peak > LARGE:
        return f"{peak >> 20}-MiB"
    return "slow" if time.process_time() - start > 5 * SLOW else ""  # watching memory takes most of the time


def mutants(files: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Damaged files without end; the same seed gives the same ones."""
    random = Random(seed)
    while True:
        yield mutated(random.choice(files), random)


@click.command()
@click.option("--seconds", type=float, help="Stop after so many seconds.")
@click.option("--count", type=int, help="Stop after so many files.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same files.")
@click.option(
    "--corpus",
    type=click.Path(file_okay=False, path_type=Path),
    default=FINDINGS,
    help="Where findings are saved.",
)
@click.argument("folders", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(
    seconds: float | None, count: int | None, seed: int, corpus: Path, folders: tuple[Path, ...]
) -> None:
    """Damage the objects in FOLDERS (the examples), and look at how pybpf reads them. The exit status is 1 if something was found."""
    if seconds is None and count is None:
        raise click.UsageError("say when to stop: --seconds or --count")
    files = [path.read_bytes() for folder in folders or (EXAMPLES,) for path in sorted(folder.rglob("*.o"))]
    end, found, number = time.monotonic() + (seconds or float("inf")), 0, 0
    for number, data in enumerate(mutants(files, seed), start=1):
        if what := problem(data):
            found += 1
            corpus.mkdir(parents=True, exist_ok=True)
            path = corpus / f"{what}-{hashlib.sha256(data).hexdigest()[:12]}.o"
            path.write_bytes(data)
            click.echo(f"seed {seed}, number {number}: {path}")
        if number == count or time.monotonic() > end:
            break
    click.echo(f"{number} files, {found} findings")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
