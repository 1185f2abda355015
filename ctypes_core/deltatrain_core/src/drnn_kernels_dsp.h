/*
 * Blocks of the sparse products for cores with the DSP extension (Cortex-M4, M7, M33, M55). Written out whole, for they take
 * every register there is: eight sums (or eight words of data and two sums) stay in registers over a whole list. Whether a
 * 32-bit sum overflowed is told by the processor's Q flag, which these multiplications set.
 *
 * Rows are read by words, so places and first rows are even; all is aligned to 4 bytes (drnn_is_aligned_dsp).
 */
#ifndef DRNN_KERNELS_DSP_H
#define DRNN_KERNELS_DSP_H

#include "drnn_kernels.h"

#define DRNN_DSP_ROWS 8u /* rows of a block */

/* Whether the rows of all entries may be read by words, from row `first` on. */
static inline int drnn_is_aligned_dsp(const drnn_entry_t *entries, uint32_t n, uint32_t first)
{
    uint32_t bits = 0;
    for (uint32_t a = 0; a < n; ++a) {
        bits |= entries[a].place + 2 * first;
    }
    return bits % 4 == 0;
}

/* Their parameters are in registers and on the stack, as the calling convention has them. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

/*
 * sums[8 b + r] = from[..] + sum over a of rows(entries[a])[r of block b] * factor_a for n_blocks blocks of eight rows, the
 * first one `bytes` beyond the places. `from` holds what a block's sums begin with and advances by from_bytes a block: the
 * sums themselves, or zeros and 0. n and n_blocks are not 0. Returns the Q flag: not 0 where a sum exceeded 32 bits.
 *
 * r4-r11 sums, r12 the list, lr the block's offset, r2 rows, r3 factor, r0 and r1 data. The loop over the list is unrolled
 * by eight and entered in its middle, so that any length takes the same instructions an entry.
 */
__attribute__((naked, noinline, unused)) static uint32_t
drnn_blocks_dsp(int32_t *sums, uint32_t bytes, const drnn_entry_t *entries, uint32_t n, uint32_t n_blocks,
                const int32_t *from, uint32_t from_bytes)
{
    __asm__(".syntax unified\n"
            "push {r4-r11, lr}\n"
            "sub sp, sp, #28\n"           /* +0 where to enter, +4 list, +8 its end, +12 sums, +16 blocks left, +20 from */
            "mov lr, r1\n"
            "str r2, [sp, #4]\n"
            "add r4, r2, r3, lsl #3\n"
            "str r4, [sp, #8]\n"
            "str r0, [sp, #12]\n"
            "ldr r4, [sp, #64]\n"
            "str r4, [sp, #16]\n"
            "ldr r4, [sp, #68]\n"
            "str r4, [sp, #20]\n"
            "rsb r4, r3, #0\n"
            "and r4, r4, #7\n"            /* entries of the first round that are left out */
            "mov r5, #(2f - 1f) / 8\n"
            "mul r4, r4, r5\n"
            "adr r5, 1f\n"
            "add r4, r4, r5\n"
            "orr r4, r4, #1\n"
            "str r4, [sp, #0]\n"
            "mov r4, #0\n"
            "msr apsr_nzcvq, r4\n"
            "3:\n"
            "ldr r0, [sp, #20]\n"
            "ldr r1, [sp, #72]\n"
            "ldm r0, {r4-r11}\n"
            "add r0, r0, r1\n"
            "str r0, [sp, #20]\n"
            "ldr r12, [sp, #4]\n"
            "ldr r0, [sp, #0]\n"
            "bx r0\n"
            ".balign 4\n"
            "1:\n"
            ".rept 8\n"
            "ldrd r2, r3, [r12], #8\n"
            "add r2, lr\n"
            "ldrd r0, r1, [r2]\n"
            "smlabb r4, r0, r3, r4\n"
            "smlatb r5, r0, r3, r5\n"
            "smlabb r6, r1, r3, r6\n"
            "smlatb r7, r1, r3, r7\n"
            "ldrd r0, r1, [r2, #8]\n"
            "smlabb r8, r0, r3, r8\n"
            "smlatb r9, r0, r3, r9\n"
            "smlabb r10, r1, r3, r10\n"
            "smlatb r11, r1, r3, r11\n"
            ".endr\n"
            "2:\n"
            "ldr r0, [sp, #8]\n"
            "cmp r12, r0\n"
            "bne 1b\n"
            "ldr r0, [sp, #12]\n"
            "ldr r1, [sp, #16]\n"
            "stm r0!, {r4-r11}\n"
            "add lr, lr, #16\n"
            "str r0, [sp, #12]\n"
            "subs r1, r1, #1\n"
            "str r1, [sp, #16]\n"
            "bne 3b\n"
            "mrs r0, apsr\n"
            "and r0, r0, #0x08000000\n"
            "add sp, sp, #28\n"
            "pop {r4-r11, pc}\n");
}

