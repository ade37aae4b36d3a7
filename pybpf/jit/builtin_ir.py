"""The machine code behind `pybpf.jit.builtin`: functions that CPython calls with Python objects; those for batches are in `batch_ir`.

The names that they need of CPython are of its stable ABI (docs.python.org/3/c-api/stable.html), 3.11 and later. A record, in bytes:

     0  cell     where the address of the program's `run_batch` is kept, which may change between runs
     8  state    the state of the runs
    16  minimum  the fewest bytes of a packet
    24  limit    the most
    32  copies   not 0 if the program may write into packets: it is given a copy
    40  busy     not 0 while a run is under way, or was stopped and nobody has asked why
    48  result   the type of what `run` gives, a tuple of three
    56  count    how many names of verdicts there are
    64  names    where these objects are, by value; null for none
    72  other    the name of every other value, null if the value is its own name
    80  items    where the items of a tuple begin
    88  newer    the last result, and
    96  older    the one before: both are held, and used again as soon as nobody else has them
"""

from __future__ import annotations

from typing import Final

from pybpf.jit import batch_ir
from pybpf.jit.builder import METADATA

CELL, STATE, MINIMUM, LIMIT, COPIES, BUSY, RESULT, COUNT, NAMES, OTHER, ITEMS, NEWER, OLDER = range(0, 104, 8)
EXPORTS: Final = ("call", "run", "call_each", *batch_ir.EXPORTS)

_SIMPLE_BUFFER: Final = 0  # PyBUF_SIMPLE


def _field(name: str, offset: int, type_: str = "i64") -> str:
    """Instructions that load a word of the record."""
    return (
        f"  %{name}.at = getelementptr inbounds i8, ptr %record, i64 {offset}\n"
        f"  %{name} = load {type_}, ptr %{name}.at"
    )


