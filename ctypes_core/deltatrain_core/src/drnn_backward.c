/*
 * Backward through time, with the masks held constant. dM_t replaces the gates of step t, so the history doubles as the
 * gradient's store. Equations: DESIGN.md, "The mathematics"; scaling: NUMERICS.md, "Gradients".
 */
#include <string.h>

#include "drnn_fixed.h"
#include "drnn_history.h"
#include "drnn_kernels.h"

static void clear(int32_t *values, uint32_t count)
{
    memset(values, 0, count * sizeof(int32_t));
}

static void start_layer(drnn_t *net, uint32_t l)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    clear(drnn_dm_acc(net, l), drnn_m_count(layer));
    clear(drnn_d_hidden(net, l), layer->n_hidden);
    clear(drnn_d_h_hat(net, l), layer->n_hidden);
    if (drnn_cell_of(layer) == DRNN_LSTM) {
        clear(drnn_d_cell(net, l), layer->n_hidden);
    }
    if (l > 0) {
        clear(drnn_d_x_hat(net, l), layer->n_in);
    }
    net->dm_exponent[l] = 0;
    net->carried_bits[l] = 0;
}

void drnn_raise_exponent(drnn_t *net, uint32_t l, uint32_t row, int raise)
{
    const uint32_t count = drnn_m_count(drnn_layer(net, l));
    const uint32_t end = drnn_steps_held(net) * count;
    int16_t *stored = drnn_gates(net, l);
    uint32_t underflows = 0;
    for (uint32_t i = row * count; i < end; ++i) {
        const int16_t before = stored[i];
        stored[i] = (int16_t)drnn_round_shift_narrow(before, raise);
        underflows += before != 0 && stored[i] == 0;
    }
    net->result.underflow_dm += underflows;
}

/* The largest and the smallest of values [count], or 0. */
typedef struct {
    int32_t largest, smallest;
} range_t;

DRNN_RARE static range_t range_of(const int32_t *values, uint32_t count)
{
    range_t range = {0, 0};
    for (const int32_t *const end = values + count; values != end; ++values) {
        range.largest = *values > range.largest ? *values : range.largest;
        range.smallest = *values < range.smallest ? *values : range.smallest;
    }
    return range;
}

static uint32_t bits_of(range_t range)
{
    return drnn_bits(range.largest) | drnn_bits(range.smallest);
}

/* round(value / 2^exponent) */
static int32_t rounded(int32_t value, int exponent)
{
    return exponent == 0 ? value : drnn_round_shift_narrow(value, exponent);
}

/*
 * Store dM_t, whose entries have this range, as int16 in the gates' place. One exponent serves the whole sample: where step t
 * needs a larger one, the steps stored before (t + 1 onwards) are shifted to it.
 */
DRNN_RARE static void store_dm(drnn_t *net, uint32_t l, uint32_t t, range_t range)
{
    const int32_t *dm = drnn_dm_acc(net, l);
    const int32_t *const end = dm + drnn_m_count(drnn_layer(net, l));
    int exponent = net->dm_exponent[l];
    while (rounded(range.largest, exponent) > DRNN_INT16_MAX || rounded(range.smallest, exponent) < -DRNN_INT16_MAX - 1) {
        ++exponent; /* 17 in the end at most */
    }
    uint32_t underflows = 0;
    for (int16_t *stored = drnn_gates_of(net, l, t); dm != end; ++dm, ++stored) {
        const int32_t value = rounded(*dm, exponent);
        *stored = (int16_t)value;
        underflows += *dm != 0 && value == 0;
    }
    const int raise = exponent - net->dm_exponent[l];
    if (raise > 0) {
        drnn_raise_exponent(net, l, t + 1u - drnn_first_step(net), raise);
        if (drnn_memory_of(net->model) == DRNN_CHECKPOINTS) {
            drnn_note_raise(net, l, t, raise);
        }
        net->dm_exponent[l] = exponent;
    }
    net->result.underflow_dm += underflows;
}

static void cell_backward(drnn_t *net, uint32_t l, uint32_t t)
{
    switch (drnn_cell_of(drnn_layer(net, l))) {
    case DRNN_LSTM:
        drnn_lstm_backward(net, l, t);
        break;
    case DRNN_GRU:
        drnn_gru_backward(net, l, t);
        break;
    default:
        drnn_rnn_backward(net, l, t);
        break;
    }
}

static int cell_backward_small(drnn_t *net, uint32_t l, uint32_t t, drnn_dm_store_t *store)
{
    switch (drnn_cell_of(drnn_layer(net, l))) {
    case DRNN_LSTM:
        return drnn_lstm_backward_small(net, l, t, store);
    case DRNN_GRU:
        return drnn_gru_backward_small(net, l, t, store);
    default:
        return drnn_rnn_backward_small(net, l, t, store);
    }
}

