/*
 * The update: a bound of the gradient's norm, the step size that it allows, then one column of W after the other, each
 * summed over its active steps in registers and written with a single stochastic rounding. No array the size of W.
 */
#include <string.h>

#include "drnn_fixed.h"
#include "drnn_history.h"
#include "drnn_kernels.h"
#include "drnn_random.h"
#include "drnn_scale.h"

#include "drnn_vector.h"

#if defined(__AVX2__)
#include "drnn_update_avx2.h"
#elif defined(DRNN_LANES)
#include "drnn_update_mve.h"
#elif defined(__ARM_FEATURE_DSP)
#include "drnn_update_dsp.h"
#define HAS_DSP_STEP
#endif

#define MAX_SHIFT 62
#define RANDOM_BITS 16
#define QUOTIENT_BITS 48 /* 32 of a high word, and the 16 random ones */
#define MAX_LEFT ((int64_t)1 << 32) /* a product to be shifted to the left: more would change nothing */

/* One tensor's part in the update: element -= round(sum * m / 2^shift). */
typedef struct {
    int64_t m;
    int shift;
    uint32_t key;
    uint32_t *saturated;
    /*
     * Where has_quotient: (sum * m) >> (shift - 16) of a sum of 32 bits is (sum * quotient_m) >> 32 >> quotient_shift. As
     * the random addend is a multiple of 2^(shift - 16), (sum * m + R) >> shift is that plus the 16 random bits, >> 16.
     */
    int has_quotient;
    int32_t quotient_m;        /* below 2^31, so the quotient is at most 2^30 */
    int quotient_shift;
} stepper_t;

__attribute__((noinline)) static uint64_t sum_of_squares(const int16_t *values, uint32_t count)
{
    int64_t sum = 0;
    uint32_t i = 0;
#if defined(__AVX2__)
    i = count & ~15u;
    sum = (int64_t)drnn_squares_avx2(values, i);
#elif defined(DRNN_LANES)
    i = count & ~7u;
    sum = (int64_t)drnn_squares_mve(values, i);
#elif defined(__ARM_FEATURE_DSP)
    if ((uintptr_t)values % 4 == 0 && count >= 8) {
        const int16_t *value = values;
        i = count & ~7u;
        __asm__("1:\n"
                "ldm %1!, {r2-r5}\n"
                "smlald %Q0, %R0, r2, r2\n"
                "smlald %Q0, %R0, r3, r3\n"
                "smlald %Q0, %R0, r4, r4\n"
                "smlald %Q0, %R0, r5, r5\n"
                "cmp %1, %2\n"
                "bne 1b\n"
                : "+r"(sum), "+r"(value)
                : "r"(values + i)
                : "r2", "r3", "r4", "r5", "cc", "memory");
    }
#endif
    for (; i < count; ++i) {
        sum += (int32_t)values[i] * values[i];
    }
    return (uint64_t)sum;
}

/* Columns below n_in that a step's mask tells of. */
static uint32_t count_inputs(const uint32_t *mask, uint32_t n_in)
{
    uint32_t count = 0;
    for (uint32_t first = 0; first < n_in; first += DRNN_MASK_BITS) {
        const uint32_t left = n_in - first;
        uint32_t bits = *mask++;
        bits &= left < DRNN_MASK_BITS ? ((uint32_t)1 << left) - 1u : ~0u;
        for (; bits != 0; bits &= bits - 1u) {
            ++count;
        }
    }
    return count;
}

/*
 * Sum over t of |dM_t| * sqrt(|Delta_t|^2 + [t = 1]), each root rounded up; units: stored dM * 2^-14. NUMERICS.md.
 * |dM_t|^2 <= 2^42 and |Delta_t|^2 < 2^56 + 2^41, so that the sum stays below 2^12 * 2^21 * 2^28.5 < 2^62.
 */
