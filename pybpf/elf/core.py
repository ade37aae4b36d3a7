"""CO-RE relocations applied: instructions that depend on the layout of types that another machine decides.

The types of that machine come as BTF; `pybpf.btf.relocation` finds in them what an instruction must hold. What is not there
leaves an instruction that must not be reached: programs ask for a field's existence before they use it.
Without them, only types that Linux promises never to change need no relocation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pybpf.btf import Btf, CoreRelocation, Kind, relocation
from pybpf.btf.relocation import FIELDS, Answer, Asked, Target
from pybpf.elf.file import image_section, read_file
from pybpf.errors import ElfError, UnsupportedError
from pybpf.instruction import Instruction
from pybpf.isa import OPS, Op, Operand
from pybpf.isa import Kind as Does
from pybpf.program import CO_RE

if TYPE_CHECKING:
    from pathlib import Path

KERNEL: Final = "kernel"
"""Stands for the types of the running kernel."""

_KERNEL_PATH: Final = "/sys/kernel/btf/vmlinux"
_MEMORY: Final = (Does.LOAD, Does.STORE, Does.ATOMIC)
_MAX_OFFSET: Final = (1 << 15) - 1

# Linux, include/uapi/linux/bpf.h.
_STABLE: Final = frozenset(
    "xdp_md __sk_buff bpf_sock_ops bpf_sock_addr bpf_sock bpf_tcp_sock sk_msg_md sk_reuseport_md bpf_sk_lookup bpf_sysctl "
    "bpf_sockopt bpf_cgroup_dev_ctx bpf_perf_event_data bpf_raw_tracepoint_args bpf_flow_keys bpf_fib_lookup bpf_tunnel_key "
    "bpf_xfrm_state bpf_spin_lock bpf_timer bpf_sock_tuple bpf_pidns_info bpf_redir_neigh".split()
)


def read_target(source: str | Path | bytes | Btf) -> Btf:
    """The types of a machine: of the running kernel (``"kernel"``), from a file of BTF or an ELF file that holds it.

    Raises `ElfError` where there are none, OSError as `open` does.
    """
    if isinstance(source, Btf):
        return source
    if source == KERNEL:
        source = _KERNEL_PATH
    data = source if isinstance(source, bytes) else read_file(source)
    if data[:4] == b"\x7fELF":
        data = image_section(data, ".BTF")
    return Btf.parse(data, "big" if data[:2] == b"\xeb\x9f" else "little")


class Core:
    """Relocates the instructions of an object, whose types are `local`, for a machine, whose types are `target`."""

    def __init__(self, local: Btf, target: Btf | None) -> None:
        self.local = local
        self.target = None if target is None else Target(target)
        self._answers: dict[tuple[int, str, int], Answer | None] = {}

    def relocate(self, instruction: Instruction, record: CoreRelocation) -> Instruction | None:
        """The instruction as it must be on the target, None where it must not be reached there.

        Raises `UnsupportedError` where the target's types are not known, or do not say what is asked.
        """
        try:
            answer = self._answer(record)
            return instruction if answer is None else _patched(instruction, answer)
        except ElfError as error:
            raise UnsupportedError(f"CO-RE: {self.describe(record)}: {error.detail}", CO_RE) from None

    def describe(self, record: CoreRelocation) -> str:
        """What a relocation asks for, in words."""
        return relocation.describe(self.local, record)

    def _answer(self, record: CoreRelocation) -> Answer | None:
        """The answer to a relocation, None where the instruction is right as the compiler left it."""
        key = (record.type_id, record.access, record.kind)
        if key not in self._answers:
            self._answers[key] = self._find(record)
        return self._answers[key]

    def _find(self, record: CoreRelocation) -> Answer | None:
        if record.kind == Asked.TYPE_ID_LOCAL:
            return None
        if self._is_stable(record) and not self._knows(record):
            return None
        if self.target is None:
            raise ElfError("it needs the types of a kernel (btf=..., --btf)")
        return relocation.resolve(self.local, record, self.target)

    def _is_stable(self, record: CoreRelocation) -> bool:
        type_ = self.local.resolve(record.type_id)
        return record.kind in FIELDS and type_.kind is Kind.STRUCT and type_.name in _STABLE

    def _knows(self, record: CoreRelocation) -> bool:
        return self.target is not None and bool(self.target.candidates(self.local[record.type_id]))


def _patched(instruction: Instruction, answer: Answer) -> Instruction | None:
    """The instruction with the answer in its place: an offset of memory, or an immediate."""
    if answer.value is None:
        return None
    op = instruction.op
    if op.kind in _MEMORY:
        return _moved(instruction, answer, answer.value)
    if not (op.kind is Does.ALU and op.operand is Operand.IMM) and not (
        op.kind is Does.LOAD_IMM64 and not instruction.src
    ):
        raise ElfError(f"a {op.mnemonic.split()[0]} has no place for it")
    mask = (1 << (64 if op.kind is Does.LOAD_IMM64 else 32)) - 1
    if answer.certain and answer.original is not None and (instruction.imm ^ answer.original) & mask:
        raise ElfError(f"the instruction holds {instruction.imm}, the types say {answer.original}")
    value = answer.value & mask
    if op.kind is Does.ALU:
        value = (value ^ 1 << 31) - (1 << 31)
    return replace(instruction, imm=value)


def _moved(instruction: Instruction, answer: Answer, value: int) -> Instruction | None:
    """A load or store at the target's offset, as wide as the field is there.

    The widths only matter where they differ. A field that is signed, or no number, cannot be loaded in another width.
    """
    if answer.certain and instruction.offset != answer.original:
        raise ElfError(f"the instruction is at offset {instruction.offset}, the types say {answer.original}")
    if value > _MAX_OFFSET:
        raise ElfError(f"offset {value} does not fit into an instruction")
    before, after = answer.access
    if before == after:
        return replace(instruction, offset=value)
    if not answer.resizable:
        return None
    if instruction.op.size != before:
        raise ElfError(f"the instruction accesses {instruction.op.size} bytes, the types say {before}")
    return replace(instruction, op=_resized(instruction.op, after), offset=value)


def _resized(op: Op, size: int) -> Op:
    for other in OPS:
        if (other.kind, other.code, other.operand, other.size) == (op.kind, op.code, op.operand, size):
            return other
    raise ElfError(f"no {op.mnemonic.split()[0]} accesses {size} bytes")
