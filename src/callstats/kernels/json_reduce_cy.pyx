"""Stored text to reduced text, and the number of rows that fits a budget. Compiled; `json_reduce_py` is the specification."""

import numpy as np

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree as free
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

from callstats.kernels._binning cimport Row
from callstats.kernels._budget cimport Search, fit_text, search_free, search_init, search_size
from callstats.kernels._columns cimport Columns, columns_of, resize
from callstats.kernels._json_reduce cimport (
    REDUCE_FAILED, REWRITTEN, UNCHANGED, UNREAD, Plan, Status, Work,
    reduce_scanned, work_free, work_init,
)
from callstats.kernels._json_columns cimport Scan, keep_layout, same_layout, scanned_names
from callstats.kernels._json_scan cimport DECODED, SCAN_FAILED, Scanned, scan_text
from callstats.kernels._json_steps cimport Span
from callstats.kernels._json_write cimport Text, reserve
from callstats.kernels.json_cy cimport keep_scan, spans_of, spans_of_list, take_scan

from callstats._limits import SCRATCH_BYTES


cdef enum:
    SPARES = 8

# Buffers are kept for the next call, as scanners are.
cdef Work* spares[SPARES]
cdef int n_spares = 0
cdef Py_ssize_t spare_bytes = 0
cdef Py_ssize_t MAX_SPARE_BYTES = SCRATCH_BYTES


cdef Py_ssize_t work_size(const Work* work) noexcept:
    """Return the number of bytes that it keeps without its scanner."""
    return work.text.room + 9 * work.cell_room + (16 + sizeof(Row)) * work.row_room + search_size(&work.search)


cdef Work* take_work() except NULL:
    """Return buffers without text, and a scanner. They go back by `give_back`."""
    global n_spares, spare_bytes
    cdef Scan* scan = take_scan()
    cdef Work* work = NULL
    if n_spares:
        n_spares -= 1
        work = spares[n_spares]
        spare_bytes -= work_size(work)
    elif resize(&work, 1, sizeof(Work)):
        work_init(work)
    else:
        keep_scan(scan)
        raise MemoryError
    work.scan = scan
    work.text.size = 0
    work.plan.layout.n = -1  # the plan's pointers led to objects of the last call
    return work


cdef void give_back(Work* work) noexcept:
    """Keep buffers for the next call, unless all that are kept would take too much memory."""
    global n_spares, spare_bytes
    cdef Py_ssize_t size = work_size(work)
    keep_scan(work.scan)
    if n_spares < SPARES and spare_bytes + size <= MAX_SPARE_BYTES:
        spares[n_spares] = work
        n_spares += 1
        spare_bytes += size
    else:
        work_free(work)
        free(work)


cdef void set_plan(Plan* plan, const int64_t[:, ::1] matrix, bytes keys, const int64_t[::1] key_ends) noexcept:
    """Let a plan lead to these arrays, which must outlive it."""
    plan.k = key_ends.shape[0]
    plan.matrix = &matrix[0, 0] if plan.k else NULL
    plan.keys.text = <const uint8_t*>PyBytes_AS_STRING(keys)
    plan.keys.ends = &key_ends[0] if plan.k else NULL


cdef object new_plan(Work* work, object plan_for):
    """Ask for the plan of the scanned metrics. Return the objects that it leads to."""
    work.plan.layout.n = -1
    answer = matrix, keys, key_ends = plan_for(scanned_names(work.scan))
    set_plan(&work.plan, matrix, keys, key_ends)
    if not keep_layout(&work.plan.layout, work.scan):
        raise MemoryError
    return answer


cdef bint add_blobs(Text* text, const Span* blobs, Py_ssize_t m) noexcept nogil:
    """Add m blobs unchanged. Return False without memory."""
    cdef Py_ssize_t i
    for i in range(m):
        if blobs[i].size:
            if not reserve(text, blobs[i].size):
                return False
            memcpy(text.at + text.size, blobs[i].at, blobs[i].size)
            text.size += blobs[i].size
    return True


cdef int reduce_all(
    Work* work, const Span* blobs, Py_ssize_t m, bint copy, int64_t max_samples, int64_t max_bytes, bint zero, bint counts,
    object plan_for, uint8_t[::1] status, int64_t[::1] ends
) except -1:
    """Reduce m blobs into the text of `work`. `copy`: add unchanged blobs too, unless all are unchanged."""
    cdef Text* text = &work.text
    cdef Py_ssize_t i
    cdef Status done
    cdef Scanned scanned
    cdef bint decoded, unchanged, room = True, copying = False
    cdef object kept  # keeps alive what the plan leads to
    with nogil:
        for i in range(m):
            done = UNREAD
            scanned = scan_text(work.scan, blobs[i].at, blobs[i].size)
            decoded = scanned == DECODED
            unchanged = decoded and work.scan.rows <= max_samples and (max_bytes < 0 or blobs[i].size <= max_bytes)
            if copy and not copying and not unchanged:
                copying = True
                room = add_blobs(text, blobs, i)
            if unchanged:
                done = UNCHANGED
                if copying:
                    room = add_blobs(text, blobs + i, 1)
            elif decoded and max_samples <= 0:
                done = REWRITTEN
            elif decoded:
                if not same_layout(&work.plan.layout, work.scan):
                    with gil:
                        kept = new_plan(work, plan_for)  # no-cython-lint
                done = reduce_scanned(work, max_samples, max_bytes, zero, counts)
            if not room or scanned == SCAN_FAILED or done == REDUCE_FAILED:
                room = False
                break
            status[i] = done
            ends[i + 1] = ends[i] + blobs[i].size if copy and not copying else text.size
    if not room:
        raise MemoryError
    return 0


