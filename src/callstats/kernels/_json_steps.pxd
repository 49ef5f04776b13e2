"""Rows as a scanner learns them: steps, each a literal text and the number, time or other value behind it.

The text of a row is literal text but for its slots. Three steps are a row: `{"timestamp":"` and a time, `","metrics":{"x":` and a
value, `}}` and the end. A row of another spelling, or with other metrics, has other steps from where it differs. So all rows make
one tree, in which `other` leads from a step to its alternative.

The tree accepts a row only if one of the same literal text was checked in full. So the row is JSON, and no member and no metric
occurs twice. At most one step of a chain of alternatives accepts a text: literal text ends right before its slot, no slot begins
with white space, and the name of a member tells its slot. So a search never has to return to an earlier step.
"""

from cpython.mem cimport PyMem_RawFree as free
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from callstats.kernels._ascii cimport load8
from callstats.kernels._columns cimport grow
from callstats.kernels._json_names cimport NO_MEMORY, Names, number_of
from callstats.kernels._json_text cimport skip_digits, skip_space, skip_string, skip_value, skip_word, unescape

cdef enum Slot:
    VALUE
    TIME
    COUNT
    OTHER  # a member that callstats does not know
    END  # of the row

cdef enum:
    MAX_OTHERS = 32  # of one step; more would make the search slow
    MAX_STEPS = 8_192  # of rows that are not wide
    MAX_TEXT = 1_048_576
    MAX_LITERAL = 0x3FFFFFFF

cdef struct Span:
    # A piece of a text.
    const uint8_t* at
    Py_ssize_t size

cdef struct Piece:
    # A literal text of a row, and its slot. VALUE: the number of its metric's name.
    Span text
    Slot slot
    int32_t name

cdef struct Step:
    # The first 16 bytes of the literal text, and which of them it has. All of it is at `at` in the text of all steps.
    uint64_t text[2]
    uint64_t mask[2]
    uint32_t size, at
    int32_t next, other, parent  # -1: none
    int32_t name  # VALUE: of the metric. END: the number of values in the row
    int32_t column  # VALUE: that of the metric in the blob with the number `blob`
    uint32_t blob
    bint wide  # VALUE: one was read that is too long to be read with others by `_fused.h`
    Slot slot

cdef struct Steps:
    Step* items
    uint8_t* text
    Piece* pieces
    uint8_t* unescaped
    Py_ssize_t n, room, text_size, text_room, n_pieces, piece_room, unescaped_room
    int32_t first
    uint32_t rows  # how many were learnt: each has its number
    uint32_t edition  # an index means the same step within one edition
    bint no_memory


cdef inline void steps_free(Steps* steps) noexcept nogil:
    free(steps.items)
    free(steps.text)
    free(steps.pieces)
    free(steps.unescaped)


cdef inline void forget_steps(Steps* steps) noexcept nogil:
    steps.n = steps.text_size = 0
    steps.first = -1
    steps.edition += 1


# --- reading -----------------------------------------------------------------------------------------------------------------

cdef inline bint equal_rest(const uint8_t* a, const uint8_t* b, Py_ssize_t size) noexcept nogil:
    """Return whether two texts of more than 16 bytes are equal from the seventeenth on."""
    cdef Py_ssize_t i
    for i in range(16, size - 8, 8):
        if load8(a + i) != load8(b + i):
            return False
    return load8(a + size - 8) == load8(b + size - 8)


cdef inline bint begins_with(const uint8_t* p, const Step* step, const uint8_t* text) noexcept nogil:
    """Return whether the literal text of a step is at p, where 16 bytes can be read, or as many as it has if they are more."""
    if (load8(p) ^ step.text[0]) & step.mask[0] | (load8(p + 8) ^ step.text[1]) & step.mask[1]:
        return False
    return step.size <= 16 or equal_rest(p, text + step.at, step.size)


# --- learning ----------------------------------------------------------------------------------------------------------------

