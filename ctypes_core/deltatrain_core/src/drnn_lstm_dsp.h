/*
 * The LSTM's loops over its units for cores with the DSP extension, two units at a time. Written out whole, for they take every
 * register there is.
 */
#ifndef DRNN_LSTM_DSP_H
#define DRNN_LSTM_DSP_H

#include "drnn_activation_dsp.h"
#include "drnn_store_dsp.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

/*
 * `mix` of drnn_lstm.c, n_hidden even and not 0; bits is 14 - c_frac_bits, in [0, 8]; c follows c_prev. Returns the Q flag: not
 * 0 where a c or an h may saturate, or |c| is so large that tanh is constant; c and h are then of no use.
 *
 * Products are split so that they fit 32 bits: (i g + half) / 2^bits, rounded down, is added to f c_prev, and the sum rounded down.
 *
 * r0 gates of i, r1 n_hidden * 2, r2 c_prev, r3 h, r4 and r5 gates, c, later tanh c and h, r6 and r7 c, r8 and r9 entries and
 * scratch, r10 table, r11 half, r12 bits, lr 2^15; on the stack the end of the gates.
 */
__attribute__((naked, noinline, unused)) static uint32_t
drnn_lstm_mix_dsp(const int16_t *gates, uint32_t n_hidden, int16_t *c_prev, int16_t *h, int bits, const uint32_t *table)
{
    __asm__(".syntax unified\n"
            "push {r3-r11, lr}\n"
            "ldrd r12, r10, [sp, #40]\n"
            "lsl r1, r1, #1\n"
            "add r4, r0, r1\n"
            "str r4, [sp, #0]\n"
            "mov r11, #8192\n"
            "lsl r11, r11, r12\n"
            "mov lr, #0x8000\n"
            "mov r4, #0\n"
            "msr apsr_nzcvq, r4\n"
            "1:\n"
            "ldr r4, [r0]\n"
            "ldr r5, [r0, r1, lsl #1]\n"
            "smlabb r6, r4, r5, r11\n"
            "smlatt r7, r4, r5, r11\n"
            "ldr r4, [r0, r1]\n"
            "ldr r5, [r2]\n"
            "asr r6, r6, r12\n"
            "asr r7, r7, r12\n"
            "smlabb r6, r4, r5, r6\n"
            "smlatt r7, r4, r5, r7\n"
            "asr r6, r6, #14\n"
            "asr r7, r7, #14\n"
            "pkhbt r4, r6, r7, lsl #16\n"
            "str r4, [r2, r1]\n"
            DRNN_MAGNITUDE("r4", "r6")
            DRNN_MAGNITUDE("r5", "r7")
            "usat r4, #15, r4\n" /* sets Q where it does something */
            "usat r5, #15, r5\n"
            "lsl r4, r4, r12\n"
            "lsl r5, r5, r12\n"
            "usat r4, #24, r4, lsl #7\n"
            "usat r5, #24, r5, lsl #7\n"
            DRNN_ABOVE_HALF("r4", "r8", "r10")
            DRNN_ABOVE_HALF("r5", "r9", "r10")
            "add r8, r1, r1, lsl #1\n"
            "ldr r8, [r0, r8]\n"
            "smmulr r4, r4, lr\n"
            "smmulr r5, r5, lr\n"
            "smulbb r4, r8, r4\n" /* o |tanh c| */
            "smultb r5, r8, r5\n"
            "mov r8, #0x40000\n"
            "usat r9, #28, r4\n"
            "usat r9, #28, r5\n"
            DRNN_WITH_SIGN("r4", "r6")
            DRNN_WITH_SIGN("r5", "r7")
            "smmulr r4, r4, r8\n"
            "smmulr r5, r5, r8\n"
            "ldr r9, [sp, #0]\n"
            "pkhbt r4, r4, r5, lsl #16\n"
            "add r0, r0, #4\n"
            "add r2, r2, #4\n"
            "str r4, [r3], #4\n"
            "cmp r0, r9\n"
            "bne 1b\n"
            "mrs r0, apsr\n"
            "and r0, r0, #0x08000000\n"
            "pop {r3-r11, pc}\n");
}

/*
 * What output_gate_small does where dh is 0 and no dM is stored as 0, n units at most, an even number and not 0, by pairs up to
 * the first with another unit. Returns how many units that were.
 */
