/*
 * The sparse products in portable C: four rows at a time, their sums in registers.
 */
#include "drnn_kernels.h"

void drnn_accumulate_columns(int64_t *m_acc, const int16_t *weight, uint32_t rows, const uint16_t *columns,
                             const int16_t *deltas, uint32_t n_active, int shift)
{
    const int64_t unit = (int64_t)1 << shift;
    uint32_t row = 0;
    for (; row + DRNN_ROW_BLOCK <= rows; row += DRNN_ROW_BLOCK) {
        int64_t sum0 = 0;
        int64_t sum1 = 0;
        int64_t sum2 = 0;
        int64_t sum3 = 0;
        for (uint32_t a = 0; a < n_active; ++a) {
            const int16_t *w = &weight[(uint32_t)columns[a] * rows + row];
            const int32_t delta = deltas[a];
            sum0 += w[0] * delta;
            sum1 += w[1] * delta;
            sum2 += w[2] * delta;
            sum3 += w[3] * delta;
        }
        m_acc[row] += sum0 * unit;
        m_acc[row + 1] += sum1 * unit;
        m_acc[row + 2] += sum2 * unit;
        m_acc[row + 3] += sum3 * unit;
    }
    for (; row < rows; ++row) {
        int64_t sum = 0;
        for (uint32_t a = 0; a < n_active; ++a) {
            sum += weight[(uint32_t)columns[a] * rows + row] * (int32_t)deltas[a];
        }
        m_acc[row] += sum * unit;
    }
}

void drnn_dot_columns(int64_t *products, const int16_t *weight, uint32_t rows, const int16_t *dm,
                      const uint16_t *columns, uint32_t n_active)
{
    for (uint32_t a = 0; a < n_active; ++a) {
        const int16_t *w = &weight[(uint32_t)columns[a] * rows];
        int64_t sum = 0;
        for (uint32_t row = 0; row < rows; ++row) {
            sum += w[row] * (int32_t)dm[row];
        }
        products[a] = sum;
    }
}

int64_t drnn_gradient_row(const int16_t *dm, uint32_t stride, uint32_t row, const uint16_t *steps,
                          const int16_t *deltas, uint32_t n)
{
    int64_t sum = 0;
    for (uint32_t s = 0; s < n; ++s) {
        sum += dm[(uint32_t)steps[s] * stride + row] * (int32_t)deltas[s];
    }
    return sum;
}

void drnn_gradient_rows(int64_t sums[DRNN_ROW_BLOCK], const int16_t *dm, uint32_t stride, uint32_t row,
                        const uint16_t *steps, const int16_t *deltas, uint32_t n)
{
    int64_t sum0 = 0;
    int64_t sum1 = 0;
    int64_t sum2 = 0;
    int64_t sum3 = 0;
    for (uint32_t s = 0; s < n; ++s) {
        const int16_t *d = &dm[(uint32_t)steps[s] * stride + row];
        const int32_t delta = deltas[s];
        sum0 += d[0] * delta;
        sum1 += d[1] * delta;
        sum2 += d[2] * delta;
        sum3 += d[3] * delta;
    }
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
}
