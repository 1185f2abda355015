/*
 * An STM32F405 or F407: USART2 on PA2 and PA3 as the line, TIM2 as the timer, IWDG behind the watchdog. RM0090, Reference
 * Manual, chapters 7 (RCC), 8 (GPIO), 18 (TIM2), 21 (IWDG) and 30 (USART).
 *
 * It runs from the clock that reset starts, the internal one of 16 MHz, and waits for nothing: an emulator without RCC and
 * GPIO takes the same way.
 */
#include "counter32.h"
#include "cortex_m.h"
#include "dt_board.h"

#define BAUD 115200u

#define RCC_CR REG(0x40023800u)
#define RCC_AHB1ENR REG(0x40023830u)
#define RCC_APB1ENR REG(0x40023840u)
#define RCC_CSR REG(0x40023874u)
#define RCC_GPIOA 0x1u
#define RCC_TIM2 0x1u
#define RCC_USART2 0x20000u

#define RCC_CSR_FORGET 0x01000000u
#define RCC_CSR_IWDG 0x20000000u

#define IWDG_KR REG(0x40003000u)
#define IWDG_PR REG(0x40003004u)
#define IWDG_START 0xCCCCu
#define IWDG_UNLOCK 0x5555u
#define IWDG_SLOWEST 6u         /* 32 s and more; at the fastest oscillator 22 s */

#define GPIOA_MODER REG(0x40020000u)
#define GPIOA_PUPDR REG(0x4002000Cu)
#define GPIOA_AFRL REG(0x40020020u)
#define MODER_PA2_PA3 0xF0u
#define MODER_ALTERNATE 0xA0u
#define PUPDR_PA3_UP 0x40u      /* an open line rests */
#define AFRL_USART2 0x7700u

#define TIM2_CR1 REG(0x40000000u)
#define TIM2_EGR REG(0x40000014u)
#define TIM2_CNT REG(0x40000024u)
#define TIM2_PSC REG(0x40000028u)
#define TIM2_ARR REG(0x4000002Cu)
#define TIM_ENABLE 0x1u
#define TIM_UPDATE 0x1u

#define USART2_SR REG(0x40004400u)
#define USART2_DR REG(0x40004404u)
#define USART2_BRR REG(0x40004408u)
#define USART2_CR1 REG(0x4000440Cu)
#define USART_RX_READY 0x20u
#define USART_TX_READY 0x80u
#define USART_ON 0x200Cu        /* both ways */
#define USART_RX_INTERRUPT 0x20u

int dt_board_interrupt(uint32_t irq)
{
    (void)irq;
    return 0;
}

void dt_board_init(void)
{
    RCC_AHB1ENR |= RCC_GPIOA;
    RCC_APB1ENR |= RCC_TIM2 | RCC_USART2;
    (void)RCC_APB1ENR; /* a clock takes two cycles until its device answers */

    GPIOA_AFRL |= AFRL_USART2;
    GPIOA_PUPDR |= PUPDR_PA3_UP;
    GPIOA_MODER = (GPIOA_MODER & ~MODER_PA2_PA3) | MODER_ALTERNATE;

    TIM2_PSC = 0;
    TIM2_ARR = 0xFFFFFFFFu;
    TIM2_EGR = TIM_UPDATE;
    TIM2_CR1 = TIM_ENABLE;
    dt_cycles_start();

    if ((RCC_CSR & RCC_CSR_IWDG) != 0) {
        dt_tell_watchdog();
    }
    RCC_CSR |= RCC_CSR_FORGET;
    IWDG_KR = IWDG_START;
    IWDG_KR = IWDG_UNLOCK;
    IWDG_PR = IWDG_SLOWEST;
    REG(DT_WATCHDOG_FEED) = DT_WATCHDOG_KEY;
    dt_board_watch(0); /* no command may come for long: the beats that feed it begin */

    USART2_BRR = (DT_USART_HZ + BAUD / 2u) / BAUD;
    USART2_CR1 = USART_ON | USART_RX_INTERRUPT;
}

/* On a chip the clock that runs is never off; where RCC reads 0, QEMU's TIM2 counts nanoseconds. */
uint32_t dt_timer_hz(void)
{
    return RCC_CR != 0 ? DT_COUNTER_HZ : DT_QEMU_COUNTER_HZ;
}

uint32_t dt_timer32(void)
{
    return TIM2_CNT;
}

static int byte_waits(void)
{
    return (USART2_SR & USART_RX_READY) != 0;
}

uint8_t dt_board_read(void)
{
    while (!byte_waits()) {
        dt_sleep(DT_USART_IRQ, byte_waits);
    }
    return (uint8_t)USART2_DR;
}

void dt_board_write(const uint8_t *bytes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        while ((USART2_SR & USART_TX_READY) == 0) {
        }
        USART2_DR = bytes[i];
    }
}
