"""Scan a blob into columns, whatever its spelling.

The scanner compares a row with the steps of the rows that it has learnt. If none fit, it checks the row in full, learns it, and
reads it by its own steps: there is one way to read a value. It leaves a blob that it does not accept to the fallback decoder. So
it has no errors and no leniency of its own. Steps and names outlive the blob: the next blob is read by them from its first row.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree as free
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

from callstats.kernels._ascii cimport PAD, Minute, load8, read_number, read_time
from callstats.kernels._columns cimport Columns, grow
from callstats.kernels._json_names cimport Name, Names, forget_names, names_free
from callstats.kernels._json_steps cimport (
    END, OTHER, TIME, VALUE, Piece, Step, Steps, begins_with, forget_steps, learn_row, steps_free
)
from callstats.kernels._json_text cimport skip_space, skip_value, skip_word

cdef enum Scanned:
    DECODED
    NOT_DECODED  # the fallback decoder decides
    SCAN_FAILED  # no memory

cdef struct Limits:
    # Those of `callstats._limits`.
    int64_t cells, cells_per_value
    int depth

cdef struct Scan:
    # The columns of one blob: `columns` of them, with room for `row_room` rows each, one after another. The arrays have room for
    # `time_room` rows and `cell_room` cells, and are kept for the next blob.
    int64_t* times
    int64_t* counts
    uint64_t* values
    uint8_t* present  # meaningful only once `holes` is set; then all cells are 0 in rows to come
    int32_t* numbers  # of each column's name
    Py_ssize_t rows, row_room, columns, time_room, count_room, cell_room, present_room, number_room
    bint holes, counted, no_memory
    int64_t total
    Names names
    Steps steps
    uint32_t blob  # the number of this one: columns of an earlier blob are not those of this one
    Minute minute
    uint8_t* tail  # the last rows, where PAD bytes more can be read
    Py_ssize_t tail_room, row_size
    Limits limits
    int64_t max_room  # cells for which there may be room

cdef struct Layout:
    # The columns of a blob that was scanned earlier.
    int32_t* numbers
    Py_ssize_t n, room
    uint64_t edition

cdef enum:
    FEW_ROWS = 248  # room to begin with
    MIN_ROW = 36  # bytes, with a comma: {"timestamp":"2017-11-27T14:52:53Z"}
    MANY_NAMES = 65_536  # more are forgotten between blobs


cdef inline void scan_init(Scan* scan, const Limits* limits) noexcept nogil:
    memset(scan, 0, sizeof(Scan))
    scan.steps.first = -1
    scan.limits = limits[0]
    # A minute that exists, since it is compared with any bytes at all; its seconds are 0.
    scan.minute.text[0] = load8(<const uint8_t*>b"1970-01-01T00:00")
    scan.minute.text[1] = load8(<const uint8_t*>b"1970-01-01T00:00" + 8)


cdef inline void scan_free(Scan* scan) noexcept nogil:
    free(scan.times)
    free(scan.counts)
    free(scan.values)
    free(scan.present)
    free(scan.numbers)
    free(scan.tail)
    names_free(&scan.names)
    steps_free(&scan.steps)


cdef inline Py_ssize_t scan_size(const Scan* scan) noexcept nogil:
    """Return the number of bytes that it keeps."""
    return (
        8 * (scan.time_room + scan.count_room + scan.cell_room) + scan.present_room + scan.tail_room
        + 4 * (scan.number_room + scan.names.n_slots) + sizeof(Name) * scan.names.room + scan.names.text_room
        + sizeof(Step) * scan.steps.room + scan.steps.text_room
        + sizeof(Piece) * scan.steps.piece_room + scan.steps.unescaped_room
    )


cdef inline Columns scanned_columns(const Scan* scan) noexcept nogil:
    cdef Columns columns
    columns.n = scan.rows
    columns.k = scan.columns
    columns.stride = scan.row_room
    columns.times = scan.times
    columns.counts = scan.counts if scan.counted else NULL
    columns.values = scan.values
    columns.present = scan.present if scan.holes else NULL
    return columns


cdef inline tuple scanned_names(const Scan* scan):
    """Return the names as bytes, in the order in which they appear in the blob."""
    cdef Py_ssize_t j
    cdef const Name* name
    cdef list names = []
    for j in range(scan.columns):
        name = &scan.names.items[scan.numbers[j]]
        names.append(PyBytes_FromStringAndSize(<const char*>scan.names.text + name.at, name.size))
    return tuple(names)


cdef inline bint same_layout(const Layout* layout, const Scan* scan) noexcept nogil:
    """Return whether a blob has these columns."""
    if scan.columns != layout.n or scan.names.edition != layout.edition:
        return False
    return scan.columns == 0 or memcmp(scan.numbers, layout.numbers, scan.columns * sizeof(int32_t)) == 0


cdef inline bint keep_layout(Layout* layout, const Scan* scan) noexcept nogil:
    """Remember the columns of a blob. Return False without memory."""
    if not grow(&layout.numbers, &layout.room, scan.columns, sizeof(int32_t)):
        return False
    if scan.columns:
        memcpy(layout.numbers, scan.numbers, scan.columns * sizeof(int32_t))
    layout.n = scan.columns
    layout.edition = scan.names.edition
    return True


# --- room --------------------------------------------------------------------------------------------------------------------

cdef inline bint without_memory(Scan* scan) noexcept nogil:
    scan.no_memory = True
    return False


cdef inline bint make_presence(Scan* scan, Py_ssize_t cells) noexcept nogil:
    return grow(&scan.present, &scan.present_room, cells, 1) or without_memory(scan)


cdef inline bint make_cells(Scan* scan, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    if rows * columns > scan.max_room:
        return False
    if not grow(&scan.values, &scan.cell_room, rows * columns, sizeof(uint64_t)):
        return without_memory(scan)
    return not scan.holes or make_presence(scan, rows * columns)


cdef inline bint make_rows(Scan* scan, Py_ssize_t rows) noexcept nogil:
    """Make room for more rows in every column. Return False where that takes too much."""
    cdef Py_ssize_t column, before = scan.row_room
    cdef Py_ssize_t n = scan.rows
    # An odd number of cache lines: columns whose cells compete for the same line of the cache are many times slower.
    rows = (rows + 7) // 16 * 16 + 8
    if not make_cells(scan, rows, scan.columns):
        return False
    if not (grow(&scan.times, &scan.time_room, rows, 8) and grow(&scan.counts, &scan.count_room, rows, 8)):
        return without_memory(scan)
    for column in range(scan.columns - 1, -1, -1):
        memmove(scan.values + column * rows, scan.values + column * before, n * sizeof(uint64_t))
        if scan.holes:
            memmove(scan.present + column * rows, scan.present + column * before, n)
            memset(scan.present + column * rows + n, 0, rows - n)
    scan.row_room = rows
    return True


cdef inline bint begin_holes(Scan* scan) noexcept nogil:
    """Start to record presence: so far every row has every column. Return False without memory."""
    cdef Py_ssize_t column
    cdef uint8_t* present
    if not make_presence(scan, scan.columns * scan.row_room):
        return False
    scan.holes = True
    for column in range(scan.columns):
        present = scan.present + column * scan.row_room
        memset(present, 1, scan.rows)
        memset(present + scan.rows, 0, scan.row_room - scan.rows)
    return True


cdef inline bint bind(Scan* scan, Step* step) noexcept nogil:
    """Find the column of a step's metric in this blob, or begin one. Return False where there is no room for it."""
    cdef Py_ssize_t column = scan.columns
    if scan.names.items[step.name].blob != scan.blob:
        if scan.rows and not scan.holes and not begin_holes(scan):
            return False
        if not make_cells(scan, scan.row_room, column + 1):
            return False
        if not grow(&scan.numbers, &scan.number_room, column + 1, sizeof(int32_t)):
            return without_memory(scan)
        if scan.holes:
            memset(scan.present + column * scan.row_room, 0, scan.row_room)
        scan.numbers[column] = step.name
        scan.columns += 1
        scan.names.items[step.name].blob = scan.blob
        scan.names.items[step.name].column = <int32_t>column
    step.column = scan.names.items[step.name].column
    step.blob = scan.blob
    return True


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
    if not grow(&scan.tail, &scan.tail_room, size + PAD, 1):
        return without_memory(scan)
    memcpy(scan.tail, p[0], size)
    memset(scan.tail + size, 0, PAD)
    p[0] = scan.tail
    end[0] = scan.tail + size
    return True


cdef inline bint scan_rows(Scan* scan, const uint8_t* p, const uint8_t* end) noexcept nogil:
    """Scan rows up to the last bracket, which only white space follows. Return False where the fallback decoder decides."""
    cdef const uint8_t* after
    cdef bint moved = False
    if not make_rows(scan, min((end - p) // MIN_ROW + 1, FEW_ROWS)):
        return False
    while True:
        if scan.rows == scan.row_room or scan.rows == 1 and scan.row_room * scan.row_size < end - p:
            if not make_rows(scan, scan.rows + scan.rows // 4 + (end - p) * 9 // (8 * scan.row_size) + 1):
                return False
        if not moved and end - p <= 2 * scan.row_size + PAD:
            moved = True
            if not move_tail(scan, &p, &end):
                return False
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
            after = read_row(scan, p, end if moved else end - PAD)
            if after == NULL:
                return False
        if not end_row(scan):
            return False
        scan.row_size = after - p
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


cdef inline Scanned scan_text(Scan* scan, const uint8_t* text, Py_ssize_t size) noexcept nogil:
    """Scan a blob. Its columns last until the next one."""
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
        forget_names(&scan.names)
        forget_steps(&scan.steps)
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
