/*
 * The last sectors of an STM32F405's or F407's flash. RM0090, Reference Manual, chapter 3. The processor stands still while
 * flash that it runs from is written. By 32 bits at once, which takes a supply of 2.7 V and more.
 */
#include "cortex_m.h"
#include "dt_flash.h"

#define FLASH_KEYR REG(0x40023C04u)
#define FLASH_SR REG(0x40023C0Cu)
#define FLASH_CR REG(0x40023C10u)
#define KEY_1 0x45670123u
#define KEY_2 0xCDEF89ABu
#define SR_ERRORS 0xF2u
#define SR_BUSY 0x10000u
#define CR_PROGRAM 0x1u
#define CR_ERASE_SECTOR 0x2u
#define CR_SECTOR(n) ((n) << 3)
#define CR_BY_WORDS 0x200u
#define CR_START 0x10000u
#define CR_LOCK 0x80000000u
#define FIRST_SECTOR 10u        /* of 128 KiB each, as sector 11 */
#define MOST_LOOKS 16000000u    /* at 16 MHz more than twice the longest that erasing a sector takes, 2 s */

static void unlock(void)
{
    FLASH_KEYR = KEY_1;
    FLASH_KEYR = KEY_2;
    FLASH_SR = SR_ERRORS; /* what is written is forgotten */
}

static int finish(void)
{
    uint32_t left = MOST_LOOKS;
    while ((FLASH_SR & SR_BUSY) != 0 && left != 0) {
        left--;
    }
    const int error = left == 0 || (FLASH_SR & SR_ERRORS) != 0 ? -1 : 0;
    FLASH_CR = CR_LOCK;
    return error;
}

/* Reset locks it; an emulator without it reads 0. */
int dt_flash_open(void)
{
    return (FLASH_CR & CR_LOCK) != 0 ? 0 : -1;
}

int dt_flash_erase(uint32_t page)
{
    unlock();
    FLASH_CR = CR_BY_WORDS | CR_ERASE_SECTOR | CR_SECTOR(FIRST_SECTOR + page);
    FLASH_CR |= CR_START;
    return finish();
}

int dt_flash_program(uint32_t at, const uint32_t *unit)
{
    unlock();
    FLASH_CR = CR_BY_WORDS | CR_PROGRAM;
    *(volatile uint32_t *)(uintptr_t)(dt_flash + at) = *unit;
    return finish();
}
