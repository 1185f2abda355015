/*
 * Backward through time, with the masks held constant. dM_t replaces the gates of step t, so the history doubles as the
 * gradient's store. Equations: DESIGN.md, "The mathematics"; scaling: NUMERICS.md, "Gradients".
 */
#include "drnn_activation.h"
#include "drnn_fixed.h"
#include "drnn_internal.h"
#include "drnn_kernels.h"

/* dL/dh at the last step: W_o^T d_logits, in the carried gradients' unit. */
static void start_from_readout(drnn_t *net)
{
    const uint32_t n_hidden = drnn_layer(net)->n_hidden;
    const int shift = net->model->readout_frac_bits - DRNN_GRAD_GUARD_BITS; /* in [4, 9] */
    for (uint32_t j = 0; j < n_hidden; ++j) {
        int64_t sum = 0; /* below DRNN_MAX_CLASSES * 2^15 * 2^14 = 2^37 */
        for (uint32_t k = 0; k < net->model->n_classes; ++k) {
            sum += (int64_t)drnn_readout_weight(net)[k * n_hidden + j] * drnn_d_logits(net)[k];
        }
        drnn_d_hidden(net)[j] =
            drnn_saturate(drnn_round_shift(sum, shift), DRNN_INT32_MAX, &net->result.saturated_grad);
        drnn_d_v_hat(net)[j] = 0;
        drnn_d_cell(net)[j] = 0;
    }
    for (uint32_t i = 0; i < drnn_rows(drnn_layer(net)); ++i) {
        drnn_dm_acc(net)[i] = 0;
    }
}

/* dM_t = the gates' own gradient + dM_{t+1}; d_cell moves on to step t - 1. */
static void lstm_cell_backward(drnn_t *net, uint32_t t)
{
    const drnn_layer_t *layer = drnn_layer(net);
    const uint32_t n_hidden = layer->n_hidden;
    const int c_frac_bits = layer->c_frac_bits;
    const int64_t c_unit = (int64_t)1 << (DRNN_H_FRAC_BITS - c_frac_bits);
    const int16_t *gates = &drnn_gates(net)[t * drnn_rows(layer)];
    const int16_t *c = &drnn_cells(net)[t * n_hidden];
    int32_t *dm = drnn_dm_acc(net);
    uint32_t *saturated = &net->result.saturated_grad;

    for (uint32_t k = 0; k < n_hidden; ++k) {
        const int32_t i = gates[k];
        const int32_t f = gates[n_hidden + k];
        const int32_t g = gates[2 * n_hidden + k];
        const int32_t o = gates[3 * n_hidden + k];
        const int32_t tanh_c = drnn_tanh_q14((int64_t)c[k] * c_unit);
        const int32_t c_prev = t == 0 ? 0 : c[(int32_t)k - (int32_t)n_hidden];
        const int32_t dh = drnn_d_hidden(net)[k];

        const int32_t d_o = drnn_mul_q(drnn_mul_q(dh, tanh_c, 14, saturated), o * (DRNN_ONE_Q14 - o), 28, saturated);
        const int32_t through_tanh =
            drnn_mul_q(drnn_mul_q(dh, o, 14, saturated), DRNN_ONE_Q28 - tanh_c * tanh_c, 28, saturated);
        const int32_t dc = drnn_saturate((int64_t)drnn_d_cell(net)[k] + through_tanh, DRNN_INT32_MAX, saturated);
        const int32_t d_i = drnn_mul_q(drnn_mul_q(dc, g, 14, saturated), i * (DRNN_ONE_Q14 - i), 28, saturated);
        const int32_t d_f =
            drnn_mul_q(drnn_mul_q(dc, f * (DRNN_ONE_Q14 - f), 28, saturated), c_prev, c_frac_bits, saturated);
        const int32_t d_g = drnn_mul_q(drnn_mul_q(dc, i, 14, saturated), DRNN_ONE_Q28 - g * g, 28, saturated);

        drnn_d_cell(net)[k] = drnn_mul_q(dc, f, 14, saturated);
        dm[k] = drnn_saturate((int64_t)dm[k] + d_i, DRNN_INT32_MAX, saturated);
        dm[n_hidden + k] = drnn_saturate((int64_t)dm[n_hidden + k] + d_f, DRNN_INT32_MAX, saturated);
        dm[2 * n_hidden + k] = drnn_saturate((int64_t)dm[2 * n_hidden + k] + d_g, DRNN_INT32_MAX, saturated);
        dm[3 * n_hidden + k] = drnn_saturate((int64_t)dm[3 * n_hidden + k] + d_o, DRNN_INT32_MAX, saturated);
    }
}

