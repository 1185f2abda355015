/*
 * The sparse products in portable C, four rows at a time, their sums in registers. drnn_kernels_avx2.h and drnn_kernels_mve.h
 * have the blocks for processors with vectors, drnn_kernels_dsp.h those for cores with the DSP extension.
 */
#include "drnn_kernels.h"

#include "drnn_fixed.h"

#include "drnn_vector.h"

#if defined(__AVX2__)
#include "drnn_kernels_avx2.h"
#define PORTABLE static inline
#elif defined(DRNN_LANES)
#include "drnn_kernels_mve.h"
#define PORTABLE DRNN_RARE static /* rows that do not fill a block */
#elif defined(__ARM_FEATURE_DSP)
#include "drnn_kernels_dsp.h"
#define HAS_DSP_BLOCKS
#define PORTABLE DRNN_RARE static /* rows that do not fill a block, or are not aligned */
#else
#define PORTABLE static inline
#endif

#define ROW_BLOCK 4u /* rows that are summed at a time */

/* How many entries, from the first on, may be summed in 32 bits: two at least where there are two. */
PORTABLE uint32_t run_length(const drnn_entry_t *entries, uint32_t n)
{
    uint32_t sum = 0;
    for (uint32_t a = 0; a < n; ++a) {
        const int32_t factor = entries[a].factor;
        sum += (uint32_t)(factor < 0 ? -factor : factor);
        if (sum > DRNN_FACTOR_SUM) {
            return a;
        }
    }
    return n;
}

/* sums[r] = sum over a of rows(entries[a])[row + r] * factor_a for a block of rows, entries of one run. */
static inline void sum_block(int32_t sums[ROW_BLOCK], const int16_t *base, uint32_t row, const drnn_entry_t *entries,
                             uint32_t n)
{
    int32_t sum0 = 0;
    int32_t sum1 = 0;
    int32_t sum2 = 0;
    int32_t sum3 = 0;
    for (uint32_t a = 0; a < n; ++a) {
        const int16_t *x = drnn_rows_at(base, entries[a].place) + row;
        const int32_t factor = entries[a].factor;
        sum0 += x[0] * factor;
        sum1 += x[1] * factor;
        sum2 += x[2] * factor;
        sum3 += x[3] * factor;
    }
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
}

static inline int32_t sum_row(const int16_t *base, uint32_t row, const drnn_entry_t *entries, uint32_t n)
{
    int32_t sum = 0;
    for (uint32_t a = 0; a < n; ++a) {
        sum += drnn_rows_at(base, entries[a].place)[row] * entries[a].factor;
    }
    return sum;
}

/* drnn_add_columns, of entries of one run. */
PORTABLE int add_run(int32_t *sums, const int16_t *base, uint32_t first, uint32_t end, const drnn_entry_t *entries,
                     uint32_t n)
{
    int exceeds = 0;
    uint32_t row = first;
#ifdef __AVX2__
    row = drnn_add_tiles_avx2(sums, base, row, end, entries, n, &exceeds);
#endif
    for (; row + ROW_BLOCK <= end; row += ROW_BLOCK) {
        int32_t block[ROW_BLOCK];
        sum_block(block, base, row, entries, n);
        for (uint32_t r = 0; r < ROW_BLOCK; ++r) {
            exceeds |= __builtin_add_overflow(sums[row + r], block[r], &sums[row + r]);
        }
    }
    for (; row < end; ++row) {
        exceeds |= __builtin_add_overflow(sums[row], sum_row(base, row, entries, n), &sums[row]);
    }
    return !exceeds;
}

/* drnn_sum_columns, of rows from `row` on. */
PORTABLE void sum_rows(int32_t *sums, const int16_t *base, uint32_t row, uint32_t rows, const drnn_entry_t *entries,
                       uint32_t n)
{
    for (; row + ROW_BLOCK <= rows; row += ROW_BLOCK) {
        sum_block(&sums[row], base, row, entries, n);
    }
    for (; row < rows; ++row) {
        sums[row] = sum_row(base, row, entries, n);
    }
}

