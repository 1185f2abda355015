#include "drnn_encode.h"

#include "drnn_accumulators.h"
#include "drnn_fixed.h"

#include "drnn_vector.h"

#if defined(__ARM_FEATURE_DSP) && !defined(DRNN_LANES)
#include "drnn_encode_dsp.h"
#endif

/* Set the bits from `column` on that `lanes` tells of, one a column. */
static inline void mark(uint32_t *mask, uint32_t column, uint32_t lanes)
{
    const uint32_t bit = column % DRNN_MASK_BITS;
    uint32_t *word = &mask[column / DRNN_MASK_BITS];
    word[0] |= lanes << bit;
    const uint32_t beyond = bit == 0 ? 0 : lanes >> (DRNN_MASK_BITS - bit);
    if (beyond != 0) {
        word[1] |= beyond;
    }
}

/* Mark the columns whose entry of v is `least` or more away from v_hat; least > 0. */
static void mark_active(uint32_t *mask, uint32_t column, const int16_t *v, const int16_t *v_hat, uint32_t count, int32_t least)
{
    uint32_t j = 0;
#ifdef DRNN_ENCODE_LANES
    const uint32_t whole = count - count % DRNN_ENCODE_LANES;
    for (; j != whole; j += DRNN_ENCODE_LANES) {
        const uint32_t lanes = drnn_v_beyond(&v[j], &v_hat[j], least - 1);
        if (!DRNN_LIKELY(lanes == 0)) {
            mark(mask, column + j, lanes);
        }
    }
#endif
    for (; j < count; ++j) {
        if ((int32_t)drnn_magnitude(v[j] - v_hat[j]) >= least) {
            mark(mask, column + j, 1);
        }
    }
}

uint32_t drnn_encode(drnn_events_t *events, const drnn_encoded_t *encoded, const int16_t *v, int16_t *v_hat, uint32_t count)
{
    const uint32_t first_column = encoded->column;
    const uint32_t first_word = first_column / DRNN_MASK_BITS;
    mark_active(events->mask, first_column, v, v_hat, count, encoded->theta > 1 ? encoded->theta : 1);

    int16_t *delta = events->delta;
    drnn_entry_t *entry = events->entry;
    uint32_t factor_bits = events->bits;
    uint32_t others = ~((uint32_t)0xffffffffu << first_column % DRNN_MASK_BITS); /* columns before the first one */
    for (uint32_t word = first_word; word * DRNN_MASK_BITS < first_column + count; ++word, others = 0) {
        for (uint32_t bits = events->mask[word] & ~others; bits != 0; bits &= bits - 1u) {
            const uint32_t column = word * DRNN_MASK_BITS + drnn_lowest_bit(bits);
            const uint32_t k = column - first_column;
            const int32_t change = v[k] - v_hat[k];
            v_hat[k] = v[k];
            *delta++ = (int16_t)change;
            *entry = drnn_m_entry(encoded->weight, column, encoded->rows, encoded->first, change, encoded->shift);
            factor_bits |= drnn_bits(entry->factor);
            ++entry;
        }
    }
    const uint32_t n_active = (uint32_t)(delta - events->delta);
    events->delta = delta;
    events->entry = entry;
    events->bits = factor_bits;
    return n_active;
}
