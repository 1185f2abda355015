/*
 * How much of a sample's history is held at once, and where in it a step lies. DRNN_HISTORY holds every step,
 * DRNN_CHECKPOINTS those of one segment, DRNN_INFERENCE one.
 */
#ifndef DRNN_HISTORY_H
#define DRNN_HISTORY_H

#include "drnn_internal.h"

/* Steps that are held at once, at most. */
static inline uint32_t drnn_window(const drnn_model_t *model)
{
    switch (drnn_memory_of(model)) {
    case DRNN_HISTORY:
        return model->max_steps;
    case DRNN_CHECKPOINTS:
        return model->segment_steps;
    default:
        return 1;
    }
}

/* The first step that is held. */
static inline uint32_t drnn_first_step(const drnn_t *net)
{
    return net->segment * drnn_window(net->model);
}

/* How many are held. */
static inline uint32_t drnn_steps_held(const drnn_t *net)
{
    const uint32_t after = net->n_steps - drnn_first_step(net);
    const uint32_t window = drnn_window(net->model);
    return after < window ? after : window;
}

/* Whether no later step than t is held. */
static inline int drnn_is_last_held(const drnn_t *net, uint32_t t)
{
    return t + 1u == drnn_first_step(net) + drnn_steps_held(net);
}

/* Gates of step t, which is held; going back, its dM. */
static inline int16_t *drnn_gates_of(const drnn_t *net, uint32_t l, uint32_t t)
{
    return drnn_gates(net, l) + (t - drnn_first_step(net)) * drnn_m_count(drnn_layer(net, l));
}

/* The LSTM's c_t or the GRU's h_t; of a step that is held, or of the one before the first, whatever its number. */
static inline int16_t *drnn_states_of(const drnn_t *net, uint32_t l, uint32_t t)
{
    return drnn_states(net, l) + (t + 1u - drnn_first_step(net)) * drnn_layer(net, l)->n_hidden;
}

static inline uint32_t *drnn_event_mask_of(const drnn_t *net, uint32_t l, uint32_t t)
{
    return drnn_event_mask(net, l) + (t - drnn_first_step(net)) * drnn_mask_words(drnn_layer(net, l));
}

/* Where the values of step t's events start, among those that are held. */
static inline uint32_t *drnn_event_start_of(const drnn_t *net, uint32_t l, uint32_t t)
{
    return drnn_event_start(net, l) + (t - drnn_first_step(net));
}

/* Where they end. */
static inline uint32_t drnn_event_end_of(const drnn_t *net, uint32_t l, uint32_t t)
{
    return drnn_is_last_held(net, t) ? net->n_events[l] : *drnn_event_start_of(net, l, t + 1u);
}

/*
 * Events of a layer for which the window has room: every entry of every step, or a part of them, but those of one step at
 * least. At most 2^12 * 2^11 * 2^16 on the way.
 */
static inline uint32_t drnn_max_events(const drnn_model_t *model, const drnn_layer_t *layer)
{
    const uint32_t width = drnn_width(layer);
    const uint32_t all = drnn_window(model) * width;
    const uint32_t part = (uint32_t)(((uint64_t)all * model->event_budget + 0xffffu) >> 16);
    return model->event_budget == 0 ? all : part > width ? part : width;
}

/* Whether layer l has a state of its own beside h: c. */
static inline int drnn_has_cell(const drnn_layer_t *layer)
{
    return drnn_cell_of(layer) == DRNN_LSTM;
}

/* drnn_checkpoint.c: keep what step `n_steps` begins with as the next segment's checkpoint, and make it the one held. */
void drnn_next_segment(drnn_t *net);

/*
 * The same file: drnn_backward and the sums of W's gradient, segment after segment. Leaves the first segment's dM in the
 * history.
 */
void drnn_backward_by_segments(drnn_t *net, int64_t beta_q30);

/* Where the exponent of layer l's dM grows, going back: a count so far, their number in all, then a step and a raise each. */
#define DRNN_RAISES_COUNT (2u + 2u * 17u) /* the exponent ends at 17 at most */

/* The same file: dM's exponent of layer l grew by `raise` at step t. */
void drnn_note_raise(drnn_t *net, uint32_t l, uint32_t t, int raise);

/* drnn_forward.c: one step of all layers on the inputs x; DRNN_ERR_EVENTS where a layer's events have no room. */
int drnn_forward_step(drnn_t *net, uint32_t t, const int16_t *x);

/* drnn_backward.c: before the last step; then the steps [first, end), backwards; then after the first one. */
void drnn_backward_start(drnn_t *net);
void drnn_backward_steps(drnn_t *net, uint32_t first, uint32_t end, int64_t beta_q30);
void drnn_backward_finish(drnn_t *net);

/* The same file: round layer l's stored dM of the steps from `row` on, of those held, by `raise`; counts what became 0. */
void drnn_raise_exponent(drnn_t *net, uint32_t l, uint32_t row, int raise);

/* Rows of event_mask that a number of steps take: whole squares of bits, so that it can be turned. */
static inline uint32_t drnn_mask_rows(uint32_t steps)
{
    return (steps + DRNN_MASK_BITS - 1u) / DRNN_MASK_BITS * DRNN_MASK_BITS;
}

/*
 * drnn_update.c: turn layer l's event_mask, of the steps held, in squares of 32 steps and 32 columns: bit i of a column's word
 * then tells of step i of the square. Once more turns it back.
 */
void drnn_turn_masks(drnn_t *net, uint32_t l);

/* The same file: add the steps held to each layer's part of the norm bound; their dM is as it stays. Turns the masks. */
void drnn_add_to_bound(drnn_t *net);

/*
 * The same file, the masks being turned: the steps held at which `column` was active into drnn_entries, dM from its entry `first` on and Delta;
 * returns how many, and the sum of their |Delta|. Columns must come in ascending order: event_start is the cursor into each step's values.
 */
uint32_t drnn_events_of_column(drnn_t *net, uint32_t l, uint32_t column, uint32_t first, uint32_t *delta_sum);

/* Their Delta / 2^shift, rounded, so that what they add to a gradient fits 32 bits. */
void drnn_round_events(drnn_entry_t *entries, uint32_t n, int shift);

/* A column's sums of dM * Delta, in the place of M, which is not needed any more, or is computed again. */
static inline int32_t *drnn_sums(const drnn_t *net, uint32_t l)
{
    return (int32_t *)(void *)drnn_m_acc(net, l);
}

/* The smallest n with sum <= DRNN_DELTA_SUM * 2^n; the sum of a column's |Delta| is below 2^27, so n <= 12. */
static inline int drnn_delta_shift(uint32_t sum)
{
    int shift = 0;
    while (sum > (uint32_t)DRNN_DELTA_SUM << shift) {
        ++shift;
    }
    return shift;
}

#endif