/* The smallest exponent e >= 0 with round(largest / 2^e) <= 32767; largest < 2^31, so e <= 17. */
static int int16_exponent(uint32_t largest)
{
    const int excess = drnn_bit_length(largest) - 15;
    if (excess <= 0) {
        return 0;
    }
    return drnn_round_shift(largest, excess) > DRNN_INT16_MAX ? excess + 1 : excess;
}

/*
 * Store dM_t as int16 in the gates' place. One exponent serves the whole sample: where step t needs a larger one, the
 * steps stored before (t + 1 onwards) are shifted to it.
 */
static void store_dm(drnn_t *net, uint32_t t)
{
    const uint32_t rows = drnn_rows(drnn_layer(net));
    const int32_t *dm_acc = drnn_dm_acc(net);
    int16_t *stored = &drnn_gates(net)[t * rows];
    const int needed = int16_exponent(drnn_largest(dm_acc, rows));
    const int raise = needed - net->result.dm_exponent;
    if (raise > 0) {
        for (uint32_t i = rows; i < (net->n_steps - t) * rows; ++i) {
            stored[i] = (int16_t)drnn_round_shift(stored[i], raise);
        }
        net->result.dm_exponent = needed;
    }
    for (uint32_t i = 0; i < rows; ++i) {
        stored[i] = (int16_t)drnn_round_shift(dm_acc[i], net->result.dm_exponent);
        if (stored[i] == 0 && dm_acc[i] != 0) {
            ++net->result.underflow_dm;
        }
    }
}

/* Columns of the hidden part that were active at step t, in ascending order; returns their number. */
static uint32_t active_hidden_columns(const drnn_t *net, uint32_t t)
{
    const drnn_layer_t *layer = drnn_layer(net);
    const uint32_t *mask = &drnn_event_mask(net)[t * drnn_mask_words(layer)];
    uint16_t *columns = drnn_columns(net);
    uint32_t n_active = 0;
    for (uint32_t word = layer->n_in / DRNN_MASK_BITS; word < drnn_mask_words(layer); ++word) {
        uint32_t bits = mask[word];
        if (word == layer->n_in / DRNN_MASK_BITS) {
            bits &= ~(uint32_t)0 << (layer->n_in % DRNN_MASK_BITS);
        }
        for (; bits != 0; bits &= bits - 1) {
            columns[n_active++] = (uint16_t)(word * DRNN_MASK_BITS + drnn_lowest_bit(bits));
        }
    }
    return n_active;
}

/*
 * W^T dM_t over the hidden units active at step t, and the path through v_hat: d_hidden becomes dL/dh_{t-1}.
 * M's scratch holds the products: M itself is not needed any more.
 */
static void through_deltas(drnn_t *net, uint32_t t)
{
    const drnn_layer_t *layer = drnn_layer(net);
    const uint32_t rows = drnn_rows(layer);
    const uint32_t n_active = active_hidden_columns(net, t);
    const uint16_t *columns = drnn_columns(net);
    int64_t *products = drnn_m_acc(net);
    int32_t *d_hidden = drnn_d_hidden(net);
    int32_t *d_v_hat = drnn_d_v_hat(net);
    uint32_t *saturated = &net->result.saturated_grad;

    drnn_dot_columns(products, drnn_weight(net), rows, &drnn_gates(net)[t * rows], columns, n_active);
    net->result.macs_backward += rows * n_active;

    for (uint32_t j = 0; j < layer->n_hidden; ++j) {
        d_hidden[j] = 0; /* an inactive unit's h does not reach v_hat */
    }
    for (uint32_t a = 0; a < n_active; ++a) {
        const uint32_t j = (uint32_t)columns[a] - layer->n_in;
        /* |product| <= 2^42 and the shift is in [-7, 16]: below 2^50 */
        const int32_t d_delta = drnn_saturate(drnn_rescale(products[a], layer->wh_frac_bits - net->result.dm_exponent),
                                              DRNN_INT32_MAX, saturated);
        d_hidden[j] = drnn_saturate((int64_t)d_v_hat[j] + d_delta, DRNN_INT32_MAX, saturated);
        d_v_hat[j] = -d_delta;
    }
}

void drnn_backward(drnn_t *net)
{
    net->result.dm_exponent = 0;
    start_from_readout(net);
    for (uint32_t t = net->n_steps; t-- > 0;) {
        lstm_cell_backward(net, t);
        store_dm(net, t);
        if (t > 0) { /* h_0 is constant, and the first layer's dx is nobody's input */
            through_deltas(net, t);
        }
    }
}
