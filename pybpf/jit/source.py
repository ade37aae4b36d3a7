"""A program as a source of code: what it is known by, which is cheap to compute, and its text, which is written when it is needed.

The identity holds everything of a proof that the text depends on, so that code which is on disk is found without the text. What writes the text is
part of the key too (`pybpf.jit.origin`).
"""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple
from functools import cached_property, lru_cache
from typing import Any, Final

from pybpf.helpers import Helper, number_of
from pybpf.isa import Kind
from pybpf.jit.ahead import ahead, rest
from pybpf.jit.calls import native_name
from pybpf.jit.driver import entry_points
from pybpf.jit.lower import Module
from pybpf.jit.options import DEFAULT, Options
from pybpf.program import Program, RefKind
from pybpf.program_types import Context, ProgramType
from pybpf.verifier.facts import Access, VerifiedProgram

_FORMAT: Final = 2
"""The version of marshal's format in which equal values always are equal bytes: it notes neither identity nor interning."""


class ProgramSource:
    """The module of a verified program, compiled with some options: `pybpf.jit.codegen.Source`."""

    def __init__(self, verified: VerifiedProgram, options: Options = DEFAULT) -> None:
        self._verified = verified
        self._options = options

    @cached_property
    def identity(self) -> bytes:
        """Equal only where the text is equal."""
        program, type_, facts = self._verified.program, self._verified.type, self._verified.facts
        proved = (
            _accesses(facts.accesses),
            [(pc, _accesses(arguments)) for pc, arguments in facts.arguments.items()],
            list(facts.maps.items()),
            list(facts.callees.items()),
            sorted(facts.reached),
            (facts.stack_size, facts.zero_stack, sorted(facts.helpers)),
        )
        whole = (astuple(self._options), _code(program), _maps(program), _type(type_), proved)
        helpers = _helpers(program, type_, facts.helpers)
        return marshal.dumps((whole, list(helpers)), _FORMAT)

    def text(self) -> str:
        """The text of the module. Raises `UnsupportedError` for what pybpf has no native code for."""
        return self._text

    @cached_property
    def _text(self) -> str:
        module = Module(self._verified, self._options)
        beside = ahead(module) + rest(module)
        return (
            module.text()
            + beside
            + entry_points(
                module.split, module.conjunction, copies=module.writes_packet, short=not self._options.splits
            )
        )


def _code(program: Program) -> list[Any]:
    code = [
        (pc, i.op.opcode, i.op.code, i.op.width, i.dst, i.src, i.offset, i.imm)
        for pc, i in program.code.items()
    ]
    references = [(pc, r.kind.value, r.name, r.offset) for pc, r in program.references.items()]
    return [code, references, program.byteorder]


def _maps(program: Program) -> list[Any]:
    return [
        (spec.name, spec.type, spec.key_size, spec.value_size, spec.max_entries, spec.read_only)
        for spec in program.maps
    ]


def _type(type_: ProgramType) -> Any:
    entry = [what.value for what in type_.entry]
    context = None if type_.context is None else _layout(type_.context)
    return entry, type_.packet_writable, type_.clock, context


@lru_cache(maxsize=64)
def _layout(context: Context) -> Any:
    return [(f.offset, f.size, f.kind.value, f.writable, f.loads, f.stores, f.front) for f in context.fields]


def _helpers(program: Program, type_: ProgramType, proved: Iterable[int]) -> Iterator[Any]:
    """The helpers that the code may name. Their bodies are in the process, so only what is machine code counts of one."""
    numbers = {i.imm for i in program.code.values() if i.op.kind is Kind.CALL}.union(proved)
    for number in sorted(numbers):
        yield number, _helper(type_.helpers.get(number))
    for reference in program.references.values():
        if reference.kind is RefKind.HELPER:
            named = number_of(type_.helpers, reference.name)
            yield reference.name, named, None if named is None else _helper(type_.helpers[named])


def _helper(helper: Helper | None) -> Any:
    if helper is None:
        return None
    return native_name(helper), helper.body is None, len(helper.args), sorted(helper.effects)


def _accesses(accesses: Mapping[int, tuple[Access, ...]]) -> list[Any]:
    return [
        (key, [(a.region.value, a.low, a.high, a.size, a.map, a.frame) for a in regions])
        for key, regions in accesses.items()
    ]
