/*
 * Random bits by counter: a weight's bits depend on (seed, step, tensor, index) and on nothing else, so that kernels,
 * orders of columns and resumed runs all agree. NUMERICS.md, "Stochastic rounding".
 */
#ifndef DRNN_RANDOM_H
#define DRNN_RANDOM_H

#include <stdint.h>

#define DRNN_RANDOM_STRIDE 0x9e3779b9u /* between the counters of neighbouring pairs */

#define DRNN_MIX_FIRST 0x7feb352du
#define DRNN_MIX_SECOND 0x846ca68bu

/* A bijection of 32 bits whose output bits each depend on every input bit (C. Wellons' "lowbias32", public domain). */
static inline uint32_t drnn_mix_by(uint32_t x, uint32_t first, uint32_t second)
{
    x ^= x >> 16;
    x *= first;
    x ^= x >> 15;
    x *= second;
    x ^= x >> 16;
    return x;
}

static inline uint32_t drnn_mix(uint32_t x)
{
    return drnn_mix_by(x, DRNN_MIX_FIRST, DRNN_MIX_SECOND);
}

static inline uint32_t drnn_random_key(uint32_t seed, uint32_t step, uint32_t tensor)
{
    return drnn_mix(drnn_mix(drnn_mix(seed) + step) + tensor);
}

/* 32 bits for a pair of neighbours: the low half rounds element 2 * pair, the high half element 2 * pair + 1. */
static inline uint32_t drnn_random_pair(uint32_t key, uint32_t pair)
{
    return drnn_mix(key + pair * DRNN_RANDOM_STRIDE);
}

#endif
