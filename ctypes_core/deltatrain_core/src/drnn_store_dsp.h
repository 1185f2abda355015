/*
 * What the cells' ways back share on cores with the DSP extension, two units at a time: dM is carried on and stored by an
 * assembly of few registers.
 *
 * Their parameters are n_hidden, even and not 0; the factor that rounds dM as it is stored; gates; states of the step before; and
 * on the stack what is carried beside dM (+40), dm (+44), 16 - c_frac_bits (+48), where to count underflows (+52). They return the
 * Q flag: not 0 where dM as stored does not fit int16, or what is carried beside it has 27 bits or more.
 *
 * r0 n_hidden * 2, r1 that factor, r2 gates, r3 states, lr dm, all else scratch; on the stack the end of the gates (+0). The loop
 * begins at 1.
 */
#ifndef DRNN_STORE_DSP_H
#define DRNN_STORE_DSP_H

#include "drnn_internal.h"

/* The factor that dM is rounded with: one multiplication less than drnn_small_scale_down, of exponents of 2 or more. */
static inline int32_t drnn_store_factor_dsp(const drnn_dm_store_t *store)
{
    return (int32_t)((uint32_t)store->divisor << 2);
}

/* What is known when it has returned the Q flag: no more than whether all fits. Small exponents count as not fitting. */
static inline void drnn_store_end_dsp(drnn_dm_store_t *store, uint32_t exceeds)
{
    const int fits = !exceeds && store->divisor <= drnn_small_divisor(2);
    store->dm_bits |= fits ? DRNN_INT16_MAX : ~0u;
    store->other_bits |= exceeds ? ~0u : (1u << 26) - 1u;
}

#define DRNN_STORE_BEGIN \
    ".syntax unified\n" \
    "push {r2, r4-r11, lr}\n" \
    "ldr lr, [sp, #44]\n" \
    "lsl r0, r0, #1\n" \
    "add r4, r2, r0\n" \
    "str r4, [sp, #0]\n" \
    "mov r4, #0\n" \
    "msr apsr_nzcvq, r4\n" \
    "1:\n"

/* At 9 a subroutine of what DRNN_STORED_ZERO branches to: r4 where dM is carried, r5 how it is stored, r12 where to go on. */
#define DRNN_STORE_END \
    "ldr r4, [sp, #0]\n" \
    "add r2, r2, #4\n" \
    "add lr, lr, #8\n" \
    "cmp r2, r4\n" \
    "bne 1b\n" \
    "mrs r0, apsr\n" \
    "and r0, r0, #0x08000000\n" \
    "pop {r2, r4-r11, pc}\n" \
    "9:\n" \
    "push {r6-r8, r12}\n" \
    "ldrd r6, r7, [r4]\n" \
    "ldr r8, [sp, #68]\n" \
    "ldr r12, [r8]\n" \
    "uxth r4, r5\n" \
    "cbnz r4, 8f\n" \
    "cbz r6, 8f\n" \
    "add r12, r12, #1\n" \
    "8:\n" \
    "lsrs r5, r5, #16\n" \
    "bne 8f\n" \
    "cbz r7, 8f\n" \
    "add r12, r12, #1\n" \
    "8:\n" \
    "str r12, [r8]\n" \
    "pop {r6-r8, pc}\n"

/* The two halves of `pair` as high halves of words whose low ones are 0. */
#define DRNN_HALVES(low, high, pair) \
    "lsl " low ", " pair ", #16\n" \
    "pkhtb " high ", " pair ", " low "\n"

/*
 * r6 and r7 are what is carried beside dM, at [sp, #40]; they become its product with the halves of `by`, r8 and r9 what it was,
 * times 4. r5, r12.
 */
#define DRNN_CARRY(by) \
    "ldr r12, [sp, #40]\n" \
    "ldrd r6, r7, [r12]\n" \
    "lsl r5, " by ", #16\n" \
    "lsl r8, r6, #2\n" \
    "lsl r9, r7, #2\n" \
    "smmulr r6, r8, r5\n" \
    "pkhtb r5, " by ", r5\n" \
    "smmulr r7, r9, r5\n" \
    "strd r6, r7, [r12], #8\n" \
    "str r12, [sp, #40]\n" \
    "ssat r5, #27, r6\n" /* sets Q where it does something */ \
    "ssat r5, #27, r7\n"

/* a and b, dM of two units, carried on at `carried` and stored, rounded, at `stored`; they, r4 and r5. */
#define DRNN_STORE(a, b, carried, stored, label) \
    "strd " a ", " b ", [" carried "]\n" \
    "smmulr r4, " a ", r1\n" \
    "smmulr r5, " b ", r1\n" \
    "ssat " a ", #16, r4\n" \
    "ssat " a ", #16, r5\n" \
    "pkhbt " a ", r4, r5, lsl #16\n" \
    "str " a ", " stored "\n" \
    "muls r4, r5, r4\n" /* 0 where one of them is */ \
    "beq " label "0f\n" \
    label "1:\n"

/* One of the two is stored as 0: count where it became so. */
#define DRNN_STORED_ZERO(a, carried, label) \
    label "0:\n" \
    "mov r4, " carried "\n" \
    "mov r5, " a "\n" \
    "adr r12, " label "1b\n" \
    "orr r12, r12, #1\n" \
    "b 9b\n"

#endif
