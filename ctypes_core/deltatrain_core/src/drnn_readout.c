/*
 * The readout, a linear layer on the top layer's h: forward at the last frame, and on the way back dL/dh_t and its own
 * gradient at each frame that has a target. NUMERICS.md, "Gradients".
 */
#include <string.h>

#include "drnn_fixed.h"
#include "drnn_internal.h"
#include "drnn_kernels.h"

#define OUTPUTS_AT_ONCE 8u

/* Rows of W_o from output k on, OUTPUTS_AT_ONCE or as many as there are, each with its factor, or without; returns how many. */
static uint32_t rows_from(const drnn_t *net, uint32_t k, const int16_t *factors, drnn_entry_t entries[OUTPUTS_AT_ONCE])
{
    const uint32_t n_hidden = drnn_top_layer(net)->n_hidden;
    uint32_t n = 0;
    for (; n < OUTPUTS_AT_ONCE && k < net->model->n_outputs; ++n, ++k) {
        entries[n].place = drnn_place(drnn_readout_weight(net), k * n_hidden);
        entries[n].factor = factors == NULL ? 0 : factors[k];
    }
    return n;
}

void drnn_readout_forward(drnn_t *net)
{
    const drnn_layer_t *top = drnn_top_layer(net);
    const int acc_frac_bits = net->model->readout_frac_bits + DRNN_H_FRAC_BITS;
    uint32_t saturated = 0; /* a logit beyond +-32768 stays the largest or the smallest: nothing to report */
    drnn_entry_t rows[OUTPUTS_AT_ONCE];
    int64_t products[OUTPUTS_AT_ONCE];
    uint32_t n;
    for (uint32_t first = 0; (n = rows_from(net, first, NULL, rows)) != 0; first += n) {
        drnn_dot_columns(products, drnn_readout_weight(net), top->n_hidden, drnn_top_hidden(net), rows, n, drnn_is_even(top));
        for (uint32_t k = first; k < first + n; ++k) {
            const int64_t bias = drnn_readout_bias(net)[k] * ((int64_t)1 << (acc_frac_bits - DRNN_BIAS_FRAC_BITS));
            /* below DRNN_MAX_WIDTH * 2^15 * 2^14 + 2^31 * 2^5 < 2^40 */
            drnn_logits(net)[k] = drnn_saturate(drnn_round_shift(bias + products[k - first], acc_frac_bits - DRNN_LOGIT_FRAC_BITS),
                                                DRNN_INT32_MAX, &saturated);
        }
    }
}

void drnn_readout_start(drnn_t *net)
{
    net->readout_bound = 0;
    if (drnn_readout_of(net->model) != DRNN_LAST) {
        const uint32_t n_columns = drnn_top_layer(net)->n_hidden + 1u;
        memset(drnn_d_readout(net), 0, net->model->n_outputs * n_columns * sizeof(int64_t));
    }
}

/* d_outputs of step t; NULL where it was given no target, or all of them are 0, which comes to the same. */
static const int16_t *d_outputs_of(const drnn_t *net, uint32_t t)
{
    const uint32_t n_outputs = net->model->n_outputs;
    const int at_last = drnn_readout_of(net->model) == DRNN_LAST;
    if (at_last && t + 1 != net->n_steps) {
        return NULL;
    }
    const int16_t *d = &drnn_d_outputs(net)[at_last ? 0 : t * n_outputs];
    for (uint32_t k = 0; k < n_outputs; ++k) {
        if (d[k] != 0) {
            return d;
        }
    }
    return NULL;
}

/* h_t of the top layer: after the last step where it was left, else in the place of h_hat, which has done its work. */
static const int16_t *hidden_of(const drnn_t *net, uint32_t t)
{
    const uint32_t l = net->model->n_layers - 1u;
    const drnn_layer_t *layer = drnn_layer(net, l);
    if (t + 1 == net->n_steps) {
        return drnn_top_hidden(net);
    }
    int16_t *h = drnn_v_hat(net, l) + layer->n_in;
    switch (drnn_cell_of(layer)) {
    case DRNN_LSTM:
        drnn_lstm_hidden(net, l, t, h);
        break;
    case DRNN_GRU:
        drnn_gru_hidden(net, l, t, h);
        break;
    default:
        drnn_rnn_hidden(net, l, t, h);
        break;
    }
    return h;
}

