#include "drnn_activation.h"

#include "drnn_activation_narrow.h"

int32_t drnn_wide_argument(int64_t m, int bits)
{
    const int64_t wide = drnn_round_shift(m, bits);
    const int32_t limit = (int32_t)1 << 30;
    return wide > limit ? limit : wide < -limit ? -limit : (int32_t)wide;
}

int32_t drnn_sigmoid_q14(int64_t x_q20)
{
    return drnn_sigmoid_narrow_q14(drnn_wide_argument(x_q20, 0));
}

int32_t drnn_tanh_q14(int64_t x_q21)
{
    return drnn_tanh_narrow_q14(drnn_wide_argument(x_q21, 0));
}
