# cython: language_level=3
"""Samples of a recording, one by one, and rows whose neighbours merge when they are full. Compiled; `recorder_py` is the
specification."""

import numpy as np

cimport cython
from cpython.dict cimport PyDict_Next
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, qsort
from libc.string cimport memcpy, memset

from callstats.kernels._recorder cimport (
    HAS_FIRST,
    HAS_LAST,
    Cell,
    Column,
    Name,
    Place,
    Row,
    add_wide,
    by_time,
    grown,
    merge_cells,
    take_value,
    zeros,
)

cdef extern from "Python.h":
    bint PyLong_CheckExact(PyObject*)
    bint PyDict_CheckExact(object)
    long long PyLong_AsLongLongAndOverflow(PyObject*, int*)
    unsigned long long PyLong_AsUnsignedLongLong(PyObject*)
    PyObject* PyErr_Occurred()
    void PyErr_Clear()
    PyObject* PyDict_GetItemWithError(object, PyObject*)
    Py_ssize_t PyLong_AsSsize_t(PyObject*)

cdef int64_t FIRST_TIME = -9_223_372_036_854_000_000


cdef class Rows:
    """Samples, up to `capacity`; from one more on at most as many rows. The caller guarantees a capacity of 2 or more.

    One thread may write while another one closes; all else is done by one thread at a time.
    """

    cdef Py_ssize_t capacity, n_samples, n_rows, n_names, n_columns
    cdef int64_t share  # samples that a row takes before the next one begins, late ones apart
    cdef int64_t filled  # how many the last row has taken
    cdef bint closed
    cdef dict places
    cdef list keys
    # Raw pointers: they are reached for every value written, and grow with the names.
    cdef int64_t* times
    cdef Name* names
    cdef Row* rows_
    cdef Column* columns
    cdef Py_ssize_t* order  # number of the metric that was the last sample's first, second and so on
    cdef uint64_t* values  # the sample at hand
    cdef uint8_t* has

    def __cinit__(self, Py_ssize_t capacity):
        self.capacity = capacity
        self.share = 1
        self.places = {}
        self.keys = []
        self.times = <int64_t*>grown(NULL, capacity, sizeof(int64_t))
        self.has = <uint8_t*>zeros(1, sizeof(uint8_t))  # there before any name is

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.n_names):
            free(self.names[i].values)
            free(self.names[i].has)
        for i in range(self.n_columns):
            free(self.columns[i].cells)
        free(self.times)
        free(self.names)
        free(self.rows_)
        free(self.columns)
        free(self.order)
        free(self.values)
        free(self.has)

    def add_name(self, str name):
        """Make a metric known; its number is how many were known before."""
        cdef Py_ssize_t number = self.n_names
        self.order = <Py_ssize_t*>grown(self.order, number + 1, sizeof(Py_ssize_t))
        self.values = <uint64_t*>grown(self.values, number + 1, sizeof(uint64_t))
        self.has = <uint8_t*>grown(self.has, number + 1, sizeof(uint8_t))
        self.names = <Name*>grown(self.names, number + 1, sizeof(Name))
        self.order[number] = number
        self.names[number].values = NULL
        self.names[number].has = NULL
        self.n_names += 1
        if self.n_rows == 0:
            self.names[number].values = <uint64_t*>zeros(self.capacity, sizeof(uint64_t))
            self.names[number].has = <uint8_t*>zeros(self.capacity, sizeof(uint8_t))
        self.keys.append(name)
        self.places[name] = number

    def add_column(self, Py_ssize_t own, Py_ssize_t other, Py_ssize_t like):
        """Keep a metric (own), in samples that lack it another one (-1: none), and begin as column `like` (-1: empty)."""
        self.columns = <Column*>grown(self.columns, self.n_columns + 1, sizeof(Column))
        cdef Column* column = self.columns + self.n_columns
        column.own = own
        column.other = other
        column.cells = NULL
        self.n_columns += 1
        if self.n_rows:
            column.cells = <Cell*>zeros(self.capacity, sizeof(Cell))
            if like >= 0:
                memcpy(column.cells, self.columns[like].cells, self.n_rows * sizeof(Cell))

    @cython.critical_section
    def write(self, object timestamp, object metrics):
        """Take in a sample of exact ints in range under known names in an exact dict; any other one changes nothing: False."""
        cdef int overflow = 0
        cdef int64_t time
        cdef bint plain
        cdef Py_ssize_t i
        if self.closed or not PyLong_CheckExact(<PyObject*>timestamp) or not PyDict_CheckExact(metrics):
            return False
        time = PyLong_AsLongLongAndOverflow(<PyObject*>timestamp, &overflow)
        if overflow or time < FIRST_TIME:
            return False
        with cython.critical_section(metrics):
            plain = self.parse(<dict>metrics)
        if not plain:
            return False
        if self.n_samples < self.capacity:
            self.times[self.n_samples] = time
            for i in range(self.n_names):
                if self.has[i]:
                    self.names[i].values[self.n_samples] = self.values[i]
                    self.names[i].has[self.n_samples] = 1
            self.n_samples += 1
            return True
        if self.n_rows == 0:
            self.expand()
        self.take(self.row_for(time), time, self.values, self.has)
        return True

    @cython.critical_section
    def close(self):
        """Take no more samples."""
        self.closed = True

    def samples(self):
        """Of n samples under k names (n,) times, (k, n) values and presence, as they came; None when they became rows."""
        cdef Py_ssize_t n = self.n_samples, k = self.n_names, i, j
        if self.n_rows:
            return None
        times = np.empty(n, dtype=np.int64)
        values = np.empty((k, n), dtype=np.uint64)
        present = np.empty((k, n), dtype=np.uint8)
        cdef int64_t[::1] to_times = times
        cdef uint64_t[:, ::1] to_values = values
        cdef uint8_t[:, ::1] to_present = present
        with nogil:
            for i in range(n):
                to_times[i] = self.times[i]
            for j in range(k):
                for i in range(n):
                    to_values[j, i] = self.names[j].values[i]
                    to_present[j, i] = self.names[j].has[i]
        return times, values, present

    def rows(self):
        """Of n rows and k columns (n,) counts, (2, n) sums of times, (7, k, n) cells, (k, n) flags.

        A sum of times is that of ``time - FIRST_TIME``, its upper 64 bits first, then its lower ones.
        """
        cdef Py_ssize_t n = self.n_rows, k = self.n_columns, i, j
        counts = np.empty(n, dtype=np.int64)
        sums = np.empty((2, n), dtype=np.uint64)
        cells = np.empty((7, k, n), dtype=np.uint64)
        flags = np.empty((k, n), dtype=np.uint8)
        cdef int64_t[::1] to_counts = counts
        cdef uint64_t[:, ::1] to_sums = sums
        cdef uint64_t[:, :, ::1] to_cells = cells
        cdef uint8_t[:, ::1] to_flags = flags
        cdef const Cell* cell
        with nogil:
            for i in range(n):
                to_counts[i] = <int64_t>self.rows_[i].count
                to_sums[0, i] = self.rows_[i].sum_high
                to_sums[1, i] = self.rows_[i].sum_low
            for j in range(k):
                for i in range(n):
                    cell = self.columns[j].cells + i
                    to_cells[0, j, i] = cell.sum_high
                    to_cells[1, j, i] = cell.sum_low
                    to_cells[2, j, i] = cell.count
                    to_cells[3, j, i] = cell.low
                    to_cells[4, j, i] = cell.high
                    to_cells[5, j, i] = cell.first
                    to_cells[6, j, i] = cell.last
                    to_flags[j, i] = cell.flags
        return counts, sums, cells, flags

    cdef bint parse(self, dict metrics) noexcept:
        """Read a sample's values; False leaves it to the caller to say what is wrong."""
        cdef Py_ssize_t at = 0, i = 0, place
        cdef PyObject* key
        cdef PyObject* value
        cdef PyObject* found
        memset(self.has, 0, self.n_names)
        while PyDict_Next(metrics, &at, &key, &value):
            # Samples mostly have the same keys in the same order.
            place = self.order[i] if i < self.n_names else -1
            if place < 0 or key != <PyObject*>self.keys[place]:
                found = PyDict_GetItemWithError(self.places, key)
                if found == NULL:
                    PyErr_Clear()
                    return False
                place = PyLong_AsSsize_t(found)
                if i < self.n_names:
                    self.order[i] = place
            if not PyLong_CheckExact(value):
                return False
            self.values[place] = PyLong_AsUnsignedLongLong(value)
            if self.values[place] == <uint64_t>-1 and PyErr_Occurred() != NULL:
                PyErr_Clear()
                return False
            self.has[place] = 1
            i += 1
        return True

    cdef int expand(self) except -1:
        """Make every sample a row, in the order of their times, and merge these."""
        cdef Py_ssize_t n = self.n_samples, i, j
        if self.rows_ == NULL:
            self.rows_ = <Row*>zeros(self.capacity, sizeof(Row))
        for j in range(self.n_columns):
            if self.columns[j].cells == NULL:
                self.columns[j].cells = <Cell*>zeros(self.capacity, sizeof(Cell))
        cdef Place* places = <Place*>calloc(n, sizeof(Place))
        cdef uint64_t* values = <uint64_t*>calloc(self.n_names + 1, sizeof(uint64_t))
        cdef uint8_t* has = <uint8_t*>calloc(self.n_names + 1, sizeof(uint8_t))
        if places == NULL or values == NULL or has == NULL:
            free(places)
            free(values)
            free(has)
            raise MemoryError
        with nogil:
            for i in range(n):
                places[i].time = self.times[i]
                places[i].sample = i
            qsort(places, n, sizeof(Place), by_time)
            for i in range(n):
                for j in range(self.n_names):
                    has[j] = self.names[j].has[places[i].sample]
                    values[j] = self.names[j].values[places[i].sample]
                self.rows_[i].start = self.rows_[i].end = places[i].time
                self.take(i, places[i].time, values, has)
            free(places)
            free(values)
            free(has)
            for j in range(self.n_names):
                free(self.names[j].values)
                free(self.names[j].has)
                self.names[j].values = NULL
                self.names[j].has = NULL
            free(self.times)
            self.times = NULL
            self.n_rows = n
            self.filled = 1
            self.merge()
        return 0

    cdef Py_ssize_t row_for(self, int64_t time) noexcept nogil:
        """The row that a sample of this time belongs in."""
        cdef Py_ssize_t low, high, middle
        if time < self.rows_[self.n_rows - 1].end:  # late: into the row whose span holds its time
            low = 0
            high = self.n_rows
            while low < high:
                middle = low + (high - low) // 2
                if time < self.rows_[middle].start:
                    high = middle
                else:
                    low = middle + 1
            return low - 1 if low else 0
        if self.n_rows == self.capacity and self.filled == self.share:
            self.merge()
        if self.filled == self.share:
            self.rows_[self.n_rows].start = self.rows_[self.n_rows].end = time
            self.n_rows += 1
            self.filled = 0
        self.filled += 1
        return self.n_rows - 1

    cdef void take(self, Py_ssize_t row, int64_t time, const uint64_t* values, const uint8_t* present) noexcept nogil:
        """Take a sample in."""
        cdef Row* into = self.rows_ + row
        cdef bint is_first = into.count == 0 or time < into.start
        cdef bint is_last = into.count == 0 or time >= into.end
        cdef bint has
        cdef uint64_t value
        cdef Column* column
        cdef Cell* cell
        cdef Py_ssize_t j
        if time < into.start:
            into.start = time
        if time > into.end:
            into.end = time
        add_wide(&into.sum_high, &into.sum_low, 0, <uint64_t>time - <uint64_t>FIRST_TIME)
        into.count += 1
        for j in range(self.n_columns):
            column = self.columns + j
            cell = column.cells + row
            has = present[column.own]
            value = values[column.own]
            if not has and column.other >= 0:
                has = present[column.other]
                value = values[column.other]
            if is_first:
                cell.flags = (cell.flags & ~HAS_FIRST) | (HAS_FIRST if has else 0)
            if is_last:
                cell.flags = (cell.flags & ~HAS_LAST) | (HAS_LAST if has else 0)
            if has:
                take_value(cell, time, value)

    cdef void merge(self) noexcept nogil:
        """Halve the rows: each takes its right neighbour in."""
        cdef Py_ssize_t n = self.n_rows, half = n // 2, left = n - half, i, j
        cdef Row* row
        cdef Row* later
        cdef Cell* cells
        for i in range(half):
            row = self.rows_ + 2 * i
            later = row + 1
            row.end = later.end
            add_wide(&row.sum_high, &row.sum_low, later.sum_high, later.sum_low)
            row.count += later.count
            self.rows_[i] = row[0]
        if n % 2:
            self.rows_[half] = self.rows_[n - 1]
        memset(self.rows_ + left, 0, half * sizeof(Row))
        for j in range(self.n_columns):
            cells = self.columns[j].cells
            for i in range(half):
                merge_cells(cells + 2 * i, cells + 2 * i + 1)
                cells[i] = cells[2 * i]
            if n % 2:
                cells[half] = cells[n - 1]
            memset(cells + left, 0, half * sizeof(Cell))
        # A last row without a neighbour stays half full.
        self.filled = self.share if n % 2 else 2 * self.share
        self.share *= 2
        self.n_rows = left
