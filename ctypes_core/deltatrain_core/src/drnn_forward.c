/*
 * Forward: delta encoding, W . Delta over the active columns, the LSTM cell, the readout.
 * Equations: DESIGN.md, "The mathematics"; formats: NUMERICS.md.
 */
#include <string.h>

#include "drnn_activation.h"
#include "drnn_fixed.h"
#include "drnn_internal.h"
#include "drnn_kernels.h"

int drnn_begin(drnn_t *net)
{
    const drnn_layer_t *layer = drnn_layer(net);
    const uint32_t rows = drnn_rows(layer);
    const int64_t bias_unit = (int64_t)1 << (drnn_m_frac_bits(layer) - DRNN_BIAS_FRAC_BITS);
    int64_t *m_acc = drnn_m_acc(net);
    for (uint32_t i = 0; i < rows; ++i) {
        m_acc[i] = drnn_bias(net)[i] * bias_unit;
    }
    memset(drnn_v_hat(net), 0, drnn_width(layer) * sizeof(int16_t));
    memset(drnn_hidden(net), 0, layer->n_hidden * sizeof(int16_t));
    memset(&net->result, 0, sizeof net->result);
    net->n_steps = 0;
    net->phase = DRNN_PHASE_SAMPLE;
    return DRNN_OK;
}

/*
 * Encode v[count] against v_hat: where |v - v_hat| >= theta and not 0, the entry is active and v_hat follows.
 * `first` is the column of v[0]. Appends to columns and deltas, sets the mask's bits; returns the number of events.
 */
static uint32_t encode(const int16_t *v, int16_t *v_hat, uint32_t count, uint32_t first, int32_t theta, uint32_t *mask,
                       uint16_t *columns, int16_t *deltas)
{
    uint32_t n_active = 0;
    for (uint32_t j = 0; j < count; ++j) {
        const int32_t delta = v[j] - v_hat[j];
        if (delta != 0 && drnn_magnitude(delta) >= (uint32_t)theta) {
            const uint32_t column = first + j;
            mask[column / DRNN_MASK_BITS] |= (uint32_t)1 << (column % DRNN_MASK_BITS);
            columns[n_active] = (uint16_t)column;
            deltas[n_active] = (int16_t)delta; /* |v|, |v_hat| <= DRNN_V_MAX: it fits */
            v_hat[j] = v[j];
            ++n_active;
        }
    }
    return n_active;
}

/* One LSTM step for every unit: gates i, f, g, o from M; c and h. c_prev is NULL at the first step, where c_0 = 0. */
static void lstm_cell(drnn_t *net, int16_t *gates, const int16_t *c_prev, int16_t *c)
{
    const drnn_layer_t *layer = drnn_layer(net);
    const uint32_t n_hidden = layer->n_hidden;
    const int m_frac_bits = drnn_m_frac_bits(layer);
    const int c_frac_bits = layer->c_frac_bits;
    const int64_t c_unit = (int64_t)1 << (DRNN_H_FRAC_BITS - c_frac_bits);
    const int64_t *m = drnn_m_acc(net);
    int16_t *h = drnn_hidden(net);

    for (uint32_t k = 0; k < n_hidden; ++k) {
        const int32_t i = drnn_sigmoid_q14(drnn_round_shift(m[k], m_frac_bits - 13));
        const int32_t f = drnn_sigmoid_q14(drnn_round_shift(m[n_hidden + k], m_frac_bits - 13));
        const int32_t g = drnn_tanh_q14(drnn_round_shift(m[2 * n_hidden + k], m_frac_bits - 14));
        const int32_t o = drnn_sigmoid_q14(drnn_round_shift(m[3 * n_hidden + k], m_frac_bits - 13));
        const int64_t kept = c_prev != NULL ? f * c_prev[k] * c_unit : 0; /* Q28, at most 2^14 * 2^15 * 2^10 */
        c[k] = (int16_t)drnn_saturate(drnn_round_shift(kept + i * g, 28 - c_frac_bits), DRNN_INT16_MAX,
                                      &net->result.saturated_c);
        const int32_t tanh_c = drnn_tanh_q14((int64_t)c[k] * c_unit);
        h[k] = (int16_t)drnn_saturate(drnn_round_shift((int64_t)o * tanh_c, 14), DRNN_V_MAX, &net->result.saturated_h);
        gates[k] = (int16_t)i;
        gates[n_hidden + k] = (int16_t)f;
        gates[2 * n_hidden + k] = (int16_t)g;
        gates[3 * n_hidden + k] = (int16_t)o;
    }
}

