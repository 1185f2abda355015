/*
 * The public functions: state, configuration, one sample after another.
 */
#include "drnn.h"

#include <string.h>

#include "drnn_fixed.h"
#include "drnn_internal.h"
#include "drnn_scale.h"
#include "drnn_softmax.h"

#define D_LOGIT_BITS 14            /* d_logits are scaled to at most 2^14 in magnitude */
#define D_LOGIT_FULL_FRAC_BITS 30
#define MAX_LEARNING_RATE_E (-11)  /* m * 2^-11 < 32: NUMERICS.md bounds the shifts of the update by it */
#define MAX_SCALE_E 64

/* Zero has one form: NUMERICS.md bounds the shifts of the update by e. */
static int scale_is_valid(drnn_scale_t scale, int largest_e)
{
    return scale.m == 0 ? scale.e == 0
                        : scale.m >= DRNN_SCALE_MIN_M && scale.e >= -MAX_SCALE_E && scale.e <= largest_e;
}

static int config_is_valid(const drnn_config_t *config)
{
    return scale_is_valid(config->learning_rate, MAX_LEARNING_RATE_E) && scale_is_valid(config->clip, MAX_SCALE_E) &&
           config->clip.m != 0 && config->theta_x >= 0 && config->theta_h >= 0;
}

int drnn_init(drnn_t *net, const drnn_model_t *model, void *arena, size_t arena_bytes)
{
    drnn_plan_t plan;
    if (drnn_plan(model, &plan) != DRNN_OK) {
        return DRNN_ERR_MODEL;
    }
    if (arena_bytes < plan.total || (uintptr_t)arena % 8 != 0) {
        return DRNN_ERR_ARENA;
    }
    const drnn_config_t config = {
        model->learning_rate, model->clip, model->layers[0].theta_x, model->layers[0].theta_h, 0, 0,
    };
    if (!config_is_valid(&config)) {
        return DRNN_ERR_MODEL;
    }
    memset(net, 0, sizeof *net);
    net->model = model;
    net->arena = arena;
    net->plan = plan;
    net->config = config;
    memset(net->arena, 0, plan.total); /* so that the history reads as zeros before the first sample */
    return drnn_reset_weights(net);
}

int drnn_reset_weights(drnn_t *net)
{
    const drnn_layer_t *layer = drnn_layer(net);
    const uint32_t rows = drnn_rows(layer);
    memcpy(drnn_weight(net), layer->weight, drnn_width(layer) * rows * sizeof(int16_t));
    memcpy(drnn_bias(net), layer->bias, rows * sizeof(int32_t));
    memcpy(drnn_readout_weight(net), net->model->readout_weight,
           (uint32_t)net->model->n_classes * layer->n_hidden * sizeof(int16_t));
    memcpy(drnn_readout_bias(net), net->model->readout_bias, net->model->n_classes * sizeof(int32_t));
    net->n_steps = 0;
    net->phase = DRNN_PHASE_IDLE;
    return DRNN_OK;
}

int drnn_configure(drnn_t *net, const drnn_config_t *config)
{
    if (!config_is_valid(config)) {
        return DRNN_ERR_RANGE;
    }
    net->config = *config;
    return DRNN_OK;
}

static int sample_is_ready(const drnn_t *net)
{
    if (net->phase != DRNN_PHASE_SAMPLE) {
        return DRNN_ERR_STATE;
    }
    return net->n_steps == 0 ? DRNN_ERR_EMPTY : DRNN_OK;
}

int drnn_infer(drnn_t *net, drnn_result_t *result)
{
    const int ready = sample_is_ready(net);
    if (ready != DRNN_OK) {
        return ready;
    }
    drnn_readout(net);
    net->result.predicted = drnn_argmax(drnn_logits(net), net->model->n_classes);
    net->result.n_steps = (uint16_t)net->n_steps;
    *result = net->result;
    return DRNN_OK;
}

