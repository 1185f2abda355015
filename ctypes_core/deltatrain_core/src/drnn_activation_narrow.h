/*
 * Sigmoid and tanh of arguments of 32 bits, for the inner loops of the cells. The same values as drnn_activation.h.
 */
#ifndef DRNN_ACTIVATION_NARROW_H
#define DRNN_ACTIVATION_NARROW_H

#include "drnn_fixed.h"
#include "drnn_tables.h"

#define DRNN_ARGUMENT_FRAC_BITS 13
#define DRNN_ARGUMENT_MAX (((int32_t)DRNN_SIGMOID_RANGE << DRNN_ARGUMENT_FRAC_BITS) - 1)

/* sigmoid(|x|) - 1/2 in Q0.16, in [0, 32768]; x in Q13, |x| < 2^31. */
static inline int32_t drnn_above_half_q16(int32_t x_q13)
{
    const int step_bits = DRNN_ARGUMENT_FRAC_BITS - DRNN_SIGMOID_STEP_FRAC_BITS; /* of x, between two entries */
    int32_t magnitude = x_q13 < 0 ? -x_q13 : x_q13;
    magnitude = magnitude < DRNN_ARGUMENT_MAX ? magnitude : DRNN_ARGUMENT_MAX;
    const uint16_t *entry = &drnn_sigmoid_table[magnitude >> step_bits];
    const int32_t fraction = magnitude & ((1 << step_bits) - 1);
    const int32_t low = entry[0];
    const int32_t rise = entry[1] - low;
    return low + ((rise * fraction + (1 << (step_bits - 1))) >> step_bits);
}

static inline int32_t drnn_sigmoid_narrow_q14(int32_t x_q13)
{
    const int32_t above_half = drnn_above_half_q16(x_q13);
    const int32_t sigmoid_q16 = 32768 + (x_q13 < 0 ? -above_half : above_half);
    return (sigmoid_q16 + 2) >> 2;
}

static inline int32_t drnn_tanh_narrow_q14(int32_t x_q14)
{
    /* x in Q14 is 2x in Q13, and 2 * (Q16 value) in Q14 is half of it. */
    const int32_t tanh_q14 = (drnn_above_half_q16(x_q14) + 1) >> 1;
    return x_q14 < 0 ? -tanh_q14 : tanh_q14;
}

/* As drnn_argument, of an M beyond 32 bits. */
int32_t drnn_wide_argument(int64_t m, int bits);

/* round(m / 2^bits) where it matters to an activation; beyond +-2^30, where none changes, that. bits in [1, 31]. */
static inline int32_t drnn_argument(int64_t m, int bits)
{
    const int32_t narrow = (int32_t)m;
    return DRNN_LIKELY(narrow == m) ? drnn_round_shift_narrow(narrow, bits) : drnn_wide_argument(m, bits);
}

/* sigmoid and tanh of M [count] with m_frac_bits. Loops apart, for their values to stay in registers. */
static inline void drnn_sigmoids(int16_t *restrict gates, const int64_t *restrict m, uint32_t count, int m_frac_bits)
{
    for (uint32_t k = 0; k < count; ++k) {
        gates[k] = (int16_t)drnn_sigmoid_narrow_q14(drnn_argument(m[k], m_frac_bits - 13));
    }
}

static inline void drnn_tanhs(int16_t *restrict gates, const int64_t *restrict m, uint32_t count, int m_frac_bits)
{
    for (uint32_t k = 0; k < count; ++k) {
        gates[k] = (int16_t)drnn_tanh_narrow_q14(drnn_argument(m[k], m_frac_bits - 14));
    }
}

#endif
