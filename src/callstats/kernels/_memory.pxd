# cython: language_level=3
"""Arrays on the C heap."""

from libc.stdlib cimport realloc
from libc.string cimport memcpy


cdef inline bint resize(void* array, size_t n, size_t size) noexcept nogil:
    """Resize the array that the pointer at `array` leads to, to n items of `size` bytes. New items are not initialized.

    Without memory change nothing, and return False.
    """
    cdef void* memory
    memcpy(&memory, array, sizeof(void*))
    memory = realloc(memory, n * size if n else 1)
    if memory == NULL:
        return False
    memcpy(array, &memory, sizeof(void*))
    return True
