# cython: language_level=3
"""Bins: samples into rows, one value a metric and row. Compiled; `decimate_py` is the specification."""

import numpy as np

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memset

from callstats.kernels._binning cimport (
    Column,
    Row,
    mean_time,
    plan_rows,
    reduce_rows,
    weigh_rows,
)

cdef object empty = np.empty
cdef object INT64 = np.dtype(np.int64)
cdef object UINT64 = np.dtype(np.uint64)


def decimate(
    const int64_t[::1] times,
    const uint64_t[:, ::1] values,
    const uint8_t[:, ::1] present,
    const int64_t[::1] counts,
    const int64_t[::1] offsets,
    int64_t max_samples,
    bint zero,
    const int64_t[:, ::1] columns,
):
    """Reduce each series of a batch to at most max_samples rows.

    Series i holds the samples offsets[i] to offsets[i + 1]; without offsets there is one series, and none are given back. Column
    j of the result is metric columns[0, j] (-1: a new one), whose absent values are taken from metric columns[1, j] (-1: none),
    reduced by columns[2, j]; a row of one sample takes its own value only. Where columns[3, j] is 0, a series that has no value
    of its own for the column gets none. Gives times, values, present (None: all), counts (None: all one), offsets, and the
    (row, column) of the first sum that is too large.

    The caller guarantees non-decreasing times, max_samples >= 1, and 0 wherever a value is absent.
    """
    cdef Py_ssize_t k = columns.shape[1], m = 1
    cdef Py_ssize_t i, j, n, r = 0, row
    cdef int64_t one[2]
    cdef int64_t one_end[2]
    cdef const int64_t* bounds = one
    cdef int64_t* ends = one_end
    cdef int64_t[::1] to_offsets
    row_offsets = None
    if offsets is None:
        one[0] = 0
        one[1] = times.shape[0]
    else:
        m = offsets.shape[0] - 1
        bounds = &offsets[0]
        row_offsets = to_offsets = empty(m + 1, INT64)
        ends = &to_offsets[0]
    ends[0] = 0
    for i in range(m):
        n = bounds[i + 1] - bounds[i]
        r += n if n < max_samples else max_samples
    cdef Row* rows = <Row*>malloc((r + 1) * sizeof(Row))
    if rows == NULL:
        raise MemoryError
    cdef const int64_t* t = &times[0] if times.shape[0] else NULL
    cdef const int64_t* c = &counts[0] if counts is not None and counts.shape[0] else NULL
    cdef int64_t[:, ::1] to_stamps
    cdef uint64_t[:, ::1] to_values
    cdef uint8_t[:, ::1] to_present
    cdef uint8_t* to_there = NULL
    cdef uint8_t* there
    cdef Column column
    cdef bint holes = False, grouped = False
    cdef Py_ssize_t too_large = 0, fault_row = 0, fault_column = -1
    try:
        r = 0
        with nogil:
            for i in range(m):
                r += plan_rows(t, bounds[i], bounds[i + 1] - bounds[i], max_samples, rows + r)
                ends[i + 1] = r
            weigh_rows(c, rows, r)
        stamps = empty((2, r), INT64)  # times and counts: each array less is time won
        out_values = empty((k, r), UINT64)
        out_present = None
        to_stamps = stamps
        to_values = out_values
        for j in range(k):
            if present is not None or columns[0, j] < 0:
                to_present = out_present = np.ones((k, r), dtype=np.uint8)
                to_there = &to_present[0, 0] if r else NULL
                break
        fault_row = r
        with nogil:
            for row in range(r):
                to_stamps[0, row] = mean_time(t, c, rows + row)
                to_stamps[1, row] = <int64_t>rows[row].total
                grouped = grouped or rows[row].total != 1
            for j in range(k if r else 0):
                column.own = &values[columns[0, j], 0] if columns[0, j] >= 0 else NULL
                column.other = &values[columns[1, j], 0] if columns[1, j] >= 0 else NULL
                column.own_present = &present[columns[0, j], 0] if present is not None and columns[0, j] >= 0 else NULL
                column.other_present = &present[columns[1, j], 0] if present is not None and columns[1, j] >= 0 else NULL
                column.reducer = columns[2, j]
                there = to_there + j * r if to_there != NULL else NULL
                if columns[3, j] or column.own_present == NULL:
                    too_large = fault_row
                    if reduce_rows(&column, c, rows, r, zero, &to_values[j, 0], there, &too_large):
                        holes = True
                    if too_large < fault_row:
                        fault_row = too_large
                        fault_column = j
                    continue
                for i in range(m):
                    n = bounds[i + 1] - bounds[i]
                    row = ends[i]
                    if memchr(column.own_present + bounds[i], 1, n) == NULL:
                        memset(&to_values[j, 0] + row, 0, (ends[i + 1] - row) * sizeof(uint64_t))
                        memset(there + row, 0, ends[i + 1] - row)
                        holes = True
                    elif reduce_rows(
                        &column, c, rows + row, ends[i + 1] - row, zero, &to_values[j, 0] + row, there + row, &too_large
                    ):
                        holes = True
    finally:
        free(rows)
    return (
        stamps[0],
        out_values,
        out_present if holes else None,
        stamps[1] if grouped else None,
        row_offsets,
        None if fault_column < 0 else (fault_row, fault_column),
    )
