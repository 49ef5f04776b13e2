"""Scanned columns to reduced text: the buffers for it, and the search for the number of rows that fits."""

from cpython.mem cimport PyMem_RawFree as free
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memchr, memcpy, memset

from callstats.kernels._ascii cimport Day
from callstats.kernels._binning cimport Output, Reduced, Row, plan_rows, reduce_columns
from callstats.kernels._columns cimport Columns, resize
from callstats.kernels._json_scan cimport Layout, Scan, scanned_columns
from callstats.kernels._json_write cimport BARE_ROW, Keys, Text, key_size, measure, write_columns

cdef enum Status:
    # The result for a blob. UNREAD: the fallback decoder decides.
    UNCHANGED
    REWRITTEN
    UNREAD
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
    Row* rejected  # the rows of the last try, whose text was too long
    Output out
    Py_ssize_t row_room, cell_room
    Day day


cdef inline void work_init(Work* work) noexcept nogil:
    memset(work, 0, sizeof(Work))
    work.plan.layout.n = -1
    work.day.days = -1_000_000_000


cdef inline void work_free(Work* work) noexcept nogil:
    free(work.plan.layout.numbers)
    free(work.rows)
    free(work.rejected)
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
            and resize(&work.rejected, rows + 1, sizeof(Row))
            and resize(&work.out.times, rows, sizeof(int64_t))
            and resize(&work.out.counts, rows, sizeof(int64_t))
        ):
            return False
        work.row_room = rows + 1
    if cells > work.cell_room or work.cell_room == 0:
        if not (resize(&work.out.values, cells, sizeof(uint64_t)) and resize(&work.out.present, cells, 1)):
            return False
        work.cell_room = cells
    return True


cdef inline bint reduce_to(
    Work* work, const Columns* source, const Plan* plan, int64_t max_samples, bint zero, bint counts, Columns* result
) noexcept nogil:
    """Reduce columns to at most max_samples >= 1 rows, in the room of `work`. Return False when a sum is too large."""
    cdef int64_t[2] offsets
    cdef int64_t[2] row_offsets
    cdef Reduced reduced
    cdef Py_ssize_t rows = plan_rows(source.times, 0, source.n, max_samples, work.rows)
    offsets[0] = row_offsets[0] = 0
    offsets[1] = source.n
    row_offsets[1] = rows
    reduced = reduce_columns(source, plan.matrix, plan.k, work.rows, rows, offsets, row_offsets, 1, zero, &work.out)
    result.n = result.stride = rows
    result.k = plan.k
    result.times = work.out.times
    result.counts = work.out.counts if counts else NULL
    result.values = work.out.values
    result.present = work.out.present if reduced.holes else NULL
    return reduced.fault_column < 0


cdef inline int64_t min_row_size(const Columns* source, const Plan* plan) noexcept nogil:
    """Return the min size of a row's text: one digit for each metric that every sample has."""
    cdef int64_t size = BARE_ROW + 3, bare = size, own
    cdef Py_ssize_t j
    for j in range(plan.k):
        own = plan.matrix[j]
        if own >= 0 and (source.present == NULL or memchr(source.present + own * source.stride, 0, source.n) == NULL):
            size += key_size(&plan.keys, j) + 1
    return size - (size > bare)


cdef inline bint same_rows(const Row* a, const Row* b, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        if a[i].begin != b[i].begin:
            return False
    return True


cdef inline int64_t max_rows_to_try(
    Work* work, const Columns* source, const Plan* plan, int64_t max_samples, int64_t max_bytes
) noexcept nogil:
    """Return a number of rows, at most max_samples, above which no text fits."""
    cdef int64_t row_size = min_row_size(source, plan), k = 1
    # Narrower bins make at least half as many rows: each of them meets at most two of the wide ones. So where half the rows for k
    # are too many, every number above k is out.
    while k < max_samples:
        if (plan_rows(source.times, 0, source.n, k, work.rows) + 1) // 2 * row_size + 2 > max_bytes:
            max_samples = k
        k *= 2
    return max_samples


cdef inline int64_t try_to_fit(
    Work* work,
    const Columns* source,
    const Plan* plan,
    int64_t max_rows,
    int64_t min_rows,
    int64_t max_bytes,
    bint zero,
    bint counts,
    Columns* result,
) noexcept nogil:
    """Reduce to the largest k from max_rows down to min_rows whose text fits. Return k; 0: none fits; -k: a sum is too large."""
    cdef int64_t row_size = min_row_size(source, plan), k
    cdef Py_ssize_t n, n_rejected = 0
    for k in range(max_rows, min_rows - 1, -1):
        n = plan_rows(source.times, 0, source.n, k, work.rows)
        if n * row_size + 2 > max_bytes or (n == n_rejected and same_rows(work.rows, work.rejected, n)):
            continue
        memcpy(work.rejected, work.rows, n * sizeof(Row))
        n_rejected = n
        if not reduce_to(work, source, plan, k, zero, counts, result):
            return -k
        if measure(result, &plan.keys, 3) <= max_bytes:
            return k
    return 0


cdef inline Status reduce_scanned(
    Work* work, int64_t max_samples, int64_t max_bytes, bint zero, bint counts
) noexcept nogil:
    """Reduce the scanned blob, and add its text."""
    cdef Columns source = scanned_columns(work.scan), result
    cdef int64_t rows = source.n if source.n < max_samples else max_samples
    if not make_result_room(work, rows, work.plan.k):
        return REDUCE_FAILED
    if max_bytes < 0:
        if not reduce_to(work, &source, &work.plan, rows, zero, counts, &result):
            return UNREAD
    else:
        rows = max_rows_to_try(work, &source, &work.plan, rows, max_bytes)
        if try_to_fit(work, &source, &work.plan, rows, 1, max_bytes, zero, counts, &result) <= 0:
            return UNREAD
    return REWRITTEN if write_columns(&work.text, &result, &work.plan.keys, 3, &work.day) else REDUCE_FAILED
