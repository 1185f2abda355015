/*
 * M = b + W v_hat: kept up to date by the deltas' columns, or computed anew. NUMERICS.md, "Forward".
 */
#include "drnn_accumulators.h"

#include <string.h>

#include "drnn_activation.h"
#include "drnn_activation_narrow.h"
#include "drnn_fixed.h"
#include "drnn_vector.h"

#if defined(DRNN_LANES)
#include "drnn_activation_vector.h"
#elif defined(__ARM_FEATURE_DSP)
#include "drnn_activation_dsp.h"
#define HAS_DSP_ACTIVATIONS
#endif

static void add_column(int64_t *m, const int16_t *column, uint32_t rows, int64_t factor)
{
    for (uint32_t i = 0; i < rows; ++i) {
        m[i] += column[i] * factor;
    }
}

DRNN_RARE void drnn_m_compute(drnn_t *net, uint32_t l)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t rows = drnn_rows(layer);
    const uint32_t m_count = drnn_m_count(layer);
    const int64_t bias_unit = (int64_t)1 << (drnn_m_frac_bits(layer) - DRNN_BIAS_FRAC_BITS);
    const int16_t *v_hat = drnn_v_hat(net, l);
    int64_t *m = drnn_m_wide(net, l);
    for (uint32_t i = 0; i < m_count; ++i) {
        m[i] = drnn_bias(net, l)[i] * bias_unit;
    }
    for (uint32_t j = 0; j < drnn_width(layer); ++j) {
        const int16_t *column = &drnn_weight(net, l)[j * rows];
        if (v_hat[j] == 0) {
            continue;
        }
        if (j < layer->n_in) {
            add_column(m, column, rows, v_hat[j] * ((int64_t)1 << drnn_x_shift(layer)));
        } else {
            add_column(m + drnn_h_first(layer), column, rows, v_hat[j] * ((int64_t)1 << drnn_h_shift(layer)));
        }
    }
    int fits = 1;
    for (uint32_t i = 0; i < m_count; ++i) {
        fits &= m[i] == (int32_t)m[i];
    }
    net->m_is_wide[l] = (uint8_t)!fits;
    if (fits) { /* in place, from the first on */
        for (uint32_t i = 0; i < m_count; ++i) {
            int64_t value;
            memcpy(&value, &m[i], sizeof value);
            const int32_t narrow = (int32_t)value;
            memcpy(&drnn_m_narrow(net, l)[i], &narrow, sizeof narrow);
        }
    }
}

/* How many factors of 16 bits make up one of 32. */
static uint32_t n_pieces(int32_t factor)
{
    const uint32_t magnitude = drnn_magnitude(factor);
    return magnitude <= DRNN_FACTOR_MAX ? 1u : (magnitude + DRNN_FACTOR_MAX - 1u) / DRNN_FACTOR_MAX;
}

/* Cut the factors of entries[n] to 16 bits, in place, from the last on; `end` is where the pieces will end. */
DRNN_RARE static void cut(drnn_entry_t *entries, uint32_t n, drnn_entry_t *end)
{
    while (n-- > 0) {
        const uint32_t place = entries[n].place;
        int32_t rest = entries[n].factor;
        do {
            const int32_t piece = rest > DRNN_FACTOR_MAX    ? DRNN_FACTOR_MAX
                                  : rest < -DRNN_FACTOR_MAX ? -DRNN_FACTOR_MAX
                                                            : rest;
            --end;
            end->place = place;
            end->factor = piece;
            rest -= piece;
        } while (rest != 0);
    }
}

DRNN_RARE static uint32_t count_pieces(const drnn_entry_t *entries, uint32_t n)
{
    uint32_t count = 0;
    for (uint32_t a = 0; a < n; ++a) {
        count += n_pieces(entries[a].factor);
    }
    return count;
}

/* Returns 0 where M no longer fits 32 bits, or its entries the list, and M is lost. */
static int add_narrow(drnn_t *net, uint32_t l, uint32_t n_x, uint32_t n_h, uint32_t bits)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const int16_t *weight = drnn_weight(net, l);
    drnn_entry_t *entries = drnn_entries(net);
    if (bits > DRNN_FACTOR_MAX) {
        const uint32_t x_pieces = count_pieces(entries, n_x);
        const uint32_t h_pieces = count_pieces(entries + n_x, n_h);
        if (x_pieces + h_pieces > drnn_width(layer) + layer->n_in) {
            return 0;
        }
        cut(entries, n_x + n_h, entries + x_pieces + h_pieces);
        n_x = x_pieces;
        n_h = h_pieces;
    }
    int32_t *m = drnn_m_narrow(net, l);
    const uint32_t rows = drnn_rows(layer);
    const uint32_t h_first = drnn_h_first(layer);
    const int is_even = drnn_is_even(layer);
    if (h_first == 0) {
        return drnn_add_columns(m, weight, 0, rows, entries, n_x + n_h, is_even);
    }
    /* Of a GRU, those below h_first meet inputs alone, those from `rows` on hidden units alone. */
    return drnn_add_columns(m, weight, 0, h_first, entries, n_x, is_even) &&
           drnn_add_columns(m, weight, h_first, rows, entries, n_x + n_h, is_even) &&
           drnn_add_columns(m, weight, rows, drnn_m_count(layer), entries + n_x, n_h, is_even);
}

