# cython: language_level=3
"""Bins in C: where a row ends, and what it holds. Shared by every compiled kernel that reduces.

Cells are reached by raw pointers: a row is a short run of one metric's values, and slicing a memoryview costs more than the run.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memchr

from callstats.kernels._uint128 cimport Wide, add_product, divide

cdef enum Reducer:
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
    # One metric of the result: its own cells and presence, and those that stand in where it has none; NULL: none, or all there.
    const uint64_t* own
    const uint8_t* own_present
    const uint64_t* other
    const uint8_t* other_present
    int64_t reducer


cdef struct Row:
    # One row of the result: its first sample, and the raw samples that it stands for.
    Py_ssize_t begin
    uint64_t total
    uint64_t most  # (2**64 - 1) // total


cdef inline uint64_t window_of(const int64_t* times, Py_ssize_t n, int64_t max_samples) noexcept nogil:
    """Width of a bin in ns, for n >= 1 samples."""
    cdef uint64_t window = (<uint64_t>times[n - 1] - <uint64_t>times[0]) // <uint64_t>max_samples
    return window if window else 1


cdef inline Py_ssize_t row_end(
    const int64_t* times, Py_ssize_t i, Py_ssize_t size, Py_ssize_t n, uint64_t window, uint64_t* bound
) noexcept nogil:
    """End of the row that begins at sample i, after one of `size` >= 1 samples.

    `bound` is the end of the last row's bin in ns since the first sample (0: none), and becomes that of this one's.
    """
    cdef uint64_t first = <uint64_t>times[0]
    cdef uint64_t since = <uint64_t>times[i] - first
    cdef uint64_t end = bound[0] + window
    cdef Py_ssize_t low, high, step
    if since > end or end < window:
        end = (since - 1) // window * window + window
    if end < window:  # past 2**64: nothing lies beyond
        end = <uint64_t>-1
    bound[0] = end
    # Samples mostly come evenly: try the last row's size, then gallop.
    high = i + size
    if high < n and <uint64_t>times[high - 1] - first <= end < <uint64_t>times[high] - first:
        return high
    low = i
    high = i + 1
    step = 1
    while high < n and <uint64_t>times[high] - first <= end:
        low = high
        step += step
        high = low + step if n - low > step else n
    # low is in the row, high is not
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
    """Lay the n samples of a series, which begin at sample `first`, into at most max_samples rows; how many there are.

    `rows` has room for one more, whose begin marks the end of the last.
    """
    cdef Py_ssize_t row = 0, begin = 0, end, size = 1
    cdef uint64_t window = 0, bound = 0
    times += first
    if n > max_samples:
        window = window_of(times, n, max_samples)
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


cdef inline void weigh_rows(const int64_t* counts, Row* rows, Py_ssize_t n_rows) noexcept nogil:
    """Fill in what planned rows stand for; each sample for one without counts."""
    cdef Py_ssize_t row, i
    cdef uint64_t total
    for row in range(n_rows):
        total = rows[row + 1].begin - rows[row].begin
        if counts != NULL:
            total = 0
            for i in range(rows[row].begin, rows[row + 1].begin):
                total += <uint64_t>counts[i]
        rows[row].total = total
        rows[row].most = rows[row - 1].most if row and total == rows[row - 1].total else <uint64_t>-1 // total


cdef inline uint64_t mean(const uint64_t* cells, const int64_t* counts, const Row* row) noexcept nogil:
    """Floor of the mean of a row's cells, which are all there, weighed by counts (NULL: all one)."""
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
    if every <= row.most:  # no cell exceeds their union, so the sum did not wrap
        return wrapped // row.total
    exact.high = exact.low = 0
    for i in range(row[0].begin, row[1].begin):
        add_product(&exact, cells[i], 1 if counts == NULL else <uint64_t>counts[i])
    return divide(exact, row.total)


cdef inline int64_t mean_time(const int64_t* times, const int64_t* counts, const Row* row) noexcept nogil:
    """Floor of the mean of a row's times, weighed by counts (NULL: all one)."""
    cdef uint64_t base = <uint64_t>times[row[0].begin], wrapped = 0
    cdef Wide exact
    cdef Py_ssize_t i
    if <uint64_t>times[row[1].begin - 1] - base <= row.most:
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
    """Whether sample i has the metric, and its value: its own, else the one that stands in."""
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
    """One value for a row whose cells are all there."""
    cdef Py_ssize_t i, begin = row[0].begin, end = row[1].begin
    cdef uint64_t value = cells[begin], before
    cdef Found found = PRESENT
    if reducer == MEAN:
        value = mean(cells, counts, row)
    elif reducer == MIN:
        for i in range(begin + 1, end):
            value = cells[i] if cells[i] < value else value
    elif reducer == MAX:
        for i in range(begin + 1, end):
            value = cells[i] if cells[i] > value else value
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


cdef inline Found reduce_held(
    const Column* column, const int64_t* counts, const Row* row, bint zero, uint64_t* out
) noexcept nogil:
    """One value for a row of which not all samples need have the metric."""
    cdef uint64_t cell, weight, total = 0, value = 0
    cdef Wide exact
    cdef Py_ssize_t i
    cdef bint has, any = False, begun = False
    cdef Found found = PRESENT
    exact.high = exact.low = 0
    for i in range(row[0].begin, row[1].begin):
        cell = 0
        has = cell_at(column, i, &cell)
        any = any or has
        if not (has or zero):
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
    """One value of a metric for a row."""
    cdef const uint64_t* cells = column.own if column.own != NULL else column.other
    cdef const uint8_t* present = column.own_present if column.own != NULL else column.other_present
    cdef Py_ssize_t begin = row[0].begin, size = row[1].begin - begin
    if size == 1:
        # Untouched, so nothing stands in.
        out[0] = 0
        if column.own == NULL or (column.own_present != NULL and not column.own_present[begin]):
            return ABSENT
        out[0] = column.own[begin]
        return PRESENT
    if present == NULL or memchr(present + begin, 0, size) == NULL:
        return reduce_full(cells, counts, row, column.reducer, out)
    return reduce_held(column, counts, row, zero, out)


cdef inline bint reduce_rows(
    const Column* column, const int64_t* counts, const Row* rows, Py_ssize_t n_rows, bint zero,
    uint64_t* out, uint8_t* present, Py_ssize_t* too_large
) noexcept nogil:
    """A metric's values for some rows; whether any row lacks it. `too_large` is lowered to the first row whose sum is.

    `present` (which starts as all there) may be NULL for a column that every sample has.
    """
    cdef Py_ssize_t row
    cdef bint holes = False
    cdef Found found
    if column.own != NULL and column.own_present == NULL and column.reducer == MEAN:
        # By far the most work, so without the questions of `reduce_row`; a lone row's mean is itself.
        if counts == NULL:
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
