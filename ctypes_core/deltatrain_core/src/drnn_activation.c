#include "drnn_activation.h"

#include "drnn_fixed.h"
#include "drnn_tables.h"

#define ARGUMENT_FRAC_BITS 13
#define STEP_BITS (ARGUMENT_FRAC_BITS - DRNN_SIGMOID_STEP_FRAC_BITS) /* bits of the argument between two entries */
#define ARGUMENT_MAX (((int32_t)DRNN_SIGMOID_RANGE << ARGUMENT_FRAC_BITS) - 1)

/* sigmoid(|x|) - 1/2 in Q0.16, in [0, 32768]. */
static int32_t above_half_q16(int64_t x_q13)
{
    int32_t magnitude = ARGUMENT_MAX;
    if (x_q13 > -ARGUMENT_MAX && x_q13 < ARGUMENT_MAX) {
        magnitude = (int32_t)(x_q13 < 0 ? -x_q13 : x_q13);
    }
    const int32_t index = magnitude >> STEP_BITS;
    const int32_t fraction = magnitude & ((1 << STEP_BITS) - 1);
    const int32_t low = drnn_sigmoid_table[index];
    const int32_t rise = drnn_sigmoid_table[index + 1] - low;
    return low + ((rise * fraction + (1 << (STEP_BITS - 1))) >> STEP_BITS);
}

int32_t drnn_sigmoid_q14(int64_t x_q13)
{
    const int32_t above_half = above_half_q16(x_q13);
    const int32_t sigmoid_q16 = 32768 + (x_q13 < 0 ? -above_half : above_half);
    return (sigmoid_q16 + 2) >> 2;
}

int32_t drnn_tanh_q14(int64_t x_q14)
{
    /* x in Q14 is 2x in Q13, and 2 * (Q16 value) in Q14 is half of it. */
    const int32_t tanh_q14 = (above_half_q16(x_q14) + 1) >> 1;
    return x_q14 < 0 ? -tanh_q14 : tanh_q14;
}
