/*
 * Network: one network in the caller's arena. Each method is one call of the core, or a sample's worth of them, so that
 * Ctrl-C is heard between samples at the latest.
 */
#include "deltarnn.h"

#include <string.h>

/* Behind what the core takes of the arena stands whose it is, so that a network cannot go on in what another one took over. */
#define OWNER_BYTES 8u
#define NOT_A_LABEL "the label is not one of the model's classes"
#define NOT_A_TARGET "a target is outside its range"
#define NO_TARGET INT32_MIN /* as the first value of a frame that has none */

/* ---- the model and the arena */

/* Where the model's bytes are, in place. */
static void take_image(deltarnn_network_t *self, mp_obj_t model)
{
    if (mp_obj_get_type(model) == DELTARNN_STR) {
        model = deltarnn_read_file(model);
    }
    mp_buffer_info_t buffer;
    deltarnn_buffer(model, &buffer, MP_BUFFER_READ);
    self->model_object = model;
    self->image = buffer.buf;
    self->image_bytes = buffer.len;
    self->image_may_change = mp_get_buffer(model, &buffer, MP_BUFFER_WRITE);
    deltarnn_check(drnn_image_model(self->image, self->image_bytes, &self->model, self->layers, &self->replay));
    self->image_crc = ((const drnn_image_t *)self->image)->crc;
}

static size_t arena_bytes(const drnn_model_t *model)
{
    const size_t n = drnn_arena_size(model);
    if (n == 0) {
        deltarnn_check(DRNN_ERR_MODEL);
    }
    return n + OWNER_BYTES;
}

/* A text with the number that would do. */
static MP_NORETURN void raise_arena(size_t needed)
{
    static const char text[] = "the arena must have %d bytes or more";
    mp_obj_t number = mp_obj_new_int_from_uint(needed);
    mp_obj_t said = mp_binary_op(MP_BINARY_OP_MODULO, mp_obj_new_str(text, sizeof text - 1), number);
    mp_raise_type_arg(DELTARNN_VALUE_ERROR, said);
}

static void **owner(const deltarnn_network_t *self)
{
    return (void **)(void *)(self->net.arena + self->net.plan.total);
}

static void take_arena(deltarnn_network_t *self, mp_obj_t arena)
{
    mp_buffer_info_t buffer;
    deltarnn_buffer(arena, &buffer, MP_BUFFER_RW);
    const size_t needed = arena_bytes(&self->model);
    if (buffer.len < needed) {
        raise_arena(needed);
    }
    deltarnn_check(drnn_init(&self->net, &self->model, buffer.buf, buffer.len));
    self->arena_object = arena;
    *owner(self) = self;
}

mp_obj_t deltarnn_arena_size(mp_obj_t model)
{
    deltarnn_network_t *self = mp_obj_malloc(deltarnn_network_t, (const mp_obj_type_t *)&deltarnn_type_network);
    take_image(self, model);
    return mp_obj_new_int_from_uint(arena_bytes(&self->model));
}

mp_obj_t deltarnn_network_make_new(const mp_obj_type_t *type, size_t n_args, size_t n_kw, const mp_obj_t *args)
{
    enum { MODEL, ARENA, N_ARGS };
    const mp_arg_t allowed[N_ARGS] = {
        {MP_QSTR_model, MP_ARG_REQUIRED | MP_ARG_OBJ, {0}},
        {MP_QSTR_arena, MP_ARG_REQUIRED | MP_ARG_OBJ, {0}},
    };
    mp_arg_val_t given[N_ARGS];
    mp_arg_parse_all_kw_array(n_args, n_kw, args, N_ARGS, allowed, given);
    deltarnn_network_t *self = mp_obj_malloc(deltarnn_network_t, type);
    self->module = DELTARNN_MODULE;
    self->model_object = MP_OBJ_NULL;
    self->arena_object = MP_OBJ_NULL;
    memset(&self->result, 0, sizeof self->result);
    take_image(self, given[MODEL].u_obj);
    take_arena(self, given[ARENA].u_obj);
    return MP_OBJ_FROM_PTR(self);
}

/* Whether a buffer is where it was: a bytearray that grows may move. */
static bool is_still_at(mp_obj_t object, const void *place, size_t n)
{
    mp_buffer_info_t buffer;
    return mp_get_buffer(object, &buffer, MP_BUFFER_READ) && buffer.buf == place && buffer.len >= n;
}

/* The network within an object of this class, or of one that Python derived from it. */
static deltarnn_network_t *network_of(mp_obj_t object)
{
    const mp_obj_type_t *type = (const mp_obj_type_t *)&deltarnn_type_network;
    object = mp_obj_cast_to_native_base(object, MP_OBJ_FROM_PTR(type));
    if (object == MP_OBJ_NULL || mp_obj_get_type(object) != type) {
        deltarnn_raise(DELTARNN_TYPE_ERROR, "not a Network, or one whose __init__ was not called");
    }
    return MP_OBJ_TO_PTR(object);
}

