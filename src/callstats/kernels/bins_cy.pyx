# cython: language_level=3, cdivision=True
"""Bins: samples into rows, one value a metric and row. Compiled; `bins_py` is the specification."""

import numpy as np

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr

from callstats.kernels._bins cimport (
    ABSENT,
    TOO_LARGE,
    Column,
    Found,
    Row,
    mean_time,
    plan_rows,
    reduce_row,
)


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

    Series i holds the samples offsets[i] to offsets[i + 1]. Column j of the result is metric columns[0, j] (-1: a new one),
    whose absent values are taken from metric columns[1, j] (-1: none), reduced by columns[2, j]; a row of one sample takes its
    own value only. Where columns[3, j] is 0, a series that has no value of its own for the column gets none. Gives times, values, present (None: all), counts (None: all one), offsets, and the (row, column) of the first
    sum that is too large.

    The caller guarantees non-decreasing times, max_samples >= 1, and 0 wherever a value is absent.
    """
    cdef Py_ssize_t k = columns.shape[1], m = offsets.shape[0] - 1
    cdef Py_ssize_t i, j, n, r, row, begin, longest = 0
    row_offsets = np.empty(m + 1, dtype=np.int64)
    cdef int64_t[::1] ends = row_offsets
    ends[0] = 0
    for i in range(m):
        n = offsets[i + 1] - offsets[i]
        n = n if n < max_samples else max_samples
        longest = n if n > longest else longest
        ends[i + 1] = ends[i] + n
    cdef Py_ssize_t most_rows = ends[m]
    out_times = np.empty(most_rows, dtype=np.int64)
    out_values = np.empty((k, most_rows), dtype=np.uint64)
    out_present = np.empty((k, most_rows), dtype=np.uint8)
    out_counts = np.empty(most_rows, dtype=np.int64)
    if most_rows == 0:
        return out_times, out_values, None, None, row_offsets, None
    cdef int64_t[::1] to_times = out_times
    cdef uint64_t[:, ::1] to_values = out_values
    cdef uint8_t[:, ::1] to_present = out_present
    cdef int64_t[::1] to_counts = out_counts
    cdef const int64_t* t
    cdef const int64_t* c = NULL
    cdef Py_ssize_t fault_row = -1, fault_column = -1
    cdef bint holes = False, grouped = False
    cdef Found found
    cdef Column column
    cdef Row* rows = <Row*>malloc((longest + 1) * sizeof(Row))
    if rows == NULL:
        raise MemoryError
    with nogil:
        for i in range(m):
            begin = offsets[i]
            n = offsets[i + 1] - begin
            row = ends[i]
            if n == 0:
                ends[i + 1] = row
                continue
            t = &times[begin]
            if counts is not None:
                c = &counts[begin]
            r = plan_rows(t, c, n, max_samples, rows)
            ends[i + 1] = row + r
            for j in range(r):
                to_times[row + j] = mean_time(t, c, rows + j)
                to_counts[row + j] = <int64_t>rows[j].total
                grouped = grouped or rows[j].total != 1
            for j in range(k):
                column.own = &values[columns[0, j], begin] if columns[0, j] >= 0 else NULL
                column.other = &values[columns[1, j], begin] if columns[1, j] >= 0 else NULL
                column.own_present = column.other_present = NULL
                if present is not None:
                    if columns[0, j] >= 0:
                        column.own_present = &present[columns[0, j], begin]
                    if columns[1, j] >= 0:
                        column.other_present = &present[columns[1, j], begin]
                column.reducer = columns[2, j]
                if not columns[3, j] and column.own_present != NULL and memchr(column.own_present, 1, n) == NULL:
                    column.own = column.other = NULL
                for row in range(ends[i], ends[i + 1]):
                    found = reduce_row(&column, c, rows + (row - ends[i]), zero, &to_values[j, row])
                    to_present[j, row] = found != ABSENT
                    holes = holes or found == ABSENT
                    if found == TOO_LARGE and (fault_row < 0 or row < fault_row):
                        fault_row = row
                        fault_column = j
                row = ends[i]
    free(rows)
    r = ends[m]
    if r < most_rows:
        out_times = out_times[:r].copy()
        out_values = out_values[:, :r].copy()
        out_present = out_present[:, :r].copy()
        out_counts = out_counts[:r].copy()
    return (
        out_times,
        out_values,
        out_present if holes else None,
        out_counts if grouped else None,
        row_offsets,
        None if fault_row < 0 else (fault_row, fault_column),
    )
