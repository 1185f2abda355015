/*
 * The serial line by a CMSDK UART. ARM Cortex-M System Design Kit, Technical Reference Manual, chapter 4.3.
 */
#include "cmsdk.h"
#include "cortex_m.h"
#include "dt_board.h"

#define BAUD 115200u

#define UART_DATA REG(DT_UART_BASE)
#define UART_STATE REG(DT_UART_BASE + 0x04u)
#define UART_CTRL REG(DT_UART_BASE + 0x08u)
#define UART_INTCLEAR REG(DT_UART_BASE + 0x0Cu)
#define UART_BAUDDIV REG(DT_UART_BASE + 0x10u)
#define UART_TX_FULL 0x1u
#define UART_RX_FULL 0x2u
#define UART_TX_ENABLE 0x1u
#define UART_RX_ENABLE 0x2u
#define UART_RX_INTERRUPT 0x8u
#define UART_INTCLEAR_RX 0x2u

void dt_uart_init(void)
{
    UART_BAUDDIV = DT_UART_HZ / BAUD;
    UART_CTRL = UART_TX_ENABLE | UART_RX_ENABLE | UART_RX_INTERRUPT;
}

static int byte_waits(void)
{
    return (UART_STATE & UART_RX_FULL) != 0;
}

uint8_t dt_board_read(void)
{
    /* Sleeping at once, not after some more looks, halves what a byte costs the PC that emulates this. */
    while (!byte_waits()) {
        UART_INTCLEAR = UART_INTCLEAR_RX;
        dt_sleep(DT_UART_RX_IRQ, byte_waits);
    }
    return (uint8_t)UART_DATA;
}

void dt_board_write(const uint8_t *bytes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        while ((UART_STATE & UART_TX_FULL) != 0) {
        }
        UART_DATA = bytes[i];
    }
}
