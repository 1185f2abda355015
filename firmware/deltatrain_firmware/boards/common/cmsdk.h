/* Drivers of the ARM Cortex-M System Design Kit; a board names their addresses in board.toml. */
#ifndef CMSDK_H
#define CMSDK_H

/* Start the UART at DT_UART_BASE, clocked with DT_UART_HZ; its receive interrupt is DT_UART_RX_IRQ. */
void dt_uart_init(void);

#endif
