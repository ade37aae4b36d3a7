"""The verifier says the same, word for word, whatever the order of Python's sets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_verdicts_facts_certificates_and_messages_do_not_depend_on_the_run() -> None:
    """Every case is verified in two processes in which strings hash otherwise."""
    one, other = (
        json.loads(
            subprocess.run(
                [sys.executable, "-m", "tests.verifier.verdicts"],
                cwd=ROOT,
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for seed in ("1", "20")
    )
    assert len(one) > 500
    assert {name: one[name] for name in one if one[name] != other[name]} == {}
