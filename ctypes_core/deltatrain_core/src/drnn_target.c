/*
 * Targets: what a frame's outputs should have been, the loss, and its gradient d_t for the way back. The gradient is
 * that of the sum over the targets; the mean is taken in the step size. NUMERICS.md, "Loss" and "Gradients".
 */
#include "drnn.h"

#include <string.h>

#include "drnn_fixed.h"
#include "drnn_internal.h"
#include "drnn_softmax.h"

#define D_OUTPUT_BITS 14           /* d_outputs are at most 2^14 in magnitude */
#define D_CLASS_FRAC_BITS 30       /* of d_logits: p - onehot */
#define D_VALUE_FRAC_BITS 15       /* of d_logits: twice the error, which has one fraction bit more */
#define BETA_FRAC_BITS 30
#define NO_SHIFT (-64)             /* of d_shift: below every other */
#define MAX_LOSS_SUM ((uint64_t)1 << 63)

static int d_frac_bits(const drnn_t *net)
{
    return drnn_readout_of(net->model) == DRNN_REGRESSION ? D_VALUE_FRAC_BITS : D_CLASS_FRAC_BITS;
}

void drnn_begin_targets(drnn_t *net)
{
    net->d_shift = NO_SHIFT;
    net->n_judged = 0;
    net->loss_sum = 0;
    if (drnn_readout_of(net->model) != DRNN_LAST && drnn_memory_of(net->model) != DRNN_INFERENCE) {
        memset(drnn_d_outputs(net), 0, (uint32_t)net->model->max_steps * net->model->n_outputs * sizeof(int16_t));
    }
}

/* Let the stored d_outputs be shortened by `shift` at least, those of earlier frames too. */
static void shorten(drnn_t *net, int shift)
{
    if (net->d_shift != NO_SHIFT && net->d_shift < shift) {
        /* None stands there yet of DRNN_LAST, whose beta is known before its target. */
        const uint32_t count = drnn_readout_of(net->model) == DRNN_LAST ? 0 : net->n_judged * net->model->n_outputs;
        int16_t *d = drnn_d_outputs(net);
        for (uint32_t i = 0; i < count; ++i) {
            d[i] = (int16_t)drnn_round_shift(d[i], shift - net->d_shift); /* by 41 bits at most */
        }
    }
    if (net->d_shift < shift) {
        net->d_shift = shift;
    }
}

/* The frame's d_logits -> its row of d_outputs: the largest of the sample has 14 bits, small errors keep precision. */
static void store_gradient(drnn_t *net)
{
    const uint32_t n_outputs = net->model->n_outputs;
    const int32_t *d_logits = drnn_d_logits(net);
    const uint32_t row = drnn_readout_of(net->model) == DRNN_LAST ? 0 : net->n_steps - 1;
    int16_t *d = &drnn_d_outputs(net)[row * n_outputs];
    const uint32_t largest = drnn_largest(d_logits, n_outputs);
    if (largest != 0) {
        shorten(net, drnn_bit_length(largest) - D_OUTPUT_BITS); /* by -13 .. 17 */
    }
    const int shift = net->d_shift == NO_SHIFT ? 0 : net->d_shift;
    for (uint32_t k = 0; k < n_outputs; ++k) {
        d[k] = (int16_t)drnn_rescale(d_logits[k], shift);
    }
}

static void store(drnn_t *net)
{
    if (drnn_memory_of(net->model) != DRNN_INFERENCE) { /* the way back alone needs it */
        store_gradient(net);
    }
    net->n_judged = net->n_steps;
    ++net->result.n_targets;
}

void drnn_judge_class(drnn_t *net, uint16_t label)
{
    const uint16_t n_classes = net->model->n_outputs;
    /* At most DRNN_MAX_STEPS * 2^31 = 2^43. */
    net->loss_sum +=
        (uint64_t)drnn_softmax_cross_entropy(drnn_logits(net), n_classes, label, drnn_d_logits(net));
    net->result.n_wrong += drnn_argmax(drnn_logits(net), n_classes) != label;
    store(net);
}

