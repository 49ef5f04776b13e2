"""Bins in C: where a row ends, and its values. Shared by every compiled kernel that reduces.

Cells are reached by raw pointers: a row is a short run of one metric's values, and slicing a memoryview costs more than the run.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memchr, memset

from callstats.kernels._columns cimport Columns
from callstats.kernels._extremes cimport max_of, min_of
from callstats.kernels._uint128 cimport Wide, add_product, divide

cdef extern from "_means.h":
    ctypedef struct Row "callstats_row":
        # One row of the result: its first sample, and the raw samples in it.
        Py_ssize_t begin
        uint64_t total
        uint64_t max_cell  # (2**64 - 1) // total: a sum of cells up to this does not wrap
    Py_ssize_t means "callstats_means"(
        const uint64_t* cells, const int64_t* counts, const Row* rows, Py_ssize_t first, Py_ssize_t n, uint64_t* out
    ) noexcept nogil

cdef enum:
    SHORT = 6  # samples in a row: more are added faster as vectors

cdef enum Reducer:
    # Numbered as `rule.REDUCERS`.
    MEAN
    MIN
    MAX
    FIRST
    LAST
    SUM

cdef enum Found:
    ABSENT
    PRESENT
    TOO_LARGE


cdef struct Column:
    # One metric of the result: its own cells, and the cells that fill in where it is absent. NULL cells: there is no such metric.
    # NULL presence: every cell is present.
    const uint64_t* own
    const uint8_t* own_present
    const uint64_t* other
    const uint8_t* other_present
    int64_t reducer


cdef struct Output:
    # Arrays for the result. The cells of a metric follow those of the metric before it.
    int64_t* times
    int64_t* counts
    uint64_t* values
    uint8_t* present  # NULL for a result in which every value is present


cdef struct Reduced:
    # Whether any value is absent, whether any row has several samples, and the first sum that is too large (column -1: none).
    bint holes, grouped
    Py_ssize_t fault_row, fault_column


# --- rows --------------------------------------------------------------------------------------------------------------------

cdef inline Py_ssize_t row_end(
    const int64_t* times, Py_ssize_t i, Py_ssize_t size, Py_ssize_t n, uint64_t window, uint64_t* bound
) noexcept nogil:
    """Return the end of the row that begins at sample i. `size` >= 1 is the size of the row before it.

    `bound` is the end of a row's bin in ns since the first sample. It enters with that of the row before (0: none).
    """
    cdef uint64_t first = <uint64_t>times[0]
    cdef uint64_t since = <uint64_t>times[i] - first
    cdef uint64_t end = bound[0] + window
    cdef Py_ssize_t low, high, step
    if since > end or end < window:
        end = (since - 1) // window * window + window
    if end < window:  # past 2**64: no sample lies beyond
        end = <uint64_t>-1
    bound[0] = end
    # Samples are mostly evenly spaced: try about the size of the row before, then gallop.
    high = i + size
    if high < n and <uint64_t>times[high - 1] - first <= end < <uint64_t>times[high] - first:
        return high
    if high + 1 < n and <uint64_t>times[high] - first <= end < <uint64_t>times[high + 1] - first:
        return high + 1
    if size > 1 and high <= n and <uint64_t>times[high - 2] - first <= end < <uint64_t>times[high - 1] - first:
        return high - 1
    low = i
    high = i + 1
    step = 1
    while high < n and <uint64_t>times[high] - first <= end:
        low = high
        step += step
        high = low + step if n - low > step else n
    # Sample `low` is in the row, sample `high` is not.
    while high - low > 1:
        step = low + (high - low) // 2
        if <uint64_t>times[step] - first <= end:
            low = step
        else:
            high = step
    return high


cdef inline Py_ssize_t plan_rows(
    const int64_t* times, Py_ssize_t first, Py_ssize_t n, int64_t max_samples, Row* rows
) noexcept nogil:
    """Divide the n samples of a series, from sample `first` on, into at most max_samples rows. Return the number of rows.

    `rows` has room for one more row, whose begin marks the end of the last.
    """
    cdef Py_ssize_t row = 0, begin = 0, end, size = 1
    cdef uint64_t window = 0, bound = 0
    times += first
    if n > max_samples:
        window = (<uint64_t>times[n - 1] - <uint64_t>times[0]) // <uint64_t>max_samples
        window = window if window else 1
    while begin < n:
        if n <= max_samples:
            end = begin + 1
        elif row == max_samples - 1:
            end = n
        else:
            end = row_end(times, begin, size, n, window, &bound)
            size = end - begin
        rows[row].begin = first + begin
        row += 1
        begin = end
    rows[row].begin = first + n
    return row


cdef inline void count_rows(const int64_t* counts, Row* rows, Py_ssize_t n_rows) noexcept nogil:
    """Fill in how many raw samples each planned row has."""
    cdef Py_ssize_t row, i
    cdef uint64_t total
    for row in range(n_rows):
        total = rows[row + 1].begin - rows[row].begin
        if counts != NULL:
            total = 0
            for i in range(rows[row].begin, rows[row + 1].begin):
                total += <uint64_t>counts[i]
        rows[row].total = total
        rows[row].max_cell = rows[row - 1].max_cell if row and total == rows[row - 1].total else <uint64_t>-1 // total


# --- one value a row ---------------------------------------------------------------------------------------------------------

cdef inline uint64_t mean(const uint64_t* cells, const int64_t* counts, const Row* row) noexcept nogil:
    """Return the floor of the mean of a row's cells, all present, weighted by counts (NULL: all one)."""
    cdef uint64_t wrapped = 0, every = 0
    cdef Wide exact
    cdef Py_ssize_t i
    if counts == NULL:
        for i in range(row[0].begin, row[1].begin):
            wrapped += cells[i]
            every |= cells[i]
    else:
        for i in range(row[0].begin, row[1].begin):
            wrapped += cells[i] * <uint64_t>counts[i]
            every |= cells[i]
    if every <= row.max_cell:  # no cell exceeds the union of all bits, so the sum did not wrap
        return wrapped // row.total
    exact.high = exact.low = 0
    for i in range(row[0].begin, row[1].begin):
        add_product(&exact, cells[i], 1 if counts == NULL else <uint64_t>counts[i])
    return divide(exact, row.total)


