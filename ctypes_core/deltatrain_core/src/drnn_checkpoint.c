/*
 * DRNN_CHECKPOINTS: long samples in little memory. Going forward, what each segment begins with is kept (v_hat, h and the
 * LSTM's c; M is b + W v_hat), and the inputs. Going back, a segment's history is computed again from there.
 *
 * dM has one exponent over the sample, which grows on the way back, and what was stored before is rounded anew each time
 * (NUMERICS.md, "Gradients"). So the way back is gone twice: the first time only to learn where the exponent grows, the
 * second to round each segment's dM by all that comes after it, and to add its part to the gradient of W.
 */
#include <string.h>

#include "drnn_accumulators.h"
#include "drnn_fixed.h"
#include "drnn_history.h"

#define N_SO_FAR 0u
#define N_IN_ALL 1u
#define FIRST_RAISE 2u

static uint32_t states_count(const drnn_layer_t *layer)
{
    return layer->n_hidden * (drnn_has_cell(layer) ? 2u : 1u);
}

/* Where segment `number`, not the first, finds what it begins with. */
static int16_t *checkpoint(const drnn_t *net, uint32_t l, uint32_t number)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    return drnn_checkpoints(net, l) + (number - 1u) * (drnn_width(layer) + states_count(layer));
}

/* h, and the LSTM's c of step t -> states [states_count]. */
static void save_states(const drnn_t *net, uint32_t l, uint32_t t, int16_t *states)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t bytes = layer->n_hidden * (uint32_t)sizeof(int16_t);
    memcpy(states, drnn_hidden(net, l), bytes);
    if (drnn_has_cell(layer)) {
        memcpy(states + layer->n_hidden, drnn_states_of(net, l, t), bytes);
    }
}

/* The same back, c and the GRU's h to where the first step held looks for those of the step before it. */
static void restore_states(drnn_t *net, uint32_t l, const int16_t *states)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t bytes = layer->n_hidden * (uint32_t)sizeof(int16_t);
    memcpy(drnn_hidden(net, l), states, bytes);
    if (drnn_cell_of(layer) != DRNN_RNN) {
        memcpy(drnn_states(net, l), drnn_has_cell(layer) ? states + layer->n_hidden : states, bytes);
    }
}

void drnn_next_segment(drnn_t *net)
{
    for (uint32_t l = 0; l < net->model->n_layers; ++l) {
        const drnn_layer_t *layer = drnn_layer(net, l);
        if (drnn_memory_of(net->model) == DRNN_CHECKPOINTS) {
            int16_t *kept = checkpoint(net, l, net->segment + 1u);
            memcpy(kept, drnn_v_hat(net, l), drnn_width(layer) * sizeof(int16_t));
            save_states(net, l, net->n_steps - 1u, kept + drnn_width(layer));
            restore_states(net, l, kept + drnn_width(layer));
        } else if (drnn_cell_of(layer) != DRNN_RNN) {
            memcpy(drnn_states(net, l), drnn_states_of(net, l, net->n_steps - 1u), layer->n_hidden * sizeof(int16_t));
        }
        net->n_events[l] = 0;
    }
    ++net->segment;
}

/*
 * Entries [first, end) of v_hat, all inputs or all hidden units, as if they were transmitted at once: M is b + W v_hat of those
 * before them.
 */
static void transmit(drnn_t *net, uint32_t l, const int16_t *v_hat, uint32_t first, uint32_t end)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t rows = drnn_rows(layer);
    const int is_x = first < layer->n_in;
    const uint32_t m_first = is_x ? 0 : drnn_h_first(layer);
    const int shift = is_x ? drnn_x_shift(layer) : drnn_h_shift(layer);
    drnn_entry_t *entries = drnn_entries(net);
    uint32_t n = 0;
    uint32_t bits = 0;
    for (uint32_t j = first; j < end; ++j) {
        if (v_hat[j] != 0) {
            entries[n] = drnn_m_entry(drnn_weight(net, l), j, rows, m_first, v_hat[j], shift);
            bits |= drnn_bits(entries[n].factor);
            ++n;
        }
    }
    memcpy(drnn_v_hat(net, l) + first, v_hat + first, (end - first) * sizeof(int16_t));
    drnn_m_add(net, l, is_x ? n : 0, is_x ? 0 : n, bits);
    net->result.macs_recomputed += rows * n;
}

static void restore_layer(drnn_t *net, uint32_t l, uint32_t number)
{
    drnn_begin_layer(net, l);
    if (number > 0) {
        const drnn_layer_t *layer = drnn_layer(net, l);
        const int16_t *kept = checkpoint(net, l, number);
        transmit(net, l, kept, 0, layer->n_in);
        transmit(net, l, kept, layer->n_in, drnn_width(layer));
        restore_states(net, l, kept + drnn_width(layer));
    }
}

/* Hold segment `number`: compute its history again. It counts nothing but what that took. */
static void recompute(drnn_t *net, uint32_t number)
{
    const uint32_t n_in = drnn_layer(net, 0)->n_in;
    net->segment = number;
    for (uint32_t l = 0; l < net->model->n_layers; ++l) {
        restore_layer(net, l, number);
    }
    drnn_result_t counted = net->result;
    const uint32_t first = drnn_first_step(net);
    const uint32_t end = first + drnn_steps_held(net);
    for (uint32_t t = first; t < end; ++t) {
        drnn_forward_step(net, t, drnn_frames(net) + t * n_in); /* its events had room before */
    }
    counted.macs_recomputed += net->result.macs_forward - counted.macs_forward;
    net->result = counted;
}