static uint64_t layer_bound(const drnn_t *net, uint32_t l)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t count = drnn_m_count(layer);
    const int x_shift = 2 * (DRNN_H_FRAC_BITS - layer->x_frac_bits);
    uint64_t bound = 0;
    const uint32_t first = drnn_first_step(net);
    for (uint32_t t = first; t < first + drnn_steps_held(net); ++t) {
        const int16_t *dm = drnn_gates_of(net, l, t);
        const uint64_t dm_squared = sum_of_squares(dm, count);
        const int16_t *values = drnn_event_value(net, l) + *drnn_event_start_of(net, l, t);
        const uint32_t n_events = drnn_event_end_of(net, l, t) - *drnn_event_start_of(net, l, t);
        const uint32_t n_x = count_inputs(drnn_event_mask_of(net, l, t), layer->n_in);
        const uint64_t x_squared = sum_of_squares(values, n_x);
        const uint64_t h_squared = sum_of_squares(values + n_x, n_events - n_x);
        const uint64_t delta_squared =
            (x_squared << x_shift) + h_squared + (t == 0 ? (uint64_t)DRNN_ONE_Q28 : 0); /* the bias: a Delta of 1 */
        bound += (uint64_t)drnn_sqrt_ceil(dm_squared) * drnn_sqrt_ceil(delta_squared);
    }
    return bound;
}

/* The transpose of 32 x 32 bits, in place: bit j of rows[i * stride] becomes bit i of rows[j * stride]. */
static void transpose_bits(uint32_t *rows, uint32_t stride)
{
    uint32_t low = 0x0000ffffu; /* of each group of 2 `half` bits the lower half */
    for (uint32_t half = 16; half != 0; half >>= 1, low ^= low << half) {
        uint32_t *upper = rows;
        uint32_t *lower = rows + half * stride;
        for (uint32_t i = 0; i < DRNN_MASK_BITS; i += 2u * half) {
            for (uint32_t k = half; k != 0; --k) {
                const uint32_t differ = ((*upper >> half) ^ *lower) & low;
                *lower ^= differ;
                *upper ^= differ << half;
                lower += stride;
                upper += stride;
            }
            upper = lower;
            lower += half * stride;
        }
    }
}

void drnn_turn_masks(drnn_t *net, uint32_t l)
{
    const uint32_t words = drnn_mask_words(drnn_layer(net, l));
    const uint32_t n_held = drnn_steps_held(net);
    uint32_t *mask = drnn_event_mask(net, l);
    memset(mask + n_held * words, 0, (drnn_mask_rows(n_held) - n_held) * words * sizeof(uint32_t));
    for (uint32_t row = 0; row < n_held; row += DRNN_MASK_BITS) {
        for (uint32_t word = 0; word < words; ++word) {
            transpose_bits(&mask[row * words + word], words);
        }
    }
}

void drnn_add_to_bound(drnn_t *net)
{
    for (uint32_t l = 0; l < net->model->n_layers; ++l) {
        net->layer_bound[l] += layer_bound(net, l);
        drnn_turn_masks(net, l);
    }
}

/*
 * learning rate / N * min(1, N * clip / B): the bound and the gradients are those of the sum over N errors, the loss is
 * their mean. For N = 1 nothing is rounded twice.
 */
static drnn_scale_t step_size(drnn_t *net)
{
    const int unit = net->result.grad_exponent - DRNN_H_FRAC_BITS;
    drnn_scale_t bound = {0, 0};
    for (uint32_t l = 0; l < net->model->n_layers; ++l) {
        const int dm_unit = net->dm_exponent[l] - DRNN_GRAD_GUARD_BITS + unit;
        bound = drnn_scale_add_ceil(bound, drnn_scale_ceil(net->layer_bound[l], dm_unit));
    }
    bound = drnn_scale_add_ceil(bound, drnn_scale_ceil(net->readout_bound, unit));
    net->result.bound_m = bound.m;
    net->result.bound_e = bound.e;
    const drnn_scale_t n = drnn_scale_ceil(drnn_n_errors(net), 0);
    if (!drnn_scale_greater(bound, drnn_scale_mul(net->config.clip, n))) {
        return drnn_scale_div(net->config.learning_rate, n);
    }
    net->result.clipped = 1;
    return drnn_scale_div(drnn_scale_mul(net->config.learning_rate, net->config.clip), bound);
}

/*
 * A tensor whose gradient is sum * 2^exponent and whose elements have frac_bits: how far to shift sum * m. `tensor` is its
 * id, and so its number in the random function.
 */