/* drnn_dot_columns, of rows from `row` on; products of those before are there. */
PORTABLE void dot_rows(int64_t *products, const int16_t *base, uint32_t row, uint32_t rows, const int16_t *dm,
                       const drnn_entry_t *entries, uint32_t n)
{
    for (uint32_t a = 0; a < n; ++a) {
        const int16_t *w = drnn_rows_at(base, entries[a].place);
        int64_t sum = row > 0 ? products[a] : 0;
        for (uint32_t i = row; i < rows; ++i) {
            sum += w[i] * (int32_t)dm[i];
        }
        products[a] = sum;
    }
}

/* drnn_add_columns, of any rows and entries. */
PORTABLE int add_any(int32_t *sums, const int16_t *base, uint32_t first, uint32_t end, const drnn_entry_t *entries, uint32_t n)
{
    while (first < end && n > 0) {
        const uint32_t n_run = run_length(entries, n);
        if (!add_run(sums, base, first, end, entries, n_run)) {
            return 0;
        }
        entries += n_run;
        n -= n_run;
    }
    return 1;
}

int drnn_add_columns(int32_t *sums, const int16_t *base, uint32_t first, uint32_t end, const drnn_entry_t *entries,
                     uint32_t n, int is_even)
{
    if (n == 0) {
        return 1;
    }
#if defined(DRNN_LANES) && !defined(__AVX2__)
    int exceeds;
    first = drnn_add_blocks_mve(sums, first, end, entries, n, &exceeds);
    if (exceeds) {
        return 0;
    }
#elif defined(HAS_DSP_BLOCKS)
    const uint32_t n_blocks = is_even ? (end - first) / DRNN_DSP_ROWS : 0;
    const uint32_t done = n_blocks * DRNN_DSP_ROWS;
    if (DRNN_LIKELY(done != 0 && first + done == end)) {
        return drnn_add_blocks_dsp(&sums[first], 2 * first, entries, n, n_blocks);
    }
    if (done != 0 && !drnn_add_blocks_dsp(&sums[first], 2 * first, entries, n, n_blocks)) {
        return 0;
    }
    first += done;
#endif
    (void)is_even; /* vectors may lie anywhere */
    return add_any(sums, base, first, end, entries, n);
}

void drnn_sum_columns(int32_t *sums, const int16_t *base, uint32_t rows, const drnn_entry_t *entries, uint32_t n,
                      int is_even)
{
    uint32_t row = 0;
#if defined(__AVX2__)
    row = drnn_sum_tiles_avx2(sums, base, rows, entries, n);
#elif defined(DRNN_LANES)
    row = n > 0 ? drnn_sum_blocks_mve(sums, rows, entries, n) : 0;
#elif defined(HAS_DSP_BLOCKS)
    const uint32_t n_blocks = is_even && n > 0 ? rows / DRNN_DSP_ROWS : 0;
    row = n_blocks * DRNN_DSP_ROWS;
    if (row != 0) {
        drnn_sum_blocks_dsp(sums, 0, entries, n, n_blocks);
    }
#endif
    (void)is_even; /* vectors may lie anywhere */
    if (row < rows) {
        sum_rows(sums, base, row, rows, entries, n);
    }
}

void drnn_dot_columns(int64_t *products, const int16_t *base, uint32_t rows, const int16_t *dm,
                      const drnn_entry_t *entries, uint32_t n, int is_even)
{
    uint32_t n_fast = 0; /* rows that are done; products of no rows are not written */
#if defined(__AVX2__)
    n_fast = rows / DRNN_TILE * DRNN_TILE;
    if (n_fast > 0) {
        drnn_dots_avx2(products, base, n_fast, dm, entries, n);
    }
#elif defined(DRNN_LANES)
    n_fast = rows / DRNN_MVE_DOT_ROWS * DRNN_MVE_DOT_ROWS;
    if (n_fast > 0) {
        drnn_dots_mve(products, n_fast, dm, entries, n);
    }
#elif defined(HAS_DSP_BLOCKS)
    n_fast = is_even ? rows / DRNN_DSP_ROWS * DRNN_DSP_ROWS : 0;
    if (n_fast > 0 && !drnn_dots_dsp(products, dm, n_fast, entries, n)) {
        n_fast = 0;
    }
#endif
    (void)is_even;
    if (n_fast < rows) {
        dot_rows(products, base, n_fast, rows, dm, entries, n);
    }
}
