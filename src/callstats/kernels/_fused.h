/* Rows of one shape, read many at a time and without a branch for each value.
 *
 * A shape is what all rows of a text share: its literal texts, and between them one time of 24 bytes and numbers. Only the digits
 * differ. So a row is read in three steps, none of which waits for the one before it:
 *
 *   1. List the marks: where commas and closing braces are, whatever they belong to. Each number ends at a mark. As literal texts
 *      have a known number of marks, a number of the shape ends at the same mark in each row.
 *   2. Read each number backwards from its end. Where the number before it ended tells how many digits it has.
 *      Numbers have up to 16 digits; where the scanner has seen a longer one, the slot is wide, and read as two such numbers.
 *   3. Compare the literal texts, and look once a row whether anything was amiss.
 *
 * The list is a hint, not a proof: a row counts only if its literal texts are those of the shape and all between them is digits,
 * wherever the marks were. What fails is left to the scanner, which reads it in full. So there are no errors here.
 *
 * There is a form for processors with AVX2 and one for AVX-512, chosen when the program runs, and a portable one, which is there to
 * tell whether all give the same: without AVX2 the scanner is faster. AVX-512 takes step 3 first: see there.
 */
#ifndef CALLSTATS_FUSED_H
#define CALLSTATS_FUSED_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>
#define CALLSTATS_AVX2 __attribute__((target("avx2,bmi")))
#define CALLSTATS_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi,bmi2,popcnt")))
#endif
#if defined(_MSC_VER)
#define CALLSTATS_INLINE static __forceinline
#define CALLSTATS_APART static __declspec(noinline)
#define CALLSTATS_ALIGNED __declspec(align(64))
#else
#define CALLSTATS_INLINE static inline __attribute__((always_inline))
#define CALLSTATS_APART static __attribute__((noinline))
#define CALLSTATS_ALIGNED __attribute__((aligned(64))) /* no window over them spans two lines of the cache */
#endif

enum { CALLSTATS_AUTO, CALLSTATS_OFF, CALLSTATS_PORTABLE, CALLSTATS_WITH_AVX2, CALLSTATS_WITH_AVX512 };

enum {
    CALLSTATS_DIGITS = 16,  /* of a number at most, */
    CALLSTATS_WIDE = 20,    /* and of a wide one */
    CALLSTATS_BEFORE = 32,  /* so many bytes can be read before the first row */
    CALLSTATS_STRIDE = 64,  /* bytes whose marks are listed at once */
    CALLSTATS_REACH = 192,  /* how far behind a mark a shape may look */
    CALLSTATS_FIRST = 1024, /* bytes whose marks are listed before any row was read */
    CALLSTATS_BLOCK = 8192  /* and then: a position fits 16 bits, and the list fits the fastest cache */
};

/* A number, and the end of the literal text before it, which is compared along with the digits: together at most 32 bytes. */
typedef struct {
    uint64_t *cells;  /* where it goes, one for each row */
    int32_t step;     /* the scanner's; -1: it is a count */
    uint32_t column;  /* its place among the values of the row */
    uint32_t mark;    /* it ends at this mark of the row */
    uint32_t before;  /* and the number before it at this one, or it is mark 0 */
    uint32_t gap;     /* bytes from there to its second digit */
    uint32_t digits;  /* at most: DIGITS or WIDE */
    uint32_t tail;    /* bytes of text before it that are compared: at most 32 - digits */
    uint8_t text[52]; /* 31 bytes that end with the text, and then only '0' */
} callstats_number;

/* Up to 32 bytes of other literal text, so many bytes behind a mark. */
typedef struct {
    uint32_t mark, gap;
    uint8_t text[32], mask[32];
} callstats_piece;

/* The same of four numbers that are not wide, for one vector: bytes of the marks from the first one's `before` on; 255 for none. */
typedef struct {
    uint8_t marks[16], previous[16];
    uint32_t gaps[4];
} callstats_four;

