/*
 * Sigmoid and tanh of arguments of 32 bits, for the inner loops of the cells. The same values as drnn_activation.h.
 */
#ifndef DRNN_ACTIVATION_NARROW_H
#define DRNN_ACTIVATION_NARROW_H

#include "drnn_fixed.h"
#include "drnn_tables.h"

#define DRNN_SIGMOID_FRAC_BITS 20 /* of sigmoid's argument */
#define DRNN_TANH_FRAC_BITS 21    /* of tanh's: as many as 2 x has in that of sigmoid */
#define DRNN_ARGUMENT_BITS 24     /* |x| < 16 in Q20: beyond, the value does not change */
#define DRNN_FRACTION_BITS 15     /* of an argument, between two entries of the table */

/* sign is 0, or -1 for -value */
static inline int32_t drnn_with_sign(int32_t value, int32_t sign)
{
    return (value ^ sign) - sign;
}

/* sigmoid(x) - 1/2 in Q0.32, in [0, 2^31), of x in Q20, in [0, 2^31). */
static inline int32_t drnn_above_half_q32(int32_t x_q20)
{
    const uint32_t x = drnn_cut(x_q20, DRNN_ARGUMENT_BITS);
    const uint32_t entry = drnn_sigmoid_table[x >> DRNN_FRACTION_BITS];
    return (int32_t)drnn_mul_halves(entry, x, entry);
}

/* sigmoid(x) in Q1.14 of x in Q20. */
static inline int32_t drnn_sigmoid_narrow_q14(int32_t x_q20)
{
    const int32_t sign = x_q20 >> 31;
    const int32_t above = drnn_with_sign(drnn_above_half_q32(drnn_with_sign(x_q20, sign)), sign);
    return drnn_scale_down(above, drnn_divisor(32 - 14)) + DRNN_ONE_Q14 / 2;
}

/* tanh(x) = 2 sigmoid(2 x) - 1 in Q1.14 of x in Q21: the magnitude is rounded, so that it is odd. */
static inline int32_t drnn_tanh_narrow_q14(int32_t x_q21)
{
    const int32_t sign = x_q21 >> 31;
    const int32_t above = drnn_above_half_q32(drnn_with_sign(x_q21, sign));
    return drnn_with_sign(drnn_scale_down(above, drnn_divisor(31 - 14)), sign);
}

/* round(m / 2^bits), within +-2^30; bits in [0, 31]. */
int32_t drnn_wide_argument(int64_t m, int bits);

#endif
