"""The largest number of rows whose text fits a budget.

Sizes are not monotone in the number of rows, so the search must rule out every number above its result. A lower bound rules out
whole ranges of them. The rest are measured: exactly, but row by row, and the size of a row is computed only once.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint64_t

from callstats.kernels._binning cimport plan_rows, row_end
from callstats.kernels._row_sizes cimport UNITS, Metric, Search, row_size, windows_in

cdef enum:
    CHECK_EVERY = 4_000_000  # cells


cdef inline int allow_interrupt(Search* search) except -1 nogil:
    """Raise the KeyboardInterrupt of a signal, or of the threads' caller."""
    search.work = 0
    with gil:
        from callstats._parallel import raise_if_stopped

        raise_if_stopped()
    return 0


cdef inline int64_t measure_rows(Search* search, int64_t k, bint whole) except -2 nogil:
    """Return the size of the text of k rows; -1 where a sum is too large. If not `whole`, stop once it exceeds the budget."""
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

    Windows of the widest size, each begun at a sample, are the fewest that can hold all samples. Narrower ones are no fewer.
    A row lacks a metric only if its window lies in a gap of the metric.
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

    Each of these reductions is a path through rows from the first sample to the last. A window that holds a row spans its
    samples, but not those beside it too. So the shortest path through all such rows is a lower bound. A row costs its size less a
    price, which is added for as many rows as there are at least. The price is what one row more costs. It keeps paths of fewer
    rows from being shorter.
    """
    cdef const int64_t* times = search.source.times
    cdef int64_t* best = search.best
    cdef Py_ssize_t n = search.source.n, begin, end, first_end = 0, last_end = 0, paths = 0
    cdef uint64_t span = <uint64_t>times[n - 1] - <uint64_t>times[0], gap, since
    cdef uint64_t wide = span // <uint64_t>low, narrow = span // <uint64_t>high
    # Of fewer rows than the paths have, a negative price would be too much.
    cdef int64_t toll = <int64_t>(price * UNITS) if price > 0 else 0, rows = low, total = INT64_MAX, row
    if narrow == 0 or span >> 62:
        return False  # windows have a min width, and sums of times must fit
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
    # Rule out the numbers above it, a range at a time from the top. Near the result a bound must be closer, so ranges are
    # shorter.
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
