"""pybpf: load, verify, run and compile eBPF programs in pure Python.

    bytes --load/assemble--> Object, Program --verify--> VerifiedProgram --instantiate--> Instance --run--> results

Names are imported when they are first used, so that a program which only verifies does not pay for LLVM or numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pybpf import helpers, program_types
    from pybpf.ahead import CompiledObject, compile_object
    from pybpf.asm import assemble, disassemble
    from pybpf.elf import load
    from pybpf.errors import (
        ArgumentError,
        AssemblyError,
        BpfError,
        BudgetExceeded,
        CaptureError,
        CertificateError,
        DecodeError,
        ElfError,
        InternalError,
        LinkError,
        MapError,
        Trap,
        UnsupportedError,
        VerifierError,
    )
    from pybpf.flows import flow_numbers
    from pybpf.instruction import Instruction, decode, encode
    from pybpf.packets import PacketBatch, read_pcap, write_pcap
    from pybpf.program import MapSpec, Object, Program, Reference, RefKind, SourceLine, Subprogram
    from pybpf.program_types import Policy, ProgramType
    from pybpf.runtime import Instance, Result, instantiate
    from pybpf.verifier import check, verify
    from pybpf.verifier.certificate import Certificate
    from pybpf.verifier.facts import Facts, VerifiedProgram

_HOME = {
    "pybpf.ahead": "CompiledObject compile_object",
    "pybpf.asm": "assemble disassemble",
    "pybpf.elf": "load",
    "pybpf.errors": "ArgumentError AssemblyError BpfError BudgetExceeded CaptureError CertificateError DecodeError ElfError InternalError "
    "LinkError MapError Trap UnsupportedError VerifierError",
    "pybpf.flows": "flow_numbers",
    "pybpf.instruction": "Instruction decode encode",
    "pybpf.packets": "PacketBatch read_pcap write_pcap",
    "pybpf.program": "MapSpec Object Program RefKind Reference SourceLine Subprogram",
    "pybpf.program_types": "Policy ProgramType",
    "pybpf.runtime": "Instance Result instantiate",
    "pybpf.verifier": "check verify",
    "pybpf.verifier.certificate": "Certificate",
    "pybpf.verifier.facts": "Facts VerifiedProgram",
}
_MODULE = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = [
    "ArgumentError",
    "AssemblyError",
    "BpfError",
    "BudgetExceeded",
    "CaptureError",
    "Certificate",
    "CertificateError",
    "CompiledObject",
    "DecodeError",
    "ElfError",
    "Facts",
    "Instance",
    "Instruction",
    "InternalError",
    "LinkError",
    "MapError",
    "MapSpec",
    "Object",
    "PacketBatch",
    "Policy",
    "Program",
    "ProgramType",
    "RefKind",
    "Reference",
    "Result",
    "SourceLine",
    "Subprogram",
    "Trap",
    "UnsupportedError",
    "VerifiedProgram",
    "VerifierError",
    "assemble",
    "check",
    "compile_object",
    "decode",
    "disassemble",
    "encode",
    "flow_numbers",
    "helpers",
    "instantiate",
    "load",
    "program_types",
    "read_pcap",
    "verify",
    "write_pcap",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in ("helpers", "program_types"):
        return import_module(f"pybpf.{name}")
    if name not in _MODULE:
        raise AttributeError(f"module 'pybpf' has no attribute {name!r}")
    value = getattr(import_module(_MODULE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
