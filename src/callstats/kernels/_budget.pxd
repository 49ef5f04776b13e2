"""The largest number of rows whose text fits a budget.

Sizes are not monotone in the number of rows, so the search must rule out every number above its result. Lower bounds rule out
whole ranges of them. The rest are measured: exactly, but row by row, and the size of a row is mostly computed only once.
"""

from cpython.mem cimport PyMem_RawFree as free
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memset

from callstats.kernels._ascii cimport digits_of
from callstats.kernels._binning cimport (
    ABSENT, MEAN, PRESENT, SUM, TOO_LARGE, Column, Found, Row, column_of, plan_rows, reduce_row, row_end
)
from callstats.kernels._columns cimport Columns, grow
from callstats.kernels._extremes cimport min_of
from callstats.kernels._json_write cimport BARE_ROW, Keys, key_size

cdef enum:
    WAYS = 4  # remembered sizes for each first sample of a row
    UNITS = 64  # parts of a byte, for prices
    CHECK_EVERY = 4_000_000  # cells

cdef struct Size:
    # The size of the text of a row of so many samples. 0 samples: not computed yet.
    uint32_t samples, size

cdef struct Metric:
    # A metric of the result, the size of its key, and the min size of key and value. A mean has the sums of its cells before each
    # sample too, and of their weights (NULL: those of the samples). NULL sums: one would not fit.
    Column column
    int64_t key, min_size
    const uint64_t* sums
    const uint64_t* weights
    bint optional  # rows may lack it

cdef struct Search:
    const Columns* source
    int64_t max_bytes
    bint zero, counts
    bint may_overflow  # a sum may be too large
    Row* rows
    Metric* metrics
    uint64_t* weights  # of all samples before each one
    uint64_t* sums  # those of the metrics
    Size* sizes  # WAYS for each sample: rows that begin with it
    int64_t* best  # for each sample: the min price of rows before it
    Py_ssize_t n_metrics, metric_room, weight_room, sum_room, size_room, best_room
    int64_t work


cdef inline void search_free(Search* search) noexcept nogil:
    free(search.metrics)
    free(search.weights)
    free(search.sums)
    free(search.sizes)
    free(search.best)


cdef inline Py_ssize_t search_size(const Search* search) noexcept nogil:
    """Return the number of bytes that it keeps."""
    return 8 * (search.weight_room + search.sum_room + search.size_room + search.best_room) + sizeof(Metric) * search.metric_room


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
    cdef const uint8_t* present
    cdef Metric* metric
    cdef Column* column
    cdef uint64_t total
    if not (
        grow(&search.metrics, &search.metric_room, k, sizeof(Metric))
        and grow(&search.weights, &search.weight_room, n + 1, sizeof(uint64_t))
        and grow(&search.sums, &search.sum_room, 2 * k * (n + 1), sizeof(uint64_t))
        and grow(&search.sizes, &search.size_room, n * WAYS, sizeof(Size))
        and grow(&search.best, &search.best_room, n + 1, sizeof(int64_t))
    ):
        return False
    memset(search.sizes, 0, n * WAYS * sizeof(Size))
    search.source = source
    search.rows = rows
    search.max_bytes = max_bytes
    search.zero = zero
    search.counts = counts
    search.may_overflow = False
    search.work = search.n_metrics = 0
    search.weights[0] = 0
    for i in range(n):
        search.weights[i + 1] = search.weights[i] + (1 if source.counts == NULL else <uint64_t>source.counts[i])
    for j in range(k):
        metric = search.metrics + search.n_metrics
        memset(metric, 0, sizeof(Metric))
        column = &metric.column
        column[0] = column_of(source, plan[j], plan[k + j], plan[2 * k + j])
        present = column.own_present if column.own != NULL else column.other_present
        metric.optional = column.own == NULL or (present != NULL and memchr(present, 0, n) != NULL)
        if metric.optional and not plan[3 * k + j] and memchr(present, 1, n) == NULL:
            continue  # not requested, and the series does not have it
        metric.key = key_size(keys, j)
        # No reducer gives less than the min, and absent cells are 0.
        metric.min_size = metric.key + digits_of(min_of(column.own if column.own != NULL else column.other, n))
        if column.reducer == MEAN:
            add_up(metric, search, search.sums + 2 * j * (n + 1))
        elif column.reducer == SUM:
            total = 0
            for i in range(n):
                total += column.own[i]
                search.may_overflow = search.may_overflow or total < column.own[i]
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