static stepper_t stepper(drnn_t *net, drnn_scale_t step, int exponent, int frac_bits, uint32_t tensor)
{
    const int shift = -(step.e + exponent + frac_bits);
    const int left = QUOTIENT_BITS - shift;
    const stepper_t result = {
        .m = step.m,
        .shift = shift,
        .key = drnn_random_key(net->config.seed, net->config.step, tensor),
        .saturated = &net->result.saturated_w,
        .has_quotient = left < RANDOM_BITS && shift <= MAX_SHIFT,
        .quotient_m = left > 0 && left < RANDOM_BITS ? (int32_t)((uint32_t)step.m << left) : step.m,
        .quotient_shift = left < 0 ? -left : 0,
    };
    return result;
}

/*
 * value - sum * m / 2^shift, the quotient rounded up with the probability of its fraction, to 16 bits of `random`.
 * |sum| <= 2^42 and m < 2^16, so the product is below 2^58; with the random addend (below 2^62) it fits int64.
 * To the left it goes by 30 bits at most (drnn_configure bounds the rate), and what is beyond 2^32 saturates whatever the
 * value: below 2^62. Or the rate is zero, and so the product.
 */
static int32_t stepped(const stepper_t *s, int32_t value, int64_t sum, uint32_t random, int32_t limit)
{
    int64_t product = sum * s->m;
    int shift = s->shift;
    if (shift <= 0) {
        const int64_t bounded = product > MAX_LEFT ? MAX_LEFT : product < -MAX_LEFT ? -MAX_LEFT : product;
        return drnn_saturate(value - bounded * ((int64_t)1 << -shift), limit, s->saturated);
    }
    if (shift > MAX_SHIFT) {
        const int beyond = shift - MAX_SHIFT;
        product >>= beyond < MAX_SHIFT ? beyond : MAX_SHIFT;
        shift = MAX_SHIFT;
    }
    const int64_t addend = shift >= 16 ? (int64_t)random << (shift - 16) : (int64_t)(random >> (16 - shift));
    return drnn_saturate(value - ((product + addend) >> shift), limit, s->saturated);
}

static uint32_t random_of(const stepper_t *s, uint32_t index)
{
    const uint32_t pair = drnn_random_pair(s->key, index / 2);
    return index % 2 ? pair >> 16 : pair & 0xffffu;
}

static void step_int16(const stepper_t *s, int16_t *tensor, uint32_t index, int64_t sum)
{
    tensor[index] = (int16_t)stepped(s, tensor[index], sum, random_of(s, index), DRNN_INT16_MAX);
}

uint32_t drnn_events_of_column(drnn_t *net, uint32_t l, uint32_t column, uint32_t first, uint32_t *delta_sum)
{
    const uint32_t words = drnn_mask_words(drnn_layer(net, l));
    const uint32_t m_count = drnn_m_count(drnn_layer(net, l));
    const uint32_t *mask = &drnn_event_mask(net, l)[column % DRNN_MASK_BITS * words + column / DRNN_MASK_BITS];
    const uint32_t *const end = mask + drnn_mask_rows(drnn_steps_held(net)) * words;
    const int16_t *dm = drnn_gates(net, l);
    const int16_t *values = drnn_event_value(net, l);
    uint32_t *cursors = drnn_event_start(net, l);
    drnn_entry_t *entry = drnn_entries(net);
    uint32_t sum = 0;
    for (; mask != end; mask += DRNN_MASK_BITS * words, cursors += DRNN_MASK_BITS, first += DRNN_MASK_BITS * m_count) {
        for (uint32_t bits = *mask; bits != 0; bits &= bits - 1u) {
            const uint32_t i = drnn_lowest_bit(bits);
            const int32_t delta = values[cursors[i]++];
            entry->place = drnn_place(dm, first + i * m_count);
            entry->factor = delta;
            ++entry;
            sum += drnn_magnitude(delta);
        }
    }
    *delta_sum = sum;
    return (uint32_t)(entry - drnn_entries(net));
}

void drnn_round_events(drnn_entry_t *entries, uint32_t n, int shift)
{
    for (uint32_t a = 0; a < n && shift > 0; ++a) {
        entries[a].factor = drnn_round_shift_narrow(entries[a].factor, shift);
    }
}

static inline int32_t quotient(int32_t sum, int32_t m, int shift)
{
    return (int32_t)(((int64_t)sum * m) >> 32) >> shift;
}

