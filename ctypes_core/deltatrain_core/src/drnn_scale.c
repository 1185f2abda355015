#include "drnn_scale.h"

#include "drnn_fixed.h"

#define MANTISSA_BITS 16

drnn_scale_t drnn_scale_ceil(uint64_t value, int exponent)
{
    drnn_scale_t result = {0, 0};
    if (value == 0) {
        return result;
    }
    const int excess = drnn_bit_length(value) - MANTISSA_BITS;
    uint64_t m = excess > 0 ? value >> excess : value << -excess;
    exponent += excess;
    if (excess > 0 && (m << excess) != value) {
        ++m;
    }
    if (m >> MANTISSA_BITS) { /* rounding up reached 65536 */
        m >>= 1;
        ++exponent;
    }
    result.m = (uint16_t)m;
    result.e = (int16_t)exponent;
    return result;
}

drnn_scale_t drnn_scale_add_ceil(drnn_scale_t a, drnn_scale_t b)
{
    if (a.m == 0) {
        return b;
    }
    if (b.m == 0) {
        return a;
    }
    const drnn_scale_t large = a.e >= b.e ? a : b;
    const drnn_scale_t small = a.e >= b.e ? b : a;
    const int distance = large.e - small.e;
    if (distance > MANTISSA_BITS) {
        return drnn_scale_ceil((uint64_t)large.m + 1, large.e); /* the small one is less than a unit of the large one */
    }
    return drnn_scale_ceil(((uint64_t)large.m << distance) + small.m, small.e);
}

drnn_scale_t drnn_scale_mul(drnn_scale_t a, drnn_scale_t b)
{
    drnn_scale_t result = {0, 0};
    if (a.m == 0 || b.m == 0) {
        return result;
    }
    const uint32_t product = (uint32_t)a.m * (uint32_t)b.m; /* in [2^30, 2^32) */
    const int high = product >> 31 ? MANTISSA_BITS : MANTISSA_BITS - 1;
    result.m = (uint16_t)(product >> high);
    result.e = (int16_t)(a.e + b.e + high);
    return result;
}

drnn_scale_t drnn_scale_div(drnn_scale_t a, drnn_scale_t b)
{
    drnn_scale_t result = {0, 0};
    if (a.m == 0) {
        return result;
    }
    const int up = a.m >= b.m ? MANTISSA_BITS - 1 : MANTISSA_BITS;
    result.m = (uint16_t)(((uint32_t)a.m << up) / (uint32_t)b.m); /* in [2^15, 2^16) */
    result.e = (int16_t)(a.e - b.e - up);
    return result;
}

int drnn_scale_greater(drnn_scale_t a, drnn_scale_t b)
{
    if (a.m == 0 || b.m == 0) {
        return a.m > b.m;
    }
    return a.e != b.e ? a.e > b.e : a.m > b.m;
}

/* Two bits of a root's square, the upper ones first, for each bit of the root: rest <= 2 root before and after. */
static void sqrt_word(uint32_t *root, uint32_t *rest, uint32_t word, int n_bits)
{
    uint32_t r = *root;
    uint32_t left = *rest;
    for (word <<= 32 - n_bits; n_bits > 0; n_bits -= 2) {
        left = left << 2 | word >> 30;
        word <<= 2;
        const uint32_t trial = r << 2 | 1u;
        r <<= 1;
        if (left >= trial) {
            left -= trial;
            r |= 1u;
        }
    }
    *root = r;
    *rest = left;
}

/* As value < 2^60, its parts fit 32 bits. */
uint32_t drnn_sqrt_ceil(uint64_t value)
{
    const uint32_t high = (uint32_t)(value >> 32);
    const uint32_t low = (uint32_t)value;
    uint32_t root = 0;
    uint32_t rest = 0;
    if (high != 0) {
        sqrt_word(&root, &rest, high, (drnn_bit_length(high) + 1) & ~1);
        sqrt_word(&root, &rest, low, 32);
    } else if (low != 0) {
        sqrt_word(&root, &rest, low, (drnn_bit_length(low) + 1) & ~1);
    }
    return rest == 0 ? root : root + 1;
}
