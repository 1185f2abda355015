#include "drnn_softmax.h"

#include "drnn_fixed.h"
#include "drnn_tables.h"
#include "drnn_types.h"

#define PROBABILITY_FRAC_BITS 30
#define LOG2_E_Q30 1549082005u /* log2(e) * 2^30, rounded */
#define LN_2_Q30 744261118u    /* ln(2) * 2^30, rounded */
#define EXP2_STEP_BITS (DRNN_LOGIT_FRAC_BITS - DRNN_EXP2_STEP_FRAC_BITS)

/* exp(-x) in Q2.30, in [0, 2^30]; x in Q16. Relative error below 2e-5. */
static uint32_t exp_negative_q30(uint32_t x_q16)
{
    const uint64_t y_q16 = ((uint64_t)x_q16 * LOG2_E_Q30) >> 30;
    const uint64_t halvings = y_q16 >> DRNN_LOGIT_FRAC_BITS;
    if (halvings > PROBABILITY_FRAC_BITS) {
        return 0;
    }
    const uint32_t position = (uint32_t)y_q16 & ((1u << DRNN_LOGIT_FRAC_BITS) - 1u);
    const uint32_t index = position >> EXP2_STEP_BITS;
    const uint32_t fraction = position & ((1u << EXP2_STEP_BITS) - 1u);
    const uint64_t fall = (uint64_t)(drnn_exp2_table[index] - drnn_exp2_table[index + 1]) * fraction;
    return (drnn_exp2_table[index] - (uint32_t)(fall >> EXP2_STEP_BITS)) >> halvings;
}

/* ln(sum / 2^30) in Q16 for sum >= 2^30: the fraction of log2 bit by bit, by squaring. */
static int64_t ln_q16(uint64_t sum_q30)
{
    const int length = drnn_bit_length(sum_q30);
    uint64_t mantissa_q31 = length > 32 ? sum_q30 >> (length - 32) : sum_q30 << (32 - length); /* in [1, 2) */
    uint32_t log2_q16 = (uint32_t)(length - 1 - PROBABILITY_FRAC_BITS);
    for (int bit = 0; bit < 16; ++bit) {
        mantissa_q31 = (mantissa_q31 * mantissa_q31) >> 31;
        log2_q16 <<= 1;
        if (mantissa_q31 >> 32) {
            mantissa_q31 >>= 1;
            log2_q16 |= 1u;
        }
    }
    return (int64_t)(((uint64_t)log2_q16 * LN_2_Q30 + (1u << 29)) >> 30);
}

/* floor(part / whole * 2^30) for part <= whole < 2^62. */
static uint32_t ratio_q30(uint64_t part, uint64_t whole)
{
    uint32_t quotient = 0;
    uint64_t rest = part;
    for (int bit = 0; bit <= PROBABILITY_FRAC_BITS; ++bit) {
        quotient <<= 1;
        if (rest >= whole) {
            rest -= whole;
            quotient |= 1u;
        }
        rest <<= 1;
    }
    return quotient;
}

uint16_t drnn_argmax(const int32_t *logits, uint16_t n_classes)
{
    uint16_t best = 0;
    for (uint16_t k = 1; k < n_classes; ++k) {
        if (logits[k] > logits[best]) {
            best = k;
        }
    }
    return best;
}

int32_t drnn_softmax_cross_entropy(const int32_t *logits_q16, uint16_t n_classes, uint16_t label,
                                   int32_t *d_logits_q30)
{
    const int32_t top = logits_q16[drnn_argmax(logits_q16, n_classes)];
    uint64_t sum = 0; /* at most DRNN_MAX_OUTPUTS * 2^30 = 2^38 */
    for (uint16_t k = 0; k < n_classes; ++k) {
        const uint32_t e = exp_negative_q30((uint32_t)top - (uint32_t)logits_q16[k]);
        d_logits_q30[k] = (int32_t)e;
        sum += e;
    }
    for (uint16_t k = 0; k < n_classes; ++k) {
        d_logits_q30[k] = (int32_t)ratio_q30((uint64_t)d_logits_q30[k], sum);
    }
    d_logits_q30[label] -= (int32_t)1 << PROBABILITY_FRAC_BITS;

    const int64_t loss = ln_q16(sum) + ((int64_t)top - logits_q16[label]);
    return loss > DRNN_INT32_MAX ? DRNN_INT32_MAX : (int32_t)loss;
}
