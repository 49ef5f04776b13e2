"""Scan a blob into columns, in the one form in which callstats and Go write it.

The scanner parses a row metric by metric, and remembers the literal text between its numbers. It compares the next rows with
this text instead of parsing them. On the first byte that does not fit, it leaves the blob to the fallback decoder. So it has no
errors and no leniency of its own.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

from callstats.kernels._ascii cimport Minute, equal_bytes, load8, read_number, read_number_near_end, read_time
from callstats.kernels._columns cimport Columns, resize

cdef enum Scanned:
    DECODED
    NOT_DECODED  # the fallback decoder decides
    NO_ROOM

cdef struct Span:
    # A piece of a text: a name, or a blob.
    const uint8_t* at
    Py_ssize_t size

cdef struct Piece:
    # The text before a number, from the end of the number or time before it, and the index of the number's metric.
    const uint8_t* at
    Py_ssize_t size
    Py_ssize_t column

cdef struct Scan:
    # The columns of one blob, each with room for `row_room` rows. They are reused for the next blob.
    Py_ssize_t row_room, column_room
    int64_t* times
    int64_t* counts
    uint64_t* values
    uint8_t* present  # meaningful only once `holes` is set
    Span* names
    Piece* pieces
    Py_ssize_t rows, columns
    Py_ssize_t n_pieces, piece_bytes
    bint learned, holes, counted
    int64_t total
    Minute minute

cdef enum:
    HEAD = 14  # {"timestamp":"
    OPEN = 13  # ","metrics":{
    COUNT = 10  # },"count":
    MAX_COLUMNS = 256


cdef struct Names:
    # The metrics of a blob that was scanned earlier, whose text must still exist; n is -1 before the first.
    Span items[MAX_COLUMNS]
    Py_ssize_t n


cdef inline void scan_init(Scan* scan) noexcept nogil:
    memset(scan, 0, sizeof(Scan))
    # A minute that exists, since it is compared with any bytes at all; its seconds are 0.
    scan.minute.text[0] = load8(<const uint8_t*>b"1970-01-01T00:00")
    scan.minute.text[1] = load8(<const uint8_t*>b"1970-01-01T00:00" + 8)


cdef inline void scan_free(Scan* scan) noexcept nogil:
    free(scan.times)
    free(scan.counts)
    free(scan.values)
    free(scan.present)
    free(scan.names)
    free(scan.pieces)
    scan_init(scan)


cdef inline bint make_room(Scan* scan, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """Forget what was scanned, and make room for more. Without memory leave no room at all, and return False."""
    scan_free(scan)
    if (
        resize(&scan.times, rows, sizeof(int64_t))
        and resize(&scan.counts, rows, sizeof(int64_t))
        and resize(&scan.values, rows * columns, sizeof(uint64_t))
        and resize(&scan.present, rows * columns, 1)
        and resize(&scan.names, columns, sizeof(Span))
        and resize(&scan.pieces, columns, sizeof(Piece))
    ):
        scan.row_room = rows
        scan.column_room = columns
        return True
    scan_free(scan)
    return False


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
    return tuple([PyBytes_FromStringAndSize(<const char*>scan.names[j].at, scan.names[j].size) for j in range(scan.columns)])


cdef inline bint same_names(const Names* names, const Scan* scan) noexcept nogil:
    """Return whether a blob has these metrics, in this order."""
    cdef Py_ssize_t j
    if scan.columns != names.n:
        return False
    for j in range(scan.columns):
        if scan.names[j].size != names.items[j].size:
            return False
        if memcmp(scan.names[j].at, names.items[j].at, scan.names[j].size) != 0:
            return False
    return True


cdef inline void keep_names(Names* names, const Scan* scan) noexcept nogil:
    names.n = scan.columns
    memcpy(names.items, scan.names, scan.columns * sizeof(Span))


cdef inline void begin_holes(Scan* scan) noexcept nogil:
    """Start to record presence: so far every row has every column."""
    cdef Py_ssize_t column
    if not scan.holes:
        scan.holes = True
        for column in range(scan.columns):
            memset(scan.present + column * scan.row_room, 1, scan.rows)


cdef inline Py_ssize_t column_of(Scan* scan, const uint8_t* name, Py_ssize_t size, Py_ssize_t hint) noexcept nogil:
    """Return the column of a name, which may be new; -1 without room for it."""
    cdef Py_ssize_t i, column
    for i in range(scan.columns):
        column = hint + i if hint + i < scan.columns else hint + i - scan.columns
        if scan.names[column].size == size and memcmp(scan.names[column].at, name, size) == 0:
            return column
    column = scan.columns
    if column == scan.column_room:
        return -1
    if scan.rows:
        begin_holes(scan)
        memset(scan.present + column * scan.row_room, 0, scan.rows)
        memset(scan.values + column * scan.row_room, 0, scan.rows * sizeof(uint64_t))
    scan.names[column].at = name
    scan.names[column].size = size
    scan.columns += 1
    return column


cdef inline const uint8_t* read_tail(Scan* scan, const uint8_t* p, const uint8_t* end) noexcept nogil:
    """Read the end of a row, after its metrics: `}}`, or `},"count":n}`. Return where it ends."""
    cdef uint64_t count = 1
    if end - p < 2:
        return NULL
    if p[1] == b"}":
        p += 2
    else:
        if end - p < COUNT or memcmp(p, <const uint8_t*>b'},"count":', COUNT) != 0:
            return NULL
        p = read_number_near_end(p + COUNT, end, &count)
        if p == NULL or p == end or p[0] != b"}" or count < 1 or count > <uint64_t>INT64_MAX:
            return NULL
        p += 1
        scan.counted = scan.counted or count > 1
    if <int64_t>count > INT64_MAX - scan.total:
        return NULL
    scan.total += <int64_t>count
    scan.counts[scan.rows] = <int64_t>count
    return p


cdef inline void end_row(Scan* scan) noexcept nogil:
    """Count the row, and mark the metrics that it lacks."""
    cdef Py_ssize_t i
    if scan.n_pieces < scan.columns:
        begin_holes(scan)
    if scan.holes:
        for i in range(scan.columns):
            scan.present[i * scan.row_room + scan.rows] = 0
        for i in range(scan.n_pieces):
            scan.present[scan.pieces[i].column * scan.row_room + scan.rows] = 1
        for i in range(scan.columns):
            if not scan.present[i * scan.row_room + scan.rows]:
                scan.values[i * scan.row_room + scan.rows] = 0
    scan.rows += 1


cdef inline const uint8_t* read_alike(Scan* scan, const uint8_t* p, const uint8_t* end) noexcept nogil:
    """Read a row with the same text between its numbers as the row before; NULL where it differs."""
    cdef Py_ssize_t i
    cdef Piece* piece
    if not scan.learned or end - p < HEAD + 36 + scan.piece_bytes + 24 * (scan.n_pieces + 1):
        return NULL
    if not equal_bytes(p, <const uint8_t*>b'{"timestamp":"', HEAD):
        return NULL
    p = read_time(p + HEAD, end, &scan.minute, &scan.times[scan.rows])
    if p == NULL:
        return NULL
    for i in range(scan.n_pieces):
        piece = &scan.pieces[i]
        if not equal_bytes(p, piece.at, piece.size):
            return NULL
        p = read_number(p + piece.size, &scan.values[piece.column * scan.row_room + scan.rows])
        if p == NULL:
            return NULL
    if p[0] != b"}":
        return NULL
    return read_tail(scan, p, end)


cdef inline const uint8_t* read_by_name(Scan* scan, const uint8_t* p, const uint8_t* end, bint* full) noexcept nogil:
    """Read a row metric by metric, and learn its text. NULL where it has another form, or no room: then `full` is set."""
    cdef const uint8_t* start
    cdef const uint8_t* name
    cdef const uint8_t* last = NULL
    cdef Py_ssize_t size, last_size = 0, column = -1, order
    cdef uint64_t value
    scan.learned = False
    scan.n_pieces = scan.piece_bytes = 0
    if end - p < HEAD or memcmp(p, <const uint8_t*>b'{"timestamp":"', HEAD) != 0:
        return NULL
    p = read_time(p + HEAD, end, &scan.minute, &scan.times[scan.rows])
    if p == NULL or end - p < OPEN + 1 or memcmp(p, <const uint8_t*>b'","metrics":{', OPEN) != 0:
        return NULL
    start = p
    p += OPEN
    while p[0] != b"}":
        if p[0] != b'"':
            return NULL
        p += 1
        name = p
        while p < end and p[0] != b'"':
            if p[0] < 32 or p[0] > 127 or p[0] == b"\\" or p[0] == b"<" or p[0] == b">" or p[0] == b"&":
                return NULL
            p += 1
        size = p - name
        if end - p < 3 or p[1] != b":":
            return NULL
        if last != NULL:
            order = memcmp(last, name, size if size < last_size else last_size)
            if order > 0 or (order == 0 and last_size >= size):
                return NULL
        last = name
        last_size = size
        column = column_of(scan, name, size, column + 1)
        if column < 0 or column >= MAX_COLUMNS:
            full[0] = column < 0
            return NULL
        p += 2
        if scan.n_pieces == scan.column_room:
            return NULL
        scan.pieces[scan.n_pieces].at = start
        scan.pieces[scan.n_pieces].size = p - start
        scan.pieces[scan.n_pieces].column = column
        scan.piece_bytes += p - start
        scan.n_pieces += 1
        p = read_number_near_end(p, end, &value)
        if p == NULL or p == end:
            return NULL
        scan.values[column * scan.row_room + scan.rows] = value
        start = p
        if p[0] == b",":
            p += 1
            if p == end or p[0] != b'"':
                return NULL
        elif p[0] != b"}":
            return NULL
    scan.learned = scan.n_pieces > 0
    return read_tail(scan, p, end)


cdef inline Scanned scan_rows(Scan* scan, const uint8_t* text, Py_ssize_t size) noexcept nogil:
    cdef const uint8_t* p = text
    cdef const uint8_t* end = text + size
    cdef const uint8_t* after
    cdef bint full = False
    scan.rows = scan.columns = scan.n_pieces = scan.piece_bytes = 0
    scan.learned = scan.holes = scan.counted = False
    scan.total = 0
    if size == 0:
        return DECODED
    if (end - 1)[0] == b"\n":
        end -= 1
    if end - p < 2 or p[0] != b"[" or (end - 1)[0] != b"]":
        return NOT_DECODED
    end -= 1  # each row ends before the last bracket
    while True:
        p += 1  # past the bracket or comma
        if scan.rows == scan.row_room:
            return NO_ROOM
        after = read_alike(scan, p, end)
        if after == NULL:
            after = read_by_name(scan, p, end, &full)
            if after == NULL:
                return NO_ROOM if full else NOT_DECODED
        p = after
        if scan.rows and scan.times[scan.rows] < scan.times[scan.rows - 1]:
            return NOT_DECODED
        end_row(scan)
        if p == end:
            return DECODED
        if p[0] != b",":
            return NOT_DECODED


cdef inline Scanned scan_text(Scan* scan, const uint8_t* text, Py_ssize_t size) noexcept nogil:
    """Scan a blob, and make room as it needs it: a few bytes for each byte of the blob."""
    cdef Py_ssize_t rows, columns
    cdef Scanned scanned
    cdef bint fresh = scan.row_room == 0  # no room was left by an earlier blob
    if fresh and not make_room(scan, 256, 16):
        return NOT_DECODED
    while True:
        scanned = scan_rows(scan, text, size)
        if scanned != NO_ROOM:
            return scanned
        rows, columns = scan.row_room, scan.column_room
        if scan.rows == rows:
            rows *= 2
        else:
            columns *= 2
        # A number takes at least five bytes, so only a blob of holes needs more cells than bytes. Or the room was made for a long
        # blob, and this one is wide: then start again with little room.
        if (rows * columns > size and rows * columns > 65_536) or not make_room(scan, rows, columns):
            scan_free(scan)
            if fresh or not make_room(scan, 256, 16):
                return NOT_DECODED
            fresh = True
