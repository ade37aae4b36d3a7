"""Writes the page of the Python API from signatures and docstrings: ``python docs/reference/generate_api.py``."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Final

import pybpf
from pybpf import errors

PAGE: Final = Path(__file__).with_name("api.md")

INTRODUCTION: Final = """\
# Python API

<!-- Written by generate_api.py from pybpf itself: change that. -->

All that `import pybpf` offers; a name is imported when it is first used. What is not on this page may change without notice.
Whatever goes wrong with what a user gives is a `BpfError`. Files that cannot be opened raise `OSError`, as `open` does."""

_Definition = ast.FunctionDef | ast.ClassDef


def page() -> str:
    """The text of the page as the code has it now."""
    public = {name: getattr(pybpf, name) for name in pybpf.__all__}
    groups: dict[str, list[str]] = {"Functions": [], "Classes": [], "Modules": [], "Exceptions": []}
    for name, value in public.items():
        groups[_group(value)].append(name)
    parts = [INTRODUCTION]
    for heading, names in groups.items():
        parts.append(f"## {heading}")
        if heading == "Exceptions":
            parts.append(_markdown(errors.__doc__))
        for name in names:
            parts += [f"### {name}", *_described(public[name])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _group(value: object) -> str:
    if isinstance(value, ModuleType):
        return "Modules"
    if not isinstance(value, type):
        return "Functions"
    return "Exceptions" if issubclass(value, Exception) else "Classes"


def _described(value: object) -> Iterator[str]:
    if isinstance(value, ModuleType):
        yield _markdown(value.__doc__)
        yield "Offers " + ", ".join(f"`{name}`" for name in sorted(value.__all__, key=str.lower)) + "."
        return
    definition = _definition(value)
    if isinstance(definition, ast.FunctionDef):
        yield _code(_signature(definition))
        yield _markdown(ast.get_docstring(definition))
        return
    bases = ", ".join(map(ast.unparse, definition.bases))
    yield _code(f"class {definition.name}" + (f"({bases})" if bases else ""))
    yield _markdown(ast.get_docstring(definition))
    yield "\n".join(_members(definition, enum=isinstance(value, type) and issubclass(value, Enum)))


def _definition(value: object) -> _Definition:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(value))).body  # type: ignore[arg-type]
    assert isinstance(definition, _Definition)
    return definition


def _members(definition: ast.ClassDef, *, enum: bool) -> Iterator[str]:
    """Fields, properties and methods in their order, a line each; what begins with an underscore is nobody's business."""
    following = [*definition.body[1:], None]
    for node, after in zip(definition.body, following, strict=True):
        if isinstance(node, ast.AnnAssign) and not ast.unparse(node.target).startswith("_"):
            said = (
                after.value.value
                if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                else ""
            )
            yield _item(ast.unparse(node), said)
        elif enum and isinstance(node, ast.Assign):
            yield _item(ast.unparse(node), "")
        elif isinstance(node, ast.FunctionDef) and (node.name == "__init__" or node.name[0] != "_"):
            is_property = any(ast.unparse(each) == "property" for each in node.decorator_list)
            returns = ast.unparse(node.returns) if node.returns else "None"
            text = f"{node.name}: {returns}" if is_property else _signature(node)
            yield _item(text, ast.get_docstring(node) or "")


def _item(text: str, said: str) -> str:
    first = re.split(r"\n\s*(?:>>>|\n)", said)[0]
    return f"* `{text}`" + (f": {_inline(first)}" if first else "")


def _signature(definition: ast.FunctionDef) -> str:
    arguments = definition.args
    arguments.args = [argument for argument in arguments.args if argument.arg not in ("self", "cls")]
    returns = f" -> {ast.unparse(definition.returns)}" if definition.returns else ""
    if definition.name == "__init__":
        returns = ""
    return f"{definition.name}({ast.unparse(arguments)}){returns}"


def _code(text: str) -> str:
    return f"```text\n{text}\n```"


def _inline(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _markdown(docstring: str | None) -> str:
    """A docstring as Markdown: double backquotes become single ones, examples and indented parts are fenced."""
    paragraphs = inspect.cleandoc(docstring or "").replace("``", "`").split("\n\n")
    return "\n\n".join(
        _code(text) if text.startswith((">>>", "    ", "===")) else text for text in paragraphs
    )


if __name__ == "__main__":
    PAGE.write_text(page())