deltarnn_network_t *deltarnn_open_network(mp_obj_t object)
{
    deltarnn_network_t *self = network_of(object);
    if (self->model_object == MP_OBJ_NULL) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, "the network is closed");
    }
    if (!is_still_at(self->model_object, self->image, self->image_bytes) ||
        !is_still_at(self->arena_object, self->net.arena, self->net.plan.total + OWNER_BYTES)) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, "the model or the arena was moved or resized");
    }
    if (*owner(self) != self) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, "the arena was overwritten, or given to another network");
    }
    return self;
}

mp_obj_t deltarnn_network_close(mp_obj_t object)
{
    deltarnn_network_t *self = network_of(object);
    self->model_object = MP_OBJ_NULL;
    self->arena_object = MP_OBJ_NULL;
    return mp_const_none;
}

/* ---- settings */

static drnn_scale_t scale_of(mp_obj_t object)
{
    size_t n;
    mp_obj_t *items;
    deltarnn_items(object, &n, &items);
    if (n != 2) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, "a scale is (m, e), which stands for m * 2^e");
    }
    drnn_scale_t scale;
    scale.m = (uint16_t)deltarnn_integer(items[0], 0, UINT16_MAX, "m of a scale must be 0 or 32768 .. 65535");
    scale.e = (int16_t)deltarnn_integer(items[1], INT16_MIN, INT16_MAX, "e of a scale is outside its range");
    return scale;
}

static void take_thresholds(mp_obj_t object, uint32_t n_layers, int16_t *thresholds)
{
    deltarnn_numbers_t given;
    deltarnn_numbers(object, sizeof(int16_t), &given);
    if (given.n != n_layers) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, "thresholds must be one for each layer");
    }
    for (uint32_t l = 0; l < n_layers; ++l) {
        thresholds[l] = (int16_t)deltarnn_number(&given, l, 0, INT16_MAX, "a threshold must be 0 .. 32767");
    }
}

mp_obj_t deltarnn_network_configure(size_t n_args, const mp_obj_t *args, mp_map_t *kws)
{
    enum { LEARNING_RATE, CLIP, THETA_X, THETA_H, BETA, SEED, STEP, N_ARGS };
    const mp_arg_t allowed[N_ARGS] = {
        {MP_QSTR_learning_rate, MP_ARG_KW_ONLY | MP_ARG_OBJ, {.u_obj = mp_const_none}},
        {MP_QSTR_clip, MP_ARG_KW_ONLY | MP_ARG_OBJ, {.u_obj = mp_const_none}},
        {MP_QSTR_theta_x, MP_ARG_KW_ONLY | MP_ARG_OBJ, {.u_obj = mp_const_none}},
        {MP_QSTR_theta_h, MP_ARG_KW_ONLY | MP_ARG_OBJ, {.u_obj = mp_const_none}},
        {MP_QSTR_beta, MP_ARG_KW_ONLY | MP_ARG_OBJ, {.u_obj = mp_const_none}},
        {MP_QSTR_seed, MP_ARG_KW_ONLY | MP_ARG_OBJ, {.u_obj = mp_const_none}},
        {MP_QSTR_step, MP_ARG_KW_ONLY | MP_ARG_OBJ, {.u_obj = mp_const_none}},
    };
    mp_arg_val_t given[N_ARGS];
    deltarnn_network_t *self = deltarnn_open_network(args[0]);
    mp_arg_parse_all(n_args - 1, args + 1, kws, N_ARGS, allowed, given);

    drnn_config_t config = self->net.config;
    drnn_scale_t *scales[] = {&config.learning_rate, &config.clip};
    for (int i = LEARNING_RATE; i <= CLIP; ++i) {
        if (given[i].u_obj != mp_const_none) {
            *scales[i] = scale_of(given[i].u_obj);
        }
    }
    if (given[BETA].u_obj != mp_const_none) {
        config.beta = scale_of(given[BETA].u_obj);
    }
    if (given[THETA_X].u_obj != mp_const_none) {
        take_thresholds(given[THETA_X].u_obj, self->model.n_layers, config.theta_x);
    }
    if (given[THETA_H].u_obj != mp_const_none) {
        take_thresholds(given[THETA_H].u_obj, self->model.n_layers, config.theta_h);
    }
    if (given[SEED].u_obj != mp_const_none) {
        config.seed = (uint32_t)deltarnn_integer(given[SEED].u_obj, 0, UINT32_MAX, "seed must be 0 .. 2^32 - 1");
    }
    if (given[STEP].u_obj != mp_const_none) {
        config.step = (uint32_t)deltarnn_integer(given[STEP].u_obj, 0, UINT32_MAX, "step must be 0 .. 2^32 - 1");
    }
    deltarnn_check(drnn_configure(&self->net, &config));
    return mp_const_none;
}

