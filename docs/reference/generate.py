"""Writes the pages of the reference that are the tables of pybpf: ``python docs/reference/generate.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from pybpf import asm, directives, helpers, map_types
from pybpf.helpers import MEMORY
from pybpf.helpers.access import GROUPS, select
from pybpf.isa import KERNEL_OPS, OPS, Kind, Op
from pybpf.maps import TYPES as MADE
from pybpf.program_types import ALIASES, BY_NAME, OBJECTS, Context, FieldKind, ProgramType

HERE = Path(__file__).parent
NOTE: Final = "<!-- Written by generate.py from the tables of pybpf: change those. -->"

# Kind -> (heading, section of RFC 9669, what the instructions do).
KINDS: Final = {
    Kind.ALU: (
        "Arithmetic",
        "4.1",
        "`r` names 64 bits of a register, `w` its lower 32; an operation on `w` clears the upper half. An immediate is "
        "sign-extended. Shift amounts are cut to the width. Division by zero gives 0, and the remainder is the dividend; `s/` "
        "and `s%` truncate towards zero. `(s8)` and its like sign-extend.",
    ),
    Kind.END: (
        "Byte order",
        "4.2",
        "The lower 16, 32 or 64 bits, from the machine's order to little-endian or big-endian, or swapped; the bits above "
        "become zero. The machine's order is that of the object.",
    ),
    Kind.LOAD_IMM64: (
        "Wide loads",
        "5.4",
        "Two slots; the second holds the upper 32 bits. What the number stands for is told by the source field. In "
        "programs with names the text is `r1 = flows ll` for a map and `r1 = .rodata + 8 ll` for a byte of a map's value.",
    ),
    Kind.LOAD: ("Loads", "5.1, 5.2", "From memory at a register and a displacement; `u` zero-extends, `s` sign-extends."),
    Kind.STORE: ("Stores", "5.1", "To memory at a register and a displacement, of a register or a sign-extended immediate."),
    Kind.ATOMIC: (
        "Atomic operations",
        "5.3",
        "Indivisible towards every other access of the same memory. The forms that fetch leave what the memory held in the "
        "register; `cmpxchg` stores where r0 equals the memory and leaves in r0 what that held. `load_acquire` and "
        "`store_release` order the accesses around them; they are Linux's, not the RFC's.",
    ),
    Kind.PACKET: (
        "Packet loads",
        "5.5",
        "Into r0, in network byte order, from the packet of a socket filter. An access outside the packet ends the program "
        "with result 0.",
    ),
    Kind.JUMP: ("Jumps", "4.3", "Count slots from the next instruction; `gotol` with 32 bits."),
    Kind.BRANCH: ("Branches", "4.3", "As jumps, where the comparison holds; `&` is true where a bit is common."),
    Kind.CALL: ("Calls of helpers", "4.3.1", "Arguments in r1 to r5, the result in r0; r1 to r5 are lost. A `kfunc` is a function of the kernel, by its BTF id."),
    Kind.CALL_LOCAL: ("Calls of functions", "4.3.2", "To a slot, counted from the next instruction, with a stack of its own."),
    Kind.CALL_REGISTER: ("Calls through a register", "none", "What clang emits for a call of a pointer; not in the RFC."),
    Kind.EXIT: ("Exit", "4.3", "Returns r0 to the caller."),
    Kind.KERNEL: (
        "Linux's kernel",
        "none",
        "What clang emits for v4 and only a running kernel gives a meaning to: a branch that it takes when a loop has gone on for "
        "too long, jumps by a table, pages in two address spaces. Read and written; a program that has them is `unsupported`.",
    ),
}  # fmt: skip


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A table in Markdown."""
    heads = list(heads)
    yield line(heads)
    yield line("---" for _ in heads)
    yield from map(line, rows)


def line(cells: Iterable[str]) -> str:
    """A row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def prose(docstring: str | None) -> str:
    """A docstring as Markdown: its literals in single quotes, its first line left out."""
    return (docstring or "").split("\n", 1)[1].strip("\n").replace("``", "`")


def fixed(op: Op) -> str:
    """The fields that tell a row from others of its opcode."""
    fields = ((name, getattr(op, name)) for name in ("src", "offset", "imm"))
    return ", ".join(
        f"{name} {value:#x}" if value > 9 else f"{name} {value}" for name, value in fields if value
    )


def operands(text: str) -> str:
    """A row's text with its operands as people write them."""
    names = {"dst": "D", "src": "S", "off": "+ N", "imm": "N", "next": "N", "target": "L"}
    return f"`{text.format(**names)}`"


