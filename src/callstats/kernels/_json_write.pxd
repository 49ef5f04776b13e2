"""Columns to stored text, in C."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from callstats.kernels._ascii cimport Written, store8, write_number, write_time, zero_bytes
from callstats.kernels._columns cimport Columns, resize

cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>
    #if defined(__GNUC__) && defined(__x86_64__)
    #include <immintrin.h>
    #define CALLSTATS_DIGITS_AVX2 __attribute__((target("avx2")))

    /* The digits of four numbers below 10**8, with leading zeros: the first one in the lowest byte. */
    CALLSTATS_DIGITS_AVX2 static inline __m256i callstats_eights(__m256i value) {
        /* Split fours, pairs and digits: a multiplication and a shift divide all parts at once. */
        __m256i part = _mm256_srli_epi64(_mm256_mul_epu32(value, _mm256_set1_epi64x(109951163)), 40);
        value = _mm256_sub_epi64(value, _mm256_mul_epu32(part, _mm256_set1_epi64x(10000)));
        value = _mm256_or_si256(part, _mm256_slli_epi64(value, 32));
        part = _mm256_srli_epi16(_mm256_mulhi_epu16(value, _mm256_set1_epi16(5243)), 3);
        value = _mm256_sub_epi16(value, _mm256_mullo_epi16(part, _mm256_set1_epi16(100)));
        value = _mm256_or_si256(part, _mm256_slli_epi32(value, 16));
        part = _mm256_srli_epi16(_mm256_mullo_epi16(value, _mm256_set1_epi16(103)), 10);
        value = _mm256_sub_epi16(value, _mm256_mullo_epi16(part, _mm256_set1_epi16(10)));
        return _mm256_or_si256(part, _mm256_slli_epi16(value, 8));
    }

    /* The digits of four rows of k columns: for each column four times the last eight, and four times those before; all bits set
       where a number has 2**40 or more. */
    CALLSTATS_DIGITS_AVX2 static void callstats_digits_avx2(
        const uint64_t *cells, ptrdiff_t stride, ptrdiff_t k, uint64_t *digits
    ) {
        const __m256i limit = _mm256_set1_epi64x(99999999);
        ptrdiff_t j;
        for (j = 0; j < k; j++, cells += stride, digits += 8) {
            __m256i value = _mm256_loadu_si256((const __m256i *)(const void *)cells), high = _mm256_setzero_si256(), large;
            large = _mm256_or_si256(_mm256_cmpgt_epi64(value, limit), _mm256_srai_epi32(value, 31));
            if (!_mm256_testz_si256(large, large)) {
                /* 10**8 is 256 times 390625. */
                high = _mm256_srli_epi64(_mm256_mul_epu32(_mm256_srli_epi64(value, 8), _mm256_set1_epi64x(2882303762)), 50);
                large = _mm256_cmpeq_epi64(_mm256_srli_epi64(value, 40), _mm256_setzero_si256());
                value = _mm256_sub_epi64(value, _mm256_mul_epu32(high, _mm256_set1_epi64x(100000000)));
                high = _mm256_or_si256(callstats_eights(high), _mm256_andnot_si256(large, _mm256_set1_epi64x(-1)));
            }
            _mm256_storeu_si256((__m256i *)(void *)digits, callstats_eights(value));
            _mm256_storeu_si256((__m256i *)(void *)(digits + 4), high);
        }
    }
    static inline int callstats_digits(const uint64_t *cells, ptrdiff_t stride, ptrdiff_t k, uint64_t *digits) {
        return __builtin_cpu_supports("avx2") ? callstats_digits_avx2(cells, stride, k, digits), 1 : 0;
    }
    #else
    #define callstats_digits(cells, stride, k, digits) 0
    #endif
    """
    bint digits_of_four "callstats_digits"(
        const uint64_t* cells, Py_ssize_t stride, Py_ssize_t k, uint64_t* digits
    ) noexcept nogil

cdef enum:
    FOUR_ROWS = 64  # metrics at most whose digits are found for four rows at once
    BARE_ROW = 51  # {"timestamp":"2006-01-02T15:04:05.Z","metrics":{}},


