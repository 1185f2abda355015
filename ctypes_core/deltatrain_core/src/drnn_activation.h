/*
 * Sigmoid and tanh by one table of sigmoid with linear interpolation. Both are odd about their middle, exactly.
 */
#ifndef DRNN_ACTIVATION_H
#define DRNN_ACTIVATION_H

#include <stdint.h>

/* sigmoid(x) in Q1.14, in [0, 16384], of any x in Q20. Worst error: 0.8 of 2^-14 (tests/test_fixed.py measures it). */
int32_t drnn_sigmoid_q14(int64_t x_q20);

/* tanh(x) = 2 sigmoid(2x) - 1 in Q1.14, in [-16384, 16384], of any x in Q21. Worst error: 1.1 of 2^-14. */
int32_t drnn_tanh_q14(int64_t x_q21);

#endif
