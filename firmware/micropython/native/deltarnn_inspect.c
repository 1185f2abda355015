/*
 * What a network tells of itself: attributes, statistics, and tensors by name, each as a copy.
 */
#include "deltarnn.h"

#include <string.h>

/* ---- tensors */

/* array('h') or array('i') with a copy of `count` integers of 2 or 4 bytes. */
static mp_obj_t new_array(const void *data, uint32_t count, uint32_t item_bytes)
{
    mp_obj_t args[2] = {
        mp_obj_new_str(item_bytes == sizeof(int16_t) ? "h" : "i", 1),
        mp_obj_new_bytearray_by_ref(count * item_bytes, (void *)(uintptr_t)data),
    };
    return mp_call_function_n_kw(DELTARNN_ARRAY, 2, 0, args);
}

static mp_obj_t copy_of(const deltarnn_network_t *self, int id)
{
    drnn_tensor_t tensor;
    deltarnn_check(drnn_tensor(&self->net, id, &tensor));
    return new_array(tensor.data, tensor.count, tensor.item_bytes);
}

mp_obj_t deltarnn_network_outputs(mp_obj_t object)
{
    return copy_of(deltarnn_open_network(object), DRNN_T_LOGITS);
}

mp_obj_t deltarnn_network_hidden(mp_obj_t object)
{
    const deltarnn_network_t *self = deltarnn_open_network(object);
    return copy_of(self, DRNN_T_PER_LAYER * (self->model.n_layers - 1) + DRNN_T_HIDDEN);
}

typedef struct {
    char name[16];
    uint8_t id;
} tensor_name_t;

static const tensor_name_t of_network[] = {
    {"readout.weight", DRNN_T_READOUT_WEIGHT},
    {"readout.bias", DRNN_T_READOUT_BIAS},
    {"logits", DRNN_T_LOGITS},
};
static const tensor_name_t of_layer[] = {
    {"weight", DRNN_T_WEIGHT}, {"bias", DRNN_T_BIAS}, {"hidden", DRNN_T_HIDDEN}, {"cell", DRNN_T_CELL}, {"dm", DRNN_T_DM},
};

static bool is_text(const char *text, size_t n, const char *expected)
{
    size_t i = 0;
    while (i < n && expected[i] != 0 && text[i] == expected[i]) {
        ++i;
    }
    return i == n && expected[i] == 0;
}

static int find_name(const tensor_name_t *names, size_t n_names, const char *text, size_t n)
{
    for (size_t i = 0; i < n_names; ++i) {
        if (is_text(text, n, names[i].name)) {
            return names[i].id;
        }
    }
    return -1;
}

/* `readout.bias`, `layer0.weight`; -1, which is no tensor's id, for others. */
static int tensor_id(mp_obj_t object)
{
    static const char layer[] = "layer";
    const size_t digit = sizeof layer - 1;
    if (mp_obj_get_type(object) != DELTARNN_STR) {
        deltarnn_raise(DELTARNN_TYPE_ERROR, "a tensor's name is needed");
    }
    size_t n;
    const char *text = mp_obj_str_get_data(object, &n);
    if (n > digit + 2 && is_text(text, digit, layer) && text[digit] >= '0' && text[digit] <= '9' && text[digit + 1] == '.') {
        const int id = find_name(of_layer, MP_ARRAY_SIZE(of_layer), text + digit + 2, n - digit - 2);
        return id < 0 ? id : DRNN_T_PER_LAYER * (text[digit] - '0') + id;
    }
    return find_name(of_network, MP_ARRAY_SIZE(of_network), text, n);
}

mp_obj_t deltarnn_network_tensor(mp_obj_t object, mp_obj_t name)
{
    return copy_of(deltarnn_open_network(object), tensor_id(name));
}

mp_obj_t deltarnn_network_set_tensor(mp_obj_t object, mp_obj_t name, mp_obj_t values)
{
    deltarnn_network_t *self = deltarnn_open_network(object);
    drnn_tensor_t tensor;
    deltarnn_check(drnn_tensor(&self->net, tensor_id(name), &tensor));
    mp_buffer_info_t buffer;
    deltarnn_buffer(values, &buffer, MP_BUFFER_READ);
    if (!tensor.writable || buffer.len != tensor.count * tensor.item_bytes) {
        deltarnn_check(DRNN_ERR_TENSOR);
    }
    if (buffer.typecode != 'B' && buffer.typecode != 'b' && buffer.typecode != BYTEARRAY_TYPECODE &&
        buffer.typecode != (tensor.item_bytes == sizeof(int16_t) ? 'h' : 'i')) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, "the values are of another type than the tensor");
    }
    memmove(tensor.data, buffer.buf, buffer.len);
    deltarnn_check(drnn_drop(&self->net));
    return mp_const_none;
}

/* ---- statistics */

/* Fields of drnn_result_t, all but the last, which is 64 bits wide. */
#define RESULT_FIELDS(F) \
    F(loss) F(predicted) F(n_steps) F(active_x) F(active_h) F(macs_forward) F(macs_backward) F(macs_gradient) \
    F(columns_updated) F(clipped) F(grad_exponent) F(dm_exponent) F(bound_m) F(bound_e) F(saturated_h) F(saturated_c) \
    F(saturated_grad) F(saturated_w) F(underflow_dm) F(n_targets) F(n_wrong)

