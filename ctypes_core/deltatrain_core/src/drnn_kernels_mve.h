/*
 * The sparse products by MVE (Cortex-M55). Rows are widened as they are loaded, four at a time, and multiplied by a factor in a
 * scalar register; dot products sum in 64 bits by themselves. Inner loops are assembly, for compilers keep no such loop to
 * its loads and multiplications. In memory everything may lie anywhere.
 */
#ifndef DRNN_KERNELS_MVE_H
#define DRNN_KERNELS_MVE_H

#include "drnn_kernels.h"
#include "drnn_vector_mve.h"

#define DRNN_MVE_QUADS 6u                     /* vectors of four sums that stay in registers, beside two of rows */
#define DRNN_MVE_ROWS (4u * DRNN_MVE_QUADS)
#define DRNN_MVE_FEW_ROWS 8u                  /* of a block of two */
#define DRNN_MVE_DOT_ROWS 16u                 /* of a round of a dot product */

/* sums[r] = sum over a of rows(entries[a])[r] * factor_a, the rows `bytes` beyond the places; n is not 0. |sums| < 2^31. */
static inline void drnn_block_mve(int32x4_t sums[DRNN_MVE_QUADS], uint32_t bytes, const drnn_entry_t *entries, uint32_t n)
{
    int32x4_t sum0, sum1, sum2, sum3, sum4, sum5, even, odd;
    uint32_t rows, factor;
    __asm__("vmov.i32 %q[sum0], #0\n"
            "vmov.i32 %q[sum1], #0\n"
            "vmov.i32 %q[sum2], #0\n"
            "vmov.i32 %q[sum3], #0\n"
            "vmov.i32 %q[sum4], #0\n"
            "vmov.i32 %q[sum5], #0\n"
            "dls lr, %[n]\n"
            "1:\n"
            "ldrd %[rows], %[factor], [%[entries]], #8\n"
            "add %[rows], %[bytes]\n"
            "vldrh.s32 %q[even], [%[rows]]\n"
            "vldrh.s32 %q[odd], [%[rows], #8]\n"
            "vmla.s32 %q[sum0], %q[even], %[factor]\n"
            "vldrh.s32 %q[even], [%[rows], #16]\n"
            "vmla.s32 %q[sum1], %q[odd], %[factor]\n"
            "vldrh.s32 %q[odd], [%[rows], #24]\n"
            "vmla.s32 %q[sum2], %q[even], %[factor]\n"
            "vldrh.s32 %q[even], [%[rows], #32]\n"
            "vmla.s32 %q[sum3], %q[odd], %[factor]\n"
            "vldrh.s32 %q[odd], [%[rows], #40]\n"
            "vmla.s32 %q[sum4], %q[even], %[factor]\n"
            "vmla.s32 %q[sum5], %q[odd], %[factor]\n"
            "le lr, 1b"
            : [sum0] "=&w"(sum0), [sum1] "=&w"(sum1), [sum2] "=&w"(sum2), [sum3] "=&w"(sum3), [sum4] "=&w"(sum4),
              [sum5] "=&w"(sum5), [even] "=&w"(even), [odd] "=&w"(odd), [rows] "=&l"(rows), [factor] "=&r"(factor),
              [entries] "+&r"(entries)
            : [bytes] "r"(bytes), [n] "r"(n)
            : "lr", "memory");
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
    sums[4] = sum4;
    sums[5] = sum5;
}

/* The same of DRNN_MVE_FEW_ROWS. */
static inline void drnn_few_mve(int32x4_t sums[2], uint32_t bytes, const drnn_entry_t *entries, uint32_t n)
{
    int32x4_t sum0, sum1, even, odd;
    uint32_t rows, factor;
    __asm__("vmov.i32 %q[sum0], #0\n"
            "vmov.i32 %q[sum1], #0\n"
            "dls lr, %[n]\n"
            "1:\n"
            "ldrd %[rows], %[factor], [%[entries]], #8\n"
            "add %[rows], %[bytes]\n"
            "vldrh.s32 %q[even], [%[rows]]\n"
            "vldrh.s32 %q[odd], [%[rows], #8]\n"
            "vmla.s32 %q[sum0], %q[even], %[factor]\n"
            "vmla.s32 %q[sum1], %q[odd], %[factor]\n"
            "le lr, 1b"
            : [sum0] "=&w"(sum0), [sum1] "=&w"(sum1), [even] "=&w"(even), [odd] "=&w"(odd), [rows] "=&l"(rows),
              [factor] "=&r"(factor), [entries] "+&r"(entries)
            : [bytes] "r"(bytes), [n] "r"(n)
            : "lr", "memory");
    sums[0] = sum0;
    sums[1] = sum1;
}

/* Of the flag that saturating instructions set, of which VQADD is one: cleared, and read. */
#define DRNN_QC_BIT 27

static inline void drnn_clear_qc(void)
{
    uint32_t fpscr;
    __asm__ volatile("vmrs %0, fpscr\n"
                     "bic %0, %0, %1\n"
                     "vmsr fpscr, %0"
                     : "=&r"(fpscr)
                     : "i"(1 << DRNN_QC_BIT));
}

