"""128-bit sums in two 64-bit words. Products are made of 32-bit halves, since not every compiler has 128-bit integers."""

from libc.stdint cimport uint64_t

cdef struct Wide:
    uint64_t high
    uint64_t low


cdef inline void add(Wide* total, uint64_t value) noexcept nogil:
    total.low += value
    total.high += total.low < value


cdef inline void add_wide(Wide* total, Wide more) noexcept nogil:
    add(total, more.low)
    total.high += more.high


cdef inline void add_product(Wide* total, uint64_t a, uint64_t b) noexcept nogil:
    cdef uint64_t half = 0xFFFFFFFF
    cdef uint64_t middle = (a >> 32) * (b & half) + (((a & half) * (b & half)) >> 32)
    cdef uint64_t other = (a & half) * (b >> 32) + (middle & half)
    cdef uint64_t low = a * b
    total.low += low
    total.high += (a >> 32) * (b >> 32) + (middle >> 32) + (other >> 32) + (total.low < low)


cdef inline uint64_t divide(Wide total, uint64_t by) noexcept nogil:
    """Return the floor of total / by, for a total below by * 2**64: long division, a bit at a time."""
    cdef uint64_t rest = total.high, quotient = 0, carry
    cdef int bit
    for bit in range(63, -1, -1):
        carry = rest >> 63
        rest = (rest << 1) | ((total.low >> bit) & 1)
        quotient <<= 1
        if carry or rest >= by:
            rest -= by
            quotient |= 1
    return quotient
