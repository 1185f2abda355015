/*
 * The stochastic step of weights for cores with the DSP extension: two as one word. Written out whole, for it takes every
 * register there is.
 */
#ifndef DRNN_UPDATE_DSP_H
#define DRNN_UPDATE_DSP_H

#include "drnn_random.h"

#define DRNN_STEP_BLOCK 8u /* weights of a round */

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

#define DRNN_MIX_AND_STEP(weights) \
    "eor r10, r12, r12, lsr #16\n" \
    "mul r10, r10, r6\n" \
    "eor r10, r10, r10, lsr #15\n" \
    "mul r10, r10, r7\n" \
    "eor r10, r10, r10, lsr #16\n" \
    "ldrd r11, lr, [r2], #8\n" \
    "add r12, r12, r5\n" \
    "smmul r11, r11, r3\n" \
    "smmul lr, lr, r3\n" \
    "uxtah r11, r11, r10\n" \
    "add lr, lr, r10, lsr #16\n" \
    "pkhtb r11, lr, r11, asr #16\n" \
    "qsub16 " weights ", " weights ", r11\n"

/*
 * n blocks of eight weights w, aligned to 4 bytes: w -= (sum * m / 2^32 + random) / 2^16, where each step fits 16 bits. `counter`
 * is that of the first pair's random bits and comes back as that of the next. Returns how many weights were stepped: all, or
 * fewer where the next block may hold one beyond +-2^14, which may have to be cut.
 *
 * r0 w, r2 sums, r3 m, r5-r7 stride and factors of the random function, r1, r4, r8 and r9 weights, r10 random bits and what is
 * beyond, r11 and lr quotients, r12 counter; on the stack the end of the sums.
 */
__attribute__((naked, noinline, unused)) static uint32_t
drnn_step_blocks_dsp(int16_t *w, uint32_t *counter, const int32_t *sums, int32_t m, uint32_t n)
{
    __asm__(".syntax unified\n"
            "push {r0, r1, r4-r11, lr}\n"
            "ldr r4, [sp, #44]\n"
            "add r4, r2, r4, lsl #5\n"
            "ldr r12, [r1]\n"
            "ldr r5, =%c0\n"
            "ldr r6, =%c1\n"
            "ldr r7, =%c2\n"
            "push {r4}\n"
            "1:\n"
            "ldm r0, {r1, r4, r8, r9}\n"
            DRNN_MIX_AND_STEP("r1")
            DRNN_MIX_AND_STEP("r4")
            DRNN_MIX_AND_STEP("r8")
            DRNN_MIX_AND_STEP("r9")
            "eor r10, r1, r1, lsl #1\n"
            "eor r11, r4, r4, lsl #1\n"
            "orr r10, r10, r11\n"
            "eor r11, r8, r8, lsl #1\n"
            "orr r10, r10, r11\n"
            "eor r11, r9, r9, lsl #1\n"
            "orr r10, r10, r11\n"
            "tst r10, #0x80008000\n"
            "bne 2f\n"
            "ldr r10, [sp]\n"
            "stm r0!, {r1, r4, r8, r9}\n"
            "cmp r2, r10\n"
            "bne 1b\n"
            "b 3f\n"
            "2:\n"                 /* as if the block had not been begun */
            "sub r12, r12, r5, lsl #2\n"
            "3:\n"
            "pop {r1-r3}\n"
            "str r12, [r3]\n"
            "sub r0, r0, r2\n"
            "lsr r0, r0, #1\n"
            "pop {r4-r11, pc}\n"
            ".ltorg\n"
            :
            : "i"(DRNN_RANDOM_STRIDE), "i"(DRNN_MIX_FIRST), "i"(DRNN_MIX_SECOND));
}

#pragma GCC diagnostic pop

#endif