/* drnn_bits of what is carried beside dM. */
static uint32_t other_bits_of(const drnn_t *net, uint32_t l)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t n_hidden = layer->n_hidden;
    return bits_of(range_of(drnn_d_hidden(net, l), n_hidden)) |
           (drnn_cell_of(layer) == DRNN_LSTM ? bits_of(range_of(drnn_d_cell(net, l), n_hidden)) : 0);
}

/* dM_t, carried and stored. */
static void step_cell(drnn_t *net, uint32_t l, uint32_t t)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t small = drnn_small(layer->c_frac_bits);
    drnn_dm_store_t store = {.divisor = drnn_small_divisor(net->dm_exponent[l])};
    uint32_t dm_bits = small; /* of what is carried; not known yet */
    uint32_t other_bits = small;
    int is_stored = 0;
    if (net->carried_bits[l] < small && cell_backward_small(net, l, t, &store)) {
        other_bits = store.other_bits;
        is_stored = store.dm_bits <= DRNN_INT16_MAX;
        if (is_stored) {
            dm_bits = (store.dm_bits | 1u) << (net->dm_exponent[l] + 1); /* of exponents above 16 modulo 2^32: not small */
            net->result.underflow_dm += store.underflows;
        }
    } else {
        cell_backward(net, l, t);
    }
    if (dm_bits >= small) {
        const range_t range = range_of(drnn_dm_acc(net, l), drnn_m_count(layer));
        dm_bits = bits_of(range);
        if (!is_stored) {
            store_dm(net, l, t, range);
        }
    }
    if (other_bits >= small) {
        other_bits = other_bits_of(net, l);
    }
    net->carried_bits[l] = dm_bits | other_bits;
}

/* Columns [first, end) of layer l that were active at step t into drnn_entries, ascending; returns how many there are. */
static uint32_t active_columns(const drnn_t *net, uint32_t l, uint32_t t, uint32_t first, uint32_t end)
{
    const uint32_t rows = drnn_rows(drnn_layer(net, l));
    const int16_t *weight = drnn_weight(net, l);
    const uint32_t *mask = drnn_event_mask_of(net, l, t);
    drnn_entry_t *const entries = drnn_entries(net);
    drnn_entry_t *entry = entries;
    uint32_t wanted = ~0u << (first % DRNN_MASK_BITS);
    for (uint32_t word = first / DRNN_MASK_BITS; word * DRNN_MASK_BITS < end; ++word, wanted = ~0u) {
        const uint32_t start = word * DRNN_MASK_BITS;
        if (end - start < DRNN_MASK_BITS) {
            wanted &= ~(~0u << (end - start));
        }
        for (uint32_t bits = mask[word] & wanted; bits != 0; bits &= bits - 1u, ++entry) {
            const uint32_t column = start + drnn_lowest_bit(bits);
            entry->place = drnn_place(weight, column * rows);
            entry->factor = (int32_t)column;
        }
    }
    return (uint32_t)(entry - entries);
}

/* What a layer's deltas reach on the way back: the hidden units of the step before, or those of the layer below. */
typedef struct {
    uint32_t first, end;     /* their columns */
    const int16_t *dm;       /* dM_t that they feed */
    int32_t *d_hat;          /* dL/dv_hat of theirs */
    int32_t *d_below;        /* dL/dh of theirs */
    uint32_t *carried_bits;  /* of the layer that is theirs */
    int shift;               /* from W^T dM to carried gradients, in [-9, 16] */
    int32_t beta;            /* the regulariser's factor in the unit of these */
} through_t;

/* Of any product of the event `back` places before the end of step t's. |product| <= 2^42: rescaled it is below 2^52. */
DRNN_RARE static int32_t d_delta_any(drnn_t *net, uint32_t l, uint32_t t, const through_t *through, int64_t product,
                                     uint32_t back)
{
    int64_t sum = drnn_rescale(product, through->shift);
    if (through->beta != 0) { /* an event's Delta is not 0 */
        sum += drnn_event_value(net, l)[drnn_event_end_of(net, l, t) - back] > 0 ? through->beta : -through->beta;
    }
    return drnn_saturate(sum, DRNN_INT32_MAX, &net->result.saturated_grad);
}