static void judge_values(drnn_t *net, const int32_t *values)
{
    for (uint32_t k = 0; k < net->model->n_outputs; ++k) {
        const int32_t error = drnn_saturate((int64_t)drnn_logits(net)[k] - values[k], DRNN_INT32_MAX,
                                            &net->result.saturated_grad);
        drnn_d_logits(net)[k] = error;
        net->loss_sum += (uint64_t)((int64_t)error * error); /* below 2^63 + 2^62 */
        net->loss_sum = net->loss_sum < MAX_LOSS_SUM ? net->loss_sum : MAX_LOSS_SUM;
    }
    store(net);
}

/* Whether the frame just pushed may be given a target for this readout: 0, or an error. */
static int may_judge(const drnn_t *net, uint8_t readout)
{
    if (drnn_readout_of(net->model) != readout) {
        return DRNN_ERR_READOUT;
    }
    if (net->phase != DRNN_PHASE_SAMPLE) {
        return DRNN_ERR_STATE;
    }
    if (net->n_steps == 0) {
        return DRNN_ERR_EMPTY;
    }
    return net->n_judged == net->n_steps ? DRNN_ERR_STATE : DRNN_OK;
}

int drnn_target_class(drnn_t *net, uint16_t label)
{
    const int refused = may_judge(net, DRNN_FRAMES);
    if (refused != DRNN_OK) {
        return refused;
    }
    if (label >= net->model->n_outputs) {
        return DRNN_ERR_LABEL;
    }
    drnn_readout_forward(net);
    drnn_judge_class(net, label);
    return DRNN_OK;
}

int drnn_target_values(drnn_t *net, const int32_t *values)
{
    const int refused = may_judge(net, DRNN_REGRESSION);
    if (refused != DRNN_OK) {
        return refused;
    }
    for (uint32_t k = 0; k < net->model->n_outputs; ++k) {
        if (values[k] > DRNN_TARGET_MAX || values[k] < -DRNN_TARGET_MAX) {
            return DRNN_ERR_RANGE;
        }
    }
    drnn_readout_forward(net);
    judge_values(net, values);
    return DRNN_OK;
}

/* beta in Q30, rounded down; below 2^30. */
static int64_t beta_q30(const drnn_t *net)
{
    const drnn_scale_t beta = net->config.beta;
    const int shift = -(beta.e + BETA_FRAC_BITS); /* in [-14, 34]: drnn_configure bounds e */
    return shift < 0 ? (int64_t)beta.m << -shift : shift < 16 ? (int64_t)(beta.m >> shift) : 0;
}

int64_t drnn_make_room_for_beta(drnn_t *net, uint32_t times)
{
    const int64_t beta = beta_q30(net) * times; /* below 2^50 */
    if (beta != 0) {
        /* by -28 .. 28 */
        shorten(net, drnn_bit_length((uint64_t)beta) - D_OUTPUT_BITS - (BETA_FRAC_BITS - d_frac_bits(net)));
    }
    net->result.grad_exponent = (net->d_shift == NO_SHIFT ? 0 : net->d_shift) - d_frac_bits(net);
    return beta;
}

/* round(value / divisor), halves up; value <= 2^63, divisor <= 2^36. One bit a round: no division of 64 bits. */
static uint64_t divided(uint64_t value, uint64_t divisor)
{
    const uint64_t dividend = value + divisor / 2;
    uint64_t quotient = 0;
    uint64_t rest = 0;
    for (int bit = drnn_bit_length(dividend) - 1; bit >= 0; --bit) {
        rest = (rest << 1) | ((dividend >> bit) & 1u);
        quotient <<= 1;
        if (rest >= divisor) {
            rest -= divisor;
            quotient |= 1u;
        }
    }
    return quotient;
}

int32_t drnn_mean_loss(const drnn_t *net)
{
    if (net->result.n_targets == 0) {
        return 0;
    }
    const int to_q16 = drnn_readout_of(net->model) == DRNN_REGRESSION ? 16 : 0; /* squares are Q32 */
    const uint64_t mean = divided(net->loss_sum, (uint64_t)drnn_n_errors(net) << to_q16);
    return mean > DRNN_INT32_MAX ? DRNN_INT32_MAX : (int32_t)mean;
}
