/*
 * Files: a model by its name, and trained weights with their settings (drnn_state_t) to and from a file by name or object.
 * A file object may be the user's own and run any code, even close the network; so nothing of ours is lent to it, and
 * after each call the network is looked at again.
 */
#include "deltarnn.h"

#include <string.h>

#define CHUNK_BYTES 256u

static mp_obj_t open_file(mp_obj_t name, const char *mode)
{
    mp_obj_t args[2] = {name, mp_obj_new_str(mode, 2)};
    return mp_call_function_n_kw(DELTARNN_OPEN, 2, 0, args);
}

static mp_obj_t call_method(mp_obj_t object, qstr name)
{
    mp_obj_t call[2];
    mp_load_method(object, name, call);
    return mp_call_method_n_kw(0, 0, call);
}

mp_obj_t deltarnn_read_file(mp_obj_t name)
{
    mp_obj_t file = open_file(name, "rb");
    mp_obj_t bytes = call_method(file, MP_QSTR_read);
    call_method(file, MP_QSTR_close);
    return bytes;
}

/* ---- the trained tensors, in the order of the file */

/* Tensor number i; false behind the last. */
static bool trained_tensor(const deltarnn_network_t *self, uint32_t i, drnn_tensor_t *tensor)
{
    const uint32_t n_layers = self->model.n_layers;
    if (i >= 2 * n_layers + 2) {
        return false;
    }
    const uint32_t kind = i % 2;
    const uint32_t id = i < 2 * n_layers ? DRNN_T_PER_LAYER * (i / 2) + (kind == 0 ? DRNN_T_WEIGHT : DRNN_T_BIAS)
                        : kind == 0      ? DRNN_T_READOUT_WEIGHT
                                         : DRNN_T_READOUT_BIAS;
    deltarnn_check(drnn_tensor(&self->net, (int)id, tensor));
    return true;
}

static uint32_t bytes_of(const drnn_tensor_t *tensor)
{
    return tensor->count * tensor->item_bytes;
}

static uint32_t padding_of(const drnn_tensor_t *tensor)
{
    return (0u - bytes_of(tensor)) % DRNN_STATE_ALIGN;
}

static uint32_t state_bytes(const deltarnn_network_t *self)
{
    uint32_t n = sizeof(drnn_state_t);
    drnn_tensor_t tensor;
    for (uint32_t i = 0; trained_tensor(self, i, &tensor); ++i) {
        n += bytes_of(&tensor) + padding_of(&tensor);
    }
    return n;
}

static const uint8_t zeros[DRNN_STATE_ALIGN];

/* The head of the file that would be written now. */
static void describe_state(const deltarnn_network_t *self, drnn_state_t *state)
{
    memset(state, 0, sizeof *state);
    state->magic = DRNN_STATE_MAGIC;
    state->version = DRNN_STATE_VERSION;
    state->abi_version = DRNN_ABI_VERSION;
    state->n_bytes = state_bytes(self);
    memcpy(state->hash, self->model.hash, DRNN_HASH_BYTES);
    state->config = self->net.config;
    uint32_t crc = drnn_crc32(0, (const uint8_t *)state + DRNN_IMAGE_CRC_START, sizeof *state - DRNN_IMAGE_CRC_START);
    drnn_tensor_t tensor;
    for (uint32_t i = 0; trained_tensor(self, i, &tensor); ++i) {
        crc = drnn_crc32(crc, tensor.data, bytes_of(&tensor));
        crc = drnn_crc32(crc, zeros, padding_of(&tensor));
    }
    state->crc = crc;
}

/* ---- save */

/* Write a copy of n bytes by the file's own method. */
static void write_copy(mp_obj_t file, const uint8_t *bytes, uint32_t n)
{
    mp_obj_t call[3];
    mp_load_method(file, MP_QSTR_write, call);
    call[2] = mp_obj_new_bytes(bytes, n);
    mp_call_method_n_kw(1, 0, call);
}

static void save_to(mp_obj_t object, mp_obj_t file)
{
    drnn_state_t state;
    describe_state(deltarnn_open_network(object), &state);
    write_copy(file, (const uint8_t *)&state, sizeof state);
    drnn_tensor_t tensor;
    for (uint32_t i = 0; trained_tensor(deltarnn_open_network(object), i, &tensor); ++i) {
        const uint32_t n = bytes_of(&tensor);
        for (uint32_t at = 0; at < n; at += CHUNK_BYTES) {
            deltarnn_open_network(object);
            write_copy(file, (const uint8_t *)tensor.data + at, n - at < CHUNK_BYTES ? n - at : CHUNK_BYTES);
        }
        if (padding_of(&tensor) != 0) {
            write_copy(file, zeros, padding_of(&tensor));
        }
    }
}

mp_obj_t deltarnn_network_save(mp_obj_t object, mp_obj_t file)
{
    deltarnn_open_network(object);
    if (mp_obj_get_type(file) == DELTARNN_STR) {
        file = open_file(file, "wb");
        save_to(object, file);
        call_method(file, MP_QSTR_close);
    } else {
        save_to(object, file);
    }
    return mp_const_none;
}

/* ---- load */

#define NOT_A_STATE "not a whole file of trained weights"

static void check_state(const deltarnn_network_t *self, const uint8_t *bytes, size_t n, drnn_state_t *state)
{
    if (n < sizeof *state) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, NOT_A_STATE);
    }
    memcpy(state, bytes, sizeof *state);
    if (state->magic != DRNN_STATE_MAGIC) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, NOT_A_STATE);
    }
    if (state->version != DRNN_STATE_VERSION || state->abi_version != DRNN_ABI_VERSION) {
        deltarnn_check(DRNN_ERR_VERSION);
    }
    if (state->n_bytes != n || drnn_crc32(0, bytes + DRNN_IMAGE_CRC_START, n - DRNN_IMAGE_CRC_START) != state->crc) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, NOT_A_STATE);
    }
    uint8_t difference = 0;
    for (uint32_t i = 0; i < DRNN_HASH_BYTES; ++i) {
        difference |= state->hash[i] ^ self->model.hash[i];
    }
    if (difference != 0 || n != state_bytes(self)) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, "the weights are of another model");
    }
}

mp_obj_t deltarnn_network_load(mp_obj_t object, mp_obj_t file)
{
    deltarnn_open_network(object);
    mp_obj_t data = mp_obj_get_type(file) == DELTARNN_STR ? deltarnn_read_file(file) : call_method(file, MP_QSTR_read);
    deltarnn_network_t *self = deltarnn_open_network(object);
    mp_buffer_info_t buffer;
    deltarnn_buffer(data, &buffer, MP_BUFFER_READ);
    const uint8_t *bytes = buffer.buf;
    drnn_state_t state;
    check_state(self, bytes, buffer.len, &state);
    deltarnn_check(drnn_configure(&self->net, &state.config));
    bytes += sizeof state;
    drnn_tensor_t tensor;
    for (uint32_t i = 0; trained_tensor(self, i, &tensor); ++i) {
        memcpy(tensor.data, bytes, bytes_of(&tensor));
        bytes += bytes_of(&tensor) + padding_of(&tensor);
    }
    deltarnn_check(drnn_drop(&self->net));
    return mp_const_none;
}