cdef struct Text:
    # A buffer that grows.
    uint8_t* at
    Py_ssize_t size, room

cdef struct Keys:
    # For each metric `,"name":`, and where it ends. So many bytes can be read after the last one as are copied at once.
    const uint8_t* text
    const int64_t* ends


cdef inline bint reserve(Text* text, Py_ssize_t more) noexcept nogil:
    """Make room for so many bytes more. Return False without memory."""
    cdef Py_ssize_t room
    if text.size + more > text.room:
        room = text.room + text.room // 2 + more
        if not resize(&text.at, room, 1):
            return False
        text.room = room
    return True


cdef inline uint8_t* write_key(uint8_t* at, const uint8_t* key, Py_ssize_t size) noexcept nogil:
    """Write a key, and up to 15 bytes more after it; return its end."""
    cdef Py_ssize_t done = 0
    while True:
        memcpy(at + done, key + done, 16)  # of a size that the compiler knows, it is a single instruction
        done += 16
        if done >= size:
            return at + size


cdef inline uint8_t* write_found(uint8_t* at, const uint64_t* digits, uint64_t value) noexcept nogil:
    """Write a number whose digits were found, and up to 7 bytes more after it; return its end."""
    cdef uint64_t low = digits[0], high = digits[4]
    cdef int zeros
    if high == 0:
        zeros = zero_bytes(low | 1ULL << 56)  # a 0 has one digit
        store8(at, (low | 0x3030303030303030ULL) >> 8 * zeros)
        return at + 8 - zeros
    if high == <uint64_t>-1:
        return write_number(at, value)
    zeros = zero_bytes(high)
    store8(at, (high | 0x3030303030303030ULL) >> 8 * zeros)
    at += 8 - zeros
    store8(at, low | 0x3030303030303030ULL)
    return at + 8


cdef inline int64_t key_size(const Keys* keys, Py_ssize_t j) noexcept nogil:
    """Return the size of a metric's key, with the comma before it."""
    return keys.ends[j] - (keys.ends[j - 1] if j else 0)


cdef inline bint write_columns(Text* text, const Columns* columns, const Keys* keys, int digits, Written* minute) noexcept nogil:
    """Add the stored text. Return False without memory."""
    cdef Py_ssize_t i, j, size
    cdef int64_t begin
    cdef bint first, found = False
    cdef uint64_t[8 * FOUR_ROWS] four
    cdef uint8_t* p
    if columns.n == 0:
        return True
    size = 128 + (keys.ends[columns.k - 1] if columns.k else 0) + 20 * columns.k
    for i in range(columns.n):
        if not reserve(text, size):
            return False
        if i % 4 == 0 and columns.k <= FOUR_ROWS:
            found = i + 4 <= columns.n and digits_of_four(columns.values + i, columns.stride, columns.k, four)
        p = text.at + text.size
        p[0] = b"," if i else b"["
        memcpy(p + 1, b'{"timestamp":"', 14)
        p = write_time(p + 15, columns.times[i], digits, minute)
        memcpy(p, b'","metrics":{', 13)
        p += 13
        first = True
        begin = 0
        for j in range(columns.k):
            if columns.present == NULL or columns.present[j * columns.stride + i]:
                p = write_key(p, keys.text + begin + first, keys.ends[j] - begin - first)
                if found:
                    p = write_found(p, four + 8 * j + i % 4, columns.values[j * columns.stride + i])
                else:
                    p = write_number(p, columns.values[j * columns.stride + i])
                first = False
            begin = keys.ends[j]
        p[0] = b"}"
        p += 1
        if columns.counts != NULL and columns.counts[i] > 1:
            memcpy(p, b',"count":', 9)
            p = write_number(p + 9, <uint64_t>columns.counts[i])
        p[0] = b"}"
        text.size = p + 1 - text.at
    if not reserve(text, 2):
        return False
    memcpy(text.at + text.size, b"]\n", 2)
    text.size += 2
    return True
