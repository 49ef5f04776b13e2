"""The largest number of rows whose text fits a budget.

Sizes are not monotone in the number of rows, so the search must rule out every number above its result. A lower bound rules out
whole ranges of them. The rest are measured: exactly, but row by row, and the size of a row is computed only once.
"""

from cpython.mem cimport PyMem_RawFree as free
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memset

from callstats.kernels._ascii cimport digits_of
from callstats.kernels._binning cimport (
    ABSENT, MEAN, PRESENT, SUM, TOO_LARGE, Column, Found, Row, column_of, plan_rows, reduce_row, row_end
)
from callstats.kernels._columns cimport Columns, resize
from callstats.kernels._json_write cimport BARE_ROW, Keys, key_size

cdef enum:
    WAYS = 4  # remembered sizes for each first sample of a row
    UNITS = 64  # parts of a byte, for prices
    CHECK_EVERY = 4_000_000  # cells

cdef struct Size:
    # The size of the text of a row of so many samples. 0 samples: not computed yet.
    uint32_t samples, size

cdef struct Apart:
    # Times from sample to sample, added up by their bit lengths. `ends` of them have no end.
    uint64_t[65] sums
    int64_t ends

cdef struct Metric:
    # A metric of the result, and the size of its key. Of a mean also the sums of its cells before each sample, and of their weights
    # (NULL: those of the samples). NULL sums: one would not fit.
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


cdef inline int allow_interrupt(Search* search) except -1 nogil:
    """Raise the KeyboardInterrupt of a signal, or of the threads' caller."""
    search.work = 0
    with gil:
        from callstats._parallel import raise_if_stopped

        raise_if_stopped()
    return 0


cdef inline int64_t measure_rows(Search* search, int64_t k, bint whole) except -2 nogil:
    """Return the size of the text of k rows. If not `whole`, stop once it exceeds the budget. Return -1 where a sum is too large."""
    cdef Py_ssize_t i, n = plan_rows(search.source.times, 0, search.source.n, k, search.rows)
    cdef int64_t size = 2, row
    search.measured += 1
    for i in range(n):
        row = row_size(search, search.rows[i].begin, search.rows[i + 1].begin)
        if row < 0:
            return -1
        size += row
        if not whole and not search.may_overflow and size + (n - i - 1) * search.min_row > search.max_bytes:
            return search.max_bytes + 1
        if search.work > CHECK_EVERY:
            allow_interrupt(search)
    return size


cdef inline bint is_too_many(Search* search, int64_t low, int64_t high) noexcept nogil:
    """Return whether no number of rows from low to high fits, by what each row has at least.

    Windows of the widest size, each begun at a sample, are the fewest that can hold all samples. Narrower ones are no fewer. A row
    lacks a metric only if its window lies in a gap of the metric.
    """
    cdef const int64_t* times = search.source.times
    cdef Py_ssize_t n = search.source.n, i = 0, size = 1, j
    cdef uint64_t span = <uint64_t>times[n - 1] - <uint64_t>times[0]
    cdef uint64_t window = span // <uint64_t>low, narrow = span // <uint64_t>high, bound
    cdef int64_t rows = 0, bytes, having
    cdef Metric* metric
    if search.may_overflow:
        return False
    window = window if window else 1
    while i < n and rows < low:
        rows += 1
        bound = <uint64_t>times[i] - <uint64_t>times[0]
        if span - bound <= window:
            break
        size = row_end(times, i, size, n, window, &bound) - i
        i += size
    bytes = 2 + rows * search.min_row
    if bytes > search.max_bytes or narrow == 0:
        return bytes > search.max_bytes
    bytes -= rows  # the first metric of a row has no comma
    for j in range(search.n_metrics):
        metric = search.metrics + j
        if metric.optional:
            having = rows - windows_in(&metric.absent, narrow, narrow)
            if metric.alone:
                having -= windows_in(&search.neighbours, narrow, 1)
            if having > 0:
                bytes += having * (metric.key + 1)
    return bytes > search.max_bytes