cdef inline int allow_interrupt(Search* search) except -1 nogil:
    """Raise the KeyboardInterrupt of a signal, or of the threads' caller."""
    search.work = 0
    with gil:
        from callstats._parallel import raise_if_stopped

        raise_if_stopped()
    return 0


cdef inline int64_t measure_rows(Search* search, int64_t k) except -2 nogil:
    """Return the size of the text of k rows; -1 where a sum is too large."""
    cdef Py_ssize_t i, n = plan_rows(search.source.times, 0, search.source.n, k, search.rows)
    cdef int64_t size = 2, row
    for i in range(n):
        row = row_size(search, search.rows[i].begin, search.rows[i + 1].begin)
        if row < 0:
            return -1
        size += row
        if search.work > CHECK_EVERY:
            allow_interrupt(search)
    return size


cdef inline bint has_surely(
    const Metric* metric, const int64_t* times, Py_ssize_t n, Py_ssize_t i, uint64_t narrow
) noexcept nogil:
    """Return whether any row with sample i has the metric, in windows of at least `narrow`."""
    if metric.column.own != NULL:
        return metric.column.own_present[i]
    # A single sample lacks a new metric. But a sample whose neighbours are near is in no row alone.
    if metric.column.other_present != NULL and not metric.column.other_present[i]:
        return False
    return 0 < i < n - 1 and <uint64_t>times[i + 1] - <uint64_t>times[i - 1] <= narrow


cdef inline int64_t min_rows(const Search* search, const Metric* metric, uint64_t wide, uint64_t narrow) noexcept nogil:
    """Return how many rows there are at least in windows of `narrow` to `wide`; with a metric, how many have it.

    The widest windows, each begun at a sample whose row must be counted, are the fewest that can hold all such samples.
    """
    cdef const int64_t* times = search.source.times
    cdef Py_ssize_t n = search.source.n, i = 0, before, size = 1
    cdef uint64_t span = <uint64_t>times[n - 1] - <uint64_t>times[0], bound
    cdef int64_t rows = 0
    while True:
        while metric != NULL and i < n and not has_surely(metric, times, n, i, narrow):
            i += 1
        if i == n:
            return rows
        rows += 1
        bound = <uint64_t>times[i] - <uint64_t>times[0]
        if span - bound <= wide:
            return rows
        before = i
        i = row_end(times, i, size, n, wide, &bound)
        size = i - before


cdef inline bint is_too_many(const Search* search, int64_t low, int64_t high) noexcept nogil:
    """Return whether no number of rows from low to high fits, by what each row has at least."""
    cdef const int64_t* times = search.source.times
    cdef uint64_t span = <uint64_t>times[search.source.n - 1] - <uint64_t>times[0]
    cdef uint64_t wide = span // <uint64_t>low + <uint64_t>high, narrow = span // <uint64_t>high
    cdef int64_t rows, size, most
    cdef const Metric* metric
    cdef Py_ssize_t j
    if search.may_overflow or span >> 62:
        return False
    rows = min_rows(search, NULL, wide, narrow)
    size = most = 2 + rows * (BARE_ROW + 2)  # the first metric has no comma
    for j in range(search.n_metrics):
        most += rows * search.metrics[j].min_size
    if most <= search.max_bytes:
        return False
    for j in range(search.n_metrics):
        if not search.metrics[j].optional:
            size += rows * search.metrics[j].min_size
    for j in range(search.n_metrics):
        metric = search.metrics + j
        # In n rows each sample is alone, and lacks the new metrics.
        if metric.optional and size <= search.max_bytes and (metric.column.own != NULL or high < search.source.n):
            size += min_rows(search, metric, wide, narrow) * metric.min_size
    return size > search.max_bytes


