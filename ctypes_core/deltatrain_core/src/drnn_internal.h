/*
 * What the parts of the core share: the geometry of a layer, typed access to the arena, and what a cell must offer.
 */
#ifndef DRNN_INTERNAL_H
#define DRNN_INTERNAL_H

#include <string.h>

#include "drnn.h"
#include "drnn_fixed.h"
#include "drnn_kernels.h"

#define DRNN_MASK_BITS 32

/* Where a phase of a training step begins: nothing, but in the firmware that `deltatrain bench` measures phases with. */
#ifndef DRNN_PHASE
#define DRNN_PHASE(name) ((void)0)
#endif

static inline const drnn_layer_t *drnn_layer(const drnn_t *net, uint32_t l)
{
    return &net->model->layers[l];
}

static inline const drnn_layer_t *drnn_top_layer(const drnn_t *net)
{
    return drnn_layer(net, net->model->n_layers - 1u);
}

/*
 * What is built in: bit n stands for cell, readout or memory n of its enum. A firmware takes those of its model alone; where one
 * alone is built in, it is a constant, and code for the others is left out.
 */
#ifndef DRNN_CELLS
#define DRNN_CELLS ((1u << DRNN_RNN) | (1u << DRNN_GRU) | (1u << DRNN_LSTM))
#endif
#ifndef DRNN_READOUTS
#define DRNN_READOUTS ((1u << DRNN_LAST) | (1u << DRNN_FRAMES) | (1u << DRNN_REGRESSION))
#endif
#ifndef DRNN_MEMORIES
#define DRNN_MEMORIES ((1u << DRNN_HISTORY) | (1u << DRNN_CHECKPOINTS) | (1u << DRNN_INFERENCE))
#endif

static inline int drnn_is_built_in(uint32_t built_in, uint32_t value)
{
    return value < 32u && (built_in >> value & 1u) != 0;
}

/* `value`, or the one that alone is built in. */
static inline uint32_t drnn_choice(uint32_t built_in, uint32_t value)
{
    return (built_in & (built_in - 1u)) == 0 ? (uint32_t)__builtin_ctz(built_in) : value;
}

static inline uint32_t drnn_cell_of(const drnn_layer_t *layer)
{
    return drnn_choice(DRNN_CELLS, layer->cell);
}

static inline uint32_t drnn_readout_of(const drnn_model_t *model)
{
    return drnn_choice(DRNN_READOUTS, model->readout);
}

static inline uint32_t drnn_memory_of(const drnn_model_t *model)
{
    return drnn_choice(DRNN_MEMORIES, model->memory);
}

/* What a model replays, or NULL. */
static inline const drnn_replay_t *drnn_exemplars(const drnn_model_t *model)
{
    return DRNN_REPLAY ? model->replay : NULL;
}

/* Gates of a cell, G: each takes n_hidden weights of every column. */
static inline uint32_t drnn_n_gates(const drnn_layer_t *layer)
{
    return drnn_cell_of(layer) == DRNN_LSTM ? 4u : drnn_cell_of(layer) == DRNN_GRU ? 3u : 1u;
}

/* Accumulators of a cell, A: the GRU keeps what x and what h bring to its gate n apart. */
static inline uint32_t drnn_n_accumulators(const drnn_layer_t *layer)
{
    return drnn_cell_of(layer) == DRNN_RNN ? 1u : 4u;
}

/* Whether every gate's first entry lies on an even place, in a column and in M: the kernels may then read words. */
static inline int drnn_is_even(const drnn_layer_t *layer)
{
    return layer->n_hidden % 2u == 0;
}

/* Weights of a column: entries of M that one v_j feeds. */
static inline uint32_t drnn_rows(const drnn_layer_t *layer)
{
    return drnn_n_gates(layer) * layer->n_hidden;
}

/* Entries of M, and of dM. */
static inline uint32_t drnn_m_count(const drnn_layer_t *layer)
{
    return drnn_n_accumulators(layer) * layer->n_hidden;
}

/* The first of the drnn_rows entries of M that columns of h feed; those of x feed entries from 0 on. */
static inline uint32_t drnn_h_first(const drnn_layer_t *layer)
{
    return drnn_m_count(layer) - drnn_rows(layer);
}

