"""Scanners kept between calls, for every kernel that decodes."""

from callstats.kernels._json_scan cimport Scan

cdef Scan* take_scan() except NULL
cdef void keep_scan(Scan* scan) noexcept
