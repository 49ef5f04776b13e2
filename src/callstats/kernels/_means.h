/* Means of short rows, in C: without a branch for each cell, and where the processor has AVX2, of four rows at once. */
#ifndef CALLSTATS_MEANS_H
#define CALLSTATS_MEANS_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    ptrdiff_t begin;
    uint64_t total, max_cell;
} callstats_row;

/* A loop over a few numbers is slower as one over vectors. */
#if defined(__GNUC__) && !defined(__clang__)
#define CALLSTATS_SCALAR __attribute__((noinline, optimize("no-tree-vectorize")))
#else
#define CALLSTATS_SCALAR
#endif
#if defined(__GNUC__)
#define CALLSTATS_INLINED static inline __attribute__((always_inline))
#else
#define CALLSTATS_INLINED static inline
#endif

/* The floor of value / by, where reciprocal is that of (2**64 - 1) / by: the quotient, or one less before it is put right. */
static inline uint64_t callstats_divide(uint64_t value, uint64_t by, uint64_t reciprocal) {
#if defined(__SIZEOF_INT128__)
    uint64_t quotient = (uint64_t)((unsigned __int128)value * reciprocal >> 64);
    return quotient + (value - quotient * by >= by);
#else
    return value / by;
#endif
}

/* Find the mean of a row. Return whether its sum surely fits 64 bits. */
CALLSTATS_INLINED int callstats_mean(const uint64_t *cells, const int64_t *counts, const callstats_row *row, uint64_t *out) {
    uint64_t sum = 0, every = 0;
    ptrdiff_t i;
    if (counts == NULL) {
        for (i = row[0].begin; i < row[1].begin; i++) sum += cells[i], every |= cells[i];
    } else {
        for (i = row[0].begin; i < row[1].begin; i++) sum += cells[i] * (uint64_t)counts[i], every |= cells[i];
    }
    *out = callstats_divide(sum, row->total, row->max_cell);
    return every <= row->max_cell;
}

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>
enum { CALLSTATS_WAIT = 32 }; /* rows without trying four at once, after that failed */
#define CALLSTATS_MEANS_AVX2 __attribute__((target("avx2")))

/* Find the means of four rows of up to eight samples each, which all count once. Return whether their sums are below 2**52.
 *
 * Such a number is a float whose last bits are its own, once the bits of 2**52 are set. A quotient of two is never rounded up to
 * a whole number, as the next float below that one is nearer: so its floor is exact. */
CALLSTATS_MEANS_AVX2 CALLSTATS_INLINED int callstats_mean_four(const uint64_t *cells, const callstats_row *row, uint64_t *out) {
    const __m256d limit = _mm256_set1_pd(4503599627370496.0);
    const __m256i bits = _mm256_castpd_si256(limit), order = _mm256_setr_epi64x(0, 1, 2, 3);
    __m256i sums[4], every = _mm256_setzero_si256(), low, high;
    __m256d sum, total;
    int i;
    for (i = 0; i < 4; i++) {
        const ptrdiff_t n = row[i + 1].begin - row[i].begin;
        const long long *from = (const long long *)(const void *)(cells + row[i].begin);
        if (n > 8) return 0;
        sums[i] = _mm256_maskload_epi64(from, _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), order));
        every = _mm256_or_si256(every, sums[i]);
        if (n > 4) {
            low = _mm256_maskload_epi64(from + 4, _mm256_cmpgt_epi64(_mm256_set1_epi64x(n - 4), order));
            sums[i] = _mm256_add_epi64(sums[i], low);
            every = _mm256_or_si256(every, low);
        }
    }
    low = _mm256_add_epi64(_mm256_unpacklo_epi64(sums[0], sums[1]), _mm256_unpackhi_epi64(sums[0], sums[1]));
    high = _mm256_add_epi64(_mm256_unpacklo_epi64(sums[2], sums[3]), _mm256_unpackhi_epi64(sums[2], sums[3]));
    low = _mm256_add_epi64(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
    every = _mm256_srli_epi64(_mm256_or_si256(every, low), 52);
    sum = _mm256_sub_pd(_mm256_castsi256_pd(_mm256_or_si256(low, bits)), limit);
    high = _mm256_setr_epi64x((int64_t)row[0].total, (int64_t)row[1].total, (int64_t)row[2].total, (int64_t)row[3].total);
    total = _mm256_sub_pd(_mm256_castsi256_pd(_mm256_or_si256(high, bits)), limit);
    sum = _mm256_add_pd(_mm256_floor_pd(_mm256_div_pd(sum, total)), limit);
    _mm256_storeu_si256((__m256i *)(void *)out, _mm256_xor_si256(_mm256_castpd_si256(sum), bits));
    return _mm256_testz_si256(every, every);
}

CALLSTATS_MEANS_AVX2 CALLSTATS_SCALAR static ptrdiff_t callstats_means_avx2(
    const uint64_t *cells, const callstats_row *rows, ptrdiff_t first, ptrdiff_t n, uint64_t *out
) {
    ptrdiff_t row, next = first ? first + CALLSTATS_WAIT : 0; /* a row before `first` was too large */
    for (row = first; row < n; row++) {
        if (row >= next && n - row >= 4) {
            if (callstats_mean_four(cells, rows + row, out + row)) {
                row += 3;
                continue;
            }
            next = row + CALLSTATS_WAIT;
        }
        if (!callstats_mean(cells, NULL, rows + row, out + row)) return row;
    }
    return n;
}
#endif

/* The means of short rows, up to the first whose sum may not fit 64 bits. Return its number, or n. */
CALLSTATS_SCALAR static ptrdiff_t callstats_means(
    const uint64_t *cells, const int64_t *counts, const callstats_row *rows, ptrdiff_t first, ptrdiff_t n, uint64_t *out
) {
    ptrdiff_t row;
#ifdef CALLSTATS_MEANS_AVX2
    if (counts == NULL && n - first >= 4 && __builtin_cpu_supports("avx2")) return callstats_means_avx2(cells, rows, first, n, out);
#endif
    for (row = first; row < n; row++) {
        if (!callstats_mean(cells, counts, rows + row, out + row)) return row;
    }
    return n;
}

#endif
