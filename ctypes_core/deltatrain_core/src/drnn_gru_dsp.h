/*
 * The GRU's loops over its units for cores with the DSP extension, two units at a time. Written out whole, for they take every
 * register there is.
 */
#ifndef DRNN_GRU_DSP_H
#define DRNN_GRU_DSP_H

#include "drnn_activation_dsp.h"
#include "drnn_store_dsp.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* What divides M to tanh's argument and to M_nh as it is kept, and where sigmoid's table is. */
typedef struct {
    int32_t to_argument;
    int32_t to_kept;
    const uint32_t *table;
} drnn_gru_divisors_t;

/*
 * candidates_narrow and `mix` of drnn_gru.c, n_hidden even and not 0; in `h` is h_{t-1}, and h_t follows it. Returns the Q flag:
 * not 0 where M_nh as kept or an h may saturate; candidates and h are then of no use.
 *
 * The Q flag tells an h of +-2^14 and a kept M_nh of -2^15 by their squares.
 *
 * r0 M_nx, r1 n_hidden * 2, r2 gates of n, r3 h, r4-r7 M, arguments, n, sums, r8 and r9 scratch, r10 table, r11 to_argument,
 * r12 6 n_hidden, lr to_kept; on the stack the end of the gates.
 */
__attribute__((naked, noinline, unused)) static uint32_t
drnn_gru_mix_dsp(const int32_t *m_nx, uint32_t n_hidden, int16_t *gates, int16_t *h, const drnn_gru_divisors_t *divisors)
{
    __asm__(".syntax unified\n"
            "push {r3-r11, lr}\n"
            "ldr r4, [sp, #40]\n"
            "ldrd r11, lr, [r4]\n"
            "ldr r10, [r4, #8]\n"
            "lsl r1, r1, #1\n"
            "add r4, r2, r1\n"
            "str r4, [sp, #0]\n"
            "add r12, r1, r1, lsl #1\n"
            "mov r4, #0\n"
            "msr apsr_nzcvq, r4\n"
            "1:\n"
            /* M_nh as it is kept */
            "add r8, r0, r12, lsl #1\n"
            "ldrd r6, r7, [r8]\n"
            "mov r9, #0x40000000\n"
            "smmulr r4, r6, lr\n"
            "smmulr r5, r7, lr\n"
            "ssat r8, #16, r4\n"
            "ssat r8, #16, r5\n"
            "smlabb r8, r4, r4, r9\n"
            "smlabb r8, r5, r5, r9\n"
            "pkhbt r4, r4, r5, lsl #16\n"
            "str r4, [r2, r12]\n"
            /* M_nx + r M_nh */
            "lsl r9, r11, #1\n"
            "ldr r8, [r2, r1]\n"
            "smmulr r6, r6, r9\n"
            "smmulr r7, r7, r9\n"
            "lsl r9, r8, #16\n"
            "bfc r8, #0, #16\n"
            "lsl r6, r6, #1\n"
            "lsl r7, r7, #1\n"
            "ldrd r4, r5, [r0], #8\n"
            "smmulr r6, r6, r9\n"
            "smmulr r7, r7, r8\n"
            "smmlar r6, r4, r11, r6\n"
            "smmlar r7, r5, r11, r7\n"
            /* n */
            DRNN_MAGNITUDE("r4", "r6")
            DRNN_MAGNITUDE("r5", "r7")
            "usat r4, #24, r4\n"
            "usat r5, #24, r5\n"
            DRNN_ABOVE_HALF("r4", "r8", "r10")
            DRNN_ABOVE_HALF("r5", "r9", "r10")
            "mov r8, #0x8000\n"
            "smmulr r4, r4, r8\n"
            "smmulr r5, r5, r8\n"
            DRNN_WITH_SIGN("r4", "r6")
            DRNN_WITH_SIGN("r5", "r7")
            "pkhbt r4, r4, r5, lsl #16\n"
            "ldr r6, [r2, r1, lsl #1]\n"
            "str r4, [r2], #4\n"
            /* (1 - z) n + z h */
            "rsb r7, r6, #0x40004000\n"
            "mov r9, #8192\n"
            "ldr r5, [r3]\n"
            "smlabb r8, r7, r4, r9\n"
            "smlatt r9, r7, r4, r9\n"
            "smlabb r8, r6, r5, r8\n"
            "smlatt r9, r6, r5, r9\n"
            "ldr r7, [sp, #0]\n"
            "lsl r9, r9, #2\n"
            "pkhtb r4, r9, r8, asr #14\n"
            "mov r9, #0x70000000\n"
            "str r4, [r3, r1]\n"
            "smlabb r8, r4, r4, r9\n"
            "smlatt r8, r4, r4, r9\n"
            "add r3, r3, #4\n"
            "cmp r2, r7\n"
            "bne 1b\n"
            "mrs r0, apsr\n"
            "and r0, r0, #0x08000000\n"
            "pop {r3-r11, pc}\n");
}