void drnn_note_raise(drnn_t *net, uint32_t l, uint32_t t, int raise)
{
    uint16_t *raises = drnn_raises(net, l);
    uint16_t *next = &raises[FIRST_RAISE + 2u * raises[N_SO_FAR]];
    next[0] = (uint16_t)t; /* the second time what stands there already */
    next[1] = (uint16_t)raise;
    ++raises[N_SO_FAR];
}

/* |Delta| of the steps held, to the sum of each column. */
static void add_to_delta_sums(drnn_t *net, uint32_t l)
{
    const uint32_t words = drnn_mask_words(drnn_layer(net, l));
    const uint32_t *mask = drnn_event_mask(net, l);
    const int16_t *value = drnn_event_value(net, l);
    uint32_t *sums = drnn_delta_sum(net, l);
    for (uint32_t row = 0; row < drnn_steps_held(net); ++row) {
        for (uint32_t word = 0; word < words; ++word) {
            for (uint32_t bits = *mask++; bits != 0; bits &= bits - 1) {
                sums[word * DRNN_MASK_BITS + drnn_lowest_bit(bits)] += drnn_magnitude(*value++);
            }
        }
    }
}

/*
 * The way back for the first time: where each layer's exponent grows, and the sum of each column's |Delta|. The last
 * segment's history still stands.
 */
static void learn_exponents(drnn_t *net, uint32_t n_segments, int64_t beta_q30)
{
    for (uint32_t l = 0; l < net->model->n_layers; ++l) {
        drnn_raises(net, l)[N_SO_FAR] = 0;
        memset(drnn_delta_sum(net, l), 0, drnn_width(drnn_layer(net, l)) * sizeof(uint32_t));
    }
    drnn_backward_start(net);
    for (uint32_t number = n_segments; number-- > 0;) {
        if (number != net->segment) {
            recompute(net, number);
        }
        for (uint32_t l = 0; l < net->model->n_layers; ++l) {
            add_to_delta_sums(net, l);
        }
        drnn_result_t counted = net->result;
        drnn_backward_steps(net, drnn_first_step(net), drnn_first_step(net) + drnn_steps_held(net), beta_q30);
        counted.macs_recomputed += net->result.macs_backward - counted.macs_backward;
        net->result = counted; /* it counts the second time */
    }
    for (uint32_t l = 0; l < net->model->n_layers; ++l) {
        drnn_raises(net, l)[N_IN_ALL] = drnn_raises(net, l)[N_SO_FAR];
        drnn_raises(net, l)[N_SO_FAR] = 0;
    }
}

/* The exponent will yet grow, going back from the segment held: its dM is rounded each time, as if it were kept. */
static void round_by_later_raises(drnn_t *net, uint32_t l)
{
    const uint16_t *raises = drnn_raises(net, l);
    for (uint32_t i = raises[N_SO_FAR]; i < raises[N_IN_ALL]; ++i) {
        drnn_raise_exponent(net, l, 0, raises[FIRST_RAISE + 2u * i + 1u]);
    }
}

/* dM Delta^T of the steps held, to the gradient of W. */
static void add_to_gradient(drnn_t *net, uint32_t l)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t rows = drnn_rows(layer);
    int32_t *sums = drnn_sums(net, l);
    int32_t *gradient = drnn_gradient(net, l);
    drnn_entry_t *entries = drnn_entries(net);
    for (uint32_t column = 0; column < drnn_width(layer); ++column, gradient += rows) {
        const uint32_t first = column < layer->n_in ? 0 : drnn_h_first(layer);
        uint32_t part; /* of the column's |Delta|, the segment's */
        const uint32_t n = drnn_events_of_column(net, l, column, first, &part);
        if (n == 0) {
            continue;
        }
        DRNN_PHASE(GRADIENT);
        drnn_round_events(entries, n, drnn_delta_shift(drnn_delta_sum(net, l)[column]));
        drnn_sum_columns(sums, drnn_gates(net, l), rows, entries, n, drnn_is_even(layer));
        for (uint32_t row = 0; row < rows; ++row) {
            gradient[row] += sums[row]; /* over the sample at most DRNN_FACTOR_SUM * 2^15 < 2^31 */
        }
        DRNN_PHASE(OTHER);
        net->result.macs_gradient += rows * n;
    }
}

void drnn_backward_by_segments(drnn_t *net, int64_t beta_q30)
{
    const uint32_t n_layers = net->model->n_layers;
    const uint32_t n_segments = net->segment + 1u;
    for (uint32_t l = 0; l < n_layers; ++l) {
        const drnn_layer_t *layer = drnn_layer(net, l);
        save_states(net, l, net->n_steps - 1u, drnn_last_states(net, l));
        memset(drnn_gradient(net, l), 0, drnn_width(layer) * drnn_rows(layer) * sizeof(int32_t));
    }
    learn_exponents(net, n_segments, beta_q30);
    drnn_backward_start(net);
    for (uint32_t number = n_segments; number-- > 0;) {
        recompute(net, number);
        drnn_backward_steps(net, drnn_first_step(net), drnn_first_step(net) + drnn_steps_held(net), beta_q30);
        for (uint32_t l = 0; l < n_layers; ++l) {
            round_by_later_raises(net, l);
        }
        drnn_add_to_bound(net);
        for (uint32_t l = 0; l < n_layers; ++l) {
            add_to_gradient(net, l);
        }
    }
    drnn_backward_finish(net);
    for (uint32_t l = 0; l < n_layers; ++l) { /* for the readout, and for whoever asks */
        memcpy(drnn_hidden(net, l), drnn_last_states(net, l), drnn_layer(net, l)->n_hidden * sizeof(int16_t));
    }
}