/* Scale d_logits (Q30) by a power of two so that the largest has 14 bits: small errors keep their precision. */
static void normalise_d_logits(drnn_t *net)
{
    int32_t *d_logits = drnn_d_logits(net);
    const uint32_t n_classes = net->model->n_classes;
    const uint32_t largest = drnn_largest(d_logits, n_classes);
    const int shift = largest == 0 ? 0 : drnn_bit_length(largest) - D_LOGIT_BITS; /* in [-13, 17] */
    for (uint32_t k = 0; k < n_classes; ++k) {
        d_logits[k] = (int32_t)drnn_rescale(d_logits[k], shift);
    }
    net->result.grad_exponent = shift - D_LOGIT_FULL_FRAC_BITS;
}

int drnn_train(drnn_t *net, uint16_t label, drnn_result_t *result)
{
    const int ready = sample_is_ready(net);
    if (ready != DRNN_OK) {
        return ready;
    }
    if (label >= net->model->n_classes) {
        return DRNN_ERR_LABEL;
    }
    drnn_infer(net, result);
    net->result.loss =
        drnn_softmax_cross_entropy(drnn_logits(net), net->model->n_classes, label, drnn_d_logits(net));
    normalise_d_logits(net);
    drnn_backward(net);
    drnn_update(net);
    ++net->config.step;
    net->phase = DRNN_PHASE_IDLE;
    *result = net->result;
    return DRNN_OK;
}

static int describe(drnn_tensor_t *tensor, void *data, uint32_t count, uint8_t item_bytes, uint8_t writable)
{
    tensor->data = data;
    tensor->count = count;
    tensor->item_bytes = item_bytes;
    tensor->writable = writable;
    return DRNN_OK;
}

int drnn_tensor(const drnn_t *net, int id, drnn_tensor_t *tensor)
{
    const drnn_layer_t *layer = drnn_layer(net);
    const uint32_t rows = drnn_rows(layer);
    const uint32_t n_classes = net->model->n_classes;
    const uint32_t n_hidden = layer->n_hidden;
    switch (id) {
    case DRNN_T_WEIGHT:
        return describe(tensor, drnn_weight(net), drnn_width(layer) * rows, 2, 1);
    case DRNN_T_BIAS:
        return describe(tensor, drnn_bias(net), rows, 4, 1);
    case DRNN_T_READOUT_WEIGHT:
        return describe(tensor, drnn_readout_weight(net), n_classes * n_hidden, 2, 1);
    case DRNN_T_READOUT_BIAS:
        return describe(tensor, drnn_readout_bias(net), n_classes, 4, 1);
    case DRNN_T_HIDDEN:
        return describe(tensor, drnn_hidden(net), n_hidden, 2, 0);
    case DRNN_T_CELL:
        return describe(tensor, drnn_cells(net) + (net->n_steps > 0 ? net->n_steps - 1 : 0) * n_hidden, n_hidden, 2, 0);
    case DRNN_T_LOGITS:
        return describe(tensor, drnn_logits(net), n_classes, 4, 0);
    case DRNN_T_DM:
        return describe(tensor, drnn_gates(net), net->phase == DRNN_PHASE_SAMPLE ? 0 : net->n_steps * rows, 2, 0);
    default:
        return DRNN_ERR_TENSOR;
    }
}

const char *drnn_error_text(int error)
{
    switch (error) {
    case DRNN_OK:
        return "success";
    case DRNN_ERR_MODEL:
        return "the model's dimensions, formats, cell or ABI version are not supported";
    case DRNN_ERR_ARENA:
        return "the arena is too small or not aligned to 8 bytes";
    case DRNN_ERR_RANGE:
        return "a value is outside its range";
    case DRNN_ERR_LABEL:
        return "the label is not one of the model's classes";
    case DRNN_ERR_TOO_LONG:
        return "the sample has more frames than the model's maximum";
    case DRNN_ERR_EMPTY:
        return "the sample has no frame";
    case DRNN_ERR_STATE:
        return "no sample is under way";
    case DRNN_ERR_TENSOR:
        return "there is no such tensor, or the elements lie outside it, or it is read-only";
    default:
        return "unknown error";
    }
}