cdef inline bint is_excluded(Search* search, int64_t low, int64_t high, double price) except -1 nogil:
    """Return whether a lower bound shows that no number of rows from low to high fits.

    Each of these reductions is a path through rows from the first sample to the last. A window that holds a row spans its
    samples, but not those beside it too. So the shortest path through all such rows is a lower bound. A row costs its size less a
    price, which is added for as many rows as there are at least. The price is what one row more costs. It keeps paths of fewer
    rows from being shorter.
    """
    cdef const int64_t* times = search.source.times
    cdef int64_t* best = search.best
    cdef Py_ssize_t n = search.source.n, begin, end, first_end = 0, last_end = 0, paths = 0
    cdef uint64_t span = <uint64_t>times[n - 1] - <uint64_t>times[0], gap
    cdef uint64_t wide = span // <uint64_t>low + <uint64_t>high, narrow = span // <uint64_t>high
    # Of fewer rows than the paths have, a negative price would be too much.
    cdef int64_t toll = <int64_t>(price * UNITS) if price > 0 else 0, rows = low, row
    if narrow == 0 or span >> 62:
        return False  # windows have a min width, and sums of times must fit
    best[0] = 0
    for begin in range(1, n + 1):
        best[begin] = INT64_MAX
    for begin in range(n):
        gap = <uint64_t>times[begin] - <uint64_t>times[begin - 1] if begin else 0
        rows -= <int64_t>(gap // narrow) if gap > narrow else 0  # so many windows may be empty
        while last_end < n and <uint64_t>times[last_end] - <uint64_t>times[begin] <= wide:
            last_end += 1
        while first_end < n and <uint64_t>times[first_end] - <uint64_t>times[begin - 1 if begin else 0] <= narrow:
            first_end += 1
        if best[begin] == INT64_MAX:
            continue
        for end in range(first_end if first_end > begin else begin + 1, last_end + 1):
            row = row_size(search, begin, end)
            if row < 0:
                return False
            row = best[begin] + row * UNITS - toll
            if row < best[end]:
                best[end] = row
            paths += 1
        if paths > 16 * n:
            return False
        if search.work > CHECK_EVERY:
            allow_interrupt(search)
    return best[n] < INT64_MAX and 2 * UNITS + best[n] + toll * (rows if rows > 0 else 0) > search.max_bytes * UNITS


cdef inline int64_t fit_between(Search* search, int64_t low, int64_t high, int64_t low_size, int64_t high_size) except? -1 nogil:
    """Return the largest number of rows from low to high whose text fits; 0, or -k, as `fit_text` does.

    The sizes are those at low and high; 0 where they were not measured yet.
    """
    cdef int64_t n = search.source.n, k, size, middle
    if is_too_many(search, low, high):
        return 0
    if (high - low) * high <= 4 * n:  # to measure all of them costs no more
        for k in range(high, low - 1, -1):
            size = measure_rows(search, k)
            if size <= search.max_bytes:
                return -k if size < 0 else k
        return 0
    if (high - low) * 2 * n <= high * high:  # rows differ by about one sample, so there are not too many paths
        high_size = high_size or measure_rows(search, high)
        if high_size <= search.max_bytes:
            return -high if high_size < 0 else high
        low_size = low_size or measure_rows(search, low)
        # Where the lowest number fits, so may others.
        if low_size > search.max_bytes and is_excluded(search, low, high, <double>(high_size - low_size) / (high - low)):
            return 0
    middle = low + (high - low) // 2
    k = fit_between(search, middle + 1, high, 0, high_size)
    return k if k else fit_between(search, low, middle, low_size, 0)


cdef inline int64_t fit_text(Search* search, int64_t max_rows) except? -1 nogil:
    """Return the largest number of rows, from max_rows down, whose text fits.

    Return 0 when none fits. Return -k when a sum is too large at k, before any fits.
    """
    cdef int64_t n = search.source.n, size
    if max_rows == n > 0:  # each sample is a row, so there are no windows
        size = search.max_bytes + 1 if is_too_many(search, n, n) else measure_rows(search, n)
        if size <= search.max_bytes:
            return -n if size < 0 else n
        max_rows -= 1
    return fit_between(search, 1, max_rows, 0, 0) if max_rows else 0
