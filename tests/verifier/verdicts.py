"""All that the verifier says, as a digest for each program: it must be the same on every run and under every Python.

``python -m tests.verifier.verdicts [OBJECT...]`` prints the digests of the cases, or of the programs of some objects, as JSON, for a
comparison of interpreters. It needs nothing but pybpf.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from pybpf import BpfError, Program, ProgramType, load, verify
from tests.verifier.case import all_cases


def plain(value: Any) -> Any:
    """What JSON can hold, in the order in which it was said; sets, which have none, are sorted."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Mapping):
        return [[plain(key), plain(each)] for key, each in value.items()]
    if isinstance(value, frozenset):
        return sorted((plain(each) for each in value), key=repr)
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return value


def digest(program: Program, type: ProgramType | None = None) -> str:
    """Of the facts and the certificate, or of the whole message."""
    try:
        verified = verify(program, type, certificate=True)
    except BpfError as error:
        text = f"{error.__class__.__name__}: {error}"
    else:
        assert verified.certificate is not None
        text = json.dumps(plain(verified.facts)) + verified.certificate.to_bytes().hex()
    return hashlib.sha256(text.encode()).hexdigest()


def digests(paths: list[str]) -> Iterator[tuple[str, str]]:
    """Of every case, or of every program of some objects."""
    if not paths:
        for file, case in all_cases():
            yield f"{file}: {case.name}", digest(case.program(), case.type())
    for path in paths:
        for name, program in load(path).programs.items():
            yield f"{path}: {name}", digest(program)


if __name__ == "__main__":
    print(json.dumps(dict(digests(sys.argv[1:])), indent=1))