static inline int drnn_read_qc(void)
{
    uint32_t fpscr;
    __asm__ volatile("vmrs %0, fpscr" : "=r"(fpscr) : : "memory");
    return (int)(fpscr >> DRNN_QC_BIT & 1u);
}

/* sums[0 .. DRNN_MVE_ROWS) += what drnn_block_mve gives, of entries of any size: products have 32 bits, sums set the flag. */
static inline void drnn_add_block_mve(int32_t *sums, uint32_t bytes, const drnn_entry_t *entries, uint32_t n)
{
    int32x4_t sum0 = vldrwq_s32(&sums[0]);
    int32x4_t sum1 = vldrwq_s32(&sums[4]);
    int32x4_t sum2 = vldrwq_s32(&sums[8]);
    int32x4_t sum3 = vldrwq_s32(&sums[12]);
    int32x4_t sum4 = vldrwq_s32(&sums[16]);
    int32x4_t sum5 = vldrwq_s32(&sums[20]);
    int32x4_t even, odd;
    uint32_t rows, factor;
    __asm__ volatile("dls lr, %[n]\n"
                     "1:\n"
                     "ldrd %[rows], %[factor], [%[entries]], #8\n"
                     "add %[rows], %[bytes]\n"
                     "vldrh.s32 %q[even], [%[rows]]\n"
                     "vldrh.s32 %q[odd], [%[rows], #8]\n"
                     "vmul.i32 %q[even], %q[even], %[factor]\n"
                     "vmul.i32 %q[odd], %q[odd], %[factor]\n"
                     "vqadd.s32 %q[sum0], %q[sum0], %q[even]\n"
                     "vldrh.s32 %q[even], [%[rows], #16]\n"
                     "vqadd.s32 %q[sum1], %q[sum1], %q[odd]\n"
                     "vldrh.s32 %q[odd], [%[rows], #24]\n"
                     "vmul.i32 %q[even], %q[even], %[factor]\n"
                     "vmul.i32 %q[odd], %q[odd], %[factor]\n"
                     "vqadd.s32 %q[sum2], %q[sum2], %q[even]\n"
                     "vldrh.s32 %q[even], [%[rows], #32]\n"
                     "vqadd.s32 %q[sum3], %q[sum3], %q[odd]\n"
                     "vldrh.s32 %q[odd], [%[rows], #40]\n"
                     "vmul.i32 %q[even], %q[even], %[factor]\n"
                     "vmul.i32 %q[odd], %q[odd], %[factor]\n"
                     "vqadd.s32 %q[sum4], %q[sum4], %q[even]\n"
                     "vqadd.s32 %q[sum5], %q[sum5], %q[odd]\n"
                     "le lr, 1b"
                     : [sum0] "+&w"(sum0), [sum1] "+&w"(sum1), [sum2] "+&w"(sum2), [sum3] "+&w"(sum3), [sum4] "+&w"(sum4),
                       [sum5] "+&w"(sum5), [even] "=&w"(even), [odd] "=&w"(odd), [rows] "=&l"(rows), [factor] "=&r"(factor),
                       [entries] "+&r"(entries)
                     : [bytes] "r"(bytes), [n] "r"(n)
                     : "lr", "memory");
    vstrwq_s32(&sums[0], sum0);
    vstrwq_s32(&sums[4], sum1);
    vstrwq_s32(&sums[8], sum2);
    vstrwq_s32(&sums[12], sum3);
    vstrwq_s32(&sums[16], sum4);
    vstrwq_s32(&sums[20], sum5);
}

/* The same of DRNN_MVE_FEW_ROWS. */
static inline void drnn_add_few_mve(int32_t *sums, uint32_t bytes, const drnn_entry_t *entries, uint32_t n)
{
    int32x4_t sum0 = vldrwq_s32(&sums[0]);
    int32x4_t sum1 = vldrwq_s32(&sums[4]);
    int32x4_t even, odd;
    uint32_t rows, factor;
    __asm__ volatile("dls lr, %[n]\n"
                     "1:\n"
                     "ldrd %[rows], %[factor], [%[entries]], #8\n"
                     "add %[rows], %[bytes]\n"
                     "vldrh.s32 %q[even], [%[rows]]\n"
                     "vldrh.s32 %q[odd], [%[rows], #8]\n"
                     "vmul.i32 %q[even], %q[even], %[factor]\n"
                     "vmul.i32 %q[odd], %q[odd], %[factor]\n"
                     "vqadd.s32 %q[sum0], %q[sum0], %q[even]\n"
                     "vqadd.s32 %q[sum1], %q[sum1], %q[odd]\n"
                     "le lr, 1b"
                     : [sum0] "+&w"(sum0), [sum1] "+&w"(sum1), [even] "=&w"(even), [odd] "=&w"(odd), [rows] "=&l"(rows),
                       [factor] "=&r"(factor), [entries] "+&r"(entries)
                     : [bytes] "r"(bytes), [n] "r"(n)
                     : "lr", "memory");
    vstrwq_s32(&sums[0], sum0);
    vstrwq_s32(&sums[4], sum1);
}

