# cython: language_level=3
"""Stats: the exact sums that statistics are made of, series by series. Compiled; `totals_py` is the specification."""

import numpy as np

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t

from callstats.kernels._json_scan cimport READ, Scan, scan_free, scan_init, scan_text
from callstats.kernels._uint128 cimport Wide, add_product

cdef object zeros = np.zeros
cdef object UINT64 = np.dtype(np.uint64)

cdef enum:
    ROWS = 0
    WEIGHT = 1
    FIRST = 2
    LAST = 3
    MIN = 4
    MAX = 5
    SUM = 6
    INCREASE = 8
    MIN_IS_EXACT = 10
    MAX_IS_EXACT = 11
    ENDS_ARE_EXACT = 12
    TOTALS = 13

    POINTS = 0
    SUM_T = 1
    SUM_X = 3
    SUM_TX = 5
    SUM_TT = 8
    MOMENTS = 11


cdef struct Metric:
    # The cells of a metric and which are there; NULL cells: no such metric, NULL there: all are.
    const uint64_t* cells
    const uint8_t* there


cdef inline bint has(const Metric* metric, Py_ssize_t row) noexcept nogil:
    return metric.cells != NULL and (metric.there == NULL or metric.there[row])


cdef inline uint64_t risen(uint64_t before, uint64_t after) noexcept nogil:
    """How much a counter rose; one that fell began anew at 0."""
    return after - before if after >= before else after


cdef inline void add(uint64_t* high_and_low, uint64_t value) noexcept nogil:
    """Add to a sum of two words."""
    high_and_low[1] += value
    high_and_low[0] += high_and_low[1] < value


cdef inline void add_wide_product(uint64_t* words, uint64_t a, uint64_t b) noexcept nogil:
    """Add a * b to a sum of three words."""
    cdef Wide product
    cdef uint64_t carry
    product.high = product.low = 0
    add_product(&product, a, b)
    words[2] += product.low
    carry = words[2] < product.low
    product.high += carry  # a product's high word is at most 2**64 - 2
    words[1] += product.high
    words[0] += words[1] < product.high


cdef void plain_total(const uint64_t* cells, Py_ssize_t n, uint64_t* out) noexcept nogil:
    """The totals of n >= 1 values that each stand for one sample and have no stand-ins."""
    cdef Py_ssize_t i
    cdef uint64_t x, least = cells[0], most = cells[0], low = 0, high = 0, step, half = 0xFFFFFFFF
    for i in range(n):
        low += cells[i] & half
        high += cells[i] >> 32
    for i in range(n):
        x = cells[i]
        least = x if x < least else least
        most = x if x > most else most
    for i in range(1, n):
        step = risen(cells[i - 1], cells[i])
        out[INCREASE + 1] += step
        out[INCREASE] += out[INCREASE + 1] < step
    out[ROWS] = out[WEIGHT] = n
    out[FIRST] = cells[0]
    out[LAST] = cells[n - 1]
    out[MIN] = least
    out[MAX] = most
    out[SUM + 1] = low + (high << 32)
    out[SUM] = (high >> 32) + (out[SUM + 1] < low)
    out[MIN_IS_EXACT] = out[MAX_IS_EXACT] = out[ENDS_ARE_EXACT] = 1


cdef void total(const Metric* metric, const int64_t* counts, Py_ssize_t begin, Py_ssize_t end, uint64_t* out) noexcept nogil:
    """The totals of one metric, and its four stand-ins after it, over the rows of one series."""
    if counts == NULL and begin < end and metric.there == NULL:
        if metric[1].cells == metric[2].cells == metric[3].cells == metric[4].cells == NULL:
            plain_total(metric.cells + begin, end - begin, out)
            return
    cdef Py_ssize_t row
    cdef uint64_t x, least, most, first, last, before = 0, n = 0, weight
    cdef bint whole_min = True, whole_max = True, whole_ends = True, has_least, has_most, has_first, has_last
    cdef Wide weighed
    weighed.high = weighed.low = 0
    for row in range(begin, end):
        if not has(metric, row):
            continue
        x = metric.cells[row]
        has_least = has(metric + 1, row)
        has_most = has(metric + 2, row)
        has_first = has(metric + 3, row)
        has_last = has(metric + 4, row)
        least = metric[1].cells[row] if has_least else x
        most = metric[2].cells[row] if has_most else x
        first = metric[3].cells[row] if has_first else x
        last = metric[4].cells[row] if has_last else x
        weight = 1
        if counts != NULL and counts[row] != 1:
            weight = <uint64_t>counts[row]
            whole_min = whole_min and has_least
            whole_max = whole_max and has_most
            whole_ends = whole_ends and has_first and has_last
            add_product(&weighed, x, weight)
        else:
            weighed.low += x
            weighed.high += weighed.low < x
        if n == 0:
            out[FIRST] = first
            out[MIN] = least
            out[MAX] = most
        else:
            add(out + INCREASE, risen(before, first))
            out[MIN] = least if least < out[MIN] else out[MIN]
            out[MAX] = most if most > out[MAX] else out[MAX]
        add(out + INCREASE, risen(first, last))
        before = last
        out[WEIGHT] += weight
        n += 1
    if n:
        out[ROWS] = n
        out[LAST] = before
        out[SUM] = weighed.high
        out[SUM + 1] = weighed.low
        out[MIN_IS_EXACT] = whole_min
        out[MAX_IS_EXACT] = whole_max
        out[ENDS_ARE_EXACT] = whole_ends


