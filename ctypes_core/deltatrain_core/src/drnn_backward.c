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

/*
 * round(values / 2^exponent) [count] as int16, those that became 0 counted in *underflows. Returns drnn_bits of all, before they
 * were cut to 16 bits.
 */
static uint32_t round_to_int16(int16_t *stored, const int32_t *values, uint32_t count, int exponent, uint32_t *underflows)
{
    uint32_t bits = 0;
    uint32_t zeros = 0;
    for (uint32_t i = 0; i < count; ++i) {
        const int32_t rounded = exponent == 0 ? values[i] : drnn_round_shift_narrow(values[i], exponent);
        stored[i] = (int16_t)rounded;
        bits |= drnn_bits(rounded);
        zeros += values[i] != 0 && rounded == 0;
    }
    *underflows = zeros;
    return bits;
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

/*
 * Store dM_t as int16 in the gates' place; dm_bits are drnn_bits of all its entries. One exponent serves the whole sample: where
 * step t needs a larger one, the steps stored before (t + 1 onwards) are shifted to it.
 */
static void store_dm(drnn_t *net, uint32_t l, uint32_t t, uint32_t dm_bits)
{
    const uint32_t count = drnn_m_count(drnn_layer(net, l));
    int16_t *stored = drnn_gates_of(net, l, t);
    const int least = drnn_bit_length(dm_bits) - 16; /* with one less, the largest would surely not fit */
    int exponent = least > net->dm_exponent[l] ? least : net->dm_exponent[l];
    uint32_t underflows;
    while (round_to_int16(stored, drnn_dm_acc(net, l), count, exponent, &underflows) > DRNN_INT16_MAX) {
        ++exponent; /* 17 in the end at most */
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

static uint32_t bits_of(const int32_t *values, uint32_t count)
{
    uint32_t bits = 0;
    for (uint32_t i = 0; i < count; ++i) {
        bits |= drnn_bits(values[i]);
    }
    return bits;
}

/* Of any gradients. Returns drnn_bits of what is carried beside dM. */
static uint32_t cell_backward(drnn_t *net, uint32_t l, uint32_t t)
{
    const uint32_t n_hidden = drnn_layer(net, l)->n_hidden;
    switch (drnn_cell_of(drnn_layer(net, l))) {
    case DRNN_LSTM:
        drnn_lstm_backward(net, l, t);
        return bits_of(drnn_d_hidden(net, l), n_hidden) | bits_of(drnn_d_cell(net, l), n_hidden);
    case DRNN_GRU:
        drnn_gru_backward(net, l, t);
        return bits_of(drnn_d_hidden(net, l), n_hidden);
    default:
        drnn_rnn_backward(net, l, t);
        return 0;
    }
}

static void cell_backward_small(drnn_t *net, uint32_t l, uint32_t t, drnn_dm_store_t *store)
{
    switch (drnn_cell_of(drnn_layer(net, l))) {
    case DRNN_LSTM:
        drnn_lstm_backward_small(net, l, t, store);
        break;
    case DRNN_GRU:
        drnn_gru_backward_small(net, l, t, store);
        break;
    default:
        drnn_rnn_backward_small(net, l, t, store);
        break;
    }
}

/* dM_t, carried and stored. */
static void step_cell(drnn_t *net, uint32_t l, uint32_t t)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    uint32_t other_bits;
    if (net->carried_bits[l] < drnn_small(layer->c_frac_bits)) {
        drnn_dm_store_t store = {.divisor = drnn_small_divisor(net->dm_exponent[l])};
        cell_backward_small(net, l, t, &store);
        if (store.dm_bits <= DRNN_INT16_MAX) { /* it fits */
            net->carried_bits[l] = (store.dm_bits | 1u) << (net->dm_exponent[l] + 1) | store.other_bits;
            net->result.underflow_dm += store.underflows;
            return;
        }
        other_bits = store.other_bits;
    } else {
        other_bits = cell_backward(net, l, t);
    }
    const uint32_t dm_bits = bits_of(drnn_dm_acc(net, l), drnn_m_count(layer));
    net->carried_bits[l] = dm_bits | other_bits;
    store_dm(net, l, t, dm_bits);
}

/* Columns [first, end) of layer l that were active at step t into drnn_entries, ascending; returns how many there are. */
static uint32_t active_columns(const drnn_t *net, uint32_t l, uint32_t t, uint32_t first, uint32_t end)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const int16_t *weight = drnn_weight(net, l);
    const uint32_t rows = drnn_rows(layer);
    const uint32_t *mask = drnn_event_mask_of(net, l, t);
    drnn_entry_t *entries = drnn_entries(net);
    uint32_t n_active = 0;
    for (uint32_t word = first / DRNN_MASK_BITS; word * DRNN_MASK_BITS < end; ++word) {
        uint32_t bits = mask[word];
        if (word == first / DRNN_MASK_BITS) {
            bits &= ~(uint32_t)0 << (first % DRNN_MASK_BITS);
        }
        for (; bits != 0; bits &= bits - 1) {
            const uint32_t column = word * DRNN_MASK_BITS + drnn_lowest_bit(bits);
            if (column >= end) {
                break;
            }
            entries[n_active].place = drnn_place(weight, column * rows);
            entries[n_active].factor = (int32_t)column;
            ++n_active;
        }
    }
    return n_active;
}

/* drnn_rescale, short where the product has 32 bits. */
static inline int64_t rescaled(int64_t product, int bits)
{
    const int32_t narrow = (int32_t)product;
    return DRNN_LIKELY(narrow == product && bits > 0) ? drnn_round_shift_narrow(narrow, bits) : drnn_rescale(product, bits);
}

/* sign(Delta) of the event `back` places before the end of step t's. */
static int32_t sign_of_event(const drnn_t *net, uint32_t l, uint32_t t, uint32_t back)
{
    const uint32_t end = drnn_is_last_held(net, t) ? net->n_events[l] : *drnn_event_start_of(net, l, t + 1u);
    return drnn_event_value(net, l)[end - back] > 0 ? 1 : -1; /* an event's Delta is not 0 */
}

/*
 * W^T dM_t over the hidden units active at step t, and the path through v_hat: what reaches h_{t-1} through its deltas
 * is added to d_hidden. `beta` is the regulariser's factor in the carried gradients' unit.
 */
static void through_hidden_deltas(drnn_t *net, uint32_t l, uint32_t t, int32_t beta)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t rows = drnn_rows(layer);
    const int16_t *dm = drnn_gates_of(net, l, t) + drnn_h_first(layer);
    const uint32_t n_active = active_columns(net, l, t, layer->n_in, drnn_width(layer));
    int64_t *products = drnn_products(net, l);
    int32_t *d_h_hat = drnn_d_h_hat(net, l);
    uint32_t *saturated = &net->result.saturated_grad;

    drnn_dot_columns(products, drnn_weight(net, l), rows, dm, drnn_entries(net), n_active,
                     drnn_is_even(layer));
    net->result.macs_backward += rows * n_active;

    for (uint32_t a = 0; a < n_active; ++a) {
        const uint32_t j = (uint32_t)drnn_entries(net)[a].factor - layer->n_in;
        /* |product| <= 2^42 and the shift is in [-7, 16]: below 2^50 */
        int64_t sum = rescaled(products[a], layer->wh_frac_bits - net->dm_exponent[l]);
        if (beta != 0) {
            sum += beta * sign_of_event(net, l, t, n_active - a);
        }
        const int32_t d_delta = drnn_saturate(sum, DRNN_INT32_MAX, saturated);
        int32_t *d_hidden = &drnn_d_hidden(net, l)[j];
        *d_hidden = drnn_saturate((int64_t)*d_hidden + d_h_hat[j] + d_delta, DRNN_INT32_MAX, saturated);
        net->carried_bits[l] |= drnn_bits(*d_hidden);
        d_h_hat[j] = -d_delta;
    }
}

