/*
 * The sparse products: four rows at a time, their sums in registers. drnn_kernels_dsp.h has the blocks for cores with the
 * DSP extension; all else is portable C.
 */
#include "drnn_kernels.h"

#ifdef __ARM_FEATURE_DSP
#include "drnn_kernels_dsp.h"
#endif

#define RUN_LIMIT 65535u /* of the |delta| of entries that are summed in 32 bits */

/* How many entries, from the first on, may be summed in 32 bits: two at least where there are two. */
static uint32_t run_length(const int16_t *deltas, uint32_t n)
{
    uint32_t sum = 0;
    for (uint32_t a = 0; a < n; ++a) {
        const int32_t delta = deltas[a];
        sum += (uint32_t)(delta < 0 ? -delta : delta);
        if (sum > RUN_LIMIT) {
            return a;
        }
    }
    return n;
}

#ifdef __ARM_FEATURE_DSP
/* Whether the rows of a matrix and what they begin with may be read by words. */
static int is_aligned(const int16_t *base, uint32_t stride)
{
    return ((uintptr_t)base % 4 | stride % 2) == 0;
}
#endif

/* sums[r] = sum over a of base[index[a]][r] * deltas[a], entries of one run; base [any][stride]. */
static inline void sum_rows_portable(int32_t sums[DRNN_ROW_BLOCK], const int16_t *base, uint32_t stride,
                                     const uint16_t *index, const int16_t *deltas, uint32_t n)
{
    int32_t sum0 = 0;
    int32_t sum1 = 0;
    int32_t sum2 = 0;
    int32_t sum3 = 0;
    for (uint32_t a = 0; a < n; ++a) {
        const int16_t *x = &base[(uint32_t)index[a] * stride];
        const int32_t delta = deltas[a];
        sum0 += x[0] * delta;
        sum1 += x[1] * delta;
        sum2 += x[2] * delta;
        sum3 += x[3] * delta;
    }
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
}

static int32_t sum_row(const int16_t *base, uint32_t stride, const uint16_t *index, const int16_t *deltas, uint32_t n)
{
    int32_t sum = 0;
    for (uint32_t a = 0; a < n; ++a) {
        sum += base[(uint32_t)index[a] * stride] * (int32_t)deltas[a];
    }
    return sum;
}

/* acc[i] += unit * sum over a of base[index[a]][i] * deltas[a], entries of one run. */
static void add_run(int64_t *acc, const int16_t *base, uint32_t stride, uint32_t rows, const uint16_t *index,
                    const int16_t *deltas, uint32_t n, int32_t unit)
{
    uint32_t row = 0;
#ifdef __ARM_FEATURE_DSP
    if (is_aligned(base, stride)) {
        for (; row + DRNN_ROW_BLOCK <= rows; row += DRNN_ROW_BLOCK) {
            int32_t sums[DRNN_ROW_BLOCK];
            drnn_sum_rows_dsp(sums, base + row, stride, index, deltas, n);
            drnn_add_rows_dsp(acc + row, sums, unit);
        }
    }
#endif
    for (; row + DRNN_ROW_BLOCK <= rows; row += DRNN_ROW_BLOCK) {
        int32_t sums[DRNN_ROW_BLOCK];
        sum_rows_portable(sums, base + row, stride, index, deltas, n);
        acc[row] += (int64_t)sums[0] * unit;
        acc[row + 1] += (int64_t)sums[1] * unit;
        acc[row + 2] += (int64_t)sums[2] * unit;
        acc[row + 3] += (int64_t)sums[3] * unit;
    }
    for (; row < rows; ++row) {
        acc[row] += (int64_t)sum_row(base + row, stride, index, deltas, n) * unit;
    }
}

void drnn_accumulate_columns(int64_t *m_acc, const int16_t *weight, uint32_t rows, const uint16_t *columns,
                             const int16_t *deltas, uint32_t n_active, int shift)
{
    const int32_t unit = (int32_t)1 << shift;
    while (n_active > 0) {
        const uint32_t n = run_length(deltas, n_active);
        add_run(m_acc, weight, rows, rows, columns, deltas, n, unit);
        columns += n;
        deltas += n;
        n_active -= n;
    }
}

void drnn_gradient_column(int32_t *sums, const int16_t *dm, uint32_t stride, uint32_t rows, const uint16_t *steps,
                          const int16_t *deltas, uint32_t n)
{
    uint32_t row = 0;
#ifdef __ARM_FEATURE_DSP
    if (is_aligned(dm, stride)) {
        for (; row + DRNN_ROW_BLOCK <= rows; row += DRNN_ROW_BLOCK) {
            drnn_sum_rows_dsp(&sums[row], dm + row, stride, steps, deltas, n);
        }
    }
#endif
    for (; row + DRNN_ROW_BLOCK <= rows; row += DRNN_ROW_BLOCK) {
        sum_rows_portable(&sums[row], dm + row, stride, steps, deltas, n);
    }
    for (; row < rows; ++row) {
        sums[row] = sum_row(dm + row, stride, steps, deltas, n);
    }
}

static int64_t dot(const int16_t *w, const int16_t *dm, uint32_t rows)
{
    int64_t sum = 0;
    for (uint32_t row = 0; row < rows; ++row) {
        sum += w[row] * (int32_t)dm[row];
    }
    return sum;
}

void drnn_dot_columns(int64_t *products, const int16_t *weight, uint32_t rows, const int16_t *dm,
                      const uint16_t *columns, uint32_t n_active)
{
    uint32_t a = 0;
#ifdef __ARM_FEATURE_DSP
    if (is_aligned(weight, rows) && is_aligned(dm, 0) && rows >= 8) {
        const uint32_t n = rows & ~7u;
        for (; a < n_active; a += 2) {
            const uint32_t second = a + 1 < n_active ? a + 1 : a; /* a lone last column is taken twice */
            const int16_t *w0 = &weight[(uint32_t)columns[a] * rows];
            const int16_t *w1 = &weight[(uint32_t)columns[second] * rows];
            int64_t sums[2];
            drnn_dot_two_dsp(sums, w0, w1, dm, n);
            products[second] = sums[1] + dot(w1 + n, dm + n, rows - n);
            products[a] = sums[0] + dot(w0 + n, dm + n, rows - n);
        }
        return;
    }
#endif
    for (; a < n_active; ++a) {
        products[a] = dot(&weight[(uint32_t)columns[a] * rows], dm, rows);
    }
}
