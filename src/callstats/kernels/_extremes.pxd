"""The min and max of many unsigned numbers, by the widest vectors of the processor that runs.

The compiler has no vector instruction for 64-bit extremes in the instruction set that every x86-64 processor has. So there is a
version for each newer one, and each call chooses. Other processors, and compilers without such attributes, get the plain loop.
"""

from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>

    #define CALLSTATS_EXTREME(NAME, TARGET, OPERATOR) \\
        TARGET static uint64_t NAME(const uint64_t *cells, ptrdiff_t n) { \\
            uint64_t found = cells[0]; \\
            for (ptrdiff_t i = 1; i < n; i++) found = cells[i] OPERATOR found ? cells[i] : found; \\
            return found; \\
        }
    CALLSTATS_EXTREME(callstats_min_plain, , <)
    CALLSTATS_EXTREME(callstats_max_plain, , >)
    #if defined(__GNUC__) && defined(__x86_64__)
    CALLSTATS_EXTREME(callstats_min_avx2, __attribute__((target("avx2"))), <)
    CALLSTATS_EXTREME(callstats_max_avx2, __attribute__((target("avx2"))), >)
    CALLSTATS_EXTREME(callstats_min_avx512, __attribute__((target("avx512f"))), <)
    CALLSTATS_EXTREME(callstats_max_avx512, __attribute__((target("avx512f"))), >)
    #define CALLSTATS_BEST(NAME) \\
        (__builtin_cpu_supports("avx512f") ? NAME##_avx512 : __builtin_cpu_supports("avx2") ? NAME##_avx2 : NAME##_plain)
    #else
    #define CALLSTATS_BEST(NAME) NAME##_plain
    #endif

    /* A few numbers take less time than to choose. */
    #define CALLSTATS_EXTREME_OF(NAME, OPERATOR) \\
        static inline uint64_t NAME##_of(const uint64_t *cells, ptrdiff_t n) { \\
            uint64_t found = cells[0]; \\
            if (n > 32) return CALLSTATS_BEST(NAME)(cells, n); \\
            for (ptrdiff_t i = 1; i < n; i++) found = cells[i] OPERATOR found ? cells[i] : found; \\
            return found; \\
        }
    CALLSTATS_EXTREME_OF(callstats_min, <)
    CALLSTATS_EXTREME_OF(callstats_max, >)
    """
    uint64_t min_of "callstats_min_of"(const uint64_t* cells, Py_ssize_t n) noexcept nogil
    uint64_t max_of "callstats_max_of"(const uint64_t* cells, Py_ssize_t n) noexcept nogil
