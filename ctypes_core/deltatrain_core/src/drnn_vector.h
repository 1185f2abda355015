/*
 * Vectors of 32-bit integers, where the processor has them: DRNN_LANES entries at a time, in the loops over units, over M and
 * over inputs. Both sets of instructions offer the same functions, so that each loop is written once; without them
 * DRNN_LANES is not defined, and the plain loops, which also take what does not fill a vector, do all the work.
 *
 *     drnn_v_load16, store16  int16 in memory, int32 in a vector; what is stored fits int16, or is of no use where it does not
 *     drnn_v_mul_halves       products of the low halves, as int16; the high half of b is 0
 *     drnn_v_mul_high         a * b / 2^32, rounded as drnn_round_shift does
 *     drnn_v_round_shift      v / 2^bits, rounded likewise, any v; bits in [1, 31]
 *     drnn_v_with_sign        v, or -v where `of` is negative; v or 0 where `of` is 0
 *     drnn_v_gather           table[index]
 *     drnn_v_count_unlike     count + lanes in which a and b differ
 *     drnn_v_count_lost       lanes in which `rounded` is 0 and `exact` is not (where `exact` is 0, so is `rounded`), into a
 *                             counter that begins as drnn_v_no_count() and is told by drnn_v_counted
 *     drnn_v_any              all lanes or-ed: 0 where all are 0
 *     drnn_v_beyond           of DRNN_ENCODE_LANES int16: bit k where |v[k] - v_hat[k]| > below; that is at most 32766
 */
#ifndef DRNN_VECTOR_H
#define DRNN_VECTOR_H

#if defined(__AVX2__)
#include "drnn_vector_avx2.h"
#elif defined(__ARM_FEATURE_MVE) && !defined(__ARM_BIG_ENDIAN)
#include "drnn_vector_mve.h"
#endif

#ifdef DRNN_LANES

/* How many of `count` entries fill vectors. */
static inline uint32_t drnn_v_whole(uint32_t count)
{
    return count / DRNN_LANES * DRNN_LANES;
}

/* Within [-limit, limit]; *saturated counts lanes that were not. */
static inline drnn_v32_t drnn_v_saturate(drnn_v32_t v, int32_t limit, uint32_t *saturated)
{
    const drnn_v32_t within = drnn_v_max(drnn_v_min(v, drnn_v_set(limit)), drnn_v_set(-limit));
    *saturated = drnn_v_count_unlike(*saturated, v, within);
    return within;
}

#endif
#endif
