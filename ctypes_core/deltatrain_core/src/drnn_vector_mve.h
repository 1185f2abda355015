/*
 * drnn_vector.h by MVE, the vector extension of ARMv8.1-M (Helium).
 */
#ifndef DRNN_VECTOR_MVE_H
#define DRNN_VECTOR_MVE_H

#include <arm_mve.h>
#include <stdint.h>

#define DRNN_LANES 4u
#define DRNN_ENCODE_LANES 8u

typedef int32x4_t drnn_v32_t;

static inline drnn_v32_t drnn_v_set(int32_t value)
{
    return vdupq_n_s32(value);
}

static inline drnn_v32_t drnn_v_load16(const int16_t *from)
{
    return vldrhq_s32(from);
}

static inline drnn_v32_t drnn_v_load32(const int32_t *from)
{
    return vldrwq_s32(from);
}

static inline void drnn_v_store16(int16_t *to, drnn_v32_t v)
{
    vstrhq_s32(to, v);
}

static inline void drnn_v_store32(int32_t *to, drnn_v32_t v)
{
    vstrwq_s32(to, v);
}

static inline drnn_v32_t drnn_v_add(drnn_v32_t a, drnn_v32_t b)
{
    return vaddq_s32(a, b);
}

static inline drnn_v32_t drnn_v_sub(drnn_v32_t a, drnn_v32_t b)
{
    return vsubq_s32(a, b);
}

static inline drnn_v32_t drnn_v_and(drnn_v32_t a, drnn_v32_t b)
{
    return vandq_s32(a, b);
}

static inline drnn_v32_t drnn_v_or(drnn_v32_t a, drnn_v32_t b)
{
    return vorrq_s32(a, b);
}

static inline drnn_v32_t drnn_v_xor(drnn_v32_t a, drnn_v32_t b)
{
    return veorq_s32(a, b);
}

static inline drnn_v32_t drnn_v_min(drnn_v32_t a, drnn_v32_t b)
{
    return vminq_s32(a, b);
}

static inline drnn_v32_t drnn_v_max(drnn_v32_t a, drnn_v32_t b)
{
    return vmaxq_s32(a, b);
}

static inline drnn_v32_t drnn_v_abs(drnn_v32_t v)
{
    return vabsq_s32(v);
}

static inline drnn_v32_t drnn_v_shift_left(drnn_v32_t v, int bits)
{
    return __builtin_constant_p(bits) ? v << bits : vshlq_r_s32(v, bits);
}

static inline drnn_v32_t drnn_v_shift_right(drnn_v32_t v, int bits)
{
    return __builtin_constant_p(bits) ? v >> bits : vshlq_r_s32(v, -bits);
}

static inline drnn_v32_t drnn_v_round_shift(drnn_v32_t v, int bits)
{
    return vrshlq_n_s32(v, -bits);
}

static inline drnn_v32_t drnn_v_mul_halves(drnn_v32_t a, drnn_v32_t b)
{
    return vmullbq_int_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
}

static inline drnn_v32_t drnn_v_mul_high(drnn_v32_t a, drnn_v32_t b)
{
    return vrmulhq_s32(a, b);
}

static inline drnn_v32_t drnn_v_with_sign(drnn_v32_t v, drnn_v32_t of)
{
    const drnn_v32_t sign = of >> 31;
    return vsubq_s32(veorq_s32(v, sign), sign);
}

static inline drnn_v32_t drnn_v_gather(const uint32_t *table, drnn_v32_t index)
{
    return vreinterpretq_s32_u32(vldrwq_gather_shifted_offset_u32(table, vreinterpretq_u32_s32(index)));
}

/* 1 where v is not 0. Without predicates, which the compiler moves to and fro. */
static inline uint32x4_t drnn_not_zero_mve(drnn_v32_t v)
{
    return vminq_u32(vreinterpretq_u32_s32(v), vdupq_n_u32(1));
}

static inline uint32_t drnn_v_count_unlike(uint32_t count, drnn_v32_t a, drnn_v32_t b)
{
    return vaddvaq_u32(count, drnn_not_zero_mve(veorq_s32(a, b)));
}

typedef uint32_t drnn_v_count_t;

static inline drnn_v_count_t drnn_v_no_count(void)
{
    return 0;
}

static inline void drnn_v_count_lost(drnn_v_count_t *count, drnn_v32_t rounded, drnn_v32_t exact)
{
    *count = vaddvaq_u32(*count, vsubq_u32(drnn_not_zero_mve(exact), drnn_not_zero_mve(rounded)));
}

static inline uint32_t drnn_v_counted(drnn_v_count_t count)
{
    return count;
}

static inline uint32_t drnn_v_any(drnn_v32_t v)
{
    return (uint32_t)(vgetq_lane_s32(v, 0) | vgetq_lane_s32(v, 1) | vgetq_lane_s32(v, 2) | vgetq_lane_s32(v, 3));
}

static inline int drnn_v_is_zero(drnn_v32_t v)
{
    return vmaxavq_s32(0, v) == 0;
}

static inline uint32_t drnn_v_beyond(const int16_t *v, const int16_t *v_hat, int32_t below)
{
    const int16x8_t distance = vabsq_s16(vsubq_s16(vldrhq_s16(v), vldrhq_s16(v_hat)));
    uint32_t bits = vcmpgtq_n_s16(distance, (int16_t)below) & 0x5555u; /* two bits a lane */
    if (bits == 0) {
        return 0;
    }
    bits = (bits | bits >> 1) & 0x3333u;
    bits = (bits | bits >> 2) & 0x0f0fu;
    return (bits | bits >> 4) & 0xffu;
}

#endif
