"""The exact sums behind statistics, of series or of stored text. Compiled; `totals_py` is the specification."""

import numpy as np

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_RawFree as free
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memset

from callstats.kernels._columns cimport Columns, columns_of, resize
from callstats.kernels._extremes cimport max_of, min_of
from callstats.kernels._json_columns cimport Scan, scanned_columns, scanned_names
from callstats.kernels._json_scan cimport DECODED, SCAN_FAILED, Scanned, scan_text
from callstats.kernels.json_cy cimport keep_scan, take_scan
from callstats.kernels._uint128 cimport Wide, add, add_product

cdef object zeros = np.zeros
cdef object UINT64 = np.dtype(np.uint64)

cdef struct Totals:
    # The words of `totals`, in the order of `totals_py`.
    uint64_t rows, weight, first, last, min, max
    Wide sum, increase
    uint64_t min_is_exact, max_is_exact, ends_are_exact


cdef struct Moments:
    # The words of `moments`, in the order of `totals_py`.
    uint64_t points
    Wide t, x
    uint64_t tx[3]
    uint64_t tt[3]


cdef struct Ends:
    # The first and the last of the values so far, and how much they rose.
    uint64_t first, last
    Wide rise
    bint any


cdef struct Metric:
    # The cells of a metric, and which are present. NULL cells: there is no such metric. NULL presence: every cell is present.
    const uint64_t* cells
    const uint8_t* present


cdef inline Metric metric_of(const Columns* columns, int64_t index) noexcept nogil:
    cdef Metric metric
    cdef bint found = index >= 0 and columns.n > 0
    metric.cells = columns.values + index * columns.stride if found else NULL
    metric.present = columns.present + index * columns.stride if found and columns.present != NULL else NULL
    return metric


cdef inline bint is_present(const Metric* metric, Py_ssize_t row) noexcept nogil:
    return metric.cells != NULL and (metric.present == NULL or metric.present[row])


cdef inline uint64_t increase(uint64_t before, uint64_t after) noexcept nogil:
    """Return how much a counter rose. A counter that fell started again at 0."""
    return after - before if after >= before else after


cdef inline void follow(Ends* ends, uint64_t value) noexcept nogil:
    if ends.any:
        add(&ends.rise, increase(ends.last, value))
    else:
        ends.first = value
    ends.last = value
    ends.any = True


cdef inline void add_wide_product(uint64_t* words, uint64_t a, uint64_t b) noexcept nogil:
    """Add a * b to a sum of three words."""
    cdef Wide product
    cdef uint64_t carry
    product.high = product.low = 0
    add_product(&product, a, b)
    words[2] += product.low
    carry = words[2] < product.low
    product.high += carry  # the high word of a product is at most 2**64 - 2
    words[1] += product.high
    words[0] += words[1] < product.high


cdef void total_plain(const uint64_t* cells, Py_ssize_t n, Totals* out) noexcept nogil:
    """Compute the totals of n >= 1 values, each of one sample, without metrics that fill in."""
    cdef Py_ssize_t i
    cdef uint64_t low_sum = 0, high_sum = 0, half = 0xFFFFFFFF
    for i in range(n):
        low_sum += cells[i] & half
        high_sum += cells[i] >> 32
    for i in range(1, n):
        add(&out.increase, increase(cells[i - 1], cells[i]))
    out.rows = out.weight = n
    out.first = cells[0]
    out.last = cells[n - 1]
    out.min = min_of(cells, n)
    out.max = max_of(cells, n)
    out.sum.low = low_sum + (high_sum << 32)
    out.sum.high = (high_sum >> 32) + (out.sum.low < low_sum)
    out.min_is_exact = out.max_is_exact = out.ends_are_exact = 1