cdef inline bint add_piece(Steps* steps, const uint8_t* begin, const uint8_t* end, Slot slot, int32_t name) noexcept nogil:
    cdef Piece* piece
    if not grow(&steps.pieces, &steps.piece_room, steps.n_pieces + 1, sizeof(Piece)):
        steps.no_memory = True
        return False
    piece = &steps.pieces[steps.n_pieces]
    piece.text.at = begin
    piece.text.size = end - begin
    piece.slot = slot
    piece.name = name
    steps.n_pieces += 1
    return True


cdef inline const uint8_t* read_key(Steps* steps, const uint8_t* p, const uint8_t* end, Span* name) noexcept nogil:
    """Read a member's name and colon. Return where its value begins, behind white space and before `end`."""
    cdef const uint8_t* begin = p + 1
    cdef bint escaped = False
    if p == end or p[0] != b'"':
        return NULL
    p = skip_string(begin, end, &escaped)
    if p == NULL:
        return NULL
    name.at = begin
    name.size = p - begin
    if escaped:
        if not grow(&steps.unescaped, &steps.unescaped_room, name.size, 1):
            steps.no_memory = True
            return NULL
        name.size = unescape(begin, p, steps.unescaped)
        name.at = steps.unescaped
        if name.size < 0:
            return NULL
    p = skip_space(p + 1, end)
    if p == end or p[0] != b":":
        return NULL
    p = skip_space(p + 1, end)
    return p if p < end else NULL


cdef inline bint is_called(const Span* name, const char* word, Py_ssize_t size) noexcept nogil:
    return name.size == size and memcmp(name.at, word, size) == 0


cdef inline const uint8_t* learn_metrics(
    Steps* steps, Names* names, const uint8_t* begin, const uint8_t* p, const uint8_t* end, const uint8_t** literal
) noexcept nogil:
    """Learn the members of `metrics`, from behind the bracket. Lead `literal` to where the text after the last value begins."""
    cdef Span name
    cdef int32_t number
    literal[0] = begin
    p = skip_space(p, end)
    if p < end and p[0] == b"}":
        return p + 1
    while True:
        p = read_key(steps, p, end, &name)
        if p == NULL:
            return NULL
        number = number_of(names, name.at, name.size)
        if number < 0:
            steps.no_memory = number == NO_MEMORY
            return NULL
        if names.items[number].row == steps.rows:
            return NULL  # the last of two counts
        names.items[number].row = steps.rows
        if not add_piece(steps, literal[0], p, VALUE, number):
            return NULL
        p = skip_word(p, end, "null", 4) if p[0] == b"n" else skip_digits(p, end)
        if p == NULL:
            return NULL
        literal[0] = p
        p = skip_space(p, end)
        if p == end:
            return NULL
        if p[0] == b"}":
            return p + 1
        if p[0] != b",":
            return NULL
        p = skip_space(p + 1, end)


cdef inline const uint8_t* split_row(
    Steps* steps, Names* names, const uint8_t* begin, const uint8_t* end, int max_depth
) noexcept nogil:
    """Check a row and take it to pieces, with the white space before it. Return where it ends."""
    cdef const uint8_t* literal = begin
    cdef const uint8_t* p = skip_space(begin, end)
    cdef Span name
    cdef bint has_time = False, has_metrics = False, has_count = False
    if p == end or p[0] != b"{":
        return NULL
    p = skip_space(p + 1, end)
    while True:
        p = read_key(steps, p, end, &name)
        if p == NULL:
            return NULL
        if is_called(&name, "timestamp", 9):
            if has_time or p[0] != b'"' or not add_piece(steps, literal, p + 1, TIME, 0):
                return NULL
            has_time = True
            p += 1
            literal = p
            while literal < end and 32 <= literal[0] < 128 and literal[0] != b'"' and literal[0] != b"\\":
                literal += 1
            if literal == end or literal[0] != b'"':
                return NULL
            p = literal + 1
        elif is_called(&name, "metrics", 7):
            if has_metrics:
                return NULL
            has_metrics = True
            if p[0] == b"{":
                p = learn_metrics(steps, names, literal, p + 1, end, &literal)
            else:
                p = skip_word(p, end, "null", 4)
        elif is_called(&name, "count", 5):
            if has_count or not add_piece(steps, literal, p, COUNT, 0):
                return NULL
            has_count = True
            p = literal = skip_digits(p, end)
        else:
            if not add_piece(steps, literal, p, OTHER, 0):
                return NULL
            p = literal = skip_value(p, end, max_depth - 2)
        if p == NULL:
            return NULL
        p = skip_space(p, end)
        if p == end:
            return NULL
        if p[0] == b"}":
            break
        if p[0] != b",":
            return NULL
        p = skip_space(p + 1, end)
    if not has_time or not add_piece(steps, literal, p + 1, END, 0):
        return NULL
    return p + 1


