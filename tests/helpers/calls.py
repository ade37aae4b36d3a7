"""Calls of helpers as programs: with every argument as its contract asks, or with one of them wrong in some way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pybpf import MapSpec, Program
from pybpf.helpers import MEMORY, UNPROVED, Arg, Helper, Ret
from pybpf.map_types import TYPES as MAP_TYPES
from pybpf.program_types import FieldKind, ProgramType

TEXT = MapSpec(
    "text", "array", 4, 16, 1, flags=1 << 7, initial=b"%d of them\0".ljust(16, b"\0"), read_only=True
)
RECORDS = MapSpec("records", "ringbuf", 0, 0, 4096)

_SIZES = {
    "stack_trace": (4, 128, 4),
    "lpm_trie": (8, 8, 4),
    "cgroup_storage": (8, 8, 0),
    "percpu_cgroup_storage": (8, 8, 0),
    "queue": (0, 8, 4),
    "stack": (0, 8, 4),
    "bloom_filter": (0, 8, 4),
    "ringbuf": (0, 0, 4096),
    "user_ringbuf": (0, 0, 4096),
    **dict.fromkeys(
        ("array", "hash", "percpu_array", "percpu_hash", "lru_hash", "lru_percpu_hash"), (4, 8, 4)
    ),
    **dict.fromkeys(("sk_storage", "inode_storage", "task_storage", "cgrp_storage"), (4, 4, 0)),
}


def map_of(type_: str) -> MapSpec:
    """A map of a type, called ``m``."""
    inner = MapSpec("inner", "array", 4, 8, 4) if MAP_TYPES[type_].gives == "map" else None
    return MapSpec("m", type_, *_SIZES.get(type_, (4, 4, 4)), inner=inner)


_SOCKETS = (FieldKind.SOCK, FieldKind.SOCK_OR_NULL, FieldKind.SOCK_COMMON_OR_NULL)
_OF_SOCKETS = {Arg.SOCKET, Arg.SOCKET_OR_NULL, Arg.RELEASED_SOCKET}


def cannot_be_set_up(helper: Helper, type_: ProgramType) -> str | None:
    """Why no program here can call the helper as it should be called, None if one can."""
    unproved = [argument.value for argument in helper.args if argument in UNPROVED]
    if unproved:
        return f"{', '.join(unproved)}: not proved"
    if _OF_SOCKETS & set(helper.args) and not sees_sockets(type_):
        return "no socket in the context"
    if (
        helper.args
        and helper.args[0] is Arg.RELEASED_SOCKET
        and not any(
            other.acquires and other.returns is Ret.SOCKET_OR_NULL for other in type_.helpers.values()
        )
    ):
        return "nothing to release"
    return None


def sees_sockets(type_: ProgramType) -> bool:
    """Whether the context has a socket."""
    return _socket(type_) is not None


def _socket(type_: ProgramType) -> str | None:
    assert type_.context is not None
    for field in type_.context.fields:
        if field.kind in _SOCKETS:
            return f"r7 = *(u64 *)(r6 + {field.offset})"
    return None


@dataclass(frozen=True)
class Call:
    """A call of a helper from a type, on a map of a type."""

    helper: Helper
    type: ProgramType
    map_type: str = "hash"

    @property
    def maps(self) -> dict[str, MapSpec]:
        """What the text names."""
        return {"m": map_of(self.map_type), "text": TEXT, "records": RECORDS}

    def program(self, wrong: dict[int, str] | None = None, after: str = "", packet: bool = False) -> Program:
        """The call. `wrong` are texts in place of some arguments, `after` is what follows; `packet`: r8 points to 64 bytes."""
        lines = ["r6 = r1", *(f"*(u64 *)(r10 - {offset}) = 0" for offset in range(8, 144, 8)), *self._setup()]
        if packet:
            lines += self._packet()
        for register, argument in enumerate(self.helper.args, start=1):
            lines.append((wrong or {}).get(register, self.good(register, argument)))
        lines += [f"call {self.helper.name}", *self._release(), after]
        lines += ["out:", f"r0 = {self.type.returns[0] if self.type.returns else 0}", "exit"]
        return Program.from_asm("\n".join(lines), self.type, self.maps, name=self.helper.name)

    @property
    def needs_socket(self) -> bool:
        """Whether an argument is a socket: the value of a map that holds them is one."""
        values = [argument for argument in self.helper.args if argument in (Arg.VALUE, Arg.NEW_VALUE)]
        return bool(
            _OF_SOCKETS & set(self.helper.args) or (values and MAP_TYPES[self.map_type].gives == "sock")
        )

    def _setup(self) -> Iterator[str]:
        if Arg.RELEASED_SOCKET in self.helper.args:
            acquires = "sk_lookup_tcp" if self._may("sk_lookup_tcp") else "skc_lookup_tcp"
            yield f"r1 = r6\n r2 = r10\n r2 += -64\n r3 = 12\n r4 = 0\n r5 = 0\n call {acquires}\n if r0 == 0 goto out\n r7 = r0"
        elif self.needs_socket:
            yield f"{_socket(self.type)}\n if r7 == 0 goto out"
        if Arg.RELEASED_RECORD in self.helper.args:
            yield "r1 = records ll\n r2 = 16\n r3 = 0\n call ringbuf_reserve\n if r0 == 0 goto out\n r7 = r0"

    def _may(self, name: str) -> bool:
        return any(helper.name == name for helper in self.type.helpers.values())

    def _packet(self) -> Iterator[str]:
        assert self.type.context is not None
        fields = {field.kind: field for field in self.type.context.fields}
        data, end = fields[FieldKind.PACKET], fields[FieldKind.PACKET_END]
        for register, field in (("r8", data), ("r9", end)):
            yield f"{register} = *(u{8 * field.size} *)(r6 + {field.offset})"
        yield "r0 = r8\n r0 += 64\n if r0 > r9 goto out"

    def _release(self) -> Iterator[str]:
        if self.helper.acquires or MAP_TYPES[self.map_type].gives == "sock":
            if self.helper.returns is Ret.RECORD_OR_NULL:
                yield "if r0 == 0 goto out\n r1 = r0\n r2 = 0\n call ringbuf_discard"
            elif self.helper.returns is not Ret.NUM and self._may("sk_release"):
                yield "if r0 == 0 goto out\n r1 = r0\n call sk_release"

    def good(self, register: int, argument: Arg) -> str:
        """The text that puts what the contract asks for into a register."""
        r = f"r{register}"
        memory = MEMORY.get(argument)
        if memory is not None:
            if memory.size == "value" and MAP_TYPES[self.map_type].gives == "sock":
                return f"{r} = r7"
            return f"{r} = r10\n {r} += {-136 if memory.size == 'value' else -8 if memory.size == 'key' else -64}"
        match argument:
            case Arg.CTX | Arg.CTX_OR_NULL:
                return f"{r} = r6"
            case Arg.MAP:
                return f"{r} = m ll"
            case Arg.SIZE | Arg.SIZE_OR_ZERO:
                # What snprintf_btf takes is one struct of 24 bytes, and nothing else.
                return f"{r} = 16"
            case Arg.CONSTANT:
                return f"{r} = 16"
            case Arg.TEXT:
                return f"{r} = text + 0 ll"
            case Arg.SOCKET | Arg.SOCKET_OR_NULL | Arg.RELEASED_SOCKET | Arg.RELEASED_RECORD:
                return f"{r} = r7"
            case Arg.ANY | Arg.ZERO:
                return f"{r} = 0"
        raise AssertionError(argument)

    def wrong(self) -> Iterator[tuple[str, dict[int, str]]]:
        """Arguments that may be wrong, one at a time, with what they are: for some contracts some of them are right."""
        for register, argument in enumerate(self.helper.args, start=1):
            r = f"r{register}"
            yield f"{r} a number", {register: f"{r} = 7"}
            yield f"{r} zero", {register: f"{r} = 0"}
            yield f"{r} a large number", {register: f"{r} = -1 ll"}
            yield f"{r} the context", {register: f"{r} = r6"}
            yield f"{r} the moved context", {register: f"{r} = r6\n {r} += 4"}
            yield f"{r} the stack", {register: f"{r} = r10\n {r} += -136"}
            yield f"{r} above the stack", {register: f"{r} = r10\n {r} += -2"}
            yield f"{r} not on a boundary of the stack", {register: f"{r} = r10\n {r} += -61"}
            yield f"{r} read-only", {register: f"{r} = text + 0 ll"}
            yield f"{r} behind a map's value", {register: f"{r} = text + 15 ll"}
            yield f"{r} a map", {register: f"{r} = m ll"}
            if argument in (Arg.SIZE, Arg.SIZE_OR_ZERO):
                yield f"{r} beyond the memory", {register: f"{r} = 65"}
                yield f"{r} zero of null", {register: f"{r} = 0", register - 1: f"r{register - 1} = 0"}
                unknown = f"{r} = *(u32 *)(r10 - 64)\n call get_prandom_u32"
                yield f"{r} clobbered", {register: unknown}
