/*
 * Random bits by counter: a weight's bits depend on (seed, step, tensor, index) and on nothing else, so that kernels,
 * orders of columns and resumed runs all agree. NUMERICS.md, "Stochastic rounding".
 */
#ifndef DRNN_RANDOM_H
#define DRNN_RANDOM_H

#include <stdint.h>

#define DRNN_RANDOM_STRIDE 0x9e3779b9u /* between the counters of neighbouring pairs */

/* A bijection of 32 bits whose output bits each depend on every input bit (C. Wellons' "lowbias32", public domain). */
static inline uint32_t drnn_mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    x ^= x >> 16;
    return x;
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
