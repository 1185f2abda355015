/*
 * A board whose counter is a CMSDK timer. ARM Cortex-M System Design Kit, Technical Reference Manual, chapter 4.1.
 */
#include "cmsdk.h"
#include "cortex_m.h"
#include "dt_board.h"

#define TIMER_CTRL REG(DT_TIMER_BASE)
#define TIMER_VALUE REG(DT_TIMER_BASE + 0x04u)     /* counts down */
#define TIMER_RELOAD REG(DT_TIMER_BASE + 0x08u)
#define TIMER_INTCLEAR REG(DT_TIMER_BASE + 0x0Cu)
#define TIMER_ENABLE 0x1u
#define TIMER_INTERRUPT 0x8u

static volatile uint32_t wraps;

int dt_board_interrupt(uint32_t irq)
{
    if (irq != DT_TIMER_IRQ) {
        return 0;
    }
    TIMER_INTCLEAR = 1;
    wraps++;
    return 1;
}

void dt_board_init(void)
{
    TIMER_CTRL = 0;
    TIMER_RELOAD = 0xFFFFFFFFu;
    TIMER_VALUE = 0xFFFFFFFFu;
    TIMER_INTCLEAR = 1;
    dt_interrupt_enable(DT_TIMER_IRQ);
    TIMER_CTRL = TIMER_ENABLE | TIMER_INTERRUPT;
    dt_uart_init();
}

uint64_t dt_board_ticks(void)
{
    uint32_t upper, value;
    do {
        upper = wraps;
        value = TIMER_VALUE;
    } while (upper != wraps);
    return (uint64_t)upper << 32 | (0xFFFFFFFFu - value);
}
