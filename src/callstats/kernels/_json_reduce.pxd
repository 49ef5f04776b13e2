"""Scanned columns to reduced text, and the buffers for it."""

from cpython.mem cimport PyMem_RawFree as free
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from callstats.kernels._ascii cimport Written
from callstats.kernels._binning cimport Output, Reduced, Row, plan_rows, reduce_columns
from callstats.kernels._budget cimport Search, fit_text, search_free, search_init
from callstats.kernels._columns cimport Columns, resize
from callstats.kernels._json_columns cimport Layout, Scan, scanned_columns
from callstats.kernels._json_write cimport Keys, Text, write_columns

cdef enum Status:
    # The result for a blob. UNREAD: the fallback decoder decides.
    UNCHANGED
    REWRITTEN
    UNREAD
    NO_RESULT  # a sum is too large, or no text fits
    REDUCE_FAILED  # no memory

cdef struct Plan:
    # The columns of the result for the metrics of a blob, k of them: see `reduce_packed`.
    Layout layout
    Py_ssize_t k
    const int64_t* matrix
    Keys keys

cdef struct Work:
    # The buffers of one call, reused for each blob, and the text that it has written. Between calls they have no scanner.
    Text text
    Scan* scan
    Plan plan
    Row* rows
    Search search
    Output out
    Py_ssize_t row_room, cell_room
    Written minute


cdef inline void work_init(Work* work) noexcept nogil:
    memset(work, 0, sizeof(Work))
    work.plan.layout.n = -1


cdef inline void work_free(Work* work) noexcept nogil:
    free(work.plan.layout.numbers)
    free(work.rows)
    search_free(&work.search)
    free(work.out.times)
    free(work.out.counts)
    free(work.out.values)
    free(work.out.present)
    free(work.text.at)


cdef inline bint make_result_room(Work* work, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t cells = rows * columns
    if rows + 1 > work.row_room:
        if not (
            resize(&work.rows, rows + 1, sizeof(Row))
            and resize(&work.out.times, rows, sizeof(int64_t))
            and resize(&work.out.counts, rows, sizeof(int64_t))
        ):
            return False
        work.row_room = rows + 1
    if cells > work.cell_room:
        if not (resize(&work.out.values, cells, sizeof(uint64_t)) and resize(&work.out.present, cells, 1)):
            return False
        work.cell_room = cells
    return True


cdef inline Status reduce_scanned(
    Work* work, int64_t max_samples, int64_t max_bytes, bint zero, bint counts
) except? UNREAD nogil:
    """Reduce the scanned blob, and add its text."""
    cdef Columns source = scanned_columns(work.scan), result
    cdef Plan* plan = &work.plan
    cdef int64_t rows = source.n if source.n < max_samples else max_samples
    cdef int64_t[2] offsets
    cdef int64_t[2] row_offsets
    cdef Reduced reduced
    if not make_result_room(work, rows, plan.k):
        return REDUCE_FAILED
    if max_bytes >= 0:
        if not search_init(&work.search, &source, plan.matrix, plan.k, &plan.keys, work.rows, max_bytes, zero, counts):
            return REDUCE_FAILED
        rows = fit_text(&work.search, rows)
        if rows <= 0:
            return NO_RESULT
    offsets[0] = row_offsets[0] = 0
    offsets[1] = source.n
    row_offsets[1] = plan_rows(source.times, 0, source.n, rows, work.rows)
    reduced = reduce_columns(
        &source, plan.matrix, plan.k, work.rows, row_offsets[1], offsets, row_offsets, 1, zero, &work.out
    )
    if reduced.fault_column >= 0:
        return NO_RESULT
    result.n = result.stride = row_offsets[1]
    result.k = plan.k
    result.times = work.out.times
    result.counts = work.out.counts if counts else NULL
    result.values = work.out.values
    result.present = work.out.present if reduced.holes else NULL
    return REWRITTEN if write_columns(&work.text, &result, &plan.keys, 3, &work.minute) else REDUCE_FAILED
