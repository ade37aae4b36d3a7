"""What the verifier asks for beyond memory safety and termination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Policy:
    """What the verifier asks for beyond memory safety and termination. Every switch is documented in docs/verifier.md."""

    loops: bool = True
    """Loops are allowed where their end is proved; otherwise any back edge is refused (Oko; Linux before 5.3)."""
    functions: bool = True
    """Functions may be called that are not helpers (Linux: by privileged users only)."""
    strict_alignment: bool = False
    """Refuse accesses that are not proved to be naturally aligned."""
    pointer_leaks: bool = True
    """Pointers may be stored in maps, packets and contexts, returned, and compared or computed with as numbers."""
    uninitialised_stack: bool = False
    """Stack bytes may be read before they are written; they read as zero (privileged Linux since 6.3)."""
    speculation: bool = False
    """What a processor may do ahead of a comparison is verified too: the side of a branch that no run takes, and what is
    left of an offset that was masked (Linux's answer to Spectre, for unprivileged users). pybpf's engines mask nothing: this
    says whether Linux would take the program.
    """
    linux_limits: bool = False
    """Refuse what Linux refuses though nothing is unsafe about it, so that what is accepted here is accepted there."""
    global_functions: bool = False
    """Global functions are verified by themselves too, knowing of their arguments what their prototypes say, and calls of them
    knowing no more of what they do: Linux, where the loader tells it the types of functions, as libbpf does. Functions without a
    prototype are verified where they are called, as static ones are.
    """
    wide_shifts: bool = False
    """Immediate shifts may be as wide as the register or wider; execution masks the amount."""
    isa: int = 4
    """The newest ISA level (clang's -mcpu=v1 to v4) whose instructions are accepted."""
    groups: tuple[str, ...] | None = None
    """The conformance groups (RFC 9669, section 2.4) whose instructions are accepted, None for all; one of 64 bits includes the
    one of 32. Oko, say, is ``Policy(isa=1, groups=("base64", "divmul64"))``.
    """
    max_size: int = 1_000_000
    """Slots of a program (Linux, BPF_COMPLEXITY_LIMIT_INSNS)."""
    max_instructions: int = 1 << 40
    """How many instructions one run may at most execute, as far as that is proved: a loop that ends only because a 64-bit
    counter must overflow does not end in practice. Linux's own figure, a million, can be asked for.
    """
    max_stack: int = 512
    """Bytes of stack that the frames of nested calls may take together (Linux, MAX_BPF_STACK)."""
    max_explored: int = 250_000
    """Budget of the verification itself: instructions that it looks at, each in every state that differs."""
    max_states: int = 100_000
    """How many states at the beginnings of blocks it may keep."""
    max_memory: int = 256 << 20
    """Bytes that it may take for states and for the numbers in them, by an estimate that is the same on every machine."""


UNPRIVILEGED: Final = Policy(
    loops=False,
    functions=False,
    pointer_leaks=False,
    speculation=True,
    linux_limits=True,
    max_size=4096,
    max_instructions=1_000_000,
)
"""What Linux asks of the programs of users without CAP_BPF, who may load types `socket_filter` and `cgroup_skb` only."""