static int input_is_valid(const int16_t *x, uint32_t count)
{
    for (uint32_t j = 0; j < count; ++j) {
        if (x[j] > DRNN_V_MAX || x[j] < -DRNN_V_MAX) {
            return 0;
        }
    }
    return 1;
}

int drnn_push(drnn_t *net, const int16_t *x)
{
    const drnn_layer_t *layer = drnn_layer(net);
    if (net->phase != DRNN_PHASE_SAMPLE) {
        return DRNN_ERR_STATE;
    }
    if (net->n_steps >= net->model->max_steps) {
        return DRNN_ERR_TOO_LONG;
    }
    if (!input_is_valid(x, layer->n_in)) {
        return DRNN_ERR_RANGE;
    }
    const uint32_t t = net->n_steps;
    const uint32_t rows = drnn_rows(layer);
    const uint32_t start = net->result.active_x + net->result.active_h; /* events of the steps before */
    uint32_t *mask = &drnn_event_mask(net)[t * drnn_mask_words(layer)];
    uint16_t *columns = drnn_columns(net);
    int16_t *deltas = &drnn_event_value(net)[start];

    drnn_event_start(net)[t] = start;
    memset(mask, 0, drnn_mask_words(layer) * sizeof(uint32_t));
    const uint32_t n_x = encode(x, drnn_v_hat(net), layer->n_in, 0, net->config.theta_x, mask, columns, deltas);
    const uint32_t n_h = encode(drnn_hidden(net), drnn_v_hat(net) + layer->n_in, layer->n_hidden, layer->n_in,
                                net->config.theta_h, mask, columns + n_x, deltas + n_x);

    const int m_frac_bits = drnn_m_frac_bits(layer);
    drnn_accumulate_columns(drnn_m_acc(net), drnn_weight(net), rows, columns, deltas, n_x,
                            m_frac_bits - layer->wx_frac_bits - layer->x_frac_bits);
    drnn_accumulate_columns(drnn_m_acc(net), drnn_weight(net), rows, columns + n_x, deltas + n_x, n_h,
                            m_frac_bits - layer->wh_frac_bits - DRNN_H_FRAC_BITS);

    int16_t *c = &drnn_cells(net)[t * layer->n_hidden];
    lstm_cell(net, &drnn_gates(net)[t * rows], t == 0 ? NULL : c - layer->n_hidden, c);

    net->result.active_x += n_x;
    net->result.active_h += n_h;
    net->result.macs_forward += rows * (n_x + n_h);
    net->n_steps = t + 1;
    return (int)net->n_steps;
}

void drnn_readout(drnn_t *net)
{
    const uint32_t n_hidden = drnn_layer(net)->n_hidden;
    const int acc_frac_bits = net->model->readout_frac_bits + DRNN_H_FRAC_BITS;
    const int16_t *h = drnn_hidden(net);
    uint32_t saturated = 0; /* a logit beyond +-32768 stays the largest or the smallest: nothing to report */
    for (uint32_t k = 0; k < net->model->n_classes; ++k) {
        const int16_t *w = &drnn_readout_weight(net)[k * n_hidden];
        /* below DRNN_MAX_WIDTH * 2^15 * 2^14 + 2^31 * 2^5 < 2^40 */
        int64_t acc = drnn_readout_bias(net)[k] * ((int64_t)1 << (acc_frac_bits - DRNN_BIAS_FRAC_BITS));
        for (uint32_t j = 0; j < n_hidden; ++j) {
            acc += w[j] * (int32_t)h[j];
        }
        drnn_logits(net)[k] = drnn_saturate(drnn_round_shift(acc, acc_frac_bits - DRNN_LOGIT_FRAC_BITS),
                                            DRNN_INT32_MAX, &saturated);
    }
}