cdef void moment(const Metric* metric, const int64_t* times, Py_ssize_t begin, Py_ssize_t end, uint64_t* out) noexcept nogil:
    """The moments of one metric over the rows of one series."""
    cdef Py_ssize_t row, at = -1
    cdef uint64_t first = 0
    for row in range(begin, end + 1):
        if row < end and not has(metric, row):
            continue
        if at < 0:
            if row == end:
                return
            first = <uint64_t>times[row]
        elif row == end or times[row] != times[at]:
            out[POINTS] += 1
            add(out + SUM_T, <uint64_t>times[at] - first)
            add(out + SUM_X, metric.cells[at])
            add_wide_product(out + SUM_TX, <uint64_t>times[at] - first, metric.cells[at])
            add_wide_product(out + SUM_TT, <uint64_t>times[at] - first, <uint64_t>times[at] - first)
        at = row


cdef inline Metric metric_of(const uint64_t[:, ::1] values, const uint8_t[:, ::1] present, int64_t place) noexcept nogil:
    cdef Metric metric
    metric.cells = &values[place, 0] if place >= 0 and values.shape[1] else NULL
    metric.there = &present[place, 0] if metric.cells != NULL and present is not None else NULL
    return metric


def totals(
    const uint64_t[:, ::1] values,
    const uint8_t[:, ::1] present,
    const int64_t[::1] counts,
    const int64_t[::1] offsets,
    const int64_t[:, ::1] plan,
):
    """Count, ends, least, most and exact sums of each metric of each series: (k, m, 13) words.

    Series i holds the rows offsets[i] to offsets[i + 1]. Column j is metric plan[0, j], over the rows that have it; its least,
    most, first and last value in a row are the metrics plan[1:5, j] (-1: none) where the row has them. The sum is weighed by
    counts; the increase takes a value below the one before for a reset to 0. Then, as 0 or 1: whether each row stands for one
    sample or has its own least value; its own most; its own first and last. All 0 where no row has the metric.

    The caller guarantees counts whose total per series is within int64.
    """
    cdef Py_ssize_t k = plan.shape[1], m = offsets.shape[0] - 1, i, j, part
    out = zeros((k, m, TOTALS), UINT64)
    cdef uint64_t[:, :, ::1] words = out
    cdef const int64_t* weights = &counts[0] if counts is not None and counts.shape[0] else NULL
    cdef Metric metrics[5]
    with nogil:
        for j in range(k):
            for part in range(5):
                metrics[part] = metric_of(values, present, plan[part, j])
            for i in range(m):
                total(metrics, weights, offsets[i], offsets[i + 1], &words[j, i, 0])
    return out


def moments(
    const int64_t[::1] times,
    const uint64_t[:, ::1] values,
    const uint8_t[:, ::1] present,
    const int64_t[::1] offsets,
    const int64_t[::1] metrics,
):
    """Exact sums for the slope of metrics[j] over time in each series: (k, m, 11) words.

    Over the rows that have the metric, of rows with one time the last: how many they are, and the sums of t, x, t * x and t * t,
    where t is the time since the first of them. All 0 where no row has the metric.

    The caller guarantees non-decreasing times.
    """
    cdef Py_ssize_t k = metrics.shape[0], m = offsets.shape[0] - 1, i, j
    out = zeros((k, m, MOMENTS), UINT64)
    cdef uint64_t[:, :, ::1] words = out
    cdef const int64_t* stamps = &times[0] if times.shape[0] else NULL
    cdef Metric metric
    with nogil:
        for j in range(k):
            metric = metric_of(values, present, metrics[j])
            for i in range(m):
                moment(&metric, stamps, offsets[i], offsets[i + 1], &words[j, i, 0])
    return out


cdef inline Metric scanned_metric(const Scan* scan, int64_t place) noexcept nogil:
    cdef Metric metric
    metric.cells = scan.values + place * scan.row_room if place >= 0 else NULL
    metric.there = scan.present + place * scan.row_room if place >= 0 and scan.holes else NULL
    return metric


def text_totals(bytes text, layout):
    """The totals and moments of a stored histogram of the written shape, without its columns.

    Gives the names of its metrics in the order in which they were met, the number of rows, the first and the last time, and what
    `totals` and `moments` give of it for the plan and the metrics that ``layout(names)`` gives: (k, 13) and (g, 11) words. None
    for a text of any other shape.
    """
    cdef Scan scan
    cdef bint found
    cdef Py_ssize_t j, part, k, g
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(text)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text)
    cdef const int64_t[:, ::1] plan
    cdef const int64_t[::1] metrics
    cdef uint64_t[:, ::1] to_totals
    cdef uint64_t[:, ::1] to_moments
    cdef const int64_t* weights
    cdef Metric parts[5]
    cdef int64_t first = 0, last = 0
    scan_init(&scan)
    try:
        with nogil:
            found = scan_text(&scan, at, size) == READ
        if not found:
            return None
        names = tuple([PyBytes_FromStringAndSize(<const char*>scan.names[j].at, scan.names[j].size) for j in range(scan.columns)])
        plan, metrics = layout(names)
        k = plan.shape[1]
        g = metrics.shape[0]
        out_totals = zeros((k, TOTALS), UINT64)
        out_moments = zeros((g, MOMENTS), UINT64)
        to_totals = out_totals
        to_moments = out_moments
        weights = scan.counts if scan.counted else NULL
        if scan.rows:
            with nogil:
                for j in range(k):
                    for part in range(5):
                        parts[part] = scanned_metric(&scan, plan[part, j])
                    total(parts, weights, 0, scan.rows, &to_totals[j, 0])
                for j in range(g):
                    parts[0] = scanned_metric(&scan, metrics[j])
                    moment(parts, scan.times, 0, scan.rows, &to_moments[j, 0])
            first = scan.times[0]
            last = scan.times[scan.rows - 1]
        return names, scan.rows, first, last, out_totals, out_moments
    finally:
        scan_free(&scan)