/* Mark 0 is the comma or bracket before the row. All places are told as a mark and the bytes behind it. */
typedef struct {
    callstats_number *numbers;
    callstats_piece *pieces;
    callstats_four *fours; /* of the numbers, the last of which is repeated until there are four */
    uint8_t *others;       /* all bytes of rows but digits and their commas: of one, or for STRIDE bytes; and STRIDE bytes more */
    ptrdiff_t n_narrow, n_numbers, n_pieces, n_marks; /* the wide numbers come last */
    ptrdiff_t n_fours, n_others, n_inner;             /* 0 fours: not for AVX-512; the inner pieces come before a number */
    uint32_t time_mark, time_gap, end_mark, end_gap;
} callstats_shape;

/* What is to be read. `at` is the comma or bracket before a row, and BEFORE bytes can be read before it; `readable` is where
 * memory ends. Rows from `row` to `room` have cells. */
typedef struct {
    const uint8_t *at, *readable;
    int64_t *times;
    ptrdiff_t row, room;
    void *minute; /* the last one read, as text and in seconds since the epoch */
    const uint64_t *minute_text;
    const int64_t *minute_seconds;
    int (*read_minute)(const uint8_t *, void *);
} callstats_run;

/* --- the portable form ----------------------------------------------------------------------------------------------------- */

static inline uint64_t callstats_word(const uint8_t *at) {
    uint64_t word;
    return memcpy(&word, at, 8), word;
}

/* A number with n digits is at least LEAST[n - 1], or it has a leading zero. */
static const uint64_t callstats_least[CALLSTATS_WIDE] = {
    0ULL, 10ULL, 100ULL, 1000ULL, 10000ULL, 100000ULL, 1000000ULL, 10000000ULL, 100000000ULL, 1000000000ULL, 10000000000ULL,
    100000000000ULL, 1000000000000ULL, 10000000000000ULL, 100000000000000ULL, 1000000000000000ULL, 10000000000000000ULL,
    100000000000000000ULL, 1000000000000000000ULL, 10000000000000000000ULL
};

/* A window over these that begins at byte n keeps the last n bytes of 32, and has in them the largest digit. */
static const CALLSTATS_ALIGNED uint8_t callstats_keep[64] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
    255, 255, 255, 255, 255, 255, 255, 255
};
static const CALLSTATS_ALIGNED uint8_t callstats_nines[52] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9
};

/* The number of eight digits, each a byte from 0 to 9. */
static inline uint64_t callstats_join(uint64_t word) {
    word = (word * 10 + (word >> 8)) & 0x00FF00FF00FF00FFULL;
    word = (word * 100 + (word >> 16)) & 0x0000FFFF0000FFFFULL;
    return (word * 10000 + (word >> 32)) & 0xFFFFFFFFULL;
}

/* Read a time `2006-01-02T15:04:05.000Z`, whose minute is mostly that of the row before. */
CALLSTATS_INLINE int callstats_read_time(const callstats_run *run, const uint8_t *at, int64_t *ns) {
    uint64_t text, wrong;
    uint32_t seconds, millis;
    if (callstats_word(at) != run->minute_text[0] || callstats_word(at + 8) != run->minute_text[1]) {
        if (!run->read_minute(at, run->minute)) return 0;
    }
    text = callstats_word(at + 16) ^ 0x5A3030302E30303AULL; /* `:00.000Z`, the first byte lowest */
    wrong = (text | (text + 0x0006060600060600ULL)) & 0xFFF0F0F0FFF0F0FFULL;
    seconds = (uint32_t)(text >> 8 & 15) * 10 + (uint32_t)(text >> 16 & 15);
    millis = (uint32_t)(text >> 32 & 15) * 100 + (uint32_t)(text >> 40 & 15) * 10 + (uint32_t)(text >> 48 & 15);
    *ns = (*run->minute_seconds + seconds) * 1000000000LL + millis * 1000000LL;
    return wrong == 0 && seconds < 60;
}

/* List the marks of the bytes from `begin` to `end` of `base`, and up to STRIDE - 1 more; return their number. */
static inline ptrdiff_t callstats_list_portable(
    const callstats_shape *shape, const uint8_t *base, ptrdiff_t begin, ptrdiff_t end, uint16_t *marks
) {
    uint16_t *out = marks;
    ptrdiff_t at;
    for (at = begin; at < end; at++) {
        *out = (uint16_t)at;
        out += base[at] == ',' || base[at] == '}';
    }
    return out - marks;
}

