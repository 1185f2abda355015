/*
 * Delta encoding of four entries at once, for cores with the DSP extension.
 */
#ifndef DRNN_ENCODE_DSP_H
#define DRNN_ENCODE_DSP_H

#include <arm_acle.h>
#include <stdint.h>
#include <string.h>

#include "drnn_fixed.h"

#define DRNN_ENCODE_LANES 4u

/*
 * Of v[0..1] against v_hat[0..1]: a half that is not 0 where |v - v_hat| > below; `below`, in [0, 32766], in both halves of its
 * word, and range = 2 * below. As |v - v_hat| <= 32766, it is within +-below just where v - v_hat + below, modulo 2^16, is at
 * most 2 * below.
 */
static inline uint32_t drnn_beyond_dsp(const int16_t *v, const int16_t *v_hat, uint32_t below, uint32_t range)
{
    int16x2_t now, before;
    memcpy(&now, v, sizeof now);
    memcpy(&before, v_hat, sizeof before);
    return __uqsub16(__uadd16((uint16x2_t)__ssub16(now, before), below), range);
}

/* As drnn_vector_avx2.h has it for more entries: bit k tells whether |v[k] - v_hat[k]| > below, of four. */
static inline uint32_t drnn_v_beyond(const int16_t *v, const int16_t *v_hat, int32_t below)
{
    const uint32_t halves = (uint32_t)below * 0x10001u;
    const uint32_t low = drnn_beyond_dsp(v, v_hat, halves, 2u * halves);
    const uint32_t high = drnn_beyond_dsp(v + 2, v_hat + 2, halves, 2u * halves);
    if (DRNN_LIKELY((low | high) == 0)) {
        return 0;
    }
    const uint32_t to_odd = 0xfffefffeu; /* saturating, this makes 65534 of 0 and 65535 of all else */
    const uint32_t flags = (__uqadd16(low, to_odd) & 0x10001u) | (__uqadd16(high, to_odd) & 0x10001u) << 2;
    return (flags | flags >> 15) & 15u;
}

#endif
