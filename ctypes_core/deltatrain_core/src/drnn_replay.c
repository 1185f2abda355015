/*
 * Replay: exemplars of old speakers lie in flash beside the model and are trained between new samples, so that these
 * speakers are not forgotten. NUMERICS.md, "Replay".
 */
#include <string.h>

#include "drnn.h"
#include "drnn_internal.h"
#include "drnn_random.h"

#define DRAW 0xffffffffu             /* in the random function, in the place of a tensor's number */
#define LEAST_VALUE (-127)           /* -128 * 2^7 would lie beyond -DRNN_V_MAX */
#define TARGET_ONE (1 << DRNN_LOGIT_FRAC_BITS)

static uint32_t mask_bytes(const drnn_model_t *model)
{
    return (model->layers[0].n_in + 7u) / 8u;
}

static int is_active(const uint8_t *mask, uint32_t j)
{
    return (mask[j / 8u] >> (j % 8u)) & 1;
}

static int value_of(uint8_t byte) /* int8, as two's complement */
{
    return (byte ^ 0x80) - 0x80;
}

/* Bytes of the frame at `events`, of which `left` may be read; 0 when it is longer, or holds what no x can be. */
static uint32_t frame_bytes(const drnn_model_t *model, const uint8_t *events, uint32_t left)
{
    uint32_t n = mask_bytes(model);
    if (left < n) {
        return 0;
    }
    for (uint32_t j = 0; j < 8u * mask_bytes(model); ++j) {
        if (is_active(events, j)) {
            if (j >= model->layers[0].n_in || n == left || value_of(events[n]) < LEAST_VALUE) {
                return 0;
            }
            ++n;
        }
    }
    return n;
}

int drnn_replay_is_valid(const drnn_model_t *model)
{
    const drnn_replay_t *replay = drnn_exemplars(model);
    if (replay == NULL) {
        return model->replay == NULL;
    }
    for (uint32_t k = 0; k < replay->n_exemplars; ++k) {
        if (replay->n_steps[k] < 1 || replay->n_steps[k] > model->max_steps || replay->label[k] >= model->n_outputs ||
            replay->start[k] > replay->n_bytes) {
            return 0;
        }
        uint32_t at = replay->start[k];
        for (uint32_t t = 0; t < replay->n_steps[k]; ++t) {
            const uint32_t n = frame_bytes(model, &replay->events[at], replay->n_bytes - at);
            if (n == 0) {
                return 0;
            }
            at += n;
        }
    }
    return replay->n_exemplars > 0;
}

int drnn_replay_next(const drnn_t *net)
{
    const drnn_replay_t *replay = drnn_exemplars(net->model);
    if (replay == NULL) {
        return DRNN_ERR_REPLAY;
    }
    const uint32_t key = drnn_random_key(net->config.seed, net->config.step, DRAW);
    return (int)(((uint64_t)drnn_random_pair(key, 0) * replay->n_exemplars) >> 32); /* below 2^16 */
}

/* Bring x, the inputs as last sent, up to the frame at `events`; where the next one begins. */
static const uint8_t *decode_frame(const drnn_model_t *model, const uint8_t *events, int16_t *x)
{
    const uint8_t *value = events + mask_bytes(model);
    for (uint32_t j = 0; j < model->layers[0].n_in; ++j) {
        if (is_active(events, j)) {
            x[j] = (int16_t)(value_of(*value++) * (1 << DRNN_REPLAY_SHIFT));
        }
    }
    return value;
}

/* The exemplar's class as the target of the frame just pushed, where the readout reads every frame. */
static void give_target(drnn_t *net, uint16_t label)
{
    if (drnn_readout_of(net->model) == DRNN_FRAMES) {
        drnn_target_class(net, label);
    } else if (drnn_readout_of(net->model) == DRNN_REGRESSION) {
        int32_t *values = drnn_replay_target(net);
        memset(values, 0, net->model->n_outputs * sizeof(int32_t));
        values[label] = TARGET_ONE;
        drnn_target_values(net, values);
    }
}

int drnn_replay(drnn_t *net, drnn_result_t *result)
{
    const drnn_model_t *model = net->model;
    const drnn_replay_t *replay = drnn_exemplars(model);
    if (replay == NULL) {
        return DRNN_ERR_REPLAY;
    }
    if (drnn_memory_of(model) == DRNN_INFERENCE) {
        return DRNN_ERR_INFERENCE;
    }
    const int k = drnn_replay_next(net);
    const uint16_t label = replay->label[k];
    const uint8_t *events = &replay->events[replay->start[k]];
    int16_t *x = drnn_replay_frame(net);
    memset(x, 0, model->layers[0].n_in * sizeof(int16_t));
    drnn_begin(net);
    for (uint32_t t = 0; t < replay->n_steps[k]; ++t) {
        events = decode_frame(model, events, x);
        if (drnn_push(net, x) < 0) {
            return DRNN_ERR_EVENTS; /* drnn_init saw that the store fits the model in all else */
        }
        give_target(net, label);
    }
    if (drnn_readout_of(model) == DRNN_LAST) {
        drnn_train(net, label, result);
    } else {
        drnn_learn(net, result);
    }
    return k;
}
