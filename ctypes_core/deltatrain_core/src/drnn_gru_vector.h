/*
 * The loops of drnn_gru.c, a vector of units at a time. Each returns how many units it took.
 */
#ifndef DRNN_GRU_VECTOR_H
#define DRNN_GRU_VECTOR_H

#include "drnn_activation_vector.h"

/* candidates_narrow; shifts to tanh's argument, to Q22 and to what is kept. */
static inline uint32_t drnn_gru_candidates_vector(uint32_t n_hidden, const int32_t *m_nx, int16_t *gates, int to_argument,
                                                  int to_q22, int to_kept, uint32_t *saturated)
{
    const uint32_t n = drnn_v_whole(n_hidden);
    uint32_t count = *saturated;
    for (uint32_t k = 0; k < n; k += DRNN_LANES) {
        const drnn_v32_t m_nh = drnn_v_load32(&m_nx[3 * n_hidden + k]);
        const drnn_v32_t r = drnn_v_load16(&gates[n_hidden + k]);
        const drnn_v32_t gated =
            drnn_v_mul_high(drnn_v_shift_left(drnn_v_round_shift(m_nh, to_q22), 1), drnn_v_shift_left(r, 16));
        const drnn_v32_t argument = drnn_v_add(drnn_v_round_shift(drnn_v_load32(&m_nx[k]), to_argument), gated);
        drnn_v_store16(&gates[k], drnn_v_tanh_q14(argument));
        drnn_v_store16(&gates[3 * n_hidden + k],
                       drnn_v_saturate(drnn_v_round_shift(m_nh, to_kept), DRNN_INT16_MAX, &count));
    }
    *saturated = count;
    return n;
}

/* h = (1 - z) n + z h */
static inline uint32_t drnn_gru_mix_vector(uint32_t n_hidden, const int16_t *n_gate, const int16_t *z_gate, const int16_t *h,
                                           int16_t *state, uint32_t *saturated)
{
    const uint32_t n = drnn_v_whole(n_hidden);
    uint32_t count = *saturated;
    for (uint32_t k = 0; k < n; k += DRNN_LANES) {
        const drnn_v32_t z = drnn_v_load16(&z_gate[k]);
        const drnn_v32_t mixed =
            drnn_v_add(drnn_v_mul_halves(drnn_v_load16(&n_gate[k]), drnn_v_sub(drnn_v_set(DRNN_ONE_Q14), z)),
                       drnn_v_mul_halves(drnn_v_load16(&h[k]), z));
        drnn_v_store16(&state[k], drnn_v_cut_hidden(drnn_v_round_shift(mixed, 14), &count));
    }
    *saturated = count;
    return n;
}

/* gates_small */
static inline uint32_t drnn_gru_gates_vector(uint32_t n_hidden, int c_frac_bits, int16_t *gates, const int16_t *h_prev,
                                             int32_t *d_hidden, int32_t *dm, drnn_dm_store_t *result)
{
    const uint32_t n = drnn_v_whole(n_hidden);
    drnn_v_dm_store_t store = drnn_v_store_begin(result);
    for (uint32_t k = 0; k < n; k += DRNN_LANES) {
        const drnn_v32_t n_value = drnn_v_load16(&gates[k]);
        const drnn_v32_t r = drnn_v_load16(&gates[n_hidden + k]);
        const drnn_v32_t z = drnn_v_load16(&gates[2 * n_hidden + k]);
        const drnn_v32_t m_nh = drnn_v_load16(&gates[3 * n_hidden + k]);
        const drnn_v32_t dh = drnn_v_load32(&d_hidden[k]);
        const drnn_v32_t to_n = drnn_v_small_mul_q14(dh, drnn_v_sub(drnn_v_set(DRNN_ONE_Q14), z));
        const drnn_v32_t d_nx = drnn_v_small_mul_rest(to_n, n_value);
        const drnn_v32_t d_r = drnn_v_small_mul(drnn_v_small_mul_slope(d_nx, r), m_nh, c_frac_bits);
        const drnn_v32_t d_z =
            drnn_v_small_mul_slope(drnn_v_small_mul_q14(dh, drnn_v_sub(drnn_v_load16(&h_prev[k]), n_value)), z);
        const drnn_v32_t d_nh = drnn_v_small_mul_q14(d_nx, r);
        const drnn_v32_t own = drnn_v_small_mul_q14(dh, z);
        drnn_v_store32(&d_hidden[k], own);
        store.other_bits = drnn_v_or(store.other_bits, drnn_v_bits(own));
        drnn_v_store_dm(&store, d_nx, &dm[k], &gates[k]);
        drnn_v_store_dm(&store, d_r, &dm[n_hidden + k], &gates[n_hidden + k]);
        drnn_v_store_dm(&store, d_z, &dm[2 * n_hidden + k], &gates[2 * n_hidden + k]);
        drnn_v_store_dm(&store, d_nh, &dm[3 * n_hidden + k], &gates[3 * n_hidden + k]);
    }
    drnn_v_store_end(&store, result);
    return n;
}

#endif
