"""The only file that talks to LLVM: from the text of a module to an object file.

    text --parse, verify--> module --passes--> module --code generation--> object file

An object file holds no address of the host, so it can be kept and loaded by another process on the same kind of machine. Where pybpf's own
linker cannot be used (`pybpf.jit.image`), LLVM's loads it.

What llvmlite 0.50 asks of us. A pass builder keeps callbacks into every run it has taken part in, so each run gets a new one; a
standard pipeline runs once, and must be disposed of by hand, since its own method is hidden by an empty one; what remains of
both is 2 kB a module. Each library of LLVM's linker costs about 11 kB that are never given back. Options of LLVM's command line would
reach every user of llvmlite in the process, so none is set. LLVM runs under one lock, with the GIL released.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import cache
from itertools import count
from typing import Any, Final

import llvmlite
import llvmlite.binding as llvm

from pybpf.errors import ArgumentError, InternalError, UnsupportedError
from pybpf.jit.codegen import Level


def emit(ir: str, level: Level = Level.FULL) -> bytes:
    """The object file of a module for this machine.

    Raises `InternalError` where LLVM does not accept the text: it is always generated, so that is our bug.
    """
    with _LOCK:
        return _emit(ir, level)


def _emit(ir: str, level: Level) -> bytes:
    """What LLVM made on the way is gone when this returns, under the lock: giving it back is a call of LLVM too."""
    machine = _machine(level)
    module = _parse(_target() + ir + (_ticks(machine) if "@ticks" in ir else ""))
    _optimise(module, machine, level)
    return bytes(machine.emit_object(module))


def _optimise(module: Any, machine: Any, level: Level) -> None:
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    if level is Level.FULL:
        _run_once(builder.getModulePassManager(), module, builder)
    else:
        _quick_passes().run(module, builder)


class Machine:
    """A machine to compile for, ahead of time: a triple of LLVM, this machine's where none is named, and a processor of it.

    Raises `UnsupportedError` for what LLVM has no code for, and for machines that are not little-endian with pointers of 64 bits, as maps are; `ArgumentError`
    for the processor at hand of another machine.
    """

    def __init__(self, triple: str | None, cpu: str = "generic") -> None:
        with _LOCK:
            llvm.initialize_all_targets()
            llvm.initialize_all_asmprinters()
            host = llvm.get_default_triple()
            try:
                target = llvm.Target.from_triple(triple or host)
            except RuntimeError:
                raise UnsupportedError(
                    f"LLVM has no code for target {triple!r}", f"target {triple}"
                ) from None
            architecture, _, _ = (triple or host).partition("-")
            abi, features = _CONVENTIONS.get(architecture, ("", ""))
            if cpu not in ("generic", "native") and not _knows(triple or host, cpu):
                raise ArgumentError(f"LLVM knows no processor {cpu!r} of target {triple or host!r}")
            if cpu == "native":
                if triple is not None and architecture != host.partition("-")[0]:
                    raise ArgumentError(f"the processor at hand is none of target {triple!r}")
                cpu, features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()
            self.machine: Final[Any] = target.create_target_machine(
                cpu=cpu, features=features, opt=2, reloc="pic", codemodel="small", abiname=abi
            )
            layout = str(self.machine.target_data)
        if not layout.startswith("e-") or "p:32" in layout or "-m:e" not in layout:
            message = (
                f"target {triple!r}: machines must be little-endian with pointers of 64 bits and ELF files"
            )
            raise UnsupportedError(message, f"target {triple}")
        self.description: Final = f"{self.machine.triple}, processor {cpu}"
        self.header: Final = _text_of(self.machine)


def _knows(triple: str, cpu: str) -> bool:
    """Whether LLVM knows a processor. Asked in a process of its own: LLVM prints what it thinks of a wrong name, and then ends the process."""
    script = (
        "import sys, llvmlite.binding as llvm; llvm.initialize_all_targets();"
        "llvm.Target.from_triple(sys.argv[1]).create_target_machine(cpu=sys.argv[2])"
    )
    done = subprocess.run([sys.executable, "-c", script, triple, cpu], capture_output=True, check=False)
    return done.returncode == 0 and not done.stderr


_CONVENTIONS: Final = {"riscv64": ("lp64d", "+m,+a,+f,+d,+c")}
"""The calling convention and the extensions that all systems of an architecture have, where LLVM does not take them for granted."""


def emit_for(ir: str, machine: Machine, level: Level, form: str) -> bytes:
    """A module compiled for a machine: ``object``, ``assembly`` or ``llvm``, the text after the passes. Raises what `emit` raises."""
    with _LOCK:
        module = _parse(machine.header + ir + (_ticks(machine.machine) if "@ticks" in ir else ""))
        _optimise(module, machine.machine, level)
        match form:
            case "object":
                return bytes(machine.machine.emit_object(module))
            case "assembly":
                return str(machine.machine.emit_assembly(module)).encode()
            case _:
                return str(module).encode()


class Library:
    """An object file that LLVM's linker has loaded: `Code`."""

    def __init__(self, object_file: bytes, exports: Sequence[str]) -> None:
        """Raises `InternalError` for a symbol that is nowhere."""
        library = llvm.JITLibraryBuilder().add_object_img(object_file).add_current_process()
        for name in exports:
            library.export_symbol(name)
        with _LOCK:
            try:
                self._tracker = library.link(_linker(), f"program{next(_LIBRARIES)}")
            except RuntimeError as error:
                raise InternalError(f"generated code cannot be linked: {error}") from None
            self._addresses = {name: int(self._tracker[name]) for name in exports}

    def __del__(self) -> None:
        with _LOCK:
            self.__dict__.pop("_tracker", None)

    def address(self, name: str) -> int:
        """See `Code.address`."""
        return self._addresses[name]


