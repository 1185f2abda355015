/*
 * ARM MPS2 with AN386: CMSDK UART 0 as the line, CMSDK timer 0 as the counter.
 * Registers: ARM Cortex-M System Design Kit, Technical Reference Manual, chapters 4.3 (UART) and 4.1 (timer).
 */
#include "dt_board.h"
#include "startup.h"

#define REG(address) (*(volatile uint32_t *)(address))

#define CLOCK_HZ 25000000u
#define BAUD 115200u

#define TIMER_CTRL REG(0x40000000u)
#define TIMER_VALUE REG(0x40000004u)     /* counts down */
#define TIMER_RELOAD REG(0x40000008u)
#define TIMER_INTCLEAR REG(0x4000000Cu)
#define TIMER_ENABLE 0x1u
#define TIMER_INTERRUPT 0x8u
#define TIMER_IRQ 8u

#define UART_DATA REG(0x40004000u)
#define UART_STATE REG(0x40004004u)
#define UART_CTRL REG(0x40004008u)
#define UART_INTCLEAR REG(0x4000400Cu)
#define UART_BAUDDIV REG(0x40004010u)
#define UART_TX_FULL 0x1u
#define UART_RX_FULL 0x2u
#define UART_TX_ENABLE 0x1u
#define UART_RX_ENABLE 0x2u
#define UART_RX_INTERRUPT 0x8u
#define UART_INTCLEAR_RX 0x2u
#define UART_RX_IRQ 0u

#define NVIC_ENABLE REG(0xE000E100u)
#define NVIC_DISABLE REG(0xE000E180u)
#define NVIC_UNPEND REG(0xE000E280u)

const char dt_board_name[] = "mps2-an386";
const uint32_t dt_board_counter_hz = CLOCK_HZ;

static volatile uint32_t timer_wraps;

void dt_timer0_wrapped(void)
{
    TIMER_INTCLEAR = 1;
    timer_wraps++;
}

void dt_board_init(void)
{
    timer_wraps = 0;
    TIMER_CTRL = 0;
    TIMER_RELOAD = 0xFFFFFFFFu;
    TIMER_VALUE = 0xFFFFFFFFu;
    TIMER_INTCLEAR = 1;
    NVIC_ENABLE = 1u << TIMER_IRQ;
    TIMER_CTRL = TIMER_ENABLE | TIMER_INTERRUPT;
    UART_BAUDDIV = CLOCK_HZ / BAUD;
    UART_CTRL = UART_TX_ENABLE | UART_RX_ENABLE | UART_RX_INTERRUPT;
}

/* With interrupts masked, a pending one still ends the sleep: no byte can slip in between the look and the wait. */
static void sleep_until_byte(void)
{
    __asm__ volatile("cpsid i" ::: "memory");
    UART_INTCLEAR = UART_INTCLEAR_RX;
    NVIC_UNPEND = 1u << UART_RX_IRQ;
    NVIC_ENABLE = 1u << UART_RX_IRQ;
    if ((UART_STATE & UART_RX_FULL) == 0) {
        __asm__ volatile("dsb\n wfi" ::: "memory");
    }
    NVIC_DISABLE = 1u << UART_RX_IRQ;
    __asm__ volatile("cpsie i\n isb" ::: "memory");
}

uint8_t dt_board_read(void)
{
    /* Sleeping at once, not after some more looks, halves what a byte costs the PC that emulates this. */
    while ((UART_STATE & UART_RX_FULL) == 0) {
        sleep_until_byte();
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

uint64_t dt_board_ticks(void)
{
    uint32_t wraps, value;
    do {
        wraps = timer_wraps;
        value = TIMER_VALUE;
    } while (wraps != timer_wraps);
    return (uint64_t)wraps << 32 | (0xFFFFFFFFu - value);
}
