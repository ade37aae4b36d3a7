"""`verify` and `check`: the steps of a verification in their order, and what becomes of a failure."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pybpf import program_types
from pybpf.errors import ArgumentError, BudgetExceeded, CertificateError, DecodeError, VerifierError
from pybpf.program import Program
from pybpf.program_types import Policy, ProgramType
from pybpf.verifier.cfg import Graph, build
from pybpf.verifier.explain import Refusal, Step, StructureError, failure
from pybpf.verifier.explore import APART, LADDER, SMALL, Exploration, Failure, Node
from pybpf.verifier.facts import Facts, VerifiedProgram
from pybpf.verifier.liveness import live_at_entry
from pybpf.verifier.prototypes import Apart, by_itself, prototyped, where
from pybpf.verifier.recorder import Recorder
from pybpf.verifier.rules import check_rules
from pybpf.verifier.speculation import found_ahead
from pybpf.verifier.transfer import Transfer
from pybpf.verifier.values import Values
from pybpf.verifier.walk import Walk

if TYPE_CHECKING:
    from pybpf.verifier.certificate import Certificate

__all__ = ["check", "verify"]


def verify(
    program: Program,
    type: str | ProgramType | None = None,
    *,
    policy: Policy | None = None,
    certificate: bool = False,
) -> VerifiedProgram:
    """Prove a program safe for a program type.

    `type` overrides the program's own; `policy` overrides the type's. With `certificate`, the proof comes with a
    `Certificate`, by which `check` finds it again without a search. Raises `VerifierError` for a program that was not
    proved safe, `UnsupportedError` for one that uses something pybpf does not know, `BudgetExceeded` for one whose paths
    are too many, `ArgumentError` where nothing says the type.
    """
    program_type, graph = _prepared(program, type, policy)
    with _no_collection():
        return _prove(program, program_type, graph, certificate)


def check(
    program: Program,
    certificate: Certificate | bytes,
    type: str | ProgramType | None = None,
    *,
    policy: Policy | None = None,
) -> VerifiedProgram:
    """Prove a program safe by a certificate of it, without a search; the facts are those that the certificate shows.

    `type` and `policy` are as for `verify`, and bytes are read as `Certificate.from_bytes` does. Nothing in the certificate is taken on trust. Raises `CertificateError` where it does not
    prove the program, and otherwise what `verify` raises.
    """
    from pybpf.verifier.certificate import Certificate, fingerprint
    from pybpf.verifier.checker import Checker

    program_type, graph = _prepared(program, type, policy)
    if isinstance(certificate, bytes):
        certificate = Certificate.from_bytes(certificate)
    if certificate.program != fingerprint(program):
        raise CertificateError("it is one of another program", program=program.name)
    with _no_collection():
        walk = _walk(program, program_type, graph)
        checker = Checker(certificate, walk)
        bound, explored = checker.run(), checker.explored
        if program_type.policy.speculation:
            if certificate.ahead is None:
                raise CertificateError("it says nothing of what a processor does ahead", program=program.name)
            checker = Checker(certificate.ahead, _walk(program, program_type, graph, ahead=True))
            checker.follow()
            explored += checker.explored
        explored += _check_apart(certificate, program, program_type, graph)
    facts = _facts(program, program_type, walk.transfer.recorder, bound, explored)
    return VerifiedProgram(program, program_type, facts, certificate)


def _check_apart(certificate: Certificate, program: Program, type_: ProgramType, graph: Graph) -> int:
    """Check the claims about global functions by themselves, if the policy asks for them. How many instructions are in their points."""
    from pybpf.verifier.checker import Checker

    explored = 0
    parts = _apart(program, type_, graph)
    for part in parts:
        claims = certificate.functions.get(part.entry)
        if claims is None:
            raise CertificateError(f"{where(part)}it says nothing of that", program=program.name)
        checker = Checker(claims, _walk(program, type_, part))
        checker.run()
        explored += checker.explored
        parts.add(checker.walk.prototypes.called)
    if parts.entries and (more := certificate.functions.keys() - parts.entries):
        raise CertificateError(
            f"no call leads to the function at pc {min(more)} by itself", program=program.name
        )
    return explored


def _walk(program: Program, type_: ProgramType, graph: Graph, *, ahead: bool = False) -> Walk:
    """A walk for checking: from point to point no slot defines a value twice, but where a helper takes a callback."""
    values = Values(leaks=type_.policy.pointer_leaks, byteorder=program.byteorder)
    again = frozenset(graph.callbacks)
    return Walk(program, graph, Transfer(program, type_, values, Recorder(), again, ahead=ahead))


def _prepared(
    program: Program, type: str | ProgramType | None, policy: Policy | None
) -> tuple[ProgramType, Graph]:
    """What needs no states: the rules of single instructions, and the structure."""
    program_type = _type_of(program, type)
    if policy is not None:
        program_type = replace(program_type, policy=policy)
    _raise_defect(program)
    try:
        check_rules(program, program_type.policy)
        graph = build(program)
        _check_loops(graph, program_type.policy)
    except StructureError as error:
        raise failure(program, _refusal(error)) from None
    return program_type, graph


def _type_of(program: Program, type: str | ProgramType | None) -> ProgramType:
    wanted = type if type is not None else program.type
    if wanted is None:
        raise ArgumentError(
            f"program {program.name!r}: nothing says its type (section {program.section!r}); give one of "
            + ", ".join(program_types.BY_NAME)
        )
    if isinstance(wanted, ProgramType):
        return wanted
    return program_types.get(wanted).at(program.section)


def _raise_defect(program: Program) -> None:
    defect = program.defect
    if isinstance(defect, DecodeError):
        refusal = Refusal("invalid-instruction", defect.detail)
        refusal.pc = defect.pc
        raise failure(program, refusal)
    if defect is not None:
        raise defect


def _refusal(error: StructureError) -> Refusal:
    refusal = Refusal(error.reason, error.message)
    refusal.pc = error.pc
    return refusal


def _check_loops(graph: Graph, policy: Policy) -> None:
    if graph.back_edges and not policy.loops:
        start, target = graph.back_edges[0]
        raise StructureError("back-edge", f"back-edge detected from pc {start} to pc {target}", start)


@contextmanager
def _no_collection() -> Iterator[None]:
    """States are many, live long and hold no cycles: the cycle collector would only walk them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _prove(program: Program, type_: ProgramType, graph: Graph, certificate: bool) -> VerifiedProgram:
    exploration, bound, explored = _attempts(program, type_, graph, 0)
    facts = _facts(program, type_, exploration.transfer.recorder, bound, explored)
    made = _certified(exploration, type_) if certificate else None
    exploration.release()
    if type_.policy.speculation:
        exploration, _, explored = _attempts(program, type_, graph, explored, ahead=True)
        if made is not None:
            made = replace(made, ahead=_certified(exploration, type_, ahead=True))
        exploration.release()
    functions: dict[int, Certificate] = {}
    parts = _apart(program, type_, graph)
    for part in parts:
        exploration, _, explored = _attempts(program, type_, part, explored)
        parts.add(exploration.walk.prototypes.called)
        if made is not None:
            functions[part.entry] = _certified(exploration, type_)
        exploration.release()
    if made is not None:
        made = replace(made, functions=functions)
    return VerifiedProgram(program, type_, replace(facts, explored=explored), made)


