"""Whole numbers and RFC 3339 times as ASCII digits, read and written in C.

Readers walk through a text by raw pointers, and may look at up to `PAD` bytes from where they begin. Each returns where its
number or time ends, and NULL for anything else, also for what only the fallback decoder reads.
"""

from libc.stdint cimport INT64_MAX as I64_MAX, UINT64_MAX as U64_MAX, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>

    /* Eight bytes as a number whose lowest byte is the first. */
    static inline uint64_t callstats_load8(const uint8_t *at) {
        uint64_t word;
        memcpy(&word, at, 8);
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
    #endif
        return word;
    }

    static inline void callstats_store8(uint8_t *at, uint64_t word) {
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
    #endif
        memcpy(at, &word, 8);
    }

    /* The numbers from 0 to 99, two digits each. */
    static const uint8_t callstats_pairs[] =
        "0001020304050607080910111213141516171819"
        "2021222324252627282930313233343536373839"
        "4041424344454647484950515253545556575859"
        "6061626364656667686970717273747576777879"
        "8081828384858687888990919293949596979899";

    static const uint64_t callstats_tens[] = {
        1ULL, 10ULL, 100ULL, 1000ULL, 10000ULL, 100000ULL, 1000000ULL, 10000000ULL, 100000000ULL, 1000000000ULL
    };

    /* How many of the lowest bytes are zero; word is not 0. */
    static inline int callstats_zero_bytes(uint64_t word) {
    #if defined(_MSC_VER)
        uint64_t lowest = 0x0101010101010101ULL;
        return (int)((((word ^ (word - 1)) & lowest) * lowest >> 56) - 1);
    #else
        return __builtin_ctzll(word) >> 3;
    #endif
    }
    """
    uint64_t load8 "callstats_load8"(const uint8_t* at) noexcept nogil
    void store8 "callstats_store8"(uint8_t* at, uint64_t word) noexcept nogil
    const uint8_t* PAIRS "callstats_pairs"
    const uint64_t* TENS "callstats_tens"
    int zero_bytes "callstats_zero_bytes"(uint64_t word) noexcept nogil


cdef enum:
    PAD = 40  # a time takes at most 35 bytes, if its fraction has 9 digits, and the readers of numbers look at 24


cdef inline int digits_at(const uint8_t* at, uint64_t* value) noexcept nogil:
    """Read the digits at the start of eight readable bytes; return their number."""
    cdef uint64_t word = load8(at)
    # A byte is a digit when its upper half is 3, and still is after adding 6. Only a byte that is no digit can carry.
    cdef uint64_t other = ((word & 0xF0F0F0F0F0F0F0F0ULL) | (((word + 0x0606060606060606ULL) & 0xF0F0F0F0F0F0F0F0ULL) >> 4))
    cdef int n = 8
    other ^= 0x3333333333333333ULL
    if other:
        n = zero_bytes(other)
        if n == 0:
            return 0
        word <<= 8 * (8 - n)
    # The bytes that were shifted in are 0. Then join pairs, fours and eights.
    word &= 0x0F0F0F0F0F0F0F0FULL
    word = (word * 10 + (word >> 8)) & 0x00FF00FF00FF00FFULL
    word = (word * 100 + (word >> 16)) & 0x0000FFFF0000FFFFULL
    value[0] = (word * 10_000 + (word >> 32)) & 0xFFFFFFFFULL
    return n


cdef inline const uint8_t* read_number(const uint8_t* at, uint64_t* value) noexcept nogil:
    """Read a whole number below 2**64, without a sign or leading zeros."""
    cdef uint64_t number, more
    cdef int n = digits_at(at, &number)
    if n == 0 or (at[0] == 48 and n > 1):
        return NULL
    at += n
    if n == 8:
        n = digits_at(at, &more)
        at += n
        if n == 8:
            number = number * 100_000_000 + more
            n = digits_at(at, &more)
            if n > 4 or (n == 4 and (number > U64_MAX // 10_000 or (number == U64_MAX // 10_000 and more > 1_615))):
                return NULL
            at += n
        if n:
            number = number * TENS[n] + more
    value[0] = number
    return at


cdef inline int digits_of(uint64_t value) noexcept nogil:
    cdef int n = 1
    while value >= 10_000:
        value //= 10_000
        n += 4
    return n + (value >= 10) + (value >= 100) + (value >= 1_000)


cdef inline uint8_t* write_digits(uint8_t* at, uint64_t value, int n) noexcept nogil:
    """Write a number in n digits, with leading zeros; return its end."""
    cdef uint8_t* p = at + n
    while p - at >= 2:
        p -= 2
        memcpy(p, PAIRS + 2 * (value % 100), 2)
        value //= 100
    if p > at:
        at[0] = <uint8_t>(48 + value % 10)
    return at + n


cdef inline uint64_t eight_digits(uint64_t value) noexcept nogil:
    """Return the digits of a value below 10**8, with leading zeros: the first one in the lowest byte."""
    cdef uint64_t high = value // 10_000, part
    # Split fours, then pairs, side by side: a multiplication and a shift divide all parts at once.
    value = high | (value - high * 10_000) << 32
    part = value * 10_486 >> 20 & 0x0000007F0000007FULL
    value = part | (value - part * 100) << 16
    part = value * 103 >> 10 & 0x000F000F000F000FULL
    return part | (value - part * 10) << 8


cdef inline uint8_t* write_short(uint8_t* at, uint64_t value) noexcept nogil:
    """Write a number below 10**8, and up to 7 bytes more after it; return its end."""
    cdef uint64_t word = eight_digits(value)
    cdef int zeros = zero_bytes(word | 1ULL << 56)  # a 0 has one digit
    store8(at, (word | 0x3030303030303030ULL) >> 8 * zeros)
    return at + 8 - zeros


cdef inline uint8_t* write_number(uint8_t* at, uint64_t value) noexcept nogil:
    """Write a number, and up to 7 bytes more after it; return its end."""
    cdef uint64_t high, higher
    if value < 100_000_000:
        return write_short(at, value)
    high = value // 100_000_000
    value -= high * 100_000_000
    if high < 10:
        at[0] = <uint8_t>(48 + high)
        at += 1
    elif high < 100_000_000:
        at = write_short(at, high)
    else:
        higher = high // 100_000_000
        at = write_short(at, higher) + 8
        store8(at - 8, eight_digits(high - higher * 100_000_000) | 0x3030303030303030ULL)
    store8(at, eight_digits(value) | 0x3030303030303030ULL)
    return at + 8


# --- times -------------------------------------------------------------------------------------------------------------------

cdef struct Minute:
    # The last minute read, as text and in seconds since the epoch: most rows share it with the row before.
    uint64_t text[2]
    int64_t seconds


cdef struct Written:
    # The last minute written, as `2006-01-02T15:04:`, and in nanoseconds. Without any its size is 0.
    uint64_t begin, size
    uint8_t text[24]


cdef inline int two(const uint8_t* at) noexcept nogil:
    """Return the number in two digits; above 99 where they are no digits."""
    cdef int high = at[0] - 48, low = at[1] - 48
    return high * 10 + low if 0 <= high <= 9 and 0 <= low <= 9 else 100


cdef inline int64_t days_before(int64_t year, int64_t month) noexcept nogil:
    """Return the days from 1970-01-01 to the first of a month, in the Gregorian calendar, for years above 0."""
    # Years begin in March, so that the leap day ends a year.
    if month < 3:
        year -= 1
        month += 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 - 719_468


cdef inline bint read_minute(const uint8_t* at, Minute* minute) noexcept nogil:
    """Read `2006-01-02T15:04` of the years 1678 to 2261, which are in the range of times whatever their offset."""
    cdef int64_t month, day
    cdef int high = two(at), low = two(at + 2), year = high * 100 + low
    month = two(at + 5)
    day = two(at + 8)
    if high > 99 or low > 99 or not 1678 <= year <= 2261 or not 1 <= month <= 12 or day < 1:
        return False
    if at[4] != b"-" or at[7] != b"-" or at[13] != b":" or not (at[10] | 32 == b"t" or at[10] == b" "):
        return False
    high = two(at + 11)
    low = two(at + 14)
    if high > 23 or low > 59:
        return False
    day += days_before(year, month) - 1
    if day >= days_before(year + month // 12, month % 12 + 1):
        return False
    minute.seconds = (day * 24 + high) * 3_600 + low * 60
    minute.text[0] = load8(at)
    minute.text[1] = load8(at + 8)
    return True


cdef inline const uint8_t* read_time(const uint8_t* at, const uint8_t* end, Minute* minute, int64_t* ns) noexcept nogil:
    """Read an RFC 3339 time, whose digits beyond the ninth are cut."""
    cdef uint64_t fraction = 0
    cdef int second, high, low, n
    if end - at < 20:
        return NULL
    if minute.text[0] != load8(at) or minute.text[1] != load8(at + 8):
        if not read_minute(at, minute):
            return NULL
    second = two(at + 17)
    if at[16] != b":" or second > 59:
        return NULL
    ns[0] = (minute.seconds + second) * 1_000_000_000
    at += 19
    if at[0] == b".":
        n = digits_at(at + 1, &fraction)
        if n == 0:
            return NULL
        at += n + 1
        if n == 8 and 48 <= at[0] <= 57:
            fraction = fraction * 10 + at[0] - 48
            n = 9
            while at < end and 48 <= at[0] <= 57:
                at += 1
        ns[0] += <int64_t>(fraction * TENS[9 - n])
    if at >= end:
        return NULL
    if at[0] | 32 == b"z":
        return at + 1
    if (at[0] != b"+" and at[0] != b"-") or end - at < 6 or at[3] != b":":
        return NULL
    high = two(at + 1)
    low = two(at + 4)
    if high > 23 or low > 59:
        return NULL
    second = (high * 60 + low) * 60
    ns[0] += (-second if at[0] == b"+" else second) * <int64_t>1_000_000_000
    return at + 6


cdef inline int64_t floor_div(int64_t value, int64_t by) noexcept nogil:
    """Return the floor of value / by, for by > 0."""
    return value // by - (value % by < 0)  # C rounds towards 0


cdef inline void write_minute(int64_t ns, Written* minute) noexcept nogil:
    """Write the minute in which a time lies, in UTC."""
    cdef int64_t minutes = floor_div(ns, 60_000_000_000)
    cdef int64_t days = floor_div(minutes, 1_440)
    cdef uint64_t of_day = <uint64_t>(minutes - days * 1_440)
    cdef int64_t month = 12, year = 1970 + floor_div(days * 400, 146_097)
    while days_before(year, 1) > days:
        year -= 1
    while days_before(year + 1, 1) <= days:
        year += 1
    while days_before(year, month) > days:
        month -= 1
    memcpy(minute.text, b"0000-00-00T00:00:", 17)
    write_digits(minute.text, <uint64_t>year, 4)
    write_digits(minute.text + 5, <uint64_t>month, 2)
    write_digits(minute.text + 8, <uint64_t>(days - days_before(year, month) + 1), 2)
    write_digits(minute.text + 11, of_day // 60, 2)
    write_digits(minute.text + 14, of_day % 60, 2)
    minute.begin = <uint64_t>minutes * 60_000_000_000ULL
    # The earliest one begins before all times, and the latest one ends after them: each would hold times of the other too.
    minute.size = 60_000_000_000ULL if <int64_t>minute.begin <= ns <= I64_MAX - 60_000_000_000LL else 0


cdef inline uint8_t* write_time(uint8_t* at, int64_t ns, int digits, Written* minute) noexcept nogil:
    """Write a time in UTC, floored to 3 or 9 digits of a second; return its end. Up to 7 bytes more are written after it."""
    cdef uint64_t rest, millis, text
    if <uint64_t>ns - minute.begin >= minute.size:
        write_minute(ns, minute)
    rest = <uint64_t>ns - minute.begin
    millis = rest // 1_000_000
    text = eight_digits(millis) | 0x3030303030303030ULL
    memcpy(at, minute.text, 24)
    # 00005002 becomes 05.002Z: the first one is in the lowest byte.
    store8(at + 17, text >> 24 & 0xFFFF | text >> 40 << 24 | 0x5A0000002E0000ULL)
    if digits == 3:
        return at + 24
    store8(at + 23, eight_digits((rest - millis * 1_000_000) * 100) | 0x3030303030303030ULL)
    at[29] = 90
    return at + 30
