/*
 * The functions that the baseline needs of a mathematical library, so that none is linked: its counts do not depend on
 * one, and it builds for every board. The exponential is accurate to 1.2e-7 of its value, or to 4e-6 where the compiler
 * may join the two parts of ln 2 (-ffast-math).
 */
#ifndef FLOAT_MATH_H
#define FLOAT_MATH_H

#include <stdint.h>
#include <string.h>

#define FLOAT_EXP_LIMIT 87.0f
#define FLOAT_BIAS 127

/* e^x, x held to +-FLOAT_EXP_LIMIT: 2^k e^r with |r| <= ln 2 / 2, and the Taylor series of e^r. */
static inline float float_exp(float x)
{
    x = x > FLOAT_EXP_LIMIT ? FLOAT_EXP_LIMIT : x;
    x = x < -FLOAT_EXP_LIMIT ? -FLOAT_EXP_LIMIT : x;
    const int32_t k = (int32_t)(x * 1.44269504f + (x < 0.0f ? -0.5f : 0.5f));
    const float r = (x - (float)k * 0.693359375f) + (float)k * 2.12194440e-4f; /* ln 2 in two parts */
    float sum = 1.0f / 5040.0f;
    sum = sum * r + 1.0f / 720.0f;
    sum = sum * r + 1.0f / 120.0f;
    sum = sum * r + 1.0f / 24.0f;
    sum = sum * r + 1.0f / 6.0f;
    sum = sum * r + 0.5f;
    sum = sum * r + 1.0f;
    sum = sum * r + 1.0f;
    const uint32_t bits = (uint32_t)(k + FLOAT_BIAS) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return sum * power;
}

static inline float float_sigmoid(float x)
{
    return 1.0f / (1.0f + float_exp(-x));
}

static inline float float_tanh(float x)
{
    return 1.0f - 2.0f / (1.0f + float_exp(2.0f * x));
}

/* Once a training step each, so short instead of fast: ln x for x >= 1, and the square root, by Newton's method. */

static inline float float_log(float x)
{
    float y = 0.0f;
    for (int32_t k = 0; k < 12; k++) {
        const float e = float_exp(y);
        y += 2.0f * (x - e) / (x + e);
    }
    return y;
}

static inline float float_sqrt(float x)
{
    float y = x > 1.0f ? x : 1.0f;
    for (int32_t k = 0; k < 40 && y * y > x; k++) {
        y = 0.5f * (y + x / y);
    }
    return y;
}

#endif
