/*
 * Sigmoid and tanh of arguments of 32 bits, for the inner loops of the cells. The same values as drnn_activation.h.
 */
#ifndef DRNN_ACTIVATION_NARROW_H
#define DRNN_ACTIVATION_NARROW_H

#include "drnn_fixed.h"
#include "drnn_tables.h"

#define DRNN_ARGUMENT_FRAC_BITS 13
#define DRNN_ARGUMENT_MAX (((int32_t)DRNN_SIGMOID_RANGE << DRNN_ARGUMENT_FRAC_BITS) - 1)

/* sigmoid(|x|) - 1/2 in Q0.16, in [0, 32768], of |x| in Q13. */
static inline int32_t drnn_above_half_q16(uint32_t magnitude)
{
    const int step_bits = DRNN_ARGUMENT_FRAC_BITS - DRNN_SIGMOID_STEP_FRAC_BITS; /* of x, between two entries */
    const uint32_t x = magnitude < DRNN_ARGUMENT_MAX ? magnitude : DRNN_ARGUMENT_MAX;
    const uint32_t entry = drnn_sigmoid_table[x >> step_bits];
    const uint32_t fraction = x & ((1u << step_bits) - 1u);
    return (int32_t)((entry >> 16) + (drnn_mul_halves(entry, fraction, 1u << (step_bits - 1)) >> step_bits));
}

/* sign is 0, or -1 for -value */
static inline int32_t drnn_with_sign(int32_t value, int32_t sign)
{
    return (value ^ sign) - sign;
}

static inline int32_t drnn_sigmoid_narrow_q14(int32_t x_q13)
{
    const int32_t sign = x_q13 >> 31;
    const int32_t above_half = drnn_above_half_q16((uint32_t)drnn_with_sign(x_q13, sign));
    return (32768 + 2 + drnn_with_sign(above_half, sign)) >> 2; /* Q16 to Q14, rounded */
}

static inline int32_t drnn_tanh_narrow_q14(int32_t x_q14)
{
    /* x in Q14 is 2x in Q13, and 2 * (Q16 value) in Q14 is half of it. */
    const int32_t sign = x_q14 >> 31;
    return drnn_with_sign((drnn_above_half_q16((uint32_t)drnn_with_sign(x_q14, sign)) + 1) >> 1, sign);
}

/* round(m / 2^bits) where it matters to an activation; beyond +-2^30, where none changes, that. bits in [1, 31]. */
int32_t drnn_wide_argument(int64_t m, int bits);

#endif
