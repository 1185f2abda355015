/*
 * QEMU's machine `virt`: a 16550 as the line, whose interrupt comes through the PLIC; mtime as the counter.
 */
#include "dt_board.h"
#include "riscv.h"

#define REG8(address) (*(volatile uint8_t *)(address))

#define UART_DATA REG8(DT_UART_BASE)             /* while UART_LINE_CONTROL selects it */
#define UART_INTERRUPTS REG8(DT_UART_BASE + 1u)
#define UART_FIFO REG8(DT_UART_BASE + 2u)
#define UART_LINE_CONTROL REG8(DT_UART_BASE + 3u)
#define UART_STATE REG8(DT_UART_BASE + 5u)
#define UART_INTERRUPT_RX 0x1u
#define UART_FIFO_ENABLE 0x1u
#define UART_8N1 0x3u
#define UART_RX_READY 0x1u
#define UART_TX_EMPTY 0x20u

#define PLIC_PRIORITY REG(DT_PLIC_BASE + 4u * DT_UART_IRQ)
#define PLIC_ENABLE REG(DT_PLIC_BASE + 0x2000u)
#define PLIC_CLAIM REG(DT_PLIC_BASE + 0x200004u)

#define TIMER_LOWER REG(DT_TIMER_BASE)
#define TIMER_UPPER REG(DT_TIMER_BASE + 4u)

void dt_board_init(void)
{
    UART_LINE_CONTROL = UART_8N1;
    UART_FIFO = UART_FIFO_ENABLE;
    UART_INTERRUPTS = UART_INTERRUPT_RX;
    PLIC_PRIORITY = 1;
    PLIC_ENABLE = 1u << DT_UART_IRQ;
    __asm__ volatile(ZICSR "csrw mie, %0" ::"r"(MIE_EXTERNAL));
}

uint8_t dt_board_read(void)
{
    while ((UART_STATE & UART_RX_READY) == 0) {
        /* Interrupts are masked, and a pending one ends the sleep: it is claimed, and done. */
        __asm__ volatile("wfi" ::: "memory");
        PLIC_CLAIM = PLIC_CLAIM;
    }
    return UART_DATA;
}

void dt_board_write(const uint8_t *bytes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        while ((UART_STATE & UART_TX_EMPTY) == 0) {
        }
        UART_DATA = bytes[i];
    }
}

uint64_t dt_board_ticks(void)
{
    uint32_t upper, lower;
    do {
        upper = TIMER_UPPER;
        lower = TIMER_LOWER;
    } while (upper != TIMER_UPPER);
    return (uint64_t)upper << 32 | lower;
}
