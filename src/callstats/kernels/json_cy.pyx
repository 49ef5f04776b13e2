"""Stored text to columns, of one blob or of many, and columns to text. Compiled; `json_py` is the specification."""

import numpy as np

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree as free
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

from callstats.kernels._ascii cimport Written
from callstats.kernels._columns cimport Columns, columns_of, grow, resize
from callstats.kernels._fused cimport AUTO, OFF, PORTABLE, WITH_AVX2, WITH_AVX512, form_for
from callstats.kernels._json_columns cimport (
    Layout, Limits, Scan, keep_layout, same_layout, scan_free, scan_init, scan_size, scanned_names,
)
from callstats.kernels._json_scan cimport DECODED, SCAN_FAILED, Scanned, scan_text
from callstats.kernels._json_steps cimport Span
from callstats.kernels._json_write cimport Keys, Text, write_columns

from callstats._columns import validate_cells
from callstats._limits import CELLS_PER_VALUE, MAX_CELLS, MAX_DEPTH, SCRATCH_BYTES


cdef enum:
    SPARES = 8
    CHUNK = 131_072

# Scanners are kept for the next call, guarded by the GIL. Fresh memory from the system, and learning the rows, cost more than the
# work itself.
cdef Scan* spares[SPARES]
cdef int n_spares = 0
cdef Py_ssize_t spare_bytes = 0
cdef Py_ssize_t MAX_SPARE_BYTES = SCRATCH_BYTES
cdef Limits LIMITS
LIMITS.cells = MAX_CELLS
LIMITS.cells_per_value = CELLS_PER_VALUE
LIMITS.depth = MAX_DEPTH
cdef int form = form_for(AUTO)
cdef Py_ssize_t fused = 0


def choose_form(str word):
    """Choose how rows of one shape are read from now on: `auto` or one of `_fused.h`. Return whether that can be had."""
    global form
    wanted = {"auto": AUTO, "off": OFF, "portable": PORTABLE, "avx2": WITH_AVX2, "avx512": WITH_AVX512}[word]
    found = form_for(wanted)
    if found == OFF and wanted not in (AUTO, OFF):
        return False
    form = found
    return True


def fused_rows():
    """Return how many rows were read by their shape so far."""
    return fused


cdef Scan* take_scan() except NULL:
    """Return a scanner. It goes back by `keep_scan`."""
    global n_spares, spare_bytes
    cdef Scan* scan = NULL
    if n_spares:
        n_spares -= 1
        scan = spares[n_spares]
        spare_bytes -= scan_size(scan)
    elif resize(&scan, 1, sizeof(Scan)):
        scan_init(scan, &LIMITS)
    else:
        raise MemoryError
    scan.form = form
    return scan


cdef void keep_scan(Scan* scan) noexcept:
    """Keep a scanner for the next call, unless all that are kept would take too much memory."""
    global n_spares, spare_bytes, fused
    cdef Py_ssize_t size = scan_size(scan)
    fused += scan.fused
    scan.fused = 0
    if n_spares < SPARES and spare_bytes + size <= MAX_SPARE_BYTES:
        spares[n_spares] = scan
        n_spares += 1
        spare_bytes += size
    else:
        scan_free(scan)
        free(scan)


cdef struct Batch:
    # Decoded series, one after another. Their cells are in the order of series, and in each of metrics.
    int64_t* times
    int64_t* counts
    uint64_t* values
    uint8_t* present
    Py_ssize_t rows, time_room, count_room, cells, cell_room, present_room
    bint holes, counted
    Layout layout  # of the last series with rows


def decode_blob(bytes blob):
    """Decode a blob: names, times, values, present (None: all), counts (None: all one).

    Metrics are in any order. Return None for a blob that the fallback decoder has to decode or reject.
    """
    cdef Scan* scan = take_scan()
    cdef Py_ssize_t n, k, j
    cdef int64_t[::1] to_times
    cdef int64_t[::1] to_counts
    cdef uint64_t[:, ::1] to_values
    cdef uint8_t[:, ::1] to_present
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(blob)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(blob)
    cdef Scanned scanned
    try:
        with nogil:
            scanned = scan_text(scan, at, size)
        if scanned == SCAN_FAILED:
            raise MemoryError
        if scanned != DECODED:
            return None
        n = scan.rows
        k = scan.columns
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
            to_values = values
            to_present = present
            with nogil:
                for j in range(k):
                    memcpy(&to_values[j, 0], scan.values + j * scan.row_room, n * sizeof(uint64_t))
                    if scan.holes:
                        memcpy(&to_present[j, 0], scan.present + j * scan.row_room, n)
        return scanned_names(scan), times, values, present, counts
    finally:
        keep_scan(scan)


