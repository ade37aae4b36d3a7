"""Proofs that are made once: a test marked `proof` runs again only where the code that it covers has changed.

``proved.json`` keeps, for each proof, the functions of the verifier that ran while it was made, and a digest of their sources and of
the proof's own. Where the digest is still that, the test is skipped, for it would show what was shown. ``make proofs``
(PYBPF_PROOFS=all in the environment) makes all proofs and writes the file; PYBPF_PROOFS=changed makes and writes those that do not stand.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import os
import sys
from collections.abc import Generator
from functools import cache
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest

FILE = Path(__file__).with_name("proved.json")
MODE = os.environ.get("PYBPF_PROOFS", "")
SOURCES = Path(__file__).parents[2] / "pybpf" / "verifier"
COVERED = ("tnum", "view", "scalar")
"""The modules that proofs are about."""
GROUND = ("symbolic.py", "proofs.py")
"""What every proof stands on."""


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Skip a proof that stands, make one that does not, and remember it if asked to."""
    if pyfuncitem.get_closest_marker("proof") is None:
        return (yield)
    name = pyfuncitem.nodeid.rpartition("/")[2]
    entry = _table().get(name)
    if MODE != "all" and entry is not None and _digest(pyfuncitem, entry["functions"]) == entry["digest"]:
        pytest.skip("proved as it stands")
    if not MODE:
        return (yield)
    seen: set[str] = set()
    sys.setprofile(lambda frame, event, arg: _note(frame, event, seen))
    try:
        result = yield
    finally:
        sys.setprofile(None)
    functions = sorted(seen)
    _table()[name] = {"digest": _digest(pyfuncitem, functions), "functions": functions}
    lines = [f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(_table().items())]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return result


@cache
def _table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    return found


def _note(frame: FrameType, event: str, seen: set[str]) -> None:
    if event == "call" and (name := _covered(frame.f_code)) is not None:
        seen.add(name)


@cache
def _covered(code: CodeType) -> str | None:
    """A function of the number domain by its name: the outermost one, which has the text of those inside it."""
    path = Path(code.co_filename)
    if path.parent != SOURCES or path.stem not in COVERED:
        return None
    name = code.co_qualname.partition(".<locals>")[0]
    return None if name.startswith("<") else f"{path.stem}.{name}"


def _digest(item: pytest.Function, functions: list[str]) -> str:
    """Of the sources of functions, of the proof, of its file's helpers and of what all proofs stand on."""
    total = hashlib.sha256()
    for ground in GROUND:
        total.update(Path(__file__).with_name(ground).read_bytes())
    total.update(_without_other_tests(item.module, item.originalname).encode())
    for name in functions:
        total.update(_source(name).encode())
    return total.hexdigest()[:32]


@cache
def _without_other_tests(module: ModuleType, test: str) -> str:
    """A file of proofs without its tests but for one."""
    text = inspect.getsource(module)
    for name, function in vars(module).items():
        if name.startswith("test_") and name != test and isinstance(function, FunctionType):
            text = text.replace(inspect.getsource(function), "")
    return text


@cache
def _source(name: str) -> str:
    """The text of a function in its file without its docstring, empty if it is gone: the function itself may be replaced just now."""
    module, *path = name.split(".")
    text = (SOURCES / f"{module}.py").read_text()
    found: ast.Module | ast.ClassDef | ast.FunctionDef = ast.parse(text)
    for part in path:
        inside = [n for n in found.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name == part]
        if not inside:
            return ""
        found = inside[0]
    assert isinstance(found, ast.FunctionDef)
    first = min([found.lineno, *(decorator.lineno for decorator in found.decorator_list)])
    lines = {
        number: line
        for number, line in enumerate(text.splitlines(), 1)
        if first <= number <= (found.end_lineno or 0)
    }
    if ast.get_docstring(found) is not None:
        docstring = found.body[0]
        for number in range(docstring.lineno, (docstring.end_lineno or 0) + 1):
            del lines[number]
    return "\n".join(lines.values())