/* Store a number, whose last 16 digits are `low`. Return whether it is below 2**64 and has no leading zeros. */
CALLSTATS_INLINE int callstats_store(const callstats_number *number, ptrdiff_t row, size_t i, uint64_t high, uint64_t low) {
    const uint64_t value = number->cells[row] = high * 10000000000000000ULL + low;
    return value >= callstats_least[i] && high <= 1844 && value >= low;
}

/* Read a number, and compare the text before it. */
static inline int callstats_read_number(const callstats_number *number, const uint8_t *base, const uint16_t *marks, ptrdiff_t row) {
    const uint64_t upper = 0x8080808080808080ULL;
    uint32_t end = marks[number->mark], more = end - marks[number->before] - number->gap, i = more < number->digits ? more : 0;
    const uint8_t *text = base + end - 32, *literal = number->text + i, *keep = callstats_keep + number->tail + 1 + i;
    uint64_t wrong = more ^ i, words[4];
    int part;
    for (part = 0; part < 4; part++) {
        uint64_t word = (callstats_word(text + 8 * part) ^ callstats_word(literal + 8 * part)) & callstats_word(keep + 8 * part);
        /* A byte above the largest that may be there carries into its upper bit. */
        wrong |= (word | (word + 0x7F7F7F7F7F7F7F7FULL - callstats_word(callstats_nines + 1 + i + 8 * part))) & upper;
        words[part] = word;
    }
    words[2] = callstats_join(words[2]) * 100000000 + callstats_join(words[3]);
    return callstats_store(number, row, i, callstats_join(words[1]), words[2]) && wrong == 0;
}

/* Read the numbers of a row and compare its texts. Return whether it is of the shape. */
static inline int callstats_numbers_portable(
    const callstats_shape *shape, const uint8_t *base, const uint16_t *marks, ptrdiff_t row
) {
    uint64_t wrong = 0;
    ptrdiff_t j;
    int part;
    for (j = 0; j < shape->n_numbers; j++) {
        if (!callstats_read_number(&shape->numbers[j], base, marks, row)) return 0;
    }
    for (j = 0; j < shape->n_pieces; j++) {
        const callstats_piece *piece = &shape->pieces[j];
        const uint8_t *text = base + marks[piece->mark] + piece->gap;
        for (part = 0; part < 32; part += 8) {
            wrong |= (callstats_word(text + part) ^ callstats_word(piece->text + part)) & callstats_word(piece->mask + part);
        }
    }
    return wrong == 0;
}

/* --- the form for AVX2 ----------------------------------------------------------------------------------------------------- */

#ifdef CALLSTATS_AVX2

static const CALLSTATS_ALIGNED uint8_t callstats_order[64] = {
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
    32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63
};

CALLSTATS_AVX2 static inline __m256i callstats_load32(const void *at) { return _mm256_loadu_si256((const __m256i *)at); }

CALLSTATS_AVX2 static inline ptrdiff_t callstats_list_avx2(
    const callstats_shape *shape, const uint8_t *base, ptrdiff_t begin, ptrdiff_t end, uint16_t *marks
) {
    /* A byte is a mark if the table has it where its lower half points to. */
    const __m256i table = _mm256_broadcastsi128_si256(_mm_setr_epi8(1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ',', '}', 0, 0));
    uint16_t *out = marks, *next;
    ptrdiff_t at;
    int i;
    for (at = begin; at < end; at += CALLSTATS_STRIDE, out = next) {
        __m256i low = callstats_load32(base + at), high = callstats_load32(base + at + 32);
        uint64_t found = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_shuffle_epi8(table, high), high));
        found = found << 32 | (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_shuffle_epi8(table, low), low));
        next = out + __builtin_popcountll(found);
        /* Four are written whether there are so many or not: mostly there are no more. */
        for (i = 0; i < 4; i++, found = _blsr_u64(found)) out[i] = (uint16_t)(at + (ptrdiff_t)_tzcnt_u64(found));
        for (out += 4; out < next; out++, found = _blsr_u64(found)) *out = (uint16_t)(at + (ptrdiff_t)_tzcnt_u64(found));
    }
    return out - marks;
}

