/*
 * The three sparse products, each over one and the same list of active columns. Sums are exact, never rounded, so every
 * variant of a kernel gives the same words whatever its order of summation.
 *
 * Bounds: |w| <= 32768 (a host may write that), |dm| <= 32767, |delta| <= 32766, so a product is below 2^30;
 * columns <= 2 * DRNN_MAX_WIDTH = 2^11, rows <= 4 * DRNN_MAX_WIDTH = 2^12 and steps <= DRNN_MAX_STEPS = 2^12, so every
 * sum stays below 2^42. Runs of entries whose |delta| add up to 65535 at most are summed in 32 bits:
 * 65535 * 32768 < 2^31.
 */
#ifndef DRNN_KERNELS_H
#define DRNN_KERNELS_H

#include <stdint.h>

#define DRNN_ROW_BLOCK 4 /* rows that a kernel sums at a time */

/*
 * m_acc[i] += 2^shift * sum over a of weight[columns[a]][i] * deltas[a]   (W . Delta)
 *
 * m_acc [rows], weight [any][rows], columns and deltas [n_active], shift in [0, 16]. Cost: rows * n_active MACs.
 */
void drnn_accumulate_columns(int64_t *m_acc, const int16_t *weight, uint32_t rows, const uint16_t *columns,
                             const int16_t *deltas, uint32_t n_active, int shift);

/*
 * products[a] = sum over i of weight[columns[a]][i] * dm[i]   (W^T . dM)
 *
 * products [n_active], weight [any][rows], dm [rows], columns [n_active]. Cost: rows * n_active MACs.
 */
void drnn_dot_columns(int64_t *products, const int16_t *weight, uint32_t rows, const int16_t *dm,
                      const uint16_t *columns, uint32_t n_active);

/*
 * sums[r] = sum over s of dm[steps[s]][r] * deltas[s]   (one column of dM . Delta^T)
 *
 * sums [rows], dm [any][stride], rows <= stride, steps and deltas [n], of which |deltas| add up to 65535 at most, so that
 * sums fit 32 bits. Cost: rows * n MACs.
 */
void drnn_gradient_column(int32_t *sums, const int16_t *dm, uint32_t stride, uint32_t rows, const uint16_t *steps,
                          const int16_t *deltas, uint32_t n);

#endif
