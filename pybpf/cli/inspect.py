"""``pybpf inspect``: what a file holds, and what of it pybpf cannot handle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from pybpf.btf import Btf, format_type
from pybpf.cli import options
from pybpf.cli.files import blaming, choose, read_object
from pybpf.cli.output import print_json, print_table, printable, say
from pybpf.errors import ElfError
from pybpf.helpers import LINUX, Helper
from pybpf.instruction import SLOT
from pybpf.maps import TYPES
from pybpf.program import MapSpec, Object, Program, RefKind
from pybpf.program_types import BY_NAME, ProgramType


@click.command(
    short_help="Show what an object holds.",
    **options.examples(
        "pybpf inspect firewall.o",
        "pybpf inspect --format json firewall.o | jq '.maps[].name'",
    ),
)
@options.file
@options.type_
@options.format_
def command(file: str, type: str | None, format: str) -> None:
    """Show the programs and maps of an object, and what of it pybpf does not support.

    Nothing is verified or run, and the exit status is 0 for every file that can be read.
    """
    object = read_object(file, type)
    choose(file, object, None)
    with blaming(file):
        holds = describe(object)
    if format == "json":
        print_json({"file": file} | holds)
    else:
        _print(file, holds)


def describe(object: Object) -> dict[str, Any]:
    """What there is to say of an object, as JSON holds it."""
    return {
        "byteorder": object.byteorder,
        "license": object.license,
        "version": object.version,
        "btf_types": len(object.btf) - 1 if object.btf else None,
        "programs": [_program(program) for program in object.programs.values()],
        "maps": [_map(spec, object.btf) for spec in object.maps.values()],
        "notes": list(object.notes),
    }


def _program(program: Program) -> dict[str, Any]:
    return {
        "name": program.name,
        "section": program.section,
        "type": _type_name(program),
        "instructions": len(program.code),
        "bytes": program.size * SLOT,
        "functions": [function.name for function in program.functions.values()],
        "maps": [spec.name for spec in program.maps],
        "helpers": list(_helper_names(program)),
        "source": sorted({line.file for line in program.lines.values()}),
        "unsupported": list(_unsupported(program)),
    }


def _type_name(program: Program) -> str | None:
    return program.type.name if isinstance(program.type, ProgramType) else program.type


def _helper_table(program: Program) -> dict[int, Helper]:
    """The helpers that the program's numbers mean; Linux's where pybpf does not know the type."""
    type_ = program.type if isinstance(program.type, ProgramType) else BY_NAME.get(program.type or "")
    return dict(type_.helpers if type_ else LINUX)


def _called(program: Program) -> Iterator[int | str]:
    """The helpers called, each once, by number or, where that is not known, by name."""
    seen: dict[int | str, None] = {}
    for pc, instruction in program.code.items():
        if instruction.op.code == "helper":
            reference = program.references.get(pc)
            named = reference is not None and reference.kind is RefKind.HELPER
            seen[reference.name if reference and named else instruction.imm] = None
    return iter(seen)


def _helper_names(program: Program) -> Iterator[str]:
    table = _helper_table(program)
    for helper in _called(program):
        yield helper if isinstance(helper, str) else table[helper].name if helper in table else f"#{helper}"


def _unsupported(program: Program) -> Iterator[str]:
    """Why the program cannot be verified, as far as that shows without trying."""
    name = _type_name(program)
    if name is None:
        yield "no type: the section's name does not say it, --type may"
    elif isinstance(program.type, str) and name not in BY_NAME:
        yield f"program type {name}"
    if program.defect is not None:
        yield str(program.defect)
    yield from dict.fromkeys(
        ref.name for ref in program.references.values() if ref.kind is RefKind.UNSUPPORTED
    )
    yield from (f"map {spec.name}: type {spec.type}" for spec in program.maps if spec.type not in TYPES)
    if name in BY_NAME:
        table = _helper_table(program)
        yield from (f"helper {helper}" for helper in _called(program) if helper not in table)


def _map(spec: MapSpec, btf: Btf | None) -> dict[str, Any]:
    return {
        "name": spec.name,
        "type": spec.type,
        "key_size": spec.key_size,
        "value_size": spec.value_size,
        "max_entries": spec.max_entries,
        "flags": spec.flags,
        "read_only": spec.read_only,
        "key_type": _c_type(btf, spec.key_type),
        "value_type": _c_type(btf, spec.value_type),
        "inner": _map(spec.inner, btf) if spec.inner else None,
        "supported": spec.type in TYPES,
    }


def _c_type(btf: Btf | None, id: int | None) -> str | None:
    if btf is None or id is None:
        return None
    try:
        return format_type(btf, id, body=False)
    except ElfError:
        return None


def _print(file: str, holds: dict[str, Any]) -> None:
    btf = f"BTF with {holds['btf_types']} types" if holds["btf_types"] is not None else "no BTF"
    license = f"license {holds['license']}" if holds["license"] else "no license"
    say(printable(f"{click.format_filename(file)}: {holds['byteorder']}-endian, {license}, {btf}"), bold=True)
    say()
    _print_programs(holds["programs"])
    if holds["maps"]:
        say()
        _print_maps(holds["maps"])
    missing: dict[str, list[str]] = {}
    for program in holds["programs"]:
        for reason in program["unsupported"]:
            missing.setdefault(reason, []).append(program["name"])
    if missing or holds["notes"]:
        say("\nunsupported", bold=True)
        for reason, names in missing.items():
            say(printable(f"  {reason} ({_some(names)})"))
        for note in holds["notes"]:
            say(printable(f"  {note}"))


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _print_programs(programs: list[dict[str, Any]]) -> None:
    columns = ("program", "section", "type", "instructions", "functions", "maps", "helpers")
    rows = [
        (
            program["name"],
            program["section"],
            program["type"] or "-",
            program["instructions"],
            max(len(program["functions"]), 1),
            ", ".join(program["maps"]) or "-",
            ", ".join(program["helpers"]) or "-",
        )
        for program in programs
    ]
    print_table(columns, rows)


def _print_maps(maps: list[dict[str, Any]]) -> None:
    columns = ("map", "type", "key", "bytes", "value", "bytes", "entries")
    rows = [
        (
            spec["name"] + (" (read-only)" if spec["read_only"] else ""),
            spec["type"] + ("" if spec["supported"] else " (unsupported)"),
            spec["key_type"] or "-",
            spec["key_size"],
            spec["value_type"] or "-",
            spec["value_size"],
            spec["max_entries"],
        )
        for spec in maps
    ]
    print_table(columns, rows)
