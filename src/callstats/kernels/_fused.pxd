"""Shapes of rows that `_fused.h` reads, made of the steps that the scanner has learnt."""

from cpython.mem cimport PyMem_RawFree as free
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from callstats.kernels._ascii cimport Minute, read_minute
from callstats.kernels._columns cimport grow
from callstats.kernels._json_steps cimport COUNT, END, OTHER, TIME, VALUE, Step, Steps

cdef extern from "_fused.h":
    enum:
        AUTO "CALLSTATS_AUTO"
        OFF "CALLSTATS_OFF"
        PORTABLE "CALLSTATS_PORTABLE"
        WITH_AVX2 "CALLSTATS_WITH_AVX2"
        WITH_AVX512 "CALLSTATS_WITH_AVX512"
    enum:
        BEFORE "CALLSTATS_BEFORE"
        DIGITS "CALLSTATS_DIGITS"
        REACH "CALLSTATS_REACH"
        STRIDE "CALLSTATS_STRIDE"
        WIDE "CALLSTATS_WIDE"
    ctypedef struct Number "callstats_number":
        uint64_t* cells
        uint32_t column, mark, before, gap, digits, tail
        int32_t step
        uint8_t text[52]
    ctypedef struct Part "callstats_piece":
        uint32_t mark, gap
        uint8_t text[32]
        uint8_t mask[32]
    ctypedef struct Four "callstats_four":
        uint8_t marks[16]
        uint8_t previous[16]
        uint32_t gaps[4]
    ctypedef struct Rows "callstats_shape":
        Number* numbers
        Part* pieces
        Four* fours
        uint8_t* others
        Py_ssize_t n_narrow, n_numbers, n_pieces, n_marks, n_fours, n_others, n_inner
        uint32_t time_mark, time_gap, end_mark, end_gap
    ctypedef struct Run "callstats_run":
        const uint8_t* at
        const uint8_t* readable
        int64_t* times
        Py_ssize_t row, room
        void* minute
        const uint64_t* minute_text
        const int64_t* minute_seconds
        int (*read_minute)(const uint8_t*, void*) noexcept nogil
    const uint64_t* LEAST "callstats_least"
    int form_for "callstats_form"(int wanted) noexcept nogil
    Py_ssize_t read_rows "callstats_read_rows"(int form, const Rows* rows, Run* run) noexcept nogil

cdef struct Shape:
    # Of rows that end with the step `end` (-1: none). `fits`: `_fused.h` can read them.
    Rows rows
    int32_t* path  # its steps; once it is made, those of its values
    Py_ssize_t n_values, number_room, piece_room, path_room, four_room, other_room
    uint32_t edition  # of the steps
    int32_t end
    bint fits, has_counts, has_digits
    uint32_t mark, gap  # while it is made: where the next literal text begins


cdef inline void shape_free(Shape* shape) noexcept nogil:
    free(shape.rows.numbers)
    free(shape.rows.pieces)
    free(shape.rows.fours)
    free(shape.rows.others)
    free(shape.path)


cdef inline Py_ssize_t shape_size(const Shape* shape) noexcept nogil:
    """Return the number of bytes that it keeps."""
    return (
        sizeof(Number) * shape.number_room + sizeof(Part) * shape.piece_room + sizeof(int32_t) * shape.path_room
        + sizeof(Four) * shape.four_room + shape.other_room
    )


cdef inline int next_minute(const uint8_t* at, void* minute) noexcept nogil:
    return read_minute(at, <Minute*>minute)


cdef inline bint is_mark(uint8_t c) noexcept nogil:
    return c == b"," or c == b"}"


cdef inline bint is_number(const Step* step) noexcept nogil:
    return step.slot == VALUE or step.slot == COUNT


cdef inline void add_others(Shape* shape, const uint8_t* text, Py_ssize_t size) noexcept nogil:
    memcpy(shape.rows.others + shape.rows.n_others, text, size)
    shape.rows.n_others += size


cdef inline void add_text(Shape* shape, const uint8_t* text, Py_ssize_t size, Py_ssize_t tail) noexcept nogil:
    """Add a literal text, of which a number compares the last bytes itself."""
    cdef Part* part
    cdef Py_ssize_t i
    if shape.mark and not shape.gap and not is_mark(text[0]):
        shape.fits = False  # the number before has to end at a mark
    for i in range(size):
        shape.rows.n_marks += is_mark(text[i])
        if 48 <= text[i] <= 57:
            shape.has_digits = True
    add_others(shape, text, size)
    for i in range(0, size - tail, 32):
        part = &shape.rows.pieces[shape.rows.n_pieces]
        shape.rows.n_pieces += 1
        memset(part, 0, sizeof(Part))
        memcpy(part.text, text + i, min(size - tail - i, 32))
        memset(part.mask, 0xFF, min(size - tail - i, 32))
        part.mark = shape.mark
        part.gap = shape.gap + <uint32_t>i
    shape.gap += <uint32_t>size
    if shape.gap + 32 > REACH:
        shape.fits = False