static inline uint32_t drnn_lstm_stay_dsp(int16_t *o, const int16_t *later, const int32_t *d_hidden, uint32_t n)
{
    const int32_t *next = d_hidden;
    __asm__ volatile("1:\n"
                     "ldrd r4, r5, [%1], #8\n"
                     "orrs r4, r4, r5\n"
                     "ldr r5, [%2], #4\n"
                     "bne 2f\n"
                     "sub r4, r5, #0x00010001\n"
                     "bic r4, r4, r5\n"
                     "tst r4, #0x80008000\n" /* sets a bit where a half is 0 */
                     "bne 2f\n"
                     "cmp %1, %3\n"
                     "str r5, [%0], #4\n"
                     "bne 1b\n"
                     "add %1, %1, #8\n"
                     "2:\n"
                     "sub %1, %1, #8\n"
                     : "+r"(o), "+r"(next), "+r"(later)
                     : "r"(d_hidden + n)
                     : "r4", "r5", "cc", "memory");
    return (uint32_t)(next - d_hidden);
}

/*
 * cell_gates_small of drnn_lstm.c, as drnn_store_dsp.h has it.
 *
 * r8 and r9 dc * 4, later their products with g; r10 and r11 1 - g^2.
 */
__attribute__((naked, noinline, unused)) static uint32_t
drnn_lstm_gates_dsp(uint32_t n_hidden, int32_t factor, int16_t *gates, const int16_t *c_prev, int32_t *d_cell, int32_t *dm,
                    int c_shift, uint32_t *underflows)
{
    __asm__(DRNN_STORE_BEGIN
            "ldr r4, [r2, r0]\n"
            DRNN_CARRY("r4")
            /* f: dc f (1 - f) c_prev; the slope times 4 */
            "lsl r5, r4, #1\n"
            "rsb r10, r5, #0x80008000\n"
            "smulbb r6, r5, r10\n"
            "smultt r7, r5, r10\n"
            "ldr r12, [sp, #48]\n"
            "smmulr r6, r8, r6\n"
            "smmulr r7, r9, r7\n"
            "ldr r5, [r3], #4\n"
            "lsl r6, r6, r12\n"
            "lsl r7, r7, r12\n"
            DRNN_HALVES("r10", "r5", "r5")
            "add r12, lr, r0, lsl #1\n" /* r0 is in bytes of int16 */
            "ldrd r4, r11, [r12]\n"
            "smmlar r6, r6, r10, r4\n"
            "smmlar r7, r7, r5, r11\n"
            DRNN_STORE("r6", "r7", "r12", "[r2, r0]", "1")
            /* dc i and dc g, 1 - g^2 */
            "ldr r4, [r2]\n"
            "ldr r5, [r2, r0, lsl #1]\n"
            DRNN_HALVES("r6", "r7", "r4")
            DRNN_HALVES("r10", "r11", "r5")
            "smmulr r6, r8, r6\n"
            "smmulr r7, r9, r7\n"
            "smmulr r8, r8, r10\n"
            "smmulr r9, r9, r11\n"
            "mov r12, #0x10000000\n"
            "smmls r10, r10, r10, r12\n"
            "smmls r11, r11, r11, r12\n"
            /* i: dc g i (1 - i) */
            "rsb r5, r4, #0x40004000\n"
            "lsl r8, r8, #4\n" /* below 2^27 before */
            "lsl r9, r9, #4\n"
            "smulbb r12, r4, r5\n"
            "smultt r4, r4, r5\n"
            "ldr r5, [lr]\n"
            "smmlar r8, r8, r12, r5\n"
            "ldr r5, [lr, #4]\n"
            "smmlar r9, r9, r4, r5\n"
            DRNN_STORE("r8", "r9", "lr", "[r2]", "2")
            /* g: dc i (1 - g^2) */
            "lsl r6, r6, #4\n"
            "lsl r7, r7, #4\n"
            "add r12, lr, r0, lsl #2\n"
            "ldrd r4, r5, [r12]\n"
            "smmlar r6, r6, r10, r4\n"
            "smmlar r7, r7, r11, r5\n"
            DRNN_STORE("r6", "r7", "r12", "[r2, r0, lsl #1]", "3")
            DRNN_STORE_END
            DRNN_STORED_ZERO("r6", "r12", "1")
            DRNN_STORED_ZERO("r8", "lr", "2")
            DRNN_STORED_ZERO("r6", "r12", "3"));
}

#pragma GCC diagnostic pop

#endif
