# cython: language_level=3
"""A recording in C: samples, rows and cells, and how two cells become one.

All are reached by raw pointers: they are touched for every value written, and grow with the metrics and the rows.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, realloc

cdef enum:
    HAS_FIRST = 1
    HAS_LAST = 2

cdef struct Cell:
    # One metric over a row's samples that have it.
    uint64_t sum_high
    uint64_t sum_low
    uint64_t count
    uint64_t low
    uint64_t high
    uint64_t first
    uint64_t last
    int64_t first_time
    int64_t last_time
    uint8_t flags


cdef struct Row:
    # Some samples next to each other; the sum is that of their times since the first possible one.
    int64_t start
    int64_t end
    uint64_t sum_high
    uint64_t sum_low
    uint64_t count


cdef struct Name:
    # A metric of the samples: its values and whether they are there; NULL once these became rows.
    uint64_t* values
    uint8_t* has


cdef struct Column:
    # A metric, the one that stands in for it (-1: none), and a cell a row; NULL before there are rows.
    Py_ssize_t own
    Py_ssize_t other
    Cell* cells


cdef struct Place:
    # A sample's time, and where it stood before the sort.
    int64_t time
    Py_ssize_t sample


cdef inline void add_wide(uint64_t* high, uint64_t* low, uint64_t more_high, uint64_t more_low) noexcept nogil:
    low[0] += more_low
    high[0] += more_high + (low[0] < more_low)


cdef inline void take_value(Cell* cell, int64_t timestamp, uint64_t value) noexcept nogil:
    """Take a value in."""
    if cell.count == 0 or value < cell.low:
        cell.low = value
    if cell.count == 0 or value > cell.high:
        cell.high = value
    if cell.count == 0 or timestamp < cell.first_time:
        cell.first = value
        cell.first_time = timestamp
    if cell.count == 0 or timestamp >= cell.last_time:
        cell.last = value
        cell.last_time = timestamp
    add_wide(&cell.sum_high, &cell.sum_low, 0, value)
    cell.count += 1


cdef inline void merge_cells(Cell* cell, const Cell* later) noexcept nogil:
    """Take the next row's cell in."""
    cdef uint8_t flags = (cell.flags & HAS_FIRST) | (later.flags & HAS_LAST)
    if later.count and cell.count:
        add_wide(&cell.sum_high, &cell.sum_low, later.sum_high, later.sum_low)
        cell.count += later.count
        cell.low = later.low if later.low < cell.low else cell.low
        cell.high = later.high if later.high > cell.high else cell.high
        cell.last = later.last
        cell.last_time = later.last_time
    elif later.count:
        cell[0] = later[0]
    cell.flags = flags


cdef inline int by_time(const void* a, const void* b) noexcept nogil:
    """Order of two places: by time, then as they came."""
    cdef const Place* x = <const Place*>a
    cdef const Place* y = <const Place*>b
    if x.time != y.time:
        return -1 if x.time < y.time else 1
    return -1 if x.sample < y.sample else 1


cdef inline void* grown(void* memory, size_t n, size_t size) except NULL:
    """Room for n things of a size, the old ones kept; what is new holds anything."""
    cdef void* room = realloc(memory, n * size)
    if room == NULL:
        raise MemoryError
    return room


cdef inline void* zeros(size_t n, size_t size) except NULL:
    """Room for n things of a size, all 0."""
    cdef void* room = calloc(n, size)
    if room == NULL:
        raise MemoryError
    return room