cdef bint make_batch_room(Batch* batch, Py_ssize_t rows, Py_ssize_t cells) noexcept nogil:
    """Make room for so many more. Return False without memory."""
    return (
        grow(&batch.times, &batch.time_room, batch.rows + rows, sizeof(int64_t))
        and grow(&batch.counts, &batch.count_room, batch.rows + rows, sizeof(int64_t))
        and grow(&batch.values, &batch.cell_room, batch.cells + cells, sizeof(uint64_t))
        and grow(&batch.present, &batch.present_room, batch.cells + cells, 1)
    )


cdef bint add_series(Batch* batch, const Scan* scan) noexcept nogil:
    """Add the scanned series. Return False without memory."""
    cdef Py_ssize_t n = scan.rows, j
    if not make_batch_room(batch, n, n * scan.columns):
        return False
    memcpy(batch.times + batch.rows, scan.times, n * sizeof(int64_t))
    memcpy(batch.counts + batch.rows, scan.counts, n * sizeof(int64_t))
    for j in range(scan.columns):
        memcpy(batch.values + batch.cells, scan.values + j * scan.row_room, n * sizeof(uint64_t))
        if scan.holes:
            memcpy(batch.present + batch.cells, scan.present + j * scan.row_room, n)
        else:
            memset(batch.present + batch.cells, 1, n)
        batch.cells += n
    batch.rows += n
    batch.holes = batch.holes or scan.holes
    batch.counted = batch.counted or scan.counted
    return True


cdef object block_of(const Batch* batch, int64_t[::1] ends, int64_t[::1] layouts, list known, list names, bint full):
    """Return the cells of all series as one block, and their presence (None when `full`).

    Series i has the metrics known[layouts[i]].
    """
    cdef Py_ssize_t m = layouts.shape[0], i, j, n, at = 0, index
    indexes = {name: index for index, name in enumerate(names)}
    starts = np.cumsum([0, *[len(layout) for layout in known]], dtype=np.int64)
    rows = np.array([indexes[name] for layout in known for name in layout], dtype=np.int64)
    cdef int64_t[::1] begins = starts
    cdef int64_t[::1] to_rows = rows
    values = np.zeros((len(names), batch.rows), dtype=np.uint64)
    present = None if full else np.zeros((len(names), batch.rows), dtype=np.uint8)
    cdef uint64_t[:, ::1] to_values = values
    cdef uint8_t[:, ::1] to_present = present
    with nogil:
        for i in range(m):
            n = ends[i + 1] - ends[i]
            if n == 0:
                continue
            for j in range(begins[layouts[i]], begins[layouts[i] + 1]):
                index = to_rows[j]
                memcpy(&to_values[index, ends[i]], batch.values + at, n * sizeof(uint64_t))
                if not full:
                    memcpy(&to_present[index, ends[i]], batch.present + at, n)
                at += n
    return values, present


cdef object decode_all(const Span* blobs, Py_ssize_t m):
    """Decode m blobs to one batch. Blobs without text are left to the fallback decoder."""
    cdef Py_ssize_t i
    cdef Scan* scan = NULL
    cdef Scanned scanned
    cdef Batch batch
    cdef bint room = True
    cdef int64_t layout = -1
    cdef uint8_t[::1] to_decoded
    cdef int64_t[::1] to_ends
    cdef int64_t[::1] to_layouts
    memset(&batch, 0, sizeof(Batch))
    batch.layout.n = -1
    try:
        scan = take_scan()
        decoded = to_decoded = np.zeros(m, dtype=np.uint8)
        ends = to_ends = np.zeros(m + 1, dtype=np.int64)
        to_layouts = np.zeros(m, dtype=np.int64)
        known = {}
        with nogil:
            for i in range(m):
                if blobs[i].size >= 0:
                    scanned = scan_text(scan, blobs[i].at, blobs[i].size)
                    room = scanned != SCAN_FAILED
                    if scanned == DECODED:
                        to_decoded[i] = 1
                        if scan.rows:
                            room = add_series(&batch, scan)
                            if room and not same_layout(&batch.layout, scan):
                                room = keep_layout(&batch.layout, scan)
                                with gil:
                                    layout = known.setdefault(scanned_names(scan), len(known))  # no-cython-lint
                            to_layouts[i] = layout
                    if not room:
                        break
                to_ends[i + 1] = batch.rows
        if not room:
            raise MemoryError
        names = sorted({name for layout_names in known for name in layout_names})
        found = np.count_nonzero(<uint8_t[:batch.cells]>batch.present) if batch.holes else batch.cells
        validate_cells("series", len(names), batch.rows, found)
        full = not batch.holes and all([len(layout_names) == len(names) for layout_names in known])
        values, present = block_of(&batch, to_ends, to_layouts, list(known), names, full)
        times = np.array(<int64_t[:batch.rows]>batch.times) if batch.rows else np.empty(0, dtype=np.int64)
        counts = np.array(<int64_t[:batch.rows]>batch.counts) if batch.counted else None
        return names, times, values, present, counts, ends, decoded
    finally:
        if scan != NULL:
            keep_scan(scan)
        free(batch.layout.numbers)
        free(batch.times)
        free(batch.counts)
        free(batch.values)
        free(batch.present)


