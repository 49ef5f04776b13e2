"""Reduce samples to rows, one value a metric and row. Compiled; `decimate_py` is the specification."""

import numpy as np

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_RawFree as free
from libc.stdint cimport int64_t, uint8_t, uint64_t

from callstats.kernels._binning cimport Output, Reduced, Row, plan_rows, reduce_columns
from callstats.kernels._columns cimport Columns, columns_of, resize

cdef object empty = np.empty
cdef object INT64 = np.dtype(np.int64)
cdef object UINT8 = np.dtype(np.uint8)
cdef object UINT64 = np.dtype(np.uint64)


cdef inline void* freeze(object array) except? NULL:
    """Make an array read-only, and return where its cells are. The array must outlive the pointer."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(array, &buffer, PyBUF_SIMPLE)
    PyBuffer_Release(&buffer)
    array.setflags(False)
    return buffer.buf


def decimate_columns(
    const int64_t[::1] times,
    const uint64_t[:, ::1] values,
    const uint8_t[:, ::1] present,
    const int64_t[::1] counts,
    const int64_t[::1] offsets,
    int64_t max_samples,
    bint zero,
    const int64_t[:, ::1] plan,
):
    """Reduce each series of a batch to at most max_samples rows."""
    cdef Py_ssize_t k = plan.shape[1], m = 1, i, j, n, r = 0
    cdef int64_t one[2]
    cdef int64_t one_end[2]
    cdef const int64_t* starts = one
    cdef int64_t* ends = one_end
    cdef int64_t[::1] to_offsets
    cdef Columns source = columns_of(times, values, present, counts)
    cdef Output out
    cdef Reduced reduced
    cdef Row* rows = NULL
    row_offsets = None
    if offsets is None:
        one[0] = 0
        one[1] = times.shape[0]
    else:
        m = offsets.shape[0] - 1
        starts = &offsets[0]
        row_offsets = to_offsets = empty(m + 1, INT64)
        ends = &to_offsets[0]
    ends[0] = 0
    for i in range(m):
        n = starts[i + 1] - starts[i]
        r += n if n < max_samples else max_samples
    if not resize(&rows, r + 1, sizeof(Row)):
        raise MemoryError
    try:
        r = 0
        with nogil:
            for i in range(m):
                r += plan_rows(source.times, starts[i], starts[i + 1] - starts[i], max_samples, rows + r)
                ends[i + 1] = r
        times_and_counts = empty((2, r), INT64)  # in one array: each array less saves time
        out.times = <int64_t*>freeze(times_and_counts)
        out.counts = out.times + r
        out_values = empty((k, r), UINT64)
        out.values = <uint64_t*>freeze(out_values)
        out_present = None
        out.present = NULL
        for j in range(k):
            if present is not None or plan[0, j] < 0:
                out_present = empty((k, r), UINT8)
                out.present = <uint8_t*>freeze(out_present)
                break
        with nogil:
            reduced = reduce_columns(&source, &plan[0, 0] if k else NULL, k, rows, r, starts, ends, m, zero, &out)
    finally:
        free(rows)
    return (
        times_and_counts[0],
        out_values,
        out_present if reduced.holes else None,
        times_and_counts[1] if reduced.grouped else None,
        row_offsets,
        None if reduced.fault_column < 0 else (reduced.fault_row, reduced.fault_column),
    )
