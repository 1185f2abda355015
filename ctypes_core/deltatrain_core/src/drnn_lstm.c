/*
 * The LSTM: c_t = f c_{t-1} + i g, h_t = o tanh c_t. Accumulators and gates in the order i, f, g, o.
 */
#include <stddef.h>

#include "drnn_accumulators.h"
#include "drnn_activation_narrow.h"
#include "drnn_fixed.h"
#include "drnn_history.h"

#include "drnn_vector.h"

#if defined(DRNN_LANES)
#include "drnn_lstm_vector.h"
#elif defined(__ARM_FEATURE_DSP)
#include "drnn_lstm_dsp.h"
#define HAS_DSP_GATES
#endif

#ifdef HAS_DSP_GATES
#define MIX DRNN_RARE /* where something saturates, or units do not come in pairs */
#else
#define MIX
#endif

static int32_t tanh_unit(const drnn_layer_t *layer) /* from c to tanh's argument, which stays within 2^30 */
{
    return (int32_t)1 << (DRNN_TANH_FRAC_BITS - layer->c_frac_bits);
}

static int16_t hidden_of(int32_t o, int32_t tanh_c, uint32_t *saturated)
{
    return drnn_cut_hidden(drnn_round_shift_narrow(o * tanh_c, 14), saturated);
}

/* c = f c_prev + i g and h = o tanh c, of all units; gates [4][n_hidden]. */
MIX static void mix(drnn_t *net, const drnn_layer_t *layer, const int16_t *gates, const int16_t *c_prev, int16_t *c, int16_t *h)
{
    const uint32_t n_hidden = layer->n_hidden;
    const int to_q14 = DRNN_H_FRAC_BITS - layer->c_frac_bits;
    const int32_t to_argument = tanh_unit(layer);
    const int c_shift = 28 - layer->c_frac_bits;
    const int32_t half = (int32_t)1 << (c_shift - 1);
    const int16_t *const end = gates + n_hidden;
#ifdef DRNN_LANES
    const uint32_t done = drnn_lstm_mix_vector(gates, n_hidden, layer->c_frac_bits, c_prev, c, h, &net->result);
    gates += done;
    c_prev += done;
    c += done;
    h += done;
#endif
    for (; gates != end; ++gates, ++c_prev, ++c, ++h) {
        const int32_t i = gates[0];
        const int32_t f = gates[n_hidden];
        const int32_t g = gates[2 * n_hidden];
        const int32_t o = gates[3 * n_hidden];
        /* Q28, at most 2^14 * 2^15 * 2^8; once shifted below 2^26 */
        const int64_t sum = i * g + half + (int64_t)f * (*c_prev * ((int32_t)1 << to_q14));
        const int32_t mixed =
            drnn_saturate16(drnn_shift_narrow(sum, c_shift), &net->result.saturated_c);
        *c = (int16_t)mixed;
        *h = hidden_of(o, drnn_tanh_narrow_q14(mixed * to_argument), &net->result.saturated_h);
    }
}

void drnn_lstm_forward(drnn_t *net, uint32_t l, uint32_t t)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t n_hidden = layer->n_hidden;
    int16_t *gates = drnn_gates_of(net, l, t);
    int16_t *c = drnn_states_of(net, l, t);

    drnn_m_sigmoids(net, l, 0, 2 * n_hidden, gates);
    drnn_m_tanhs(net, l, 2 * n_hidden, n_hidden, gates + 2 * n_hidden);
    drnn_m_sigmoids(net, l, 3 * n_hidden, n_hidden, gates + 3 * n_hidden);
#ifdef HAS_DSP_GATES
    if (drnn_is_even(layer) && !drnn_lstm_mix_dsp(gates, n_hidden, c - n_hidden, drnn_hidden(net, l),
                                                  DRNN_H_FRAC_BITS - layer->c_frac_bits, drnn_sigmoid_table)) {
        return;
    }
#endif
    mix(net, layer, gates, c - n_hidden, c, drnn_hidden(net, l));
}