def _apart(program: Program, type_: ProgramType, graph: Graph) -> Apart:
    """The walks in which global functions are verified by themselves; none where the policy does not ask for that."""
    try:
        functions = prototyped(program, graph) if type_.policy.global_functions else {}
    except Refusal as refusal:
        raise failure(program, refusal) from None
    return Apart(program, graph, functions, type_.helpers)


def _certified(exploration: Exploration, type_: ProgramType, *, ahead: bool = False) -> Certificate:
    from pybpf.verifier.certify import certify

    return certify(exploration, _walk(exploration.program, type_, exploration.graph, ahead=ahead))


def _attempts(
    program: Program, type_: ProgramType, graph: Graph, explored: int, *, ahead: bool = False
) -> tuple[Exploration, int, int]:
    """The exploration that succeeded, the bound on instructions, and how many instructions were looked at, `explored` before.

    `ahead`: what a processor may do ahead of comparisons is explored; it need not end, since a processor notices.
    """
    live = live_at_entry(program, graph, type_.helpers)
    again = graph.executed_again
    bound = 0
    error: VerifierError | BudgetExceeded | None = None
    # What a processor may do ahead is asked of every path by itself.
    apart = type_.policy.speculation or len(program.code) <= SMALL
    for effort in APART if apart else LADDER:
        values = Values(leaks=type_.policy.pointer_leaks, byteorder=program.byteorder)
        transfer = Transfer(program, type_, values, Recorder(), again, ahead=ahead)
        exploration = Exploration(program, graph, live, transfer, effort)
        try:
            if ahead:
                exploration.explore()
            else:
                bound = exploration.run()
        except Failure as failed:
            explored += failed.explored
            error = _error(program, graph, failed, explored, ahead=ahead)
            exploration.release()
            if failed.imprecise:
                continue
            raise error from None
        except BudgetExceeded as exceeded:
            # Without joins the states multiply; what a narrower attempt found says more.
            exploration.release()
            raise error or exceeded from None
        return exploration, bound, explored + exploration.explored
    assert error is not None
    raise error


