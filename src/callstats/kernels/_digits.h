/* The cells of rows as text, four rows at once, where the processor has AVX2. */
#ifndef CALLSTATS_DIGITS_H
#define CALLSTATS_DIGITS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>
#define CALLSTATS_DIGITS_AVX2 __attribute__((target("avx2,bmi,bmi2")))

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
 * where a number has 2**40 or more.
 *
 * In the last eight, the first digit that is always written has a bit set that it has as text anyway. It is the first of all where
 * others are before it, else the last: a 0 has one digit. */
CALLSTATS_DIGITS_AVX2 static void callstats_digits_avx2(
    const uint64_t *cells, ptrdiff_t stride, ptrdiff_t k, uint64_t *digits
) {
    const __m256i limit = _mm256_set1_epi64x(99999999), last = _mm256_set1_epi64x(0x10LL << 56);
    ptrdiff_t j;
    for (j = 0; j < k; j++, cells += stride, digits += 8) {
        __m256i value = _mm256_loadu_si256((const __m256i *)(const void *)cells), high = _mm256_setzero_si256(), large;
        __m256i mark = last;
        large = _mm256_or_si256(_mm256_cmpgt_epi64(value, limit), _mm256_srai_epi32(value, 31));
        if (!_mm256_testz_si256(large, large)) {
            /* 10**8 is 256 times 390625. */
            high = _mm256_srli_epi64(_mm256_mul_epu32(_mm256_srli_epi64(value, 8), _mm256_set1_epi64x(2882303762)), 50);
            large = _mm256_cmpeq_epi64(_mm256_srli_epi64(value, 40), _mm256_setzero_si256());
            value = _mm256_sub_epi64(value, _mm256_mul_epu32(high, _mm256_set1_epi64x(100000000)));
            high = _mm256_or_si256(callstats_eights(high), _mm256_andnot_si256(large, _mm256_set1_epi64x(-1)));
            mark = _mm256_andnot_si256(_mm256_cmpeq_epi64(high, _mm256_setzero_si256()), _mm256_set1_epi64x(0x10));
            mark = _mm256_or_si256(mark, last);
        }
        _mm256_storeu_si256((__m256i *)(void *)digits, _mm256_or_si256(callstats_eights(value), mark));
        _mm256_storeu_si256((__m256i *)(void *)(digits + 4), high);
    }
}

/* The same, where the processor can do it. Return whether. */
static inline int callstats_digits(const uint64_t *cells, ptrdiff_t stride, ptrdiff_t k, uint64_t *digits) {
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2")) return 0;
    return callstats_digits_avx2(cells, stride, k, digits), 1;
}

/* Write the cells of a row from the j-th on, each behind its key, up to the first of 2**40 or more. Return its number, or k. Up to
 * 15 bytes more are written after them. The digits are those of the row: every fourth of what was found. */
CALLSTATS_DIGITS_AVX2 static ptrdiff_t callstats_cells(
    uint8_t **at, const uint8_t *text, const int64_t *ends, const uint8_t *present, ptrdiff_t stride, ptrdiff_t j, ptrdiff_t k,
    const uint64_t *digits
) {
    const uint64_t zeros = 0x3030303030303030ULL;
    uint8_t *out = *at;
    ptrdiff_t begin = j ? ends[j - 1] : 0, end, done;
    for (; j < k; j++, begin = end) {
        const uint64_t low = digits[8 * j], high = digits[8 * j + 4];
        uint64_t shift, word;
        end = ends[j];
        if (present != NULL && !present[j * stride]) continue;
        if (high == UINT64_MAX) break;
        out -= begin;
        for (done = begin; done < end; done += 16) memcpy(out + done, text + done, 16);
        /* Leading zeros are shifted out, and without a branch: where all eight of `high` are, `low` is written over them. */
        shift = _tzcnt_u64(high);
        word = (high | zeros) >> (shift & 56);
        memcpy(out + end, &word, 8);
        out += end + 8 - (ptrdiff_t)(shift >> 3);
        shift = _tzcnt_u64(low);
        word = (low | zeros) >> (shift & 56);
        memcpy(out, &word, 8);
        out += 8 - (ptrdiff_t)(shift >> 3);
    }
    *at = out;
    return j;
}

#else
#define callstats_digits(cells, stride, k, digits) 0
#define callstats_cells(at, text, ends, present, stride, j, k, digits) 0
#endif

#endif
