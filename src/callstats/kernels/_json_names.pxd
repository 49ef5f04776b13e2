"""Metric names that a scanner has met, found by their hash and known by their number."""

from cpython.mem cimport PyMem_RawFree as free
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from callstats.kernels._ascii cimport load8
from callstats.kernels._columns cimport grow, resize

cdef enum:
    MAX_PROBES = 64  # more have been made to collide
    NO_MEMORY = -1
    ODD_NAME = -2

cdef struct Name:
    Py_ssize_t at, size  # in the text of all names
    uint32_t hash
    uint32_t blob  # the last blob with this metric, and its column there
    uint32_t row  # the last row that was learnt with this metric
    int32_t column

cdef struct Names:
    Name* items
    uint8_t* text
    int32_t* slots  # the table: the numbers of names, or -1
    Py_ssize_t n, room, text_size, text_room, n_slots
    uint64_t edition  # a number means the same name within one edition
    bint crowded  # a name of this text was odd


cdef inline void names_free(Names* names) noexcept nogil:
    free(names.items)
    free(names.text)
    free(names.slots)


cdef inline void forget_names(Names* names) noexcept nogil:
    """Begin a new edition, in the same room."""
    names.n = names.text_size = 0
    names.edition += 1
    memset(names.slots, 0xFF, names.n_slots * sizeof(int32_t))


cdef inline uint32_t hash_name(const uint8_t* at, Py_ssize_t size) noexcept nogil:
    cdef uint64_t word, mixed = 0x9E3779B97F4A7C15ULL ^ <uint64_t>size
    cdef uint8_t last[8]
    while size > 0:
        if size < 8:
            memset(last, 0, 8)
            memcpy(last, at, size)
            at = last
        word = load8(at)
        mixed = (mixed ^ word) * 0xFF51AFD7ED558CCDULL
        mixed ^= mixed >> 32
        at += 8
        size -= 8
    return <uint32_t>(mixed ^ mixed >> 29)


cdef inline bint make_table(Names* names, Py_ssize_t n_slots) noexcept nogil:
    """Make a table of a power of two of slots for all names. Return False without memory."""
    cdef Py_ssize_t i, slot
    if not resize(&names.slots, n_slots, sizeof(int32_t)):
        return False
    names.n_slots = n_slots
    memset(names.slots, 0xFF, n_slots * sizeof(int32_t))
    for i in range(names.n):
        slot = names.items[i].hash & (n_slots - 1)
        while names.slots[slot] >= 0:
            slot = (slot + 1) & (n_slots - 1)
        names.slots[slot] = <int32_t>i
    return True


cdef inline int32_t number_of(Names* names, const uint8_t* at, Py_ssize_t size) noexcept nogil:
    """Return the number of a name, which may be new; `NO_MEMORY`, or `ODD_NAME` where too many names have nearly its hash."""
    cdef uint32_t hashed = hash_name(at, size)
    cdef Py_ssize_t slot, _probe
    cdef Name* name
    # At most a quarter of the slots are taken: then hashes that nobody has made to collide stay far below MAX_PROBES.
    if 4 * names.n >= names.n_slots and not make_table(names, 64 if names.n_slots == 0 else 2 * names.n_slots):
        return NO_MEMORY
    slot = hashed & (names.n_slots - 1)
    for _probe in range(MAX_PROBES):
        if names.slots[slot] < 0:
            break
        name = &names.items[names.slots[slot]]
        if name.hash == hashed and name.size == size and memcmp(names.text + name.at, at, size) == 0:
            return names.slots[slot]
        slot = (slot + 1) & (names.n_slots - 1)
    else:
        names.crowded = True
        return ODD_NAME
    if not grow(&names.items, &names.room, names.n + 1, sizeof(Name)):
        return NO_MEMORY
    if not grow(&names.text, &names.text_room, names.text_size + size + 1, 1):
        return NO_MEMORY
    name = &names.items[names.n]
    memset(name, 0, sizeof(Name))
    name.at = names.text_size
    name.size = size
    name.hash = hashed
    memcpy(names.text + names.text_size, at, size)
    names.text_size += size
    names.slots[slot] = <int32_t>names.n
    names.n += 1
    return <int32_t>(names.n - 1)