cdef void total(const Metric* metric, const int64_t* counts, Py_ssize_t begin, Py_ssize_t end, Totals* out) noexcept nogil:
    """Compute the totals of a metric over the rows of one series. Its min, max, first and last metrics follow it.

    A row may have one of these without the metric itself, as the last of a recording has the kernel's peak.
    """
    if counts == NULL and begin < end and metric.present == NULL:
        if metric[1].cells == metric[2].cells == metric[3].cells == metric[4].cells == NULL:
            total_plain(metric.cells + begin, end - begin, out)
            return
    if metric.cells == NULL:
        return
    cdef Py_ssize_t row
    cdef uint64_t x, weight, value, lowest = <uint64_t>-1, highest = 0, n = 0
    cdef bint own, has_min, has_max, has_first, has_last, several
    cdef bint exact_min = True, exact_max = True, exact_ends = True
    cdef Wide weighted
    cdef Ends ends
    weighted.high = weighted.low = 0
    memset(&ends, 0, sizeof(ends))
    for row in range(begin, end):
        own = is_present(metric, row)
        has_min = is_present(metric + 1, row)
        has_max = is_present(metric + 2, row)
        has_first = is_present(metric + 3, row)
        has_last = is_present(metric + 4, row)
        x = metric.cells[row]
        weight = 1 if counts == NULL else <uint64_t>counts[row]
        several = weight != 1
        if own:
            if several:
                exact_min = exact_min and has_min
                exact_max = exact_max and has_max
                add_product(&weighted, x, weight)
            else:
                add(&weighted, x)
            out.weight += weight
            n += 1
        if own or has_min:
            value = metric[1].cells[row] if has_min else x
            lowest = value if value < lowest else lowest
        if own or has_max:
            value = metric[2].cells[row] if has_max else x
            highest = value if value > highest else highest
        if own or has_first or has_last:
            exact_ends = exact_ends and (not several or (has_first and has_last))
        if own or has_first:
            follow(&ends, metric[3].cells[row] if has_first else x)
        if own or has_last:
            follow(&ends, metric[4].cells[row] if has_last else x)
    if n:
        out.rows = n
        out.first = ends.first
        out.last = ends.last
        out.min = lowest
        out.max = highest
        out.sum = weighted
        out.increase = ends.rise
        out.min_is_exact = exact_min
        out.max_is_exact = exact_max
        out.ends_are_exact = exact_ends


cdef void moment(const Metric* metric, const int64_t* times, Py_ssize_t begin, Py_ssize_t end, Moments* out) noexcept nogil:
    cdef Py_ssize_t row, at = -1
    cdef uint64_t first = 0
    for row in range(begin, end + 1):
        if row < end and not is_present(metric, row):
            continue
        if at < 0:
            if row == end:
                return
            first = <uint64_t>times[row]
        elif row == end or times[row] != times[at]:
            out.points += 1
            add(&out.t, <uint64_t>times[at] - first)
            add(&out.x, metric.cells[at])
            add_wide_product(out.tx, <uint64_t>times[at] - first, metric.cells[at])
            add_wide_product(out.tt, <uint64_t>times[at] - first, <uint64_t>times[at] - first)
        at = row


cdef void add_totals(
    const Columns* columns, const int64_t* offsets, Py_ssize_t m, const int64_t[:, ::1] plan, uint64_t* words
) noexcept nogil:
    cdef Py_ssize_t i, j, part
    cdef Metric metrics[5]
    for j in range(plan.shape[1]):
        for part in range(5):
            metrics[part] = metric_of(columns, plan[part, j])
        for i in range(m):
            total(metrics, columns.counts, offsets[i], offsets[i + 1], <Totals*>words + j * m + i)


cdef void add_moments(
    const Columns* columns, const int64_t* offsets, Py_ssize_t m, const int64_t[::1] metrics, uint64_t* words
) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef Metric metric
    for j in range(metrics.shape[0]):
        metric = metric_of(columns, metrics[j])
        for i in range(m):
            moment(&metric, columns.times, offsets[i], offsets[i + 1], <Moments*>words + j * m + i)


