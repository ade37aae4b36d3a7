"""Cases as text: assembler, with the inputs and the policy in comments that are read back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

import pybpf
from fuzz.case import Case, Entries
from pybpf import ArgumentError, Policy, program_types


def text_of(case: Case, note: str = "") -> str:
    """A case as assembler text; inputs and policy stand in comments that `read_case` reads back."""
    return "\n".join(_lines(case, note)) + "\n"


def _lines(case: Case, note: str) -> Iterator[str]:
    for line in note.splitlines():
        yield f"# {line}".rstrip()
    base = program_types.get(case.type.name).policy
    for item in fields(Policy):
        value = getattr(case.type.policy, item.name)
        if value != getattr(base, item.name):
            yield f"#: policy {item.name} {value}"
    for packet in case.packets:
        yield f"#: packet {packet.hex()}"
    for name, entries in case.entries.items():
        for key, value in entries:
            yield f"#: entry {name} {key.hex()} {value.hex()}"
    yield pybpf.disassemble(case.program)


_DIRECTIVE: Final = re.compile(r"^#: (\w+) ?(.*)$", re.MULTILINE)


def read_case(path: Path) -> Case:
    """The case of a file. Raises `ArgumentError` for a directive that is not known, `AssemblyError` for text that is no program."""
    text = path.read_text()
    program = pybpf.assemble(text, name=path.stem)
    type_ = program_types.get(program.type or "")
    packets: list[bytes] = []
    entries: dict[str, Entries] = {}
    for word, rest in _DIRECTIVE.findall(text):
        match [word, *rest.split()]:
            case ["policy", name, value]:
                changed: dict[str, Any] = {
                    name: value == "True" if value in ("True", "False") else int(value)
                }
                type_ = replace(type_, policy=replace(type_.policy, **changed))
            case ["packet", *octets]:
                packets.append(bytes.fromhex("".join(octets)))
            case ["entry", name, key, value]:
                entries[name] = (*entries.get(name, ()), (bytes.fromhex(key), bytes.fromhex(value)))
            case _:
                raise ArgumentError(f"{path}: unknown directive {word!r}")
    return Case(replace(program, type=type_), tuple(packets), entries)
