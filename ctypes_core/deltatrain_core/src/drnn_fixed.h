/*
 * Fixed-point arithmetic: one rounding shift, one saturation, nothing undefined. NUMERICS.md, "Rounding".
 */
#ifndef DRNN_FIXED_H
#define DRNN_FIXED_H

#include <stdint.h>

_Static_assert((-1 >> 1) == -1, "right shifts of negative numbers must be arithmetic");

#define DRNN_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define DRNN_RARE __attribute__((cold, noinline)) /* a function to be small, not fast */

#define DRNN_ONE_Q14 16384
#define DRNN_ONE_Q28 268435456
#define DRNN_INT16_MAX 32767       /* limits of saturation, which is symmetric: no result is -32768 or -2^31 */
#define DRNN_INT32_MAX 2147483647

/*
 * value / 2^bits, to nearest, halves up; bits in [0, 62], |value| + 2^(bits-1) < 2^63. This and the two below are no inline
 * functions: on a processor of 32 bits each copy takes much flash, and no loop that matters calls them.
 */
int64_t drnn_round_shift(int64_t value, int bits);

/* The same for a shift of either sign; to the left |value| * 2^-bits must stay below 2^63. */
int64_t drnn_rescale(int64_t value, int bits);

/* Clamp to [-limit, limit] and count it in *saturated. */
int32_t drnn_saturate(int64_t value, int32_t limit, uint32_t *saturated);

/* The same for a value of 32 bits: one comparison where nothing saturates. limit < 2^30, |value| < 2^30. */
static inline int32_t drnn_saturate_narrow(int32_t value, int32_t limit, uint32_t *saturated)
{
    return DRNN_LIKELY((uint32_t)(value + limit) <= (uint32_t)(2 * limit)) ? value : drnn_saturate(value, limit, saturated);
}

/* Bits of a magnitude, or of one less: what several are at most, once or-ed. */
static inline uint32_t drnn_bits(int32_t value)
{
    return (uint32_t)(value ^ (value >> 31));
}

/* The same to +-32767: one comparison where nothing saturates, but for 32767 itself. */
static inline int32_t drnn_saturate16(int32_t value, uint32_t *saturated)
{
    return DRNN_LIKELY(drnn_bits(value) < DRNN_INT16_MAX) ? value : drnn_saturate(value, DRNN_INT16_MAX, saturated);
}

/*
 * value / 2^bits, rounded down, where that fits 32 bits; bits in [1, 31]. On a processor of 32 bits three instructions,
 * of which a shift of 64 bits takes eight.
 */
static inline int32_t drnn_shift_narrow(int64_t value, int bits)
{
    const uint32_t low = (uint32_t)(uint64_t)value;
    const uint32_t high = (uint32_t)((uint64_t)value >> 32);
    return (int32_t)((low >> bits) | (high << (32 - bits)));
}

/* value / 2^bits, rounded as drnn_round_shift does; bits in [1, 31]. */
static inline int32_t drnn_round_shift_narrow(int32_t value, int bits)
{
    return ((value >> (bits - 1)) + 1) >> 1;
}

/* value within [0, 2^bits - 1]; value >= 0, bits constant. */
static inline uint32_t drnn_cut(int32_t value, int bits)
{
#ifdef __ARM_FEATURE_DSP
    uint32_t result;
    __asm__("usat %0, %1, %2" : "=r"(result) : "I"(bits), "r"(value));
    return result;
#else
    const uint32_t most = (1u << bits) - 1u;
    return (uint32_t)value < most ? (uint32_t)value : most;
#endif
}

