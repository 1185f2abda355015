/*
 * The MicroPython runtime as both builds see it: a native module (.mpy), which reaches the firmware by its table of functions
 * alone, and a user C module, which is linked into it.
 */
#ifndef DELTARNN_RUNTIME_H
#define DELTARNN_RUNTIME_H

#if MICROPY_ENABLE_DYNRUNTIME

#include "py/dynruntime.h"

/*
 * Found once, when the module is imported: names are looked up in the globals of whoever calls, who may have given them
 * another meaning. One struct, so that the linker finds a variable that is not static.
 */
typedef struct {
    mp_obj_t module; /* each network holds it: what its type lies in goes with the module */
    mp_obj_t array;
    mp_obj_t open;
    const mp_obj_type_t *integer;
    const mp_obj_type_t *boolean;
    const mp_obj_type_t *tuple;
    const mp_obj_type_t *value_error;
    const mp_obj_type_t *type_error;
    const mp_obj_type_t *overflow_error;
} deltarnn_runtime_t;

extern deltarnn_runtime_t deltarnn_runtime;
extern mp_obj_full_type_t deltarnn_type_network;

#define DELTARNN_MODULE deltarnn_runtime.module
#define DELTARNN_ARRAY deltarnn_runtime.array
#define DELTARNN_OPEN deltarnn_runtime.open
#define DELTARNN_INT deltarnn_runtime.integer
#define DELTARNN_BOOL deltarnn_runtime.boolean
#define DELTARNN_TUPLE deltarnn_runtime.tuple
#define DELTARNN_LIST (&mp_type_list)
#define DELTARNN_STR (&mp_type_str)
#define DELTARNN_VALUE_ERROR deltarnn_runtime.value_error
#define DELTARNN_TYPE_ERROR deltarnn_runtime.type_error
#define DELTARNN_OVERFLOW_ERROR deltarnn_runtime.overflow_error

#define DELTARNN_INT_TRUNCATED(object) mp_obj_get_int_truncated(object)
#define mp_call_method_n_kw(n_args, n_kw, args) (mp_fun_table.call_method_n_kw((n_args), (n_kw), (args)))

#else

#include "py/binary.h"
#include "py/builtin.h"
#include "py/obj.h"
#include "py/objlist.h"
#include "py/objstr.h"
#include "py/objtuple.h"
#include "py/runtime.h"

extern const mp_obj_type_t deltarnn_type_network;

#define DELTARNN_MODULE MP_OBJ_NULL
#define DELTARNN_ARRAY MP_OBJ_FROM_PTR(&mp_type_array)
#define DELTARNN_OPEN MP_OBJ_FROM_PTR(&mp_builtin_open_obj)
#define DELTARNN_INT (&mp_type_int)
#define DELTARNN_BOOL (&mp_type_bool)
#define DELTARNN_TUPLE (&mp_type_tuple)
#define DELTARNN_LIST (&mp_type_list)
#define DELTARNN_STR (&mp_type_str)
#define DELTARNN_VALUE_ERROR (&mp_type_ValueError)
#define DELTARNN_TYPE_ERROR (&mp_type_TypeError)
#define DELTARNN_OVERFLOW_ERROR (&mp_type_OverflowError)

#define DELTARNN_INT_TRUNCATED(object) mp_obj_get_int_truncated(object)

#endif

/* Raise an exception with a text of ours. */
#define deltarnn_raise(type, text) mp_raise_msg((type), (mp_rom_error_text_t)(text))

#endif