mp_obj_t deltarnn_network_reset(mp_obj_t object)
{
    deltarnn_network_t *self = deltarnn_open_network(object);
    deltarnn_check(drnn_reset_weights(&self->net));
    return mp_const_none;
}

/* ---- frames */

static uint32_t n_in(const deltarnn_network_t *self)
{
    return self->layers[0].n_in;
}

/* Whole frames of a buffer; how many. */
static const int16_t *frames_of(const deltarnn_network_t *self, mp_obj_t object, uint32_t most, uint32_t *n_frames)
{
    size_t n;
    const int16_t *frames = deltarnn_int16(object, &n);
    if (n == 0 || n % n_in(self) != 0) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, "frames must be T * n_in values");
    }
    if (n / n_in(self) > most) {
        deltarnn_check(DRNN_ERR_TOO_LONG);
    }
    for (size_t i = 0; i < n; ++i) {
        if (frames[i] > DRNN_V_MAX || frames[i] < -DRNN_V_MAX) {
            deltarnn_raise(DELTARNN_VALUE_ERROR, "inputs must be -16383 .. 16383");
        }
    }
    *n_frames = (uint32_t)(n / n_in(self));
    return frames;
}

/* ---- targets of readouts at every frame */

/* Of a target in a buffer. */
static size_t item_bytes(const deltarnn_network_t *self)
{
    return self->model.readout == DRNN_REGRESSION ? sizeof(int32_t) : sizeof(int16_t);
}

static int32_t class_at(const deltarnn_network_t *self, const deltarnn_numbers_t *given, uint32_t t)
{
    return deltarnn_number(given, t, -1, self->model.n_outputs - 1, NOT_A_LABEL);
}

/* Values of frame t, checked; false where it has none. */
static bool values_at(const deltarnn_network_t *self, const deltarnn_numbers_t *given, uint32_t t, int32_t *values)
{
    const uint32_t n = self->model.n_outputs;
    const size_t first = (size_t)t * n;
    const bool is_given = deltarnn_number(given, first, INT32_MIN, DRNN_TARGET_MAX, NOT_A_TARGET) != NO_TARGET;
    for (uint32_t k = 0; is_given && k < n; ++k) {
        const int32_t value = deltarnn_number(given, first + k, -DRNN_TARGET_MAX, DRNN_TARGET_MAX, NOT_A_TARGET);
        if (values != NULL) {
            values[k] = value;
        }
    }
    return is_given;
}

/* Targets of n_frames, from the first to the last, so that none fails later; how many frames have one. */
static uint32_t check_targets(const deltarnn_network_t *self, const deltarnn_numbers_t *given, uint32_t n_frames)
{
    const bool is_regression = self->model.readout == DRNN_REGRESSION;
    if (self->model.readout == DRNN_LAST) {
        deltarnn_check(DRNN_ERR_READOUT);
    }
    if (given->n != (size_t)n_frames * (is_regression ? self->model.n_outputs : 1u)) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, "targets must be T classes, or T * n_outputs values");
    }
    uint32_t n_given = 0;
    for (uint32_t t = 0; t < n_frames; ++t) {
        n_given += is_regression ? values_at(self, given, t, NULL) : class_at(self, given, t) >= 0;
    }
    return n_given;
}

/* Give the frame just pushed its target, if it has one; takes 1 KiB of the stack. */
static void judge(deltarnn_network_t *self, const deltarnn_numbers_t *given, uint32_t t)
{
    if (self->model.readout == DRNN_REGRESSION) {
        int32_t values[DRNN_MAX_OUTPUTS];
        if (values_at(self, given, t, values)) {
            deltarnn_check(drnn_target_values(&self->net, values));
        }
    } else {
        const int32_t label = class_at(self, given, t);
        if (label >= 0) {
            deltarnn_check(drnn_target_class(&self->net, (uint16_t)label));
        }
    }
}

/* ---- samples, frame by frame and as a whole */

mp_obj_t deltarnn_network_begin(mp_obj_t object)
{
    deltarnn_network_t *self = deltarnn_open_network(object);
    deltarnn_check(drnn_begin(&self->net));
    return mp_const_none;
}