static inline uint32_t drnn_width(const drnn_layer_t *layer) /* of v = [x ; h] */
{
    return (uint32_t)layer->n_in + layer->n_hidden;
}

static inline uint32_t drnn_mask_words(const drnn_layer_t *layer)
{
    return (drnn_width(layer) + DRNN_MASK_BITS - 1) / DRNN_MASK_BITS;
}

/* Fraction bits of M: the finer of the two products'. In [24, 30] for every model that drnn_plan accepts. */
static inline int drnn_m_frac_bits(const drnn_layer_t *layer)
{
    const int from_x = layer->wx_frac_bits + layer->x_frac_bits;
    const int from_h = layer->wh_frac_bits + DRNN_H_FRAC_BITS;
    return from_x > from_h ? from_x : from_h;
}

#define DRNN_REGION(type, name) \
    static inline type *drnn_##name(const drnn_t *net) { return (type *)(void *)(net->arena + net->plan.name); }

DRNN_REGION(int16_t, readout_weight)
DRNN_REGION(int32_t, readout_bias)
DRNN_REGION(int32_t, logits)
DRNN_REGION(int32_t, d_logits)
DRNN_REGION(int16_t, d_outputs)
DRNN_REGION(int16_t, frames)
DRNN_REGION(int64_t, d_readout)
DRNN_REGION(drnn_entry_t, entries)
DRNN_REGION(int16_t, replay_frame)
DRNN_REGION(int32_t, replay_target)

#define DRNN_LAYER_REGION(type, name) \
    static inline type *drnn_##name(const drnn_t *net, uint32_t l) \
    { \
        return (type *)(void *)(net->arena + net->plan.layers[l].name); \
    }

DRNN_LAYER_REGION(int16_t, weight)
DRNN_LAYER_REGION(int32_t, bias)
DRNN_LAYER_REGION(int16_t, gates)
DRNN_LAYER_REGION(int16_t, states)
DRNN_LAYER_REGION(uint32_t, event_mask)
DRNN_LAYER_REGION(uint32_t, event_start)
DRNN_LAYER_REGION(int16_t, event_value)
DRNN_LAYER_REGION(int16_t, checkpoints)
DRNN_LAYER_REGION(int16_t, last_states)
DRNN_LAYER_REGION(int32_t, gradient)
DRNN_LAYER_REGION(uint32_t, delta_sum)
DRNN_LAYER_REGION(uint16_t, raises)
DRNN_LAYER_REGION(int64_t, m_acc)
DRNN_LAYER_REGION(int64_t, products)
DRNN_LAYER_REGION(int16_t, v_hat)
DRNN_LAYER_REGION(int16_t, hidden)
DRNN_LAYER_REGION(int32_t, dm_acc)
DRNN_LAYER_REGION(int32_t, d_hidden)
DRNN_LAYER_REGION(int32_t, d_h_hat)
DRNN_LAYER_REGION(int32_t, d_cell)
DRNN_LAYER_REGION(int32_t, d_x_hat)

/* h after the last frame, of the layer that the readout reads. */
static inline const int16_t *drnn_top_hidden(const drnn_t *net)
{
    return drnn_hidden(net, net->model->n_layers - 1u);
}

/* Position of the lowest set bit; word is not 0. */
static inline uint32_t drnn_lowest_bit(uint32_t word)
{
    return (uint32_t)__builtin_ctz(word);
}

/* drnn_forward.c: layer l before the first frame: h = 0, v_hat = 0, M = b, no event. */
void drnn_begin_layer(drnn_t *net, uint32_t l);

/* h within its range; |h| <= 2^14, and so it is cut where it is +-2^14. */
static inline int16_t drnn_cut_hidden(int32_t h, uint32_t *saturated)
{
    if (DRNN_LIKELY((uint32_t)h << 18 != 0)) {
        return (int16_t)h;
    }
    return (int16_t)drnn_saturate(h, DRNN_V_MAX, saturated);
}

/* How dM_t is stored, and what came of it. */
typedef struct {
    int32_t divisor;      /* drnn_small_divisor of the exponent */
    uint32_t dm_bits;     /* drnn_bits of all entries as stored, or more: below 2^15 just where they fit int16 */
    uint32_t other_bits;  /* of all that is carried beside dM, or more */
    uint32_t underflows;  /* entries stored as 0 that are not */
} drnn_dm_store_t;

