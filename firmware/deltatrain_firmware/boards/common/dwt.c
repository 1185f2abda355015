/*
 * The cycle counter of an ARMv7-M (ARMv7-M Architecture Reference Manual, C1.6 and C1.8). A chip has it; of the emulators
 * QEMU does not, nor do Renode's platforms of these boards: there it stands still, and the board's timer counts instead.
 */
#include "counter32.h"
#include "cortex_m.h"
#include "dt_board.h"

#define DEMCR REG(0xE000EDFCu)
#define DEMCR_TRACE 0x01000000u
#define DWT_CTRL REG(0xE0001000u)
#define DWT_CTRL_CYCLES 0x1u
#ifndef DT_CYCCNT               /* tests put another counter here */
#define DT_CYCCNT 0xE0001004u
#endif
#define DWT_CYCCNT REG(DT_CYCCNT)
#define LOOKS 16u               /* at a counter that counts, the second shows it */

static uint32_t counts;

static uint32_t cycles(void)
{
    /* Each time anew: a debugger that takes its leave switches tracing off, as pyOCD does right after a restart. */
    DEMCR |= DEMCR_TRACE;
    DWT_CTRL |= DWT_CTRL_CYCLES;
    return DWT_CYCCNT;
}

void dt_cycles_start(void)
{
    const uint32_t first = cycles();
    for (uint32_t looks = 0; !counts && looks < LOOKS; looks++) {
        counts = cycles() != first;
    }
}

uint32_t dt_counter32(void)
{
    return counts ? cycles() : dt_timer32();
}

uint32_t dt_board_counter_hz(void)
{
    return counts ? DT_CPU_HZ : dt_timer_hz();
}

uint16_t dt_board_counter(void)
{
    return counts ? DT_COUNTER_CYCLES : DT_COUNTER_TIMER;
}

/* A processor that sleeps has no cycles; the timer goes on. */
uint64_t dt_board_moment(void)
{
    return (uint64_t)dt_timer32() << 32 | (uint32_t)dt_board_ticks();
}