typedef struct {
    __m256i wrong;         /* not zero: another text, or no digit */
    __m128i leading_zeros; /* not zero: there are some */
    uint32_t many;         /* DIGITS or more: a number without digits, or with too many */
    uint32_t before;       /* where the number before ended, if all are narrow */
} callstats_checks;

/* The 32 bytes that end with a number: its digits from 0 to 9, and zeros before them. `i`: digits behind the first one. */
CALLSTATS_AVX2 static inline __m256i callstats_take(
    const callstats_number *number, const uint8_t *base, const uint16_t *marks, int wide, callstats_checks *checks, size_t *i
) {
    uint32_t end = marks[number->mark], more = end - (wide ? marks[number->before] : checks->before) - number->gap;
    __m256i text = callstats_load32(base + end - 32);
    *i = wide ? (more < number->digits ? more : 0) : more % CALLSTATS_DIGITS;
    checks->before = end;
    checks->many |= wide ? more - (uint32_t)*i : more;
    text = _mm256_and_si256(
        _mm256_xor_si256(text, callstats_load32(number->text + *i)), callstats_load32(callstats_keep + number->tail + 1 + *i)
    );
    checks->wrong = _mm256_or_si256(checks->wrong, _mm256_subs_epu8(text, callstats_load32(callstats_nines + 1 + *i)));
    return text;
}

/* Two numbers of 16 digits. */
CALLSTATS_AVX2 static inline __m128i callstats_join_two(__m256i digits) {
    digits = _mm256_maddubs_epi16(digits, _mm256_set1_epi16(0x010A)); /* pairs: 10, 1 */
    digits = _mm256_madd_epi16(digits, _mm256_set1_epi32(0x00010064)); /* fours: 100, 1 */
    digits = _mm256_packus_epi32(digits, digits);
    digits = _mm256_madd_epi16(digits, _mm256_set1_epi32(0x00012710)); /* eights: 10000, 1 */
    digits = _mm256_add_epi64(_mm256_mul_epu32(digits, _mm256_set1_epi64x(100000000)), _mm256_srli_epi64(digits, 32));
    return _mm_unpacklo_epi64(_mm256_castsi256_si128(digits), _mm256_extracti128_si256(digits, 1));
}

/* Join the last 16 digits of each of two numbers, and store them. */
CALLSTATS_AVX2 static inline void callstats_store_two(
    __m256i first, __m256i second, size_t i, size_t j, uint64_t *to_first, uint64_t *to_second, callstats_checks *checks
) {
    __m128i values = callstats_join_two(_mm256_permute2x128_si256(first, second, 0x31)), least;
    least = _mm_loadl_epi64((const __m128i *)(const void *)&callstats_least[i]);
    least = _mm_castpd_si128(_mm_loadh_pd(_mm_castsi128_pd(least), (const double *)(const void *)&callstats_least[j]));
    checks->leading_zeros = _mm_or_si128(checks->leading_zeros, _mm_cmpgt_epi64(least, values));
    _mm_storel_epi64((__m128i *)(void *)to_first, values);
    _mm_storeh_pd((double *)(void *)to_second, _mm_castsi128_pd(values));
}

