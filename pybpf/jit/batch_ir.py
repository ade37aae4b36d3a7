"""The machine code behind `pybpf.jit.batch`: functions that CPython calls to run batches. They are part of the module of `pybpf.jit.builtin_ir`.

A record of the batch that was run last, in bytes:

     0  cell     where the address of the program's `run_batch` is kept, which may change between runs
     8  state    the state of the runs
    16  array    the type that results are of, an array of numpy
    24  batch    the batch, 0 where there is none: the numbers up to `limit` are about it
    32  base     where its data are,
    40  size     how many bytes these are,
    48  offsets  where the packets are in them
    56  lengths  and how long they are
    64  n        how many packets there are
    72  copy     where each is copied to first, null if the program does not write to packets
    80  limit    the length of the longest that is allowed
    88  busy     not 0 while a run is under way, or was stopped and nobody has asked why
"""

from __future__ import annotations

from typing import Final

from pybpf.jit.fitting_ir import FITTING

CELL, STATE, ARRAY, BATCH, BASE, SIZE, OFFSETS, LENGTHS, COUNT, COPY, LIMIT, BUSY = range(0, 96, 8)
EXPORTS: Final = ("call_arrays", "run_batch")

_WRITABLE_BUFFER: Final = 1  # PyBUF_WRITABLE
_TYPED_BUFFER: Final = (
    0x0D  # PyBUF_WRITABLE | PyBUF_FORMAT | PyBUF_ND: contiguous, and telling what its items are
)


def _argument(number: int, name: str, type_: str) -> str:
    """Instructions that read a number of the tuple of arguments, as a pointer where it is an address."""
    cast = f"inttoptr i64 %{name}.number to ptr" if type_ == "ptr" else f"add i64 %{name}.number, 0"
    return (
        f"  %{name}.object = call ptr @PyTuple_GetItem(ptr %arguments, i64 {number})\n"
        f"  %{name}.number = call i64 @PyLong_AsLongLong(ptr %{name}.object)\n"
        f"  %{name} = {cast}"
    )


_NUMBERS: Final = {
    0: ("cell", "ptr"), 1: ("state", "ptr"), 2: ("base", "ptr"), 3: ("size", "i64"), 4: ("offsets", "ptr"), 5: ("lengths", "ptr"),
    7: ("n", "i64"), 8: ("copy", "ptr"), 9: ("limit", "i64"),
}  # fmt: skip
_ARGUMENTS: Final = "\n".join(_argument(number, *parameter) for number, parameter in _NUMBERS.items())


def _field(name: str, offset: int, type_: str = "i64", record: str = "%record") -> str:
    """Instructions that load a word of a record."""
    return f"  %{name}.at = getelementptr inbounds i8, ptr {record}, i64 {offset}\n  %{name} = load {type_}, ptr %{name}.at"


