"""Scan a blob into columns, whatever its spelling.

The scanner compares a row with the steps of the rows that it has learnt. If none fit, it checks the row in full, learns it, and
reads it by its own steps: there is one way to read a value. It leaves a blob that it does not accept to the fallback decoder. So
it has no errors and no leniency of its own. Steps and names outlive the blob: the next blob is read by them from its first row.
"""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

from callstats.kernels._ascii cimport PAD, read_number, read_time
from callstats.kernels._columns cimport grow
from callstats.kernels._fused cimport (
    BEFORE, DIGITS, LEAST, OFF, REACH, STRIDE, Number, Run, Shape, make_shape, next_minute, read_rows,
)
from callstats.kernels._json_columns cimport Scan, begin_holes, bind, make_cells, make_rows, without_memory
from callstats.kernels._json_names cimport forget_names
from callstats.kernels._json_steps cimport END, OTHER, TIME, VALUE, Step, begins_with, forget_steps, learn_row
from callstats.kernels._json_text cimport skip_space, skip_value, skip_word

cdef enum Scanned:
    DECODED
    NOT_DECODED  # the fallback decoder decides
    SCAN_FAILED  # no memory

cdef enum:
    FEW_ROWS = 248  # room to begin with
    MIN_ROW = 36  # bytes, with a comma: {"timestamp":"2017-11-27T14:52:53Z"}
    MANY_NAMES = 65_536  # more are forgotten between blobs
    SMALL = 2_048  # bytes of a text that is copied whole, so that there is room around it
    FEW = 4  # rows read by a shape that are worth trying it
    MAX_MISSES = 7
    BEYOND = REACH + STRIDE + 64  # bytes that can be read behind a copy of the last rows


# --- rows --------------------------------------------------------------------------------------------------------------------

cdef inline const uint8_t* read_row(Scan* scan, const uint8_t* begin, const uint8_t* end) noexcept nogil:
    """Read a row that was learnt, where PAD bytes can be read beyond `end`. Return where it ends, or NULL where there is none."""
    cdef const uint8_t* p = begin
    cdef const uint8_t* after
    cdef const uint8_t* text = scan.steps.text
    cdef Step* steps = scan.steps.items
    cdef Step* step
    cdef int32_t next = scan.steps.first
    cdef Py_ssize_t row = scan.rows, cell
    cdef uint64_t number
    cdef bint holes = scan.holes
    scan.counts[row] = 1
    while next >= 0:
        step = &steps[next]
        if end - p < <Py_ssize_t>step.size or not begins_with(p, step, text):
            next = step.other
            continue
        after = p + step.size
        if step.slot == VALUE:
            if step.blob != scan.blob and not bind(scan, step):
                return NULL
            cell = step.column * scan.row_room + row
            after = read_number(after, &number)
            if after != NULL:
                scan.values[cell] = number
                if number >= LEAST[DIGITS] and not step.wide:
                    step.wide = True
                    scan.shape.end = -1  # so that it is made anew
                if holes:
                    scan.present[cell] = 1
            else:
                after = skip_word(p + step.size, end, "null", 4)
                if after != NULL and not scan.holes and not begin_holes(scan):
                    return NULL
        elif step.slot == TIME:
            after = read_time(after, end, &scan.minute, &scan.times[row])
        elif step.slot == END:
            if holes or step.name == scan.columns:
                scan.last = next
                return after
            if not begin_holes(scan):
                return NULL
        elif step.slot == OTHER:
            after = skip_value(after, end, scan.limits.depth - 2)
        else:
            after = read_number(after, &number)
            if after != NULL and 1 <= number <= <uint64_t>INT64_MAX:
                scan.counts[row] = <int64_t>number
            else:
                after = NULL
        if holes != scan.holes:
            # Not every row has every column. From now on each notes which it has, and this one from its beginning.
            holes = True
            p = begin
            next = scan.steps.first
        elif after != NULL:
            p = after
            next = step.next
        else:
            next = step.other
    return NULL


cdef inline bint end_row(Scan* scan) noexcept nogil:
    """Count a row that was read. Return False where the fallback decoder decides."""
    cdef Py_ssize_t row = scan.rows
    if scan.counts[row] > INT64_MAX - scan.total or (row and scan.times[row] < scan.times[row - 1]):
        return False
    scan.counted = scan.counted or scan.counts[row] > 1
    scan.total += scan.counts[row]
    scan.rows += 1
    return True


