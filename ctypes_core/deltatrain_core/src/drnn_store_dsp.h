/*
 * What the cells' ways back share on cores with the DSP extension: dM is carried on and stored by an assembly of few registers.
 * Used in functions that keep the divisor in r11, the or-ed bits of dM in r12 and drnn_dm_store_t at [sp, #52].
 */
#ifndef DRNN_STORE_DSP_H
#define DRNN_STORE_DSP_H

#include <stddef.h>

#include "drnn_internal.h"

_Static_assert(offsetof(drnn_dm_store_t, divisor) == 0 && offsetof(drnn_dm_store_t, dm_bits) == 4 &&
                   offsetof(drnn_dm_store_t, other_bits) == 8 && offsetof(drnn_dm_store_t, underflows) == 12,
               "the assembly knows its layout");

/*
 * Begin and end of a loop over the units: parameters n_hidden, any, gates, any; any (+44), dm (+48), store (+52). r0 becomes
 * n_hidden * 2, lr dm, r2 walks over the gates; on the stack their end (+0) and the bits of what is carried beside dM (+4). The
 * loop begins at 1.
 */
#define DRNN_STORE_BEGIN \
    ".syntax unified\n" \
    "push {r4-r11, lr}\n" \
    "sub sp, sp, #8\n" \
    "ldr lr, [sp, #48]\n" \
    "ldr r4, [sp, #52]\n" \
    "ldr r11, [r4]\n" \
    "ldr r12, [r4, #4]\n" \
    "ldr r5, [r4, #8]\n" \
    "str r5, [sp, #4]\n" \
    "lsl r0, r0, #1\n" \
    "add r4, r2, r0\n" \
    "str r4, [sp, #0]\n"

#define DRNN_STORE_END \
    "ldr r4, [sp, #0]\n" \
    "add r2, r2, #2\n" \
    "add lr, lr, #4\n" \
    "cmp r2, r4\n" \
    "bne 1b\n" \
    "ldr r4, [sp, #52]\n" \
    "ldr r5, [sp, #4]\n" \
    "str r12, [r4, #4]\n" \
    "str r5, [r4, #8]\n" \
    "add sp, sp, #8\n" \
    "pop {r4-r11, pc}\n"

/* r4, a gradient carried beside dM, to where [sp, #44] points, which goes on; r4, r6. */
#define DRNN_CARRY \
    "str r4, [r6], #4\n" \
    "str r6, [sp, #44]\n" \
    "ldr r6, [sp, #4]\n" \
    "eor r4, r4, r4, asr #31\n" \
    "orr r6, r6, r4\n" \
    "str r6, [sp, #4]\n"

/* dm of the entry at `carried` += r4, carried on and stored, rounded, at `stored`; r4, r5. */
#define DRNN_STORE(carried, stored, label) \
    "ldr r5, " carried "\n" \
    "add r4, r4, r5\n" \
    "str r4, " carried "\n" \
    "lsl r5, r4, #2\n" \
    "smmulr r5, r5, r11\n" \
    "strh r5, " stored "\n" \
    "eors r4, r5, r5, asr #31\n" \
    "orr r12, r12, r4\n" \
    "beq " label "0f\n" \
    label "1:\n"

/* An entry that is stored as 0 or -1: did it become 0? */
#define DRNN_STORED_ZERO(carried, label) \
    label "0:\n" \
    "cmp r5, #0\n" \
    "bne " label "1b\n" \
    "ldr r4, " carried "\n" \
    "cmp r4, #0\n" \
    "beq " label "2f\n" \
    "ldr r4, [sp, #52]\n" \
    "ldr r5, [r4, #12]\n" \
    "add r5, r5, #1\n" \
    "str r5, [r4, #12]\n" \
    label "2:\n" \
    "b " label "1b\n"

#endif
