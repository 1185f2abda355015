/*
 * Sigmoid and tanh of accumulators of 32 bits for cores with the DSP extension: the values of drnn_activation_narrow.h, two at
 * a time.
 */
#ifndef DRNN_ACTIVATION_DSP_H
#define DRNN_ACTIVATION_DSP_H

#include <stdint.h>

/* The magnitude of `value`, and `value` with the sign of another. Two instructions each. */
#define DRNN_MAGNITUDE(result, value) \
    "eor " result ", " value ", " value ", asr #31\n" \
    "sub " result ", " result ", " value ", asr #31\n"

#define DRNN_WITH_SIGN(value, sign) \
    "eor " value ", " value ", " sign ", asr #31\n" \
    "sub " value ", " value ", " sign ", asr #31\n"

/* drnn_above_half_q32 of x, within [0, 2^24), in its place; `entry` is scratch. */
#define DRNN_ABOVE_HALF(x, entry, table) \
    "lsr " entry ", " x ", #15\n" \
    "ldr " entry ", [" table ", " entry ", lsl #2]\n" \
    "smlabb " x ", " entry ", " x ", " entry "\n"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

#define DRNN_ACTIVATIONS __attribute__((naked, noinline, unused)) static void

/*
 * r0 m, r1 gates, r2 the end of m, r3 divisor, r4 and r5 arguments, r6 and r7 values, r8 and r9 entries, r10 table, r11 factor
 * that rounds to Q14, r12 1/2 in Q14.
 */
#define DRNN_ACTIVATIONS_BEGIN(q14) \
    ".syntax unified\n" \
    "push {r4-r11, lr}\n" \
    "ldr r10, [sp, #36]\n" \
    "add r2, r0, r2, lsl #2\n" \
    "mov r11, #" q14 "\n" \
    "mov r12, #8192\n" \
    "1:\n" \
    "ldrd r4, r5, [r0], #8\n" \
    "smmulr r4, r4, r3\n" \
    "smmulr r5, r5, r3\n" \
    DRNN_MAGNITUDE("r6", "r4") \
    DRNN_MAGNITUDE("r7", "r5") \
    "usat r6, #24, r6\n" \
    "usat r7, #24, r7\n" \
    DRNN_ABOVE_HALF("r6", "r8", "r10") \
    DRNN_ABOVE_HALF("r7", "r9", "r10")

#define DRNN_ACTIVATIONS_END \
    "pkhbt r6, r6, r7, lsl #16\n" \
    "str r6, [r1], #4\n" \
    "cmp r0, r2\n" \
    "bne 1b\n" \
    "pop {r4-r11, pc}\n"

/* gates[count] = sigmoid of m[count]: count is even and not 0, divisor scales m to Q20. */
DRNN_ACTIVATIONS drnn_sigmoids_dsp(const int32_t *m, int16_t *gates, uint32_t count, int32_t divisor, const uint32_t *table)
{
    __asm__(DRNN_ACTIVATIONS_BEGIN("0x4000")
            DRNN_WITH_SIGN("r6", "r4")
            DRNN_WITH_SIGN("r7", "r5")
            "smmlar r6, r6, r11, r12\n"
            "smmlar r7, r7, r11, r12\n"
            DRNN_ACTIVATIONS_END);
}

/* The same of tanh; divisor scales m to Q21. */
DRNN_ACTIVATIONS drnn_tanhs_dsp(const int32_t *m, int16_t *gates, uint32_t count, int32_t divisor, const uint32_t *table)
{
    __asm__(DRNN_ACTIVATIONS_BEGIN("0x8000")
            "smmulr r6, r6, r11\n"
            "smmulr r7, r7, r11\n"
            DRNN_WITH_SIGN("r6", "r4")
            DRNN_WITH_SIGN("r7", "r5")
            DRNN_ACTIVATIONS_END);
}

#pragma GCC diagnostic pop

#endif
