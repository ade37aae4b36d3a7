"""The page on linking programs into C, followed to the letter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ahead.c_program import has
from tests.docs.markdown import DOCS, ROOT, blocks

PAGE = DOCS / "howto/link-into-c.md"


@pytest.mark.slow
@pytest.mark.skipif(not has("cc"), reason="no C compiler")
def test_the_page_does_what_it_shows(tmp_path: Path) -> None:
    (program,) = blocks(PAGE, "c")
    (shown,) = blocks(PAGE, "text")
    (tmp_path / "switch.c").write_text(program.text)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "pybpf").write_text(f'#!/bin/sh\nexec {sys.executable} -m pybpf "$@"\n')
    (tools / "pybpf").chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{tools}:{os.environ['PATH']}"}
    script = "".join(block.text for block in blocks(PAGE, "sh"))
    done = subprocess.run(
        ["sh", "-e", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert shown.text in done.stdout
    assert (tmp_path / "firewall-arm.o").read_bytes()[18:20] == (183).to_bytes(2, "little")  # EM_AARCH64
