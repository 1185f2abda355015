/*
 * A board whose counter has 32 bits, and tells a wrap only to who asks: once at most between the two looks at the ends of
 * a call that is measured, for the watchdog ends a command after 2^32 cycles of the processor, and no counter is faster.
 * Between two commands wraps may be missed, and no time is measured.
 */
#include "counter32.h"
#include "dt_board.h"

static uint32_t wraps, last;

/* Of a board without dwt.c. */
__attribute__((weak)) uint32_t dt_counter32(void)
{
    return dt_timer32();
}

uint64_t dt_board_ticks(void)
{
    const uint32_t now = dt_counter32();
    wraps += now < last;
    last = now;
    return (uint64_t)wraps << 32 | now;
}
