/*
 * The GRU in PyTorch's form: n = tanh(M_nx + r M_nh), h_t = (1 - z) n + z h_{t-1}. Accumulators in the order nx, r, z,
 * nh; in their places the history keeps n, r, z and M_nh, the latter in the layer's c format.
 */
#include <string.h>

#include "drnn_accumulators.h"
#include "drnn_activation.h"
#include "drnn_activation_narrow.h"
#include "drnn_fixed.h"
#include "drnn_history.h"

#include "drnn_vector.h"

#if defined(DRNN_LANES)
#include "drnn_gru_vector.h"
#elif defined(__ARM_FEATURE_DSP)
#include "drnn_gru_dsp.h"
#define HAS_DSP_GATES
#endif

#ifdef HAS_DSP_GATES
#define MIX DRNN_RARE /* where something saturates, or units do not come in pairs */
#else
#define MIX
#endif

#define M_NH_FRAC_BITS 22 /* of M_nh before r multiplies it; the product has as many as tanh's argument */

/* n = tanh(M_nx + r M_nh), and M_nh for the way back; r stands in gates[n_hidden]. Of M of either width. */
DRNN_RARE static void candidates_any(drnn_t *net, uint32_t l, int16_t *gates)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t n_hidden = layer->n_hidden;
    const int m_frac_bits = drnn_m_frac_bits(layer);
    for (uint32_t k = 0; k < n_hidden; ++k) {
        const int64_t m_nx = drnn_m_at(net, l, k);
        const int64_t m_nh = drnn_m_at(net, l, 3 * n_hidden + k);
        const int64_t gated =
            drnn_round_shift((int64_t)gates[n_hidden + k] * drnn_wide_argument(m_nh, m_frac_bits - M_NH_FRAC_BITS), 15);
        gates[k] = (int16_t)drnn_tanh_q14(drnn_wide_argument(m_nx, m_frac_bits - DRNN_TANH_FRAC_BITS) + gated);
        gates[3 * n_hidden + k] = (int16_t)drnn_saturate(drnn_round_shift(m_nh, m_frac_bits - layer->c_frac_bits),
                                                         DRNN_INT16_MAX, &net->result.saturated_c);
    }
}

#ifndef HAS_DSP_GATES
/* The same of M of 32 bits. */
static void candidates_narrow(const drnn_layer_t *layer, const int32_t *m_nx, int16_t *gates, uint32_t *saturated)
{
    const uint32_t n_hidden = layer->n_hidden;
    const int m_frac_bits = drnn_m_frac_bits(layer);
    const int32_t to_argument = drnn_divisor(m_frac_bits - DRNN_TANH_FRAC_BITS);
    const int32_t to_q22 = drnn_divisor(m_frac_bits - M_NH_FRAC_BITS);
    const int32_t to_kept = drnn_divisor(m_frac_bits - layer->c_frac_bits);
    const int32_t *const end = m_nx + n_hidden;
#ifdef DRNN_LANES
    const uint32_t done =
        drnn_gru_candidates_vector(n_hidden, m_nx, gates, m_frac_bits - DRNN_TANH_FRAC_BITS, m_frac_bits - M_NH_FRAC_BITS,
                                   m_frac_bits - layer->c_frac_bits, saturated);
    m_nx += done;
    gates += done;
#endif
    for (; m_nx != end; ++m_nx, ++gates) {
        const int32_t m_nh = m_nx[3 * n_hidden];
        /* M has 24 fraction bits or more: in Q22 it is below 2^29, in Q21 below 2^28. */
        const int32_t gated = drnn_mul_high(drnn_scale_down(m_nh, to_q22) * 2, gates[n_hidden] * 65536);
        gates[0] = (int16_t)drnn_tanh_narrow_q14(drnn_scale_down(*m_nx, to_argument) + gated);
        gates[3 * n_hidden] =
            (int16_t)drnn_saturate16(drnn_scale_down(m_nh, to_kept), saturated);
    }
}
#endif

/* n, M_nh and h_t of all units, r and z being there. */
MIX static void mix(drnn_t *net, uint32_t l, int16_t *gates, const int16_t *h, int16_t *state)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t n_hidden = layer->n_hidden;
    const int16_t *n = gates;
    const int16_t *z = gates + 2 * n_hidden;

#ifndef HAS_DSP_GATES
    if (!net->m_is_wide[l]) {
        candidates_narrow(layer, drnn_m_narrow(net, l), gates, &net->result.saturated_c);
    } else
#endif
    {
        candidates_any(net, l, gates);
    }
    uint32_t k = 0;
#ifdef DRNN_LANES
    k = drnn_gru_mix_vector(n_hidden, n, z, h, state, &net->result.saturated_h);
#endif
    for (; k < n_hidden; ++k) {
        const int32_t mixed = (DRNN_ONE_Q14 - z[k]) * n[k] + z[k] * h[k]; /* Q28, at most 2^28 */
        state[k] = drnn_cut_hidden(drnn_round_shift_narrow(mixed, 14), &net->result.saturated_h);
    }
}

void drnn_gru_forward(drnn_t *net, uint32_t l, uint32_t t)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t n_hidden = layer->n_hidden;
    int16_t *gates = drnn_gates_of(net, l, t);
    int16_t *state = drnn_states_of(net, l, t);
    int done = 0;

    drnn_m_sigmoids(net, l, n_hidden, 2 * n_hidden, gates + n_hidden); /* r, z */
