"""The page of the Python API is current and whole."""

from __future__ import annotations

import inspect

import pybpf
from docs.reference import generate_api
from tests.docs.markdown import sections


def test_the_committed_page_is_current():
    """Where it is not: python docs/reference/generate_api.py."""
    assert generate_api.PAGE.read_text() == generate_api.page()


def test_every_public_name_is_on_the_page():
    assert sections(generate_api.PAGE, 3).keys() == set(pybpf.__all__)


def test_every_public_name_has_a_docstring():
    """What it is, for whoever has only `help`."""
    assert [name for name in pybpf.__all__ if not inspect.getdoc(getattr(pybpf, name))] == []
