"""Columns to stored text, in C."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from callstats.kernels._ascii cimport Written, write_number, write_time
from callstats.kernels._columns cimport Columns, resize

cdef extern from "_digits.h":
    bint digits_of_four "callstats_digits"(
        const uint64_t* cells, Py_ssize_t stride, Py_ssize_t k, uint64_t* digits
    ) noexcept nogil
    Py_ssize_t write_cells "callstats_cells"(
        uint8_t** at, const uint8_t* text, const int64_t* ends, const uint8_t* present, Py_ssize_t stride, Py_ssize_t j,
        Py_ssize_t k, const uint64_t* digits
    ) noexcept nogil

cdef enum:
    FOUR_ROWS = 64  # metrics at most whose digits are found for four rows at once
    BARE_ROW = 51  # {"timestamp":"2006-01-02T15:04:05.Z","metrics":{}},


cdef struct Text:
    # A buffer that grows.
    uint8_t* at
    Py_ssize_t size, room

cdef struct Keys:
    # For each metric `,"name":`, and where it ends. So many bytes can be read after the last one as are copied at once.
    const uint8_t* text
    const int64_t* ends


cdef inline bint reserve(Text* text, Py_ssize_t more) noexcept nogil:
    """Make room for so many bytes more. Return False without memory."""
    cdef Py_ssize_t room
    if text.size + more > text.room:
        room = text.room + text.room // 2 + more
        if not resize(&text.at, room, 1):
            return False
        text.room = room
    return True


cdef inline uint8_t* write_key(uint8_t* at, const uint8_t* key, Py_ssize_t size) noexcept nogil:
    """Write a key, and up to 15 bytes more after it; return its end."""
    cdef Py_ssize_t done = 0
    while True:
        memcpy(at + done, key + done, 16)  # of a size that the compiler knows, it is a single instruction
        done += 16
        if done >= size:
            return at + size


cdef inline int64_t key_size(const Keys* keys, Py_ssize_t j) noexcept nogil:
    """Return the size of a metric's key, with the comma before it."""
    return keys.ends[j] - (keys.ends[j - 1] if j else 0)


cdef inline bint write_columns(Text* text, const Columns* columns, const Keys* keys, int digits, Written* minute) noexcept nogil:
    """Add the stored text. Return False without memory."""
    cdef Py_ssize_t i, j, size
    cdef bint found = False
    cdef uint64_t[8 * FOUR_ROWS] four
    cdef uint8_t* p
    cdef uint8_t* cells
    cdef uint8_t[40] written  # `,"count":` of the row before
    cdef int64_t count = 0
    cdef Py_ssize_t size_of_count = 0
    if columns.n == 0:
        return True
    size = 128 + (keys.ends[columns.k - 1] if columns.k else 0) + 20 * columns.k
    for i in range(columns.n):
        if not reserve(text, size):
            return False
        if i % 4 == 0 and 0 < columns.k <= FOUR_ROWS:
            found = i + 4 <= columns.n and digits_of_four(columns.values + i, columns.stride, columns.k, four)
        p = text.at + text.size
        p[0] = b"," if i else b"["
        memcpy(p + 1, b'{"timestamp":"', 14)
        p = write_time(p + 15, columns.times[i], digits, minute)
        memcpy(p, b'","metrics":{', 13)
        p += 12
        cells = p  # the comma of the first key is written over
        j = 0
        while True:
            if found:
                j = write_cells(
                    &p, keys.text, keys.ends, columns.present + i if columns.present != NULL else NULL, columns.stride, j,
                    columns.k, four + i % 4,
                )
            if j == columns.k:
                break
            if columns.present == NULL or columns.present[j * columns.stride + i]:
                p = write_key(p, keys.text + keys.ends[j] - key_size(keys, j), key_size(keys, j))
                p = write_number(p, columns.values[j * columns.stride + i])
            j += 1
        p += p == cells
        cells[0] = b"{"
        p[0] = b"}"
        p += 1
        if columns.counts != NULL and columns.counts[i] > 1:
            if columns.counts[i] != count:
                count = columns.counts[i]
                memcpy(written, b',"count":', 9)
                size_of_count = write_number(written + 9, <uint64_t>count) - written
            memcpy(p, written, 32)
            p += size_of_count
        p[0] = b"}"
        text.size = p + 1 - text.at
    if not reserve(text, 2):
        return False
    memcpy(text.at + text.size, b"]\n", 2)
    text.size += 2
    return True
