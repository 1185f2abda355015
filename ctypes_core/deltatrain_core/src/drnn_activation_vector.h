/*
 * drnn_activation_narrow.h and storing of dM, a vector of units at a time.
 */
#ifndef DRNN_ACTIVATION_VECTOR_H
#define DRNN_ACTIVATION_VECTOR_H

#include "drnn_activation_narrow.h"
#include "drnn_internal.h"
#include "drnn_vector.h"

/* drnn_above_half_q32: of x in [0, 2^31). */
static inline drnn_v32_t drnn_v_above_half_q32(drnn_v32_t x_q20)
{
    const drnn_v32_t x = drnn_v_min(x_q20, drnn_v_set((1 << DRNN_ARGUMENT_BITS) - 1));
    const drnn_v32_t entry = drnn_v_gather(drnn_sigmoid_table, drnn_v_shift_right(x, DRNN_FRACTION_BITS));
    const drnn_v32_t fraction = drnn_v_and(x, drnn_v_set((1 << (DRNN_FRACTION_BITS + 1)) - 1));
    return drnn_v_add(drnn_v_mul_halves(entry, fraction), entry);
}

/* Of 0 the sign makes 0 what is rounded to it otherwise. */
static inline drnn_v32_t drnn_v_sigmoid_q14(drnn_v32_t x_q20)
{
    const drnn_v32_t above = drnn_v_with_sign(drnn_v_above_half_q32(drnn_v_abs(x_q20)), x_q20);
    return drnn_v_add(drnn_v_round_shift(above, 32 - 14), drnn_v_set(DRNN_ONE_Q14 / 2));
}

static inline drnn_v32_t drnn_v_tanh_q14(drnn_v32_t x_q21)
{
    return drnn_v_with_sign(drnn_v_round_shift(drnn_v_above_half_q32(drnn_v_abs(x_q21)), 31 - 14), x_q21);
}

/* h within its range: drnn_cut_hidden. */
static inline drnn_v32_t drnn_v_cut_hidden(drnn_v32_t h, uint32_t *saturated)
{
    return drnn_v_saturate(h, DRNN_V_MAX, saturated);
}

/* The products of drnn_fixed.h for small carried gradients a; b and c as there. */
static inline drnn_v32_t drnn_v_small_mul_q14(drnn_v32_t a, drnn_v32_t b)
{
    return drnn_v_mul_high(drnn_v_shift_left(a, 2), drnn_v_shift_left(b, 16));
}

static inline drnn_v32_t drnn_v_small_mul_slope(drnn_v32_t a, drnn_v32_t b)
{
    const drnn_v32_t slope = drnn_v_mul_halves(drnn_v_sub(drnn_v_set(DRNN_ONE_Q14), b), b);
    return drnn_v_mul_high(a, drnn_v_shift_left(slope, 4));
}

static inline drnn_v32_t drnn_v_small_mul_rest(drnn_v32_t a, drnn_v32_t b)
{
    const drnn_v32_t magnitude = drnn_v_abs(b);
    const drnn_v32_t square = drnn_v_mul_halves(magnitude, magnitude);
    return drnn_v_mul_high(drnn_v_shift_left(a, 2), drnn_v_shift_left(drnn_v_sub(drnn_v_set(DRNN_ONE_Q28), square), 2));
}

static inline drnn_v32_t drnn_v_small_mul(drnn_v32_t a, drnn_v32_t b, int frac_bits)
{
    return drnn_v_mul_high(drnn_v_shift_left(a, 17 - frac_bits), drnn_v_shift_left(b, 15));
}

static inline drnn_v32_t drnn_v_bits(drnn_v32_t v)
{
    return drnn_v_xor(v, drnn_v_shift_right(v, 31));
}

/* drnn_dm_store_t while vectors are stored. */
typedef struct {
    int exponent;
    drnn_v32_t dm_bits;
    drnn_v32_t other_bits;
    drnn_v_count_t underflows;
} drnn_v_dm_store_t;

static inline drnn_v_dm_store_t drnn_v_store_begin(const drnn_dm_store_t *store)
{
    const drnn_v_dm_store_t result = {
        .exponent = 30 - __builtin_ctz((uint32_t)store->divisor), /* of drnn_small_divisor */
        .dm_bits = drnn_v_set(0),
        .other_bits = drnn_v_set(0),
        .underflows = drnn_v_no_count(),
    };
    return result;
}

static inline void drnn_v_store_end(const drnn_v_dm_store_t *vectors, drnn_dm_store_t *store)
{
    store->dm_bits |= drnn_v_any(vectors->dm_bits);
    store->other_bits |= drnn_v_any(vectors->other_bits);
    store->underflows += drnn_v_counted(vectors->underflows);
}

/* drnn_store_dm: `carried` += d. What is carried is below 2^29, so its double fits. */
static inline void drnn_v_store_dm(drnn_v_dm_store_t *store, drnn_v32_t d, int32_t *carried, int16_t *stored)
{
    const drnn_v32_t dm = drnn_v_add(drnn_v_load32(carried), d);
    const drnn_v32_t rounded = drnn_v_round_shift(drnn_v_shift_left(dm, 1), store->exponent + 1);
    drnn_v_store32(carried, dm);
    drnn_v_store16(stored, rounded);
    store->dm_bits = drnn_v_or(store->dm_bits, drnn_v_bits(rounded));
    drnn_v_count_lost(&store->underflows, rounded, dm);
}

#endif