cdef inline int64_t mean_time(const int64_t* times, const int64_t* counts, const Row* row) noexcept nogil:
    """Return the floor of the mean of a row's times, weighted by counts (NULL: all one)."""
    cdef uint64_t base = <uint64_t>times[row[0].begin], wrapped = 0
    cdef Wide exact
    cdef Py_ssize_t i
    if <uint64_t>times[row[1].begin - 1] - base <= row.max_cell:
        if counts == NULL:
            for i in range(row[0].begin, row[1].begin):
                wrapped += <uint64_t>times[i]
        else:
            for i in range(row[0].begin, row[1].begin):
                wrapped += <uint64_t>times[i] * <uint64_t>counts[i]
        return <int64_t>(base + (wrapped - base * row.total) // row.total)
    exact.high = exact.low = 0
    for i in range(row[0].begin, row[1].begin):
        add_product(&exact, <uint64_t>times[i] - base, 1 if counts == NULL else <uint64_t>counts[i])
    return <int64_t>(base + divide(exact, row.total))


cdef inline bint cell_at(const Column* column, Py_ssize_t i, uint64_t* value) noexcept nogil:
    """Read the value of sample i, else that of the metric that fills in. Return whether there is one."""
    if column.own != NULL and (column.own_present == NULL or column.own_present[i]):
        value[0] = column.own[i]
        return True
    if column.other != NULL and (column.other_present == NULL or column.other_present[i]):
        value[0] = column.other[i]
        return True
    return False


cdef inline Found reduce_full(
    const uint64_t* cells, const int64_t* counts, const Row* row, int64_t reducer, uint64_t* out
) noexcept nogil:
    cdef Py_ssize_t i, begin = row[0].begin, end = row[1].begin
    cdef uint64_t value = cells[begin], before
    cdef Found found = PRESENT
    if reducer == MEAN:
        value = mean(cells, counts, row)
    elif reducer == MIN:
        value = min_of(cells + begin, end - begin)
    elif reducer == MAX:
        value = max_of(cells + begin, end - begin)
    elif reducer == LAST:
        value = cells[end - 1]
    elif reducer == SUM:
        for i in range(begin + 1, end):
            before = value
            value += cells[i]
            if value < before:
                found = TOO_LARGE
    out[0] = value
    return found


cdef inline Found reduce_sparse(
    const Column* column, const int64_t* counts, const Row* row, bint zero, uint64_t* out
) noexcept nogil:
    """Reduce a row in which some samples may lack the metric."""
    cdef uint64_t cell, weight, total = 0, value = 0
    cdef Wide exact
    cdef Py_ssize_t i
    cdef bint present, any = False, begun = False
    cdef Found found = PRESENT
    exact.high = exact.low = 0
    for i in range(row[0].begin, row[1].begin):
        cell = 0
        present = cell_at(column, i, &cell)
        any = any or present
        if not (present or zero):
            continue
        if column.reducer == MEAN:
            weight = 1 if counts == NULL else <uint64_t>counts[i]
            add_product(&exact, cell, weight)
            total += weight
        elif column.reducer == SUM:
            value += cell
            if value < cell:
                found = TOO_LARGE
        elif (
            not begun
            or column.reducer == LAST
            or (column.reducer == MIN and cell < value)
            or (column.reducer == MAX and cell > value)
        ):
            value = cell
        begun = True
    if not any:
        out[0] = 0
        return ABSENT
    out[0] = (exact.low // total if exact.high == 0 else divide(exact, total)) if column.reducer == MEAN else value
    return found


cdef inline Found reduce_row(
    const Column* column, const int64_t* counts, const Row* row, bint zero, uint64_t* out
) noexcept nogil:
    cdef const uint64_t* cells = column.own if column.own != NULL else column.other
    cdef const uint8_t* present = column.own_present if column.own != NULL else column.other_present
    cdef Py_ssize_t begin = row[0].begin, size = row[1].begin - begin
    if size == 1:
        # A single sample stays as it is, so nothing fills in.
        out[0] = 0
        if column.own == NULL or (column.own_present != NULL and not column.own_present[begin]):
            return ABSENT
        out[0] = column.own[begin]
        return PRESENT
    if present == NULL or memchr(present + begin, 0, size) == NULL:
        return reduce_full(cells, counts, row, column.reducer, out)
    return reduce_sparse(column, counts, row, zero, out)


cdef inline bint reduce_rows(
    const Column* column, const int64_t* counts, const Row* rows, Py_ssize_t n_rows, bint zero,
    uint64_t* out, uint8_t* present, Py_ssize_t* too_large
) noexcept nogil:
    """Reduce one metric over some rows. Return whether any row lacks it.

    `too_large` is lowered to the first row whose sum is too large. `present` enters as all 1. It may be NULL for a metric that
    every sample has.
    """
    cdef Py_ssize_t row
    cdef bint holes = False
    cdef Found found
    if column.own != NULL and column.own_present == NULL and column.reducer == MEAN:
        # By far the most common work, so without the branches of `reduce_row`. The mean of a single sample is its value.
        if rows[n_rows].begin - rows[0].begin < SHORT * n_rows:
            row = means(column.own, counts, rows, 0, n_rows, out)
            while row < n_rows:
                out[row] = mean(column.own, counts, rows + row)
                row = means(column.own, counts, rows, row + 1, n_rows, out)
        elif counts == NULL:
            for row in range(n_rows):
                out[row] = mean(column.own, NULL, rows + row)
        else:
            for row in range(n_rows):
                out[row] = mean(column.own, counts, rows + row)
        return False
    for row in range(n_rows):
        found = reduce_row(column, counts, rows + row, zero, out + row)
        if found == ABSENT:
            present[row] = 0
            holes = True
        elif found == TOO_LARGE and row < too_large[0]:
            too_large[0] = row
    return holes


# --- all columns -------------------------------------------------------------------------------------------------------------

cdef inline Column column_of(const Columns* source, int64_t own, int64_t other, int64_t reducer) noexcept nogil:
    """Return a metric of the result; `own` and `other` are indexes of metrics, or -1."""
    cdef Column column
    column.own = source.values + own * source.stride if own >= 0 else NULL
    column.other = source.values + other * source.stride if other >= 0 else NULL
    column.own_present = source.present + own * source.stride if source.present != NULL and own >= 0 else NULL
    column.other_present = source.present + other * source.stride if source.present != NULL and other >= 0 else NULL
    column.reducer = reducer
    return column


cdef inline Reduced reduce_columns(
    const Columns* source, const int64_t* plan, Py_ssize_t k, Row* rows, Py_ssize_t n_rows,
    const int64_t* offsets, const int64_t* row_offsets, Py_ssize_t m, bint zero, const Output* out
) noexcept nogil:
    """Reduce the columns of m series, whose rows are planned, by a plan of k columns: see `decimate_columns`.

    Series i has the samples offsets[i] to offsets[i + 1], and the rows row_offsets[i] to row_offsets[i + 1].
    """
    cdef Reduced reduced
    cdef Column column
    cdef Py_ssize_t row, i, j, parts, begin, end, too_large
    cdef uint64_t* values
    cdef uint8_t* present
    cdef bint whole
    reduced.holes = reduced.grouped = False
    reduced.fault_row = n_rows
    reduced.fault_column = -1
    count_rows(source.counts, rows, n_rows)
    for row in range(n_rows):
        out.times[row] = mean_time(source.times, source.counts, rows + row)
        out.counts[row] = <int64_t>rows[row].total
        reduced.grouped = reduced.grouped or rows[row].total != 1
    if out.present != NULL:
        memset(out.present, 1, k * n_rows)
    for j in range(k if n_rows else 0):
        column = column_of(source, plan[j], plan[k + j], plan[2 * k + j])
        # A metric that is not requested appears only in the series that have it, so each series is looked at by itself.
        whole = plan[3 * k + j] or column.own_present == NULL
        parts = 1 if whole else m
        for i in range(parts):
            begin = 0 if whole else row_offsets[i]
            end = n_rows if whole else row_offsets[i + 1]
            values = out.values + j * n_rows + begin
            present = out.present + j * n_rows + begin if out.present != NULL else NULL
            if not whole and memchr(column.own_present + offsets[i], 1, offsets[i + 1] - offsets[i]) == NULL:
                memset(values, 0, (end - begin) * sizeof(uint64_t))
                memset(present, 0, end - begin)
                reduced.holes = True
                continue
            too_large = reduced.fault_row - begin
            if reduce_rows(&column, source.counts, rows + begin, end - begin, zero, values, present, &too_large):
                reduced.holes = True
            if begin + too_large < reduced.fault_row:
                reduced.fault_row = begin + too_large
                reduced.fault_column = j
    return reduced
