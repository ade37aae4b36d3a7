"""What can be broken: every mutant of a module's functions, found in its syntax tree, and the code object of each.

A mutant changes one place: a comparison takes or leaves its end, a number is one off, an operator becomes its neighbour, a
condition is always or never true, one of several conditions is dropped, the least becomes the greatest, a statement that is
there for what it does (a call, a raise, an update) is left out. Messages and conditions that only choose their words, assertions, annotations
and default values are left alone, as are tables at module level: those are data and have tests of their own.
"""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Final

_COMPARISONS: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_OPERATORS: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr,
}  # fmt: skip
_NAMES: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
_ATTRIBUTES: Final = {
    "umin": "umax", "umax": "umin", "smin": "smax", "smax": "smin", "low": "high", "high": "low",
}  # fmt: skip
_EFFECTS: Final = (ast.AugAssign, ast.Delete, ast.Raise, ast.Continue, ast.Break)
_UNTOUCHED: Final = (ast.Assert, ast.JoinedStr, ast.Import, ast.ImportFrom)
_MESSAGES: Final = frozenset({"Refusal", "describe", "repr"})
"""Calls whose arguments are text for people."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change. `key` names it by what it changes, so that it keeps its name when code around it moves."""

    path: Path
    text: str = field(repr=False)
    """The module's source."""
    function: str
    """The outermost function around it, by its qualified name."""
    key: str
    lines: frozenset[int]
    """The lines of the changed place."""
    digest: str
    """Of the function's source: results are for this one."""
    place: int
    variant: int

    def code(self) -> CodeType:
        """The function's code with the change."""
        tree = ast.parse(self.text)
        site = list(_sites(tree))[self.place]
        site.put(list(_variants(site.node))[self.variant][1])
        found = _find(
            compile(ast.fix_missing_locations(tree), str(self.path), "exec", dont_inherit=True), self.function
        )
        assert found is not None, self.key
        return found


def _find(code: CodeType, name: str) -> CodeType | None:
    if code.co_qualname == name:
        return code
    for constant in code.co_consts:
        if isinstance(constant, CodeType) and (found := _find(constant, name)) is not None:
            return found
    return None


@dataclass(frozen=True, slots=True)
class _Site:
    """A node and where it hangs."""

    node: ast.AST
    parent: ast.AST
    field: str
    position: int | None
    function: str
    around: ast.FunctionDef

    def put(self, node: ast.AST) -> None:
        if self.position is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.position] = node


def mutants(path: Path) -> list[Mutant]:
    """Every mutant of a module, in the order of the text."""
    text = path.read_text()
    tree = ast.parse(text)
    seen: Counter[str] = Counter()
    found = []
    lines = text.splitlines()

    @cache
    def digest(function: ast.FunctionDef) -> str:
        source = "\n".join(lines[function.lineno - 1 : function.end_lineno])
        return hashlib.sha256(source.encode()).hexdigest()[:16]

    for place, site in enumerate(_sites(tree)):
        for variant, (change, _) in enumerate(_variants(site.node)):
            key = f"{path.stem}.{site.function}: {change}"
            seen[key] += 1
            if seen[key] > 1:
                key += f" ({seen[key]})"
            found.append(
                Mutant(path, text, site.function, key, _lines(site.node), digest(site.around), place, variant)
            )
    return found


def _lines(node: ast.AST) -> frozenset[int]:
    """The lines whose execution means that a node is: of a compound statement only its head."""
    if isinstance(node, ast.match_case):
        node = node.pattern
    if isinstance(node, ast.comprehension):
        node = node.iter
    if isinstance(node, ast.If | ast.While):
        node = node.test
    assert isinstance(node, ast.expr | ast.stmt | ast.pattern)
    return frozenset(range(node.lineno, (node.end_lineno or node.lineno) + 1))


def _sites(tree: ast.Module) -> Iterator[_Site]:
    """Every node inside a function that may be changed, in a fixed order."""
    for name, function in _functions(tree, ""):
        for position, statement in enumerate(function.body):
            yield from _inside(statement, function, "body", position, name, function)


