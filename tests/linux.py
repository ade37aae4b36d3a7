"""Linux's own verifier on this machine, through bpf(2), as the second opinion on the tables. Attaches nothing, keeps nothing open."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import struct
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import cache
from typing import Any, Final

import pytest

from pybpf import MapSpec, Program, encode
from pybpf.isa import Kind
from pybpf.program import Parameter, Prototype, RefKind
from pybpf.program_types import LINUX_MAPS, ProgramType, get

VERSION: Final = "6.18"
"""The version that the tables are of."""

_SYSCALL: Final = {"x86_64": 321, "aarch64": 280}
_MAP_CREATE, _MAP_UPDATE, _PROG_LOAD, _BTF_LOAD, _MAP_FREEZE = 0, 2, 5, 18, 22
_LOG, _STATISTICS = 1, 4
_SLEEPABLE: Final = 1 << 4
_NO_PREALLOC: Final = 1
_READ_ONLY: Final = 1 << 7
_STORAGE: Final = ("sk_storage", "inode_storage", "task_storage", "cgrp_storage")
_MAP_NUMBERS: Final = {name: number for number, name in LINUX_MAPS.items()}

NUMBERS: Final = {
    name: number
    for number, name in enumerate(
        "unspec socket_filter kprobe tc sched_act tracepoint xdp perf_event cgroup_skb cgroup_sock lwt_in lwt_out lwt_xmit "
        "sock_ops sk_skb cgroup_device sk_msg raw_tracepoint cgroup_sock_addr lwt_seg6local lirc_mode2 sk_reuseport "
        "flow_dissector cgroup_sysctl raw_tracepoint_writable cgroup_sockopt tracing struct_ops ext lsm sk_lookup syscall "
        "netfilter".split()
    )
}
"""enum bpf_prog_type."""

NOT_LOADED: Final = ("tracing", "struct_ops", "ext", "lsm", "lirc_mode2")
"""Types that Linux loads only with a kernel function to hook, or a device's driver."""

ATTACHED: Final = {
    "cgroup_skb/egress": 1, "cgroup/sock_create": 2, "cgroup/bind4": 8, "cgroup/bind6": 9, "cgroup/connect4": 10,
    "cgroup/connect6": 11, "cgroup/post_bind4": 12, "cgroup/post_bind6": 13, "cgroup/sendmsg4": 14,
    "cgroup/sendmsg6": 15, "cgroup/recvmsg4": 19, "cgroup/recvmsg6": 20, "cgroup/getsockopt": 21,
    "cgroup/setsockopt": 22, "cgroup/getpeername4": 29, "cgroup/getpeername6": 30, "cgroup/getsockname4": 31,
    "cgroup/getsockname6": 32, "xdp/devmap": 33, "cgroup/sock_release": 34, "sk_lookup": 36, "netfilter": 45,
    "cgroup/connect_unix": 49, "cgroup/sendmsg_unix": 50, "cgroup/recvmsg_unix": 51, "cgroup/getpeername_unix": 52,
    "cgroup/getsockname_unix": 53, "kprobe.session": 56,
}  # fmt: skip
"""enum bpf_attach_type, by the section that stands for it."""

_DEFAULT: Final = {
    "cgroup_sock_addr": "cgroup/connect4",
    "cgroup_sock": "cgroup/sock_create",
    "cgroup_sockopt": "cgroup/getsockopt",
    "sk_lookup": "sk_lookup",
    "netfilter": "netfilter",
}
"""Where Linux asks for an attach type, the one that is taken."""


@cache
def unavailable() -> str | None:
    """Why Linux cannot be asked here, None if it can."""
    if platform.system() != "Linux" or platform.machine() not in _SYSCALL:
        return f"bpf(2) is not known on {platform.system()} {platform.machine()}"
    if not platform.release().startswith(f"{VERSION}."):
        return f"the tables are of Linux {VERSION}, this is {platform.release()}"
    if os.geteuid() != 0:
        return "asking the kernel needs root"
    try:
        os.close(_bpf(_MAP_CREATE, struct.pack("<5I", 2, 4, 4, 1, 0)))
    except OSError as error:
        return f"the kernel refuses bpf(2): {error.strerror}"
    return None