/*
 * products[0], [1]: of the two columns at places[0] and places[1] with dm [n], n a multiple of 8 and not 0. Returns the Q
 * flag, as it was or set: not 0 where a sum exceeded 32 bits.
 *
 * r0 dm, r1 and r2 columns, r3 the end of dm, r4-r7 dm, r8-r11 weights, r12 and lr sums.
 */
__attribute__((naked, noinline, unused)) static uint32_t
drnn_dot_two_dsp(const int16_t *dm, uint32_t place0, uint32_t place1, uint32_t n, int64_t products[2])
{
    __asm__(".syntax unified\n"
            "push {r4-r11, lr}\n"
            "mov r12, #0\n"
            "mov lr, #0\n"
            "tst r3, #8\n"                /* an odd number of blocks: enter in the middle */
            "add r3, r0, r3, lsl #1\n"
            "bne 2f\n"
            "1:\n"
            "ldm r0!, {r4-r7}\n"
            "ldm r1!, {r8-r11}\n"
            "smlad r12, r4, r8, r12\n"
            "smlad r12, r5, r9, r12\n"
            "smlad r12, r6, r10, r12\n"
            "smlad r12, r7, r11, r12\n"
            "ldm r2!, {r8-r11}\n"
            "smlad lr, r4, r8, lr\n"
            "smlad lr, r5, r9, lr\n"
            "smlad lr, r6, r10, lr\n"
            "smlad lr, r7, r11, lr\n"
            "2:\n"
            "ldm r0!, {r4-r7}\n"
            "ldm r1!, {r8-r11}\n"
            "smlad r12, r4, r8, r12\n"
            "smlad r12, r5, r9, r12\n"
            "smlad r12, r6, r10, r12\n"
            "smlad r12, r7, r11, r12\n"
            "ldm r2!, {r8-r11}\n"
            "smlad lr, r4, r8, lr\n"
            "smlad lr, r5, r9, lr\n"
            "smlad lr, r6, r10, lr\n"
            "smlad lr, r7, r11, lr\n"
            "cmp r0, r3\n"
            "bne 1b\n"
            "ldr r0, [sp, #36]\n"
            "asr r1, r12, #31\n"
            "asr r2, lr, #31\n"
            "strd r12, r1, [r0]\n"
            "strd lr, r2, [r0, #8]\n"
            "mrs r0, apsr\n"
            "and r0, r0, #0x08000000\n"
            "pop {r4-r11, pc}\n");
}

#pragma GCC diagnostic pop

/* drnn_dot_columns over the first n_rows rows, a multiple of 8. Returns 0 where a sum exceeded 32 bits. */
static inline int drnn_dots_dsp(int64_t *products, const int16_t *dm, uint32_t n_rows, const drnn_entry_t *entries,
                                uint32_t n)
{
    uint32_t exceeds = 0;
    __asm__ volatile("msr apsr_nzcvq, %0" : : "r"(0) : "cc");
    uint32_t a = 0;
    for (; a + 2 <= n; a += 2) {
        exceeds |= drnn_dot_two_dsp(dm, entries[a].place, entries[a + 1].place, n_rows, &products[a]);
    }
    if (a < n) { /* a lone last one is taken twice */
        int64_t twice[2];
        exceeds |= drnn_dot_two_dsp(dm, entries[a].place, entries[a].place, n_rows, twice);
        products[a] = twice[0];
    }
    return exceeds == 0;
}

#endif
