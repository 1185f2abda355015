/*
 * The flash of an STM32F405 or F407. RM0090, Reference Manual, chapter 3. Its pages are sectors of 128 KiB, 5 and up;
 * erasing one takes a second or two, and the processor stands still while flash that it runs from is written.
 *
 * Words are programmed at once, which takes a supply of 2.7 V or more. The data cache stays off, as reset leaves it: it
 * would hold what was there before.
 */
#include "cortex_m.h"
#include "dt_flash.h"

#define FLASH_KEYR REG(0x40023C04u)
#define FLASH_SR REG(0x40023C0Cu)
#define FLASH_CR REG(0x40023C10u)
#define KEY_1 0x45670123u
#define KEY_2 0xCDEF89ABu
#define SR_ERRORS 0xF2u         /* operation, protection, alignment, parallelism, sequence */
#define SR_BUSY 0x10000u
#define CR_PROGRAM 0x1u
#define CR_ERASE_SECTOR 0x2u
#define CR_SECTOR_SHIFT 3u
#define CR_WORDS 0x200u
#define CR_START 0x10000u
#define CR_LOCK 0x80000000u
#define SECTOR_4 0x08000000u    /* where it would be, were all of 128 KiB */
#define MOST_LOOKS 10000000u    /* at 16 MHz more than twice the longest that erasing a sector takes, 2 s */

/* With the lock the controller shows whether it is there: one that an emulator leaves out reads as 0. */
int dt_flash_open(void)
{
    FLASH_CR = CR_LOCK;
    return FLASH_CR == 0 ? -1 : 0;
}

static void unlock(uint32_t control)
{
    FLASH_KEYR = KEY_1;
    FLASH_KEYR = KEY_2;
    FLASH_SR = SR_ERRORS; /* of before: writing ones clears them */
    FLASH_CR = control;
}

static int finish(void)
{
    uint32_t left = MOST_LOOKS;
    while ((FLASH_SR & SR_BUSY) != 0 && left != 0) {
        left--;
    }
    FLASH_CR = CR_LOCK;
    return left == 0 || (FLASH_SR & SR_ERRORS) != 0 ? -1 : 0;
}

int dt_flash_erase(uint32_t page)
{
    const uint32_t at = (uint32_t)(uintptr_t)dt_flash + page * DT_FLASH_PAGE_BYTES;
    const uint32_t sector = 4u + (at - SECTOR_4) / DT_FLASH_PAGE_BYTES;
    unlock(CR_ERASE_SECTOR | sector << CR_SECTOR_SHIFT | CR_WORDS);
    FLASH_CR |= CR_START;
    return finish();
}

int dt_flash_program(uint32_t at, const uint32_t *unit)
{
    unlock(CR_PROGRAM | CR_WORDS);
    *(volatile uint32_t *)(uintptr_t)(dt_flash + at) = *unit;
    BARRIER();
    return finish();
}
