"""The sizes of the rows that a reduction may have, each computed once, and what a search for a budget knows of its columns."""

from cpython.mem cimport PyMem_RawFree as free
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memset

from callstats.kernels._ascii cimport digits_of
from callstats.kernels._binning cimport (
    ABSENT, MEAN, PRESENT, SUM, TOO_LARGE, Column, Found, Row, column_of, reduce_row
)
from callstats.kernels._columns cimport Columns, resize
from callstats.kernels._json_write cimport BARE_ROW, Keys, key_size

cdef enum:
    WAYS = 4  # remembered sizes for each first sample of a row
    UNITS = 64  # parts of a byte, for prices

cdef struct Size:
    # The size of the text of a row of so many samples. 0 samples: not computed yet.
    uint32_t samples, size

cdef struct Apart:
    # Times from sample to sample, added up by their bit lengths. `ends` of them have no end.
    uint64_t[65] sums
    int64_t ends

cdef struct Metric:
    # A metric of the result, and the size of its key. A mean has the sums of its cells before each sample too, and of their
    # weights (NULL: those of the samples). NULL sums: one would not fit.
    Column column
    int64_t key
    const uint64_t* sums
    const uint64_t* weights
    bint optional  # rows may lack it: in gaps `absent`, or, when `alone`, as single samples
    bint alone
    Apart absent

cdef struct Search:
    const Columns* source
    int64_t max_bytes
    bint zero, counts
    Row* rows
    Metric* metrics
    uint64_t* weights  # of all samples before each one
    uint64_t* sums  # those of the metrics
    Size* sizes  # WAYS for each sample: rows that begin with it
    int64_t* best  # for each sample: the min price of rows before it
    Py_ssize_t n_metrics, room, metric_room, sum_room
    int64_t min_row, work
    Py_ssize_t measured  # numbers of rows
    bint may_overflow  # a sum may be too large
    Apart neighbours  # from the sample before each sample to that after it


cdef inline void search_free(Search* search) noexcept nogil:
    free(search.metrics)
    free(search.weights)
    free(search.sums)
    free(search.sizes)
    free(search.best)
    memset(search, 0, sizeof(Search))


cdef inline bint make_search_room(Search* search, Py_ssize_t n, Py_ssize_t k) noexcept nogil:
    if n > search.room or search.room == 0:
        if not (
            resize(&search.sizes, n * WAYS, sizeof(Size))
            and resize(&search.best, n + 1, sizeof(int64_t))
            and resize(&search.weights, n + 1, sizeof(uint64_t))
        ):
            return False
        search.room = n
    if k > search.metric_room or search.metric_room == 0:
        if not resize(&search.metrics, k, sizeof(Metric)):
            return False
        search.metric_room = k
    if 2 * k * (n + 1) > search.sum_room or search.sum_room == 0:
        if not resize(&search.sums, 2 * k * (n + 1), sizeof(uint64_t)):
            return False
        search.sum_room = 2 * k * (n + 1)
    return True


