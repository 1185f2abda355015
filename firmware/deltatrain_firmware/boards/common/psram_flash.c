/*
 * Flash that is RAM: of an emulator, whose memory can be a file that outlives it. As strict as flash is: a page is erased
 * as a whole, what is programmed must be erased, and both take their time, in which the emulator may be killed.
 */
#include "dt_flash.h"

#define WORDS(bytes) ((uint32_t)(bytes) / 4u)
#define ERASED 0xFFFFFFFFu
#define SLOWNESS 16u

/* Far faster than flash, and far slower than RAM. */
static void set(volatile uint32_t *word, uint32_t value)
{
    for (volatile uint32_t left = SLOWNESS; left != 0; left--) {
    }
    *word = value;
}

static volatile uint32_t *word_at(uint32_t at)
{
    return (volatile uint32_t *)(uintptr_t)(dt_flash + at);
}

int dt_flash_open(void)
{
    return 0;
}

int dt_flash_erase(uint32_t page)
{
    volatile uint32_t *word = word_at(page * DT_FLASH_PAGE_BYTES);
    for (uint32_t i = 0; i < WORDS(DT_FLASH_PAGE_BYTES); i++) {
        set(&word[i], ERASED);
    }
    return 0;
}

int dt_flash_program(uint32_t at, const uint32_t *unit)
{
    volatile uint32_t *word = word_at(at);
    for (uint32_t i = 0; i < WORDS(DT_FLASH_WRITE_BYTES); i++) {
        if (word[i] != ERASED) {
            return -1;
        }
    }
    for (uint32_t i = 0; i < WORDS(DT_FLASH_WRITE_BYTES); i++) {
        set(&word[i], unit[i]);
    }
    return 0;
}