cdef inline bint is_piece(const Step* step, const Piece* piece, const uint8_t* text) noexcept nogil:
    if step.slot != piece.slot or step.size != <size_t>piece.text.size or (step.slot == VALUE and step.name != piece.name):
        return False
    return memcmp(text + step.at, piece.text.at, piece.text.size) == 0


cdef inline void set_step(Steps* steps, Step* step, const Piece* piece) noexcept nogil:
    """Make a step of a piece, whose text there is room for."""
    cdef uint8_t begin[16]
    cdef uint8_t mask[16]
    cdef Py_ssize_t size = piece.text.size if piece.text.size < 16 else 16
    memset(step, 0, sizeof(Step))
    memset(begin, 0, 16)
    memset(mask, 0, 16)
    memcpy(begin, piece.text.at, size)
    memset(mask, 0xFF, size)
    step.text[0] = load8(begin)
    step.text[1] = load8(begin + 8)
    step.mask[0] = load8(mask)
    step.mask[1] = load8(mask + 8)
    step.size = <uint32_t>piece.text.size
    step.at = <uint32_t>steps.text_size
    step.slot = piece.slot
    step.name = piece.name
    step.next = step.other = -1
    memcpy(steps.text + steps.text_size, piece.text.at, piece.text.size)
    steps.text_size += piece.text.size


cdef inline bint add_steps(Steps* steps) noexcept nogil:
    """Add the pieces of a row to the tree. Return False where it would have to grow too wide."""
    cdef Py_ssize_t i, others
    cdef int32_t* link = &steps.first
    cdef int32_t parent = -1
    for i in range(steps.n_pieces):
        others = 0
        while link[0] >= 0 and not is_piece(&steps.items[link[0]], &steps.pieces[i], steps.text):
            link = &steps.items[link[0]].other
            others += 1
        if link[0] < 0:
            if others > MAX_OTHERS:
                return False
            link[0] = <int32_t>steps.n
            set_step(steps, &steps.items[steps.n], &steps.pieces[i])
            steps.items[link[0]].parent = parent
            steps.n += 1
        parent = link[0]
        link = &steps.items[parent].next
    return True


cdef inline const uint8_t* learn_row(
    Steps* steps, Names* names, const uint8_t* begin, const uint8_t* end, int max_depth
) noexcept nogil:
    """Learn a row, with the white space before it. Return where it ends; NULL where the fallback decoder decides."""
    cdef const uint8_t* after
    cdef Py_ssize_t i, size = 0, values = 0
    steps.n_pieces = 0
    steps.rows += 1
    after = split_row(steps, names, begin, end, max_depth)
    if after == NULL:
        return NULL
    for i in range(steps.n_pieces):
        size += steps.pieces[i].text.size
        values += steps.pieces[i].slot == VALUE
    steps.pieces[steps.n_pieces - 1].name = <int32_t>values
    if size > MAX_LITERAL:
        return NULL
    if steps.n + steps.n_pieces > max(MAX_STEPS, 4 * steps.n_pieces) or steps.text_size + size > max(MAX_TEXT, 4 * size):
        forget_steps(steps)
    if not (
        grow(&steps.items, &steps.room, steps.n + steps.n_pieces, sizeof(Step))
        and grow(&steps.text, &steps.text_room, steps.text_size + size, 1)
    ):
        steps.no_memory = True
        return NULL
    if not add_steps(steps):
        forget_steps(steps)
        add_steps(steps)
    return after
