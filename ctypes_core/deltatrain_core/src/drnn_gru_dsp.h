/*
 * The GRU's way back for cores with the DSP extension: the products of drnn_small_mul_* by SMMULR. Written out whole, for it
 * takes every register there is.
 */
#ifndef DRNN_GRU_DSP_H
#define DRNN_GRU_DSP_H

#include "drnn_store_dsp.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

/*
 * The loop of drnn_gru_backward_small; n_hidden is not 0, c_shift is 17 - c_frac_bits.
 *
 * r0 n_hidden * 2, r1 6 n_hidden, r2 gates of n, r3 h_prev, r4-r6 scratch, r7 dh, later d_nx, r8 n, r9 z, then r, r10 1 - z,
 * r11 divisor, r12 bits of dM, lr dM of nx; on the stack d_hidden, as drnn_store_dsp.h has it.
 */
__attribute__((naked, noinline, unused)) static void
drnn_gru_gates_dsp(uint32_t n_hidden, int c_shift, int16_t *gates, const int16_t *h_prev, int32_t *d_hidden, int32_t *dm,
                   drnn_dm_store_t *store)
{
    __asm__(DRNN_STORE_BEGIN
            "str r1, [sp, #48]\n"      /* c_shift, in the place of dm */
            "add r1, r0, r0, lsl #1\n" /* from n to M_nh */
            "1:\n"
            "ldrsh r9, [r2, r0, lsl #1]\n"
            "ldr r6, [sp, #44]\n"
            "ldrsh r8, [r2]\n"
            "ldr r7, [r6]\n"
            "rsb r10, r9, #16384\n"
            "lsl r5, r9, #16\n"
            "lsl r7, r7, #2\n"
            /* the own path: dh z */
            "smmulr r4, r7, r5\n"
            DRNN_CARRY
            /* z: dh (h_prev - n) z (1 - z) */
            "ldrsh r4, [r3], #2\n"
            "mul r5, r10, r9\n"
            "sub r4, r4, r8\n"
            "lsl r4, r4, #16\n"
            "smmulr r4, r7, r4\n"
            "lsl r5, r5, #4\n"
            "smmulr r4, r4, r5\n"
            DRNN_STORE("[lr, r0, lsl #2]", "[r2, r0, lsl #1]", "1")
            /* nx: dh (1 - z) (1 - n^2) */
            "lsl r4, r10, #16\n"
            "lsl r5, r8, #1\n"
            "smmulr r4, r7, r4\n"
            "mul r5, r5, r5\n"
            "lsl r4, r4, #2\n"
            "rsb r5, r5, #0x40000000\n"
            "smmulr r7, r4, r5\n"
            "mov r4, r7\n"
            DRNN_STORE("[lr]", "[r2]", "2")
            /* r: d_nx r (1 - r) M_nh */
            "ldrsh r9, [r2, r0]\n"
            "ldrsh r8, [r2, r1]\n"
            "rsb r5, r9, #16384\n"
            "ldr r6, [sp, #48]\n"
            "mul r5, r5, r9\n"
            "lsl r8, r8, #15\n"
            "lsl r5, r5, #4\n"
            "smmulr r4, r7, r5\n"
            "lsl r4, r4, r6\n"
            "smmulr r4, r4, r8\n"
            DRNN_STORE("[lr, r0, lsl #1]", "[r2, r0]", "3")
            /* nh: d_nx r */
            "lsl r4, r7, #2\n"
            "lsl r5, r9, #16\n"
            "smmulr r4, r4, r5\n"
            "lsl r6, r1, #1\n"
            DRNN_STORE("[lr, r6]", "[r2, r1]", "4")
            DRNN_STORE_END
            DRNN_STORED_ZERO("[lr, r0, lsl #2]", "1")
            DRNN_STORED_ZERO("[lr]", "2")
            DRNN_STORED_ZERO("[lr, r0, lsl #1]", "3")
            DRNN_STORED_ZERO("[lr, r6]", "4"));
}

#pragma GCC diagnostic pop

#endif