mp_obj_t deltarnn_network_push(size_t n_args, const mp_obj_t *args)
{
    deltarnn_network_t *self = deltarnn_open_network(args[0]);
    const mp_obj_t target = n_args < 3 ? mp_const_none : args[2];
    uint32_t n_frames;
    const int16_t *frame = frames_of(self, args[1], 1, &n_frames);
    if (target == mp_const_none) {
        return MP_OBJ_NEW_SMALL_INT(deltarnn_check(drnn_push(&self->net, frame)));
    }
    /* All that can be wrong with the target comes first: the frame is pushed with it, or not at all. */
    deltarnn_numbers_t given = {.items = &target, .n = 1};
    if (!mp_obj_is_small_int(target)) {
        deltarnn_numbers(target, item_bytes(self), &given);
    }
    check_targets(self, &given, 1);
    const int count = deltarnn_check(drnn_push(&self->net, frame));
    judge(self, &given, 0);
    return MP_OBJ_NEW_SMALL_INT(count);
}

/* Begin a sample and push all of its frames; `targets` of a readout at every frame, checked before, or NULL. */
static void push_all(deltarnn_network_t *self, const int16_t *frames, uint32_t n_frames, const deltarnn_numbers_t *targets)
{
    deltarnn_check(drnn_begin(&self->net));
    for (uint32_t t = 0; t < n_frames; ++t) {
        deltarnn_check(drnn_push(&self->net, frames + t * n_in(self)));
        if (targets != NULL) {
            judge(self, targets, t);
        }
    }
}

static mp_obj_t infer(deltarnn_network_t *self)
{
    deltarnn_check(drnn_infer(&self->net, &self->result));
    return MP_OBJ_NEW_SMALL_INT(self->result.predicted);
}

mp_obj_t deltarnn_network_infer(mp_obj_t object)
{
    return infer(deltarnn_open_network(object));
}

mp_obj_t deltarnn_network_forward(mp_obj_t object, mp_obj_t frames_object)
{
    deltarnn_network_t *self = deltarnn_open_network(object);
    uint32_t n_frames;
    const int16_t *frames = frames_of(self, frames_object, self->model.max_steps, &n_frames);
    push_all(self, frames, n_frames, NULL);
    return infer(self);
}

static mp_obj_t loss_of(const deltarnn_network_t *self)
{
    return mp_obj_new_int(self->result.loss);
}

mp_obj_t deltarnn_network_train(size_t n_args, const mp_obj_t *args)
{
    deltarnn_network_t *self = deltarnn_open_network(args[0]);
    const mp_obj_t label = n_args < 2 ? mp_const_none : args[1];
    if (label != mp_const_none) {
        const int64_t class = deltarnn_integer(label, 0, self->model.n_outputs - 1, NOT_A_LABEL);
        deltarnn_check(drnn_train(&self->net, (uint16_t)class, &self->result));
    } else if (self->model.readout == DRNN_LAST) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, "the label is missing");
    } else {
        deltarnn_check(drnn_learn(&self->net, &self->result));
    }
    return loss_of(self);
}

mp_obj_t deltarnn_network_train_step(mp_obj_t object, mp_obj_t frames_object, mp_obj_t target)
{
    deltarnn_network_t *self = deltarnn_open_network(object);
    uint32_t n_frames;
    const int16_t *frames = frames_of(self, frames_object, self->model.max_steps, &n_frames);
    if (self->model.memory == DRNN_INFERENCE) {
        deltarnn_check(DRNN_ERR_INFERENCE);
    }
    if (self->model.readout == DRNN_LAST) {
        const int64_t label = deltarnn_integer(target, 0, self->model.n_outputs - 1, NOT_A_LABEL);
        push_all(self, frames, n_frames, NULL);
        deltarnn_check(drnn_train(&self->net, (uint16_t)label, &self->result));
    } else {
        deltarnn_numbers_t targets;
        deltarnn_numbers(target, item_bytes(self), &targets);
        if (check_targets(self, &targets, n_frames) == 0) {
            deltarnn_check(DRNN_ERR_EMPTY);
        }
        push_all(self, frames, n_frames, &targets);
        deltarnn_check(drnn_learn(&self->net, &self->result));
    }
    return loss_of(self);
}

mp_obj_t deltarnn_network_replay(mp_obj_t object)
{
    deltarnn_network_t *self = deltarnn_open_network(object);
    if (self->image_may_change) {
        /* The core saw at the beginning that the exemplars fit, and does not look again. */
        const uint8_t *covered = (const uint8_t *)self->image + DRNN_IMAGE_CRC_START;
        if (drnn_crc32(0, covered, self->image_bytes - DRNN_IMAGE_CRC_START) != self->image_crc) {
            deltarnn_raise(DELTARNN_VALUE_ERROR, "the model's bytes were changed");
        }
    }
    return MP_OBJ_NEW_SMALL_INT(deltarnn_check(drnn_replay(&self->net, &self->result)));
}
