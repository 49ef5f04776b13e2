# cython: language_level=3
"""Text: stored histograms to columns, columns to text, and text to reduced text. Compiled; `json_py` is the specification."""

import numpy as np

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from callstats.kernels._ascii cimport Day
from callstats.kernels._json_scan cimport READ, Scan, scan_free, scan_init, scan_text
from callstats.kernels._json_reduce cimport (
    OTHER, SAME, WRITTEN, Layout, Work, fit_to, laid_out, most_to_fit, reduce_scanned, work_free, work_init, work_room
)
from callstats.kernels._json_write cimport Table, Text, reserve, write_table


cdef enum:
    TRIES_AT_ONCE = 16


cdef struct Blob:
    const uint8_t* at
    Py_ssize_t size


# Scratch is kept for the next call, guarded by the GIL: memory fresh from the system each time costs more than the work.
cdef enum:
    SPARES = 8
    SPARE_BYTES = 16_777_216

cdef Work* spares[SPARES]
cdef int n_spares = 0


cdef Work* take_work() except NULL:
    """Scratch, with nothing written."""
    global n_spares
    cdef Work* work
    if n_spares:
        n_spares -= 1
        work = spares[n_spares]
    else:
        work = <Work*>malloc(sizeof(Work))
        if work == NULL:
            raise MemoryError
        work_init(work)
    work.text.size = 0
    work.layout.n_names = -1  # it led to objects of the last call
    return work


cdef void give_back(Work* work) noexcept:
    """Keep scratch for the next call, unless it has grown large."""
    global n_spares
    cdef Py_ssize_t size = work.text.room + 9 * (work.cell_room + work.scan.row_room * work.scan.column_room)
    if n_spares < SPARES and size <= SPARE_BYTES:
        spares[n_spares] = work
        n_spares += 1
    else:
        work_free(work)
        free(work)


cdef object new_layout(Work* work, object layout):
    """Ask what becomes of the names that the scan found; what must live while the layout is used."""
    cdef Layout* to = &work.layout
    cdef Py_ssize_t i
    to.n_names = -1
    names = [
        PyBytes_FromStringAndSize(<const char*>work.scan.names[i].at, work.scan.names[i].size) for i in range(work.scan.columns)
    ]
    columns, keys, key_ends = layout(tuple(names))
    joined = b"".join(names)
    name_ends = np.cumsum([len(name) for name in names], dtype=np.int64) if names else np.zeros(0, dtype=np.int64)
    cdef const int64_t[::1] plan = columns.reshape(-1)
    cdef const int64_t[::1] ends = key_ends
    cdef const int64_t[::1] starts = name_ends
    to.k = ends.shape[0]
    to.columns = &plan[0] if to.k else NULL
    to.key_ends = &ends[0] if to.k else NULL
    to.keys = <const uint8_t*>PyBytes_AS_STRING(keys)
    to.names = <const uint8_t*>PyBytes_AS_STRING(joined)
    to.name_ends = &starts[0] if starts.shape[0] else NULL
    to.n_names = len(names)
    return columns, keys, key_ends, joined, name_ends


cdef bint add_blobs(Text* text, const Blob* blobs, Py_ssize_t m) noexcept nogil:
    """Add m blobs as they are; whether there was memory for them."""
    cdef Py_ssize_t i
    for i in range(m):
        if blobs[i].size:
            if not reserve(text, blobs[i].size):
                return False
            memcpy(text.at + text.size, blobs[i].at, blobs[i].size)
            text.size += blobs[i].size
    return True


cdef int reduce_blobs(
    Work* work, const Blob* blobs, Py_ssize_t m, bint copy, int64_t max_samples, int64_t max_bytes, bint zero, bint counts,
    object layout, uint8_t[::1] status, int64_t[::1] ends
) except -1:
    """Reduce m blobs into the text of `work`. `copy`: also those that stay as they are, unless all do."""
    cdef Text* text = &work.text
    cdef Py_ssize_t i
    cdef int done
    cdef bint read, stays, room = True, copying = False
    cdef object layout_held  # what the layout's pointers lead to
    with nogil:
        for i in range(m):
            done = OTHER
            read = scan_text(&work.scan, blobs[i].at, blobs[i].size) == READ
            stays = read and work.scan.rows <= max_samples and (max_bytes < 0 or blobs[i].size <= max_bytes)
            if copy and not copying and not stays:
                copying = True
                room = add_blobs(text, blobs, i)
            if stays:
                done = SAME
                if copying:
                    room = add_blobs(text, blobs + i, 1)
            elif read and max_samples <= 0:
                done = WRITTEN
            elif read:
                if not laid_out(work):
                    with gil:
                        layout_held = new_layout(work, layout)  # no-cython-lint
                done = reduce_scanned(work, max_samples, max_bytes, zero, counts, text)
            if not room:
                break
            status[i] = done
            ends[i + 1] = ends[i] + blobs[i].size if copy and not copying else text.size
    if not room:
        raise MemoryError
    return 0


