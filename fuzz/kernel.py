"""Linux's own verifier and engine on this machine, through bpf(2): the second opinion. Needs root; attaches nothing.

What is loaded is held by file descriptors alone and is gone when they are closed.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cache
from types import TracebackType
from typing import Any, ClassVar, Final

from pybpf import MapSpec, Program, encode, program_types
from pybpf.helpers import number_of
from pybpf.instruction import Instruction
from pybpf.isa import Kind, op
from pybpf.program import RefKind
from pybpf.program_types import LINUX_MAPS

_SYSCALL: Final = {"x86_64": 321, "aarch64": 280}
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _, _MAP_NEXT_KEY, _PROG_LOAD = range(6)
_PROG_TEST_RUN: Final = 10
_MAP_FREEZE: Final = 22
_HASHES: Final = ("hash", "lru_hash", "percpu_hash", "lru_percpu_hash")
_MOST_ENTRIES: Final = 1024
"""Room for larger hash maps takes Linux longer than judging a program, and no verdict and no run here depends on it."""
_READ_ONLY: Final = 1 << 7
"""BPF_F_RDONLY_PROG"""

PROGRAM_TYPES: Final = {"socket_filter": 1, "tc": 3, "xdp": 6}
"""The program types that are asked about, with Linux's numbers."""
MINIMUM_PACKET: Final = 14
"""Linux tests programs on no packet that is shorter than an Ethernet header."""

_MAP_TYPES: Final = {name: number for number, name in LINUX_MAPS.items()}
_MAP_FD: Final = op(Kind.LOAD_IMM64, "map_fd")
_MAP_VALUE_FD: Final = op(Kind.LOAD_IMM64, "map_value_fd")
_LOG_SIZE: Final = 1 << 22
_PACKET_ROOM: Final = 4096
_STATISTICS: Final = ("processed ", "verification time", "stack depth", "max_states")


class Refused(Exception):
    """Linux's verifier refuses a program. `log` is what it says, `line` the line that says why."""

    def __init__(self, log: str) -> None:
        lines = [line for line in log.splitlines() if line.strip() and not line.startswith(_STATISTICS)]
        self.log = log
        self.line = lines[-1] if lines else "no reason given"
        super().__init__(self.line)


class MapRefused(Exception):
    """Linux does not make a map of this definition: it wants more, or has no such type."""


class _MapAttributes(ctypes.Structure):
    _fields_: ClassVar = [(name, ctypes.c_uint32) for name in ("type", "key", "value", "entries", "flags")]