def asks(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that asks Linux."""
    return pytest.mark.kernel(pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))(test))


@cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes.ljust(152, b"\0"), 152)
    result = int(_libc().syscall(_SYSCALL[platform.machine()], command, buffer, 152))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def types() -> list[tuple[str, ProgramType]]:
    """The types that can be loaded, and those that differ where they are attached, each with its section."""
    names = [name for name in NUMBERS if name != "unspec" and name not in NOT_LOADED]
    found = [(_DEFAULT.get(name, ""), get(name).at(_DEFAULT.get(name, ""))) for name in names]
    for name in names:
        found += [(section, get(name).at(section)) for section in get(name).attached if section in ATTACHED]
    return list({(section, type_.name): (section, type_) for section, type_ in found}.values())


def refusal(program: Program, section: str = "", license: str = "GPL") -> str | None:
    """The line that says why Linux's verifier refuses a program, None where it accepts it."""
    reason, _ = _asked(program, section, license)
    return reason


def seconds(program: Program, section: str = "", license: str = "GPL") -> float | None:
    """How long Linux's verifier takes for a program, as it says itself; None where it does not accept it."""
    reason, log = _asked(program, section, license)
    found = re.search(r"verification time (\d+) usec", log)
    return int(found[1]) / 1e6 if reason is None and found is not None else None


def _asked(program: Program, section: str, license: str) -> tuple[str | None, str]:
    """Why Linux's verifier refuses a program, None where it accepts it; and what it says of it."""
    assert isinstance(program.type, ProgramType)
    name = program.type.name
    attach = ATTACHED.get(section or _DEFAULT.get(name, ""), 0)
    with ExitStack() as opened:
        fds: dict[str, int] = {}
        for spec in program.maps:
            fds[spec.name] = _create(spec, opened)
        flags = _SLEEPABLE if name == "syscall" else 0
        described = _functions(program, opened)
        return _load(_code(program, fds), NUMBERS[name], attach, flags, license, described)


def _code(program: Program, fds: dict[str, int]) -> bytes:
    """The bytes of a program, maps as file descriptors."""
    code = bytearray(encode(program.code))
    for pc, reference in program.references.items():
        if reference.kind in (RefKind.MAP, RefKind.VALUE):
            code[8 * pc + 1] = code[8 * pc + 1] & 15 | (1 if reference.kind is RefKind.MAP else 2) << 4
            struct.pack_into("<I", code, 8 * pc + 4, fds[reference.name])
            struct.pack_into("<I", code, 8 * pc + 12, reference.offset)
    return bytes(code)


def _functions(program: Program, opened: ExitStack) -> tuple[int, bytes]:
    """BTF of every function, and the records that name it: what callbacks and global functions need. Nothing without any of them.

    Global are the functions that have a prototype, where the policy asks about them; the others are static, and the entry.
    """
    referred = {r.offset for r in program.references.values() if r.kind is RefKind.FUNCTION}
    called = {i.target(pc) for pc, i in program.code.items() if i.op.kind is Kind.CALL_LOCAL}
    assert isinstance(program.type, ProgramType)
    functions = program.functions.items() if program.type.policy.global_functions else ()
    prototypes = {pc: each.prototype for pc, each in functions if each.prototype is not None and pc}
    if not referred and not prototypes:
        return 0, b""
    types = _Types()
    number = types.add("int", 1 << 24, 4, struct.pack("<I", 1 << 24 | 32))
    nothing = types.add("", 13 << 24, number)
    records = []
    for pc in sorted({0} | referred | called):
        if pc in prototypes:
            id = types.function(prototypes[pc], number)
        else:
            id = types.add("function", 12 << 24, nothing)
        records.append(struct.pack("<II", pc, id))
    btf = _btf(bytes(types.records), bytes(types.names))
    opened.callback(os.close, btf)
    return btf, b"".join(records)


class _Types:
    """Types in the making."""

    def __init__(self) -> None:
        self.records, self.names, self.count = bytearray(), bytearray(1), 0

    def name(self, name: str) -> int:
        """The offset of a name."""
        at = len(self.names)
        self.names += name.encode() + b"\0"
        return at if name else 0

    def add(self, name: str, info: int, word: int, rest: bytes = b"") -> int:
        """The id of a new type."""
        self.records += struct.pack("<3I", self.name(name), info, word) + rest
        self.count += 1
        return self.count

    def function(self, prototype: Prototype, number: int) -> int:
        """The id of a global function. What pointers point to is a structure of the name, with nothing in it."""
        parameters = [self._parameter(parameter, number) for parameter in prototype.parameters]
        rest = b"".join(struct.pack("<II", self.name("parameter"), id) for id in parameters)
        result = number if prototype.gives_number else 0
        id = self.add("function", 12 << 24 | 1, self.add("", 13 << 24 | len(parameters), result, rest))
        for position, parameter in enumerate(prototype.parameters):
            for tag in sorted(parameter.tags):
                self.add(f"arg:{tag}", 17 << 24, id, struct.pack("<i", position))
        return id

    def _parameter(self, parameter: Parameter, number: int) -> int:
        if parameter.kind == "number":
            return number
        name = parameter.names[-1].replace(" ", "_") if parameter.names else ""
        if parameter.size is None:
            return self.add("", 2 << 24, 0 if name == "void" else self.add(name, 7 << 24, 0))
        structure = self.add(name, 4 << 24, parameter.size)
        return self.add("", 2 << 24, structure) if parameter.kind == "pointer" else structure


def _load(
    code: bytes, type_: int, attach: int, flags: int, license: str, functions: tuple[int, bytes]
) -> tuple[str | None, str]:
    """Load with statistics alone, for which there is room; where that is refused once more with a log, for the reason."""
    instructions = ctypes.create_string_buffer(code, len(code))
    license_, log = ctypes.create_string_buffer(license.encode()), ctypes.create_string_buffer(1 << 20)
    records = ctypes.create_string_buffer(functions[1], max(len(functions[1]), 1))

    def load(level: int) -> None:
        attributes = struct.pack(
            "<IIQQIIQII16sIIIIQI",
            type_,
            len(code) // 8,
            ctypes.addressof(instructions),
            ctypes.addressof(license_),
            level,
            len(log),
            ctypes.addressof(log),
            0,
            flags,
            b"",
            0,
            attach,
            functions[0],
            8 if functions[0] else 0,
            ctypes.addressof(records) if functions[0] else 0,
            len(functions[1]) // 8,
        )
        os.close(_bpf(_PROG_LOAD, attributes))

    try:
        load(_STATISTICS)
    except OSError as error:
        with suppress(OSError):
            load(_LOG)
        said = log.value.decode()
        lines = [line for line in said.splitlines() if line and not line.startswith("processed ")]
        return lines[-1] if lines else error.strerror, said
    return None, log.value.decode()


def _create(spec: MapSpec, opened: ExitStack) -> int:
    inner = _create(spec.inner, opened) if spec.inner is not None else 0
    flags = spec.flags | (_NO_PREALLOC if spec.type in (*_STORAGE, "lpm_trie") else 0)
    flags |= _READ_ONLY if spec.read_only else 0
    attributes = struct.pack(
        "<6I", _MAP_NUMBERS[spec.type], spec.key_size, spec.value_size, spec.max_entries, flags, inner
    )
    if spec.type in _STORAGE:
        btf = _number_types()
        opened.callback(os.close, btf)
        attributes = attributes.ljust(48, b"\0") + struct.pack("<3I", btf, 1, 1)
    fd = _bpf(_MAP_CREATE, attributes)
    opened.callback(os.close, fd)
    if spec.initial is not None:
        key, value = (
            ctypes.create_string_buffer(4),
            ctypes.create_string_buffer(spec.initial, spec.value_size),
        )
        _bpf(_MAP_UPDATE, struct.pack("<IIQQQ", fd, 0, ctypes.addressof(key), ctypes.addressof(value), 0))
        if spec.read_only:
            _bpf(_MAP_FREEZE, struct.pack("<I", fd))
    return fd


def _number_types() -> int:
    """BTF of one type, a number of four bytes: what local storage must say of its keys and values."""
    return _btf(struct.pack("<4I", 1, 1 << 24, 4, (1 << 24) | 32), b"\0int\0")


def _btf(types_: bytes, names: bytes) -> int:
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types_), len(types_), len(names))
    data = header + types_ + names
    buffer = ctypes.create_string_buffer(data, len(data))
    return _bpf(_BTF_LOAD, struct.pack("<QQI", ctypes.addressof(buffer), 0, len(data)))