CALLSTATS_AVX2 static inline int callstats_numbers_avx2(
    const callstats_shape *shape, const uint8_t *base, const uint16_t *marks, ptrdiff_t row
) {
    callstats_checks checks = {_mm256_setzero_si256(), _mm_setzero_si128(), 0, marks[0]};
    const callstats_number *number = shape->numbers, *end = number + shape->n_narrow, *end_wide = number + shape->n_numbers;
    const callstats_piece *piece = shape->pieces, *end_pieces = piece + shape->n_pieces;
    const int wide = end < end_wide;
    __m256i first, second;
    size_t i, j;
    for (; number + 1 < end; number += 2) {
        first = callstats_take(number, base, marks, wide, &checks, &i);
        second = callstats_take(number + 1, base, marks, wide, &checks, &j);
        callstats_store_two(first, second, i, j, number[0].cells + row, number[1].cells + row, &checks);
    }
    if (number < end) {
        first = callstats_take(number, base, marks, wide, &checks, &i);
        callstats_store_two(first, first, i, i, number->cells + row, number->cells + row, &checks);
    }
    for (number = end; number < end_wide; number++) {
        __m128i parts = callstats_join_two(callstats_take(number, base, marks, wide, &checks, &i));
        if (!callstats_store(number, row, i, (uint64_t)_mm_cvtsi128_si64(parts), (uint64_t)_mm_extract_epi64(parts, 1))) return 0;
    }
    for (; piece < end_pieces; piece++) {
        first = _mm256_xor_si256(callstats_load32(base + marks[piece->mark] + piece->gap), callstats_load32(piece->text));
        checks.wrong = _mm256_or_si256(checks.wrong, _mm256_and_si256(first, callstats_load32(piece->mask)));
    }
    return checks.many < CALLSTATS_DIGITS && _mm256_testz_si256(checks.wrong, checks.wrong)
        && _mm_testz_si128(checks.leading_zeros, checks.leading_zeros);
}

/* --- the form for AVX-512 -------------------------------------------------------------------------------------------------- */

CALLSTATS_AVX512 static inline __m128i callstats_load16(const void *at) { return _mm_loadu_si128((const __m128i *)at); }
CALLSTATS_AVX512 static inline __m512i callstats_load64(const void *at) { return _mm512_loadu_si512(at); }

/* List marks as long as all bytes but digits, pushed together, are those of the shape: its rows without digits, over and over. */
CALLSTATS_AVX512 static inline ptrdiff_t callstats_list_avx512(
    const callstats_shape *shape, const uint8_t *base, ptrdiff_t begin, ptrdiff_t end, uint16_t *marks
) {
    const __m512i order = callstats_load64(callstats_order);
    uint16_t *out = marks;
    ptrdiff_t at, place = 0, i;
    uint64_t wrong = 0;
    for (at = begin; at < end && !wrong; at += CALLSTATS_STRIDE) {
        const __m512i text = callstats_load64(base + at);
        const __m256i where = _mm256_set1_epi16((short)at);
        const uint64_t other = _mm512_cmpgt_epu8_mask(_mm512_sub_epi8(text, _mm512_set1_epi8('0')), _mm512_set1_epi8(9));
        const ptrdiff_t n = (ptrdiff_t)_mm_popcnt_u64(other);
        __m512i found = _mm512_maskz_compress_epi8(other, text);
        uint64_t mark = _mm512_cmpeq_epi8_mask(text, _mm512_set1_epi8(','));
        mark |= _mm512_cmpeq_epi8_mask(text, _mm512_set1_epi8('}'));
        wrong = _bzhi_u64(_mm512_cmpneq_epi8_mask(found, callstats_load64(shape->others + place)), (unsigned)n);
        if (wrong) mark &= _blsmsk_u64(_pdep_u64(_blsi_u64(wrong), other)) >> 1;
        place += n;
        place -= place >= shape->n_others ? shape->n_others : 0;
        found = _mm512_maskz_compress_epi8(mark, order);
        for (i = 0; i < (ptrdiff_t)_mm_popcnt_u64(mark); i += 16) {
            __m256i places = _mm256_add_epi16(_mm256_cvtepu8_epi16(_mm512_castsi512_si128(found)), where);
            _mm256_storeu_si256((__m256i *)(void *)(out + i), places);
            found = _mm512_alignr_epi32(found, found, 4);
        }
        out += _mm_popcnt_u64(mark);
    }
    return out - marks;
}

/* The list went as far as the row, so nothing but digits can be wrong. A digit too many before a number makes the number seem longer,
 * and what is taken for its first digit is then text. Behind the last number nothing would tell, so the text there is compared. */
