/*
 * The LSTM's way back through its gates i, f and g for cores with the DSP extension: the products of drnn_small_mul_* by
 * SMMULR. Written out whole, for it takes every register there is.
 */
#ifndef DRNN_LSTM_DSP_H
#define DRNN_LSTM_DSP_H

#include "drnn_store_dsp.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

/*
 * cell_gates_small of drnn_lstm.c; n_hidden is not 0, c_shift is 17 - c_frac_bits.
 *
 * r0 n_hidden * 2, r1 c_shift, r2 gates of i, r3 c_prev, r4-r6 scratch, r7 dc, r8 i, r9 f, r10 g, r11 divisor, r12 bits of dM,
 * lr dM of i; on the stack d_cell, as drnn_store_dsp.h has it.
 */
__attribute__((naked, noinline, unused)) static void
drnn_lstm_gates_dsp(uint32_t n_hidden, int c_shift, int16_t *gates, const int16_t *c_prev, int32_t *d_cell, int32_t *dm,
                    drnn_dm_store_t *store)
{
    __asm__(DRNN_STORE_BEGIN
            "1:\n"
            "ldrsh r9, [r2, r0]\n"
            "ldr r6, [sp, #44]\n"
            "ldrsh r10, [r2, r0, lsl #1]\n"
            "ldr r7, [r6]\n"
            "ldrsh r8, [r2]\n"
            /* dc goes on, by f */
            "lsl r4, r9, #16\n"
            "lsl r5, r7, #2\n"
            "smmulr r4, r5, r4\n"
            DRNN_CARRY
            /* f: dc f (1 - f) c_prev */
            "rsb r4, r9, #16384\n"
            "mul r4, r4, r9\n"
            "ldrsh r5, [r3], #2\n"
            "lsl r4, r4, #4\n"
            "smmulr r4, r7, r4\n"
            "lsl r4, r4, r1\n"
            "lsl r5, r5, #15\n"
            "smmulr r4, r4, r5\n"
            DRNN_STORE("[lr, r0, lsl #1]", "[r2, r0]", "1")
            /* i: dc g i (1 - i) */
            "lsl r7, r7, #2\n"
            "lsl r4, r10, #16\n"
            "rsb r5, r8, #16384\n"
            "smmulr r4, r7, r4\n"
            "mul r5, r5, r8\n"
            "lsl r5, r5, #4\n"
            "smmulr r4, r4, r5\n"
            DRNN_STORE("[lr]", "[r2]", "2")
            /* g: dc i (1 - g^2) */
            "lsl r4, r8, #16\n"
            "lsl r5, r10, #1\n"
            "smmulr r4, r7, r4\n"
            "mul r5, r5, r5\n"
            "lsl r4, r4, #2\n"
            "rsb r5, r5, #0x40000000\n"
            "smmulr r4, r4, r5\n"
            DRNN_STORE("[lr, r0, lsl #2]", "[r2, r0, lsl #1]", "3") /* r0 is in bytes of int16 */
            DRNN_STORE_END
            DRNN_STORED_ZERO("[lr, r0, lsl #1]", "1")
            DRNN_STORED_ZERO("[lr]", "2")
            DRNN_STORED_ZERO("[lr, r0, lsl #2]", "3"));
}

#pragma GCC diagnostic pop

#endif
