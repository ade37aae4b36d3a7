"""The page of the verifier names all of its rooms, and the policies as they are."""

from __future__ import annotations

import re
from dataclasses import fields

from pybpf import Policy
from pybpf.program_types import FILTER
from tests.docs.markdown import DOCS, ROOT, sections

SECTIONS = sections(DOCS / "verifier.md", 2)


def test_every_room_is_on_the_page():
    named = set(re.findall(r"`(\w+)`", SECTIONS["How a verification goes"]))
    rooms = {path.stem for path in (ROOT / "pybpf/verifier").glob("*.py")} - {"__init__"}
    assert rooms - named == set()


def test_the_table_of_policies_has_every_field_with_its_values():
    """The default, and what the type `filter` has."""
    rows = re.findall(
        r"^\| `(\w+)` \| ([^|;]*)[^|]*\| ([^|]*) \|", SECTIONS["The policy of a program type"], re.MULTILINE
    )
    table = {name: (_value(default.strip()), _value(of_filter)) for name, default, of_filter in rows}
    assert table == {
        field.name: (getattr(Policy(), field.name), getattr(FILTER.policy, field.name))
        for field in fields(Policy)
    }


def _value(text: str) -> bool | int | None:
    if text in ("yes", "no", "all"):
        return {"yes": True, "no": False, "all": None}[text]
    base, _, power = text.replace(",", "").partition("**")
    return int(base) ** int(power or 1)
