# cython: language_level=3, cdivision=True
"""Batch: many stored histograms to columns at once. Compiled; `json_batch_py` is the specification."""

import numpy as np

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset

from callstats.kernels._json_scan cimport FEW_COLUMNS, READ, Name, Scan, scan_free, scan_init, scan_text


cdef struct Held:
    # What was read so far: times and counts one after another, the cells of each series metric by metric.
    int64_t* times
    int64_t* counts
    uint64_t* values
    uint8_t* present
    Py_ssize_t rows, row_room, cells, cell_room
    bint holes, counted
    # The names of the last series with rows, which lie in the data.
    Name names[FEW_COLUMNS]
    Py_ssize_t n_names


cdef void held_free(Held* held) noexcept nogil:
    free(held.times)
    free(held.counts)
    free(held.values)
    free(held.present)


cdef bint held_room(Held* held, Py_ssize_t rows, Py_ssize_t cells) noexcept nogil:
    """Room for so many more; False when there is no memory."""
    cdef Py_ssize_t room
    cdef void* grown
    if held.rows + rows > held.row_room:
        room = 2 * (held.rows + rows)
        grown = realloc(held.times, room * sizeof(int64_t))
        if grown == NULL:
            return False
        held.times = <int64_t*>grown
        grown = realloc(held.counts, room * sizeof(int64_t))
        if grown == NULL:
            return False
        held.counts = <int64_t*>grown
        held.row_room = room
    if held.cells + cells > held.cell_room:
        room = 2 * (held.cells + cells)
        grown = realloc(held.values, room * sizeof(uint64_t))
        if grown == NULL:
            return False
        held.values = <uint64_t*>grown
        grown = realloc(held.present, room)
        if grown == NULL:
            return False
        held.present = <uint8_t*>grown
        held.cell_room = room
    return True


cdef bint named_alike(const Held* held, const Scan* scan) noexcept nogil:
    """Whether a series has the names of the last, in its order."""
    cdef Py_ssize_t i
    if scan.columns != held.n_names:
        return False
    for i in range(scan.columns):
        if (
            scan.names[i].size != held.names[i].size
            or memcmp(scan.names[i].at, held.names[i].at, scan.names[i].size) != 0
        ):
            return False
    return True


cdef bint hold(Held* held, const Scan* scan) noexcept nogil:
    """Take in what was scanned; False when there is no memory."""
    cdef Py_ssize_t n = scan.rows, j
    if not held_room(held, n, n * scan.columns):
        return False
    memcpy(held.times + held.rows, scan.times, n * sizeof(int64_t))
    memcpy(held.counts + held.rows, scan.counts, n * sizeof(int64_t))
    for j in range(scan.columns):
        memcpy(held.values + held.cells + j * n, scan.values + j * scan.row_room, n * sizeof(uint64_t))
        if scan.holes:
            memcpy(held.present + held.cells + j * n, scan.present + j * scan.row_room, n)
        else:
            memset(held.present + held.cells + j * n, 1, n)
    held.rows += n
    held.cells += n * scan.columns
    held.holes = held.holes or scan.holes
    held.counted = held.counted or scan.counted
    return True


cdef tuple names_of(Held* held, const Scan* scan):
    """The names of a series, from now on those of the last."""
    cdef Py_ssize_t i
    for i in range(scan.columns):
        held.names[i] = scan.names[i]
    held.n_names = scan.columns
    return tuple([PyBytes_FromStringAndSize(<const char*>scan.names[i].at, scan.names[i].size) for i in range(scan.columns)])


cdef spread(const Held* held, int64_t[::1] ends, int64_t[::1] layouts, list kinds, list names, bint full):
    """The cells of all series as one block, and their presence unless all are there."""
    cdef Py_ssize_t m = layouts.shape[0], i, j, n, at = 0, place
    places = {name: place for place, name in enumerate(names)}
    starts = np.zeros(len(kinds) + 1, dtype=np.int64)
    np.cumsum([len(kind) for kind in kinds], out=starts[1:])
    rows = np.array([places[name] for kind in kinds for name in kind], dtype=np.int64)
    cdef int64_t[::1] begins = starts
    cdef int64_t[::1] to_rows = rows
    values = np.zeros((len(names), held.rows), dtype=np.uint64)
    present = None if full else np.zeros((len(names), held.rows), dtype=np.uint8)
    cdef uint64_t[:, ::1] to_values = values
    cdef uint8_t[:, ::1] to_present = present
    with nogil:
        for i in range(m):
            n = ends[i + 1] - ends[i]
            if n == 0:
                continue
            for j in range(begins[layouts[i]], begins[layouts[i] + 1]):
                place = to_rows[j]
                memcpy(&to_values[place, ends[i]], held.values + at, n * sizeof(uint64_t))
                if not full:
                    memcpy(&to_present[place, ends[i]], held.present + at, n)
                at += n
    return values, present


def read_buffer(const uint8_t[::1] data, const int64_t[::1] offsets):
    """The columns of the stored histograms data[offsets[i]:offsets[i + 1]] as one batch.

    Gives the names, sorted; times, values, present (None: all), counts (None: all one) and the offsets of each series in them;
    and of each whether it was read: one whose text has not the written shape has no rows, and the general route is to tell.
    """
    cdef Py_ssize_t m = offsets.shape[0] - 1, i
    cdef Scan scan
    cdef Held held
    cdef bint room = True
    cdef int64_t layout = -1
    was_read = np.zeros(m, dtype=np.uint8)
    ends = np.zeros(m + 1, dtype=np.int64)
    layouts = np.zeros(m, dtype=np.int64)
    cdef uint8_t[::1] to_read = was_read
    cdef int64_t[::1] to_ends = ends
    cdef int64_t[::1] to_layouts = layouts
    cdef int64_t[::1] to_column
    cdef const uint8_t* begin = &data[0] if data.shape[0] else NULL
    known = {}
    memset(&held, 0, sizeof(Held))
    held.n_names = -1
    scan_init(&scan)
    try:
        with nogil:
            for i in range(m):
                if scan_text(&scan, begin + offsets[i], offsets[i + 1] - offsets[i]) == READ:
                    to_read[i] = 1
                    if scan.rows:
                        room = hold(&held, &scan)
                        if not room:
                            break
                        if not named_alike(&held, &scan):
                            with gil:
                                layout = known.setdefault(names_of(&held, &scan), len(known))  # no-cython-lint
                        to_layouts[i] = layout
                to_ends[i + 1] = held.rows
        if not room:
            raise MemoryError
        kinds = list(known)
        names = sorted({name for kind in kinds for name in kind})
        full = not held.holes and all([len(kind) == len(names) for kind in kinds])
        values, present = spread(&held, to_ends, to_layouts, kinds, names, full)
        times = np.empty(held.rows, dtype=np.int64)
        counts = np.empty(held.rows, dtype=np.int64) if held.counted else None
        if held.rows:
            to_column = times
            memcpy(&to_column[0], held.times, held.rows * sizeof(int64_t))
            if counts is not None:
                to_column = counts
                memcpy(&to_column[0], held.counts, held.rows * sizeof(int64_t))
        return names, times, values, present, counts, ends, was_read
    finally:
        scan_free(&scan)
        held_free(&held)