TEXT: Final = f"""
%view = type {{ ptr, ptr, i64, i64, i32, i32, ptr, ptr, ptr, ptr, ptr }}

@PyBytes_Type = external global i8

declare void @Py_IncRef(ptr)
declare void @Py_DecRef(ptr)
declare ptr @PyBytes_AsString(ptr)
declare i64 @PyBytes_Size(ptr)
declare ptr @PyBytes_FromStringAndSize(ptr, i64)
declare ptr @PyObject_Str(ptr)
declare ptr @PyObject_Vectorcall(ptr, ptr, i64, ptr)
declare ptr @PyType_GenericAlloc(ptr, i64)
declare ptr @PyTuple_GetItem(ptr, i64)
declare i64 @PyTuple_Size(ptr)
declare ptr @PyList_GetItem(ptr, i64)
declare ptr @PyEval_SaveThread()
declare void @PyEval_RestoreThread(ptr)
declare ptr @PyCapsule_GetPointer(ptr, ptr)
declare i32 @PyObject_GetBuffer(ptr, ptr, i32)
declare void @PyBuffer_Release(ptr)
declare void @PyErr_Clear()
declare ptr @PyObject_CallFunctionObjArgs(ptr, ...)
declare ptr @PyLong_FromUnsignedLongLong(i64)
declare ptr @PyLong_FromLongLong(i64)
declare i64 @PyLong_AsLongLong(ptr)

; 0: the value is in %result and, if %left is not null, the packet afterwards in it, a new reference to bytes. 1: left to Python, nothing has
; been run. 2: the run was stopped; the record stays busy. 3: an exception is set, nothing has been run.
define internal i32 @one(ptr %record, ptr %packet, ptr %result, ptr %left) alwaysinline nounwind {{
entry:
  %view = alloca %view, align 8
  %offset = alloca i64
  %length.slot = alloca i32
  %type.at = getelementptr inbounds i8, ptr %packet, i64 8
  %type = load ptr, ptr %type.at
  %plain = icmp eq ptr %type, @PyBytes_Type
  br i1 %plain, label %bytes, label %buffer

bytes:
  %bytes.data = call ptr @PyBytes_AsString(ptr %packet)
  %bytes.length = call i64 @PyBytes_Size(ptr %packet)
  br label %look

buffer:
  %got = call i32 @PyObject_GetBuffer(ptr %packet, ptr %view, i32 {_SIMPLE_BUFFER})
  %refused = icmp ne i32 %got, 0
  br i1 %refused, label %clear, label %seen, !prof !2

clear:
  call void @PyErr_Clear()
  ret i32 1

seen:
  %view.data = load ptr, ptr %view
  %view.length.at = getelementptr inbounds i8, ptr %view, i64 16
  %view.length = load i64, ptr %view.length.at
  br label %look

look:
  %data = phi ptr [ %bytes.data, %bytes ], [ %view.data, %seen ]
  %length = phi i64 [ %bytes.length, %bytes ], [ %view.length, %seen ]
{_field("minimum", MINIMUM)}
{_field("limit", LIMIT)}
{_field("copies", COPIES)}
{_field("busy", BUSY)}
  %free = icmp eq i64 %busy, 0
  %enough = icmp uge i64 %length, %minimum
  %short = icmp ule i64 %length, %limit
  %fits = and i1 %enough, %short
  %ready = and i1 %fits, %free
  br i1 %ready, label %prepare, label %refuse, !prof !0

refuse:
  call void @release(i1 %plain, ptr %view)
  ret i32 1

prepare:
  %writes = icmp ne i64 %copies, 0
  %lost = icmp eq ptr %left, null
  br i1 %lost, label %aside, label %keep

aside:
  br i1 %writes, label %scratch, label %go

scratch:
  %copy = alloca i8, i64 %length, align 16
  br label %go

keep:
  %same = xor i1 %writes, true
  %itself = and i1 %plain, %same
  br i1 %itself, label %share, label %make

share:
  call void @Py_IncRef(ptr %packet)
  store ptr %packet, ptr %left
  br label %go

; Bytes that are made empty are nobody else's yet, and the run may write into them. Those of one byte that are made full are CPython's own.
make:
  %made = call ptr @PyBytes_FromStringAndSize(ptr null, i64 %length)
  %none = icmp eq ptr %made, null
  br i1 %none, label %no.memory, label %fill, !prof !2

no.memory:
  call void @release(i1 %plain, ptr %view)
  ret i32 3

fill:
  store ptr %made, ptr %left
  %inside = call ptr @PyBytes_AsString(ptr %made)
  call void @llvm.memcpy.p0.p0.i64(ptr %inside, ptr %data, i64 %length, i1 false)
  br label %go

go:
  %to = phi ptr [ null, %aside ], [ %copy, %scratch ], [ null, %share ], [ null, %fill ]
  %from = phi ptr [ %data, %aside ], [ %data, %scratch ], [ %data, %share ], [ %inside, %fill ]
  store i64 1, ptr %busy.at
  %cell = load ptr, ptr %record
  %entry.point = load ptr, ptr %cell
{_field("state", STATE, "ptr")}
  store i64 0, ptr %offset
  %narrow = trunc i64 %length to i32
  store i32 %narrow, ptr %length.slot
  %done = call i64 %entry.point(ptr %state, ptr %from, i64 %length, ptr %offset, ptr %length.slot, ptr %result, i64 1, ptr %to, i64 %length)
  call void @release(i1 %plain, ptr %view)
  %ran = icmp eq i64 %done, 1
  br i1 %ran, label %finish, label %stopped, !prof !0

finish:
  store i64 0, ptr %busy.at
  ret i32 0

stopped:
  br i1 %lost, label %out, label %drop

drop:
  %unwanted = load ptr, ptr %left
  call void @Py_DecRef(ptr %unwanted)
  br label %out

out:
  ret i32 2
}}

define internal void @release(i1 %plain, ptr %view) alwaysinline nounwind {{
  br i1 %plain, label %done, label %give.back
give.back:
  call void @PyBuffer_Release(ptr %view)
  br label %done
done:
  ret void
}}

define internal ptr @record(ptr %self) nounwind {{
  %capsule = call ptr @PyTuple_GetItem(ptr %self, i64 0)
  %record = call ptr @PyCapsule_GetPointer(ptr %capsule, ptr null)
  ret ptr %record
}}

; PyObject *call(PyObject *self, PyObject *packet): r0, or what Python makes of it. self is (capsule, unusual, stopped).
define ptr @call(ptr %self, ptr %packet) nounwind {{
entry:
  %result = alloca i64
  %record = call ptr @record(ptr %self)
  %status = call i32 @one(ptr %record, ptr %packet, ptr %result, ptr null)
  switch i32 %status, label %stopped [ i32 0, label %plain i32 1, label %unusual ]

plain:
  %value = load i64, ptr %result
  %number = call ptr @PyLong_FromUnsignedLongLong(i64 %value)
  ret ptr %number

unusual:
  %python = call ptr @PyTuple_GetItem(ptr %self, i64 1)
  %answer = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr %python, ptr %packet, ptr null)
  ret ptr %answer

stopped:
  %raise = call ptr @PyTuple_GetItem(ptr %self, i64 2)
  %raised = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr %raise, ptr null)
  ret ptr %raised
}}

; PyObject *run(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names): r0, the packet afterwards and the verdict,
; or what Python makes of it, which knows the other arguments. self is (capsule, unusual, stopped).
define ptr @run(ptr %self, ptr %arguments, i64 %count, ptr %names) nounwind {{
entry:
  %result = alloca i64
  %left = alloca ptr
  %single = icmp eq i64 %count, 1
  %unnamed = icmp eq ptr %names, null
  %alone = and i1 %single, %unnamed
  br i1 %alone, label %go, label %unusual, !prof !0

go:
  %record = call ptr @record(ptr %self)
  %packet = load ptr, ptr %arguments
  %status = call i32 @one(ptr %record, ptr %packet, ptr %result, ptr %left)
  switch i32 %status, label %failed [ i32 0, label %plain i32 1, label %unusual i32 2, label %stopped ]

plain:
  %value = load i64, ptr %result
  %after = load ptr, ptr %left
  %made = call ptr @result(ptr %record, i64 %value, ptr %after)
  ret ptr %made

unusual:
  %python = call ptr @PyTuple_GetItem(ptr %self, i64 1)
  %answer = call ptr @PyObject_Vectorcall(ptr %python, ptr %arguments, i64 %count, ptr %names)
  ret ptr %answer

stopped:
  %raise = call ptr @PyTuple_GetItem(ptr %self, i64 2)
  %raised = call ptr (ptr, ...) @PyObject_CallFunctionObjArgs(ptr %raise, ptr null)
  ret ptr %raised

failed:
  ret ptr null
}}

; A tuple of the value, the packet, whose reference it takes, and the verdict; null with an exception set.
define internal ptr @result(ptr %record, i64 %value, ptr %packet) alwaysinline nounwind {{
entry:
  %number = call ptr @PyLong_FromUnsignedLongLong(i64 %value)
  %no.number = icmp eq ptr %number, null
  br i1 %no.number, label %drop.packet, label %look, !prof !2

look:
{_field("count", COUNT)}
{_field("names", NAMES, "ptr")}
{_field("other", OTHER, "ptr")}
  %listed = icmp ult i64 %value, %count
  br i1 %listed, label %table, label %known

table:
  %name.at = getelementptr inbounds ptr, ptr %names, i64 %value
  %listed.name = load ptr, ptr %name.at
  br label %known

known:
  %name = phi ptr [ %other, %look ], [ %listed.name, %table ]
  %nameless = icmp eq ptr %name, null
  br i1 %nameless, label %spell, label %share

spell:
  %spelled = call ptr @PyObject_Str(ptr %number)
  %unspelled = icmp eq ptr %spelled, null
  br i1 %unspelled, label %drop.number, label %tuple, !prof !2

share:
  call void @Py_IncRef(ptr %name)
  br label %tuple

tuple:
  %verdict = phi ptr [ %spelled, %spell ], [ %name, %share ]
{_field("items", ITEMS)}
{_field("older", OLDER, "ptr")}
  %references = load i32, ptr %older
  %ours = icmp eq i32 %references, 1
  br i1 %ours, label %again, label %new

; Nobody else has the last result but one: it becomes the new one. What it held is bytes, a number and a text, so nothing runs when that goes.
again:
  %old.first.at = getelementptr inbounds i8, ptr %older, i64 %items
  %old.second.at = getelementptr inbounds i8, ptr %old.first.at, i64 8
  %old.third.at = getelementptr inbounds i8, ptr %old.first.at, i64 16
  %old.first = load ptr, ptr %old.first.at
  %old.second = load ptr, ptr %old.second.at
  %old.third = load ptr, ptr %old.third.at
  call void @fill(ptr %older, i64 %items, ptr %number, ptr %packet, ptr %verdict)
  call void @Py_DecRef(ptr %old.first)
  call void @Py_DecRef(ptr %old.second)
  call void @Py_DecRef(ptr %old.third)
  br label %note

new:
{_field("type", RESULT, "ptr")}
  %made = call ptr @PyType_GenericAlloc(ptr %type, i64 3)
  %none = icmp eq ptr %made, null
  br i1 %none, label %drop.verdict, label %replace, !prof !2

replace:
  call void @fill(ptr %made, i64 %items, ptr %number, ptr %packet, ptr %verdict)
  %replaced = load ptr, ptr %older.at
  call void @Py_DecRef(ptr %replaced)
  br label %note

note:
  %given = phi ptr [ %older, %again ], [ %made, %replace ]
  call void @Py_IncRef(ptr %given)
{_field("newer", NEWER, "ptr")}
  store ptr %given, ptr %newer.at
  store ptr %newer, ptr %older.at
  ret ptr %given

drop.verdict:
  call void @Py_DecRef(ptr %verdict)
  br label %drop.number

drop.number:
  call void @Py_DecRef(ptr %number)
  br label %drop.packet

drop.packet:
  call void @Py_DecRef(ptr %packet)
  ret ptr null
}}

; The items of a tuple of three. Since 3.14 a tuple remembers its hash in front of them, -1 before it is asked for.
define internal void @fill(ptr %tuple, i64 %items, ptr %first, ptr %second, ptr %third) alwaysinline nounwind {{
  %before = getelementptr inbounds i8, ptr %tuple, i64 24
  %first.at = getelementptr inbounds i8, ptr %tuple, i64 %items
  %second.at = getelementptr inbounds i8, ptr %first.at, i64 8
  %third.at = getelementptr inbounds i8, ptr %first.at, i64 16
  store i64 -1, ptr %before
  store ptr %first, ptr %first.at
  store ptr %second, ptr %second.at
  store ptr %third, ptr %third.at
  ret void
}}

; PyObject *call_each(PyObject *self, PyObject *arguments): (list, address of the results, first, end), the first of the packets that is
; not done, -1 - i where run i was stopped.
define ptr @call_each(ptr %self, ptr %arguments) nounwind {{
entry:
  %record = call ptr @record(ptr %self)
  %list = call ptr @PyTuple_GetItem(ptr %arguments, i64 0)
  %results.object = call ptr @PyTuple_GetItem(ptr %arguments, i64 1)
  %results.number = call i64 @PyLong_AsLongLong(ptr %results.object)
  %first.object = call ptr @PyTuple_GetItem(ptr %arguments, i64 2)
  %first = call i64 @PyLong_AsLongLong(ptr %first.object)
  %end.object = call ptr @PyTuple_GetItem(ptr %arguments, i64 3)
  %end = call i64 @PyLong_AsLongLong(ptr %end.object)
  %results = inttoptr i64 %results.number to ptr
  br label %loop

loop:
  %i = phi i64 [ %first, %entry ], [ %next, %done ]
  %more = icmp slt i64 %i, %end
  br i1 %more, label %run, label %out

run:
  %packet = call ptr @PyList_GetItem(ptr %list, i64 %i)
  %result = getelementptr inbounds i64, ptr %results, i64 %i
  %status = call i32 @one(ptr %record, ptr %packet, ptr %result, ptr null)
  switch i32 %status, label %stopped [ i32 0, label %done i32 1, label %out ]

done:
  %next = add nsw i64 %i, 1
  br label %loop

stopped:
  %minus = xor i64 %i, -1
  br label %out

out:
  %where = phi i64 [ %i, %loop ], [ %i, %run ], [ %minus, %stopped ]
  %number = call ptr @PyLong_FromLongLong(i64 %where)
  ret ptr %number
}}

{batch_ir.TEXT}
{METADATA}"""
