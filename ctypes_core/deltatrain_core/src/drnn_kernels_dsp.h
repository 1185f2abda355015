/*
 * Blocks of the sparse products for cores with the DSP extension (Cortex-M4, M7, M33, M55). Written out whole, for they take
 * every register there is: eight sums (or eight words of data and two sums) stay in registers over a whole list. Whether a
 * 32-bit sum overflowed is told by the processor's Q flag, which these multiplications set.
 *
 * Rows are read by words, so places and first rows are even.
 */
#ifndef DRNN_KERNELS_DSP_H
#define DRNN_KERNELS_DSP_H

#include "drnn_kernels.h"

#define DRNN_DSP_ROWS 8u /* rows of a block */

/* Their parameters are in registers and on the stack, as the calling convention has them. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-parameter"

/* In one section, so that they find each other by their distance, wherever they are loaded. */
#define DRNN_BLOCKS __attribute__((naked, noinline, noclone, used, section(".text.drnn_blocks_dsp")))

/*
 * What the two functions below share: for n_blocks blocks of eight rows, sums over all entries of rows(entry) * factor. n and
 * n_blocks are not 0; the first block's rows are `bytes` beyond the places.
 *
 * r4-r11 sums, r12 the list, lr the block's offset, r2 rows, r3 factor, r0 and r1 data; at 3 r0 is where the sums are. The loop
 * over the list is unrolled by eight and entered in its middle, so that any length takes the same instructions an entry; where
 * it is entered and where it goes from its end lie on the stack:
 *
 *     +0 sums   +4 their end   +8 list   +12 exit after a round   +16 end of the list   +20 exit after the last   +24 entry
 */
#define DRNN_BLOCKS_BEGIN(first_entry) \
    ".syntax unified\n" \
    "push {r4-r11, lr}\n" \
    "sub sp, sp, #28\n" \
    "ldr r4, [sp, #64]\n" \
    "mov lr, r1\n" \
    "mov r12, r2\n" \
    "add r1, r0, r4, lsl #5\n" \
    "add r8, r2, r3, lsl #3\n" \
    "adr.w r9, 4f + 1\n" \
    "mov r7, r9\n" \
    "adr.w r6, .Ldrnn_blocks_loop + 1\n" \
    "subs r3, r3, #" first_entry "\n" \
    "it eq\n"                           /* none left: straight to the end of the block */ \
    "moveq r6, r9\n" \
    "cmp r3, #8\n" \
    "it hi\n"                           /* after a round there may be another */ \
    "addhi r7, r6, #.Ldrnn_blocks_more - .Ldrnn_blocks_loop\n" \
    "rsb r4, r3, #0\n" \
    "and r4, r4, #7\n"                  /* entries of the first round that are left out */ \
    "mov r5, #(.Ldrnn_blocks_end - .Ldrnn_blocks_loop) / 8\n" \
    "mla r10, r4, r5, r6\n" \
    "stm sp, {r0-r2, r7-r10}\n" \
    "mov r4, #0\n" \
    "msr apsr_nzcvq, r4\n"

#define DRNN_BLOCKS_ENTRY(multiply, add4, add5, add6, add7, add8, add9, add10, add11) \
    "ldrd r2, r3, [r12], #8\n" \
    "add r2, lr\n" \
    "ldrd r0, r1, [r2]\n" \
    multiply "bb r4, r0, r3" add4 "\n" \
    multiply "tb r5, r0, r3" add5 "\n" \
    multiply "bb r6, r1, r3" add6 "\n" \
    multiply "tb r7, r1, r3" add7 "\n" \
    "ldrd r0, r1, [r2, #8]\n" \
    multiply "bb r8, r0, r3" add8 "\n" \
    multiply "tb r9, r0, r3" add9 "\n" \
    multiply "bb r10, r1, r3" add10 "\n" \
    multiply "tb r11, r1, r3" add11 "\n"

/* The block's end: its sums are stored, and the next block begins at 3 with the whole list. */
#define DRNN_BLOCKS_REST \
    ".balign 4\n" \
    "4:\n" \
    "ldm sp, {r0, r1, r12}\n" \
    "add lr, lr, #16\n" \
    "stm r0!, {r4-r11}\n" \
    "str r0, [sp]\n" \
    "cmp r0, r1\n" \
    "bne 3b\n"

/* The loop itself; no function to be called. */
DRNN_BLOCKS static void drnn_blocks_loop_dsp(void)
{
    __asm__(".syntax unified\n"
            ".balign 4\n"
            ".Ldrnn_blocks_loop:\n"
            ".rept 8\n"
            DRNN_BLOCKS_ENTRY("smla", ", r4", ", r5", ", r6", ", r7", ", r8", ", r9", ", r10", ", r11")
            ".endr\n"
            ".Ldrnn_blocks_end:\n"
            "ldr pc, [sp, #12]\n"
            ".balign 4\n"
            ".Ldrnn_blocks_more:\n"
            "ldr r0, [sp, #16]\n"
            "cmp r12, r0\n"
            "bne .Ldrnn_blocks_loop\n"
            "ldr pc, [sp, #20]\n");
}

/* sums[8 n_blocks] += them. Returns 1, or 0 where a sum exceeded 32 bits: the Q flag. */
DRNN_BLOCKS static int
drnn_add_blocks_dsp(int32_t *sums, uint32_t bytes, const drnn_entry_t *entries, uint32_t n, uint32_t n_blocks)
{
    __asm__(DRNN_BLOCKS_BEGIN("0")
            "3:\n"
            "ldm r0, {r4-r11}\n"
            "ldr pc, [sp, #24]\n" /* into the loop over the list */
            DRNN_BLOCKS_REST
            "mrs r0, apsr\n"
            "mvn r0, r0\n"
            "ubfx r0, r0, #27, #1\n"
            "add sp, sp, #28\n"
            "pop {r4-r11, pc}\n");
}

/* sums[8 n_blocks] = them, which fit 32 bits; the first entry begins the sums. */
DRNN_BLOCKS static void
drnn_sum_blocks_dsp(int32_t *sums, uint32_t bytes, const drnn_entry_t *entries, uint32_t n, uint32_t n_blocks)
{
    __asm__(DRNN_BLOCKS_BEGIN("1")
            "3:\n"
            DRNN_BLOCKS_ENTRY("smul", "", "", "", "", "", "", "", "")
            "ldr pc, [sp, #24]\n"
            DRNN_BLOCKS_REST
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