/* Carry dm on and store it, rounded. */
static inline void drnn_store_dm(drnn_dm_store_t *store, int32_t dm, int32_t *carried, int16_t *stored)
{
    const int32_t rounded = drnn_small_scale_down(dm, store->divisor);
    *carried = dm;
    *stored = (int16_t)rounded;
    store->dm_bits |= drnn_bits(rounded);
    if (!DRNN_LIKELY(rounded != 0)) {
        store->underflows += dm != 0;
    }
}

/*
 * The cells (drnn_lstm.c, drnn_gru.c, drnn_rnn.c), all units of layer l at step t.
 *
 * Forward: M -> drnn_hidden, and into the history what the way back needs, each gate in its accumulator's place.
 * Backward: drnn_d_hidden holds dL/dh_t; adds the gates' own gradient to drnn_dm_acc and leaves in drnn_d_hidden the
 * cell's own path to dL/dh_{t-1}, that is what does not go through the deltas.
 * Backward, small: the same where all carried gradients are below drnn_small, by shorter products; also stores dM_t. Returns 0
 * where it takes no layer of this size, and has done nothing.
 *
 * Hidden: h_t [n_hidden] once more, from the history as it is before Backward.
 */
void drnn_lstm_forward(drnn_t *net, uint32_t l, uint32_t t);
void drnn_lstm_backward(drnn_t *net, uint32_t l, uint32_t t);
int drnn_lstm_backward_small(drnn_t *net, uint32_t l, uint32_t t, drnn_dm_store_t *store);
void drnn_lstm_hidden(const drnn_t *net, uint32_t l, uint32_t t, int16_t *h);
void drnn_gru_forward(drnn_t *net, uint32_t l, uint32_t t);
void drnn_gru_backward(drnn_t *net, uint32_t l, uint32_t t);
int drnn_gru_backward_small(drnn_t *net, uint32_t l, uint32_t t, drnn_dm_store_t *store);
void drnn_gru_hidden(const drnn_t *net, uint32_t l, uint32_t t, int16_t *h);
void drnn_rnn_forward(drnn_t *net, uint32_t l, uint32_t t);
void drnn_rnn_backward(drnn_t *net, uint32_t l, uint32_t t);
int drnn_rnn_backward_small(drnn_t *net, uint32_t l, uint32_t t, drnn_dm_store_t *store);
void drnn_rnn_hidden(const drnn_t *net, uint32_t l, uint32_t t, int16_t *h);

/* drnn_readout.c: h after the last frame -> logits, Q16. */
void drnn_readout_forward(drnn_t *net);

/* The same file: before the first step back; then step t, before its gates go: d_outputs -> dL/dh_t of the top layer. */
void drnn_readout_start(drnn_t *net);
void drnn_readout_backward(drnn_t *net, uint32_t t);

/* drnn_target.c: no target yet. */
void drnn_begin_targets(drnn_t *net);

/* The same file: judge the logits by the frame's class; `label` is valid. */
void drnn_judge_class(drnn_t *net, uint16_t label);

/* Let the unit of d_outputs be no finer than that of `times` times beta, which comes back in Q30, below 2^50. */
int64_t drnn_make_room_for_beta(drnn_t *net, uint32_t times);

/* Mean loss over the targets so far, Q16. */
int32_t drnn_mean_loss(const drnn_t *net);

/* How many errors the loss is the mean of: frames with a target, of a regression times the outputs. At most 2^20. */
static inline uint32_t drnn_n_errors(const drnn_t *net)
{
    return net->result.n_targets * (drnn_readout_of(net->model) == DRNN_REGRESSION ? net->model->n_outputs : 1u);
}

/*
 * drnn_backward.c: d_outputs -> dM_t of every layer and step in the gates' place, each layer with its exponent.
 * beta_q30 is the regulariser's factor.
 */
void drnn_backward(drnn_t *net, int64_t beta_q30);

/* drnn_replay.c: whether the exemplars fit the model, so that drnn_replay need not ask again. */
int drnn_replay_is_valid(const drnn_model_t *model);

/* drnn_update.c: bound, clip, and one SGD step on every parameter. */
void drnn_update(drnn_t *net);

#endif
