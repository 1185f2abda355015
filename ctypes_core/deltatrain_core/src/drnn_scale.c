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

/* floor(sqrt(value)), by Newton's steps from above; value > 0. */
static uint32_t root_of(uint32_t value)
{
    uint32_t root = (uint32_t)1 << (drnn_bit_length(value) + 1) / 2; /* at most 2^16, and above */
    for (;;) {
        const uint32_t next = (root + value / root) / 2;
        if (next >= root) {
            return root;
        }
        root = next;
    }
}

/* As value < 2^60, its parts fit 32 bits. */
uint32_t drnn_sqrt_ceil(uint64_t value)
{
    if (value == 0) {
        return 0;
    }
    const uint32_t high = (uint32_t)(value >> 32);
    uint32_t low = (uint32_t)value;
    const uint32_t word = high != 0 ? high : low;
    uint32_t root = root_of(word);
    uint32_t rest = word - root * root;
    /* Of a value beyond 32 bits two bits of the lower word for each further bit of the root: rest <= 2 root all the time. */
    for (int i = 0; high != 0 && i < 16; ++i) {
        rest = rest << 2 | low >> 30;
        low <<= 2;
        const uint32_t trial = root << 2 | 1u;
        root <<= 1;
        if (rest >= trial) {
            rest -= trial;
            root |= 1u;
        }
    }
    return rest == 0 ? root : root + 1;
}