def version() -> str:
    """The version of llvmlite."""
    return str(llvmlite.__version__)


def processor() -> str:
    """The name that LLVM gives this machine's processor, and its features."""
    return f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"


_LOCK: Final = threading.RLock()
_LIBRARIES: Final = count()
if hasattr(os, "register_at_fork"):
    # A fork waits until LLVM is at rest, so that it can be used in the child.
    os.register_at_fork(before=_LOCK.acquire, after_in_parent=_LOCK.release, after_in_child=_LOCK.release)


def _run_once(passes: Any, module: Any, builder: Any) -> None:
    passes.run(module, builder)
    llvm.NewPassManager._dispose(passes)
    passes.detach()


def _parse(ir: str) -> Any:
    try:
        module = llvm.parse_assembly(ir)
        module.verify()
    except RuntimeError as error:
        problem = InternalError(f"generated code is invalid: {' '.join(str(error).split())}")
        problem.add_note(ir)
        raise problem from None
    return module


@cache
def _machine(level: Level) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        # Registers are allocated greedily from 1 on; 0 is four times as fast.
        opt=2 if level is Level.FULL else 0,
        reloc="pic",
        codemodel="small",
    )


@cache
def _target() -> str:
    """What the text must say before LLVM reads it: without the layout, numbers would be aligned as on no machine of ours."""
    return _text_of(_machine(Level.FULL))


def _text_of(machine: Any) -> str:
    return f'target datalayout = "{machine.target_data}"\ntarget triple = "{machine.triple}"\n'


def _ticks(machine: Any) -> str:
    """The function `@ticks`, the time by a clock that is read without a call of the system; always 0 where LLVM knows none."""
    architecture, _, _ = machine.triple.partition("-")
    clock = _CLOCKS.get(architecture)
    time = f"%now = call i64 @llvm.{clock}()\n  ret i64 %now" if clock else "ret i64 0"
    return f"define internal i64 @ticks() alwaysinline nounwind {{\n  {time}\n}}\n"


_CLOCKS: Final = {"x86_64": "readcyclecounter", "aarch64": "readsteadycounter"}


@cache
def _quick_passes() -> Any:
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_global_dead_code_eliminate_pass()
    passes.add_sroa_pass()
    # First away with the guards that the program's own tests imply, by the ranges of numbers: they are most of the branches. Combining instructions
    # would make code that is no faster in twice the time.
    passes.add_simplify_cfg_pass()
    passes.add_sccp_pass()
    passes.add_simplify_cfg_pass()
    return passes


@cache
def _linker() -> Any:
    return llvm.create_lljit_compiler(_machine(Level.FULL), suppress_errors=True)