cdef inline bint is_excluded(Search* search, int64_t low, int64_t high, double price) except -1 nogil:
    """Return whether a lower bound shows that no number of rows from low to high fits.

    Each of these reductions is a path through rows from the first sample to the last. A window that holds a row spans its samples,
    but not those beside it too. So the shortest path through all such rows is a lower bound. A row costs its size less a price,
    which is added for as many rows as there are at least: what one row more costs keeps paths of fewer rows from being shorter.
    """
    cdef const int64_t* times = search.source.times
    cdef int64_t* best = search.best
    cdef Py_ssize_t n = search.source.n, begin, end, first_end = 0, last_end = 0, paths = 0
    cdef uint64_t span = <uint64_t>times[n - 1] - <uint64_t>times[0], gap, since
    cdef uint64_t wide = span // <uint64_t>low, narrow = span // <uint64_t>high
    cdef int64_t toll = <int64_t>(price * UNITS), rows = low, total = INT64_MAX, row
    if narrow == 0:
        return False  # windows have a min width
    best[0] = 0
    for begin in range(1, n):
        best[begin] = INT64_MAX
    for begin in range(n):
        since = <uint64_t>times[begin] - <uint64_t>times[0]
        gap = <uint64_t>times[begin] - <uint64_t>times[begin - 1] if begin else 0
        rows -= <int64_t>(gap // narrow) if gap > narrow else 0  # so many windows may be empty
        while last_end < n and <uint64_t>times[last_end] - <uint64_t>times[begin] <= wide:
            last_end += 1
        while first_end < n and <uint64_t>times[first_end] - <uint64_t>times[begin - 1 if begin else 0] <= narrow:
            first_end += 1
        if best[begin] == INT64_MAX:
            continue
        for end in range(first_end if first_end > begin else begin + 1, last_end + 1 if last_end < n else n):
            row = row_size(search, begin, end)
            if row < 0:
                return False
            row = best[begin] + row * UNITS - toll
            if row < best[end]:
                best[end] = row
            paths += 1
        if since + wide + <uint64_t>high >= span:
            # The last row takes all samples that are left, however many.
            row = row_size(search, begin, n)
            if row < 0:
                return False
            row = best[begin] + row * UNITS - toll
            if row < total:
                total = row
            paths += n - begin
        if paths > 16 * n:
            return False
        if search.work > CHECK_EVERY:
            allow_interrupt(search)
    return total < INT64_MAX and 2 * UNITS + total + toll * (rows if rows > 0 else 0) > search.max_bytes * UNITS


cdef inline int64_t fit_text(Search* search, int64_t max_rows) except? -1 nogil:
    """Return the largest number of rows, from max_rows down, whose text fits.

    Return 0 when none fits. Return -k when a sum is too large at k, before any fits.
    """
    cdef int64_t n = search.source.n, high = max_rows, low = 0, over, k, size, attempt, step
    cdef int64_t low_size = 2, over_size = 2 + high * search.min_row, high_size = 0
    cdef bint low_is_too_large = False
    # Find some number that fits, near the largest: sizes rise nearly evenly.
    over = high + 1
    for attempt in range(16):
        if over - low <= 1 or (over - low) * 512 < over:
            break
        if attempt % 4 == 3:
            k = low + (over - low) // 2
        else:
            k = low + <int64_t>(<double>(over - low) * (search.max_bytes - low_size) / (over_size - low_size))
        k = low + 1 if k <= low else over - 1 if k >= over else k
        size = measure_rows(search, k, True)
        if size <= search.max_bytes:
            low = k
            low_is_too_large = size < 0
            low_size = size if size > 0 else search.max_bytes
        else:
            over = k
            over_size = size
    # Rule out the numbers above it, a range at a time from the top. Near the result a bound must be closer, so ranges are shorter.
    step = high
    while (high - low) * high > 4 * n:
        k = low + (high - low) // 2 + 1
        if is_too_many(search, k, high):
            high = k - 1
            high_size = 0
            continue
        if high_size == 0:
            high_size = measure_rows(search, high, True)
            if high_size <= search.max_bytes:
                return -high if high_size < 0 else high
            if high == n:  # each sample is a row, so there are no windows
                high -= 1
                high_size = 0
                continue
        # In a range, rows may differ by about one sample.
        step = min(step, high - k + 1, 1 + high * high // n)
        k = high - step + 1
        if step * high > 4 * n:
            size = measure_rows(search, k, True)
            if size <= search.max_bytes:
                low = k
                low_is_too_large = size < 0
                continue
            if is_excluded(search, k, high, <double>(high_size - size) / (high - k + (high == k))):
                high = k - 1
                high_size = size
                step *= 2
            else:
                step = 1 + step // 4
            continue
        # To measure all of a short range costs no more.
        while high >= k:
            size = measure_rows(search, high, False)
            if size <= search.max_bytes:
                return -high if size < 0 else high
            high -= 1
        high_size = 0
        step *= 8
    while high > low:
        size = measure_rows(search, high, False)
        if size <= search.max_bytes:
            return -high if size < 0 else high
        high -= 1
    return -low if low_is_too_large else low
