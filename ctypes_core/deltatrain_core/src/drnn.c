/*
 * The public functions: state, configuration, one sample after another.
 */
#include "drnn.h"

#include <string.h>

#include "drnn_history.h"
#include "drnn_scale.h"
#include "drnn_softmax.h"

#define MAX_LEARNING_RATE_E (-11)  /* m * 2^-11 < 32: NUMERICS.md bounds the shifts of the update by it */
#define MAX_BETA_E (-16)           /* m * 2^-16 < 1 */
#define MAX_SCALE_E 64

/* Zero has one form: NUMERICS.md bounds the shifts of the update by e. */
static int scale_is_valid(drnn_scale_t scale, int largest_e)
{
    return scale.m == 0 ? scale.e == 0
                        : scale.m >= DRNN_SCALE_MIN_M && scale.e >= -MAX_SCALE_E && scale.e <= largest_e;
}

static int config_is_valid(const drnn_config_t *config)
{
    for (uint32_t l = 0; l < DRNN_MAX_LAYERS; ++l) {
        if (config->theta_x[l] < 0 || config->theta_h[l] < 0) {
            return 0;
        }
    }
    return scale_is_valid(config->learning_rate, MAX_LEARNING_RATE_E) && scale_is_valid(config->clip, MAX_SCALE_E) &&
           config->clip.m != 0 && scale_is_valid(config->beta, MAX_BETA_E);
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
    drnn_config_t config;
    memset(&config, 0, sizeof config);
    config.learning_rate = model->learning_rate;
    config.clip = model->clip;
    for (uint32_t l = 0; l < model->n_layers; ++l) {
        config.theta_x[l] = model->layers[l].theta_x;
        config.theta_h[l] = model->layers[l].theta_h;
    }
    if (!config_is_valid(&config) || !drnn_replay_is_valid(model)) {
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
    for (uint32_t l = 0; l < net->model->n_layers; ++l) {
        const drnn_layer_t *layer = drnn_layer(net, l);
        memcpy(drnn_weight(net, l), layer->weight, drnn_width(layer) * drnn_rows(layer) * sizeof(int16_t));
        memcpy(drnn_bias(net, l), layer->bias, drnn_m_count(layer) * sizeof(int32_t));
    }
    memcpy(drnn_readout_weight(net), net->model->readout_weight,
           (uint32_t)net->model->n_outputs * drnn_top_layer(net)->n_hidden * sizeof(int16_t));
    memcpy(drnn_readout_bias(net), net->model->readout_bias, net->model->n_outputs * sizeof(int32_t));
    net->n_steps = 0;
    net->segment = 0;
    return drnn_drop(net);
}

int drnn_drop(drnn_t *net)
{
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
    DRNN_PHASE(READOUT);
    drnn_readout_forward(net);
    net->result.loss = drnn_mean_loss(net);
    net->result.predicted = drnn_argmax(drnn_logits(net), net->model->n_outputs);
    net->result.n_steps = (uint16_t)net->n_steps;
    *result = net->result;
    return DRNN_OK;
}

/* Backward and update, from the targets that the sample was given. */
static void learn(drnn_t *net)
{
    net->result.loss = drnn_mean_loss(net);
    drnn_backward(net, drnn_make_room_for_beta(net, drnn_n_errors(net)));
    DRNN_PHASE(UPDATE);
    drnn_update(net);
    DRNN_PHASE(OTHER);
    ++net->config.step;
    net->phase = DRNN_PHASE_IDLE;
}

int drnn_learn(drnn_t *net, drnn_result_t *result)
{
    if (drnn_memory_of(net->model) == DRNN_INFERENCE) {
        return DRNN_ERR_INFERENCE;
    }
    if (drnn_readout_of(net->model) == DRNN_LAST) {
        return DRNN_ERR_READOUT;
    }
    const int ready = sample_is_ready(net);
    if (ready != DRNN_OK) {
        return ready;
    }
    if (net->result.n_targets == 0) {
        return DRNN_ERR_EMPTY;
    }
    drnn_infer(net, result);
    learn(net);
    *result = net->result;
    return DRNN_OK;
}

int drnn_train(drnn_t *net, uint16_t label, drnn_result_t *result)
{
    if (drnn_memory_of(net->model) == DRNN_INFERENCE) {
        return DRNN_ERR_INFERENCE;
    }
    if (drnn_readout_of(net->model) != DRNN_LAST) {
        return DRNN_ERR_READOUT;
    }
    const int ready = sample_is_ready(net);
    if (ready != DRNN_OK) {
        return ready;
    }
    if (label >= net->model->n_outputs) {
        return DRNN_ERR_LABEL;
    }
    drnn_infer(net, result);
    drnn_make_room_for_beta(net, 1); /* before the target, so that its gradient is rounded once */
    drnn_judge_class(net, label);
    learn(net);
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

/* The LSTM's c after the last frame: in the history, or where going back left it. */
static int16_t *last_cell(const drnn_t *net, uint32_t l)
{
    const uint32_t last = net->n_steps - 1u; /* before the first frame that of the zeros that stand before it */
    const int is_held = net->n_steps <= drnn_first_step(net) + drnn_window(net->model);
    return is_held ? drnn_states_of(net, l, last) : drnn_last_states(net, l) + drnn_layer(net, l)->n_hidden;
}

static int layer_tensor(const drnn_t *net, uint32_t l, uint32_t kind, drnn_tensor_t *tensor)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t n_hidden = layer->n_hidden;
    const int has_dm = net->phase != DRNN_PHASE_SAMPLE && drnn_memory_of(net->model) != DRNN_INFERENCE;
    const uint32_t n_dm = has_dm ? drnn_steps_held(net) : 0;
    switch (kind) {
    case DRNN_T_WEIGHT:
        return describe(tensor, drnn_weight(net, l), drnn_width(layer) * drnn_rows(layer), 2, 1);
    case DRNN_T_BIAS:
        return describe(tensor, drnn_bias(net, l), drnn_m_count(layer), 4, 1);
    case DRNN_T_HIDDEN:
        return describe(tensor, drnn_hidden(net, l), n_hidden, 2, 0);
    case DRNN_T_CELL:
        return layer->cell == DRNN_LSTM ? describe(tensor, last_cell(net, l), n_hidden, 2, 0)
                                        : DRNN_ERR_TENSOR;
    case DRNN_T_DM:
        return describe(tensor, drnn_gates(net, l), n_dm * drnn_m_count(layer), 2, 0);
    default:
        return DRNN_ERR_TENSOR;
    }
}

int drnn_tensor(const drnn_t *net, int id, drnn_tensor_t *tensor)
{
    const uint32_t n_outputs = net->model->n_outputs;
    switch (id) {
    case DRNN_T_READOUT_WEIGHT:
        return describe(tensor, drnn_readout_weight(net), n_outputs * drnn_top_layer(net)->n_hidden, 2, 1);
    case DRNN_T_READOUT_BIAS:
        return describe(tensor, drnn_readout_bias(net), n_outputs, 4, 1);
    case DRNN_T_LOGITS:
        return describe(tensor, drnn_logits(net), n_outputs, 4, 0);
    default:
        break;
    }
    if (id < 0 || id >= DRNN_T_PER_LAYER * net->model->n_layers) {
        return DRNN_ERR_TENSOR;
    }
    return layer_tensor(net, (uint32_t)id / DRNN_T_PER_LAYER, (uint32_t)id % DRNN_T_PER_LAYER, tensor);
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
        return "the sample has no frame, or none with a target";
    case DRNN_ERR_STATE:
        return "no sample is under way";
    case DRNN_ERR_TENSOR:
        return "there is no such tensor, or the elements lie outside it, or it is read-only";
    case DRNN_ERR_READOUT:
        return "the call does not fit the model's readout";
    case DRNN_ERR_REPLAY:
        return "the model keeps no exemplars";
    case DRNN_ERR_EVENTS:
        return "the sample has more events than the model's budget holds";
    case DRNN_ERR_INFERENCE:
        return "the model was built for inference only";
    case DRNN_ERR_IMAGE:
        return "these bytes are not a whole model file, or not aligned to 8 bytes";
    case DRNN_ERR_VERSION:
        return "the model file is of another version";
    default:
        return "unknown error";
    }
}