cdef inline void add_number(Shape* shape, Number* number, const uint8_t* text, const Step* step, int32_t index) noexcept nogil:
    cdef Py_ssize_t tail
    memset(number, 0, sizeof(Number))
    number.digits = WIDE if step.wide else DIGITS
    number.before = shape.mark
    tail = min(<Py_ssize_t>step.size, 32 - <Py_ssize_t>number.digits)
    add_text(shape, text, step.size, tail)
    memset(number.text + 31, 48, 21)
    memcpy(number.text + 31 - tail, text + step.size - tail, tail)
    number.tail = <uint32_t>tail
    number.gap = shape.gap + 1
    number.mark = shape.mark = <uint32_t>shape.rows.n_marks
    shape.gap = 0
    if step.slot == COUNT:
        number.step = -1
        shape.has_counts = True
    else:
        number.step = index
        number.column = <uint32_t>shape.n_values
        shape.path[shape.n_values] = index
        shape.n_values += 1


cdef inline void add_fours(Shape* shape) noexcept nogil:
    """Take the numbers as fours, if that can be done."""
    cdef Rows* rows = &shape.rows
    cdef Number* number
    cdef Four* four
    cdef Py_ssize_t n = (rows.n_numbers + 3) // 4 * 4, i, lane, size
    cdef uint32_t first
    if rows.n_narrow < rows.n_numbers or shape.has_digits:
        return
    add_others(shape, b",", 1)
    size = rows.n_others
    rows.n_others *= STRIDE // size + 1
    for i in range(size, rows.n_others + STRIDE):
        rows.others[i] = rows.others[i - size]
    memset(rows.fours, 255, n // 4 * sizeof(Four))
    for i in range(n):
        number = &rows.numbers[i]
        if i >= rows.n_numbers:
            number[0] = rows.numbers[i - 1]
        four = &rows.fours[i // 4]
        first = rows.numbers[i // 4 * 4].before
        if number.mark - first >= 8:
            return
        lane = i % 4 * 4
        four.marks[lane] = <uint8_t>(2 * (number.mark - first))
        four.marks[lane + 1] = four.marks[lane] + 1
        four.previous[lane] = <uint8_t>(2 * (number.before - first))
        four.previous[lane + 1] = four.previous[lane] + 1
        four.gaps[i % 4] = number.gap
    rows.n_fours = n // 4


cdef inline bint make_shape(Shape* shape, const Steps* steps, int32_t end, uint8_t time_mark) noexcept nogil:
    """Make the shape of rows that end with this step, and whose times have this mark. Return False without memory."""
    cdef Py_ssize_t n = 0, pieces = 0, narrow = 0, size = 0, wide, i
    cdef int32_t at = end
    cdef const Step* step
    cdef const uint8_t* text
    shape.end = -1
    while at >= 0:
        n += 1
        pieces += steps.items[at].size // 32 + 1
        size += steps.items[at].size + 8
        narrow += is_number(&steps.items[at]) and not steps.items[at].wide
        at = steps.items[at].parent
    if not (
        grow(&shape.rows.numbers, &shape.number_room, n + 3, sizeof(Number))
        and grow(&shape.rows.fours, &shape.four_room, n // 4 + 1, sizeof(Four))
        and grow(&shape.rows.others, &shape.other_room, size + 2 * STRIDE, 1)
        and grow(&shape.rows.pieces, &shape.piece_room, pieces, sizeof(Part))
        and grow(&shape.path, &shape.path_room, n, sizeof(int32_t))
    ):
        return False
    at = end
    for i in range(n - 1, -1, -1):
        shape.path[i] = at
        at = steps.items[at].parent
    shape.rows.n_narrow = wide = narrow
    narrow = shape.n_values = shape.rows.n_pieces = shape.rows.n_fours = shape.rows.n_others = shape.rows.n_inner = 0
    shape.rows.n_marks = shape.gap = 1
    shape.mark = 0
    shape.has_counts = shape.has_digits = False
    shape.fits = True
    for i in range(n):
        step = &steps.items[shape.path[i]]
        text = steps.text + step.at
        if is_number(step):
            add_number(shape, &shape.rows.numbers[wide if step.wide else narrow], text, step, shape.path[i])
            wide += step.wide
            narrow += not step.wide
            shape.rows.n_inner = shape.rows.n_pieces
            continue
        add_text(shape, text, step.size, 0)
        if step.slot == TIME:
            shape.rows.time_mark = shape.mark
            shape.rows.time_gap = shape.gap
            shape.gap += 24
            add_others(shape, b"--", 2)
            add_others(shape, &time_mark, 1)
            add_others(shape, b"::.Z", 4)
        elif step.slot == OTHER:
            shape.fits = False
    shape.rows.n_numbers = wide
    shape.rows.end_mark = shape.mark
    shape.rows.end_gap = shape.gap
    shape.end = end
    shape.edition = steps.edition
    if shape.fits:
        add_fours(shape)
    return True
