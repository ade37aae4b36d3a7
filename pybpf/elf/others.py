"""What a file is that is no BPF object, for people who took one for the other."""

from __future__ import annotations

from typing import Final

_BEGINNINGS: Final = {
    b"!<arch>\n": "an archive: give one of the objects in it",
    b"BC\xc0\xde": "LLVM bitcode: compile without -emit-llvm and -flto",
    b"\x1f\x8b": "compressed by gzip: unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it first",
    b"\xfd7zXZ": "compressed by xz: unpack it first",
    b"\xeb\x9f": "types in BTF, without programs: give it to --btf",
    b"\xd4\xc3\xb2\xa1": "a capture: give it to --pcap",
    b"\xa1\xb2\xc3\xd4": "a capture: give it to --pcap",
    b"\x4d\x3c\xb2\xa1": "a capture: give it to --pcap",
    b"\x0a\x0d\x0d\x0a": "a capture: give it to --pcap",
    b"MZ": "a program of Windows",
    b"\xcf\xfa\xed\xfe": "an object of macOS: compile with -target bpf",
}

_MACHINES: Final = {3: "x86", 21: "PowerPC", 22: "s390", 40: "ARM", 62: "x86-64", 183: "AArch64", 243: "RISC-V", 258: "LoongArch"}  # fmt: skip

_TEXT: Final = frozenset({*range(0x20, 0x7F), *b"\t\n\r\f"})
_LOOKED_AT: Final = 256


def of_beginning(data: bytes) -> str:
    """What a file with these bytes is, in brackets; empty where they do not tell."""
    for beginning, what in _BEGINNINGS.items():
        if data.startswith(beginning):
            return f" ({what})"
    if _TEXT.issuperset(data[:_LOOKED_AT]):
        return " (text: an object is what clang -target bpf -c makes of C; assembler text is called NAME.bpf)"
    return ""


def of_machine(machine: int) -> str:
    """The name of a machine by its ELF number, with what to do, in brackets; empty for those that are rare."""
    name = _MACHINES.get(machine)
    return f" ({name}: compile with clang -target bpf)" if name else ""
