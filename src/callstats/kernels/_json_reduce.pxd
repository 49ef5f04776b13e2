# cython: language_level=3
"""One stored histogram, text to reduced text: the scratch that this takes, and what becomes of the metrics."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy, memset

from callstats.kernels._binning cimport Column, Row, mean_time, plan_rows, reduce_rows, weigh_rows
from callstats.kernels._ascii cimport Day
from callstats.kernels._json_scan cimport Scan, scan_free, scan_init
from callstats.kernels._json_write cimport BARE_ROW, Table, Text, measure, write_table

cdef enum:
    # What a blob's result is.
    SAME = 0
    WRITTEN = 1
    OTHER = 2

cdef struct Layout:
    # What becomes of a blob's metrics, for the names that the last scan found: see `reduce_text`.
    Py_ssize_t n_names, k
    const uint8_t* names
    const int64_t* name_ends
    const int64_t* columns
    const uint8_t* keys
    const int64_t* key_ends

cdef struct Work:
    # The scratch of one call, used again for each blob, and what it has written.
    Text text
    Scan scan
    Layout layout
    Row* rows
    Row* tried  # the rows that were too long last
    int64_t* times
    int64_t* counts
    uint64_t* values
    uint8_t* present
    Py_ssize_t row_room, cell_room
    Day day


cdef inline void work_init(Work* work) noexcept nogil:
    memset(work, 0, sizeof(Work))
    scan_init(&work.scan)
    work.layout.n_names = -1
    work.day.days = -1_000_000_000


cdef inline void work_free(Work* work) noexcept nogil:
    scan_free(&work.scan)
    free(work.rows)
    free(work.tried)
    free(work.times)
    free(work.counts)
    free(work.values)
    free(work.present)
    free(work.text.at)


cdef inline bint work_room(Work* work, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """Room for a result; False when there is no memory."""
    if rows + 1 > work.row_room:
        work.row_room = 0
        free(work.rows)
        free(work.tried)
        free(work.times)
        free(work.counts)
        work.rows = <Row*>malloc((rows + 1) * sizeof(Row))
        work.tried = <Row*>malloc((rows + 1) * sizeof(Row))
        work.times = <int64_t*>malloc((rows + 1) * sizeof(int64_t))
        work.counts = <int64_t*>malloc((rows + 1) * sizeof(int64_t))
        if work.rows == NULL or work.tried == NULL or work.times == NULL or work.counts == NULL:
            return False
        work.row_room = rows + 1
    if rows * columns + 1 > work.cell_room:
        work.cell_room = 0
        free(work.values)
        free(work.present)
        work.values = <uint64_t*>malloc((rows * columns + 1) * sizeof(uint64_t))
        work.present = <uint8_t*>malloc(rows * columns + 1)
        if work.values == NULL or work.present == NULL:
            return False
        work.cell_room = rows * columns + 1
    return True


cdef inline bint laid_out(const Work* work) noexcept nogil:
    """Whether the layout is for the names that the scan found."""
    cdef Py_ssize_t i
    cdef int64_t begin = 0
    if work.scan.columns != work.layout.n_names:
        return False
    for i in range(work.scan.columns):
        if (
            work.scan.names[i].size != work.layout.name_ends[i] - begin
            or memcmp(work.scan.names[i].at, work.layout.names + begin, work.scan.names[i].size) != 0
        ):
            return False
        begin = work.layout.name_ends[i]
    return True


cdef inline Py_ssize_t reduce_to(
    Work* work, const Table* source, const Layout* layout, int64_t most, bint zero, bint counts, Table* out
) noexcept nogil:
    """Reduce columns to at most `most` >= 1 rows, in `work`'s room; how many there are, or -1 when a sum is too large."""
    cdef Py_ssize_t k = layout.k, r, j, too_large
    cdef int64_t own, other
    cdef Column column
    cdef bint holes = False
    r = plan_rows(source.times, 0, source.n, most, work.rows)
    weigh_rows(source.counts, work.rows, r)
    for j in range(r):
        work.times[j] = mean_time(source.times, source.counts, work.rows + j)
        work.counts[j] = <int64_t>work.rows[j].total
    memset(work.present, 1, r * k)
    too_large = r
    for j in range(k):
        own = layout.columns[j]
        other = layout.columns[k + j]
        column.own = source.values + own * source.stride if own >= 0 else NULL
        column.other = source.values + other * source.stride if other >= 0 else NULL
        column.own_present = source.present + own * source.stride if source.present != NULL and own >= 0 else NULL
        column.other_present = source.present + other * source.stride if source.present != NULL and other >= 0 else NULL
        column.reducer = layout.columns[2 * k + j]
        if reduce_rows(&column, source.counts, work.rows, r, zero, work.values + j * r, work.present + j * r, &too_large):
            holes = True
    out.n = out.stride = r
    out.k = k
    out.times = work.times
    out.counts = work.counts if counts else NULL
    out.values = work.values
    out.present = work.present if holes else NULL
    out.keys = layout.keys
    out.key_ends = layout.key_ends
    out.digits = 3
    return -1 if too_large < r else r