/* The product of the low halves of a and b, as int16, and what is added to it. */
static inline uint32_t drnn_mul_halves(uint32_t a, uint32_t b, uint32_t addend)
{
#ifdef __ARM_FEATURE_DSP
    uint32_t result;
    __asm__("smlabb %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(addend));
    return result;
#else
    return (uint32_t)((int16_t)a * (int16_t)b) + addend;
#endif
}

/*
 * The factor with which drnn_scale_down divides by 2^bits, rounding as drnn_round_shift does; bits in [2, 31]. With the DSP
 * extension the division is one multiplication, of which the high word is rounded.
 */
static inline int32_t drnn_divisor(int bits)
{
#ifdef __ARM_FEATURE_DSP
    return (int32_t)((uint32_t)1 << (32 - bits));
#else
    return bits;
#endif
}

static inline int32_t drnn_scale_down(int32_t value, int32_t divisor)
{
#ifdef __ARM_FEATURE_DSP
    int32_t result;
    __asm__("smmulr %0, %1, %2" : "=r"(result) : "r"(value), "r"(divisor));
    return result;
#else
    return drnn_round_shift_narrow(value, divisor);
#endif
}

/*
 * drnn_mul_q14 and drnn_mul_q28: a * b / 2^bits, rounded, for |b| <= 2^bits and |a| < 2^31. No more than |a| in magnitude,
 * so that nothing saturates. In Thumb-2 the carry of the shift is the half that rounds: three instructions.
 */
#ifdef __thumb2__
#define DRNN_DEFINE_MUL(name, bits) \
    static inline int32_t name(int32_t a, int32_t b) \
    { \
        int32_t low, high; \
        __asm__("smull %0, %1, %2, %3\n" \
                "lsrs %0, %0, #" #bits "\n" \
                "adc %0, %0, %1, lsl #(32 - " #bits ")" \
                : "=&r"(low), "=&r"(high) \
                : "r"(a), "r"(b) \
                : "cc"); \
        return low; \
    }
#else
#define DRNN_DEFINE_MUL(name, bits) \
    static inline int32_t name(int32_t a, int32_t b) \
    { \
        return drnn_shift_narrow((int64_t)a * b + ((int64_t)1 << ((bits)-1)), bits); \
    }
#endif

DRNN_DEFINE_MUL(drnn_mul_q14, 14)
DRNN_DEFINE_MUL(drnn_mul_q28, 28)

/* a * b / 2^32, rounded as drnn_round_shift does: with the DSP extension one instruction. */
static inline int32_t drnn_mul_high(int32_t a, int32_t b)
{
#ifdef __ARM_FEATURE_DSP
    int32_t result;
    __asm__("smmulr %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
#else
    return (int32_t)(((int64_t)a * b + ((int64_t)1 << 31)) >> 32);
#endif
}

/* value / 2^bits, rounded likewise, by a factor that drnn_small_divisor makes of bits; |value| < 2^29, bits in [0, 17]. */
static inline int32_t drnn_small_divisor(int bits)
{
    return (int32_t)1 << (30 - bits);
}

static inline int32_t drnn_small_scale_down(int32_t value, int32_t divisor)
{
    return drnn_mul_high(value * 4, divisor);
}

/*
 * The same products as drnn_mul_q14, drnn_mul_q28 and drnn_mul_narrow of carried gradients a that are small, by drnn_mul_high:
 *
 *     drnn_small_mul_q14      |a| < 2^29, |b| < 2^15
 *     drnn_small_mul_slope    a * b (1 - b) for b in [0, 1] as Q14: the slope of a sigmoid
 *     drnn_small_mul_rest     a * (1 - b^2) for |b| <= 1 as Q14: the slope of tanh; |a| < 2^29
 *     drnn_small_mul          a * b / 2^frac_bits, |b| < 2^15, frac_bits in [4, 14], |a| < 2^(14 + frac_bits)
 */
static inline int32_t drnn_small_mul_q14(int32_t a, int32_t b)
{
    return drnn_mul_high(a * 4, b * 65536);
}

static inline int32_t drnn_small_mul_slope(int32_t a, int32_t b)
{
    return drnn_mul_high(a, (DRNN_ONE_Q14 - b) * b * 16); /* b (1 - b) <= 1/4: at most 2^30 */
}

static inline int32_t drnn_small_mul_rest(int32_t a, int32_t b)
{
    return drnn_mul_high(a * 4, 4 * DRNN_ONE_Q28 - 2 * b * (2 * b));
}

static inline int32_t drnn_small_mul(int32_t a, int32_t b, int frac_bits)
{
    return drnn_mul_high(a * ((int32_t)1 << (17 - frac_bits)), b * 32768);
}

/*
 * Carried gradients whose magnitudes are all below this before a step of a cell with c_frac_bits are small on the way: sums of
 * two stay below 2^27, what c or M_nh multiplies (at most half of this) below 2^(13 + c_frac_bits), and so all below 2^29.
 */
static inline uint32_t drnn_small(int c_frac_bits)
{
    return (uint32_t)1 << (c_frac_bits < 12 ? 14 + c_frac_bits : 26);
}

/* a * b / 2^frac_bits, rounded and saturated to int32: one factor of a carried gradient. |a| < 2^31, |b| <= 2^28: 2^59. */
static inline int32_t drnn_mul_q(int32_t a, int32_t b, int frac_bits, uint32_t *saturated)
{
    return drnn_saturate(drnn_round_shift((int64_t)a * b, frac_bits), DRNN_INT32_MAX, saturated);
}

/* The same for |b| <= 2^15 and frac_bits in [4, 14]: shorter where nothing saturates, which the product's high word tells. */
static inline int32_t drnn_mul_narrow(int32_t a, int32_t b, int frac_bits, uint32_t *saturated)
{
    const int64_t product = (int64_t)a * b + ((int64_t)1 << (frac_bits - 1));
    const uint32_t quarter = (uint32_t)1 << (frac_bits - 2); /* so that the result is below 2^30 */
    if (DRNN_LIKELY((uint32_t)(product >> 32) + quarter < 2 * quarter)) {
        return drnn_shift_narrow(product, frac_bits);
    }
    return drnn_mul_q(a, b, frac_bits, saturated);
}

/* *sum += addend, saturated to int32. */
static inline void drnn_add_to(int32_t *sum, int32_t addend, uint32_t *saturated)
{
    int32_t result;
    if (!DRNN_LIKELY(!__builtin_add_overflow(*sum, addend, &result) && result != -DRNN_INT32_MAX - 1)) {
        result = drnn_saturate((int64_t)*sum + addend, DRNN_INT32_MAX, saturated);
    }
    *sum = result;
}

/* Number of bits of value: 0 for 0, else 1 + floor(log2 value). */
static inline int drnn_bit_length(uint64_t value)
{
    return value == 0 ? 0 : 64 - __builtin_clzll(value);
}

static inline uint32_t drnn_magnitude(int32_t value)
{
    return value < 0 ? 0u - (uint32_t)value : (uint32_t)value;
}

/* The largest magnitude of values [count]. */
static inline uint32_t drnn_largest(const int32_t *values, uint32_t count)
{
    uint32_t largest = 0;
    for (uint32_t i = 0; i < count; ++i) {
        const uint32_t magnitude = drnn_magnitude(values[i]);
        if (magnitude > largest) {
            largest = magnitude;
        }
    }
    return largest;
}

/* drnn_scale.c: smallest root with root * root >= value; value < 2^60. No division. */
uint32_t drnn_sqrt_ceil(uint64_t value);

#endif
