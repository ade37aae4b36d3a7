"""Helper calls: the map operations, the clock and the hash as machine code, everything else by way of Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pybpf import helpers
from pybpf.helpers import Body, Helper
from pybpf.jit import clock_ir, hash_ir, map_ir, time_ir
from pybpf.jit.access import Regions
from pybpf.jit.builder import Builder, Value, text
from pybpf.jit.state import HELPER, SITE, TrapCode, site
from pybpf.lookup3 import hashlittle
from pybpf.memory import map_address
from pybpf.program import MapSpec
from pybpf.program_types import ProgramType
from pybpf.verifier.facts import Access, Facts


@dataclass(frozen=True, slots=True)
class Call:
    """A call at `pc` of the helper that has a `number` in the program type's table, with r1 to r5.

    Functions that the code needs are put into `support`, name to text, once for the whole module. Operations on the map number
    `hinted` are given ``%hint``.
    """

    pc: int
    number: int
    arguments: Sequence[Value]
    regions: Regions
    type: ProgramType
    facts: Facts
    support: dict[str, str]
    hinted: int | None = None

    def write(self) -> Value:
        """Append the call; the result is r0."""
        return NATIVE.get(self.type.helpers[self.number].body, _python)(self)

    @property
    def b(self) -> Builder:
        """Where the text goes."""
        return self.regions.b

    def pointer(self, register: int, size: Value) -> str:
        """A checked pointer to the bytes that a register points to, for reading."""
        accesses: Sequence[Access] = self.facts.arguments.get(self.pc, {}).get(register, ())
        address = self.arguments[register - 1]
        return str(self.regions.each(self.pc, accesses, address, size, lambda place, at: at, pointer=True))

    def for_map(self, operate: Callable[[int, MapSpec], Value]) -> Value:
        """Operate on the map that r1 is, by its number: the one that was proved, or whichever it turns out to be."""
        maps, proved, r1 = self.regions.maps, self.facts.maps.get(self.pc), self.arguments[0]
        if proved is not None:
            self.b.guard(self.b.compare("eq", r1, map_address(proved)), TrapCode.MAP, self.pc, r1)
            return operate(proved, maps[proved][0])

        def case(number: int) -> Callable[[], Value]:
            return lambda: operate(number, maps[number][0])

        cases = {map_address(number): case(number) for number in range(len(maps))}
        return self.b.switch(text(r1), cases, TrapCode.MAP, self.pc, r1)

    def operation(self, name: str, number: int, spec: MapSpec, arguments: str) -> str:
        """Call an operation of a map."""
        self.support.setdefault(f"map{number}", map_ir.operations(number, spec))
        if number == self.hinted:
            name, arguments = f"{name}_hinted", f"{arguments}, ptr %hint"
        return self.b.value(
            f"call i64 @map_{name}_{number}(ptr {self.regions.map_block(number)}, {arguments})"
        )

    @property
    def site(self) -> int:
        """What stands in the state if a function of the host's fails here."""
        return site(TrapCode.PYTHON, self.pc)

    def halt_if_stopped(self) -> None:
        """End the run if a function of the host's has failed."""
        found = self.b.value(f"load i64, ptr {self.b.pointer('%state', SITE)}")
        self.b.halt_if(self.b.value(f"icmp ne i64 {found}, 0"))


def _map_lookup(call: Call) -> Value:
    def lookup(number: int, spec: MapSpec) -> Value:
        b, layout = call.b, call.regions.maps[number][1]
        offset = call.operation("lookup", number, spec, f"ptr {call.pointer(2, spec.key_size)}")
        # Present means within the values, not merely not 0: with that test behind it LLVM sees that accesses to the value
        # are inside the map and deletes their checks.
        within = b.add(offset, -layout.values)
        present = b.compare("ule", within, (layout.places - 1) * layout.stride)
        address = b.value(f"add nuw nsw i64 {offset}, {map_address(number)}")
        return b.value(f"select i1 {present}, i64 {address}, i64 0")

    return call.for_map(lookup)


def _map_update(call: Call, flags: Value | None = None) -> Value:
    chosen = call.arguments[3] if flags is None else flags

    def update(number: int, spec: MapSpec) -> Value:
        key, value = call.pointer(2, spec.key_size), call.pointer(3, spec.value_size)
        return call.operation("update", number, spec, f"ptr {key}, ptr {value}, i64 {text(chosen)}")

    return call.for_map(update)


def _map_update_any(call: Call) -> Value:
    return _map_update(call, flags=0)


def _map_delete(call: Call) -> Value:
    def delete(number: int, spec: MapSpec) -> Value:
        return call.operation("delete", number, spec, f"ptr {call.pointer(2, spec.key_size)}")

    return call.for_map(delete)


def _now(call: Call) -> Value:
    call.support.setdefault("clock_gettime", time_ir.CLOCK)
    call.support.setdefault("clock", clock_ir.now(call.type.now))
    time = call.b.value(f"call i64 @now(ptr %state, i64 {call.site})")
    call.halt_if_stopped()
    return time


def _hash(call: Call) -> Value:
    b, size = call.b, call.arguments[1]
    if isinstance(size, int):
        if size == 0:
            return hashlittle(b"")
        call.support.setdefault(f"hash{size}", hash_ir.hashlittle_constant(size))
        return b.widen(b.value(f"call i32 @hashlittle_{size}(ptr {call.pointer(1, size)})"))
    call.support.setdefault("hash", hash_ir.hashlittle())
    # No byte may be read from anywhere, null included.
    some, join = b.name(), b.name()
    none = b.label
    b.do(f"br i1 {b.value(f'icmp eq i64 {size}, 0')}, label %{join}, label %{some}")
    b.block(some)
    hash = b.value(f"call i32 @hashlittle(ptr {call.pointer(1, size)}, i64 {size}, i32 0)")
    last = b.label
    b.do(f"br label %{join}")
    b.block(join)
    return b.widen(b.value(f"phi i32 [ {text(hashlittle(b''), 32)}, %{none} ], [ {hash}, %{last} ]"))


def _python(call: Call) -> Value:
    """A helper that has only a body in Python."""
    stack = call.regions.stack
    arguments = ", ".join(f"i64 {text(value)}" for value in call.arguments)
    result = call.b.value(
        f"call i64 {call.b.state_pointer('%helper', HELPER)}(ptr %state, i64 {call.site}, i64 {call.number}, "
        f"ptr %stack, i64 {stack.start}, ptr %packet, i64 %length, {arguments})"
    )
    call.halt_if_stopped()
    return result


NATIVE: Final[Mapping[Body | None, Callable[[Call], Value]]] = {
    helpers.MAP_LOOKUP.body: _map_lookup,
    helpers.MAP_UPDATE.body: _map_update,
    helpers.UBPF_UPDATE.body: _map_update_any,
    helpers.MAP_DELETE.body: _map_delete,
    helpers.KTIME.body: _now,
    helpers.UBPF_HASH.body: _hash,
}
"""What each Python body of a helper is in machine code."""


def native_name(helper: Helper) -> str:
    """What a helper is in machine code, "" where it is left to Python."""
    native = NATIVE.get(helper.body)
    return native.__name__ if native is not None else ""
