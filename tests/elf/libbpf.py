"""libbpf of this machine, by ctypes: what the field's own loader makes of an object, without a kernel."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

# Linux, enum bpf_prog_type; the names are pybpf's.
TYPES = (
    "unspec socket_filter kprobe tc sched_act tracepoint xdp perf_event cgroup_skb cgroup_sock lwt_in lwt_out lwt_xmit "
    "sock_ops sk_skb cgroup_device sk_msg raw_tracepoint cgroup_sock_addr lwt_seg6local lirc_mode2 sk_reuseport "
    "flow_dissector cgroup_sysctl raw_tracepoint_writable cgroup_sockopt tracing struct_ops ext lsm sk_lookup syscall"
).split()


@dataclass(frozen=True)
class OpenedMap:
    """A map as libbpf reads it."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


@dataclass(frozen=True)
class OpenedProgram:
    """A program as libbpf reads it, before linking; `type` is None where libbpf has none."""

    name: str
    section: str
    type: str | None
    slots: int


class _OpenOptions(ctypes.Structure):
    """The first part of struct bpf_object_open_opts."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("object_name", ctypes.c_char_p),
        ("relaxed_maps", ctypes.c_bool),
        ("pin_root_path", ctypes.c_char_p),
        ("reserved", ctypes.c_uint32),
        ("kconfig", ctypes.c_char_p),
        ("btf_custom_path", ctypes.c_char_p),
    )


class Libbpf:
    """The library. Skips the test where it is not installed."""

    def __init__(self) -> None:
        path = ctypes.util.find_library("bpf")
        if path is None:
            pytest.skip("libbpf is not installed")
        self._lib = ctypes.CDLL(path)
        for name in (
            "bpf_object__open",
            "bpf_object__open_file",
            "bpf_object__next_program",
            "bpf_object__next_map",
            "bpf_program__insns",
        ):
            getattr(self._lib, name).restype = ctypes.c_void_p
        for name in ("bpf_program__name", "bpf_program__section_name", "bpf_map__name"):
            getattr(self._lib, name).restype = ctypes.c_char_p
        self._lib.bpf_program__insn_cnt.restype = ctypes.c_size_t
        self._lib.libbpf_set_print(None)

    def section_type(self, section: str) -> str | None:
        """The program type of a section name."""
        type, attach = ctypes.c_int(), ctypes.c_int()
        failed = self._lib.libbpf_prog_type_by_name(
            section.encode(), ctypes.byref(type), ctypes.byref(attach)
        )
        return None if failed else TYPES[type.value]

    def open(self, path: str) -> tuple[list[OpenedProgram], list[OpenedMap]] | None:
        """The programs and maps of a file, None where libbpf refuses it."""
        handle = self._lib.bpf_object__open(path.encode())
        if not handle or handle > 2**64 - 4096:
            return None
        obj = ctypes.c_void_p(handle)
        programs = [self._program(item) for item in self._each(self._lib.bpf_object__next_program, obj)]
        maps = [self._map(item) for item in self._each(self._lib.bpf_object__next_map, obj)]
        self._lib.bpf_object__close(obj)
        return programs, maps

    def relocated(self, path: str, btf: str | None) -> dict[str, bytes] | None:
        """The code of each program after CO-RE relocation by the types in a file, or by the running kernel's.

        The kernel may refuse the programs: they need not be right. None where an object cannot be relocated, or the user may
        not load any.
        """
        options = _OpenOptions(
            size=ctypes.sizeof(_OpenOptions), btf_custom_path=btf.encode() if btf else None
        )
        handle = self._lib.bpf_object__open_file(path.encode(), ctypes.byref(options))
        if not handle or handle > 2**64 - 4096:
            return None
        obj = ctypes.c_void_p(handle)
        programs = list(self._each(self._lib.bpf_object__next_program, obj))
        before = [self._code(item) for item in programs]
        self._lib.bpf_object__load(obj)
        code = {self._lib.bpf_program__name(item).decode(): self._code(item) for item in programs}
        self._lib.bpf_object__close(obj)
        return code if list(code.values()) != before else None

    def _code(self, item: ctypes.c_void_p) -> bytes:
        size = 8 * self._lib.bpf_program__insn_cnt(item)
        return ctypes.string_at(self._lib.bpf_program__insns(item), size)

    def _each(self, following: ctypes._FuncPointer, obj: ctypes.c_void_p) -> Iterator[ctypes.c_void_p]:  # type: ignore[name-defined]
        item = following(obj, None)
        while item:
            yield ctypes.c_void_p(item)
            item = following(obj, ctypes.c_void_p(item))

    def _program(self, item: ctypes.c_void_p) -> OpenedProgram:
        type = TYPES[self._lib.bpf_program__type(item)]
        return OpenedProgram(
            self._lib.bpf_program__name(item).decode(),
            self._lib.bpf_program__section_name(item).decode(),
            None if type == "unspec" else type,
            self._lib.bpf_program__insn_cnt(item),
        )

    def _map(self, item: ctypes.c_void_p) -> OpenedMap:
        lib = self._lib
        return OpenedMap(
            lib.bpf_map__name(item).decode(),
            lib.bpf_map__type(item),
            lib.bpf_map__key_size(item),
            lib.bpf_map__value_size(item),
            lib.bpf_map__max_entries(item),
            lib.bpf_map__map_flags(item),
        )