#ifdef HAS_DSP_GATES
    if (drnn_is_even(layer) && !net->m_is_wide[l]) {
        const int m_frac_bits = drnn_m_frac_bits(layer);
        const drnn_gru_divisors_t divisors = {
            drnn_divisor(m_frac_bits - DRNN_TANH_FRAC_BITS), drnn_divisor(m_frac_bits - layer->c_frac_bits), drnn_sigmoid_table};
        done = !drnn_gru_mix_dsp(drnn_m_narrow(net, l), n_hidden, gates, state - n_hidden, &divisors);
    }
#endif
    if (!done) {
        mix(net, l, gates, state - n_hidden, state);
    }
    memcpy(drnn_hidden(net, l), state, n_hidden * sizeof(int16_t));
}

void drnn_gru_hidden(const drnn_t *net, uint32_t l, uint32_t t, int16_t *h)
{
    const uint32_t n_hidden = drnn_layer(net, l)->n_hidden;
    memcpy(h, drnn_states_of(net, l, t), n_hidden * sizeof(int16_t));
}

DRNN_RARE void drnn_gru_backward(drnn_t *net, uint32_t l, uint32_t t)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t n_hidden = layer->n_hidden;
    const int16_t *gates = drnn_gates_of(net, l, t);
    const int16_t *h_before = drnn_states_of(net, l, t - 1u);
    int32_t *dm = drnn_dm_acc(net, l);
    int32_t *d_hidden = drnn_d_hidden(net, l);
    uint32_t *saturated = &net->result.saturated_grad;

    for (uint32_t k = 0; k < n_hidden; ++k) {
        const int32_t n = gates[k];
        const int32_t r = gates[n_hidden + k];
        const int32_t z = gates[2 * n_hidden + k];
        const int32_t m_nh = gates[3 * n_hidden + k];
        const int32_t h_prev = h_before[k];
        const int32_t dh = d_hidden[k];

        const int32_t d_nx =
            drnn_mul_q28(drnn_mul_q14(dh, DRNN_ONE_Q14 - z), DRNN_ONE_Q28 - n * n);
        const int32_t d_nh = drnn_mul_q14(d_nx, r);
        const int32_t d_r =
            drnn_mul_narrow(drnn_mul_q28(d_nx, r * (DRNN_ONE_Q14 - r)), m_nh, layer->c_frac_bits, saturated);
        const int32_t d_z =
            drnn_mul_q28(drnn_mul_narrow(dh, h_prev - n, 14, saturated), z * (DRNN_ONE_Q14 - z));

        d_hidden[k] = drnn_mul_q14(dh, z);
        drnn_add_to(&dm[k], d_nx, saturated);
        drnn_add_to(&dm[n_hidden + k], d_r, saturated);
        drnn_add_to(&dm[2 * n_hidden + k], d_z, saturated);
        drnn_add_to(&dm[3 * n_hidden + k], d_nh, saturated);
    }
}

#ifndef HAS_DSP_GATES
static void gates_small(uint32_t n_hidden, int c_frac_bits, int16_t *gates, const int16_t *h_prev, int32_t *d_hidden,
                        int32_t *dm, drnn_dm_store_t *result)
{
    drnn_dm_store_t store = *result;
    const int32_t *const end = dm + n_hidden;
#ifdef DRNN_LANES
    const uint32_t done = drnn_gru_gates_vector(n_hidden, c_frac_bits, gates, h_prev, d_hidden, dm, &store);
    gates += done;
    h_prev += done;
    d_hidden += done;
    dm += done;
#endif
    for (; dm != end; ++dm, ++gates, ++d_hidden, ++h_prev) {
        const int32_t n = gates[0];
        const int32_t r = gates[n_hidden];
        const int32_t z = gates[2 * n_hidden];
        const int32_t dh = *d_hidden;
        const int32_t d_nx = drnn_small_mul_rest(drnn_small_mul_q14(dh, DRNN_ONE_Q14 - z), n);
        const int32_t d_r = drnn_small_mul(drnn_small_mul_slope(d_nx, r), gates[3 * n_hidden], c_frac_bits);
        const int32_t d_z = drnn_small_mul_slope(drnn_small_mul_q14(dh, *h_prev - n), z);
        const int32_t d_nh = drnn_small_mul_q14(d_nx, r);
        const int32_t own = drnn_small_mul_q14(dh, z);
        *d_hidden = own;
        store.other_bits |= drnn_bits(own);
        drnn_store_dm(&store, dm[0] + d_nx, &dm[0], &gates[0]);
        drnn_store_dm(&store, dm[n_hidden] + d_r, &dm[n_hidden], &gates[n_hidden]);
        drnn_store_dm(&store, dm[2 * n_hidden] + d_z, &dm[2 * n_hidden], &gates[2 * n_hidden]);
        drnn_store_dm(&store, dm[3 * n_hidden] + d_nh, &dm[3 * n_hidden], &gates[3 * n_hidden]);
    }
    *result = store;
}
#endif

/* The same for small gradients; gates are overwritten by dM. */
int drnn_gru_backward_small(drnn_t *net, uint32_t l, uint32_t t, drnn_dm_store_t *store)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t n_hidden = layer->n_hidden;
    int16_t *gates = drnn_gates_of(net, l, t);
    const int16_t *h_prev = drnn_states_of(net, l, t - 1u);
#ifdef HAS_DSP_GATES
    if (!drnn_is_even(layer)) {
        return 0;
    }
    drnn_store_end_dsp(store, drnn_gru_gates_dsp(n_hidden, drnn_store_factor_dsp(store), gates, h_prev, drnn_d_hidden(net, l),
                                                 drnn_dm_acc(net, l), 16 - layer->c_frac_bits, &store->underflows));
#else
    gates_small(n_hidden, layer->c_frac_bits, gates, h_prev, drnn_d_hidden(net, l), drnn_dm_acc(net, l), store);
#endif
    return 1;
}
