/*
 * The three sparse products, each over a list of entries: runs of weights, or of dM, with what multiplies them. Sums are
 * exact, never rounded, so every variant of a kernel gives the same words whatever its order of summation.
 *
 * Bounds: |w| <= 32768 (a host may write that), |dm| <= 32768 and |factor| <= 32767, so a product is at most 2^30. rows <=
 * 4 * DRNN_MAX_WIDTH = 2^12, so a dot product stays within 2^42.
 *
 * is_even: whether all places and `first` are multiples of 2 and the arrays aligned to 4 bytes, so that rows may be read by
 * words.
 */
#ifndef DRNN_KERNELS_H
#define DRNN_KERNELS_H

#include <stdint.h>

#define DRNN_FACTOR_MAX 32767
#define DRNN_FACTOR_SUM 65535u /* of |factor|: so much times 2^15 fits 32 bits */

/* One entry of a product. */
typedef struct {
    uint32_t place;  /* where its rows begin: drnn_place */
    int32_t factor;  /* what multiplies them; of drnn_dot_columns the number of the column */
} drnn_entry_t;

/* Where `base[offset]` is: an address where that has 32 bits, else the offset itself. */
static inline uint32_t drnn_place(const int16_t *base, uint32_t offset)
{
#if UINTPTR_MAX == UINT32_MAX
    return (uint32_t)(uintptr_t)(base + offset);
#else
    (void)base;
    return offset;
#endif
}

static inline const int16_t *drnn_rows_at(const int16_t *base, uint32_t place)
{
#if UINTPTR_MAX == UINT32_MAX
    (void)base;
    return (const int16_t *)(uintptr_t)place;
#else
    return base + place;
#endif
}

/*
 * sums[i] += sum over a of rows(entries[a])[i] * factor_a, for i in [first, end)   (W . Delta)
 *
 * entries [n]. Returns 1, or 0 where a sum, or a part of it, may have exceeded 32 bits: sums are then of no use.
 * Cost: (end - first) * n MACs.
 */
int drnn_add_columns(int32_t *sums, const int16_t *base, uint32_t first, uint32_t end, const drnn_entry_t *entries,
                     uint32_t n, int is_even);

/*
 * sums[i] = sum over a of rows(entries[a])[i] * factor_a, for i in [0, rows)   (one column of dM . Delta^T)
 *
 * entries [n], of which |factor| add up to DRNN_FACTOR_SUM at most, so that sums fit. Cost: rows * n MACs.
 */
void drnn_sum_columns(int32_t *sums, const int16_t *base, uint32_t rows, const drnn_entry_t *entries, uint32_t n,
                      int is_even);

/*
 * products[a] = sum over i of rows(entries[a])[i] * dm[i]   (W^T . dM)
 *
 * products [n], dm [rows], entries [n]. Cost: rows * n MACs.
 */
void drnn_dot_columns(int64_t *products, const int16_t *base, uint32_t rows, const int16_t *dm,
                      const drnn_entry_t *entries, uint32_t n, int is_even);

#endif
