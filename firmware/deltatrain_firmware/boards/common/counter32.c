/*
 * A board whose counter has 32 bits, and tells a wrap only to who asks: no call may last longer than from one to the next,
 * 268 s at 16 MHz, and no time between two calls is measured.
 */
#include "counter32.h"
#include "dt_board.h"

static uint32_t wraps, last;

uint64_t dt_board_ticks(void)
{
    const uint32_t now = dt_counter32();
    wraps += now < last;
    last = now;
    return (uint64_t)wraps << 32 | now;
}