void drnn_lstm_hidden(const drnn_t *net, uint32_t l, uint32_t t, int16_t *h)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t n_hidden = layer->n_hidden;
    const int16_t *o = drnn_gates_of(net, l, t) + 3 * n_hidden;
    const int16_t *c = drnn_states_of(net, l, t);
    for (uint32_t k = 0; k < n_hidden; ++k) {
        h[k] = hidden_of(o[k], drnn_tanh_narrow_q14(c[k] * tanh_unit(layer)), &(uint32_t){0});
    }
}

/*
 * Two loops of few pointers each, so that they stay in registers. On the way, d_cell holds dc as it is at t.
 */
DRNN_RARE static void output_gate_backward(int32_t n_hidden, int32_t unit, const int16_t *o, const int16_t *c, int32_t *d_hidden,
                                 int32_t *d_cell, int32_t *dm_o, uint32_t *saturated)
{
    for (int32_t k = 0; k < n_hidden; ++k) {
        const int32_t tanh_c = drnn_tanh_narrow_q14(c[k] * unit);
        const int32_t open = o[k];
        const int32_t dh = d_hidden[k];
        d_hidden[k] = 0; /* h_{t-1} reaches step t through its deltas alone */
        drnn_add_to(&dm_o[k], drnn_mul_q28(drnn_mul_q14(dh, tanh_c), open * (DRNN_ONE_Q14 - open)), saturated);
        drnn_add_to(&d_cell[k], drnn_mul_q28(drnn_mul_q14(dh, open), DRNN_ONE_Q28 - tanh_c * tanh_c), saturated);
    }
}

DRNN_RARE static void cell_gates_backward(int32_t n_hidden, int c_frac_bits, const int16_t *gates, const int16_t *c_prev,
                                int32_t *d_cell, int32_t *dm, uint32_t *saturated)
{
    for (int32_t k = 0; k < n_hidden; ++k) {
        const int32_t i = gates[k];
        const int32_t f = gates[n_hidden + k];
        const int32_t g = gates[2 * n_hidden + k];
        const int32_t dc = d_cell[k];
        drnn_add_to(&dm[k], drnn_mul_q28(drnn_mul_q14(dc, g), i * (DRNN_ONE_Q14 - i)), saturated);
        drnn_add_to(&dm[2 * n_hidden + k], drnn_mul_q28(drnn_mul_q14(dc, i), DRNN_ONE_Q28 - g * g), saturated);
        const int32_t through_f = drnn_mul_q28(dc, f * (DRNN_ONE_Q14 - f));
        drnn_add_to(&dm[n_hidden + k], drnn_mul_narrow(through_f, c_prev[k], c_frac_bits, saturated), saturated);
        d_cell[k] = drnn_mul_q14(dc, f);
    }
}

void drnn_lstm_backward(drnn_t *net, uint32_t l, uint32_t t)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t n_hidden = layer->n_hidden;
    const int16_t *gates = drnn_gates_of(net, l, t);
    const int16_t *c = drnn_states_of(net, l, t);
    int32_t *dm = drnn_dm_acc(net, l);
    uint32_t *saturated = &net->result.saturated_grad;
    output_gate_backward((int32_t)n_hidden, tanh_unit(layer), gates + 3 * n_hidden, c, drnn_d_hidden(net, l),
                         drnn_d_cell(net, l), dm + 3 * n_hidden, saturated);
    cell_gates_backward((int32_t)n_hidden, layer->c_frac_bits, gates, c - n_hidden, drnn_d_cell(net, l),
                        dm, saturated);
}

/*
 * The same loops for small gradients; o and gates are overwritten by dM. As h reaches the next step through its deltas alone,
 * dh is 0 for units that were not transmitted: there dM of the output gate stays, and so does what is stored of it, which
 * `later` holds, from the step after; at the last step that is held it is NULL.
 */
