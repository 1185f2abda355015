/*
 * The LSTM: c_t = f c_{t-1} + i g, h_t = o tanh c_t. Accumulators and gates in the order i, f, g, o.
 */
#include "drnn_activation_narrow.h"
#include "drnn_fixed.h"
#include "drnn_internal.h"

static int32_t c_unit(const drnn_layer_t *layer) /* from c to Q14 */
{
    return (int32_t)1 << (DRNN_H_FRAC_BITS - layer->c_frac_bits);
}

static int16_t hidden_of(int32_t o, int32_t tanh_c, uint32_t *saturated)
{
    return (int16_t)drnn_saturate_narrow(drnn_round_shift_narrow(o * tanh_c, 14), DRNN_V_MAX, saturated);
}

void drnn_lstm_forward(drnn_t *net, uint32_t l, uint32_t t)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t n_hidden = layer->n_hidden;
    const int m_frac_bits = drnn_m_frac_bits(layer);
    const int32_t unit = c_unit(layer);
    const int c_shift = 28 - layer->c_frac_bits;
    const int32_t half = (int32_t)1 << (c_shift - 1);
    const int64_t *m = drnn_m_acc(net, l);
    int16_t *gates = &drnn_gates(net, l)[t * drnn_m_count(layer)];
    int16_t *c = &drnn_states(net, l)[t * n_hidden];
    int16_t *h = drnn_hidden(net, l);

    for (uint32_t k = 0; k < n_hidden; ++k) {
        const int32_t i = drnn_sigmoid_narrow_q14(drnn_argument(m[k], m_frac_bits - 13));
        const int32_t f = drnn_sigmoid_narrow_q14(drnn_argument(m[n_hidden + k], m_frac_bits - 13));
        const int32_t g = drnn_tanh_narrow_q14(drnn_argument(m[2 * n_hidden + k], m_frac_bits - 14));
        const int32_t o = drnn_sigmoid_narrow_q14(drnn_argument(m[3 * n_hidden + k], m_frac_bits - 13));
        const int32_t c_prev = t == 0 ? 0 : c[(int32_t)k - (int32_t)n_hidden];
        const int64_t kept = (int64_t)(f * c_prev) * unit; /* Q28, at most 2^14 * 2^15 * 2^10 */
        const int32_t mixed = drnn_shift_narrow(kept + i * g + half, c_shift); /* below 2^26 */
        const int32_t now = drnn_saturate_narrow(mixed, DRNN_INT16_MAX, &net->result.saturated_c);
        const int32_t tanh_c = drnn_tanh_narrow_q14(now * unit); /* below 2^15 * 2^10 */
        c[k] = (int16_t)now;
        h[k] = hidden_of(o, tanh_c, &net->result.saturated_h);
        gates[k] = (int16_t)i;
        gates[n_hidden + k] = (int16_t)f;
        gates[2 * n_hidden + k] = (int16_t)g;
        gates[3 * n_hidden + k] = (int16_t)o;
    }
}

void drnn_lstm_hidden(const drnn_t *net, uint32_t l, uint32_t t, int16_t *h)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t n_hidden = layer->n_hidden;
    const int16_t *o = &drnn_gates(net, l)[t * drnn_m_count(layer) + 3 * n_hidden];
    const int16_t *c = &drnn_states(net, l)[t * n_hidden];
    for (uint32_t k = 0; k < n_hidden; ++k) {
        h[k] = hidden_of(o[k], drnn_tanh_narrow_q14(c[k] * c_unit(layer)), &(uint32_t){0});
    }
}

void drnn_lstm_backward(drnn_t *net, uint32_t l, uint32_t t)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t n_hidden = layer->n_hidden;
    const int c_frac_bits = layer->c_frac_bits;
    const int32_t unit = c_unit(layer);
    const int16_t *gates = &drnn_gates(net, l)[t * drnn_m_count(layer)];
    const int16_t *c = &drnn_states(net, l)[t * n_hidden];
    int32_t *dm = drnn_dm_acc(net, l);
    int32_t *d_hidden = drnn_d_hidden(net, l);
    int32_t *d_cell = drnn_d_cell(net, l);
    uint32_t *saturated = &net->result.saturated_grad;

    for (uint32_t k = 0; k < n_hidden; ++k) {
        const int32_t i = gates[k];
        const int32_t f = gates[n_hidden + k];
        const int32_t g = gates[2 * n_hidden + k];
        const int32_t o = gates[3 * n_hidden + k];
        const int32_t tanh_c = drnn_tanh_narrow_q14(c[k] * unit);
        const int32_t c_prev = t == 0 ? 0 : c[(int32_t)k - (int32_t)n_hidden];
        const int32_t dh = d_hidden[k];

        const int32_t d_o = drnn_mul_q28(drnn_mul_q14(dh, tanh_c), o * (DRNN_ONE_Q14 - o));
        const int32_t through_tanh =
            drnn_mul_q28(drnn_mul_q14(dh, o), DRNN_ONE_Q28 - tanh_c * tanh_c);
        int32_t dc = d_cell[k];
        drnn_add_to(&dc, through_tanh, saturated);
        const int32_t d_i = drnn_mul_q28(drnn_mul_q14(dc, g), i * (DRNN_ONE_Q14 - i));
        const int32_t d_f =
            drnn_mul_q(drnn_mul_q28(dc, f * (DRNN_ONE_Q14 - f)), c_prev, c_frac_bits, saturated);
        const int32_t d_g = drnn_mul_q28(drnn_mul_q14(dc, i), DRNN_ONE_Q28 - g * g);

        d_cell[k] = drnn_mul_q14(dc, f);
        d_hidden[k] = 0; /* h_{t-1} reaches step t through its deltas alone */
        drnn_add_to(&dm[k], d_i, saturated);
        drnn_add_to(&dm[n_hidden + k], d_f, saturated);
        drnn_add_to(&dm[2 * n_hidden + k], d_g, saturated);
        drnn_add_to(&dm[3 * n_hidden + k], d_o, saturated);
    }
}