/*
 * gates_small of drnn_gru.c, as drnn_store_dsp.h has it.
 *
 * r8 and r9 dh * 4, later d_nx * 4; r10 slopes, r11 1 - z, later r.
 */
__attribute__((naked, noinline, unused)) static uint32_t
drnn_gru_gates_dsp(uint32_t n_hidden, int32_t factor, int16_t *gates, const int16_t *h_prev, int32_t *d_hidden, int32_t *dm,
                   int c_shift, uint32_t *underflows)
{
    __asm__(DRNN_STORE_BEGIN
            "ldr r4, [r2, r0, lsl #1]\n"
            DRNN_CARRY("r4") /* the own path */
            /* z: dh (h_prev - n) z (1 - z) */
            "ldr r5, [r3], #4\n"
            "ldr r10, [r2]\n"
            "rsb r11, r4, #0x40004000\n"
            "ssub16 r5, r5, r10\n"
            DRNN_HALVES("r6", "r7", "r5")
            "smmulr r6, r8, r6\n"
            "smmulr r7, r9, r7\n"
            "smulbb r5, r4, r11\n"
            "smultt r4, r4, r11\n"
            "lsl r6, r6, #4\n" /* below 2^27 before */
            "lsl r7, r7, #4\n"
            "add r12, lr, r0, lsl #2\n" /* r0 is in bytes of int16 */
            "ldr r10, [r12]\n"
            "smmlar r6, r6, r5, r10\n"
            "ldr r10, [r12, #4]\n"
            "smmlar r7, r7, r4, r10\n"
            DRNN_STORE("r6", "r7", "r12", "[r2, r0, lsl #1]", "1")
            /* nx: dh (1 - z) (1 - n^2) */
            DRNN_HALVES("r6", "r7", "r11")
            "ldr r4, [r2]\n"
            "smmulr r6, r8, r6\n"
            "smmulr r7, r9, r7\n"
            DRNN_HALVES("r8", "r9", "r4")
            "mov r12, #0x10000000\n"
            "smmls r8, r8, r8, r12\n"
            "smmls r9, r9, r9, r12\n"
            "lsl r6, r6, #4\n"
            "lsl r7, r7, #4\n"
            "ldrd r4, r5, [lr]\n"
            "smmulr r8, r6, r8\n"
            "smmulr r9, r7, r9\n"
            "add r6, r4, r8\n"
            "add r7, r5, r9\n"
            DRNN_STORE("r6", "r7", "lr", "[r2]", "2")
            /* r: d_nx r (1 - r) M_nh; the slope times 4 */
            "lsl r8, r8, #2\n"
            "lsl r9, r9, #2\n"
            "add r12, r0, r0, lsl #1\n"
            "ldr r11, [r2, r0]\n"
            "ldr r5, [r2, r12]\n"
            "lsl r6, r11, #1\n"
            "rsb r7, r6, #0x80008000\n"
            "ldr r12, [sp, #48]\n"
            "smulbb r4, r6, r7\n"
            "smultt r10, r6, r7\n"
            "smmulr r4, r8, r4\n"
            "smmulr r10, r9, r10\n"
            "lsl r4, r4, r12\n"
            "lsl r10, r10, r12\n"
            DRNN_HALVES("r6", "r7", "r5")
            "add r12, lr, r0, lsl #1\n"
            "ldr r5, [r12]\n"
            "smmlar r6, r4, r6, r5\n"
            "ldr r5, [r12, #4]\n"
            "smmlar r7, r10, r7, r5\n"
            DRNN_STORE("r6", "r7", "r12", "[r2, r0]", "3")
            /* nh: d_nx r */
            DRNN_HALVES("r6", "r7", "r11")
            "add r12, r0, r0, lsl #1\n"
            "add r10, lr, r12, lsl #1\n"
            "ldrd r4, r5, [r10]\n"
            "smmlar r6, r8, r6, r4\n"
            "smmlar r7, r9, r7, r5\n"
            DRNN_STORE("r6", "r7", "r10", "[r2, r12]", "4")
            DRNN_STORE_END
            DRNN_STORED_ZERO("r6", "r12", "1")
            DRNN_STORED_ZERO("r6", "lr", "2")
            DRNN_STORED_ZERO("r6", "r12", "3")
            DRNN_STORED_ZERO("r6", "r10", "4"));
}

#pragma GCC diagnostic pop

#endif
