"""Test files of the conformance suite: the format in which it writes a program, its memory and what it computes.

A line that holds ``--`` begins a part: ``asm`` (the suite's mnemonics, with ``#`` before a comment), ``raw`` (slots as
numbers), ``mem`` (bytes in hexadecimal), ``result`` (r0), ``error`` (there is no result), and others that are skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pybpf import encode
from pybpf.asm import assemble


class Vector(NamedTuple):
    """`result` is None where the program must fail."""

    name: str
    code: bytes
    memory: bytes
    result: int | None


PARTS = ("asm", "raw", "mem", "result", "error")


def read(path: Path) -> Vector:
    """The vector in a file."""
    parts: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in path.read_text().splitlines():
        if "--" in line:
            lines = parts.setdefault(next((part for part in PARTS if part in line), "skipped"), [])
        else:
            lines.append(line.partition("#")[0])
    text = {part: "\n".join(lines).strip() for part, lines in parts.items()}
    if "raw" in text:
        code = b"".join(int(word, 0).to_bytes(8, "little") for word in text["raw"].split())
    else:
        code = encode(assemble(text["asm"], syntax="mnemonic").code)
    result = int(text["result"], 0) if "error" not in text else None
    return Vector(path.stem, code, bytes.fromhex(text.get("mem", "")), result)


def spaced(data: bytes) -> str:
    """Bytes as the runner writes them."""
    return "".join(f"{byte:02x}  " for byte in data)