cdef Span* spans_of(const uint8_t[::1] data, const int64_t[::1] offsets) except NULL:
    """Return where the blobs data[offsets[i]:offsets[i + 1]] are. To free it is the caller's part."""
    cdef Py_ssize_t m = offsets.shape[0] - 1, i
    cdef Span* blobs = NULL
    if not resize(&blobs, m, sizeof(Span)):
        raise MemoryError
    for i in range(m):
        blobs[i].at = &data[0] + offsets[i] if data.shape[0] else NULL
        blobs[i].size = offsets[i + 1] - offsets[i]
    return blobs


cdef Span* spans_of_list(list texts) except NULL:
    """Return where these bytes are, with a size of -1 for None. To free it is the caller's part."""
    cdef Py_ssize_t m = len(texts), i
    cdef bytes text
    cdef Span* blobs = NULL
    if not resize(&blobs, m, sizeof(Span)):
        raise MemoryError
    for i in range(m):
        text = texts[i]
        blobs[i].at = <const uint8_t*>PyBytes_AS_STRING(text) if text is not None else NULL
        blobs[i].size = PyBytes_GET_SIZE(text) if text is not None else -1
    return blobs


def decode_packed(const uint8_t[::1] data, const int64_t[::1] offsets):
    """Decode the blobs data[offsets[i]:offsets[i + 1]] to one batch.

    Return the names, sorted; times, values, present (None: all), counts (None: all one), and the offsets of each series in them;
    and for each blob whether it was decoded. A blob that was not has no rows: the fallback decoder decides.
    """
    cdef Span* blobs = spans_of(data, offsets)
    try:
        return decode_all(blobs, offsets.shape[0] - 1)
    finally:
        free(blobs)


def decode_blobs(list texts):
    """Decode a list of bytes, or of None for what only the fallback decoder can decode, as `decode_packed` does."""
    cdef Span* blobs = spans_of_list(texts)
    try:
        return decode_all(blobs, len(texts))
    finally:
        free(blobs)


def encode_columns(
    const int64_t[::1] times,
    const uint64_t[:, ::1] values,
    const uint8_t[:, ::1] present,
    const int64_t[::1] counts,
    const int64_t[::1] offsets,
    bytes keys,
    const int64_t[::1] key_ends,
    int digits,
):
    """Return the stored text of each series."""
    cdef Columns columns = columns_of(times, values, present, counts), series = columns
    cdef Py_ssize_t m = 1 if offsets is None else offsets.shape[0] - 1, first = 0, i, j
    cdef int64_t[2] one
    cdef const int64_t* starts = one
    cdef Text text
    cdef Written minute
    cdef Keys to_keys
    cdef bint done = True
    cdef Py_ssize_t* ends = NULL
    to_keys.text = <const uint8_t*>PyBytes_AS_STRING(keys)
    to_keys.ends = &key_ends[0] if columns.k else NULL
    one[0] = 0
    one[1] = columns.n
    if offsets is not None:
        starts = &offsets[0]
    memset(&text, 0, sizeof(Text))
    memset(&minute, 0, sizeof(Written))
    texts = [b""] * m
    if not resize(&ends, m + 1, sizeof(Py_ssize_t)):
        raise MemoryError
    try:
        while first < m:
            with nogil:
                # A chunk stays in the processor's cache until it is copied.
                text.size = ends[first] = 0
                i = first
                while i < m and text.size < CHUNK:
                    series.n = starts[i + 1] - starts[i]
                    series.times = columns.times + starts[i]
                    series.counts = columns.counts + starts[i] if columns.counts != NULL else NULL
                    series.values = columns.values + starts[i] if columns.values != NULL else NULL
                    series.present = columns.present + starts[i] if columns.present != NULL else NULL
                    done = write_columns(&text, &series, &to_keys, digits, &minute)
                    if not done:
                        break
                    i += 1
                    ends[i] = text.size
            if not done:
                raise MemoryError
            for j in range(first, i):
                if ends[j + 1] > ends[j]:
                    texts[j] = PyBytes_FromStringAndSize(<const char*>text.at + ends[j], ends[j + 1] - ends[j])
            first = i
        return texts
    finally:
        free(text.at)
        free(ends)