/* Two neighbours by their random bits and quotients; the first one's index is even. */
static void step_pair(int16_t *w, uint32_t random, int32_t quotient0, int32_t quotient1, uint32_t *saturated)
{
    const int32_t step0 = (quotient0 + (int32_t)(random & 0xffffu)) >> RANDOM_BITS;
    const int32_t step1 = (quotient1 + (int32_t)(random >> 16)) >> RANDOM_BITS;
    w[0] = (int16_t)drnn_saturate_narrow(w[0] - step0, DRNN_INT16_MAX, saturated);
    w[1] = (int16_t)drnn_saturate_narrow(w[1] - step1, DRNN_INT16_MAX, saturated);
}

/* The same for sums of 32 bits, two weights at a time. */
static void step_narrow(const stepper_t *s, int16_t *weight, uint32_t element, const int32_t *sums, uint32_t rows)
{
    uint32_t row = 0;
    if (s->has_quotient && element % 2 == 0) {
        int16_t *w = &weight[element];
        const int32_t m = s->quotient_m;
        const int shift = s->quotient_shift;
        uint32_t *saturated = s->saturated;
        uint32_t counter = s->key + element / 2 * DRNN_RANDOM_STRIDE;
#if defined(__AVX2__)
        row = drnn_step_avx2(w, sums, rows, counter, m, shift, saturated);
        counter += row / 2 * DRNN_RANDOM_STRIDE;
#elif defined(DRNN_LANES)
        row = drnn_step_mve(w, sums, rows, counter, m, shift, saturated);
        counter += row / 2 * DRNN_RANDOM_STRIDE;
#endif
        for (;; row += 2, counter += DRNN_RANDOM_STRIDE) {
#ifdef HAS_DSP_STEP
            const uint32_t n = (rows - row) / DRNN_STEP_BLOCK;
            if (shift == 0 && n > 0 && (uintptr_t)w % 4 == 0) { /* as a rule once, to the end */
                row += drnn_step_blocks_dsp(w + row, &counter, sums + row, m, n);
            }
#endif
            if (row + 2 > rows) {
                break;
            }
            step_pair(w + row, drnn_mix(counter), quotient(sums[row], m, shift), quotient(sums[row + 1], m, shift),
                      saturated);
        }
    }
    for (; row < rows; ++row) {
        step_int16(s, weight, element + row, sums[row]);
    }
}

/*
 * The gradient of a column [rows], the entries of dM that it feeds beginning at `first`, in units of 2^shift; NULL where the
 * column had no event.
 */
static const int32_t *gradient_of_column(drnn_t *net, uint32_t l, uint32_t column, uint32_t first, int *shift)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t rows = drnn_rows(layer);
    if (drnn_memory_of(net->model) == DRNN_CHECKPOINTS) {
        const uint32_t sum = drnn_delta_sum(net, l)[column];
        *shift = drnn_delta_shift(sum);
        return sum == 0 ? NULL : drnn_gradient(net, l) + column * rows;
    }
    uint32_t delta_sum;
    const uint32_t n_events = drnn_events_of_column(net, l, column, first, &delta_sum);
    if (n_events == 0) {
        return NULL;
    }
    drnn_entry_t *entries = drnn_entries(net);
    *shift = drnn_delta_shift(delta_sum);
    drnn_round_events(entries, n_events, *shift);
    int32_t *sums = drnn_sums(net, l);
    DRNN_PHASE(GRADIENT);
    drnn_sum_columns(sums, drnn_gates(net, l), rows, entries, n_events, drnn_is_even(layer));
    DRNN_PHASE(UPDATE);
    net->result.macs_gradient += rows * n_events;
    return sums;
}

/*
 * Column `column` of layer l; the entries of dM that it feeds begin at `first`, dM * Delta is in units of 2^exponent, and the
 * weights have frac_bits.
 */
static void update_column(drnn_t *net, uint32_t l, drnn_scale_t step, uint32_t column, uint32_t first, int exponent,
                          int frac_bits)
{
    const uint32_t rows = drnn_rows(drnn_layer(net, l));
    int shift;
    const int32_t *sums = gradient_of_column(net, l, column, first, &shift);
    if (sums == NULL) {
        return;
    }
    const stepper_t s = stepper(net, step, exponent + shift, frac_bits, DRNN_T_PER_LAYER * l + DRNN_T_WEIGHT);
    step_narrow(&s, drnn_weight(net, l), column * rows, sums, rows);
    ++net->result.columns_updated;
}