static void output_gate_small(uint32_t n_hidden, int c_frac_bits, int16_t *o, const int16_t *later, const int16_t *c,
                              int32_t *d_hidden, int32_t *d_cell, int32_t *dm_o, drnn_dm_store_t *result)
{
    drnn_dm_store_t store = *result;
    uint32_t k = 0;
#ifdef DRNN_LANES
    k = drnn_lstm_output_vector(n_hidden, c_frac_bits, o, later, c, d_hidden, d_cell, dm_o, &store);
#endif
    const int32_t unit = (int32_t)1 << (DRNN_TANH_FRAC_BITS - c_frac_bits);
    for (; k < n_hidden; ++k) {
#ifdef HAS_DSP_GATES
        if (later != NULL && k % 2u == 0) {
            k += drnn_lstm_stay_dsp(o + k, later + k, d_hidden + k, n_hidden - k);
            if (k == n_hidden) {
                break;
            }
        }
#endif
        const int32_t dh = d_hidden[k];
        if (dh == 0 && later != NULL) {
            o[k] = later[k];
            if (!DRNN_LIKELY(o[k] != 0)) {
                store.underflows += dm_o[k] != 0;
            }
            continue;
        }
        const int32_t tanh_c = drnn_tanh_narrow_q14(c[k] * unit);
        const int32_t open = o[k];
        d_hidden[k] = 0;
        d_cell[k] += drnn_small_mul_rest(drnn_small_mul_q14(dh, open), tanh_c);
        drnn_store_dm(&store, dm_o[k] + drnn_small_mul_slope(drnn_small_mul_q14(dh, tanh_c), open), &dm_o[k], &o[k]);
    }
    *result = store;
}

#ifndef HAS_DSP_GATES
static void cell_gates_small(uint32_t n_hidden, int c_frac_bits, int16_t *gates, const int16_t *c_prev, int32_t *d_cell,
                             int32_t *dm, drnn_dm_store_t *result)
{
    drnn_dm_store_t store = *result;
    const int32_t *const end = dm + n_hidden;
#ifdef DRNN_LANES
    const uint32_t done = drnn_lstm_gates_vector(n_hidden, c_frac_bits, gates, c_prev, d_cell, dm, &store);
    gates += done;
    c_prev += done;
    d_cell += done;
    dm += done;
#endif
    for (; dm != end; ++gates, ++c_prev, ++d_cell, ++dm) {
        const int32_t dc = *d_cell;
        const int32_t i = gates[0];
        const int32_t f = gates[n_hidden];
        const int32_t g = gates[2 * n_hidden];
        const int32_t next = drnn_small_mul_q14(dc, f);
        const int32_t d_f = drnn_small_mul(drnn_small_mul_slope(dc, f), *c_prev, c_frac_bits);
        *d_cell = next;
        store.other_bits |= drnn_bits(next);
        drnn_store_dm(&store, dm[n_hidden] + d_f, &dm[n_hidden], &gates[n_hidden]);
        drnn_store_dm(&store, dm[0] + drnn_small_mul_slope(drnn_small_mul_q14(dc, g), i), &dm[0], &gates[0]);
        drnn_store_dm(&store, dm[2 * n_hidden] + drnn_small_mul_rest(drnn_small_mul_q14(dc, i), g), &dm[2 * n_hidden],
                      &gates[2 * n_hidden]);
    }
    *result = store;
}
#endif

int drnn_lstm_backward_small(drnn_t *net, uint32_t l, uint32_t t, drnn_dm_store_t *store)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t n_hidden = layer->n_hidden;
    int16_t *gates = drnn_gates_of(net, l, t);
    const int16_t *c = drnn_states_of(net, l, t);
    int32_t *dm = drnn_dm_acc(net, l);
    int32_t *d_cell = drnn_d_cell(net, l);
    int16_t *o = gates + 3 * n_hidden;
#ifdef HAS_DSP_GATES
    if (!drnn_is_even(layer)) {
        return 0;
    }
#endif
    output_gate_small(n_hidden, layer->c_frac_bits, o, drnn_is_last_held(net, t) ? NULL : o + drnn_m_count(layer), c,
                      drnn_d_hidden(net, l), d_cell, dm + 3 * n_hidden, store);
    const int16_t *c_prev = c - n_hidden;
#ifdef HAS_DSP_GATES
    drnn_store_end_dsp(store, drnn_lstm_gates_dsp(n_hidden, drnn_store_factor_dsp(store), gates, c_prev, d_cell, dm,
                                                  16 - layer->c_frac_bits, &store->underflows));
#else
    cell_gates_small(n_hidden, layer->c_frac_bits, gates, c_prev, d_cell, dm, store);
#endif
    return 1;
}
