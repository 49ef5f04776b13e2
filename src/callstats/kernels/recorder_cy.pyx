"""Samples of a recording, and rows that merge when there are too many. Compiled; `recorder_py` is the specification."""

import numpy as np

from callstats._types import FIRST_TIME as _FIRST_TIME

cimport cython
from cpython.dict cimport PyDict_CheckExact, PyDict_Next
from cpython.exc cimport PyErr_Clear, PyErr_Occurred
from cpython.mem cimport PyMem_RawCalloc as calloc, PyMem_RawFree as free
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

from callstats.kernels._columns cimport resize
from callstats.kernels._uint128 cimport Wide, add, add_wide

cdef extern from "Python.h":
    bint PyLong_CheckExact(PyObject*)
    long long PyLong_AsLongLongAndOverflow(PyObject*, int*)
    unsigned long long PyLong_AsUnsignedLongLong(PyObject*)
    PyObject* PyDict_GetItemWithError(object, PyObject*)
    Py_ssize_t PyLong_AsSsize_t(PyObject*)

cdef int64_t FIRST_TIME = _FIRST_TIME

cdef enum:
    # As in `recorder_py`.
    HAS_FIRST = 1
    HAS_LAST = 2

cdef struct Metric:
    # The values of a metric by sample, and which are present. NULL once the samples became rows.
    uint64_t* values
    uint8_t* present

cdef struct Cell:
    # One metric over the samples of a row that have it. The first seven words are as in `recorder_py`.
    Wide sum
    uint64_t count
    uint64_t low
    uint64_t high
    uint64_t first
    uint64_t last
    int64_t first_time
    int64_t last_time
    uint8_t flags

cdef struct KeptColumn:
    # A metric, the metric that fills in where it is absent (-1: none), and a cell for each row; NULL before there are rows.
    Py_ssize_t own
    Py_ssize_t other
    Cell* cells

cdef struct KeptRow:
    # Neighbouring samples. The sum is that of `time - FIRST_TIME`.
    int64_t start
    int64_t end
    Wide sum
    uint64_t count


cdef inline void add_value(Cell* cell, int64_t timestamp, uint64_t value) noexcept nogil:
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
    add(&cell.sum, value)
    cell.count += 1


cdef inline void merge_cells(Cell* cell, const Cell* later) noexcept nogil:
    cdef uint8_t flags = (cell.flags & HAS_FIRST) | (later.flags & HAS_LAST)
    if later.count and cell.count:
        add_wide(&cell.sum, later.sum)
        cell.count += later.count
        cell.low = later.low if later.low < cell.low else cell.low
        cell.high = later.high if later.high > cell.high else cell.high
        cell.last = later.last
        cell.last_time = later.last_time
    elif later.count:
        cell[0] = later[0]
    cell.flags = flags


cdef void* zeros(size_t n, size_t size) except NULL:
    cdef void* array = calloc(n, size)
    if array == NULL:
        raise MemoryError
    return array


