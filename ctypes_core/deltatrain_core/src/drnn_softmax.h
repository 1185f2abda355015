/*
 * Softmax cross-entropy in integers: two tables, no division but by shift and subtract.
 */
#ifndef DRNN_SOFTMAX_H
#define DRNN_SOFTMAX_H

#include <stdint.h>

/* Index of the largest logit, the first of equals. logits [n_classes], n_classes >= 1. */
uint16_t drnn_argmax(const int32_t *logits, uint16_t n_classes);

/*
 * Cross-entropy of softmax(logits) against a label, and its gradient.
 *
 * logits_q16 [n_classes]; d_logits_q30 [n_classes] receives p - onehot(label), in [-2^30, 2^30], truncated towards
 * minus infinity of p. Returns the loss in nats, Q16. Cost: n_classes * 31 shift-subtract rounds.
 */
int32_t drnn_softmax_cross_entropy(const int32_t *logits_q16, uint16_t n_classes, uint16_t label,
                                   int32_t *d_logits_q30);

#endif
