/*
 * The accumulators M of a layer: M = b + W v_hat, exactly. They are held in 32 bits as long as all of them fit; the sample in
 * which one does not goes on in 64 bits. Which of the two is a matter of the layer's state and never of a value.
 */
#ifndef DRNN_ACCUMULATORS_H
#define DRNN_ACCUMULATORS_H

#include "drnn_internal.h"
#include "drnn_kernels.h"

/* M [A * n_hidden] of a layer whose net->m_is_wide is 0, and of one whose it is 1. */
static inline int32_t *drnn_m_narrow(const drnn_t *net, uint32_t l)
{
    return (int32_t *)(void *)drnn_m_acc(net, l);
}

static inline int64_t *drnn_m_wide(const drnn_t *net, uint32_t l)
{
    return drnn_m_acc(net, l);
}

/* One entry of M, whichever of the two it is. */
static inline int64_t drnn_m_at(const drnn_t *net, uint32_t l, uint32_t i)
{
    return net->m_is_wide[l] ? drnn_m_wide(net, l)[i] : drnn_m_narrow(net, l)[i];
}

/* From v_hat and the weights as they are: at the start of a sample, where v_hat is 0, M = b. */
void drnn_m_compute(drnn_t *net, uint32_t l);

/* An entry of v, column `column`, changed by `delta`: as an entry of drnn_m_add. */
static inline drnn_entry_t drnn_m_entry(const int16_t *weight, uint32_t column, uint32_t rows, uint32_t first,
                                        int32_t delta, int shift)
{
    /* Rows are numbered as M: those of a hidden unit begin at `first`. */
    const drnn_entry_t entry = {drnn_place(weight, column * rows - first), delta * ((int32_t)1 << shift)};
    return entry;
}

/*
 * M += W Delta, of which v_hat is already part. drnn_entries: n_x of inputs, then n_h of hidden units, their factors in units
 * of M, `bits` those of all their magnitudes or of one less.
 */
void drnn_m_add(drnn_t *net, uint32_t l, uint32_t n_x, uint32_t n_h, uint32_t bits);

/* By how far a product of inputs, or of hidden units, is shifted to the left to M's unit; in [0, 16]. */
static inline int drnn_x_shift(const drnn_layer_t *layer)
{
    return drnn_m_frac_bits(layer) - layer->wx_frac_bits - layer->x_frac_bits;
}

static inline int drnn_h_shift(const drnn_layer_t *layer)
{
    return drnn_m_frac_bits(layer) - layer->wh_frac_bits - DRNN_H_FRAC_BITS;
}

/* sigmoid and tanh of M[first .. first + count), Q1.14. */
void drnn_m_sigmoids(const drnn_t *net, uint32_t l, uint32_t first, uint32_t count, int16_t *gates);
void drnn_m_tanhs(const drnn_t *net, uint32_t l, uint32_t first, uint32_t count, int16_t *gates);

#endif
