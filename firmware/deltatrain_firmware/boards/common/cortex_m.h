/* What start-up and drivers of a Cortex-M ask of each other. */
#ifndef CORTEX_M_H
#define CORTEX_M_H

#include <stdint.h>

#define REG(address) (*(volatile uint32_t *)(address))

/* Before a device is asked: what was written to memory has arrived there. */
#define BARRIER() __asm__ volatile("dsb" ::: "memory")

/* Brought by the board's drivers: serve interrupt `irq`. Returns 0 when nothing expects it. */
int dt_board_interrupt(uint32_t irq);

/* Let interrupt `irq` come. */
void dt_interrupt_enable(uint32_t irq);

/* Sleep until `irq` is pending, unless `ready` says that nothing need be waited for. It is not taken. */
void dt_sleep(uint32_t irq, int (*ready)(void));

/* Called by the board's drivers in dt_board_init: the chip's own watchdog was what reset it. */
void dt_tell_watchdog(void);

#endif
