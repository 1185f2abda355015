/*
 * Blocks of the sparse products for cores with the DSP extension (Cortex-M4, M7, M33, M55): the compiler neither selects
 * these multiplications by itself nor keeps the sums in registers. Data are aligned to 4 bytes; lists need not be.
 */
#ifndef DRNN_KERNELS_DSP_H
#define DRNN_KERNELS_DSP_H

#include <stdint.h>

/* One entry: its four rows at [place], its delta in the half `half` (b or t) of %[d]. */
#define DRNN_FOUR_ROWS(place, half) \
    "ldrd %[a], %[b], [" place "]\n" \
    "smlab" half " %[s0], %[a], %[d], %[s0]\n" \
    "smlat" half " %[s1], %[a], %[d], %[s1]\n" \
    "smlab" half " %[s2], %[b], %[d], %[s2]\n" \
    "smlat" half " %[s3], %[b], %[d], %[s3]\n"

#define DRNN_TWO_ENTRIES \
    "ldr %[q], [%[index]], #4\n" \
    "ldr %[d], [%[deltas]], #4\n" \
    "smlabb %[p], %[q], %[stride], %[base]\n" \
    "smlatb %[q], %[q], %[stride], %[base]\n" \
    DRNN_FOUR_ROWS("%[p]", "b") DRNN_FOUR_ROWS("%[q]", "t")

/* As drnn_sum_rows of drnn_kernels.c. Indices and bytes of a stride are below 2^15. */
static inline void drnn_sum_rows_dsp(int32_t sums[4], const int16_t *base, uint32_t stride, const uint16_t *index,
                                     const int16_t *deltas, uint32_t n)
{
    const uint32_t bytes = stride * 2u;
    const uint16_t *const end = index + (n & ~3u);
    int32_t s0 = 0;
    int32_t s1 = 0;
    int32_t s2 = 0;
    int32_t s3 = 0;
    int32_t p, q, a, b, d;
    if (index != end) {
        __asm__ volatile("1:\n" DRNN_TWO_ENTRIES DRNN_TWO_ENTRIES
                         "cmp %[index], %[end]\n"
                         "bne 1b\n"
                         : [s0] "+r"(s0), [s1] "+r"(s1), [s2] "+r"(s2), [s3] "+r"(s3), [index] "+r"(index),
                           [deltas] "+r"(deltas), [p] "=&r"(p), [q] "=&r"(q), [a] "=&r"(a), [b] "=&r"(b), [d] "=&r"(d)
                         : [base] "r"(base), [stride] "r"(bytes), [end] "r"(end)
                         : "cc", "memory");
    }
    if (n & 2u) {
        __asm__ volatile(DRNN_TWO_ENTRIES
                         : [s0] "+r"(s0), [s1] "+r"(s1), [s2] "+r"(s2), [s3] "+r"(s3), [index] "+r"(index),
                           [deltas] "+r"(deltas), [p] "=&r"(p), [q] "=&r"(q), [a] "=&r"(a), [b] "=&r"(b), [d] "=&r"(d)
                         : [base] "r"(base), [stride] "r"(bytes)
                         : "memory");
    }
    if (n & 1u) {
        const int16_t *place = base + index[0] * stride;
        d = deltas[0];
        __asm__ volatile(DRNN_FOUR_ROWS("%[p]", "b")
                         : [s0] "+r"(s0), [s1] "+r"(s1), [s2] "+r"(s2), [s3] "+r"(s3), [a] "=&r"(a), [b] "=&r"(b)
                         : [p] "r"(place), [d] "r"(d)
                         : "memory");
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

/* acc[r] += unit * sums[r]. */
static inline void drnn_add_rows_dsp(int64_t *acc, const int32_t sums[4], int32_t unit)
{
    int32_t low, high;
    __asm__ volatile("ldrd %[low], %[high], [%[acc]]\n"
                     "smlal %[low], %[high], %[s0], %[unit]\n"
                     "strd %[low], %[high], [%[acc]]\n"
                     "ldrd %[low], %[high], [%[acc], #8]\n"
                     "smlal %[low], %[high], %[s1], %[unit]\n"
                     "strd %[low], %[high], [%[acc], #8]\n"
                     "ldrd %[low], %[high], [%[acc], #16]\n"
                     "smlal %[low], %[high], %[s2], %[unit]\n"
                     "strd %[low], %[high], [%[acc], #16]\n"
                     "ldrd %[low], %[high], [%[acc], #24]\n"
                     "smlal %[low], %[high], %[s3], %[unit]\n"
                     "strd %[low], %[high], [%[acc], #24]\n"
                     : [low] "=&r"(low), [high] "=&r"(high)
                     : [acc] "r"(acc), [unit] "r"(unit), [s0] "r"(sums[0]), [s1] "r"(sums[1]), [s2] "r"(sums[2]),
                       [s3] "r"(sums[3])
                     : "memory");
}

#define DRNN_DOT_FOUR \
    "ldrd %[x], %[y], [%[dm]], #8\n" \
    "ldrd %[a], %[b], [%[w0]], #8\n" \
    "smlald %Q[s0], %R[s0], %[a], %[x]\n" \
    "smlald %Q[s0], %R[s0], %[b], %[y]\n" \
    "ldrd %[a], %[b], [%[w1]], #8\n" \
    "smlald %Q[s1], %R[s1], %[a], %[x]\n" \
    "smlald %Q[s1], %R[s1], %[b], %[y]\n"

/* products[0] and [1]: of columns w0 and w1 with dm; n rows, a multiple of 8 and not 0. */
static inline void drnn_dot_two_dsp(int64_t products[2], const int16_t *w0, const int16_t *w1, const int16_t *dm,
                                    uint32_t n)
{
    const int16_t *const end = dm + n;
    int64_t s0 = 0;
    int64_t s1 = 0;
    int32_t x, y, a, b;
    __asm__ volatile("1:\n" DRNN_DOT_FOUR DRNN_DOT_FOUR
                     "cmp %[dm], %[end]\n"
                     "bne 1b\n"
                     : [s0] "+r"(s0), [s1] "+r"(s1), [w0] "+r"(w0), [w1] "+r"(w1), [dm] "+r"(dm), [x] "=&r"(x),
                       [y] "=&r"(y), [a] "=&r"(a), [b] "=&r"(b)
                     : [end] "r"(end)
                     : "cc", "memory");
    products[0] = s0;
    products[1] = s1;
}

#endif