/* W^T dM_t over the columns active at step t, and the path through v_hat: what reaches h through its deltas is added to d_below. */
static void through_deltas(drnn_t *net, uint32_t l, uint32_t t, const through_t *through)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t rows = drnn_rows(layer);
    const uint32_t n_active = active_columns(net, l, t, through->first, through->end);
    const drnn_entry_t *entry = drnn_entries(net);
    const int64_t *product = drnn_products(net, l);
    drnn_dot_columns(drnn_products(net, l), drnn_weight(net, l), rows, through->dm, entry, n_active, drnn_is_even(layer));
    net->result.macs_backward += rows * n_active;

    const uint32_t first = through->first;
    int32_t *const d_hat = through->d_hat;
    int32_t *const d_below = through->d_below;
    const int shift = through->beta == 0 ? through->shift : 0; /* where it is above 0, products of 32 bits take little */
    uint32_t bits = 0;
    for (uint32_t left = n_active; left > 0; --left, ++entry, ++product) {
        const uint32_t j = (uint32_t)entry->factor - first;
        const int32_t narrow = (int32_t)*product;
        const int32_t d_delta = DRNN_LIKELY(narrow == *product && shift > 0)
                                    ? drnn_round_shift_narrow(narrow, shift)
                                    : d_delta_any(net, l, t, through, *product, left);
        const int32_t hat = d_hat[j];
        int32_t below = d_below[j];
        int32_t sum;
        if (DRNN_LIKELY(!__builtin_add_overflow(below, hat, &sum) && !__builtin_add_overflow(sum, d_delta, &sum) &&
                        sum != -DRNN_INT32_MAX - 1)) {
            below = sum;
        } else {
            below = drnn_saturate((int64_t)below + hat + d_delta, DRNN_INT32_MAX, &net->result.saturated_grad);
        }
        d_below[j] = below;
        d_hat[j] = -d_delta;
        bits |= drnn_bits(below);
    }
    *through->carried_bits |= bits;
}

/* Step t of layer l: on entry its d_hidden is dL/dh_t whole, on return what of dL/dh_{t-1} comes from this layer. */
static void step_layer(drnn_t *net, uint32_t l, uint32_t t, int32_t beta)
{
    DRNN_PHASE(CELL_GRADIENT);
    step_cell(net, l, t);
    DRNN_PHASE(BACKWARD);
    const drnn_layer_t *layer = drnn_layer(net, l);
    const int16_t *dm = drnn_gates_of(net, l, t);
    const uint32_t n_in = layer->n_in;
    if (t > 0) { /* h_0 is constant */
        const through_t hidden = {
            n_in, drnn_width(layer), dm + drnn_h_first(layer), drnn_d_h_hat(net, l), drnn_d_hidden(net, l),
            &net->carried_bits[l], layer->wh_frac_bits - net->dm_exponent[l], beta};
        through_deltas(net, l, t, &hidden);
    }
    if (l > 0) { /* the first layer's dx is nobody's input */
        const through_t inputs = {
            0, n_in, dm, drnn_d_x_hat(net, l), drnn_d_hidden(net, l - 1u),
            &net->carried_bits[l - 1u], layer->wx_frac_bits - net->dm_exponent[l], 0};
        through_deltas(net, l, t, &inputs);
    }
    DRNN_PHASE(OTHER);
}

void drnn_backward_start(drnn_t *net)
{
    for (uint32_t l = 0; l < net->model->n_layers; ++l) {
        start_layer(net, l);
        net->layer_bound[l] = 0;
    }
    drnn_readout_start(net);
}

void drnn_backward_steps(drnn_t *net, uint32_t first, uint32_t end, int64_t beta_q30)
{
    /* From Q30 to the unit 2^(grad_exponent - DRNN_GRAD_GUARD_BITS): at most 2^20, for beta had a part in its choice */
    const int32_t beta = (int32_t)drnn_rescale(beta_q30, net->result.grad_exponent + 30 - DRNN_GRAD_GUARD_BITS);
    for (uint32_t t = end; t-- > first;) {
        DRNN_PHASE(READOUT);
        drnn_readout_backward(net, t);
        for (uint32_t l = net->model->n_layers; l-- > 0;) {
            step_layer(net, l, t, beta);
        }
    }
}

void drnn_backward_finish(drnn_t *net)
{
    for (uint32_t l = 0; l < net->model->n_layers; ++l) {
        if (net->dm_exponent[l] > net->result.dm_exponent) {
            net->result.dm_exponent = net->dm_exponent[l];
        }
    }
}

void drnn_backward(drnn_t *net, int64_t beta_q30)
{
    if (drnn_memory_of(net->model) == DRNN_CHECKPOINTS) {
        drnn_backward_by_segments(net, beta_q30);
        return;
    }
    drnn_backward_start(net);
    drnn_backward_steps(net, 0, net->n_steps, beta_q30);
    drnn_backward_finish(net);
    DRNN_PHASE(UPDATE);
    drnn_add_to_bound(net);
}