/* Biases [count] by sums of at most 2^15 [count]. */
static void update_bias(const stepper_t *s, int32_t *bias, const int16_t *sums, uint32_t count)
{
    uint32_t i = 0;
    if (s->shift > 0 && s->shift < 32) { /* as `stepped`: product and addend are below 2^31, the step as well */
        const int up = s->shift > RANDOM_BITS ? s->shift - RANDOM_BITS : 0; /* of the random bits, or down */
        const int down = s->shift < RANDOM_BITS ? RANDOM_BITS - s->shift : 0;
        const int32_t m = (int32_t)s->m;
        uint32_t random = 0;
        for (; i < count; ++i) {
            random = i % 2u ? random >> 16 : drnn_random_pair(s->key, i / 2u);
            const uint32_t addend = (random & 0xffffu) >> down << up;
            drnn_add_to(&bias[i], -drnn_shift_narrow((int64_t)sums[i] * m + addend, s->shift), s->saturated);
        }
    }
    for (; i < count; ++i) {
        bias[i] = stepped(s, bias[i], sums[i], random_of(s, i), DRNN_INT32_MAX);
    }
}

/* Of DRNN_LAST the gradient is d (x) [h ; 1], else what was summed on the way back. */
static void update_readout(drnn_t *net, drnn_scale_t step)
{
    const uint32_t n_hidden = drnn_top_layer(net)->n_hidden;
    const uint32_t n_outputs = net->model->n_outputs;
    const int16_t *h = drnn_top_hidden(net);
    const int exponent = net->result.grad_exponent;
    const stepper_t weight = stepper(net, step, exponent - DRNN_H_FRAC_BITS, net->model->readout_frac_bits,
                                     DRNN_T_READOUT_WEIGHT);
    const stepper_t bias = stepper(net, step, exponent, DRNN_BIAS_FRAC_BITS, DRNN_T_READOUT_BIAS);
    const int16_t *d = drnn_d_outputs(net);
    if (drnn_readout_of(net->model) != DRNN_LAST) {
        const int64_t *sum = drnn_d_readout(net);
        for (uint32_t k = 0; k < n_outputs; ++k) {
            for (uint32_t j = 0; j < n_hidden; ++j) {
                step_int16(&weight, drnn_readout_weight(net), k * n_hidden + j, *sum++);
            }
            int32_t *b = &drnn_readout_bias(net)[k];
            *b = stepped(&bias, *b, *sum++, random_of(&bias, k), DRNN_INT32_MAX);
        }
        return;
    }
    int32_t *sums = (int32_t *)(void *)drnn_m_acc(net, net->model->n_layers - 1u); /* M itself is not needed any more */
    for (uint32_t k = 0; k < n_outputs; ++k) {
        for (uint32_t j = 0; j < n_hidden; ++j) {
            sums[j] = d[k] * (int32_t)h[j];
        }
        step_narrow(&weight, drnn_readout_weight(net), k * n_hidden, sums, n_hidden);
    }
    update_bias(&bias, drnn_readout_bias(net), d, n_outputs);
}

static void update_layer(drnn_t *net, uint32_t l, drnn_scale_t step)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t id = DRNN_T_PER_LAYER * l;
    const int exponent = net->result.grad_exponent + net->dm_exponent[l] - DRNN_GRAD_GUARD_BITS; /* of stored dM */
    for (uint32_t column = 0; column < layer->n_in; ++column) {
        update_column(net, l, step, column, 0, exponent - layer->x_frac_bits, layer->wx_frac_bits);
    }
    for (uint32_t column = layer->n_in; column < drnn_width(layer); ++column) {
        update_column(net, l, step, column, drnn_h_first(layer), exponent - DRNN_H_FRAC_BITS, layer->wh_frac_bits);
    }
    const stepper_t bias = stepper(net, step, exponent, DRNN_BIAS_FRAC_BITS, id + DRNN_T_BIAS);
    update_bias(&bias, drnn_bias(net, l), drnn_gates(net, l), drnn_m_count(layer)); /* db = dM_1 */
}

void drnn_update(drnn_t *net)
{
    const drnn_scale_t step = step_size(net);
    update_readout(net, step);
    for (uint32_t l = 0; l < net->model->n_layers; ++l) {
        update_layer(net, l, step);
    }
}
