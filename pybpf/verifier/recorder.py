"""Collects what was proved during an exploration into `Facts`: the join over every state at each instruction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pybpf.helpers import Helper
from pybpf.instruction import Instruction
from pybpf.isa import Kind
from pybpf.program import Program
from pybpf.verifier.explain import Refusal
from pybpf.verifier.facts import Access, Facts, RegionKind
from pybpf.verifier.values import Number, Pointer, Value


class Recorder:
    """One exploration's facts. `access` and `argument` are told of every proof, `result` of every number written."""

    def __init__(self) -> None:
        self._accesses: dict[int, dict[tuple[RegionKind, int | None, int], Access]] = {}
        self._arguments: dict[int, dict[int, dict[tuple[RegionKind, int | None, int], Access]]] = {}
        self._maps: dict[int, set[int]] = {}
        self._branches: dict[int, set[bool]] = {}
        self._ranges: dict[int, tuple[int, int] | None] = {}
        self._reached: set[int] = set()
        self._helpers: set[int] = set()
        self._uses: dict[int, set[str]] = {}
        self._null: dict[int, bool] = {}
        self._callees: dict[int, set[int]] = {}
        self._lowest: dict[int, int] = {}
        self._chains: set[tuple[int, ...]] = set()
        self.zero_stack = False
        self.functions: tuple[int, ...] = (0,)
        """The functions whose frames there are just now, the entry's first."""

    def enter(self, functions: tuple[int, ...]) -> None:
        """What follows happens in these frames."""
        self.functions = functions
        self._chains.add(functions)

    @property
    def stack_size(self) -> int:
        """The most stack that a chain of calls takes; a frame counts in steps of 16 bytes (Linux, round_up_stack_depth)."""
        return max(
            sum(max(-(self._lowest.get(function, 0) // 16) * 16, 16) for function in chain)
            for chain in self._chains
        )

    def access(self, pc: int, access: Access) -> None:
        """An access at `pc` was proved. An instruction that accesses the context accesses nothing else (as in Linux, where such
        an instruction is rewritten), so that engines need no choice at run time between a field and memory.
        """
        known = self._accesses.setdefault(pc, {})
        self._join(known, access)
        if len(known) > 1 and any(key[0] is RegionKind.CONTEXT for key in known):
            raise Refusal(
                "mixed-access", "one instruction accesses the context on one path and other memory on another"
            )

    def argument(self, pc: int, register: int, access: Access, how: Iterable[str]) -> None:
        """A pointer argument of the helper call at `pc` was proved; `how` says whether it reads and writes there."""
        if access.map is not None:
            self._uses.setdefault(access.map, set()).update(how)
        self._join(self._arguments.setdefault(pc, {}).setdefault(register, {}), access)

    def _join(self, known: dict[tuple[RegionKind, int | None, int], Access], new: Access) -> None:
        if new.region is RegionKind.STACK:
            function = self.functions[new.frame]
            self._lowest[function] = min(self._lowest.get(function, 0), new.low)
        key = (new.region, new.map, new.frame)
        old = known.get(key)
        if old is not None:
            new = Access(
                new.region,
                min(old.low, new.low),
                max(old.high, new.high),
                max(old.size, new.size),
                new.map,
                new.frame,
            )
        known[key] = new

    def called(
        self, pc: int, number: int, helper: Helper, map_number: int | None, given: Value | None
    ) -> None:
        """A helper was called, with a map or without, and gave something."""
        self._helpers.add(number)
        if map_number is not None:
            self._maps.setdefault(pc, set()).add(map_number)
            how = helper.name.removeprefix("map_").removesuffix("_elem")
            self._uses.setdefault(map_number, set()).add(how)
        if isinstance(given, Pointer):
            self._null[pc] = self._null.get(pc, False) or given.null is not None

    def called_through_register(self, pc: int, value: int) -> None:
        """A call through a register was one of this value."""
        self._callees.setdefault(pc, set()).add(value)

    def branch(self, pc: int, taken: bool) -> None:
        """A branch can go this way."""
        self._branches.setdefault(pc, set()).add(taken)

    def reached(self, pcs: tuple[int, ...]) -> None:
        """Every one of these instructions can be reached."""
        self._reached.update(pcs)

    def result(self, pc: int, value: Value) -> None:
        """An instruction wrote this to its destination."""
        if not isinstance(value, Number):
            self._ranges[pc] = None
            return
        wide = value.scalar.wide
        if pc not in self._ranges:
            self._ranges[pc] = (wide.umin, wide.umax)
            return
        old = self._ranges[pc]
        if old is not None:
            self._ranges[pc] = (min(old[0], wide.umin), max(old[1], wide.umax))

    def facts(self, program: Program, *, max_instructions: int | None, explored: int) -> Facts:
        """All of it as plain data, in the order of the program."""
        ranges = {
            pc: r for pc, r in sorted(self._ranges.items()) if r is not None and r != (0, (1 << 64) - 1)
        }
        return Facts(
            accesses={pc: _sorted(regions) for pc, regions in sorted(self._accesses.items())},
            arguments={
                pc: {register: _sorted(regions) for register, regions in sorted(by_register.items())}
                for pc, by_register in sorted(self._arguments.items())
            },
            maps={pc: next(iter(numbers)) for pc, numbers in sorted(self._maps.items()) if len(numbers) == 1},
            branches={pc: next(iter(ways)) for pc, ways in sorted(self._branches.items()) if len(ways) == 1},
            ranges={pc: r for pc, r in ranges.items() if r[0] != r[1]},
            constants={pc: r[0] for pc, r in ranges.items() if r[0] == r[1]},
            reached=frozenset(self._reached),
            max_instructions=max_instructions,
            stack_size=self.stack_size,
            zero_stack=self.zero_stack,
            helpers=frozenset(self._helpers),
            uses=self._all_uses(program),
            null=dict(sorted(self._null.items())),
            callees={pc: tuple(sorted(values)) for pc, values in sorted(self._callees.items())},
            explored=explored,
        )

    def _all_uses(self, program: Program) -> dict[int, frozenset[str]]:
        """How each map is used, by what instructions do to its values too."""
        uses = {number: set(how) for number, how in self._uses.items()}
        for pc, regions in self._accesses.items():
            for access in regions.values():
                if access.map is not None:
                    uses.setdefault(access.map, set()).update(_how(program.code[pc]))
        return {number: frozenset(how) for number, how in sorted(uses.items())}


def _how(instruction: Instruction) -> tuple[str, ...]:
    """What an instruction does to the memory that it accesses."""
    op = instruction.op
    if op.kind is Kind.LOAD or op.code == "load_acquire":
        return ("read",)
    if op.kind is Kind.STORE or op.code == "store_release":
        return ("write",)
    return ("read", "write")


def _sorted(regions: Mapping[tuple[RegionKind, int | None, int], Access]) -> tuple[Access, ...]:
    return tuple(sorted(regions.values(), key=lambda a: (a.region.value, a.map or 0, a.frame)))