def reduce_text(
    const uint8_t[::1] data,
    const int64_t[::1] offsets,
    int64_t max_samples,
    int64_t max_bytes,
    bint zero,
    bint counts,
    layout,
):
    """Reduce the stored histograms data[offsets[i]:offsets[i + 1]], text to text.

    Gives the results in the same form, and of each whether it is the text given (0), a new one (1), or empty (2), since the text
    has not the written shape, can't be reduced, or can't be made to fit max_bytes (-1: no limit): the general route is to tell.
    ``layout(names)`` gives, for the metrics of a blob, the columns of `decimate`, and for each column of the result its key
    ``,"name":``, as bytes and their ends. Where all are the texts given, they are not copied: the text is empty, and the offsets
    are those of the texts.
    """
    cdef Py_ssize_t m = offsets.shape[0] - 1, i
    status = np.zeros(m, dtype=np.uint8)
    out_offsets = np.zeros(m + 1, dtype=np.int64)
    cdef Blob* blobs = <Blob*>malloc((m + 1) * sizeof(Blob))
    if blobs == NULL:
        raise MemoryError
    cdef Work* work = take_work()
    try:
        for i in range(m):
            blobs[i].at = &data[0] + offsets[i] if data.shape[0] else NULL
            blobs[i].size = offsets[i + 1] - offsets[i]
        reduce_blobs(work, blobs, m, True, max_samples, max_bytes, zero, counts, layout, status, out_offsets)
        text = PyBytes_FromStringAndSize(<const char*>work.text.at, work.text.size) if work.text.size else b""
    finally:
        free(blobs)
        give_back(work)
    return text, out_offsets, status


def reduce_texts(list texts, int64_t max_samples, int64_t max_bytes, bint zero, bint counts, layout):
    """Reduce stored histograms, bytes to bytes, as `reduce_text` does: a list, None where the general route is to tell."""
    cdef Py_ssize_t m = len(texts), i
    status = np.zeros(m, dtype=np.uint8)
    offsets = np.zeros(m + 1, dtype=np.int64)
    cdef uint8_t[::1] done = status
    cdef int64_t[::1] ends = offsets
    cdef bytes text
    cdef Blob* blobs = <Blob*>malloc((m + 1) * sizeof(Blob))
    if blobs == NULL:
        raise MemoryError
    cdef Work* work = take_work()
    try:
        for i in range(m):
            text = texts[i]
            blobs[i].at = <const uint8_t*>PyBytes_AS_STRING(text)
            blobs[i].size = PyBytes_GET_SIZE(text)
        reduce_blobs(work, blobs, m, False, max_samples, max_bytes, zero, counts, layout, done, ends)
        results = [texts[i] if done[i] == SAME else None for i in range(m)]
        for i in range(m):
            blobs[i].size = 0
            if done[i] == WRITTEN:
                text = PyBytes_FromStringAndSize(NULL, ends[i + 1] - ends[i])
                blobs[i].at = <const uint8_t*>PyBytes_AS_STRING(text)
                blobs[i].size = ends[i + 1] - ends[i]
                results[i] = text
        with nogil:
            # Nobody else has seen the new objects yet. To touch their memory first costs time, which other threads may use.
            for i in range(m):
                if blobs[i].size:
                    memcpy(<uint8_t*>blobs[i].at, work.text.at + ends[i], blobs[i].size)
        return results
    finally:
        free(blobs)
        give_back(work)