cdef class Rows:
    """Keep up to `capacity` samples, or from one more on at most as many rows. The caller guarantees a capacity of 2 or more.

    One thread may write while another one closes; all else is done by one thread at a time.
    """

    cdef Py_ssize_t capacity, n_samples, n_rows, n_metrics, n_columns
    cdef int64_t share  # samples in a row before the next row starts, late samples apart
    cdef int64_t filled  # samples in the last row so far, late samples apart
    cdef bint closed
    cdef dict indexes
    cdef list names
    # Raw pointers: they are used for every value written, and grow with the metrics.
    cdef int64_t* times
    cdef Metric* metrics
    cdef KeptRow* rows_
    cdef KeptColumn* columns
    cdef Py_ssize_t* order  # the indexes of the last sample's metrics, in its order
    cdef uint64_t* values  # the current sample
    cdef uint8_t* present

    def __cinit__(self, Py_ssize_t capacity):
        self.capacity = capacity
        self.share = 1
        self.indexes = {}
        self.names = []
        self.times = <int64_t*>zeros(capacity + 1, sizeof(int64_t))
        self.present = <uint8_t*>zeros(1, 1)  # it is cleared before there is a metric

    def __dealloc__(self):
        cdef Py_ssize_t i
        self.free_samples()
        for i in range(self.n_columns):
            free(self.columns[i].cells)
        free(self.metrics)
        free(self.rows_)
        free(self.columns)
        free(self.order)
        free(self.values)
        free(self.present)

    cdef void free_samples(self) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.n_metrics):
            free(self.metrics[i].values)
            free(self.metrics[i].present)
            self.metrics[i].values = NULL
            self.metrics[i].present = NULL
        free(self.times)
        self.times = NULL

    def add_name(self, str name):
        """Add a metric, whose index is the number of metrics before it."""
        cdef Py_ssize_t n = self.n_metrics
        if not (
            resize(&self.order, n + 1, sizeof(Py_ssize_t))
            and resize(&self.values, n + 1, sizeof(uint64_t))
            and resize(&self.present, n + 1, 1)
            and resize(&self.metrics, n + 1, sizeof(Metric))
        ):
            raise MemoryError
        self.order[n] = n
        memset(self.metrics + n, 0, sizeof(Metric))
        self.n_metrics += 1
        if self.n_rows == 0:
            self.metrics[n].values = <uint64_t*>zeros(self.capacity + 1, sizeof(uint64_t))
            self.metrics[n].present = <uint8_t*>zeros(self.capacity + 1, 1)
        self.names.append(name)
        self.indexes[name] = n

    def add_column(self, Py_ssize_t own, Py_ssize_t other, Py_ssize_t like):
        """Keep metric `own`, filled in by metric `other` (-1: none), and start with the cells of column `like` (-1: empty)."""
        if not resize(&self.columns, self.n_columns + 1, sizeof(KeptColumn)):
            raise MemoryError
        cdef KeptColumn* column = self.columns + self.n_columns
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
        """Add a sample: an exact int in range, and an exact dict of known names to such ints. Return False for any other."""
        cdef int overflow = 0
        cdef int64_t time
        cdef bint parsed
        cdef Py_ssize_t i
        if self.closed or not PyLong_CheckExact(<PyObject*>timestamp) or not PyDict_CheckExact(metrics):
            return False
        time = PyLong_AsLongLongAndOverflow(<PyObject*>timestamp, &overflow)
        if overflow or time < FIRST_TIME:
            return False
        with cython.critical_section(metrics):
            parsed = self.parse(<dict>metrics)
        if not parsed:
            return False
        if self.n_rows == 0:
            self.times[self.n_samples] = time
            for i in range(self.n_metrics):
                self.metrics[i].values[self.n_samples] = self.values[i] if self.present[i] else 0
                self.metrics[i].present[self.n_samples] = self.present[i]
            if self.n_samples < self.capacity:
                self.n_samples += 1
                return True
            self.expand()
        self.add_sample(self.row_for(time), time)
        return True

    @cython.critical_section
    def close(self):
        """Take no more samples."""
        self.closed = True

    def samples(self):
        """Return (n,) times, (k, n) values and presence of n samples and k metrics, as written; None once they became rows."""
        cdef Py_ssize_t n = self.n_samples, k = self.n_metrics, j
        if self.n_rows:
            return None
        times = np.empty(n, dtype=np.int64)
        values = np.empty((k, n), dtype=np.uint64)
        present = np.empty((k, n), dtype=np.uint8)
        cdef int64_t[::1] to_times = times
        cdef uint64_t[:, ::1] to_values = values
        cdef uint8_t[:, ::1] to_present = present
        if n:
            memcpy(&to_times[0], self.times, n * sizeof(int64_t))
            for j in range(k):
                memcpy(&to_values[j, 0], self.metrics[j].values, n * sizeof(uint64_t))
                memcpy(&to_present[j, 0], self.metrics[j].present, n)
        return times, values, present

    def rows(self):
        """Return (n,) counts, (2, n) sums of times, (7, k, n) cells and (k, n) flags of n rows and k columns.

        A sum is that of ``time - FIRST_TIME``, its upper 64 bits first. For the order of cells see `recorder_py`.
        """
        cdef Py_ssize_t n = self.n_rows, k = self.n_columns, i, j, word
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
                to_sums[0, i] = self.rows_[i].sum.high
                to_sums[1, i] = self.rows_[i].sum.low
            for j in range(k):
                for i in range(n):
                    cell = self.columns[j].cells + i
                    for word in range(7):
                        to_cells[word, j, i] = (<const uint64_t*>cell)[word]
                    to_flags[j, i] = cell.flags
        return counts, sums, cells, flags

    cdef bint parse(self, dict metrics) noexcept:
        """Make these metrics the current sample. Return False if they are not plain: the caller finds out why."""
        cdef Py_ssize_t at = 0, i = 0, index
        cdef PyObject* key
        cdef PyObject* value
        cdef PyObject* found
        memset(self.present, 0, self.n_metrics)
        while PyDict_Next(metrics, &at, &key, &value):
            # Samples mostly have the same keys in the same order.
            index = self.order[i] if i < self.n_metrics else -1
            if index < 0 or key != <PyObject*>self.names[index]:
                found = PyDict_GetItemWithError(self.indexes, key)
                if found == NULL:
                    PyErr_Clear()
                    return False
                index = PyLong_AsSsize_t(found)
                if i < self.n_metrics:
                    self.order[i] = index
            if not PyLong_CheckExact(value):
                return False
            self.values[index] = PyLong_AsUnsignedLongLong(value)
            if self.values[index] == <uint64_t>-1 and PyErr_Occurred() != NULL:
                PyErr_Clear()
                return False
            self.present[index] = 1
            i += 1
        return True

    cdef int expand(self) except -1:
        """Make every sample a row, in the order of their times, and merge the rows. Sample `capacity` is the current one."""
        cdef Py_ssize_t n = self.capacity, i
        if self.rows_ == NULL:
            self.rows_ = <KeptRow*>zeros(n, sizeof(KeptRow))
        for i in range(self.n_columns):
            if self.columns[i].cells == NULL:
                self.columns[i].cells = <Cell*>zeros(n, sizeof(Cell))
        cdef int64_t[::1] samples = np.argsort(<int64_t[:n]>self.times, kind="stable").astype(np.int64)
        with nogil:
            for i in range(n):
                self.load(samples[i])
                self.rows_[i].start = self.rows_[i].end = self.times[samples[i]]
                self.add_sample(i, self.times[samples[i]])
            self.load(n)
            self.free_samples()
            self.n_rows = n
            self.filled = 1
            self.merge()
        return 0

    cdef void load(self, Py_ssize_t sample) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.n_metrics):
            self.present[i] = self.metrics[i].present[sample]
            self.values[i] = self.metrics[i].values[sample]

    cdef Py_ssize_t row_for(self, int64_t time) noexcept nogil:
        """Return the row for a sample of this time, which may be new."""
        cdef Py_ssize_t low, high, middle
        if time < self.rows_[self.n_rows - 1].end:  # late: into the row whose span has its time
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

    cdef void add_sample(self, Py_ssize_t index, int64_t time) noexcept nogil:
        cdef KeptRow* row = self.rows_ + index
        cdef bint is_first = row.count == 0 or time < row.start
        cdef bint is_last = row.count == 0 or time >= row.end
        cdef bint present
        cdef uint64_t value
        cdef KeptColumn* column
        cdef Cell* cell
        cdef Py_ssize_t j
        if time < row.start:
            row.start = time
        if time > row.end:
            row.end = time
        add(&row.sum, <uint64_t>time - <uint64_t>FIRST_TIME)
        row.count += 1
        for j in range(self.n_columns):
            column = self.columns + j
            cell = column.cells + index
            present = self.present[column.own]
            value = self.values[column.own]
            if not present and column.other >= 0:
                present = self.present[column.other]
                value = self.values[column.other]
            if is_first:
                cell.flags = (cell.flags & ~HAS_FIRST) | (HAS_FIRST if present else 0)
            if is_last:
                cell.flags = (cell.flags & ~HAS_LAST) | (HAS_LAST if present else 0)
            if present:
                add_value(cell, time, value)

    cdef void merge(self) noexcept nogil:
        """Halve the rows: merge each with its right neighbour."""
        cdef Py_ssize_t n = self.n_rows, half = n // 2, left = n - half, i, j
        cdef KeptRow* row
        cdef Cell* cells
        for i in range(half):
            row = self.rows_ + 2 * i
            row.end = row[1].end
            add_wide(&row.sum, row[1].sum)
            row.count += row[1].count
            self.rows_[i] = row[0]
        if n % 2:
            self.rows_[half] = self.rows_[n - 1]
        memset(self.rows_ + left, 0, half * sizeof(KeptRow))
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