cdef inline void add_time(Apart* apart, uint64_t time, uint64_t amount) noexcept nogil:
    cdef int bits = 0
    while time >> 8 * (bits // 8) > 255 if bits < 56 else False:
        bits += 8
    while bits < 64 and time >> bits:
        bits += 1
    apart.sums[bits] += amount


cdef inline int64_t windows_in(const Apart* apart, uint64_t window, uint64_t each) noexcept nogil:
    """Return how many windows lie in these times at most: amounts of times as long as one, over `each`."""
    cdef int bits = 0
    cdef uint64_t total = 0
    while bits < 64 and window >> bits:
        bits += 1
    while bits <= 64:
        total += apart.sums[bits]
        bits += 1
    return <int64_t>(total // each) + apart.ends


cdef inline void find_gaps(Apart* apart, const uint8_t* present, const int64_t* times, Py_ssize_t n) noexcept nogil:
    """Add up the times from a sample that has the metric to the next that has it, where others lie between."""
    cdef Py_ssize_t i, before = -1
    for i in range(n + 1):
        if i < n and not present[i]:
            continue
        if i - before > 1:
            apart.ends += before < 0 or i == n
            add_time(
                apart, <uint64_t>times[i if i < n else n - 1] - <uint64_t>times[before if before > 0 else 0],
                <uint64_t>times[i if i < n else n - 1] - <uint64_t>times[before if before > 0 else 0],
            )
        before = i


cdef inline void add_up(Metric* metric, Search* search, uint64_t* sums) noexcept nogil:
    """Set the sums of a mean; leave them where one would not fit."""
    cdef const int64_t* counts = search.source.counts
    cdef const uint8_t* present = metric.column.own_present
    cdef Py_ssize_t n = search.source.n, i
    cdef uint64_t* weights = sums + n + 1
    cdef uint64_t total = 0, weight, cell
    sums[0] = weights[0] = 0
    for i in range(n):
        weight = 1 if counts == NULL else <uint64_t>counts[i]
        cell = metric.column.own[i]
        if present != NULL:
            cell = cell if present[i] else 0
            weights[i + 1] = weights[i] + (weight if present[i] else 0)
        if weight > 1:
            if cell > <uint64_t>-1 // weight:
                return
            cell *= weight
        total += cell
        if total < cell:
            return
        sums[i + 1] = total
    metric.sums = sums
    metric.weights = weights if present != NULL else NULL


cdef inline bint search_init(
    Search* search, const Columns* source, const int64_t* plan, Py_ssize_t k, const Keys* keys, Row* rows,
    int64_t max_bytes, bint zero, bint counts
) noexcept nogil:
    """Prepare a search. `rows` has room for each sample and one more. Return False without memory."""
    cdef Py_ssize_t n = source.n, j, i
    cdef const int64_t* times = source.times
    cdef const uint8_t* present
    cdef Metric* metric
    cdef Column* column
    cdef uint64_t low
    cdef bint any = False
    if not make_search_room(search, n, k):
        return False
    memset(search.sizes, 0, n * WAYS * sizeof(Size))
    memset(&search.neighbours, 0, sizeof(Apart))
    search.source = source
    search.rows = rows
    search.max_bytes = max_bytes
    search.zero = zero
    search.counts = counts
    search.may_overflow = False
    search.measured = search.work = search.n_metrics = 0
    search.min_row = BARE_ROW + 3
    search.weights[0] = 0
    search.neighbours.ends = 2
    for i in range(n):
        search.weights[i + 1] = search.weights[i] + (1 if source.counts == NULL else <uint64_t>source.counts[i])
        if 0 < i < n - 1:
            add_time(&search.neighbours, <uint64_t>times[i + 1] - <uint64_t>times[i - 1], 1)
    for j in range(k):
        metric = search.metrics + search.n_metrics
        memset(metric, 0, sizeof(Metric))
        column = &metric.column
        column[0] = column_of(source, plan[j], plan[k + j], plan[2 * k + j])
        metric.key = key_size(keys, j)
        present = column.own_present if column.own != NULL else column.other_present
        metric.alone = column.own == NULL
        metric.optional = metric.alone or (present != NULL and memchr(present, 0, n) != NULL)
        if metric.optional:
            if not plan[3 * k + j] and memchr(present, 1, n) == NULL:
                continue  # not requested, and the series does not have it
            if present != NULL:
                find_gaps(&metric.absent, present, times, n)
        else:
            # Every row has the metric, and no reducer gives less than the min.
            low = column.own[0]
            for i in range(1, n):
                low = column.own[i] if column.own[i] < low else low
            search.min_row += metric.key + digits_of(low) - (not any)
            any = True
        if column.reducer == MEAN:
            add_up(metric, search, search.sums + 2 * j * (n + 1))
        elif column.reducer == SUM:
            low = 0
            for i in range(n):
                low += column.own[i]
                search.may_overflow = search.may_overflow or low < column.own[i]
        search.n_metrics += 1
    return True


cdef inline Found reduce_metric(
    Search* search, const Metric* metric, const Row* row, uint64_t* value
) noexcept nogil:
    """Reduce a row as `reduce_row` does."""
    cdef Py_ssize_t begin = row[0].begin, end = row[1].begin
    cdef uint64_t weight = row.total
    if metric.sums == NULL:
        return reduce_row(&metric.column, search.source.counts, row, search.zero, value)
    if metric.weights != NULL:
        weight = metric.weights[end] - metric.weights[begin]
        if weight == 0:
            return ABSENT
        weight = row.total if search.zero else weight
    value[0] = (metric.sums[end] - metric.sums[begin]) // weight
    return PRESENT


cdef inline int64_t compute_row_size(Search* search, Py_ssize_t begin, Py_ssize_t end, Size* known) noexcept nogil:
    cdef Py_ssize_t samples = end - begin, j
    cdef Row[2] row
    cdef Found found = ABSENT
    cdef uint64_t value
    cdef int64_t size = BARE_ROW + 3
    cdef bint any = False
    search.work += 8 * search.n_metrics
    row[0].begin = begin
    row[1].begin = end
    row[0].total = search.weights[end] - search.weights[begin]
    row[0].max_cell = <uint64_t>-1 // row[0].total
    for j in range(search.n_metrics):
        if search.metrics[j].sums == NULL:
            search.work += samples
        found = reduce_metric(search, search.metrics + j, row, &value)
        if found == TOO_LARGE:
            break
        if found != ABSENT:
            size += search.metrics[j].key + digits_of(value)
            any = True
    size -= any  # the first metric has no comma
    if search.counts and row[0].total > 1:
        size += 9 + digits_of(row[0].total)
    known.samples = <uint32_t>samples
    known.size = 0 if found == TOO_LARGE else <uint32_t>size
    return known.size if known.size else -1


cdef inline int64_t row_size(Search* search, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Return the size of the text of a row of the samples from begin to end; -1 where a sum is too large."""
    cdef Size* known = search.sizes + WAYS * begin + ((end - begin) & (WAYS - 1))
    search.work += 1
    if known.samples == <uint32_t>(end - begin):
        return known.size if known.size else -1
    return compute_row_size(search, begin, end, known)