def read_text(bytes text):
    """The columns of a stored histogram of the written shape: names, times, values, present (None: all), counts (None: all one).

    Metrics come in the order in which they were met. None for a text of any other shape.
    """
    cdef Scan scan
    cdef Py_ssize_t n, k, j
    cdef int64_t[::1] to_times
    cdef int64_t[::1] to_counts
    cdef uint64_t[:, ::1] to_values
    cdef uint8_t[:, ::1] to_present
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(text)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text)
    cdef bint found
    scan_init(&scan)
    try:
        with nogil:
            found = scan_text(&scan, at, size) == READ
        if not found:
            return None
        n = scan.rows
        k = scan.columns
        names = [PyBytes_FromStringAndSize(<const char*>scan.names[j].at, scan.names[j].size) for j in range(k)]
        times = np.empty(n, dtype=np.int64)
        values = np.empty((k, n), dtype=np.uint64)
        present = np.empty((k, n), dtype=np.uint8) if scan.holes else None
        counts = np.empty(n, dtype=np.int64) if scan.counted else None
        if n:
            to_times = times
            memcpy(&to_times[0], scan.times, n * sizeof(int64_t))
            if counts is not None:
                to_counts = counts
                memcpy(&to_counts[0], scan.counts, n * sizeof(int64_t))
            if k:
                to_values = values
                for j in range(k):
                    memcpy(&to_values[j, 0], scan.values + j * scan.row_room, n * sizeof(uint64_t))
                if present is not None:
                    to_present = present
                    for j in range(k):
                        memcpy(&to_present[j, 0], scan.present + j * scan.row_room, n)
        return names, times, values, present, counts
    finally:
        scan_free(&scan)


cdef bint fill_table(
    Table* table,
    const int64_t[::1] times,
    const uint64_t[:, ::1] values,
    const uint8_t[:, ::1] present,
    const int64_t[::1] counts,
    bytes keys,
    const int64_t[::1] key_ends,
    int digits,
) except -1:
    table.n = times.shape[0]
    table.k = key_ends.shape[0]
    table.stride = table.n
    cdef bint cells = table.n > 0 and values.shape[0] > 0
    table.times = &times[0] if table.n else NULL
    table.values = &values[0, 0] if cells else NULL
    table.present = &present[0, 0] if cells and present is not None else NULL
    table.counts = &counts[0] if table.n and counts is not None else NULL
    table.keys = <const uint8_t*>PyBytes_AS_STRING(keys)
    table.key_ends = &key_ends[0] if table.k else NULL
    table.digits = digits
    return True


def write_text(
    const int64_t[::1] times,
    const uint64_t[:, ::1] values,
    const uint8_t[:, ::1] present,
    const int64_t[::1] counts,
    bytes keys,
    const int64_t[::1] key_ends,
    int digits,
):
    """The stored text of columns: bytes. `keys` and `key_ends` as in `reduce_text`, `digits` of a second 3 or 9."""
    cdef Table table
    cdef Text text
    cdef Day day
    cdef bint done
    fill_table(&table, times, values, present, counts, keys, key_ends, digits)
    memset(&text, 0, sizeof(Text))
    day.days = -1_000_000_000
    try:
        with nogil:
            done = write_table(&text, &table, &day)
        if not done:
            raise MemoryError
        return PyBytes_FromStringAndSize(<const char*>text.at, text.size) if text.size else b""
    finally:
        free(text.at)


def fit(
    const int64_t[::1] times,
    const uint64_t[:, ::1] values,
    const uint8_t[:, ::1] present,
    const int64_t[::1] counts,
    int64_t max_samples,
    int64_t max_bytes,
    bint zero,
    bint counted,
    const int64_t[:, ::1] columns,
    bytes keys,
    const int64_t[::1] key_ends,
):
    """The largest k from max_samples >= 1 down for which the text of the series reduced to k rows fits max_bytes.

    0 when none does, -k when a sum is too large at k. `columns`, `keys` and `key_ends` as in `reduce_text`; `counted`: the text
    has counts.
    """
    cdef Work work
    cdef Table source, out
    cdef Layout layout
    cdef int64_t most = max_samples if max_samples < times.shape[0] else times.shape[0], k = 0, step
    fill_table(&source, times, values, present, counts, b"", key_ends[:0], 3)
    layout.k = key_ends.shape[0]
    layout.columns = &columns[0, 0] if layout.k else NULL
    layout.keys = <const uint8_t*>PyBytes_AS_STRING(keys)
    layout.key_ends = &key_ends[0] if layout.k else NULL
    work_init(&work)
    try:
        if not work_room(&work, most, layout.k):
            raise MemoryError
        with nogil:
            most = most_to_fit(&work, &source, &layout, most, max_bytes)
        while most > 0 and k == 0:
            step = most if most < TRIES_AT_ONCE else TRIES_AT_ONCE
            with nogil:
                k = fit_to(&work, &source, &layout, most, most - step + 1, max_bytes, zero, counted, &out)
            most -= step
            PyErr_CheckSignals()  # millions of samples take minutes, and Ctrl-C may not wait for them
    finally:
        work_free(&work)
    return k
