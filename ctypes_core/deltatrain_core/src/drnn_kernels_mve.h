/*
 * The sparse products by MVE (Cortex-M55): rows are widened as they are loaded and multiplied by a scalar, four at a time; dot
 * products sum in 64 bits by themselves. In memory everything may lie anywhere.
 */
#ifndef DRNN_KERNELS_MVE_H
#define DRNN_KERNELS_MVE_H

#include "drnn_kernels.h"
#include "drnn_vector_mve.h"

#define DRNN_MVE_ROWS 16u    /* rows that are summed at a time, an entry looked up once for all of them */
#define DRNN_MVE_DOT_ROWS 8u /* of a dot product */

typedef struct {
    int32x4_t first, second, third, fourth;
} drnn_block_t;

/* Sixteen rows of all entries, which are of one run: |sums| < 2^31. */
static inline drnn_block_t drnn_block_mve(const int16_t *base, uint32_t row, const drnn_entry_t *entries, uint32_t n)
{
    int32x4_t first = vdupq_n_s32(0);
    int32x4_t second = first;
    int32x4_t third = first;
    int32x4_t fourth = first;
    for (uint32_t a = 0; a < n; ++a) {
        const int16_t *x = drnn_rows_at(base, entries[a].place) + row;
        const int32_t factor = entries[a].factor;
        first = vmlaq_n_s32(first, vldrhq_s32(x), factor);
        second = vmlaq_n_s32(second, vldrhq_s32(x + 4), factor);
        third = vmlaq_n_s32(third, vldrhq_s32(x + 8), factor);
        fourth = vmlaq_n_s32(fourth, vldrhq_s32(x + 12), factor);
    }
    const drnn_block_t block = {first, second, third, fourth};
    return block;
}

/* sums[0..3] += addend; the sign bits of *exceeds where that took more than 32 bits. */
static inline void drnn_add_mve(int32_t *sums, int32x4_t addend, int32x4_t *exceeds)
{
    const int32x4_t before = vldrwq_s32(sums);
    const int32x4_t after = vaddq_s32(before, addend);
    *exceeds = vorrq_s32(*exceeds, vandq_s32(veorq_s32(after, before), veorq_s32(after, addend)));
    vstrwq_s32(sums, after);
}

/* drnn_add_columns of entries of one run, as many whole blocks as there are; returns the row after them. */
static inline uint32_t drnn_add_blocks_mve(int32_t *sums, const int16_t *base, uint32_t first, uint32_t end,
                                           const drnn_entry_t *entries, uint32_t n, int *exceeds)
{
    int32x4_t beyond = vdupq_n_s32(0);
    uint32_t row = first;
    for (; row + DRNN_MVE_ROWS <= end; row += DRNN_MVE_ROWS) {
        const drnn_block_t block = drnn_block_mve(base, row, entries, n);
        drnn_add_mve(&sums[row], block.first, &beyond);
        drnn_add_mve(&sums[row + 4], block.second, &beyond);
        drnn_add_mve(&sums[row + 8], block.third, &beyond);
        drnn_add_mve(&sums[row + 12], block.fourth, &beyond);
    }
    *exceeds |= vcmpltq_n_s32(beyond, 0) != 0;
    return row;
}

/* drnn_sum_columns, likewise. */
static inline uint32_t drnn_sum_blocks_mve(int32_t *sums, const int16_t *base, uint32_t rows, const drnn_entry_t *entries,
                                           uint32_t n)
{
    uint32_t row = 0;
    for (; row + DRNN_MVE_ROWS <= rows; row += DRNN_MVE_ROWS) {
        const drnn_block_t block = drnn_block_mve(base, row, entries, n);
        vstrwq_s32(&sums[row], block.first);
        vstrwq_s32(&sums[row + 4], block.second);
        vstrwq_s32(&sums[row + 8], block.third);
        vstrwq_s32(&sums[row + 12], block.fourth);
    }
    return row;
}

/* drnn_dot_columns over the first n_rows rows, a multiple of DRNN_MVE_DOT_ROWS: two columns at a time, a lone last one twice. */
static inline void drnn_dots_mve(int64_t *products, const int16_t *base, uint32_t n_rows, const int16_t *dm,
                                 const drnn_entry_t *entries, uint32_t n)
{
    for (uint32_t a = 0; a < n; a += 2) {
        const uint32_t b = a + 1 < n ? a + 1 : a;
        const int16_t *of_a = drnn_rows_at(base, entries[a].place);
        const int16_t *of_b = drnn_rows_at(base, entries[b].place);
        int64_t sum_a = 0;
        int64_t sum_b = 0;
        for (uint32_t row = 0; row < n_rows; row += DRNN_MVE_DOT_ROWS) {
            const int16x8_t values = vldrhq_s16(dm + row);
            sum_a = vmlaldavaq_s16(sum_a, values, vldrhq_s16(of_a + row));
            sum_b = vmlaldavaq_s16(sum_b, values, vldrhq_s16(of_b + row));
        }
        products[b] = sum_b;
        products[a] = sum_a;
    }
}

#endif