class _ElementAttributes(ctypes.Structure):
    _fields_: ClassVar = [
        ("map", ctypes.c_uint32),
        ("key", ctypes.c_void_p),
        ("value", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
    ]


class _ProgramAttributes(ctypes.Structure):
    _fields_: ClassVar = [
        ("type", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("instructions", ctypes.c_void_p),
        ("license", ctypes.c_char_p),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log", ctypes.c_void_p),
        ("kernel_version", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    ]


class _RunAttributes(ctypes.Structure):
    _fields_: ClassVar = [
        ("program", ctypes.c_uint32),
        ("result", ctypes.c_uint32),
        ("size_in", ctypes.c_uint32),
        ("size_out", ctypes.c_uint32),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("repeat", ctypes.c_uint32),
        ("duration", ctypes.c_uint32),
        ("rest", ctypes.c_uint64 * 6),
    ]


def available() -> str | None:
    """Why Linux cannot be asked here, None if it can."""
    if platform.system() != "Linux" or platform.machine() not in _SYSCALL:
        return f"bpf(2) is not known on {platform.system()} {platform.machine()}"
    if os.geteuid() != 0:
        return "asking the kernel needs root"
    try:
        os.close(_create_map(MapSpec("probe", "array", 4, 4, 1)))
    except OSError as error:
        return f"the kernel refuses bpf(2): {error.strerror}"
    return None


@cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def _bpf(command: int, attributes: ctypes.Structure) -> int:
    """The system call. Raises OSError."""
    number = _SYSCALL[platform.machine()]
    result = int(_libc().syscall(number, command, ctypes.byref(attributes), ctypes.sizeof(attributes)))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _create_map(spec: MapSpec) -> int:
    entries = min(spec.max_entries, _MOST_ENTRIES) if spec.type in _HASHES else spec.max_entries
    sizes = (spec.key_size, spec.value_size, entries)
    flags = spec.flags | (_READ_ONLY if spec.read_only else 0)
    fd = _bpf(_MAP_CREATE, _MapAttributes(_MAP_TYPES[spec.type], *sizes, flags))
    if spec.initial is not None:
        _update(fd, bytes(spec.key_size), spec.initial)
    if spec.read_only:
        # Only what nobody can write any more is constant to Linux's verifier.
        _bpf(_MAP_FREEZE, _MapAttributes(fd))
    return fd


def _update(fd: int, key: bytes, value: bytes) -> None:
    key_data = ctypes.create_string_buffer(key, len(key))
    value_data = ctypes.create_string_buffer(value, len(value))
    _bpf(_MAP_UPDATE, _ElementAttributes(fd, ctypes.addressof(key_data), ctypes.addressof(value_data)))


class Loaded:
    """A program in the kernel, with its maps: a context manager.

    Entering raises `Refused` where Linux's verifier says no, `MapRefused` for a map, and OSError where something else goes wrong.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._open = ExitStack()
        self._maps: dict[str, int] = {}
        self._fd = -1

    def __enter__(self) -> Loaded:
        with ExitStack() as opened:
            for spec in self.program.maps:
                try:
                    fd = self._maps[spec.name] = _create_map(spec)
                except OSError as error:
                    raise MapRefused(f"map {spec.name!r}: {error.strerror}") from error
                opened.callback(os.close, fd)
            self._fd = _load(self.program, self._maps)
            opened.callback(os.close, self._fd)
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def run(self, packet: bytes, repeat: int = 1) -> tuple[int, bytes]:
        """r0 as 32 bits, and the packet afterwards; `repeat` runs it so many times in one call."""
        data = ctypes.create_string_buffer(packet, len(packet))
        out = ctypes.create_string_buffer(_PACKET_ROOM)
        attributes = _RunAttributes(
            self._fd, 0, len(packet), _PACKET_ROOM, ctypes.addressof(data), ctypes.addressof(out), repeat
        )
        _bpf(_PROG_TEST_RUN, attributes)
        return attributes.result, out.raw[: attributes.size_out]

    def update(self, name: str, key: bytes, value: bytes) -> None:
        """Fill in an entry if there is room for it and the map has such keys."""
        with suppress(OSError):
            _update(self._maps[name], key, value)

    def contents(self, name: str) -> Mapping[bytes, bytes]:
        """What a map holds."""
        spec = next(spec for spec in self.program.maps if spec.name == name)
        found: dict[bytes, bytes] = {}
        key: bytes | None = None
        while True:
            following = ctypes.create_string_buffer(spec.key_size)
            last = None if key is None else ctypes.create_string_buffer(key, spec.key_size)
            attributes = _ElementAttributes(
                self._maps[name],
                None if last is None else ctypes.addressof(last),
                ctypes.addressof(following),
            )
            try:
                _bpf(_MAP_NEXT_KEY, attributes)
            except FileNotFoundError:
                return found
            key = following.raw
            found[key] = self._value(spec, key)

    def _value(self, spec: MapSpec, key: bytes) -> bytes:
        wanted = ctypes.create_string_buffer(key, spec.key_size)
        value = ctypes.create_string_buffer(spec.value_size)
        attributes = _ElementAttributes(
            self._maps[spec.name], ctypes.addressof(wanted), ctypes.addressof(value)
        )
        _bpf(_MAP_LOOKUP, attributes)
        return value.raw


def _load(program: Program, maps: Mapping[str, int]) -> int:
    code = encode(_with_descriptors(program, maps))
    instructions = ctypes.create_string_buffer(code, len(code))
    number = PROGRAM_TYPES[program_types.get(program.type or "").name]
    attributes = _ProgramAttributes(number, len(code) // 8, ctypes.addressof(instructions), b"GPL")
    try:
        return _bpf(_PROG_LOAD, attributes)
    except OSError as error:
        log = ctypes.create_string_buffer(_LOG_SIZE)
        attributes.log_level, attributes.log_size, attributes.log = 1, _LOG_SIZE, ctypes.addressof(log)
        try:
            fd = _bpf(_PROG_LOAD, attributes)
        except OSError:
            if log.value:
                raise Refused(log.value.decode(errors="replace")) from None
            raise error from None
        os.close(fd)
        raise


def _with_descriptors(program: Program, maps: Mapping[str, int]) -> Sequence[Instruction]:
    """The code with file descriptors where it refers to maps, and numbers of helpers that it calls by name."""
    helpers = program_types.get(program.type or "").helpers
    code = []
    for pc, instruction in program.code.items():
        reference = program.references.get(pc)
        if reference is not None and reference.kind is RefKind.MAP:
            instruction = replace(instruction, op=_MAP_FD, src=1, imm=maps[reference.name])
        elif reference is not None and reference.kind is RefKind.VALUE:
            value = maps[reference.name] | reference.offset << 32
            instruction = replace(instruction, op=_MAP_VALUE_FD, src=2, imm=value)
        elif reference is not None and reference.kind is RefKind.HELPER:
            number = number_of(helpers, reference.name)
            instruction = replace(instruction, imm=instruction.imm if number is None else number)
        code.append(instruction)
    return code