CALLSTATS_AVX512 static inline int callstats_numbers_avx512(
    const callstats_shape *shape, const uint8_t *base, const uint16_t *marks, ptrdiff_t row
) {
    const __m512i behind = _mm512_broadcast_i32x4(_mm_setr_epi8(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
    const __m512i begins = _mm512_broadcast_i32x4(_mm_setr_epi8(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, -1));
    const callstats_number *number = shape->numbers;
    const callstats_piece *piece = shape->pieces + shape->n_inner, *end_pieces = shape->pieces + shape->n_pieces;
    const callstats_four *four = shape->fours, *end = four + shape->n_fours;
    const __m512i lanes = _mm512_setr_epi32(
        0, 0, 0, 0, 0x04040404, 0x04040404, 0x04040404, 0x04040404,
        0x08080808, 0x08080808, 0x08080808, 0x08080808, 0x0C0C0C0C, 0x0C0C0C0C, 0x0C0C0C0C, 0x0C0C0C0C
    );
    __m512i largest = _mm512_setzero_si512();
    __m128i most = _mm_setzero_si128();
    __mmask64 wrong = 0;
    for (; four < end; four++, number += 4) {
        const __m128i ends = callstats_load16(marks + number->before);
        __m128i lengths = _mm_sub_epi32(
            _mm_shuffle_epi8(ends, callstats_load16(four->marks)), _mm_shuffle_epi8(ends, callstats_load16(four->previous))
        );
        __m512i digits, more;
        lengths = _mm_sub_epi32(lengths, callstats_load16(four->gaps));
        most = _mm_max_epu32(most, lengths);
        more = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(lengths), lanes);
        digits = _mm512_castsi128_si512(callstats_load16(base - 16 + marks[number->mark]));
        digits = _mm512_inserti32x4(digits, callstats_load16(base - 16 + marks[number[1].mark]), 1);
        digits = _mm512_inserti32x4(digits, callstats_load16(base - 16 + marks[number[2].mark]), 2);
        digits = _mm512_inserti32x4(digits, callstats_load16(base - 16 + marks[number[3].mark]), 3);
        digits = _mm512_maskz_sub_epi8(_mm512_cmpge_epu8_mask(more, behind), digits, _mm512_set1_epi8('0'));
        largest = _mm512_max_epu8(largest, digits);
        wrong |= _mm512_mask_testn_epi8_mask(_mm512_cmpeq_epi8_mask(more, begins), digits, digits);
        digits = _mm512_maddubs_epi16(digits, _mm512_set1_epi16(0x010A));
        digits = _mm512_madd_epi16(digits, _mm512_set1_epi32(0x00010064));
        digits = _mm512_packus_epi32(digits, digits);
        digits = _mm512_madd_epi16(digits, _mm512_set1_epi32(0x00012710));
        digits = _mm512_add_epi64(_mm512_mul_epu32(digits, _mm512_set1_epi64(100000000)), _mm512_srli_epi64(digits, 32));
        _mm_storel_epi64((__m128i *)(void *)(number[0].cells + row), _mm512_castsi512_si128(digits));
        _mm_storel_epi64((__m128i *)(void *)(number[1].cells + row), _mm512_extracti32x4_epi32(digits, 1));
        _mm_storel_epi64((__m128i *)(void *)(number[2].cells + row), _mm512_extracti32x4_epi32(digits, 2));
        _mm_storel_epi64((__m128i *)(void *)(number[3].cells + row), _mm512_extracti32x4_epi32(digits, 3));
    }
    for (; piece < end_pieces; piece++) {
        __m256i text = _mm256_xor_si256(callstats_load32(base + marks[piece->mark] + piece->gap), callstats_load32(piece->text));
        wrong |= _mm256_test_epi8_mask(text, callstats_load32(piece->mask));
    }
    wrong |= _mm512_cmpgt_epu8_mask(largest, _mm512_set1_epi8(9));
    return (wrong | _mm_cmpgt_epu32_mask(most, _mm_set1_epi32(CALLSTATS_DIGITS - 1))) == 0;
}
#endif

/* --- all rows -------------------------------------------------------------------------------------------------------------- */

/* Read rows until one is of another shape or can't be read here. Return their number, and lead `at` behind the last one.
 *
 * A block of text is listed, and the rows are read that lie in it whole. The next block begins with the row that did not. `at` is
 * always a mark, so `base` is mark 0 of the first row. No mark lies beyond `size` + STRIDE, and so nothing beyond `readable` is
 * looked at.
 */
CALLSTATS_INLINE ptrdiff_t callstats_read_all(
    const callstats_shape *shape, callstats_run *run,
    ptrdiff_t (*list)(const callstats_shape *, const uint8_t *, ptrdiff_t, ptrdiff_t, uint16_t *),
    int (*numbers)(const callstats_shape *, const uint8_t *, const uint16_t *, ptrdiff_t)
) {
    uint16_t list_of_marks[CALLSTATS_BLOCK + 2 * CALLSTATS_STRIDE], *marks, *end;
    ptrdiff_t first = run->row, before, size, block = CALLSTATS_FIRST;
    do {
        const uint8_t *base = run->at;
        size = run->readable - base - CALLSTATS_STRIDE - CALLSTATS_REACH;
        if (size > block) size = block;
        list_of_marks[0] = 0;
        end = list_of_marks + 1 + list(shape, base, 1, size, list_of_marks + 1);
        before = run->row;
        for (marks = list_of_marks; end - marks >= shape->n_marks && run->row < run->room; marks += shape->n_marks) {
            if (!callstats_read_time(run, base + marks[shape->time_mark] + shape->time_gap, run->times + run->row)
                || !numbers(shape, base, marks, run->row)) return run->row - first;
            run->at = base + marks[shape->end_mark] + shape->end_gap;
            run->row++;
            if (*run->at != ',') return run->row - first;
        }
        if (run->row == before && (size < block || block == CALLSTATS_BLOCK)) break; /* there is no whole row */
        block = CALLSTATS_BLOCK;
    } while (run->row < run->room);
    return run->row - first;
}

CALLSTATS_APART ptrdiff_t callstats_read_portable(const callstats_shape *shape, callstats_run *run) {
    return callstats_read_all(shape, run, callstats_list_portable, callstats_numbers_portable);
}

#ifdef CALLSTATS_AVX2
CALLSTATS_AVX2 CALLSTATS_APART ptrdiff_t callstats_read_avx2(const callstats_shape *shape, callstats_run *run) {
    return callstats_read_all(shape, run, callstats_list_avx2, callstats_numbers_avx2);
}

CALLSTATS_AVX512 CALLSTATS_APART ptrdiff_t callstats_read_avx512(const callstats_shape *shape, callstats_run *run) {
    return callstats_read_all(shape, run, callstats_list_avx512, callstats_numbers_avx512);
}
#endif

/* The form to take: `wanted`, or for AUTO the fastest; OFF where it can't be had. Without AVX2 the scanner is faster still. */
static inline int callstats_form(int wanted) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return CALLSTATS_OFF;
#endif
#ifdef CALLSTATS_AVX2
    if (wanted == CALLSTATS_AUTO || wanted == CALLSTATS_WITH_AVX512) {
        if (__builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
            return CALLSTATS_WITH_AVX512;
        }
    }
    if (wanted == CALLSTATS_AUTO || wanted == CALLSTATS_WITH_AVX2) {
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi")) return CALLSTATS_WITH_AVX2;
    }
#endif
    return wanted == CALLSTATS_PORTABLE ? CALLSTATS_PORTABLE : CALLSTATS_OFF;
}

static inline ptrdiff_t callstats_read_rows(int form, const callstats_shape *shape, callstats_run *run) {
#ifdef CALLSTATS_AVX2
    if (form == CALLSTATS_WITH_AVX512 && shape->n_fours) return callstats_read_avx512(shape, run);
    if (form >= CALLSTATS_WITH_AVX2) return callstats_read_avx2(shape, run);
#endif
    return form == CALLSTATS_PORTABLE ? callstats_read_portable(shape, run) : 0;
}

#endif
