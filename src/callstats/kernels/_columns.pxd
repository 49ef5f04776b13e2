"""Columns in C: times, counts, and a block of values; and arrays that grow."""

from cpython.mem cimport PyMem_RawRealloc
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cdef struct Columns:
    # k metrics of n rows. The cells of a metric begin `stride` after those of the metric before it.
    Py_ssize_t n, k, stride
    const int64_t* times
    const int64_t* counts  # NULL: all one
    const uint64_t* values
    const uint8_t* present  # NULL: every value is present


cdef inline Columns columns_of(
    const int64_t[::1] times, const uint64_t[:, ::1] values, const uint8_t[:, ::1] present, const int64_t[::1] counts
) noexcept:
    """Return columns that lead to these arrays, which must outlive them. `times` and `counts` may be None."""
    cdef Columns columns
    columns.n = columns.stride = times.shape[0] if times is not None else values.shape[1]
    columns.k = values.shape[0]
    cdef bint cells = columns.n > 0 and columns.k > 0
    columns.times = &times[0] if columns.n and times is not None else NULL
    columns.counts = &counts[0] if columns.n and counts is not None else NULL
    columns.values = &values[0, 0] if cells else NULL
    columns.present = &present[0, 0] if cells and present is not None else NULL
    return columns


cdef inline bint resize(void* array, size_t n, size_t size) noexcept nogil:
    """Resize the array that the pointer at `array` leads to, to n items of `size` bytes. New items are not initialized.

    Without memory change nothing, and return False. To free it is `PyMem_RawFree`'s part.
    """
    cdef void* memory
    memcpy(&memory, array, sizeof(void*))
    memory = PyMem_RawRealloc(memory, n * size if n else 1)
    if memory == NULL:
        return False
    memcpy(array, &memory, sizeof(void*))
    return True


cdef inline bint grow(void* array, Py_ssize_t* room, Py_ssize_t n, size_t size) noexcept nogil:
    """Make room for n items of `size` bytes, and for more where there is too little. Return False without memory."""
    cdef Py_ssize_t more = n + (n // 2 if n < 1_048_576 else n // 8) + 8
    if n <= room[0]:
        return True
    if not resize(array, more, size):
        return False
    room[0] = more
    return True
