"""How an instruction reads: between a row of the table with its operands, and a line of text.

No syntax is written down here. Each row carries its text; one lexer reads that text and a user's line alike, and what is
left when registers and numbers are replaced by placeholders is the key under which the row is found::

    table   r{dst} = *(u32 *)(r{src} {off})  ─┐
    line    r2 = *(u32 *)(r1 - 8)            ─┴▶  r = * ( u32 * ) ( r # )  ─▶  the row; dst 2, src 1, off -8
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Final, Literal, NamedTuple

from pybpf.errors import AssemblyError
from pybpf.instruction import Instruction
from pybpf.isa import KERNEL_OPS, MAX_REGISTER, OPS, Kind, Op

Syntax = Literal["pseudo-c", "mnemonic"]

_TOKEN: Final = re.compile(
    r"""
    (?P<skip>
        # what disassemblers print at the start of a line: a slot number and bytes, or an address before a label
        (?m:^)[ \t]*\d+:(?:[ \t]+(?:[0-9a-f]{2}[ ]){7}(?:(?:[0-9a-f]{2}[ ]){8})?[0-9a-f]{2}(?=\s))?
      | (?m:^)[0-9a-f]{16}(?=[ ]<)
      | [ \t\r\f\v]+ | (?:\#|//)[^\n]* | /\*(?s:.*?)\*/ )
    | (?P<newline> \n )
    | (?P<semicolon> ;[^\n]* )
    | (?P<string> "(?:[^"\\\n]|\\.)*" )
    | (?P<angle> <[A-Za-z_.$][\w.$]*(?:\+0x[0-9a-f]+)?> )
    | (?P<operand> (?:%?[rw]|\+[ ])?\{[a-z]+\} )  # in the texts of the table alone
    | (?P<register> (?:%?[rw]\d+|%fp)(?![\w.$]) )
    | (?P<number> (?:\+[ \t]*)?(?:-[ \t]*)?(?:0[xX][0-9a-fA-F]+|0b[01]+|\d+)(?!\w) )
    | (?P<sign> s?(?:<<=|>>=|[-+*/%&|^<>=!]=|[<>]) | [-=*&(),:\[\]] )
    | (?P<word> [A-Za-z_.$][\w.$]* )
    """,
    re.VERBOSE | re.ASCII,
)


class Token(NamedTuple):
    """A piece of a line, and where it stands: `line` and `column` from 1, `source` the whole line."""

    kind: str
    text: str
    line: int
    column: int
    source: str

    def error(self, message: str) -> AssemblyError:
        """An error that blames this token."""
        return AssemblyError(message, self.line, self.column, self.source)

    @property
    def name(self) -> str:
        """The name that the token writes: a word as it is, or what stands in quotes or angle brackets."""
        if self.kind == "angle":
            return self.text[1:-1]
        if self.kind != "string":
            return self.text
        try:
            return self.text[1:-1].encode("ascii").decode("unicode_escape")
        except UnicodeError:
            raise self.error("a quoted name holds ASCII and the escapes of Python") from None


def lines(text: str) -> Iterator[list[Token]]:
    """The tokens of each line that holds any. Raises `AssemblyError` for what is no token."""
    found: list[Token] = []
    for token in _tokens(text):
        match token.kind:
            case "newline":
                if found:
                    yield found
                found = []
            case "semicolon":
                # LLVM takes it between two instructions: never drop the second one silently.
                if found and (_is_code(token.text[1:], "pseudo-c") or _is_code(token.text[1:], "mnemonic")):
                    raise token.error("';' starts a comment: write each instruction on a line of its own")
            case "skip":
                pass
            case _:
                found.append(token)
    if found:
        yield found


def _tokens(text: str) -> Iterator[Token]:
    sources, line, start, position = text.split("\n"), 1, 0, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        kind, piece = (str(match.lastgroup), match.group()) if match else ("", "")
        token = Token(kind, piece, line, position - start + 1, sources[line - 1])
        if match is None:
            raise token.error(_unreadable(text[position:]))
        yield token
        position = match.end()
        if "\n" in piece:
            line, start = line + piece.count("\n"), text.rindex("\n", 0, position) + 1


def _is_code(text: str, syntax: Syntax) -> bool:
    try:
        return any(read(line, syntax) for line in lines(text))
    except AssemblyError:
        return False


def _unreadable(rest: str) -> str:
    if rest.startswith("/*"):
        return "comment is not closed"
    if rest.startswith('"'):
        return "name is not closed: a second '\"' is missing on the line"
    if number := re.match(r"[-+]?\w+", rest, re.ASCII):
        return f"{number.group()!r} is no number"
    return f"unexpected character {rest[0]!r}"


class Value(NamedTuple):
    """An operand as it was written: a number, or a name with the number that is added to it."""

    token: Token
    number: int | None
    name: str | None = None


class Match(NamedTuple):
    """A row that reads like a line, and its operands by the names that the row's text has for them."""

    op: Op
    operands: dict[str, Value]


class _Form(NamedTuple):
    """A row under the shape of its text: for each placeholder the operand's name, or the number that must stand there."""

    op: Op
    slots: tuple[str | int, ...]


def _spellings(op: Op, syntax: Syntax) -> Iterable[str]:
    """The row's text, and variants that assemblers take for it; a displacement of zero may be left out."""
    texts = [op.syntax, *_pseudo_c(op)] if syntax == "pseudo-c" else [op.mnemonic, *_ubpf(op)]
    return dict.fromkeys([*texts, *(re.sub(r" ?\{off\}| \+ \{imm\}", "", text) for text in texts)])


def _pseudo_c(op: Op) -> Iterator[str]:
    """Where a load or store moves fewer than 8 bytes, clang calls their register w or r by ISA level."""
    value = "dst" if op.kind is Kind.LOAD or op.code == "load_acquire" else "src"
    if op.kind in (Kind.LOAD, Kind.STORE, Kind.ATOMIC) and op.code != "memsx" and op.size < 8:
        other = {"r": "w", "w": "r"}
        yield re.sub(rf"([rw])(\{{{value}\}})", lambda m: other[m[1]] + m[2], op.syntax)


def _ubpf(op: Op) -> Iterator[str]:
    """The names of uBPF and of bpf_conformance, where they are not those of binutils."""
    suffix = "32" if op.width == 32 else ""
    match op.kind, op.code:
        case Kind.ATOMIC, "load_acquire" | "store_release":
            return
        case Kind.ATOMIC, code:
            if code == "add":  # binutils before 2.41
                yield f"xadd{'w' if op.size == 4 else 'dw'} [%r{{dst}}{{off}}],%r{{src}}"
            yield f"lock {code.replace('_', ' ')}{suffix} [%r{{dst}}{{off}}],%r{{src}}"
        case Kind.END, code:
            yield f"{code.replace('bswap', 'swap')}{op.width} %r{{dst}}"
        case Kind.ALU, "movs8" | "movs16" | "movs32" as code:
            yield f"movsx{code.removeprefix('movs')}{op.width} %r{{dst}},%r{{src}}"
        case Kind.JUMP, "gotol":
            yield "ja32 {target}"
        case Kind.CALL, "helper":
            yield "call helper {imm}"
        case Kind.CALL, "kfunc":
            yield "call runtime {imm}"
        case Kind.CALL_LOCAL, _:
            yield "call {target}"
        case Kind.CALL_REGISTER, _:
            yield "callx %r{dst}"


@cache
def _forms(syntax: Syntax) -> dict[tuple[str, ...], list[_Form]]:
    forms: dict[tuple[str, ...], list[_Form]] = {}
    for op in OPS + KERNEL_OPS:
        for text in _spellings(op, syntax):
            (tokens,) = lines(text)
            forms.setdefault(tuple(map(_placeholder, tokens)), []).append(_Form(op, tuple(_slots(tokens))))
    return forms


def _slots(tokens: Iterable[Token]) -> Iterator[str | int]:
    for token in tokens:
        if token.kind == "operand":
            yield token.text.strip("%rw+ {}")
        elif token.kind in ("register", "number"):
            yield int(token.text.lstrip("%rw"))


def _placeholder(token: Token) -> str:
    """What stands in a shape: ``r`` or ``w`` for a register, ``#`` for a number, any other token for itself."""
    if token.kind in ("register", "operand") and (name := token.text.lstrip("%"))[0] in "rwf":
        return name[0].replace("f", "r")
    return "#" if token.kind in ("number", "operand") else token.text


@cache
def words(syntax: Syntax = "pseudo-c") -> frozenset[str]:
    """The words of a syntax: they stand for themselves and are no names, unless they are quoted."""
    return frozenset(
        word for shape in _forms(syntax) for word in shape if word[0].isalpha() and len(word) > 1
    )


def read(line: Sequence[Token], syntax: Syntax = "pseudo-c") -> list[Match]:
    """The rows that read like a line: one, or two where the text of both is the same, as of the two kinds of ``call``.

    Raises `AssemblyError` that says where the line stops being an instruction.
    """
    pieces = list(_pieces(line, words(syntax)))
    values = [piece for _, piece in pieces if isinstance(piece, Value)]
    forms = _forms(syntax).get(tuple(shape for shape, _ in pieces))
    if forms is None:
        raise _unexpected(pieces, _forms(syntax))
    blamed: Value | None = None
    matches = []
    for op, slots in forms:
        operands: dict[str, Value] = {}
        for slot, value in zip(slots, values, strict=True):
            expected = operands.setdefault(slot, value).number if isinstance(slot, str) else slot
            if value.number != expected:
                blamed = value
                break
        else:
            matches.append(Match(op, operands))
    if not matches and blamed is not None:
        pattern = forms[0].op.syntax if syntax == "pseudo-c" else forms[0].op.mnemonic
        raise blamed.token.error(f"unexpected {blamed.token.text!r}: the instruction reads {pattern!r}")
    return matches


def _pieces(line: Sequence[Token], vocabulary: frozenset[str]) -> Iterator[tuple[str, Token | Value]]:
    """Each token under its placeholder; a name with the number added to it is one operand."""
    rest = list(reversed(line))
    while rest:
        token = rest.pop()
        if token.kind == "register":
            number = MAX_REGISTER if token.text == "%fp" else int(token.text.lstrip("%rw"))
            if number > MAX_REGISTER:
                raise token.error(f"there is no register {token.text}: they are r0 to r{MAX_REGISTER}")
            yield _placeholder(token), Value(token, number)
        elif token.kind == "number":
            if rest and rest[-1].kind == "angle":
                rest.pop()  # llvm-objdump repeats a jump's target as <name+0x8>
            yield "#", Value(token, _number(token))
        elif token.kind in ("string", "angle") or (token.kind == "word" and token.text not in vocabulary):
            signed = bool(rest) and rest[-1].kind == "number" and rest[-1].text[0] in "+-"
            yield "#", Value(token, _number(rest.pop()) if signed else None, token.name)
        else:
            yield token.text, token


def _number(token: Token) -> int:
    text = token.text.replace(" ", "").replace("\t", "").removeprefix("+")
    try:
        return int(text, 0)
    except ValueError:
        raise token.error(f"{text} has leading zeros: write 0x for hexadecimal or none") from None


_EXPECTED: Final = {"r": "r0 to r10", "w": "w0 to w10", "#": "a number or name"}


def _unexpected(
    pieces: Sequence[tuple[str, Token | Value]], forms: Iterable[tuple[str, ...]]
) -> AssemblyError:
    """The first token with which no instruction goes on, and what could stand there."""
    shape = tuple(placeholder for placeholder, _ in pieces)
    depth = max(n for n in range(len(shape) + 1) if any(key[:n] == shape[:n] for key in forms))
    following = {key[depth] if len(key) > depth else "" for key in forms if key[:depth] == shape[:depth]}
    expected = sorted(
        _EXPECTED.get(word, repr(word) if word else "the end of the line") for word in following
    )
    last = pieces[min(depth, len(pieces) - 1)][1]
    token = last.token if isinstance(last, Value) else last
    if depth == len(shape):
        token = token._replace(column=token.column + len(token.text), text="")
        message = "the instruction is incomplete"
    elif depth == 0:
        message = f"no instruction starts with {token.text!r}"
    else:
        message = f"unexpected {token.text!r}"
    if token.kind == "word" and (near := difflib.get_close_matches(token.text, following, 1, 0.5)):
        return token.error(f"{message}: did you mean {near[0]!r}?")
    return token.error(
        f"{message}: expected {', '.join(expected)}" if depth and len(expected) <= 12 else message
    )


def quoted(name: str) -> str:
    """A name as it is read back: in quotes where it is no plain word, or means something else.

    >>> quoted("flows"), quoted("r1"), quoted("call")
    ('flows', '"r1"', '"call"')
    """
    match = _TOKEN.fullmatch(name)
    plain = match is not None and match.lastgroup == "word" and name not in words() | words("mnemonic")
    return name if plain else '"' + name.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'


def write(
    instruction: Instruction,
    syntax: Syntax = "pseudo-c",
    *,
    imm: str | None = None,
    target: str | None = None,
) -> str:
    """The text of an instruction; `imm` and `target` are names to write instead of these numbers.

    >>> from pybpf.instruction import decode
    >>> write(decode(bytes.fromhex("79a1f8ff00000000"))[0])
    'r1 = *(u64 *)(r10 - 8)'
    """
    op, number = instruction.op, instruction.imm
    if op.slots == 2:
        low, high = number & 0xFFFF_FFFF, number >> 32
        number_text = hex(number) if op.code == "imm" else str(low)
    else:
        high, number_text = 0, str(number & 0xFFFF_FFFF if op.code == "helper" else number)
    offset = instruction.offset
    displacement = f"{'-' if offset < 0 else '+'} {abs(offset)}" if syntax == "pseudo-c" else f"{offset:+d}"
    distance = number if op.kind is Kind.CALL_LOCAL or op.code == "gotol" else offset
    return (op.syntax if syntax == "pseudo-c" else op.mnemonic).format(
        dst=instruction.dst,
        src=instruction.src,
        off=displacement,
        imm=number_text if imm is None else imm,
        next=high,
        target=f"{distance:+d}" if target is None else target,
    )