/*
 * drnn_add_columns of as many whole blocks as there are; n is not 0. Returns the row after them; *exceeds is not 0 where a sum
 * took more than 32 bits.
 */
static inline uint32_t drnn_add_blocks_mve(int32_t *sums, uint32_t first, uint32_t end, const drnn_entry_t *entries,
                                           uint32_t n, int *exceeds)
{
    uint32_t row = first;
    drnn_clear_qc();
    for (; row + DRNN_MVE_ROWS <= end; row += DRNN_MVE_ROWS) {
        drnn_add_block_mve(&sums[row], 2 * row, entries, n);
    }
    for (; row + DRNN_MVE_FEW_ROWS <= end; row += DRNN_MVE_FEW_ROWS) {
        drnn_add_few_mve(&sums[row], 2 * row, entries, n);
    }
    *exceeds = drnn_read_qc();
    return row;
}

/* drnn_sum_columns, likewise. */
static inline uint32_t drnn_sum_blocks_mve(int32_t *sums, uint32_t rows, const drnn_entry_t *entries, uint32_t n)
{
    uint32_t row = 0;
    for (; row + DRNN_MVE_ROWS <= rows; row += DRNN_MVE_ROWS) {
        int32x4_t block[DRNN_MVE_QUADS];
        drnn_block_mve(block, 2 * row, entries, n);
        vstrwq_s32(&sums[row], block[0]);
        vstrwq_s32(&sums[row + 4], block[1]);
        vstrwq_s32(&sums[row + 8], block[2]);
        vstrwq_s32(&sums[row + 12], block[3]);
        vstrwq_s32(&sums[row + 16], block[4]);
        vstrwq_s32(&sums[row + 20], block[5]);
    }
    for (; row + DRNN_MVE_FEW_ROWS <= rows; row += DRNN_MVE_FEW_ROWS) {
        int32x4_t block[2];
        drnn_few_mve(block, 2 * row, entries, n);
        vstrwq_s32(&sums[row], block[0]);
        vstrwq_s32(&sums[row + 4], block[1]);
    }
    return row;
}

/* Products of the columns at a and b with dm, n_rounds times DRNN_MVE_DOT_ROWS rows; n_rounds is not 0. */
static inline void drnn_dot_two_mve(int64_t products[2], uint32_t a, uint32_t b, const int16_t *dm, uint32_t n_rounds)
{
    register uint32_t low_a __asm__("r4") = 0; /* the sums' halves: an even register, an odd one */
    register uint32_t high_a __asm__("r5") = 0;
    register uint32_t low_b __asm__("r8") = 0;
    register uint32_t high_b __asm__("r9") = 0;
    int16x8_t values0, values1, rows0, rows1;
    __asm__("dls lr, %[n]\n"
            "1:\n"
            "vldrh.u16 %q[values0], [%[dm]], #16\n"
            "vldrh.u16 %q[rows0], [%[a]], #16\n"
            "vldrh.u16 %q[rows1], [%[b]], #16\n"
            "vmlaldava.s16 %[low_a], %[high_a], %q[values0], %q[rows0]\n"
            "vldrh.u16 %q[values1], [%[dm]], #16\n"
            "vmlaldava.s16 %[low_b], %[high_b], %q[values0], %q[rows1]\n"
            "vldrh.u16 %q[rows0], [%[a]], #16\n"
            "vldrh.u16 %q[rows1], [%[b]], #16\n"
            "vmlaldava.s16 %[low_a], %[high_a], %q[values1], %q[rows0]\n"
            "vmlaldava.s16 %[low_b], %[high_b], %q[values1], %q[rows1]\n"
            "le lr, 1b"
            : [low_a] "+&r"(low_a), [high_a] "+&r"(high_a), [low_b] "+&r"(low_b), [high_b] "+&r"(high_b),
              [values0] "=&w"(values0), [values1] "=&w"(values1), [rows0] "=&w"(rows0), [rows1] "=&w"(rows1),
              [dm] "+&r"(dm), [a] "+&r"(a), [b] "+&r"(b)
            : [n] "r"(n_rounds)
            : "lr", "memory");
    products[0] = (int64_t)((uint64_t)high_a << 32 | low_a);
    products[1] = (int64_t)((uint64_t)high_b << 32 | low_b);
}

/* drnn_dot_columns over the first n_rows rows, a multiple of DRNN_MVE_DOT_ROWS and not 0. */
static inline void drnn_dots_mve(int64_t *products, uint32_t n_rows, const int16_t *dm, const drnn_entry_t *entries,
                                 uint32_t n)
{
    uint32_t a = 0;
    for (; a + 2 <= n; a += 2) {
        drnn_dot_two_mve(&products[a], entries[a].place, entries[a + 1].place, dm, n_rows / DRNN_MVE_DOT_ROWS);
    }
    if (a < n) { /* a lone last one is taken twice */
        int64_t twice[2];
        drnn_dot_two_mve(twice, entries[a].place, entries[a].place, dm, n_rows / DRNN_MVE_DOT_ROWS);
        products[a] = twice[0];
    }
}

#endif