cdef inline int64_t shortest_row(const Table* source, const Layout* layout) noexcept nogil:
    """The fewest bytes that a row can take: with a digit for each metric that every sample has."""
    cdef int64_t size = BARE_ROW + 3, before = size, own
    cdef Py_ssize_t j
    for j in range(layout.k):
        own = layout.columns[j]
        if own >= 0 and (source.present == NULL or memchr(source.present + own * source.stride, 0, source.n) == NULL):
            size += layout.key_ends[j] - (layout.key_ends[j - 1] if j else 0) + 1
    return size - (size > before)


cdef inline bint same_rows(const Row* a, const Row* b, Py_ssize_t n) noexcept nogil:
    """Whether n rows begin at the same samples."""
    cdef Py_ssize_t i
    for i in range(n):
        if a[i].begin != b[i].begin:
            return False
    return True


cdef inline int64_t most_to_fit(
    Work* work, const Table* source, const Layout* layout, int64_t most, int64_t max_bytes
) noexcept nogil:
    """A number of rows, `most` or fewer, past which no text fits."""
    cdef int64_t least = shortest_row(source, layout), k = 1
    # Bins that are no wider hold at least half as many rows: each meets two of the wide ones at most. So where half the rows of
    # k are too many, every larger number of rows is out.
    while k < most:
        if (plan_rows(source.times, 0, source.n, k, work.rows) + 1) // 2 * least + 2 > max_bytes:
            most = k
        k *= 2
    return most


cdef inline int64_t fit_to(
    Work* work,
    const Table* source,
    const Layout* layout,
    int64_t most,
    int64_t least,
    int64_t max_bytes,
    bint zero,
    bint counts,
    Table* out,
) noexcept nogil:
    """Reduce to the largest k from `most` down to `least` whose text fits: k; 0 when none does, -k when a sum is too large."""
    cdef int64_t shortest = shortest_row(source, layout), k
    cdef Py_ssize_t r, tried = 0
    for k in range(most, least - 1, -1):
        r = plan_rows(source.times, 0, source.n, k, work.rows)
        if r * shortest + 2 > max_bytes or (r == tried and same_rows(work.rows, work.tried, r)):
            continue
        memcpy(work.tried, work.rows, r * sizeof(Row))
        tried = r
        r = reduce_to(work, source, layout, k, zero, counts, out)
        if r < 0:
            return -k
        if measure(out) <= max_bytes:
            return k
    return 0


cdef inline int reduce_scanned(
    Work* work, int64_t max_samples, int64_t max_bytes, bint zero, bint counts, Text* text
) noexcept nogil:
    """Reduce what was scanned, and add its text."""
    cdef Scan* scan = &work.scan
    cdef int64_t most = scan.rows if scan.rows < max_samples else max_samples
    cdef Table source, out
    memset(&source, 0, sizeof(Table))
    source.n = scan.rows
    source.k = scan.columns
    source.stride = scan.row_room
    source.times = scan.times
    source.counts = scan.counts if scan.counted else NULL
    source.values = scan.values
    source.present = scan.present if scan.holes else NULL
    if not work_room(work, most, work.layout.k):
        return OTHER
    if max_bytes < 0:
        if reduce_to(work, &source, &work.layout, most, zero, counts, &out) < 0:
            return OTHER
    else:
        most = most_to_fit(work, &source, &work.layout, most, max_bytes)
        if fit_to(work, &source, &work.layout, most, 1, max_bytes, zero, counts, &out) <= 0:
            return OTHER
    return WRITTEN if write_table(text, &out, &work.day) else OTHER