def totals(
    const uint64_t[:, ::1] values,
    const uint8_t[:, ::1] present,
    const int64_t[::1] counts,
    const int64_t[::1] offsets,
    const int64_t[:, ::1] plan,
):
    """Compute count, ends, min, max and exact sums of each metric of each series: (k, m, 13) words."""
    cdef Py_ssize_t k = plan.shape[1], m = offsets.shape[0] - 1
    cdef Columns columns = columns_of(None, values, present, counts)
    out = zeros((k, m, sizeof(Totals) // 8), UINT64)
    cdef uint64_t[:, :, ::1] to_out = out
    if k and m:
        with nogil:
            add_totals(&columns, &offsets[0], m, plan, &to_out[0, 0, 0])
    return out


def moments(
    const int64_t[::1] times,
    const uint64_t[:, ::1] values,
    const uint8_t[:, ::1] present,
    const int64_t[::1] offsets,
    const int64_t[::1] metrics,
):
    """Compute exact sums for the slope of metrics[j] over time in each series: (k, m, 11) words."""
    cdef Py_ssize_t k = metrics.shape[0], m = offsets.shape[0] - 1
    cdef Columns columns = columns_of(times, values, present, None)
    out = zeros((k, m, sizeof(Moments) // 8), UINT64)
    cdef uint64_t[:, :, ::1] to_out = out
    if k and m:
        with nogil:
            add_moments(&columns, &offsets[0], m, metrics, &to_out[0, 0, 0])
    return out


cdef uint64_t select(uint64_t* cells, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t index) noexcept nogil:
    """Return the cell that would be at an index if those from begin to end were sorted. No cell after it is smaller then."""
    cdef Py_ssize_t i, j
    cdef uint64_t pivot, cell, random = 88172645463325252
    while end - begin > 1:
        # Hoare's selection. The pivot is chosen at random, so that no order of the cells is slow.
        random ^= random << 13
        random ^= random >> 7
        random ^= random << 17
        pivot = cells[begin + <Py_ssize_t>(random % <uint64_t>(end - begin))]
        i = begin
        j = end - 1
        while i <= j:
            while cells[i] < pivot:
                i += 1
            while cells[j] > pivot:
                j -= 1
            if i <= j:
                cell = cells[i]
                cells[i] = cells[j]
                cells[j] = cell
                i += 1
                j -= 1
        if index <= j:
            end = j + 1
        elif index >= i:
            begin = i
        else:
            break
    return cells[index]


cdef void add_ranks(
    const Columns* columns, const int64_t* offsets, Py_ssize_t m, const int64_t[::1] metrics, uint64_t* cells, uint64_t* words
) noexcept nogil:
    cdef Py_ssize_t i, j, row, n
    cdef Metric metric
    cdef uint64_t low, high
    for j in range(metrics.shape[0]):
        metric = metric_of(columns, metrics[j])
        for i in range(m):
            n = 0
            for row in range(offsets[i], offsets[i + 1]):
                cells[n] = metric.cells[row]
                if metric.present == NULL or metric.present[row]:
                    n += 1
            if n:
                low = select(cells, 0, n, (n - 1) // 2)
                high = select(cells, (n - 1) // 2, n, n // 2)
                words[0] = low + (high - low) // 2
                words[1] = select(cells, n // 2, n, (95 * n + 99) // 100 - 1)
                words[2] = select(cells, (95 * n + 99) // 100 - 1, n, (99 * n + 99) // 100 - 1)
            words += 3


def ranks(
    const uint64_t[:, ::1] values,
    const uint8_t[:, ::1] present,
    const int64_t[::1] offsets,
    const int64_t[::1] metrics,
):
    """Compute the median, p95 and p99 of metrics[j] in each series, over the rows that have it: (k, m, 3) words."""
    cdef Py_ssize_t k = metrics.shape[0], m = offsets.shape[0] - 1, longest = 0, i
    cdef Columns columns = columns_of(None, values, present, None)
    cdef uint64_t* cells = NULL
    out = zeros((k, m, 3), UINT64)
    cdef uint64_t[:, :, ::1] to_out = out
    for i in range(m):
        longest = max(longest, offsets[i + 1] - offsets[i])
    if k and m:
        if not resize(&cells, longest + 1, sizeof(uint64_t)):
            raise MemoryError
        with nogil:
            add_ranks(&columns, &offsets[0], m, metrics, cells, &to_out[0, 0, 0])
        free(cells)
    return out


def blob_totals(bytes blob, plan_for):
    """Compute the totals and moments of a blob without its columns.

    ``plan_for(names)`` returns the plan of `totals` and the metrics of `moments`. Return the names in the order in which they
    appear, the number of rows, the first and the last time, and (k, 13) totals and (g, 11) moments. Return None for a blob that
    the fallback decoder has to decode or reject.
    """
    cdef Scan* scan = take_scan()
    cdef Columns columns
    cdef Scanned scanned
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(blob)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(blob)
    cdef int64_t[2] offsets
    cdef int64_t first = 0, last = 0
    cdef const int64_t[:, ::1] plan
    cdef const int64_t[::1] metrics
    cdef uint64_t[:, ::1] to_totals
    cdef uint64_t[:, ::1] to_moments
    try:
        with nogil:
            scanned = scan_text(scan, at, size)
        if scanned == SCAN_FAILED:
            raise MemoryError
        if scanned != DECODED:
            return None
        columns = scanned_columns(scan)
        offsets[0] = 0
        offsets[1] = columns.n
        names = scanned_names(scan)
        plan, metrics = plan_for(names)
        if columns.n:
            first = columns.times[0]
            last = columns.times[columns.n - 1]
        out_totals = to_totals = zeros((plan.shape[1], sizeof(Totals) // 8), UINT64)
        out_moments = to_moments = zeros((metrics.shape[0], sizeof(Moments) // 8), UINT64)
        with nogil:
            add_totals(&columns, offsets, 1, plan, &to_totals[0, 0] if plan.shape[1] else NULL)
            add_moments(&columns, offsets, 1, metrics, &to_moments[0, 0] if metrics.shape[0] else NULL)
        return names, columns.n, first, last, out_totals, out_moments
    finally:
        keep_scan(scan)