def _functions(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for child in node.body:
        if isinstance(child, ast.FunctionDef):
            yield prefix + child.name, child
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")


def _inside(
    node: ast.AST, parent: ast.AST, field: str, position: int | None, name: str, around: ast.FunctionDef
) -> Iterator[_Site]:
    if isinstance(node, _UNTOUCHED) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        return
    if _chooses_words(node):
        return
    yield _Site(node, parent, field, position, name, around)
    if isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and _name(node.func) in _MESSAGES):
        return
    for below, value in ast.iter_fields(node):
        if below in ("annotation", "returns", "decorator_list", "args") and not isinstance(node, ast.Call):
            continue
        if isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, ast.AST):
                    yield from _inside(item, node, below, index, name, around)
        elif isinstance(value, ast.AST):
            yield from _inside(value, node, below, None, name, around)


def _chooses_words(node: ast.AST) -> bool:
    """Whether a statement or expression is there for a message alone: its values are texts with spaces in them."""
    match node:
        case ast.If():
            return all(map(_chooses_words, (*node.body, *node.orelse)))
        case ast.Assign(targets=[ast.Name()], value=value) | ast.AugAssign(target=ast.Name(), value=value):
            return _chooses_words(value)
        case ast.IfExp():
            return _chooses_words(node.body) or _chooses_words(node.orelse)
        case ast.JoinedStr():
            return any(map(_chooses_words, node.values))
        case ast.Constant(value=str(text)):
            return " " in text
    return False


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _variants(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Each way to break a node: in words, and what takes its place."""
    match node:
        case ast.If() | ast.IfExp() | ast.While():
            for value in (True, False) if not isinstance(node, ast.While) else (False,):
                yield f"if {_text(node.test)} -> if {value}", _with(node, test=ast.Constant(value))
        case ast.match_case(guard=None) if not _is_wildcard(node.pattern):
            yield f"drop case {_text(node.pattern)}", _with(node, guard=ast.Constant(False))
        case ast.comprehension(ifs=[_, *_]):
            for index, condition in enumerate(node.ifs):
                rest = [other for other in node.ifs if other is not condition]
                yield f"drop if {_text(node.ifs[index])}", _with(node, ifs=rest)
        case ast.Compare(ops=[op, *_]):
            for index, op in enumerate(node.ops):
                ops = list(node.ops)
                ops[index] = _COMPARISONS[type(op)]()
                yield _replaced(node, _with(node, ops=ops))
        case ast.BoolOp():
            for value_ in node.values:
                rest_ = [other for other in node.values if other is not value_]
                which = "and" if isinstance(node.op, ast.And) else "or"
                yield (
                    f"drop {_text(value_)} of {which}",
                    rest_[0] if len(rest_) == 1 else _with(node, values=rest_),
                )
        case ast.BinOp() if type(node.op) in _OPERATORS and not _is_text(node.left):
            yield _replaced(node, _with(node, op=_OPERATORS[type(node.op)]()))
        case ast.UnaryOp(op=ast.Not() | ast.Invert() | ast.USub()):
            yield _replaced(node, node.operand)
        case ast.Constant(value=bool(value)):
            yield _replaced(node, ast.Constant(not value))
        case ast.Constant(value=int(number)):
            for other in (number + 1, number - 1) if number > 0 else (number + 1,):
                yield _replaced(node, ast.Constant(other))
        case ast.Call(func=ast.Name(id=name)) if name in _NAMES:
            yield _replaced(node, _with(node, func=ast.Name(_NAMES[name], ast.Load())))
        case ast.Attribute(attr=name, ctx=ast.Load()) if name in _ATTRIBUTES:
            yield _replaced(node, _with(node, attr=_ATTRIBUTES[name]))
        case (
            ast.Expr(value=ast.Call() | ast.Await()) | ast.Assign(targets=[ast.Subscript() | ast.Attribute()])
        ):
            yield f"drop {_text(node)}", ast.Pass()
        case _ if isinstance(node, _EFFECTS):
            yield f"drop {_text(node)}", ast.Pass()


def _is_wildcard(pattern: ast.pattern) -> bool:
    return isinstance(pattern, ast.MatchAs) and pattern.pattern is None


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _with(node: ast.AST, **fields: object) -> ast.AST:
    """A shallow copy of a node with other fields."""
    copy = type(node)(**{**dict(ast.iter_fields(node)), **fields})
    return ast.copy_location(copy, node) if hasattr(node, "lineno") else copy


def _replaced(old: ast.AST, new: ast.AST) -> tuple[str, ast.AST]:
    return f"{_text(old)} -> {_text(new)}", ast.copy_location(new, old)


def _text(node: ast.AST) -> str:
    text = ast.unparse(node).split("\n")[0]
    return text if len(text) <= 90 else text[:87] + "..."