def reduce_packed(
    const uint8_t[::1] data,
    const int64_t[::1] offsets,
    int64_t max_samples,
    int64_t max_bytes,
    bint zero,
    bint counts,
    plan_for,
):
    """Reduce the blobs data[offsets[i]:offsets[i + 1]].

    Return the results in the same form, and a status for each. 0: unchanged. 1: rewritten. 2: empty, since the fallback decoder
    decides. 3: empty, since a sum is too large, or no text fits max_bytes (-1: no limit). When all are unchanged, the text is
    empty, and the offsets are those of the blobs.

    ``plan_for(names)`` returns, for the metrics of a blob, the plan of `decimate_columns`; the key ``,"name":`` of each column of
    the result, as bytes; and where each key ends.
    """
    cdef Py_ssize_t m = offsets.shape[0] - 1
    status = np.zeros(m, dtype=np.uint8)
    out_offsets = np.zeros(m + 1, dtype=np.int64)
    cdef Span* blobs = spans_of(data, offsets)
    cdef Work* work = NULL
    try:
        work = take_work()
        reduce_all(work, blobs, m, True, max_samples, max_bytes, zero, counts, plan_for, status, out_offsets)
        text = PyBytes_FromStringAndSize(<const char*>work.text.at, work.text.size) if work.text.size else b""
    finally:
        free(blobs)
        if work != NULL:
            give_back(work)
    return text, out_offsets, status


def reduce_blobs(list blobs, int64_t max_samples, int64_t max_bytes, bint zero, bint counts, plan_for):
    """Reduce a list of blobs as `reduce_packed` does. Return a list, with None where a blob has no result, and the statuses."""
    cdef Py_ssize_t m = len(blobs), i
    status = np.zeros(m, dtype=np.uint8)
    offsets = np.zeros(m + 1, dtype=np.int64)
    cdef uint8_t[::1] done = status
    cdef int64_t[::1] ends = offsets
    cdef bytes text
    cdef Span* parts = spans_of_list(blobs)
    cdef Work* work = NULL
    try:
        work = take_work()
        reduce_all(work, parts, m, False, max_samples, max_bytes, zero, counts, plan_for, done, ends)
        results = [blobs[i] if done[i] == UNCHANGED else None for i in range(m)]
        for i in range(m):
            parts[i].size = 0
            if done[i] == REWRITTEN:
                text = PyBytes_FromStringAndSize(NULL, ends[i + 1] - ends[i])
                parts[i].at = <const uint8_t*>PyBytes_AS_STRING(text)
                parts[i].size = ends[i + 1] - ends[i]
                results[i] = text
        with nogil:
            # Nobody else has seen the new objects yet. To touch new memory is slow, so let other threads run.
            for i in range(m):
                if parts[i].size:
                    memcpy(<uint8_t*>parts[i].at, work.text.at + ends[i], parts[i].size)
        return results, status
    finally:
        free(parts)
        if work != NULL:
            give_back(work)


def fit_rows(
    const int64_t[::1] times,
    const uint64_t[:, ::1] values,
    const uint8_t[:, ::1] present,
    const int64_t[::1] counts,
    int64_t max_samples,
    int64_t max_bytes,
    bint zero,
    bint with_counts,
    const int64_t[:, ::1] plan,
    bytes keys,
    const int64_t[::1] key_ends,
):
    """Find the largest k from max_samples >= 1 down for which the text of the series, reduced to k rows, fits max_bytes."""
    cdef Search search
    cdef Plan to_plan
    cdef Columns source = columns_of(times, values, present, counts)
    cdef int64_t rows = max_samples if max_samples < times.shape[0] else times.shape[0]
    cdef Row* room = NULL
    memset(&search, 0, sizeof(Search))
    set_plan(&to_plan, plan, keys, key_ends)
    try:
        if not (
            resize(&room, rows + 1, sizeof(Row))
            and search_init(&search, &source, to_plan.matrix, to_plan.k, &to_plan.keys, room, max_bytes, zero, with_counts)
        ):
            raise MemoryError
        with nogil:
            rows = fit_text(&search, rows)
        return rows
    finally:
        free(room)
        search_free(&search)
