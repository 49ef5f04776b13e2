"""The columns of one blob while it is scanned, and room for them."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_RawFree as free
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

from callstats.kernels._ascii cimport Minute, load8
from callstats.kernels._columns cimport Columns, grow
from callstats.kernels._fused cimport Shape, shape_free, shape_size
from callstats.kernels._json_names cimport Name, Names, names_free
from callstats.kernels._json_steps cimport Piece, Step, Steps, steps_free

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
    int form  # of `_fused.h`
    Shape shape
    int32_t last  # the step with which the last row ended that was read by steps
    Py_ssize_t wait, misses  # rows to read by steps before the shape is tried again, and how often it was of little use
    Py_ssize_t fused  # rows that were read by their shape

cdef struct Layout:
    # The columns of a blob that was scanned earlier.
    int32_t* numbers
    Py_ssize_t n, room
    uint64_t edition


cdef inline void scan_init(Scan* scan, const Limits* limits) noexcept nogil:
    memset(scan, 0, sizeof(Scan))
    scan.steps.first = scan.shape.end = -1
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
    shape_free(&scan.shape)


cdef inline Py_ssize_t scan_size(const Scan* scan) noexcept nogil:
    """Return the number of bytes that it keeps."""
    return (
        8 * (scan.time_room + scan.count_room + scan.cell_room) + scan.present_room + scan.tail_room
        + 4 * (scan.number_room + scan.names.n_slots) + sizeof(Name) * scan.names.room + scan.names.text_room
        + sizeof(Step) * scan.steps.room + scan.steps.text_room
        + sizeof(Piece) * scan.steps.piece_room + scan.steps.unescaped_room + shape_size(&scan.shape)
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
