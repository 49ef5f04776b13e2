# cython: language_level=3
"""Columns into the stored text."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from callstats.kernels._ascii cimport Day, digits_of, write_number, write_time

cdef enum:
    BARE_ROW = 51  # {"timestamp":"2006-01-02T15:04:05.Z","metrics":{}},


cdef struct Text:
    # A buffer that grows.
    uint8_t* at
    Py_ssize_t size, room

cdef struct Table:
    # Columns to be written: k of n rows each, the cells of a column `stride` apart from those of the next.
    Py_ssize_t n, k, stride
    const int64_t* times
    const int64_t* counts  # NULL: none are written
    const uint64_t* values
    const uint8_t* present  # NULL: all
    const uint8_t* keys  # for each column `,"name":`
    const int64_t* key_ends
    int digits


cdef inline bint reserve(Text* text, Py_ssize_t more) noexcept nogil:
    """Room for so many bytes more; False when there is no memory."""
    cdef Py_ssize_t room
    cdef uint8_t* at
    if text.size + more > text.room:
        room = text.room + text.room // 2 + more
        at = <uint8_t*>realloc(text.at, room)
        if at == NULL:
            return False
        text.at = at
        text.room = room
    return True


cdef inline Py_ssize_t measure(const Table* table) noexcept nogil:
    """The length of the text that `write_table` would add."""
    cdef Py_ssize_t i, j, size, held
    cdef int64_t key
    if table.n == 0:
        return 0
    # A comma or bracket stands after each row, a bracket before all and a newline after.
    size = table.n * (BARE_ROW + table.digits) + 2
    for i in range(table.n):
        held = 0
        for j in range(table.k):
            if table.present == NULL or table.present[j * table.stride + i]:
                key = table.key_ends[j] - (table.key_ends[j - 1] if j else 0)
                size += key + digits_of(table.values[j * table.stride + i])
                held += 1
        size -= held > 0  # the first has no comma
        if table.counts != NULL and table.counts[i] > 1:
            size += 9 + digits_of(<uint64_t>table.counts[i])
    return size


cdef inline bint write_table(Text* text, const Table* table, Day* day) noexcept nogil:
    """Add the stored text; False when there is no memory."""
    cdef Py_ssize_t i, j, size
    cdef int64_t begin
    cdef bint first
    cdef uint8_t* p
    if table.n == 0:
        return True
    size = 128 + (table.key_ends[table.k - 1] if table.k else 0) + 20 * table.k
    for i in range(table.n):
        if not reserve(text, size):
            return False
        p = text.at + text.size
        p[0] = b"," if i else b"["
        memcpy(p + 1, b'{"timestamp":"', 14)
        p = write_time(p + 15, table.times[i], table.digits, day)
        memcpy(p, b'","metrics":{', 13)
        p += 13
        first = True
        begin = 0
        for j in range(table.k):
            if table.present == NULL or table.present[j * table.stride + i]:
                memcpy(p, table.keys + begin + first, table.key_ends[j] - begin - first)
                p = write_number(p + table.key_ends[j] - begin - first, table.values[j * table.stride + i])
                first = False
            begin = table.key_ends[j]
        p[0] = b"}"
        p += 1
        if table.counts != NULL and table.counts[i] > 1:
            memcpy(p, b',"count":', 9)
            p = write_number(p + 9, <uint64_t>table.counts[i])
        p[0] = b"}"
        text.size = p + 1 - text.at
    if not reserve(text, 2):
        return False
    memcpy(text.at + text.size, b"]\n", 2)
    text.size += 2
    return True