DRNN_RARE static void add_wide(drnn_t *net, uint32_t l, uint32_t n_x, uint32_t n_h)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const drnn_entry_t *entries = drnn_entries(net);
    for (uint32_t a = 0; a < n_x + n_h; ++a) {
        const uint32_t first = a < n_x ? 0 : drnn_h_first(layer);
        add_column(drnn_m_wide(net, l) + first, drnn_rows_at(drnn_weight(net, l), entries[a].place) + first,
                   drnn_rows(layer), entries[a].factor);
    }
}

void drnn_m_add(drnn_t *net, uint32_t l, uint32_t n_x, uint32_t n_h, uint32_t bits)
{
    if (net->m_is_wide[l]) {
        add_wide(net, l, n_x, n_h);
    } else if (!add_narrow(net, l, n_x, n_h, bits)) {
        drnn_m_compute(net, l);
    }
}

/* How far M is shifted to the argument of the one or the other. */
static int argument_bits(const drnn_layer_t *layer, int is_tanh)
{
    return drnn_m_frac_bits(layer) - (is_tanh ? DRNN_TANH_FRAC_BITS : DRNN_SIGMOID_FRAC_BITS);
}

/* Of M of either width, any number of units. */
DRNN_RARE static void activate_any(const drnn_t *net, uint32_t l, uint32_t first, uint32_t count, int16_t *gates, int is_tanh)
{
    const int bits = argument_bits(drnn_layer(net, l), is_tanh);
    for (uint32_t k = 0; k < count; ++k) {
        const int32_t x = drnn_wide_argument(drnn_m_at(net, l, first + k), bits);
        gates[k] = (int16_t)(is_tanh ? drnn_tanh_narrow_q14(x) : drnn_sigmoid_narrow_q14(x));
    }
}

/* One of the two below: `is_tanh` is constant, so that each is a loop of its own. */
__attribute__((always_inline)) static inline void activate(const drnn_t *net, uint32_t l, uint32_t first, uint32_t count,
                                                           int16_t *gates, int is_tanh)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const int32_t *m = drnn_m_narrow(net, l) + first;
#ifdef HAS_DSP_ACTIVATIONS
    if (net->m_is_wide[l] || !drnn_is_even(layer)) {
        activate_any(net, l, first, count, gates, is_tanh);
    } else if (is_tanh) {
        drnn_tanhs_dsp(m, gates, count, drnn_divisor(argument_bits(layer, 1)), drnn_sigmoid_table);
    } else {
        drnn_sigmoids_dsp(m, gates, count, drnn_divisor(argument_bits(layer, 0)), drnn_sigmoid_table);
    }
#else
    if (net->m_is_wide[l]) {
        activate_any(net, l, first, count, gates, is_tanh);
        return;
    }
    const int32_t *const end = m + count;
#ifdef DRNN_LANES
    for (const int32_t *const whole = m + drnn_v_whole(count); m != whole; m += DRNN_LANES, gates += DRNN_LANES) {
        const drnn_v32_t x = drnn_v_round_shift(drnn_v_load32(m), argument_bits(layer, is_tanh));
        drnn_v_store16(gates, is_tanh ? drnn_v_tanh_q14(x) : drnn_v_sigmoid_q14(x));
    }
#endif
    const int32_t divisor = drnn_divisor(argument_bits(layer, is_tanh));
    for (; m != end; ++m, ++gates) {
        const int32_t x = drnn_scale_down(*m, divisor);
        *gates = (int16_t)(is_tanh ? drnn_tanh_narrow_q14(x) : drnn_sigmoid_narrow_q14(x));
    }
#endif
}

void drnn_m_sigmoids(const drnn_t *net, uint32_t l, uint32_t first, uint32_t count, int16_t *gates)
{
    activate(net, l, first, count, gates, 0);
}

void drnn_m_tanhs(const drnn_t *net, uint32_t l, uint32_t first, uint32_t count, int16_t *gates)
{
    activate(net, l, first, count, gates, 1);
}
