/*
 * The loops of drnn_lstm.c, a vector of units at a time. Each returns how many units it took.
 */
#ifndef DRNN_LSTM_VECTOR_H
#define DRNN_LSTM_VECTOR_H

#include <stddef.h>

#include "drnn_activation_vector.h"

/*
 * c = f c_prev + i g and h = o tanh c. With k = 14 - c_frac_bits, the sum i g + 2^k f c_prev shifted by 14 + k is
 * (i g >> k) + f c_prev, shifted by 14: below 2^30.
 */
static inline uint32_t drnn_lstm_mix_vector(const int16_t *gates, uint32_t n_hidden, int c_frac_bits, const int16_t *c_prev,
                                            int16_t *c, int16_t *h, drnn_result_t *result)
{
    const uint32_t n = drnn_v_whole(n_hidden);
    const int k_bits = DRNN_H_FRAC_BITS - c_frac_bits;
    const drnn_v32_t half = drnn_v_set((int32_t)1 << (13 + k_bits));
    uint32_t saturated_c = result->saturated_c;
    uint32_t saturated_h = result->saturated_h;
    for (uint32_t k = 0; k < n; k += DRNN_LANES) {
        const drnn_v32_t i = drnn_v_load16(&gates[k]);
        const drnn_v32_t f = drnn_v_load16(&gates[n_hidden + k]);
        const drnn_v32_t g = drnn_v_load16(&gates[2 * n_hidden + k]);
        const drnn_v32_t o = drnn_v_load16(&gates[3 * n_hidden + k]);
        const drnn_v32_t of_input = drnn_v_shift_right(drnn_v_add(drnn_v_mul_halves(g, i), half), k_bits);
        const drnn_v32_t sum = drnn_v_add(drnn_v_mul_halves(drnn_v_load16(&c_prev[k]), f), of_input);
        const drnn_v32_t mixed = drnn_v_saturate(drnn_v_shift_right(sum, 14), DRNN_INT16_MAX, &saturated_c);
        const drnn_v32_t tanh_c = drnn_v_tanh_q14(drnn_v_shift_left(mixed, DRNN_TANH_FRAC_BITS - c_frac_bits));
        drnn_v_store16(&c[k], mixed);
        drnn_v_store16(&h[k], drnn_v_cut_hidden(drnn_v_round_shift(drnn_v_mul_halves(tanh_c, o), 14), &saturated_h));
    }
    result->saturated_c = saturated_c;
    result->saturated_h = saturated_h;
    return n;
}

/* output_gate_small. Where dh is not 0 in a whole vector, `later` holds what would be formed anew. */
static inline uint32_t drnn_lstm_output_vector(uint32_t n_hidden, int c_frac_bits, int16_t *o, const int16_t *later,
                                               const int16_t *c, int32_t *d_hidden, int32_t *d_cell, int32_t *dm_o,
                                               drnn_dm_store_t *result)
{
    const uint32_t n = drnn_v_whole(n_hidden);
    drnn_v_dm_store_t store = drnn_v_store_begin(result);
    for (uint32_t k = 0; k < n; k += DRNN_LANES) {
        const drnn_v32_t dh = drnn_v_load32(&d_hidden[k]);
        if (later != NULL && drnn_v_is_zero(dh)) {
            const drnn_v32_t stored = drnn_v_load16(&later[k]);
            drnn_v_store16(&o[k], stored);
            drnn_v_count_lost(&store.underflows, stored, drnn_v_load32(&dm_o[k]));
            continue;
        }
        const drnn_v32_t tanh_c = drnn_v_tanh_q14(drnn_v_shift_left(drnn_v_load16(&c[k]), DRNN_TANH_FRAC_BITS - c_frac_bits));
        const drnn_v32_t open = drnn_v_load16(&o[k]);
        const drnn_v32_t to_c = drnn_v_small_mul_rest(drnn_v_small_mul_q14(dh, open), tanh_c);
        drnn_v_store32(&d_hidden[k], drnn_v_set(0));
        drnn_v_store32(&d_cell[k], drnn_v_add(drnn_v_load32(&d_cell[k]), to_c));
        drnn_v_store_dm(&store, drnn_v_small_mul_slope(drnn_v_small_mul_q14(dh, tanh_c), open), &dm_o[k], &o[k]);
    }
    drnn_v_store_end(&store, result);
    return n;
}

/* cell_gates_small */
static inline uint32_t drnn_lstm_gates_vector(uint32_t n_hidden, int c_frac_bits, int16_t *gates, const int16_t *c_prev,
                                              int32_t *d_cell, int32_t *dm, drnn_dm_store_t *result)
{
    const uint32_t n = drnn_v_whole(n_hidden);
    drnn_v_dm_store_t store = drnn_v_store_begin(result);
    for (uint32_t k = 0; k < n; k += DRNN_LANES) {
        const drnn_v32_t dc = drnn_v_load32(&d_cell[k]);
        const drnn_v32_t i = drnn_v_load16(&gates[k]);
        const drnn_v32_t f = drnn_v_load16(&gates[n_hidden + k]);
        const drnn_v32_t g = drnn_v_load16(&gates[2 * n_hidden + k]);
        const drnn_v32_t next = drnn_v_small_mul_q14(dc, f);
        const drnn_v32_t d_f = drnn_v_small_mul(drnn_v_small_mul_slope(dc, f), drnn_v_load16(&c_prev[k]), c_frac_bits);
        const drnn_v32_t d_i = drnn_v_small_mul_slope(drnn_v_small_mul_q14(dc, g), i);
        const drnn_v32_t d_g = drnn_v_small_mul_rest(drnn_v_small_mul_q14(dc, i), g);
        drnn_v_store32(&d_cell[k], next);
        store.other_bits = drnn_v_or(store.other_bits, drnn_v_bits(next));
        drnn_v_store_dm(&store, d_i, &dm[k], &gates[k]);
        drnn_v_store_dm(&store, d_f, &dm[n_hidden + k], &gates[n_hidden + k]);
        drnn_v_store_dm(&store, d_g, &dm[2 * n_hidden + k], &gates[2 * n_hidden + k]);
    }
    drnn_v_store_end(&store, result);
    return n;
}

#endif
