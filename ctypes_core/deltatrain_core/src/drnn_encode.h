/*
 * Delta encoding: which entries of v changed by theta or more since they were last sent, and by how much.
 */
#ifndef DRNN_ENCODE_H
#define DRNN_ENCODE_H

#include <stdint.h>

#include "drnn_kernels.h"

/* Where the events of a layer's step go; drnn_encode goes on where it ended. */
typedef struct {
    uint32_t *mask;       /* of the step, zeros before its first call */
    int16_t *delta;       /* the next event's place among the values */
    drnn_entry_t *entry;  /* and in the list of the product */
    uint32_t bits;        /* of the magnitudes of all factors, or of one less */
} drnn_events_t;

/* What the entries of v have in common: they are inputs of a layer, or its hidden units. */
typedef struct {
    const int16_t *weight; /* the layer's */
    uint32_t rows;         /* of a column */
    uint32_t column;       /* of v[0] */
    uint32_t first;        /* of M's entries that the columns feed */
    int shift;             /* from a difference to a factor of the product */
    int32_t theta;
} drnn_encoded_t;

/*
 * Encode v [count] against v_hat [count]: where |v - v_hat| >= theta and not 0, v_hat follows v and an event is added. |v| and
 * |v_hat| are at most DRNN_V_MAX, so a difference fits int16. Returns the number of events.
 */
uint32_t drnn_encode(drnn_events_t *events, const drnn_encoded_t *encoded, const int16_t *v, int16_t *v_hat, uint32_t count);

#endif
