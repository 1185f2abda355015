/*
 * What host and baseline firmware say to each other: frames of dt_frame.h with the heads of dt_protocol.h, and these
 * payloads. The host reads this very file, so: plain C, and no preprocessor but include guards.
 */
#ifndef BASELINE_LINK_H
#define BASELINE_LINK_H

#include <stdint.h>

enum baseline_command {
    BASELINE_INPUT = 1,     /* baseline_input_t, then floats: a part of x [steps][n_in] */
    BASELINE_TRAIN = 2,     /* from the initial parameters: one step on the x that was sent */
    BASELINE_READ = 3       /* parameters as they are now */
};

typedef struct {
    uint32_t offset;        /* floats of x before these */
} baseline_input_t;

typedef struct {
    uint32_t steps;         /* frames, 1 to the firmware's max_steps */
    uint32_t label;         /* the sample's class */
    float rate, clip;
} baseline_train_t;

/* Answer to BASELINE_TRAIN. */
typedef struct {
    uint64_t ticks;         /* of the board's counter, spent in the training step */
    float loss;             /* before it, in nats */
    uint32_t stack_high_water; /* bytes of the stack ever used */
    uint32_t counter_hz;    /* ticks per second */
    uint32_t counter;       /* enum dt_counter: what they are */
} baseline_trained_t;

/* The answer has `count` floats. */
typedef struct {
    uint32_t offset, count;
} baseline_read_t;

#endif
