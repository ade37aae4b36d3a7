"""From text to machine code: objects that load anywhere, errors that carry the text, code that stays and goes."""

from __future__ import annotations

import ctypes
import gc
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import pybpf
from pybpf.errors import InternalError
from pybpf.jit import NativeProgram, codegen, engine
from pybpf.jit.codegen import Level
from pybpf.jit.driver import EXPORTS
from pybpf.jit.loader import Code
from pybpf.jit.source import ProgramSource

VERIFIED = pybpf.verify(pybpf.Program.from_asm("r0 = r2\n exit", "filter"))

TWICE = """
define internal i64 @square(i64 %x) alwaysinline {
  %r = mul i64 %x, %x
  ret i64 %r
}
define i64 @twice(i64 %x) {
  %s = call i64 @square(i64 %x)
  %r = add i64 %s, %s
  ret i64 %r
}
"""

COPY = """
define void @copy(ptr %to, ptr %from, i64 %size) {
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %size, i1 false)
  ret void
}
"""

PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)


def call(code: Code, name: str, argument: int) -> int:
    return PROTOTYPE(code.address(name))(argument)


@pytest.mark.parametrize("level", Level)
def test_build(level):
    assert call(codegen.build(TWICE, ["twice"], level), "twice", 5) == 50


def test_object_is_loaded_as_often_as_one_likes():
    object_file = engine.emit(TWICE)
    first, second = codegen.load(object_file, ["twice"]), codegen.load(object_file, ["twice"])
    assert first.address("twice") != second.address("twice")
    assert call(first, "twice", 3) == call(second, "twice", 3) == 18


@pytest.mark.slow
def test_object_is_loaded_by_another_process(tmp_path):
    """It holds nothing that is only true of the process that made it."""
    path = tmp_path / "twice.o"
    path.write_bytes(engine.emit(TWICE))
    script = (
        "import ctypes, sys; from pathlib import Path; from pybpf.jit import codegen;"
        "code = codegen.load(Path(sys.argv[1]).read_bytes(), ['twice']);"
        "print(ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(code.address('twice'))(6))"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("72\n", "")


def test_what_code_needs_comes_from_the_process():
    code = codegen.build(COPY, ["copy"])
    source, target = ctypes.create_string_buffer(b"x" * 5000), ctypes.create_string_buffer(5001)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(code.address("copy"))(
        target, source, 5000
    )
    assert target.value == source.value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("define i64 @f() {\n  ret i64 %nothing\n}\n", "undefined value"),
        (
            "define i64 @f() {\nentry:\n  %a = add i64 %b, 1\n  %b = add i64 %a, 1\n  ret i64 %b\n}\n",
            "dominate",
        ),
    ],
)
def test_invalid_text_is_our_bug_and_comes_with_the_error(text, reason):
    with pytest.raises(InternalError, match=reason) as raised:
        engine.emit(text)
    assert text in raised.value.__notes__[0]
    assert "\n" not in str(raised.value)


def test_symbol_that_is_nowhere(capfd):
    text = "declare i64 @no_such_function()\ndefine i64 @f() {\n  %r = call i64 @no_such_function()\n  ret i64 %r\n}\n"
    with pytest.raises(InternalError, match="cannot be linked"):
        codegen.build(text, ["f"])
    assert capfd.readouterr() == ("", "")


def test_threads_compile_at_once():
    found: dict[int, int] = {}

    def work(number: int) -> None:
        code = codegen.build(TWICE.replace("%s, %s", f"%s, {number}"), ["twice"], Level.QUICK)
        found[number] = call(code, "twice", 10)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: 100 + number for number in range(8)}


@pytest.mark.slow
@pytest.mark.parametrize("form", [codegen.compile, lambda text, _, level: engine.emit(text, level)])
def test_code_that_nobody_holds_is_given_back(form):
    """An image is unmapped with its code; an object file that needed LLVM's linker leaves some kilobytes of bookkeeping (docs/jit.md).

    The module carries 400 kB of constants, so 100 programs that stayed would be 40 MB.
    """
    words = ", ".join(f"i64 {number * 0x9E37_79B9_7F4A_7C15 % 2**63}" for number in range(50_000))
    text = f"@table = internal constant [50000 x i64] [{words}]\n" + (
        "define i64 @at(i64 %i) {\n  %p = getelementptr i64, ptr @table, i64 %i\n  %r = load i64, ptr %p\n  ret i64 %r\n}\n"
    )
    compiled = form(text, ["at"], Level.QUICK)

    def cycles(count: int) -> None:
        for _ in range(count):
            code = codegen.load(compiled, ["at"])
            assert call(code, "at", 1) == 0x9E37_79B9_7F4A_7C15 % 2**63
            del code
        gc.collect()

    cycles(20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cycles(100)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 15_000


@pytest.mark.slow
def test_programs_that_come_and_go_leave_nothing():
    """Loading, binding, calling and dropping a program 20,000 times; 100 bytes of each would be 2 MB."""
    compiled = codegen.compile(ProgramSource(VERIFIED).text(), EXPORTS)

    def cycles(count: int) -> int:
        for _ in range(count):
            native = NativeProgram(
                VERIFIED.program, VERIFIED.type, codegen.load(compiled, EXPORTS), moves=False
            ).bind()
            function = native.builtin(native.run)
            assert function is not None
            assert (function.call(b"abc"), native.run(b"ab")) == (3, 2)
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    before = cycles(2000)
    assert cycles(20_000) - before < 2_000_000
