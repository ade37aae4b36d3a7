"""Object files as images: the same functions, wherever an image lies; and what is refused."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

import pytest

import pybpf
from pybpf.jit import codegen, engine
from pybpf.jit.codegen import Level
from pybpf.jit.driver import EXPORTS
from pybpf.jit.image import Image, NotFlat, link
from pybpf.jit.loader import LoadedImage, loads_images
from pybpf.jit.source import ProgramSource

pytestmark = pytest.mark.skipif(not loads_images(), reason="images are for x86-64 and POSIX")

CONSTANTS = """
@table = internal constant [4 x i64] [i64 10, i64 20, i64 30, i64 40]
@mask = internal constant <4 x i64> <i64 1, i64 2, i64 3, i64 4>, align 32
define i64 @at(i64 %i) {
  %p = getelementptr i64, ptr @table, i64 %i
  %r = load i64, ptr %p
  %v = load <4 x i64>, ptr @mask, align 32
  %e = extractelement <4 x i64> %v, i64 %i
  %s = add i64 %r, %e
  ret i64 %s
}
"""

CASES = "\n".join(f"case{i}:\n  %r{i} = mul i64 %x, {i * i + 7}\n  br label %out" for i in range(12))
SWITCH = f"""
define i64 @choose(i64 %x) {{
  switch i64 %x, label %out [ {" ".join(f"i64 {i}, label %case{i}" for i in range(12))} ]
{CASES}
out:
  %r = phi i64 [ 0, %0 ], {", ".join(f"[ %r{i}, %case{i} ]" for i in range(12))}
  ret i64 %r
}}
"""

CALLS = """
declare i64 @imaxabs(i64)
declare i32 @towupper(i32)
define i64 @both(i64 %x) {
  %a = call i64 @imaxabs(i64 %x)
  %n = trunc i64 %x to i32
  %u = call i32 @towupper(i32 %n)
  %b = zext i32 %u to i64
  %s = add i64 %a, %b
  ret i64 %s
}
define i64 @twice(i64 %x) noinline {
  %r = call i64 @both(i64 %x)
  %s = mul i64 %r, 2
  ret i64 %s
}
"""

ADDRESS = """
declare i64 @imaxabs(i64)
define i64 @call_by(i64 %x, ptr %where) {
  store volatile ptr @imaxabs, ptr %where
  %f = load volatile ptr, ptr %where
  %r = call i64 %f(i64 %x)
  ret i64 %r
}
"""


def function(text: str, name: str, level: Level = Level.FULL) -> object:
    code = LoadedImage(link(engine.emit(text, level), [name]))
    made = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(code.address(name))
    made.code = code  # type: ignore[attr-defined]
    return lambda x: made(x, ctypes.create_string_buffer(8))


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        (CONSTANTS, "at", {0: 11, 1: 22, 3: 44}),
        (SWITCH, "choose", {**{i: i * (i * i + 7) for i in range(12)}, 12: 0, -1: 0}),
        (CALLS, "both", {7: 14, 97: 97 + 65}),
        (CALLS, "twice", {97: 2 * (97 + 65)}),
        (ADDRESS, "call_by", {-5: 5, 9: 9}),
    ],
)
def test_functions_do_what_their_text_says(text, name, expected, level):
    call = function(text, name, level)
    assert {x: call(x) for x in expected} == expected  # type: ignore[operator]


def test_image_survives_its_bytes():
    image = link(engine.emit(CALLS), ["both", "twice"])
    assert image.imports == ("imaxabs", "towupper")
    assert Image.from_bytes(image.to_bytes()) == image
    assert LoadedImage(Image.from_bytes(image.to_bytes())).address("twice")


EXAMPLES = Path(__file__).parents[2] / "examples/objects/v3"


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.o")), ids=lambda path: path.stem)
def test_every_example_is_an_image(path):
    """None needs LLVM's linker, which keeps memory."""
    for program in pybpf.load(path).programs.values():
        text = ProgramSource(pybpf.verify(program)).text()
        for level in Level:
            assert set(link(engine.emit(text, level), EXPORTS).exports) == set(EXPORTS)


def test_data_that_can_be_written_is_refused_and_llvm_s_linker_takes_it():
    text = "@count = internal global i64 5\ndefine i64 @next(i64 %x) {\n" + (
        "  %old = atomicrmw add ptr @count, i64 %x seq_cst\n  ret i64 %old\n}\n"
    )
    with pytest.raises(NotFlat, match="section"):
        link(engine.emit(text), ["next"])
    code = codegen.build(text, ["next"])
    call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code.address("next"))
    assert [call(2), call(1)] == [5, 7]


def test_other_machines_and_missing_functions_are_refused():
    object_file = bytearray(engine.emit(CALLS))
    with pytest.raises(NotFlat, match="no function other"):
        link(bytes(object_file), ["both", "other"])
    struct.pack_into("<H", object_file, 18, 183)  # EM_AARCH64
    with pytest.raises(NotFlat, match="not an object file for x86-64"):
        link(bytes(object_file), ["both"])


def test_pages_are_executable_and_not_writable():
    code = LoadedImage(link(engine.emit(CALLS), ["both"]))
    address = code.address("both")
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(end, 16) for end in line.split()[0].split("-"))
        if low <= address < high:
            assert line.split()[1] == "r-xp"
            return
    raise AssertionError("not mapped")