cdef inline bint move_tail(Scan* scan, const uint8_t** p, const uint8_t** end) noexcept nogil:
    """Continue in a copy of the rest of the text, which PAD bytes follow. Return False without memory."""
    cdef Py_ssize_t size = end[0] - p[0]
    if not grow(&scan.tail, &scan.tail_room, BEFORE + size + BEYOND, 1):
        return without_memory(scan)
    memset(scan.tail, 0, BEFORE)
    memcpy(scan.tail + BEFORE, p[0], size)
    memset(scan.tail + BEFORE + size, 0, BEYOND)
    p[0] = scan.tail + BEFORE
    end[0] = p[0] + size
    return True


cdef inline Py_ssize_t read_shaped(Scan* scan, const uint8_t** p, const uint8_t* readable) noexcept nogil:
    """Read rows by their shape, and lead p behind them. Return how many; -1 without memory."""
    cdef Shape* shape = &scan.shape
    cdef Number* number
    cdef Run run
    cdef Py_ssize_t j, n = shape.n_values
    cdef int32_t step
    cdef bint first = scan.rows == 0
    if scan.columns != (0 if first else n) or scan.holes:
        return 0
    if first and not make_cells(scan, scan.row_room, n):
        return -scan.no_memory
    for j in range(max(shape.rows.n_numbers, 4 * shape.rows.n_fours)):
        number = &shape.rows.numbers[j]
        step = number.step
        if step < 0:
            number.cells = <uint64_t*>scan.counts
        elif first:
            number.cells = scan.values + number.column * scan.row_room
        elif scan.steps.items[step].blob == scan.blob:
            number.cells = scan.values + scan.steps.items[step].column * scan.row_room
        else:
            return 0
    run.at = p[0] - 1
    run.readable = readable
    run.times = scan.times
    run.row = scan.rows
    run.room = scan.row_room
    run.minute = &scan.minute
    run.minute_text = scan.minute.text
    run.minute_seconds = &scan.minute.seconds
    run.read_minute = next_minute
    n = read_rows(scan.form, &shape.rows, &run)
    if n == 0:
        return 0
    for j in range(shape.n_values if first else 0):
        if not bind(scan, &scan.steps.items[shape.path[j]]):
            return -1
    p[0] = run.at
    return n


cdef inline bint end_rows(Scan* scan, Py_ssize_t n) noexcept nogil:
    """Count rows that were read by their shape. Return False where the fallback decoder decides."""
    cdef Py_ssize_t row, end = scan.rows + n
    cdef bint goes_back = False
    scan.fused += n
    if scan.shape.has_counts:
        for row in range(scan.rows, end):
            if scan.counts[row] < 1 or not end_row(scan):
                return False
        return True
    for row in range(scan.rows, end):
        scan.counts[row] = 1
    for row in range(max(scan.rows, 1), end):
        goes_back |= scan.times[row] < scan.times[row - 1]
    if goes_back or n > INT64_MAX - scan.total:
        return False
    scan.total += n
    scan.rows = end
    return True


cdef inline bint has_shape(const Scan* scan) noexcept nogil:
    """Return whether rows may be read by the shape that was made last."""
    return scan.form != OFF and scan.shape.fits and scan.shape.edition == scan.steps.edition


cdef inline bint shape_row(Scan* scan) noexcept nogil:
    """Take the shape of the row that was read by steps, unless shapes have been of little use. Return False without memory."""
    cdef Shape* shape = &scan.shape
    scan.wait -= scan.wait > 0
    if scan.wait == 0 and scan.form != OFF and (shape.end != scan.last or shape.edition != scan.steps.edition):
        if not make_shape(shape, &scan.steps, scan.last, (<const uint8_t*>scan.minute.text)[10]):
            return without_memory(scan)
        if not shape.fits:
            scan.misses = min(scan.misses + 1, MAX_MISSES)
            scan.wait = 1 << scan.misses
    return True


