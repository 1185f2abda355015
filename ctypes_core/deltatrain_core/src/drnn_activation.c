#include "drnn_activation.h"

#include "drnn_activation_narrow.h"

int32_t drnn_wide_argument(int64_t m, int bits)
{
    const int64_t wide = drnn_round_shift(m, bits);
    const int32_t limit = (int32_t)1 << 30;
    return wide > limit ? limit : wide < -limit ? -limit : (int32_t)wide;
}

static int32_t clamped(int64_t x)
{
    const int32_t limit = DRNN_ARGUMENT_MAX;
    return x > limit ? limit : x < -limit ? -limit : (int32_t)x;
}

int32_t drnn_sigmoid_q14(int64_t x_q13)
{
    return drnn_sigmoid_narrow_q14(clamped(x_q13));
}

int32_t drnn_tanh_q14(int64_t x_q14)
{
    return drnn_tanh_narrow_q14(clamped(x_q14));
}
