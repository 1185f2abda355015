/*
 * What the parts of the core share: the geometry of a layer and typed access to the arena.
 */
#ifndef DRNN_INTERNAL_H
#define DRNN_INTERNAL_H

#include "drnn.h"

enum drnn_phase {
    DRNN_PHASE_IDLE = 0,   /* no sample, or its history is consumed */
    DRNN_PHASE_SAMPLE = 1  /* between drnn_begin and drnn_train */
};

#define DRNN_LSTM_GATES 4  /* so that the rows of a column are a multiple of DRNN_ROW_BLOCK */
#define DRNN_MASK_BITS 32

static inline const drnn_layer_t *drnn_layer(const drnn_t *net)
{
    return &net->model->layers[0];
}

static inline uint32_t drnn_rows(const drnn_layer_t *layer)
{
    return (uint32_t)DRNN_LSTM_GATES * layer->n_hidden;
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

DRNN_REGION(int16_t, weight)
DRNN_REGION(int32_t, bias)
DRNN_REGION(int16_t, readout_weight)
DRNN_REGION(int32_t, readout_bias)
DRNN_REGION(int16_t, gates)
DRNN_REGION(int16_t, cells)
DRNN_REGION(uint32_t, event_mask)
DRNN_REGION(uint32_t, event_start)
DRNN_REGION(int16_t, event_value)
DRNN_REGION(int64_t, m_acc)
DRNN_REGION(int16_t, v_hat)
DRNN_REGION(int16_t, hidden)
DRNN_REGION(int32_t, logits)
DRNN_REGION(uint16_t, columns)
DRNN_REGION(int32_t, d_logits)
DRNN_REGION(int32_t, dm_acc)
DRNN_REGION(int32_t, d_hidden)
DRNN_REGION(int32_t, d_v_hat)
DRNN_REGION(int32_t, d_cell)
DRNN_REGION(uint16_t, column_steps)
DRNN_REGION(int16_t, column_deltas)

/* Position of the lowest set bit; word is not 0. */
static inline uint32_t drnn_lowest_bit(uint32_t word)
{
    return (uint32_t)__builtin_ctz(word);
}

/* drnn_forward.c: h after the last frame -> logits, Q16. */
void drnn_readout(drnn_t *net);

/* drnn_backward.c: d_logits (int16 range) -> dM_t of every step in the gates' place, with its shared exponent. */
void drnn_backward(drnn_t *net);

/* drnn_update.c: bound, clip, and one SGD step on every parameter. */
void drnn_update(drnn_t *net);

#endif
