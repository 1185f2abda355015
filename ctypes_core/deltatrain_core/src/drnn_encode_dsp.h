/*
 * Delta encoding of two entries at once, for cores with the DSP extension.
 */
#ifndef DRNN_ENCODE_DSP_H
#define DRNN_ENCODE_DSP_H

#include <stdint.h>
#include <string.h>

/*
 * Of v[0..1] against v_hat[0..1]: a half of ones where |v - v_hat| > below, of zeros elsewhere; `below`, in [0, 32766], in both
 * halves of its word, and range = 2 * below. As |v - v_hat| <= 32766, it is within +-below just where v - v_hat + below, modulo
 * 2^16, is at most 2 * below.
 */
static inline uint32_t drnn_beyond_dsp(const int16_t *v, const int16_t *v_hat, uint32_t below, uint32_t range)
{
    uint32_t now, before;
    memcpy(&now, v, sizeof now);
    memcpy(&before, v_hat, sizeof before);
    __asm__("ssub16 %0, %0, %1\n"
            "uadd16 %0, %0, %2\n"
            "usub16 %0, %3, %0\n" /* its flags tell where it is not negative */
            "sel %0, %4, %5"
            : "+r"(now)
            : "r"(before), "r"(below), "r"(range), "r"(0u), "r"(0xffffffffu)
            : "cc");
    return now;
}

#endif
