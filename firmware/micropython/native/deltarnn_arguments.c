/*
 * What Python hands over, checked. Nothing here runs code of the user: an object is taken by its very type.
 */
#include "deltarnn.h"

#define NOT_INT16 "frames must be int16: array('h'), or bytes of them"

static bool is_integer(mp_obj_t object)
{
    if (mp_obj_is_small_int(object)) {
        return true;
    }
    const mp_obj_type_t *type = mp_obj_get_type(object);
    return type == DELTARNN_INT || type == DELTARNN_BOOL;
}

int64_t deltarnn_integer(mp_obj_t object, int64_t low, int64_t high, const char *what)
{
    if (!is_integer(object)) {
        deltarnn_raise(DELTARNN_TYPE_ERROR, "an integer is needed");
    }
    int64_t value = 0;
    bool fits = true;
    if (mp_obj_is_small_int(object)) {
        value = MP_OBJ_SMALL_INT_VALUE(object);
    } else {
        /* Of a long integer the low bits; whether they are all of it, only a comparison tells. */
        const mp_uint_t bits = (mp_uint_t)DELTARNN_INT_TRUNCATED(object);
        if (mp_obj_is_true(mp_binary_op(MP_BINARY_OP_EQUAL, object, mp_obj_new_int_from_uint(bits)))) {
            value = (int64_t)bits;
            fits = value >= 0;
        } else {
            value = (mp_int_t)bits;
            fits = mp_obj_is_true(mp_binary_op(MP_BINARY_OP_EQUAL, object, mp_obj_new_int((mp_int_t)bits)));
        }
    }
    if (!fits || value < low || value > high) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, what);
    }
    return value;
}

void deltarnn_items(mp_obj_t object, size_t *n, mp_obj_t **items)
{
    const mp_obj_type_t *type = mp_obj_get_type(object);
    if (type == DELTARNN_TUPLE) {
        mp_obj_tuple_t *tuple = MP_OBJ_TO_PTR(object);
        *n = tuple->len;
        *items = tuple->items;
    } else if (type == DELTARNN_LIST) {
        mp_obj_list_t *list = MP_OBJ_TO_PTR(object);
        *n = list->len;
        *items = list->items;
    } else {
        deltarnn_raise(DELTARNN_TYPE_ERROR, "a tuple or list is needed");
    }
}

void deltarnn_buffer(mp_obj_t object, mp_buffer_info_t *buffer, mp_uint_t flags)
{
    if (mp_obj_get_type(object) == DELTARNN_STR || !mp_get_buffer(object, buffer, flags)) {
        deltarnn_raise(DELTARNN_TYPE_ERROR, "a buffer is needed");
    }
}

static bool is_of_bytes(const mp_buffer_info_t *buffer)
{
    return buffer->typecode == 'B' || buffer->typecode == 'b' || buffer->typecode == BYTEARRAY_TYPECODE;
}

const int16_t *deltarnn_int16(mp_obj_t object, size_t *n)
{
    mp_buffer_info_t buffer;
    deltarnn_buffer(object, &buffer, MP_BUFFER_READ);
    if (buffer.typecode != 'h' && !is_of_bytes(&buffer)) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, NOT_INT16);
    }
    if (buffer.len % sizeof(int16_t) != 0 || (uintptr_t)buffer.buf % sizeof(int16_t) != 0) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, "frames must be whole int16 at an even address");
    }
    *n = buffer.len / sizeof(int16_t);
    return buffer.buf;
}

void deltarnn_sequence(mp_obj_t object, deltarnn_sequence_t *sequence)
{
    const mp_obj_type_t *type = mp_obj_get_type(object);
    if (type == DELTARNN_TUPLE || type == DELTARNN_LIST) {
        deltarnn_items(object, &sequence->n, &sequence->items);
        return;
    }
    sequence->items = NULL;
    deltarnn_buffer(object, &sequence->buffer, MP_BUFFER_READ);
    if (is_of_bytes(&sequence->buffer)) {
        sequence->buffer.typecode = sequence->buffer.typecode == 'b' ? 'b' : 'B';
        sequence->n = sequence->buffer.len;
        return;
    }
    size_t align = 1;
    const size_t item_bytes = mp_binary_get_size('@', sequence->buffer.typecode, &align);
    if ((uintptr_t)sequence->buffer.buf % align != 0) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, "the buffer is not aligned to its items");
    }
    sequence->n = item_bytes == 0 ? 0 : sequence->buffer.len / item_bytes;
}

int32_t deltarnn_sequence_at(const deltarnn_sequence_t *sequence, size_t i, int32_t low, int32_t high, const char *what)
{
    mp_obj_t item = sequence->items != NULL
                        ? sequence->items[i]
                        : mp_binary_get_val_array((char)sequence->buffer.typecode, sequence->buffer.buf, i);
    return (int32_t)deltarnn_integer(item, low, high, what);
}

int deltarnn_check(int result)
{
    if (result < 0) {
        deltarnn_raise(result == DRNN_ERR_EVENTS ? DELTARNN_OVERFLOW_ERROR : DELTARNN_VALUE_ERROR, drnn_error_text(result));
    }
    return result;
}