def instructions() -> Iterator[str]:
    """instructions.md."""
    yield "# Instructions"
    yield NOTE
    yield (
        f"The {len(OPS)} instructions that pybpf runs: those of RFC 9669, `callx`, and the two ordered accesses; and those that it only "
        "reads. `D` and `S` are the "
        "numbers of registers, `N` is a number, `+ N` a displacement of 16 bits with its sign, `L` a label or a distance. "
        "Groups are the RFC's conformance groups; levels are clang's (`-mcpu=v1` to `v4`), the first that has the "
        "instruction. Every field that is not named must be zero, and pybpf refuses it where it is not."
    )
    yield "## Assembler text"
    yield prose(asm.__doc__)
    yield "### Directives"
    yield prose(directives.__doc__)
    for kind, (heading, section, meaning) in KINDS.items():
        yield f"## {heading}"
        yield meaning + (f" RFC 9669, section {section}." if section != "none" else "")
        rows = [op for op in OPS + KERNEL_OPS if op.kind is kind]
        cells = (
            (
                operands(op.syntax),
                operands(op.mnemonic),
                f"0x{op.opcode:02x}",
                fixed(op),
                op.group,
                f"v{op.isa}",
            )
            for op in rows
        )
        yield "\n".join(table(("text", "mnemonic", "opcode", "fields", "group", "level"), cells))


def helper_functions() -> Iterator[str]:
    """helpers.md."""
    yield "# Helper functions"
    yield NOTE
    yield prose(helpers.__doc__)
    yield (
        "A helper that *runs* has a body in pybpf; any other is known to the verifier alone, and where that cannot prove its contract "
        "yet, the table names the feature that is missing, and a program that calls it is `unsupported`. *Notes*: `moves the "
        "packet` loses every pointer into it; `packet` takes memory arguments that lie in the packet; `acquires` gives what must be "
        "given back; `casts` gives its argument as another type; `sleeps` is for programs that may; `GPL` is for programs under that "
        "licence, which Linux asks for and pybpf does not."
    )
    for heading, rows in (("Oko's numbers", helpers.OKO), ("Linux's numbers", helpers.LINUX)):
        yield f"## {heading}"
        cells = (
            (
                str(number),
                f"`{each.name}`",
                f"`{each.contract}`",
                ", ".join(_notes(each)),
                ", ".join(sorted(each.unproved)) or "yes",
                "yes" if each.body is not None else "no",
            )
            for number, each in sorted(rows.items())
        )
        yield "\n".join(table(("number", "name", "contract", "notes", "verified", "runs"), cells))
    yield "## What a program type may call"
    yield "`filter` may call all of Oko's; the other types have Linux's numbers. A group stands for the helpers and groups that it names."
    yield "\n".join(table(("group", "helpers"), ((f"`{n}`", " ".join(g.split())) for n, g in GROUPS.items())))
    yield "\n".join(table(("types", "helpers", "with another contract"), map(_type_row, _by_table())))


def _type_row(same: tuple[list[str], ProgramType]) -> tuple[str, str, str]:
    """What the types of one table may call: groups, then what is in none of them."""
    names, type = same
    left, groups = set(type.helpers), []
    for group in sorted(GROUPS, key=lambda group: -len(select(group))):
        if set(select(group)) <= set(type.helpers) and left & set(select(group)):
            groups.append(f"`{group}`")
            left -= set(select(group))
    others = [type.helpers[number].name for number in sorted(left)]
    variants = (
        f"`{number} {each.name} {each.contract}`"
        for number, each in type.helpers.items()
        if each.contract != helpers.LINUX[number].contract
    )
    return ", ".join(names), " ".join(groups + others), ", ".join(variants)


def _by_table() -> list[tuple[list[str], ProgramType]]:
    """Program types with Linux's numbers, those with the same helpers together."""
    groups: list[tuple[list[str], ProgramType]] = []
    for name, type in BY_NAME.items():
        if type.numbering is not helpers.LINUX:
            continue
        for names, other in groups:
            if other.helpers == type.helpers:
                names.append(f"`{name}`")
                break
        else:
            groups.append(([f"`{name}`"], type))
    return groups


def _notes(helper: helpers.Helper) -> Iterator[str]:
    """What is to be known of a helper beside its contract."""
    yield from (f"moves the {effect}" for effect in sorted(helper.effects))
    notes = {
        "packet": helper.takes_packet and bool(MEMORY.keys() & set(helper.args)),
        "acquires": helper.acquires,
        "casts": helper.casts,
        "sleeps": helper.sleeps,
        "GPL": helper.gpl,
    }
    yield from (note for note, holds in notes.items() if holds)


