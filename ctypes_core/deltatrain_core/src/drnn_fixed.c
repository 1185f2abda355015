#include "drnn_fixed.h"

int64_t drnn_round_shift(int64_t value, int bits)
{
    return bits == 0 ? value : (value + ((int64_t)1 << (bits - 1))) >> bits;
}

int64_t drnn_rescale(int64_t value, int bits)
{
    return bits >= 0 ? drnn_round_shift(value, bits) : value * ((int64_t)1 << -bits);
}

int32_t drnn_saturate(int64_t value, int32_t limit, uint32_t *saturated)
{
    if (value > limit) {
        ++*saturated;
        return limit;
    }
    if (value < -(int64_t)limit) {
        ++*saturated;
        return -limit;
    }
    return (int32_t)value;
}
