/*
 * The module and its class, as MicroPython's tables have them: filled at import in a native module, constant in a user C module.
 */
#include "deltarnn.h"

static MP_DEFINE_CONST_FUN_OBJ_1(arena_size_obj, deltarnn_arena_size);

static MP_DEFINE_CONST_FUN_OBJ_KW(configure_obj, 1, deltarnn_network_configure);
static MP_DEFINE_CONST_FUN_OBJ_1(begin_obj, deltarnn_network_begin);
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(push_obj, 2, 3, deltarnn_network_push);
static MP_DEFINE_CONST_FUN_OBJ_1(infer_obj, deltarnn_network_infer);
static MP_DEFINE_CONST_FUN_OBJ_VAR_BETWEEN(train_obj, 1, 2, deltarnn_network_train);
static MP_DEFINE_CONST_FUN_OBJ_2(forward_obj, deltarnn_network_forward);
static MP_DEFINE_CONST_FUN_OBJ_3(train_step_obj, deltarnn_network_train_step);
static MP_DEFINE_CONST_FUN_OBJ_1(replay_obj, deltarnn_network_replay);
static MP_DEFINE_CONST_FUN_OBJ_1(outputs_obj, deltarnn_network_outputs);
static MP_DEFINE_CONST_FUN_OBJ_1(hidden_obj, deltarnn_network_hidden);
static MP_DEFINE_CONST_FUN_OBJ_1(stats_obj, deltarnn_network_stats);
static MP_DEFINE_CONST_FUN_OBJ_2(tensor_obj, deltarnn_network_tensor);
static MP_DEFINE_CONST_FUN_OBJ_3(set_tensor_obj, deltarnn_network_set_tensor);
static MP_DEFINE_CONST_FUN_OBJ_1(reset_obj, deltarnn_network_reset);
static MP_DEFINE_CONST_FUN_OBJ_2(save_obj, deltarnn_network_save);
static MP_DEFINE_CONST_FUN_OBJ_2(load_obj, deltarnn_network_load);
static MP_DEFINE_CONST_FUN_OBJ_1(close_obj, deltarnn_network_close);

/* The class's methods: name, function. */
#define METHODS(M) \
    M(MP_QSTR_configure, configure_obj) \
    M(MP_QSTR_begin, begin_obj) \
    M(MP_QSTR_push, push_obj) \
    M(MP_QSTR_infer, infer_obj) \
    M(MP_QSTR_train, train_obj) \
    M(MP_QSTR_forward, forward_obj) \
    M(MP_QSTR_train_step, train_step_obj) \
    M(MP_QSTR_replay, replay_obj) \
    M(MP_QSTR_outputs, outputs_obj) \
    M(MP_QSTR_hidden, hidden_obj) \
    M(MP_QSTR_stats, stats_obj) \
    M(MP_QSTR_tensor, tensor_obj) \
    M(MP_QSTR_set_tensor, set_tensor_obj) \
    M(MP_QSTR_reset, reset_obj) \
    M(MP_QSTR_save, save_obj) \
    M(MP_QSTR_load, load_obj) \
    M(MP_QSTR_close, close_obj)

#if MICROPY_ENABLE_DYNRUNTIME

deltarnn_runtime_t deltarnn_runtime;
mp_obj_full_type_t deltarnn_type_network;

#define COUNT(name, function) +1
#define ENTRY(name, function) *entry++ = (mp_map_elem_t){MP_OBJ_NEW_QSTR(name), MP_OBJ_FROM_PTR(&function)};

mp_map_elem_t deltarnn_methods[0 METHODS(COUNT)];
static MP_DEFINE_CONST_DICT(methods_dict, deltarnn_methods);

static void find_runtime(mp_obj_t module)
{
    mp_obj_t names[] = {MP_OBJ_NEW_QSTR(MP_QSTR_array)};
    mp_obj_t array = mp_import_name(MP_QSTR_array, mp_obj_new_tuple(1, names), MP_OBJ_NEW_SMALL_INT(0));
    deltarnn_runtime.module = module;
    deltarnn_runtime.array = mp_load_attr(array, MP_QSTR_array);
    deltarnn_runtime.open = mp_load_global(MP_QSTR_open);
    deltarnn_runtime.integer = &mp_type_int;
    deltarnn_runtime.boolean = &mp_type_bool;
    deltarnn_runtime.tuple = &mp_type_tuple;
    deltarnn_runtime.value_error = &mp_type_ValueError;
    deltarnn_runtime.type_error = &mp_type_TypeError;
    deltarnn_runtime.overflow_error = MP_OBJ_TO_PTR(mp_load_global(MP_QSTR_OverflowError));
}

static void make_class(void)
{
    mp_map_elem_t *entry = deltarnn_methods;
    METHODS(ENTRY)
    deltarnn_type_network.base.type = &mp_type_type;
    deltarnn_type_network.flags = MP_TYPE_FLAG_NONE;
    deltarnn_type_network.name = MP_QSTR_Network;
    MP_OBJ_TYPE_SET_SLOT(&deltarnn_type_network, make_new, deltarnn_network_make_new, 0);
    MP_OBJ_TYPE_SET_SLOT(&deltarnn_type_network, attr, deltarnn_network_attr, 1);
    MP_OBJ_TYPE_SET_SLOT(&deltarnn_type_network, locals_dict, (void *)&methods_dict, 2);
}

mp_obj_t mpy_init(mp_obj_fun_bc_t *self, size_t n_args, size_t n_kw, mp_obj_t *args)
{
    MP_DYNRUNTIME_INIT_ENTRY
    (void)n_args, (void)n_kw, (void)args;
    find_runtime(MP_OBJ_FROM_PTR(self->context));
    make_class();
    mp_store_global(MP_QSTR_version, mp_obj_new_str(DELTARNN_VERSION, sizeof DELTARNN_VERSION - 1));
    mp_store_global(MP_QSTR_arena_size, MP_OBJ_FROM_PTR(&arena_size_obj));
    mp_store_global(MP_QSTR_Network, MP_OBJ_FROM_PTR(&deltarnn_type_network));
    MP_DYNRUNTIME_INIT_EXIT
}

#else

#define ENTRY(name, function) {MP_ROM_QSTR(name), MP_ROM_PTR(&function)},

static const mp_rom_map_elem_t methods[] = {METHODS(ENTRY)};
static MP_DEFINE_CONST_DICT(methods_dict, methods);

MP_DEFINE_CONST_OBJ_TYPE(deltarnn_type_network, MP_QSTR_Network, MP_TYPE_FLAG_NONE, make_new, deltarnn_network_make_new,
                         attr, deltarnn_network_attr, locals_dict, &methods_dict);

static const MP_DEFINE_STR_OBJ(version_obj, DELTARNN_VERSION);

static const mp_rom_map_elem_t globals[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_deltarnn)},
    {MP_ROM_QSTR(MP_QSTR_version), MP_ROM_PTR(&version_obj)},
    {MP_ROM_QSTR(MP_QSTR_arena_size), MP_ROM_PTR(&arena_size_obj)},
    {MP_ROM_QSTR(MP_QSTR_Network), MP_ROM_PTR(&deltarnn_type_network)},
};
static MP_DEFINE_CONST_DICT(globals_dict, globals);

const mp_obj_module_t deltarnn_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&globals_dict,
};

MP_REGISTER_MODULE(MP_QSTR_deltarnn, deltarnn_module);

#endif
