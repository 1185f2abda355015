/*
 * Positive real numbers m * 2^e with 16 significant bits (`drnn_scale_t`): learning rate, clip, norm bound, step size.
 * A handful of operations a training step, so plain 32-bit division serves. NUMERICS.md, "Step size".
 */
#ifndef DRNN_SCALE_H
#define DRNN_SCALE_H

#include "drnn_types.h"

#define DRNN_SCALE_MIN_M 32768u

/* value * 2^exponent, rounded up, so that a bound stays a bound. */
drnn_scale_t drnn_scale_ceil(uint64_t value, int exponent);

/* a + b, rounded up. */
drnn_scale_t drnn_scale_add_ceil(drnn_scale_t a, drnn_scale_t b);

/* a * b, rounded down. */
drnn_scale_t drnn_scale_mul(drnn_scale_t a, drnn_scale_t b);

/* a / b, rounded down; b is not zero. */
drnn_scale_t drnn_scale_div(drnn_scale_t a, drnn_scale_t b);

/* 1 when a > b. */
int drnn_scale_greater(drnn_scale_t a, drnn_scale_t b);

#endif
