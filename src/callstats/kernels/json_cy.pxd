"""Scanners kept between calls, and where blobs are, for every kernel that decodes."""

from libc.stdint cimport int64_t, uint8_t

from callstats.kernels._json_columns cimport Scan
from callstats.kernels._json_steps cimport Span

cdef Scan* take_scan() except NULL
cdef void keep_scan(Scan* scan) noexcept
cdef Span* spans_of(const uint8_t[::1] data, const int64_t[::1] offsets) except NULL
cdef Span* spans_of_list(list texts) except NULL
