/*
 * The counter of an SSE-300: 64 bits wide, so that it needs no interrupt. Arm Corstone SSE-300 Example Subsystem,
 * Technical Reference Manual, "System counter".
 */
#include "cmsdk.h"
#include "cortex_m.h"
#include "dt_board.h"

#define COUNTER_CONTROL REG(DT_COUNTER_BASE)
#define COUNTER_LOWER REG(DT_COUNTER_BASE + 0x08u)
#define COUNTER_UPPER REG(DT_COUNTER_BASE + 0x0Cu)
#define COUNTER_ENABLE 0x1u

int dt_board_interrupt(uint32_t irq)
{
    (void)irq;
    return 0;
}

void dt_board_init(void)
{
    COUNTER_CONTROL = COUNTER_ENABLE;
    dt_uart_init();
}

uint64_t dt_board_ticks(void)
{
    uint32_t upper, lower;
    do {
        upper = COUNTER_UPPER;
        lower = COUNTER_LOWER;
    } while (upper != COUNTER_UPPER);
    return (uint64_t)upper << 32 | lower;
}
