/*
 * An nRF51 or nRF52: its UART as the line (of an nRF52 the one without DMA), its TIMER0 as the timer, its WDT behind the
 * watchdog. nRF51 Series Reference Manual, chapters 12 (POWER), 13 (CLOCK), 14 (GPIO), 18 (TIMER), 24 (WDT) and 29 (UART);
 * nRF52840 Product Specification, the same.
 */
#include "counter32.h"
#include "cortex_m.h"
#include "dt_board.h"

#define CLOCK_START_HF REG(0x40000000u)
#define CLOCK_HF_STARTED REG(0x40000100u)

#define POWER_RESET_REASONS REG(0x40000400u)
#define RESET_BY_WATCHDOG 0x2u

#define WDT_START REG(0x40010000u)
#define WDT_LAST REG(0x40010504u)
#define WDT_CONFIG REG(0x4001050Cu)
#define WDT_COUNTS_WHILE_AWAKE 0u
#define WDT_64_S 0x1FFFFFu      /* at 32,768 Hz */

#define GPIO_SET REG(0x50000508u)
#define GPIO_OUTPUT REG(0x50000518u)

#define UART_START_RX REG(0x40002000u)
#define UART_START_TX REG(0x40002008u)
#define UART_RX_READY REG(0x40002108u)
#define UART_TX_READY REG(0x4000211Cu)
#define UART_INTERRUPTS REG(0x40002304u)
#define UART_ENABLE REG(0x40002500u)
#define UART_PIN_TX REG(0x4000250Cu)
#define UART_PIN_RX REG(0x40002514u)
#define UART_RX REG(0x40002518u)
#define UART_TX REG(0x4000251Cu)
#define UART_BAUD REG(0x40002524u)
#define UART_ENABLED 4u
#define UART_INTERRUPT_RX 0x4u
#define UART_115200_BAUD 0x01D7E000u

#define TIMER_START REG(0x40008000u)
#define TIMER_CAPTURE REG(0x40008040u)
#define TIMER_WIDTH REG(0x40008508u)
#define TIMER_PRESCALER REG(0x40008510u)
#define TIMER_CAPTURED REG(0x40008540u)
#define TIMER_32_BITS 3u

#ifdef DT_CACHE_CONTROL
#define CACHE_CONTROL REG(DT_CACHE_CONTROL)
#define CACHE_ENABLE 0x1u
#endif

int dt_board_interrupt(uint32_t irq)
{
    (void)irq;
    return 0;
}

void dt_board_init(void)
{
    /* The crystal: the internal oscillator is too coarse for the line. */
    CLOCK_START_HF = 1;
    while (CLOCK_HF_STARTED == 0) {
    }
#ifdef DT_CACHE_CONTROL
    CACHE_CONTROL = CACHE_ENABLE;
#endif
    TIMER_WIDTH = TIMER_32_BITS;
    TIMER_PRESCALER = 0;
    TIMER_START = 1;
#ifdef DT_CPU_HZ
    dt_cycles_start();
#endif

    if ((POWER_RESET_REASONS & RESET_BY_WATCHDOG) != 0) {
        dt_tell_watchdog();
    }
    POWER_RESET_REASONS = 0xFFFFFFFFu; /* what is written is forgotten */
    /* A restart does not stop it: it goes on as it was set first. */
    WDT_CONFIG = WDT_COUNTS_WHILE_AWAKE;
    WDT_LAST = WDT_64_S;
    WDT_START = 1;
    dt_board_watch(0); /* no command may come for long: the beats that feed it begin */

    GPIO_SET = 1u << DT_UART_TX_PIN;
    GPIO_OUTPUT = 1u << DT_UART_TX_PIN;
    UART_PIN_TX = DT_UART_TX_PIN;
    UART_PIN_RX = DT_UART_RX_PIN;
    UART_BAUD = UART_115200_BAUD;
    UART_ENABLE = UART_ENABLED;
    UART_INTERRUPTS = UART_INTERRUPT_RX;
    UART_START_TX = 1;
    UART_START_RX = 1;
}

static int byte_waits(void)
{
    return UART_RX_READY != 0;
}

uint8_t dt_board_read(void)
{
    while (!byte_waits()) {
        dt_sleep(DT_UART_IRQ, byte_waits);
    }
    /* First: reading a byte tells the next one. */
    UART_RX_READY = 0;
    return (uint8_t)UART_RX;
}

void dt_board_write(const uint8_t *bytes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        UART_TX_READY = 0;
        UART_TX = bytes[i];
        while (UART_TX_READY == 0) {
        }
    }
}

uint32_t dt_timer_hz(void)
{
    return DT_COUNTER_HZ;
}

uint32_t dt_timer32(void)
{
    TIMER_CAPTURE = 1;
    return TIMER_CAPTURED;
}
