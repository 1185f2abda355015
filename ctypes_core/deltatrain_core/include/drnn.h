/*
 * drnn: train a delta RNN on a microcontroller, in integers.
 *
 * Three things are apart: the model (`drnn_model_t`, constant, in flash), the state (`drnn_t`, yours) and the arena
 * (yours too, `drnn_arena_size` bytes). The library allocates nothing, has no writable globals and uses no floating
 * point. Every number it computes is defined in NUMERICS.md, bit for bit.
 *
 *     drnn_t net;
 *     drnn_init(&net, &model, arena, sizeof arena);
 *     drnn_begin(&net);
 *     for (each frame) drnn_push(&net, frame);
 *     drnn_train(&net, label, &result);
 *
 * With a target at every frame, drnn_target_class or drnn_target_values follows each drnn_push, and drnn_learn ends
 * the sample.
 *
 * Where the model keeps exemplars of what it must not forget, drnn_replay trains one between two samples.
 *
 * Functions return 0 or a positive count on success and one of `DRNN_ERR_*` (negative) on failure; a failed call
 * changes nothing but what its comment names.
 *
 * Licence: Apache-2.0.
 */
#ifndef DRNN_H
#define DRNN_H

#include "drnn_types.h"

#ifndef DRNN_REPLAY
#define DRNN_REPLAY 1 /* whether replay is built in, so that models may have exemplars */
#endif

#ifdef __cplusplus
extern "C" {
#endif

#include "drnn_api.h"

#ifdef __cplusplus
}
#endif

#endif