typedef struct {
    char name[15];
    uint8_t name_bytes;
    uint8_t place;
    uint8_t n_bytes;
    uint8_t is_signed;
} field_t;

#define TYPED(name) (((drnn_result_t *)0)->name)
#define FIELD(name) \
    {#name, sizeof #name - 1, offsetof(drnn_result_t, name), sizeof TYPED(name), _Generic(TYPED(name), int32_t: 1, default: 0)},
static const field_t fields[] = {RESULT_FIELDS(FIELD)};

static mp_obj_t field_of(const drnn_result_t *result, const field_t *field)
{
    const uint8_t *at = (const uint8_t *)result + field->place;
    if (field->n_bytes == sizeof(uint16_t)) {
        return mp_obj_new_int_from_uint(*(const uint16_t *)(const void *)at);
    }
    return field->is_signed ? mp_obj_new_int(*(const int32_t *)(const void *)at)
                            : mp_obj_new_int_from_uint(*(const uint32_t *)(const void *)at);
}

/* An integer of 64 bits; the table of functions knows those of a word alone. */
static mp_obj_t wide_integer(uint64_t value)
{
    mp_obj_t low = mp_obj_new_int_from_uint((uint32_t)value);
    if (value >> 32 == 0) {
        return low;
    }
    mp_obj_t high = mp_obj_new_int_from_uint((uint32_t)(value >> 32));
    return mp_binary_op(MP_BINARY_OP_OR, mp_binary_op(MP_BINARY_OP_LSHIFT, high, MP_OBJ_NEW_SMALL_INT(32)), low);
}

static void store(mp_obj_t dict, const char *name, size_t n, mp_obj_t value)
{
    mp_obj_dict_store(dict, mp_obj_new_str(name, n), value);
}

mp_obj_t deltarnn_network_stats(mp_obj_t object)
{
    const deltarnn_network_t *self = deltarnn_open_network(object);
    mp_obj_t dict = mp_obj_new_dict(MP_ARRAY_SIZE(fields) + 3);
    for (size_t i = 0; i < MP_ARRAY_SIZE(fields); ++i) {
        store(dict, fields[i].name, fields[i].name_bytes, field_of(&self->result, &fields[i]));
    }
    store(dict, "macs_recomputed", 15, wide_integer(self->result.macs_recomputed));
    store(dict, "step", 4, mp_obj_new_int_from_uint(self->net.config.step));
    store(dict, "n_refused", 9, mp_obj_new_int_from_uint(self->net.n_refused));
    return dict;
}

/* ---- attributes */

static mp_obj_t readout_name(const deltarnn_network_t *self)
{
    switch (self->model.readout) {
    case DRNN_LAST:
        return MP_OBJ_NEW_QSTR(MP_QSTR_last);
    case DRNN_FRAMES:
        return MP_OBJ_NEW_QSTR(MP_QSTR_frames);
    default:
        return MP_OBJ_NEW_QSTR(MP_QSTR_regression);
    }
}

/* The outputs' names; as many as there are outputs, whatever the file holds. */
static mp_obj_t names(const deltarnn_network_t *self)
{
    const drnn_image_t *image = self->image;
    const char *at = (const char *)self->image + image->names;
    const char *end = at + image->names_bytes;
    mp_obj_t list = mp_obj_new_list(0, NULL);
    for (uint32_t k = 0; k < self->model.n_outputs; ++k) {
        size_t n = 0;
        while (at + n < end && at[n] != 0) {
            ++n;
        }
        mp_obj_list_append(list, mp_obj_new_str(at, n));
        at += at + n < end ? n + 1 : n;
    }
    return list;
}

/* Read an attribute; what is none of these is looked up among the methods. None can be set. */
void deltarnn_network_attr(mp_obj_t object, qstr attribute, mp_obj_t *destination)
{
    if (destination[0] != MP_OBJ_NULL) {
        return;
    }
    if (attribute == MP_QSTR_n_in) {
        destination[0] = MP_OBJ_NEW_SMALL_INT(deltarnn_open_network(object)->layers[0].n_in);
    } else if (attribute == MP_QSTR_n_outputs) {
        destination[0] = MP_OBJ_NEW_SMALL_INT(deltarnn_open_network(object)->model.n_outputs);
    } else if (attribute == MP_QSTR_n_layers) {
        destination[0] = MP_OBJ_NEW_SMALL_INT(deltarnn_open_network(object)->model.n_layers);
    } else if (attribute == MP_QSTR_max_steps) {
        destination[0] = MP_OBJ_NEW_SMALL_INT(deltarnn_open_network(object)->model.max_steps);
    } else if (attribute == MP_QSTR_readout) {
        destination[0] = readout_name(deltarnn_open_network(object));
    } else if (attribute == MP_QSTR_names) {
        destination[0] = names(deltarnn_open_network(object));
    } else if (attribute == MP_QSTR_loss) {
        destination[0] = mp_obj_new_int(deltarnn_open_network(object)->result.loss);
    } else {
        destination[1] = MP_OBJ_SENTINEL;
    }
}
