/*
 * What the parts of the module share. The interface that it gives to Python stands in ../deltarnn.pyi.
 */
#ifndef DELTARNN_H
#define DELTARNN_H

#include "deltarnn_runtime.h"

#include "drnn.h"
#include "drnn_image.h"

/* A network as Python holds it. The runtime keeps what the two objects name from being collected. */
typedef struct {
    mp_obj_base_t base;
    mp_obj_t module;
    mp_obj_t model_object;      /* MP_OBJ_NULL when closed */
    mp_obj_t arena_object;
    const void *image;          /* where the model's bytes lay when they were checked, */
    size_t image_bytes;         /* how many they were, */
    uint32_t image_crc;
    uint8_t image_may_change;   /* and whether Python can write there: then a replay checks them again */
    drnn_model_t model;
    drnn_layer_t layers[DRNN_MAX_LAYERS];
    drnn_replay_t replay;
    drnn_t net;
    drnn_result_t result;       /* of the last training step or inference */
} deltarnn_network_t;

/* deltarnn_arguments.c: what Python hands over. All raise TypeError or ValueError where it does not fit. */

/* An integer within [low, high], which lies within [-2^31, 2^32 - 1]; `what` is the text of the error. */
int64_t deltarnn_integer(mp_obj_t object, int64_t low, int64_t high, const char *what);

/* Items of a tuple or list. */
void deltarnn_items(mp_obj_t object, size_t *n, mp_obj_t **items);

/* A buffer, by MP_BUFFER_READ or MP_BUFFER_RW; a text is none. */
void deltarnn_buffer(mp_obj_t object, mp_buffer_info_t *buffer, mp_uint_t flags);

/* A buffer of little-endian int16: its first and how many. */
const int16_t *deltarnn_int16(mp_obj_t object, size_t *n);

/*
 * Numbers of a tuple, a list, or a buffer of little-endian integers of `item_bytes`, 2 or 4. They are read one by one, each
 * as deltarnn_integer has it.
 */
typedef struct {
    const mp_obj_t *items;      /* of a tuple or list, or NULL: */
    const void *data;
    size_t item_bytes;
    size_t n;
} deltarnn_numbers_t;

void deltarnn_numbers(mp_obj_t object, size_t item_bytes, deltarnn_numbers_t *numbers);
int32_t deltarnn_number(const deltarnn_numbers_t *numbers, size_t i, int32_t low, int32_t high, const char *what);

/* Raise ValueError, or OverflowError for DRNN_ERR_EVENTS, where a function of the core failed; else its result. */
int deltarnn_check(int result);

/* deltarnn_network.c; names as in Python */

mp_obj_t deltarnn_arena_size(mp_obj_t model);
mp_obj_t deltarnn_network_make_new(const mp_obj_type_t *type, size_t n_args, size_t n_kw, const mp_obj_t *args);
mp_obj_t deltarnn_network_configure(size_t n_args, const mp_obj_t *args, mp_map_t *kws);
mp_obj_t deltarnn_network_begin(mp_obj_t self);
mp_obj_t deltarnn_network_push(size_t n_args, const mp_obj_t *args);
mp_obj_t deltarnn_network_infer(mp_obj_t self);
mp_obj_t deltarnn_network_train(size_t n_args, const mp_obj_t *args);
mp_obj_t deltarnn_network_forward(mp_obj_t self, mp_obj_t frames);
mp_obj_t deltarnn_network_train_step(mp_obj_t self, mp_obj_t frames, mp_obj_t target);
mp_obj_t deltarnn_network_replay(mp_obj_t self);
mp_obj_t deltarnn_network_reset(mp_obj_t self);
mp_obj_t deltarnn_network_close(mp_obj_t self);

/* The network behind `self`: ValueError when it is closed, or no longer has its buffers. */
deltarnn_network_t *deltarnn_open_network(mp_obj_t self);

/* deltarnn_inspect.c: what a network tells of itself. */

mp_obj_t deltarnn_network_outputs(mp_obj_t self);
mp_obj_t deltarnn_network_hidden(mp_obj_t self);
mp_obj_t deltarnn_network_stats(mp_obj_t self);
mp_obj_t deltarnn_network_tensor(mp_obj_t self, mp_obj_t name);
mp_obj_t deltarnn_network_set_tensor(mp_obj_t self, mp_obj_t name, mp_obj_t values);
void deltarnn_network_attr(mp_obj_t self, qstr attribute, mp_obj_t *destination);

/* deltarnn_files.c */

mp_obj_t deltarnn_network_save(mp_obj_t self, mp_obj_t file);
mp_obj_t deltarnn_network_load(mp_obj_t self, mp_obj_t file);

/* A whole file by its name, as bytes. */
mp_obj_t deltarnn_read_file(mp_obj_t name);

#endif
