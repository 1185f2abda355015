/*
 * The stochastic step of weights by MVE, and sums of squares.
 */
#ifndef DRNN_UPDATE_MVE_H
#define DRNN_UPDATE_MVE_H

#include "drnn_random.h"
#include "drnn_vector_mve.h"

#define DRNN_STEP_BLOCK 8u /* weights of a round: four pairs */

static inline uint32x4_t drnn_mix_mve(uint32x4_t x)
{
    x = veorq_u32(x, vshrq_n_u32(x, 16));
    x = vmulq_n_u32(x, DRNN_MIX_FIRST);
    x = veorq_u32(x, vshrq_n_u32(x, 15));
    x = vmulq_n_u32(x, DRNN_MIX_SECOND);
    return veorq_u32(x, vshrq_n_u32(x, 16));
}

/* (sum * m) >> 32 >> shift, plus 16 random bits: the step in the upper half. */
static inline int32x4_t drnn_quotients_mve(int32x4_t sums, int32x4_t m, int shift, uint32x4_t random)
{
    return vaddq_s32(vshlq_r_s32(vmulhq_s32(sums, m), -shift), vreinterpretq_s32_u32(random));
}

/*
 * As many weights as fill rounds, w [rows] by sums [rows]; the pairs' counters begin at `counter`. Steps are below 2^15, as
 * |quotient| <= 2^30. Returns how many weights were stepped.
 */
static inline uint32_t drnn_step_mve(int16_t *w, const int32_t *sums, uint32_t rows, uint32_t counter, int32_t quotient_m,
                                     int shift, uint32_t *saturated)
{
    const int32x4_t m = vdupq_n_s32(quotient_m);
    const int16x8_t least = vdupq_n_s16(-32767);
    const uint16x8_t ones = vdupq_n_u16(1);
    uint32x4_t counters = vaddq_n_u32(vmulq_n_u32(vidupq_n_u32(0, 1), DRNN_RANDOM_STRIDE), counter);
    uint32_t count = *saturated;
    uint32_t row = 0;
    for (; row + DRNN_STEP_BLOCK <= rows; row += DRNN_STEP_BLOCK) {
        const uint16x8_t random = vreinterpretq_u16_u32(drnn_mix_mve(counters));
        counters = vaddq_n_u32(counters, 4u * DRNN_RANDOM_STRIDE);
        const int32x4x2_t pairs = vld2q_s32(&sums[row]); /* the first of each pair, and the second */
        int16x8_t steps = vdupq_n_s16(0);
        steps = vshrnbq_n_s32(steps, drnn_quotients_mve(pairs.val[0], m, shift, vmovlbq_u16(random)), 16);
        steps = vshrntq_n_s32(steps, drnn_quotients_mve(pairs.val[1], m, shift, vmovltq_u16(random)), 16);
        const int16x8_t before = vldrhq_s16(&w[row]);
        const int16x8_t after = vmaxq_s16(vqsubq_s16(before, steps), least);
        const uint16x8_t differs = vreinterpretq_u16_s16(veorq_s16(after, vsubq_s16(before, steps))); /* modulo 2^16 */
        count = vaddvaq_u16(count, vminq_u16(differs, ones));
        vstrhq_s16(&w[row], after);
    }
    *saturated = count;
    return row;
}

/* Sum of squares of values [n], n a multiple of 8. */
static inline uint64_t drnn_squares_mve(const int16_t *values, uint32_t n)
{
    int64_t sum = 0;
    for (uint32_t i = 0; i < n; i += 8) {
        const int16x8_t v = vldrhq_s16(&values[i]);
        sum = vmlaldavaq_s16(sum, v, v);
    }
    return (uint64_t)sum;
}

#endif