def _facts(program: Program, type_: ProgramType, recorder: Recorder, bound: int, explored: int) -> Facts:
    """What was proved, if it is within the policy's limits."""
    if bound > type_.policy.max_instructions:
        raise _too_many(program, bound, type_.policy, explored)
    if recorder.stack_size > type_.policy.max_stack:
        raise _too_deep(program, recorder.stack_size, type_.policy, explored)
    return recorder.facts(program, max_instructions=bound, explored=explored)


def _too_many(program: Program, bound: int, policy: Policy, explored: int) -> VerifierError:
    message = f"one run may execute {bound} instructions, more than the {policy.max_instructions} that the policy allows"
    refusal = Refusal("instruction-limit", message, f"at most {policy.max_instructions}", f"at most {bound}")
    return failure(program, refusal, explored=explored)


def _too_deep(program: Program, stack: int, policy: Policy, explored: int) -> VerifierError:
    message = f"the frames of nested calls take {stack} bytes of stack together, more than {policy.max_stack}"
    refusal = Refusal("stack-depth", message, f"at most {policy.max_stack}", f"{stack} bytes")
    return failure(program, refusal, explored=explored)


def _error(program: Program, graph: Graph, failed: Failure, explored: int, *, ahead: bool) -> VerifierError:
    node, refusal = failed.node, failed.refusal
    if ahead:
        refusal = found_ahead(refusal)
    elif graph.prototyped:
        refusal = by_itself(refusal, graph)
    registers: tuple[str, ...] = ()
    if node is not None:
        registers = _registers(node)
    return failure(
        program,
        refusal,
        path=_path(program, node),
        registers=registers,
        definite=node is None or not node.joined,
        explored=explored,
    )


def _path(program: Program, node: Node | None) -> list[Step]:
    """The blocks from the entry to the failure."""
    steps: list[Step] = []
    while node is not None:
        pc = node.place[1]
        steps.append(Step(pc, program.source(pc), _registers(node)))
        node = node.parent
    steps.reverse()
    return steps


def _registers(node: Node) -> tuple[str, ...]:
    return tuple(f"r{i} = {cell!r}" for i, cell in enumerate(node.state.cells[:11]) if cell is not None)
