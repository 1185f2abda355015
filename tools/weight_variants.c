/*
 * Other ways to hold and round the recurrent weights, for tools/study_weights.py: never part of the product. The core
 * trains as ever; then the weights of its one layer are put back and moved anew, from the same dM, deltas and step size.
 * With every field at its default the outcome is the core's, word for word. The readout and all biases stay the core's.
 */
#include <string.h>

#include "drnn_fixed.h"
#include "drnn_history.h"
#include "drnn_random.h"
#include "drnn_scale.h"

#define SUM_FRAC_BITS 16 /* of changes that are summed over samples, below a weight's unit */

typedef struct {
    int32_t nearest;   /* round to nearest instead of stochastically */
    int32_t grid_bits; /* weights are multiples of 2^grid_bits: 8 makes them int8 in the same range */
    int32_t low_bits;  /* low-order bits kept beside each weight and not used but in the update */
    int32_t batch;     /* samples whose changes are summed before the weights move */
    int32_t n_summed;
    int16_t *before;   /* [weights]: scratch */
    int32_t *beside;   /* [weights]: low-order bits, or sums */
} weight_variant_t;

static drnn_scale_t step_size(const drnn_t *net)
{
    const drnn_scale_t bound = {(uint16_t)net->result.bound_m, (int16_t)net->result.bound_e};
    if (!drnn_scale_greater(bound, net->config.clip)) {
        return net->config.learning_rate;
    }
    return drnn_scale_div(drnn_scale_mul(net->config.learning_rate, net->config.clip), bound);
}

/* product / 2^shift, 0 < shift <= 62, rounded up with the probability of its fraction to 16 bits of random. */
static int64_t rounded(int64_t product, int shift, uint32_t random)
{
    const int64_t addend = shift >= 16 ? (int64_t)random << (shift - 16) : (int64_t)(random >> (16 - shift));
    return (product + addend) >> shift;
}

static int bounded_shift(int64_t *product, int shift)
{
    if (shift > 62) {
        *product >>= shift - 62 < 62 ? shift - 62 : 62;
        return 62;
    }
    return shift;
}

static void move_weight(weight_variant_t *v, drnn_t *net, uint32_t index, int64_t product, int shift, uint32_t random)
{
    int16_t *weight = &drnn_weight(net, 0)[index];
    uint32_t *saturated = &net->result.saturated_w;
    if (v->batch > 1) {
        shift = bounded_shift(&product, shift - SUM_FRAC_BITS);
        v->beside[index] = drnn_saturate(v->beside[index] - drnn_rescale(product, shift), DRNN_INT32_MAX, saturated);
        return;
    }
    shift = bounded_shift(&product, shift + v->grid_bits - v->low_bits);
    const int32_t limit = (DRNN_INT16_MAX >> v->grid_bits) * (1 << v->low_bits);
    const int32_t value = (*weight >> v->grid_bits) * (1 << v->low_bits) + (v->low_bits ? v->beside[index] : 0);
    const int32_t moved = drnn_saturate(value - rounded(product, shift, v->nearest ? 0x8000u : random), limit, saturated);
    const int32_t used = (int32_t)drnn_round_shift(moved, v->low_bits);
    *weight = (int16_t)(used * (1 << v->grid_bits));
    if (v->low_bits) {
        v->beside[index] = moved - used * (1 << v->low_bits);
    }
}

static uint32_t random_of(uint32_t key, uint32_t index)
{
    const uint32_t pair = drnn_random_pair(key, index / 2);
    return index % 2 ? pair >> 16 : pair & 0xffffu;
}

/* The summed changes reach the weights, stochastically rounded. */
static void apply_sums(weight_variant_t *v, drnn_t *net, uint32_t count, uint32_t key)
{
    int16_t *weight = drnn_weight(net, 0);
    for (uint32_t i = 0; i < count; ++i) {
        const int64_t sum = (int64_t)v->beside[i] + random_of(key, i);
        weight[i] = (int16_t)drnn_saturate(weight[i] + (sum >> SUM_FRAC_BITS), DRNN_INT16_MAX, &net->result.saturated_w);
        v->beside[i] = 0;
    }
    v->n_summed = 0;
}

