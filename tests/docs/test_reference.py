"""The pages of the reference that are written from tables."""

from __future__ import annotations

import pytest

from docs.reference import generate
from pybpf.isa import KERNEL_OPS, OPS, Kind


@pytest.mark.parametrize("name", generate.PAGES)
def test_the_committed_page_is_current(name: str):
    """Where it is not: python docs/reference/generate.py."""
    assert (generate.HERE / name).read_text() == generate.page(name)


def test_every_instruction_has_its_line():
    text = generate.page("instructions.md")
    assert generate.KINDS.keys() == set(Kind)
    assert text.count("| 0x") == len(OPS + KERNEL_OPS)
