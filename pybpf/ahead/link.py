"""From an object file to a shared library, by whatever linker the machine has for the target."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pybpf.errors import UnsupportedError


def link_shared(object_file: Path, library: Path, target: str | None) -> None:
    """Link a shared library. Raises `UnsupportedError` where there is no linker, or it refuses."""
    for linker in _linkers(target):
        if shutil.which(linker) is not None:
            break
    else:
        whose = f"target {target}" if target is not None else "this machine"
        raise UnsupportedError(f"no linker for {whose}: write an object file instead (-o NAME.o)", "linker")
    done = subprocess.run(
        [linker, "-shared", "-o", library, object_file], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise UnsupportedError(f"{linker} makes no shared library: {reason}", "linker")


def _linkers(target: str | None) -> Iterator[str]:
    if target is None or target.partition("-")[0] == platform.machine():
        yield from ("cc", "gcc", "clang", "ld")
    else:
        yield from (f"{target}-gcc", f"{target}-ld", "ld.lld")
