"""IR of lookup3's `hashlittle` (see `pybpf.lookup3`), for a length known when the code is made and for any other.

Words are loaded as little-endian, which every machine is that we make code for.
"""

from __future__ import annotations

from typing import Final

from pybpf.jit.bytes_ir import chunks, function, load

START: Final = 0xDEAD_BEEF - (1 << 32)
BLOCK: Final = 12
UNROLLED: Final = 96
"""Bytes up to which code for a constant length is straight."""


def hashlittle_constant(length: int) -> str:
    """``i32 @hashlittle_<length>(ptr %data)``: the hash of `length` bytes with seed 0."""
    return _constant(f"i32 @hashlittle_{length}(ptr %data)", length, "0")


def hashlittle_seeded(name: str, length: int) -> str:
    """``i32 @<name>(ptr %data, i32 %seed)``: the hash of `length` bytes."""
    return _constant(f"i32 @{name}(ptr %data, i32 %seed)", length, "%seed")


def hashlittle_words(name: str, length: int) -> str:
    """``i32 @<name>(i32 %seed, i32 %w0, i32 %w1, ...)``: the hash of `length` bytes, at most `UNROLLED`, given as `words` gives them."""
    values = [f"%w{i}" for i in range(-(-length // 4))]
    signature = f"i32 @{name}(i32 %seed, {', '.join(f'i32 {value}' for value in values)})"
    text = _Text("m")
    result = text.hash(text.add("%seed", str(START + length)), values)
    return function(signature, f"{text.lines}  ret i32 {result}")


def words(prefix: str, pointer: str, length: int) -> tuple[str, list[str]]:
    """Instructions that load `length` bytes, and the names of the 32-bit words that these are, the last padded with zeros."""
    text = _Text(prefix)
    found = text.words(pointer, 0, length)
    return text.lines, found


def hashlittle() -> str:
    """``i32 @hashlittle(ptr %data, i64 %length, i32 %seed)``: the hash of any number of bytes."""
    start, block, last = _Text("s"), _Text("b"), _Text("l")
    seeded = start.add("%seed", str(START))
    first = start.add(seeded, "%narrow")
    a, b, c = block.mix(*block.added("%a", "%b", "%c", block.words("%at", 0, BLOCK)))
    cases, tails = "", ""
    phis: list[list[str]] = [[], [], []]
    for left in range(1, BLOCK + 1):
        tail = _Text(f"t{left}.")
        words = tail.words("%at", 0, left)
        cases += f"    i64 {left}, label %tail{left}\n"
        tails += f"tail{left}:\n{tail.lines}  br label %last\n"
        for phi, word in zip(phis, words + ["0"] * (3 - len(words)), strict=True):
            phi.append(f"[ {word}, %tail{left} ]")
    joined = "".join(f"  %last{i} = phi i32 {', '.join(phi)}\n" for i, phi in enumerate(phis))
    result = last.final(*last.added("%a", "%b", "%c", ["%last0", "%last1", "%last2"]))
    body = f"""
entry:
  %narrow = trunc i64 %length to i32
{start.lines}  br label %next
next:
  %at = phi ptr [ %data, %entry ], [ %behind, %block ]
  %left = phi i64 [ %length, %entry ], [ %less, %block ]
  %a = phi i32 [ {first}, %entry ], [ {a}, %block ]
  %b = phi i32 [ {first}, %entry ], [ {b}, %block ]
  %c = phi i32 [ {first}, %entry ], [ {c}, %block ]
  %more = icmp ugt i64 %left, {BLOCK}
  br i1 %more, label %block, label %tail
block:
{block.lines}  %behind = getelementptr inbounds i8, ptr %at, i64 {BLOCK}
  %less = sub nuw i64 %left, {BLOCK}
  br label %next
tail:
  switch i64 %left, label %empty [
{cases}  ]
empty:
  ret i32 %c
{tails}last:
{joined}{last.lines}  ret i32 {result}
"""
    return function("i32 @hashlittle(ptr %data, i64 %length, i32 %seed)", body, "nounwind")


def _constant(signature: str, length: int, seed: str) -> str:
    text = _Text("w")
    start = text.add(seed, str(START + length))
    if length == 0:
        return function(signature, f"{text.lines}  ret i32 {start}")
    if length > UNROLLED:
        return _constant_loop(signature, length, text, start)
    result = text.hash(start, text.words("%data", 0, length))
    return function(signature, f"{text.lines}  ret i32 {result}")


def _constant_loop(signature: str, length: int, entry: _Text, start: str) -> str:
    looped = (length - 1) // BLOCK * BLOCK
    block, last = _Text("b"), _Text("l")
    a, b, c = block.mix(*block.added("%a", "%b", "%c", block.words("%at", 0, BLOCK)))
    result = last.final(*last.added(a, b, c, last.words("%data", looped, length)))
    body = f"""
entry:
{entry.lines}  br label %block
block:
  %i = phi i64 [ 0, %entry ], [ %next, %block ]
  %a = phi i32 [ {start}, %entry ], [ {a}, %block ]
  %b = phi i32 [ {start}, %entry ], [ {b}, %block ]
  %c = phi i32 [ {start}, %entry ], [ {c}, %block ]
  %at = getelementptr inbounds i8, ptr %data, i64 %i
{block.lines}  %next = add nuw i64 %i, {BLOCK}
  %more = icmp ult i64 %next, {looped}
  br i1 %more, label %block, label %last
last:
{last.lines}  ret i32 {result}
"""
    return function(signature, body, "nounwind")


class _Text:
    """Instructions on 32-bit words, each with a name that begins with `prefix`."""

    def __init__(self, prefix: str) -> None:
        self.lines = ""
        self._prefix = prefix
        self._count = 0

    def word(self, instruction: str) -> str:
        self._count += 1
        name = f"%{self._prefix}{self._count}"
        self.lines += f"  {name} = {instruction}\n"
        return name

    def add(self, x: str, y: str) -> str:
        return self.word(f"add i32 {x}, {y}")

    def subtract(self, x: str, y: str) -> str:
        return self.word(f"sub i32 {x}, {y}")

    def xor(self, x: str, y: str) -> str:
        return self.word(f"xor i32 {x}, {y}")

    def rotate(self, x: str, k: int) -> str:
        return self.word(f"call i32 @llvm.fshl.i32(i32 {x}, i32 {x}, i32 {k})")

    def words(self, pointer: str, start: int, end: int) -> list[str]:
        """The words of the bytes between two offsets, the last one padded with zeros."""
        words: list[str] = []
        for offset, size in chunks(start, end):
            name = f"%{self._prefix}.data{offset}"
            self.lines += load(name, pointer, offset, size, shared=False)
            if size == 8:
                high = self.word(f"lshr i64 {name}, 32")
                words += [self.word(f"trunc i64 {name} to i32"), self.word(f"trunc i64 {high} to i32")]
            elif size == 4:
                words.append(name)
            else:
                part = self.word(f"zext i{8 * size} {name} to i32")
                if offset % 4:
                    words[-1] = self.word(
                        f"or i32 {words[-1]}, {self.word(f'shl i32 {part}, {offset % 4 * 8}')}"
                    )
                else:
                    words.append(part)
        return words

    def hash(self, start: str, words: list[str]) -> str:
        """The hash of some words, of which there is one at least."""
        a = b = c = start
        while len(words) > 3:
            a, b, c = self.mix(*self.added(a, b, c, words[:3]))
            words = words[3:]
        return self.final(*self.added(a, b, c, words))

    def added(self, a: str, b: str, c: str, words: list[str]) -> tuple[str, str, str]:
        """The state with up to three words added to it."""
        state = [self.add(x, word) for x, word in zip((a, b, c), words, strict=False)]
        result = (*state, *(a, b, c)[len(state) :])
        return result[0], result[1], result[2]

    def mix(self, a: str, b: str, c: str) -> tuple[str, str, str]:
        for k1, k2, k3 in ((4, 6, 8), (16, 19, 4)):
            a = self.xor(self.subtract(a, c), self.rotate(c, k1))
            c = self.add(c, b)
            b = self.xor(self.subtract(b, a), self.rotate(a, k2))
            a = self.add(a, c)
            c = self.xor(self.subtract(c, b), self.rotate(b, k3))
            b = self.add(b, a)
        return a, b, c

    def final(self, a: str, b: str, c: str) -> str:
        c = self.subtract(self.xor(c, b), self.rotate(b, 14))
        a = self.subtract(self.xor(a, c), self.rotate(c, 11))
        b = self.subtract(self.xor(b, a), self.rotate(a, 25))
        c = self.subtract(self.xor(c, b), self.rotate(b, 16))
        a = self.subtract(self.xor(a, c), self.rotate(c, 4))
        b = self.subtract(self.xor(b, a), self.rotate(a, 14))
        return self.subtract(self.xor(c, b), self.rotate(b, 24))