/* sums [n_hidden] = W_o^T d; 0 where one of them may have exceeded 32 bits. */
static int sum_outputs(const drnn_t *net, const int16_t *d, int32_t *sums)
{
    const drnn_layer_t *top = drnn_top_layer(net);
    drnn_entry_t rows[OUTPUTS_AT_ONCE];
    uint32_t n;
    memset(sums, 0, top->n_hidden * sizeof(int32_t));
    for (uint32_t first = 0; (n = rows_from(net, first, d, rows)) != 0; first += n) {
        if (!drnn_add_columns(sums, drnn_readout_weight(net), 0, top->n_hidden, rows, n, drnn_is_even(top))) {
            return 0;
        }
    }
    return 1;
}

/* The sum of unit j alone: below DRNN_MAX_OUTPUTS * 2^15 * 2^14 = 2^37. */
DRNN_RARE static int64_t sum_of_unit(const drnn_t *net, const int16_t *d, uint32_t j)
{
    const uint32_t n_hidden = drnn_top_layer(net)->n_hidden;
    int64_t sum = 0;
    for (uint32_t k = 0; k < net->model->n_outputs; ++k) {
        sum += drnn_readout_weight(net)[k * n_hidden + j] * (int32_t)d[k];
    }
    return sum;
}

/* dL/dh_t += W_o^T d, in the carried gradients' unit. */
static void add_to_d_hidden(drnn_t *net, const int16_t *d)
{
    const uint32_t top = net->model->n_layers - 1u;
    int32_t *d_hidden = drnn_d_hidden(net, top);
    int32_t *sums = (int32_t *)(void *)drnn_products(net, top); /* which no product needs now */
    const int shift = net->model->readout_frac_bits - DRNN_GRAD_GUARD_BITS; /* in [4, 9] */
    uint32_t *saturated = &net->result.saturated_grad;
    const int fits = sum_outputs(net, d, sums);
    for (uint32_t j = 0; j < drnn_layer(net, top)->n_hidden; ++j) {
        const int32_t rounded =
            fits ? drnn_round_shift_narrow(sums[j], shift)
                 : drnn_saturate(drnn_round_shift(sum_of_unit(net, d, j), shift), DRNN_INT32_MAX, saturated);
        drnn_add_to(&d_hidden[j], rounded, saturated);
        net->carried_bits[top] |= drnn_bits(d_hidden[j]);
    }
}

/* The gradient of weights and biases += d (x) [h ; 1]: at most DRNN_MAX_STEPS * 2^14 * 2^14 = 2^40. */
static void add_to_gradient(drnn_t *net, const int16_t *d, const int16_t *h)
{
    const uint32_t n_hidden = drnn_top_layer(net)->n_hidden;
    int64_t *sum = drnn_d_readout(net);
    for (uint32_t k = 0; k < net->model->n_outputs; ++k) {
        for (uint32_t j = 0; j < n_hidden; ++j) {
            *sum++ += d[k] * (int32_t)h[j];
        }
        *sum++ += d[k];
    }
}

/* |d| * sqrt(|h|^2 + 1), each root rounded up; units: d_outputs * 2^-14. At most 2^18 * 2^19.1 a step. */
static uint64_t bound_of(const drnn_t *net, const int16_t *d, const int16_t *h)
{
    uint64_t d_squared = 0;
    for (uint32_t k = 0; k < net->model->n_outputs; ++k) {
        d_squared += (uint64_t)((int32_t)d[k] * d[k]);
    }
    uint64_t h_squared = DRNN_ONE_Q28;
    for (uint32_t j = 0; j < drnn_top_layer(net)->n_hidden; ++j) {
        h_squared += (uint64_t)((int32_t)h[j] * h[j]);
    }
    return (uint64_t)drnn_sqrt_ceil(d_squared) * drnn_sqrt_ceil(h_squared);
}

void drnn_readout_backward(drnn_t *net, uint32_t t)
{
    const int16_t *d = d_outputs_of(net, t);
    if (d == NULL) {
        return;
    }
    const int16_t *h = hidden_of(net, t);
    net->readout_bound += bound_of(net, d, h);
    if (drnn_readout_of(net->model) != DRNN_LAST) { /* else it is d (x) h_T: the update forms it */
        add_to_gradient(net, d, h);
    }
    add_to_d_hidden(net, d); /* last, for its sums may lie where h does */
}