def program_types_page() -> Iterator[str]:
    """program-types.md."""
    yield "# Program types"
    yield NOTE
    yield (
        "What r1 holds at the start, which results are allowed, and which sections of an object stand for a type: by libbpf's "
        "conventions, each name also with anything behind a slash. Where the attach type makes a difference, the section says it. "
        "Types that do not *run* are verified only. Other names: "
        + ", ".join(f"`{alias}` is `{name}`" for alias, name in ALIASES.items())
        + "."
    )
    heads = ("type", "sections", "context", "packet", "results", "runs")
    yield "\n".join(table(heads, map(_program_type_row, BY_NAME.values())))
    yield "## Contexts"
    yield (
        "Fields with the sizes of the loads and stores that are allowed, each at offsets that are multiples of it; a load of `front` "
        "begins where the field does."
    )
    for layout, names in _layouts().items():
        yield f"### {layout.name}: {', '.join(names)}"
        yield "\n".join(_layout_table(layout))
    yield "## Structures of the kernel"
    yield "What some fields of contexts point to, and what some helpers give."
    for kind, layout in OBJECTS.items():
        yield f"### {layout.name}: `{kind}`"
        yield "\n".join(_layout_table(layout))


def _program_type_row(type: ProgramType) -> tuple[str, ...]:
    packet = "read and written" if type.packet_writable else "read"
    sees = type.context is None or any(field.kind is FieldKind.PACKET for field in type.context.fields)
    loads = "; LD_ABS, LD_IND" if type.packet_loads else ""
    return (
        f"`{type.name}`",
        " ".join(f"`{section}`" for section in type.sections),
        f"`{type.context.name}`" if type.context is not None else "r1 the packet, r2 its length",
        (packet + loads if sees else loads.removeprefix("; ")) or "no",
        "; ".join(_results(type)),
        "yes" if type.runnable else "no",
    )


def _results(type: ProgramType) -> Iterator[str]:
    yield _range(type.returns)
    for section in type.attached:
        there = type.at(section)
        if there.returns != type.returns:
            yield f"`{section}`: {_range(there.returns)}"


def _range(returns: tuple[int, int] | None) -> str:
    return (
        "any"
        if returns is None
        else "only " + str(returns[0])
        if returns[0] == returns[1]
        else "{} to {}".format(*returns)
    )


def _layouts() -> dict[Context, list[str]]:
    """The contexts, each with the types and sections that have it."""
    layouts: dict[Context, list[str]] = {}
    for type in BY_NAME.values():
        if type.context is not None:
            layouts.setdefault(type.context, []).append(f"`{type.name}`")
            for section in type.attached:
                there = type.at(section).context
                if there is not None and there != type.context:
                    layouts.setdefault(there, []).append(f"`{section}`")
    return layouts


def _layout_table(layout: Context) -> Iterator[str]:
    rows = (
        (
            str(field.offset),
            str(field.size),
            f"`{field.name}`",
            _sizes(field.loads) + (" front" if field.front else ""),
            _sizes(field.stores) if field.writable else "",
            field.kind.value,
        )
        for field in layout.fields
    )
    return table(("offset", "size", "field", "loads", "stores", "kind"), rows)


def _sizes(sizes: tuple[int, ...] | None) -> str:
    return "1 2 4 8" if sizes is None else " ".join(map(str, sizes))


def map_types_page() -> Iterator[str]:
    """map-types.md."""
    yield "# Map types"
    yield NOTE
    yield (
        "Linux's types of maps, what a lookup from a program gives, and the helpers that take such a map. Maps of the types that are *made* "
        "exist in pybpf; the others are read, verified, and `unsupported` to create. A program that may sleep can use those marked so."
    )
    rows = (
        (
            str(type.number),
            f"`{type.name}`",
            type.gives if type.gives != "-" else "",
            " ".join(f"`{helper}`" for helper in sorted(type.helpers)),
            "yes" if type.sleepable else "no",
            "yes" if type.name in MADE else "no",
        )
        for type in map_types.TYPES.values()
    )
    yield "\n".join(table(("number", "type", "gives", "helpers", "sleeping programs", "made"), rows))
    yield (
        "A map with the flag `BPF_F_RDONLY_PROG` (0x80) is only read by programs, one with `BPF_F_WRONLY_PROG` (0x100) only written. "
        "A helper of the user's takes maps with keys and values. Into a `sockmap` or `sockhash` these types put sockets by "
        "`map_update_elem`: "
        + ", ".join(f"`{name}`" for name in sorted(map_types.SOCKET_MAP_TYPES["map_update_elem"]))
        + "."
    )
    yield "## Oko's numbers"
    numbers = ((str(number), f"`{name}`") for number, name in map_types.OKO_MAPS.items())
    yield "\n".join(table(("number", "type"), numbers))


PAGES: Final[dict[str, Callable[[], Iterator[str]]]] = {
    "instructions.md": instructions,
    "helpers.md": helper_functions,
    "program-types.md": program_types_page,
    "map-types.md": map_types_page,
}


def page(name: str) -> str:
    """The text of a page as the tables have it now."""
    return "\n\n".join(PAGES[name]()) + "\n"


if __name__ == "__main__":
    for name in PAGES:
        (HERE / name).write_text(page(name))
