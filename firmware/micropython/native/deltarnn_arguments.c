/*
 * What Python hands over, checked. Nothing here runs code of the user: an object is taken by its very type.
 */
#include "deltarnn.h"

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

/* Integers of item_bytes in a buffer, whole and aligned; how many. */
static const void *integers(mp_obj_t object, size_t item_bytes, char typecode, size_t *n, const char *what)
{
    mp_buffer_info_t buffer;
    deltarnn_buffer(object, &buffer, MP_BUFFER_READ);
    if ((buffer.typecode != typecode && !is_of_bytes(&buffer)) || buffer.len % item_bytes != 0 ||
        (uintptr_t)buffer.buf % item_bytes != 0) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, what);
    }
    *n = buffer.len / item_bytes;
    return buffer.buf;
}

const int16_t *deltarnn_int16(mp_obj_t object, size_t *n)
{
    return integers(object, sizeof(int16_t), 'h', n, "frames must be int16: array('h'), or bytes of them at an even address");
}

void deltarnn_numbers(mp_obj_t object, size_t item_bytes, deltarnn_numbers_t *numbers)
{
    const mp_obj_type_t *type = mp_obj_get_type(object);
    numbers->items = NULL;
    numbers->item_bytes = item_bytes;
    if (type == DELTARNN_TUPLE || type == DELTARNN_LIST) {
        mp_obj_t *items;
        deltarnn_items(object, &numbers->n, &items);
        numbers->items = items;
    } else if (item_bytes == sizeof(int16_t)) {
        numbers->data = integers(object, item_bytes, 'h', &numbers->n, "classes must be integers or array('h')");
    } else {
        numbers->data = integers(object, item_bytes, 'i', &numbers->n, "values must be integers or array('i')");
    }
}

int32_t deltarnn_number(const deltarnn_numbers_t *numbers, size_t i, int32_t low, int32_t high, const char *what)
{
    if (numbers->items != NULL) {
        return (int32_t)deltarnn_integer(numbers->items[i], low, high, what);
    }
    const int32_t value =
        numbers->item_bytes == sizeof(int16_t) ? ((const int16_t *)numbers->data)[i] : ((const int32_t *)numbers->data)[i];
    if (value < low || value > high) {
        deltarnn_raise(DELTARNN_VALUE_ERROR, what);
    }
    return value;
}

int deltarnn_check(int result)
{
    if (result < 0) {
        deltarnn_raise(result == DRNN_ERR_EVENTS ? DELTARNN_OVERFLOW_ERROR : DELTARNN_VALUE_ERROR, drnn_error_text(result));
    }
    return result;
}
