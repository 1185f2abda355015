/*
 * Lookup tables; tools/make_tables.py writes their entries. 2,308 bytes in all.
 */
#ifndef DRNN_TABLES_H
#define DRNN_TABLES_H

#include <stdint.h>

#define DRNN_SIGMOID_RANGE 16
#define DRNN_SIGMOID_STEP_FRAC_BITS 5 /* 32 entries a unit */
#define DRNN_SIGMOID_ENTRIES (DRNN_SIGMOID_RANGE << DRNN_SIGMOID_STEP_FRAC_BITS)
/*
 * sigmoid - 1/2 in Q0.16, in [0, 32767], in the high half: at k / 32, of odd k at (k + 1) / 32; in the low half twice the rise
 * between the two. So the low 16 bits of an argument with 15 bits of fraction, as they are, go on from either: they are that
 * fraction, or where k is odd that fraction less one.
 */
extern const uint32_t drnn_sigmoid_table[DRNN_SIGMOID_ENTRIES];

#define DRNN_EXP2_STEP_FRAC_BITS 6
#define DRNN_EXP2_ENTRIES ((1 << DRNN_EXP2_STEP_FRAC_BITS) + 1)
extern const uint32_t drnn_exp2_table[DRNN_EXP2_ENTRIES]; /* 2^(-k / 64), Q2.30 */

#endif
