"""The table of instructions: RFC 9669, appendix A, as data.

One frozen row (`Op`) per instruction: which values its fields must hold, which are operands, its conformance group, the
case that consumers handle (`Kind`), the operator within that case, its width, and its text in two syntaxes. Decoding,
field validation, both assemblers and disassemblers, the interpreter, the verifier and the JIT are derived from these rows;
no other list of opcodes exists.

An instruction is 8 bytes: opcode (8 bits), dst (4), src (4), offset (16, signed), imm (32, signed); wide loads take a
second slot whose imm is the upper half of a 64-bit constant.

    opcode of ALU, ALU64, JMP, JMP32        opcode of LD, LDX, ST, STX
    +--------+-+---+                        +---+--+---+
    |  code  |s|cls|                        |mod|sz|cls|
    +--------+-+---+                        +---+--+---+

Two instructions here are not in the RFC: ``callx`` (what clang emits for a call through a register) and Linux's
load-acquire and store-release. What only means something inside Linux's kernel is read and written (`KERNEL_OPS`), and neither
verified nor run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Kind(Enum):
    """The cases that every reader of instructions handles, and the only ones."""

    ALU = "alu"  # dst = dst <code> operand, at `width` bits
    END = "end"  # dst = byte order of dst changed: code le, be or bswap, `width` bits
    LOAD_IMM64 = "load_imm64"  # dst = 64-bit constant, or what it refers to: code imm, map_fd, ...
    LOAD = "load"  # dst = memory at src + offset, `size` bytes; code mem or memsx
    STORE = "store"  # memory at dst + offset = operand
    ATOMIC = "atomic"  # read-modify-write of memory at dst + offset, load_acquire, store_release
    PACKET = "packet"  # r0 = packet bytes at imm, or src + imm, in network order
    JUMP = "jump"  # pc += offset (ja) or imm (gotol)
    BRANCH = "branch"  # if dst <code> operand: pc += offset, at `width` bits
    CALL = "call"  # helper by number (code helper) or BTF id (code kfunc)
    CALL_LOCAL = "call_local"  # function at pc + 1 + imm
    CALL_REGISTER = "call_register"  # function or helper whose number is in dst
    EXIT = "exit"
    KERNEL = "kernel"  # what only Linux's kernel gives a meaning to: read, written, and nothing else


class Operand(Enum):
    """Where the second operand comes from."""

    NONE = "none"
    IMM = "imm"
    REG = "reg"


ANY: Final = None
"""A field that is an operand; a number instead is the value that the field must hold."""

WIDE: Final = 0x18
"""The opcode of a wide load, the only instruction of two slots."""

MAX_REGISTER: Final = 10


@dataclass(frozen=True, slots=True)
class Op:
    """One row: an instruction's encoding, text and meaning.

    `size` is in bytes and 0 where no memory is touched; `width` in bits. `isa` is the first level (clang's ``-mcpu=v1`` to
    ``v4``) that has the instruction. In `syntax` (clang, llvm-objdump) and `mnemonic` (binutils, uBPF) the fields in
    braces are operands: ``dst``, ``src``, ``imm``, ``next`` (the second immediate of a wide load), ``off`` (a signed
    displacement) and ``target`` (a jump's).
    """

    opcode: int
    kind: Kind
    code: str
    syntax: str
    mnemonic: str
    width: int = 64
    size: int = 0
    operand: Operand = Operand.NONE
    group: str = "base64"
    isa: int = 1
    dst: int | None = 0
    src: int | None = 0
    offset: int | None = 0
    imm: int | None = 0
    next_imm: int | None = 0

    @property
    def slots(self) -> int:
        """How many 8-byte slots the instruction takes."""
        return 2 if self.opcode == WIDE else 1


# Instruction classes, the low three bits of an opcode (RFC 9669, section 3.3).
LD, LDX, ST, STX, ALU, JMP, JMP32, ALU64 = range(8)
K, X = 0x00, 0x08
ABS, IND, MEM, MEMSX, ATOMIC = 0x20, 0x40, 0x60, 0x80, 0xC0

# Bytes of an access -> (bits of the opcode, suffix of the mnemonic).
_SIZES: Final = {4: (0x00, "w"), 2: (0x08, "h"), 1: (0x10, "b"), 8: (0x18, "dw")}

# Operator -> (code, sign in the pseudo-C syntax, offset field, ISA level).
_ALU: Final = {
    "add": (0x0, "+=", 0, 1),
    "sub": (0x1, "-=", 0, 1),
    "mul": (0x2, "*=", 0, 1),
    "div": (0x3, "/=", 0, 1),
    "sdiv": (0x3, "s/=", 1, 4),
    "or": (0x4, "|=", 0, 1),
    "and": (0x5, "&=", 0, 1),
    "lsh": (0x6, "<<=", 0, 1),
    "rsh": (0x7, ">>=", 0, 1),
    "mod": (0x9, "%=", 0, 1),
    "smod": (0x9, "s%=", 1, 4),
    "xor": (0xA, "^=", 0, 1),
    "mov": (0xB, "=", 0, 1),
    "arsh": (0xC, "s>>=", 0, 1),
}

# Condition -> (code, sign, ISA level of the 64-bit form).
_BRANCH: Final = {
    "jeq": (0x1, "==", 1),
    "jgt": (0x2, ">", 1),
    "jge": (0x3, ">=", 1),
    "jset": (0x4, "&", 1),
    "jne": (0x5, "!=", 1),
    "jsgt": (0x6, "s>", 1),
    "jsge": (0x7, "s>=", 1),
    "jlt": (0xA, "<", 2),
    "jle": (0xB, "<=", 2),
    "jslt": (0xC, "s<", 2),
    "jsle": (0xD, "s<=", 2),
}

# Read-modify-write operator -> (imm, sign of the form that does not fetch).
_ATOMIC: Final = {"add": (0x00, "+="), "or": (0x40, "|="), "and": (0x50, "&="), "xor": (0xA0, "^=")}

# What the two immediates of a wide load mean, by src (RFC 9669, section 5.4) -> (code, syntax). The second one is an operand
# of the forms that name it, the upper half of `imm` in the first, and reserved in the others.
_WIDE: Final = {
    0: ("imm", "{imm}"),
    1: ("map_fd", "map_by_fd({imm})"),
    2: ("map_value_fd", "map_value_by_fd({imm}) + {next}"),
    3: ("variable", "var_addr({imm})"),
    4: ("function", "code_addr({imm})"),
    5: ("map_index", "map_by_idx({imm})"),
    6: ("map_value_index", "map_value_by_idx({imm}) + {next}"),
}


def _alu_rows() -> Iterator[Op]:
    for width, cls, reg, suffix in ((64, ALU64, "r", ""), (32, ALU, "w", "32")):
        for name, (code, sign, offset, isa) in _ALU.items():
            group = f"divmul{width}" if name in ("mul", "div", "sdiv", "mod", "smod") else f"base{width}"
            for source, operand in ((K, Operand.IMM), (X, Operand.REG)):
                text, right = ("{imm}", "{imm}") if operand is Operand.IMM else (reg + "{src}", "%r{src}")
                yield Op(
                    cls | source | code << 4,
                    Kind.ALU,
                    name,
                    f"{reg}{{dst}} {sign} {text}",
                    f"{name}{suffix} %r{{dst}},{right}",
                    width,
                    operand=operand,
                    group=group,
                    isa=isa,
                    dst=ANY,
                    src=ANY if operand is Operand.REG else 0,
                    offset=offset,
                    imm=ANY if operand is Operand.IMM else 0,
                )
        for size in (1, 2, 4) if width == 64 else (1, 2):
            yield Op(
                cls | X | 0xB0,
                Kind.ALU,
                f"movs{8 * size}",
                f"{reg}{{dst}} = (s{8 * size}){reg}{{src}}",
                f"movs{suffix} %r{{dst}},%r{{src}},{8 * size}",
                width,
                operand=Operand.REG,
                group=f"base{width}",
                isa=4,
                dst=ANY,
                src=ANY,
                offset=8 * size,
            )
        yield Op(
            cls | 0x80, Kind.ALU, "neg", f"{reg}{{dst}} = -{reg}{{dst}}", f"neg{suffix} %r{{dst}}", width,
            group=f"base{width}", dst=ANY,
        )  # fmt: skip


def _end_rows() -> Iterator[Op]:
    for name, opcode, mnemonic, isa in (
        ("le", ALU | K | 0xD0, "endle", 1),
        ("be", ALU | X | 0xD0, "endbe", 1),
        ("bswap", ALU64 | K | 0xD0, "bswap", 4),
    ):
        for width in (16, 32, 64):
            text = f"{mnemonic} %r{{dst}},{width}"
            group = "base64" if width == 64 else "base32"
            yield Op(
                opcode, Kind.END, name, f"r{{dst}} = {name}{width} r{{dst}}", text, width,
                group=group, isa=isa, dst=ANY, imm=width,
            )  # fmt: skip


def _wide_rows() -> Iterator[Op]:
    for src, (code, text) in _WIDE.items():
        mnemonic = "lddw %r{dst},{imm}" if src == 0 else f"lddw %r{{dst}},{text}"
        second = ANY if src == 0 or "{next}" in text else 0
        yield Op(
            WIDE, Kind.LOAD_IMM64, code, f"r{{dst}} = {text} ll", mnemonic,
            dst=ANY, src=src, imm=ANY, next_imm=second,
        )  # fmt: skip


def _memory_rows() -> Iterator[Op]:
    for size, (bits, letter) in _SIZES.items():
        group, type_ = "base64" if size == 8 else "base32", f"u{8 * size}"
        yield Op(
            LDX | MEM | bits, Kind.LOAD, "mem", f"r{{dst}} = *({type_} *)(r{{src}} {{off}})",
            f"ldx{letter} %r{{dst}},[%r{{src}}{{off}}]", 64, size, group=group, dst=ANY, src=ANY, offset=ANY,
        )  # fmt: skip
        if size < 8:
            yield Op(
                LDX | MEMSX | bits, Kind.LOAD, "memsx", f"r{{dst}} = *(s{8 * size} *)(r{{src}} {{off}})",
                f"ldxs{letter} %r{{dst}},[%r{{src}}{{off}}]", 64, size, group="base32", isa=4, dst=ANY, src=ANY,
                offset=ANY,
            )  # fmt: skip
        yield Op(
            ST | MEM | bits, Kind.STORE, "mem", f"*({type_} *)(r{{dst}} {{off}}) = {{imm}}",
            f"st{letter} [%r{{dst}}{{off}}],{{imm}}", 64, size, Operand.IMM, group, dst=ANY, offset=ANY, imm=ANY,
        )  # fmt: skip
        yield Op(
            STX | MEM | bits, Kind.STORE, "mem", f"*({type_} *)(r{{dst}} {{off}}) = r{{src}}",
            f"stx{letter} [%r{{dst}}{{off}}],%r{{src}}", 64, size, Operand.REG, group, dst=ANY, src=ANY, offset=ANY,
        )  # fmt: skip
        if size < 8:
            for mode, name in ((ABS, "abs"), (IND, "ind")):
                index, mnemonic = ("{imm}", "") if mode == ABS else ("r{src} {off}", "%r{src},")
                yield Op(
                    LD | mode | bits, Kind.PACKET, name, f"r0 = *({type_} *)skb[{index.replace('{off}', '+ {imm}')}]",
                    f"ld{name}{letter} {mnemonic}{{imm}}", 64, size, Operand.IMM if mode == ABS else Operand.REG,
                    "packet", src=ANY if mode == IND else 0, imm=ANY,
                )  # fmt: skip


def _atomic_rows() -> Iterator[Op]:
    for size, reg, lock, call in ((4, "w", "lock *(u32 *)", "(u32 *)"), (8, "r", "lock *(u64 *)", "(u64 *)")):
        width, opcode, group = 8 * size, STX | ATOMIC | _SIZES[size][0], f"atomic{8 * size}"
        tag, suffix = ("", "") if size == 8 else ("32", "32")
        kinds = {"dst": ANY, "src": ANY, "offset": ANY}
        where = "(r{dst} {off})"
        # Addition without fetch was there from the beginning (Linux, BPF_XADD): clang emits it at every level.
        for name, (imm, sign) in _ATOMIC.items():
            yield Op(
                opcode, Kind.ATOMIC, name, f"{lock}{where} {sign} {reg}{{src}}",
                f"a{name}{suffix} [%r{{dst}}{{off}}],%r{{src}}", width, size, Operand.REG, group,
                isa=1 if name == "add" else 3, imm=imm, **kinds,
            )  # fmt: skip
            yield Op(
                opcode, Kind.ATOMIC, f"fetch_{name}", f"{reg}{{src}} = atomic_fetch_{name}({call}{where}, {reg}{{src}})",
                f"af{name}{suffix} [%r{{dst}}{{off}}],%r{{src}}", width, size, Operand.REG, group, isa=3, imm=imm | 1, **kinds,
            )  # fmt: skip
        yield Op(
            opcode, Kind.ATOMIC, "xchg", f"{reg}{{src}} = xchg{tag}_{width}(r{{dst}} {{off}}, {reg}{{src}})",
            f"axchg{suffix} [%r{{dst}}{{off}}],%r{{src}}", width, size, Operand.REG, group, isa=3, imm=0xE1, **kinds,
        )  # fmt: skip
        yield Op(
            opcode, Kind.ATOMIC, "cmpxchg",
            f"{reg}0 = cmpxchg{tag}_{width}(r{{dst}} {{off}}, {reg}0, {reg}{{src}})",
            f"acmp{suffix} [%r{{dst}}{{off}}],%r{{src}}", width, size, Operand.REG, group, isa=3, imm=0xF1, **kinds,
        )  # fmt: skip
    for size, (bits, letter) in _SIZES.items():
        opcode, group = STX | ATOMIC | bits, "atomic64" if size == 8 else "atomic32"
        reg, type_ = "r" if size == 8 else "w", f"(u{8 * size} *)"
        yield Op(
            opcode, Kind.ATOMIC, "load_acquire", f"{reg}{{dst}} = load_acquire({type_}(r{{src}} {{off}}))",
            f"ldacq{letter} %r{{dst}},[%r{{src}}{{off}}]", 8 * size, size, Operand.NONE, group, 4,
            ANY, ANY, ANY, 0x100,
        )  # fmt: skip
        yield Op(
            opcode, Kind.ATOMIC, "store_release", f"store_release({type_}(r{{dst}} {{off}}), {reg}{{src}})",
            f"strel{letter} [%r{{dst}}{{off}}],%r{{src}}", 8 * size, size, Operand.REG, group, 4,
            ANY, ANY, ANY, 0x110,
        )  # fmt: skip


def _jump_rows() -> Iterator[Op]:
    yield Op(JMP, Kind.JUMP, "ja", "goto {target}", "ja {target}", group="base32", offset=ANY)
    yield Op(JMP32, Kind.JUMP, "gotol", "gotol {target}", "jal {target}", group="base32", isa=4, imm=ANY)
    for width, cls, reg, suffix in ((64, JMP, "r", ""), (32, JMP32, "w", "32")):
        for name, (code, sign, isa) in _BRANCH.items():
            for source, operand in ((K, Operand.IMM), (X, Operand.REG)):
                text, right = ("{imm}", "{imm}") if operand is Operand.IMM else (reg + "{src}", "%r{src}")
                yield Op(
                    cls | source | code << 4, Kind.BRANCH, name, f"if {reg}{{dst}} {sign} {text} goto {{target}}",
                    f"{name}{suffix} %r{{dst}},{right},{{target}}", width, 0, operand, f"base{width}",
                    3 if width == 32 else isa, ANY, ANY if operand is Operand.REG else 0, ANY,
                    ANY if operand is Operand.IMM else 0,
                )  # fmt: skip
    yield Op(JMP | 0x80, Kind.CALL, "helper", "call {imm}", "call {imm}", group="base32", src=0, imm=ANY)
    yield Op(
        JMP | 0x80, Kind.CALL_LOCAL, "local", "call {target}", "call local {target}", group="base32", src=1, imm=ANY
    )  # fmt: skip
    yield Op(
        JMP | 0x80, Kind.CALL, "kfunc", "call kfunc({imm})", "call kfunc({imm})", group="base32", src=2, imm=ANY
    )  # fmt: skip
    yield Op(
        JMP | X | 0x80, Kind.CALL_REGISTER, "register", "callx r{dst}", "call %r{dst}", group="callx", dst=ANY
    )
    yield Op(JMP | 0x90, Kind.EXIT, "exit", "exit", "exit", group="base32")


OPS: Final[tuple[Op, ...]] = (
    *_alu_rows(),
    *_end_rows(),
    *_wide_rows(),
    *_memory_rows(),
    *_atomic_rows(),
    *_jump_rows(),
)
"""Every instruction. Rows with one opcode differ in a fixed field: decoding takes the first whose fixed fields match."""


def _kernel_rows() -> Iterator[Op]:
    """The kernel takes a branch when a loop has gone on for too long, jumps by a table that it relocates, and has pages in two
    address spaces (Linux, Documentation/bpf/standardization and kernel/bpf/verifier.c; clang emits all of them for v4).
    """
    yield Op(
        JMP | 0xE0, Kind.KERNEL, "may_goto", "may_goto {target}", "may_goto {target}", group="linux", isa=4, offset=ANY
    )  # fmt: skip
    yield Op(JMP | X, Kind.KERNEL, "gotox", "gotox r{dst}", "gotox %r{dst}", group="linux", isa=4, dst=ANY)
    for to, source in ((0, 1), (1, 0)):
        yield Op(
            ALU64 | X | 0xB0, Kind.KERNEL, "addr_space_cast", f"r{{dst}} = addr_space_cast(r{{src}}, {to}, {source})",
            f"cast %r{{dst}},%r{{src}},{to},{source}", group="linux", isa=4, dst=ANY, src=ANY, offset=1, imm=to << 16 | source,
        )  # fmt: skip


KERNEL_OPS: Final[tuple[Op, ...]] = tuple(_kernel_rows())
"""Instructions that clang emits and only Linux's kernel can run."""


INCLUDED: Final = {"base32": "base64", "divmul32": "divmul64", "atomic32": "atomic64"}
"""Conformance group -> the group that has all its instructions, too (RFC 9669, section 2.4)."""


def _by_opcode(ops: Iterable[Op]) -> dict[int, tuple[Op, ...]]:
    rows: dict[int, list[Op]] = {}
    for op in ops:
        rows.setdefault(op.opcode, []).append(op)
    return {opcode: tuple(ops) for opcode, ops in rows.items()}


BY_OPCODE: Final[dict[int, tuple[Op, ...]]] = _by_opcode(OPS)
"""Opcode -> its rows, in the order of `OPS`."""

KERNEL_BY_OPCODE: Final[dict[int, tuple[Op, ...]]] = _by_opcode(KERNEL_OPS)
"""The same of `KERNEL_OPS`."""


_BY_KEY: Final = {(op.kind, op.code, op.width, op.size, op.operand): op for op in OPS}


def op(kind: Kind, code: str, *, width: int = 64, size: int = 0, operand: Operand = Operand.NONE) -> Op:
    """The row of an instruction named by its meaning; KeyError where there is none.

    >>> op(Kind.ALU, "add", operand=Operand.IMM).syntax
    'r{dst} += {imm}'
    """
    return _BY_KEY[kind, code, width, size, operand]
