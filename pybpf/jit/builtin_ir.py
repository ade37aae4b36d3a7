"""The machine code behind `pybpf.jit.builtin`: functions that CPython calls with Python objects.

The names that they need of CPython are of its stable ABI (docs.python.org/3/c-api/stable.html), 3.11 and later. A record, in bytes:

     0  cell     where the address of the program's `run_batch` is kept, which may change between runs
     8  state    the state of the runs
    16  minimum  the fewest bytes of a packet
    24  limit    the most
    32  copies   not 0 if the program may write into packets: it is given a copy
    40  busy     not 0 while a run is under way, or was stopped and nobody has asked why
"""

from __future__ import annotations

from typing import Final

from pybpf.jit.builder import METADATA

BUSY: Final = 40
EXPORTS: Final = ("call", "call_each", "call_arrays")

_SIMPLE_BUFFER: Final = 0  # PyBUF_SIMPLE

TEXT: Final = f"""
%view = type {{ ptr, ptr, i64, i64, i32, i32, ptr, ptr, ptr, ptr, ptr }}

declare ptr @PyTuple_GetItem(ptr, i64)
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

; 0: the value is in %result. 1: left to Python, nothing has been run. 2: the run was stopped; the record stays busy.
define internal i32 @one(ptr %record, ptr %packet, ptr %result) nounwind {{
entry:
  %view = alloca %view, align 8
  %offset = alloca i64
  %length.slot = alloca i32
  %got = call i32 @PyObject_GetBuffer(ptr %packet, ptr %view, i32 {_SIMPLE_BUFFER})
  %refused = icmp ne i32 %got, 0
  br i1 %refused, label %clear, label %look, !prof !2

clear:
  call void @PyErr_Clear()
  ret i32 1

look:
  %data = load ptr, ptr %view
  %length.at = getelementptr inbounds i8, ptr %view, i64 16
  %length = load i64, ptr %length.at
  %minimum.at = getelementptr inbounds i8, ptr %record, i64 16
  %minimum = load i64, ptr %minimum.at
  %limit.at = getelementptr inbounds i8, ptr %record, i64 24
  %limit = load i64, ptr %limit.at
  %copies.at = getelementptr inbounds i8, ptr %record, i64 32
  %copies = load i64, ptr %copies.at
  %busy.at = getelementptr inbounds i8, ptr %record, i64 {BUSY}
  %busy = load i64, ptr %busy.at
  %free = icmp eq i64 %busy, 0
  %enough = icmp uge i64 %length, %minimum
  %short = icmp ule i64 %length, %limit
  %fits = and i1 %enough, %short
  %ready = and i1 %fits, %free
  br i1 %ready, label %prepare, label %leave, !prof !0

leave:
  call void @PyBuffer_Release(ptr %view)
  ret i32 1

prepare:
  store i64 1, ptr %busy.at
  %writes = icmp ne i64 %copies, 0
  br i1 %writes, label %scratch, label %go

scratch:
  %copy = alloca i8, i64 %length, align 16
  br label %go

go:
  %to = phi ptr [ null, %prepare ], [ %copy, %scratch ]
  %cell = load ptr, ptr %record
  %entry.point = load ptr, ptr %cell
  %state.at = getelementptr inbounds i8, ptr %record, i64 8
  %state = load ptr, ptr %state.at
  store i64 0, ptr %offset
  %narrow = trunc i64 %length to i32
  store i32 %narrow, ptr %length.slot
  %done = call i64 %entry.point(ptr %state, ptr %data, i64 %length, ptr %offset, ptr %length.slot, ptr %result, i64 1, ptr %to, i64 %length)
  call void @PyBuffer_Release(ptr %view)
  %ran = icmp eq i64 %done, 1
  br i1 %ran, label %finish, label %stopped, !prof !0

finish:
  store i64 0, ptr %busy.at
  ret i32 0

stopped:
  ret i32 2
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
  %status = call i32 @one(ptr %record, ptr %packet, ptr %result)
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
  %status = call i32 @one(ptr %record, ptr %packet, ptr %result)
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

; PyObject *call_arrays(PyObject *self, PyObject *arguments): the address of the cell and the arguments of `run_batch`; its result.
define ptr @call_arrays(ptr %self, ptr %arguments) nounwind {{
  %cell.object = call ptr @PyTuple_GetItem(ptr %arguments, i64 0)
  %cell.number = call i64 @PyLong_AsLongLong(ptr %cell.object)
  %cell = inttoptr i64 %cell.number to ptr
  %state.object = call ptr @PyTuple_GetItem(ptr %arguments, i64 1)
  %state.number = call i64 @PyLong_AsLongLong(ptr %state.object)
  %state = inttoptr i64 %state.number to ptr
  %base.object = call ptr @PyTuple_GetItem(ptr %arguments, i64 2)
  %base.number = call i64 @PyLong_AsLongLong(ptr %base.object)
  %base = inttoptr i64 %base.number to ptr
  %size.object = call ptr @PyTuple_GetItem(ptr %arguments, i64 3)
  %size = call i64 @PyLong_AsLongLong(ptr %size.object)
  %offsets.object = call ptr @PyTuple_GetItem(ptr %arguments, i64 4)
  %offsets.number = call i64 @PyLong_AsLongLong(ptr %offsets.object)
  %offsets = inttoptr i64 %offsets.number to ptr
  %lengths.object = call ptr @PyTuple_GetItem(ptr %arguments, i64 5)
  %lengths.number = call i64 @PyLong_AsLongLong(ptr %lengths.object)
  %lengths = inttoptr i64 %lengths.number to ptr
  %results.object = call ptr @PyTuple_GetItem(ptr %arguments, i64 6)
  %results.number = call i64 @PyLong_AsLongLong(ptr %results.object)
  %results = inttoptr i64 %results.number to ptr
  %n.object = call ptr @PyTuple_GetItem(ptr %arguments, i64 7)
  %n = call i64 @PyLong_AsLongLong(ptr %n.object)
  %copy.object = call ptr @PyTuple_GetItem(ptr %arguments, i64 8)
  %copy.number = call i64 @PyLong_AsLongLong(ptr %copy.object)
  %copy = inttoptr i64 %copy.number to ptr
  %limit.object = call ptr @PyTuple_GetItem(ptr %arguments, i64 9)
  %limit = call i64 @PyLong_AsLongLong(ptr %limit.object)
  %entry = load ptr, ptr %cell
  %thread = call ptr @PyEval_SaveThread()
  %done = call i64 %entry(ptr %state, ptr %base, i64 %size, ptr %offsets, ptr %lengths, ptr %results, i64 %n, ptr %copy, i64 %limit)
  call void @PyEval_RestoreThread(ptr %thread)
  %number = call ptr @PyLong_FromLongLong(i64 %done)
  ret ptr %number
}}

{METADATA}!2 = !{{!"branch_weights", i32 1, i32 2000000}}
"""