/* Whether v_j was active at step t, in the masks as drnn_turn_masks left them: bit t % 32 stands in row j % 32 of t's block. */
static int was_active(drnn_t *net, uint32_t t, uint32_t j)
{
    const uint32_t row = t - t % DRNN_MASK_BITS + j % DRNN_MASK_BITS;
    const uint32_t *mask = &drnn_event_mask(net, 0)[row * drnn_mask_words(drnn_layer(net, 0))];
    return (int)(mask[j / DRNN_MASK_BITS] >> (t % DRNN_MASK_BITS) & 1u);
}

/* drnn_train, with the weights of layer 0 moved by the variant. */
int weight_variant_train(weight_variant_t *v, drnn_t *net, uint16_t label, drnn_result_t *result)
{
    const drnn_layer_t *layer = drnn_layer(net, 0);
    const uint32_t rows = drnn_rows(layer);
    const uint32_t count = drnn_width(layer) * rows;
    int16_t *weight = drnn_weight(net, 0);
    memcpy(v->before, weight, count * sizeof(int16_t));
    const int error = drnn_train(net, label, result);
    if (error != DRNN_OK) {
        return error;
    }
    memcpy(weight, v->before, count * sizeof(int16_t));
    const drnn_scale_t step = step_size(net);
    const uint32_t key = drnn_random_key(net->config.seed, net->config.step - 1u, DRNN_T_WEIGHT);
    const int unit = net->result.grad_exponent + net->dm_exponent[0] - DRNN_GRAD_GUARD_BITS;
    uint16_t steps[DRNN_MAX_STEPS];
    int16_t deltas[DRNN_MAX_STEPS];
    for (uint32_t column = 0; column < drnn_width(layer); ++column) {
        const int from_x = column < layer->n_in;
        const int frac_bits = from_x ? layer->wx_frac_bits : layer->wh_frac_bits;
        int shift = -(step.e + unit - (from_x ? layer->x_frac_bits : DRNN_H_FRAC_BITS) + frac_bits);
        const int16_t *dm = drnn_gates(net, 0) + (from_x ? 0 : drnn_h_first(layer));
        uint32_t n_events = 0;
        uint32_t value = 0;
        for (uint32_t t = 0; t < net->n_steps; ++t) {
            for (uint32_t j = 0; j < drnn_width(layer); ++j) {
                if (!was_active(net, t, j)) {
                    continue;
                }
                if (j == column) {
                    steps[n_events] = (uint16_t)t;
                    deltas[n_events++] = drnn_event_value(net, 0)[value];
                }
                ++value;
            }
        }
        uint32_t delta_sum = 0;
        for (uint32_t i = 0; i < n_events; ++i) {
            delta_sum += drnn_magnitude(deltas[i]);
        }
        int delta_shift = 0;
        while (delta_sum > (uint32_t)DRNN_DELTA_SUM << delta_shift) {
            ++delta_shift;
        }
        for (uint32_t i = 0; i < n_events; ++i) {
            deltas[i] = (int16_t)drnn_round_shift(deltas[i], delta_shift);
        }
        shift -= delta_shift;
        for (uint32_t row = 0; n_events != 0 && row < rows; ++row) {
            int64_t sum = 0;
            for (uint32_t i = 0; i < n_events; ++i) {
                sum += (int32_t)dm[steps[i] * drnn_m_count(layer) + row] * deltas[i];
            }
            const uint32_t index = column * rows + row;
            move_weight(v, net, index, sum * step.m, shift, random_of(key, index));
        }
    }
    if (v->batch > 1 && ++v->n_summed == v->batch) {
        apply_sums(v, net, count, key);
    }
    *result = net->result;
    return DRNN_OK;
}
