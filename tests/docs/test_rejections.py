"""The page of rejections has every reason that the verifier can give, and its examples get them."""

from __future__ import annotations

import ast
import doctest
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from pybpf import VerifierError, assemble, program_types, verify
from pybpf.helpers import UNPROVED
from pybpf.verifier.explain import HINTS
from tests.docs.markdown import DOCS, ROOT, sections

PAGE = DOCS / "reference/rejections.md"
SECTIONS = sections(PAGE, 2)

_EXAMPLE = re.compile(r"```bpf\n(.*?)```\n\n```text\n(.*?)\n```", re.DOTALL)
_POLICY = re.compile(r"^; policy: (\w+)=(\w+)$", re.MULTILINE)
_RETURNS = re.compile(r"^; returns: (\d+) (\d+)$", re.MULTILINE)

EXAMPLES = [(reason, *found) for reason, text in SECTIONS.items() for found in _EXAMPLE.findall(text)]


def reasons() -> set[str]:
    """The first argument of every refusal in the verifier: an identifier, or that of another refusal passed on."""
    found: set[str] = set()
    for path in sorted((ROOT / "pybpf/verifier").rglob("*.py")):
        found.update(_reasons(ast.parse(path.read_text())))
    return found


def _reasons(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id not in ("Refusal", "StructureError"):
                continue
            match node.args[0]:
                case ast.Constant(value=str(reason)):
                    yield reason
                case ast.Attribute(attr="reason"):
                    pass
                case other:
                    raise AssertionError(f"line {node.lineno}: the reason is {ast.unparse(other)}")


def said(text: str) -> str:
    """What the verifier says of an example, under the policy and the range of results that its comments name."""
    program = assemble(text)
    type_ = program_types.get(program.type or "")
    options = {name: ast.literal_eval(value) for name, value in _POLICY.findall(text)}
    type_ = replace(type_, policy=replace(type_.policy, **options))
    if found := _RETURNS.search(text):
        type_ = replace(type_, returns=(int(found[1]), int(found[2])))
    with pytest.raises(VerifierError) as error:
        verify(program, type_)
    return str(error.value)


def test_the_page_has_every_reason_and_no_other():
    assert SECTIONS.keys() - {"Unsupported", "Out of budget"} == reasons()


def test_every_hint_is_for_a_reason():
    assert HINTS.keys() <= reasons()


def features() -> set[str]:
    """What the loader and the verifier call the features that they lack."""
    found = set(UNPROVED.values())
    for path in (
        file for room in ("verifier", "elf") for file in sorted((ROOT / "pybpf" / room).rglob("*.py"))
    ):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func).rpartition(".")[2].lower() in _UNSUPPORTED
            ):
                found.update(str(each.value) for each in node.args[1:] if isinstance(each, ast.Constant))
    return {text for text in found if re.fullmatch(r"[a-z-]+", text)}


_UNSUPPORTED = {"unsupportederror", "unsupported", "_unsupported"}


def test_the_page_has_every_missing_feature():
    named = set(re.findall(r"`([a-z-]+)`", SECTIONS["Unsupported"]))
    assert features() - named == set()


def test_every_reason_has_an_example():
    """In assembler, or where no text gets it, as a Python session that the tests of all pages run."""
    without = {reason for reason in reasons() if not _EXAMPLE.search(SECTIONS[reason])}
    assert without == {"conformance-group", "global-function", "invalid-instruction", "too-long"}
    assert all("```python" in SECTIONS[reason] for reason in without)


@pytest.mark.parametrize(("reason", "text", "message"), EXAMPLES, ids=[example[0] for example in EXAMPLES])
def test_an_example_is_rejected_in_the_words_of_the_page(reason: str, text: str, message: str):
    assert doctest.OutputChecker().check_output(message, said(text), doctest.ELLIPSIS)
    assert message.endswith(f"[{reason}]")