TEXT: Final = f"""
; PyObject *call_arrays(PyObject *self, PyObject *arguments): the address of the cell and the arguments of `run_batch`, the results as an object that has them in
; a buffer; the result of that, up to the first packet that does not fit. Without the GIL.
define ptr @call_arrays(ptr %self, ptr %arguments) nounwind {{
entry:
  %view = alloca %view, align 8
{_ARGUMENTS}
  %results.object = call ptr @PyTuple_GetItem(ptr %arguments, i64 6)
  %got = call i32 @PyObject_GetBuffer(ptr %results.object, ptr %view, i32 {_WRITABLE_BUFFER})
  %refused = icmp ne i32 %got, 0
  br i1 %refused, label %failed, label %seen, !prof !2

seen:
  %results = load ptr, ptr %view
  %bytes.at = getelementptr inbounds i8, ptr %view, i64 16
  %bytes = load i64, ptr %bytes.at
  %room = lshr i64 %bytes, 3
  %enough = icmp ule i64 %n, %room
  br i1 %enough, label %go, label %short, !prof !0

short:
  call void @PyBuffer_Release(ptr %view)
  %none = call ptr @PyLong_FromLongLong(i64 -1)
  ret ptr %none

go:
  %entry.point = load ptr, ptr %cell
  %thread = call ptr @PyEval_SaveThread()
  %fitting = call i64 @fitting(i64 %size, ptr %offsets, ptr %lengths, i64 %n, i64 %limit)
  %done = call i64 %entry.point(ptr %state, ptr %base, i64 %size, ptr %offsets, ptr %lengths, ptr %results, i64 %fitting, ptr %copy, i64 %limit)
  call void @PyEval_RestoreThread(ptr %thread)
  call void @PyBuffer_Release(ptr %view)
  %number = call ptr @PyLong_FromLongLong(i64 %done)
  ret ptr %number

failed:
  ret ptr null
}}

; PyObject *run_batch(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names): (batch, out) or (batch, out=out), where the batch is the one of
; the record and `out` as it should be: `out`. All else is left to Python. self is (capsule, unusual, stopped, "out"). Without the GIL.
define ptr @run_batch(ptr %self, ptr %arguments, i64 %count, ptr %names) nounwind {{
entry:
  %view = alloca %view, align 8
  %record = call ptr @record(ptr %self)
  %unnamed = icmp eq ptr %names, null
  br i1 %unnamed, label %positional, label %named

positional:
  %two = icmp eq i64 %count, 2
  br i1 %two, label %look, label %unusual, !prof !0

named:
  %one = icmp eq i64 %count, 1
  %names.count = call i64 @PyTuple_Size(ptr %names)
  %single = icmp eq i64 %names.count, 1
  %both = and i1 %one, %single
  br i1 %both, label %spelled, label %unusual, !prof !0

spelled:
  %name = call ptr @PyTuple_GetItem(ptr %names, i64 0)
  %out.name = call ptr @PyTuple_GetItem(ptr %self, i64 3)
  %is.out = icmp eq ptr %name, %out.name
  br i1 %is.out, label %look, label %unusual, !prof !0

look:
  %given = load ptr, ptr %arguments
  %out.at = getelementptr inbounds i8, ptr %arguments, i64 8
  %out = load ptr, ptr %out.at
  %type.at = getelementptr inbounds i8, ptr %out, i64 8
  %type = load ptr, ptr %type.at
{_field("array", ARRAY, "ptr")}
{_field("batch", BATCH, "ptr")}
{_field("busy", BUSY)}
  %known = icmp eq ptr %given, %batch
  %is.array = icmp eq ptr %type, %array
  %free = icmp eq i64 %busy, 0
  %usual = and i1 %known, %is.array
  %ready = and i1 %usual, %free
  br i1 %ready, label %ask, label %unusual, !prof !0

ask:
  %got = call i32 @PyObject_GetBuffer(ptr %out, ptr %view, i32 {_TYPED_BUFFER})
  %refused = icmp ne i32 %got, 0
  br i1 %refused, label %clear, label %seen, !prof !2

clear:
  call void @PyErr_Clear()
  br label %unusual

seen:
{_field("n", COUNT)}
{_field("bytes", 16, record="%view")}
{_field("itemsize", 24, record="%view")}
{_field("dimensions", 36, "i32", record="%view")}
{_field("format", 40, "ptr", record="%view")}
  %letters = load i16, ptr %format, align 1
  %long = icmp eq i16 %letters, {ord("L")}
  %long.long = icmp eq i16 %letters, {ord("Q")}
  %unsigned = or i1 %long, %long.long
  %wide = icmp eq i64 %itemsize, 8
  %row = icmp eq i32 %dimensions, 1
  %room = shl i64 %n, 3
  %enough = icmp eq i64 %bytes, %room
  %words = and i1 %unsigned, %wide
  %places = and i1 %row, %enough
  %fits = and i1 %words, %places
  br i1 %fits, label %go, label %release, !prof !0

release:
  call void @PyBuffer_Release(ptr %view)
  br label %unusual

go:
  store i64 1, ptr %busy.at
  %results = load ptr, ptr %view
{_field("cell", CELL, "ptr")}
  %entry.point = load ptr, ptr %cell
{_field("state", STATE, "ptr")}
{_field("base", BASE, "ptr")}
{_field("size", SIZE)}
{_field("offsets", OFFSETS, "ptr")}
{_field("lengths", LENGTHS, "ptr")}
{_field("copy", COPY, "ptr")}
{_field("limit", LIMIT)}
  %thread = call ptr @PyEval_SaveThread()
  %fitting = call i64 @fitting(i64 %size, ptr %offsets, ptr %lengths, i64 %n, i64 %limit)
  %done = call i64 %entry.point(ptr %state, ptr %base, i64 %size, ptr %offsets, ptr %lengths, ptr %results, i64 %fitting, ptr %copy, i64 %limit)
  call void @PyEval_RestoreThread(ptr %thread)
  call void @PyBuffer_Release(ptr %view)
  %ran = icmp eq i64 %done, %n
  br i1 %ran, label %finish, label %stopped, !prof !0

finish:
  store i64 0, ptr %busy.at
  call void @Py_IncRef(ptr %out)
  ret ptr %out

stopped:
  %number = call ptr @PyLong_FromLongLong(i64 %done)
  %raise = call ptr @PyTuple_GetItem(ptr %self, i64 2)
  %raised = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr %raise, ptr %number, ptr null)
  call void @Py_DecRef(ptr %number)
  ret ptr %raised

unusual:
  %python = call ptr @PyTuple_GetItem(ptr %self, i64 1)
  %answer = call ptr @PyObject_Vectorcall(ptr %python, ptr %arguments, i64 %count, ptr %names)
  ret ptr %answer
}}

{FITTING}"""