/* The same over the inputs of an upper layer, which are the hidden units of the one below, at the same step. */
static void through_input_deltas(drnn_t *net, uint32_t l, uint32_t t)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t rows = drnn_rows(layer);
    const int16_t *dm = drnn_gates_of(net, l, t);
    const uint32_t n_active = active_columns(net, l, t, 0, layer->n_in);
    int64_t *products = drnn_products(net, l);
    int32_t *d_x_hat = drnn_d_x_hat(net, l);
    uint32_t *saturated = &net->result.saturated_grad;

    drnn_dot_columns(products, drnn_weight(net, l), rows, dm, drnn_entries(net), n_active,
                     drnn_is_even(layer));
    net->result.macs_backward += rows * n_active;

    for (uint32_t a = 0; a < n_active; ++a) {
        const uint32_t j = (uint32_t)drnn_entries(net)[a].factor;
        /* |product| <= 2^42 and the shift is in [-9, 16]: below 2^52 */
        const int32_t d_delta = drnn_saturate(rescaled(products[a], layer->wx_frac_bits - net->dm_exponent[l]),
                                              DRNN_INT32_MAX, saturated);
        int32_t *below = &drnn_d_hidden(net, l - 1)[j];
        *below = drnn_saturate((int64_t)*below + d_x_hat[j] + d_delta, DRNN_INT32_MAX, saturated);
        net->carried_bits[l - 1] |= drnn_bits(*below);
        d_x_hat[j] = -d_delta;
    }
}

/* Step t of layer l: on entry its d_hidden is dL/dh_t whole, on return what of dL/dh_{t-1} comes from this layer. */
static void step_layer(drnn_t *net, uint32_t l, uint32_t t, int32_t beta)
{
    DRNN_PHASE(CELL_GRADIENT);
    step_cell(net, l, t);
    DRNN_PHASE(BACKWARD);
    if (t > 0) { /* h_0 is constant */
        through_hidden_deltas(net, l, t, beta);
    }
    if (l > 0) { /* the first layer's dx is nobody's input */
        through_input_deltas(net, l, t);
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
