"""The page of the architecture names every room and draws the import graph that is enforced."""

from __future__ import annotations

import re
import tomllib

from tests.docs.markdown import DOCS, ROOT, sections

SECTIONS = sections(DOCS / "architecture.md", 1)


def test_the_import_graph_is_the_one_that_is_enforced():
    """Line by line the layers of the contract in pyproject.toml."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    drawn = re.findall(r"^```text\n(.*?)^```", SECTIONS["Who may import whom"], re.DOTALL | re.MULTILINE)
    assert [line.strip() for line in drawn[0].splitlines()] == [line.replace("pybpf.", "") for line in layers]


def test_every_room_is_in_a_layer_and_on_the_page():
    """A module or package that nobody placed has no contract."""
    rooms = {
        path.name
        for path in (ROOT / "pybpf").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    named = {path.rstrip("/") for path in re.findall(r"`pybpf/([\w.]+)`", SECTIONS["The rooms"])}
    assert named == rooms
    layers = (ROOT / "pyproject.toml").read_text()
    assert [
        room for room in rooms - {"__init__.py"} if f"pybpf.{room.removesuffix('.py')}" not in layers
    ] == []