cdef inline bint scan_rows(Scan* scan, const uint8_t* p, const uint8_t* end) noexcept nogil:
    """Scan rows up to the last bracket, which only white space follows. Return False where the fallback decoder decides."""
    cdef const uint8_t* after
    cdef const uint8_t* low = p
    cdef bint moved = False
    cdef Py_ssize_t n, small = 0 if scan.form == OFF else SMALL
    scan.last = -1
    if not make_rows(scan, min((end - p) // MIN_ROW + 1, FEW_ROWS)):
        return False
    while True:
        if scan.rows == scan.row_room or scan.rows == 1 and scan.row_room * scan.row_size < end - p:
            if not make_rows(scan, scan.rows + scan.rows // 4 + (end - p) * 9 // (8 * scan.row_size) + 1):
                return False
        if not moved and end - p <= max(2 * scan.row_size + PAD, small):
            moved = True
            if not move_tail(scan, &p, &end):
                return False
            low = scan.tail
        n = 0
        after = p
        if scan.wait == 0 and p - low >= BEFORE and has_shape(scan):
            n = read_shaped(scan, &after, end + BEYOND if moved else end)
            if n < 0 or not end_rows(scan, n):
                return False
            scan.misses = 0 if n >= FEW or (n and after[0] == b"]") else min(scan.misses + 1, MAX_MISSES)
            scan.wait = 1 << scan.misses if scan.misses else 0
        if n == 0:
            after = read_row(scan, p, end if moved else end - PAD)
            if after == NULL:
                after = learn_row(&scan.steps, &scan.names, p, end, scan.limits.depth)
                if after == NULL:
                    return False
                scan.row_size = after - p
                if not moved and end - after <= PAD:
                    moved = True
                    if not move_tail(scan, &p, &end):
                        return False
                    low = scan.tail
                after = read_row(scan, p, end if moved else end - PAD)
                if after == NULL:
                    return False
            if not end_row(scan):
                return False
            if not shape_row(scan):
                return False
            n = 1
        scan.row_size = (after - p) // n
        p = skip_space(after, end)
        if p == end:
            return False
        if p[0] == b"]":
            return skip_space(p + 1, end) == end
        if p[0] != b",":
            return False
        p += 1


cdef inline bint drop_absent(Scan* scan) noexcept nogil:
    """Drop the columns without any value, and make the absent values of the others 0. Return False where there are too many."""
    cdef Py_ssize_t column, i, kept = 0, n, cells = 0
    cdef uint64_t* values
    cdef uint8_t* present
    for column in range(scan.columns):
        values = scan.values + column * scan.row_room
        present = scan.present + column * scan.row_room
        n = 0
        for i in range(scan.rows):
            n += present[i]
        if n == 0:
            continue
        cells += n
        if n < scan.rows:
            for i in range(scan.rows):
                values[i] &= 0 - <uint64_t>present[i]
        if kept < column:
            memcpy(scan.values + kept * scan.row_room, values, scan.rows * sizeof(uint64_t))
            memcpy(scan.present + kept * scan.row_room, present, scan.rows)
            scan.numbers[kept] = scan.numbers[column]
        kept += 1
    scan.columns = kept
    scan.holes = cells < kept * scan.rows
    return kept * scan.rows <= max(scan.limits.cells, scan.limits.cells_per_value * cells)


cdef inline void forget_all(Scan* scan) noexcept nogil:
    """Forget what earlier blobs have taught."""
    forget_names(&scan.names)
    forget_steps(&scan.steps)


cdef inline Scanned scan_blob(Scan* scan, const uint8_t* text, Py_ssize_t size) noexcept nogil:
    """Scan a blob by what earlier ones have taught."""
    cdef const uint8_t* end = text + size
    cdef const uint8_t* p = skip_space(text, end)
    cdef const uint8_t* after
    scan.rows = scan.columns = 0
    scan.row_room = 0
    scan.holes = scan.counted = scan.no_memory = scan.steps.no_memory = False
    scan.total = 0
    scan.max_room = max(scan.limits.cells, size)  # a value takes five bytes or more
    scan.blob += 1
    if scan.names.n > MANY_NAMES or scan.blob == 0:
        forget_all(scan)
        scan.blob = 1
    if size == 0:
        return DECODED
    if p == end:
        return NOT_DECODED
    if p[0] != b"[":
        p = skip_word(p, end, "null", 4)
        return DECODED if p != NULL and skip_space(p, end) == end else NOT_DECODED
    after = skip_space(p + 1, end)
    if after < end and after[0] == b"]":
        return DECODED if skip_space(after + 1, end) == end else NOT_DECODED
    if not scan_rows(scan, p + 1, end):
        return SCAN_FAILED if scan.no_memory or scan.steps.no_memory else NOT_DECODED
    return NOT_DECODED if scan.holes and not drop_absent(scan) else DECODED


cdef inline Scanned scan_text(Scan* scan, const uint8_t* text, Py_ssize_t size) noexcept nogil:
    """Scan a blob. Its columns last until the next one."""
    cdef bint known = scan.names.n > 0
    cdef Scanned scanned
    scan.names.crowded = False
    scanned = scan_blob(scan, text, size)
    if known and scan.names.crowded:
        # Names that earlier blobs have made to collide are no reason to leave this one to the fallback decoder.
        forget_all(scan)
        scanned = scan_blob(scan, text, size)
    return scanned
