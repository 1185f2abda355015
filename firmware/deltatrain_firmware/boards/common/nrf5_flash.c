/*
 * The flash of an nRF51 or nRF52 by its NVMC. nRF51 Series Reference Manual, chapter 6; nRF52840 Product Specification,
 * chapter 4.3. The processor stands still while flash that it runs from is written.
 */
#include "cortex_m.h"
#include "dt_flash.h"

#define NVMC_READY REG(0x4001E400u)
#define NVMC_CONFIG REG(0x4001E504u)
#define NVMC_ERASE_PAGE REG(0x4001E508u)
#define CONFIG_READ 0u
#define CONFIG_WRITE 1u
#define CONFIG_ERASE 2u
#define MOST_LOOKS 4000000u     /* at 64 MHz more than twice the longest that erasing a page takes, 85 ms */

static int wait(void)
{
    for (uint32_t left = MOST_LOOKS; left != 0; left--) {
        if ((NVMC_READY & 1u) != 0) {
            return 0;
        }
    }
    return -1;
}

static int finish(void)
{
    const int error = wait();
    NVMC_CONFIG = CONFIG_READ;
    return error;
}

int dt_flash_open(void)
{
    return (NVMC_READY & 1u) != 0 ? 0 : -1;
}

int dt_flash_erase(uint32_t page)
{
    NVMC_CONFIG = CONFIG_ERASE;
    NVMC_ERASE_PAGE = (uint32_t)(uintptr_t)dt_flash + page * DT_FLASH_PAGE_BYTES;
    return finish();
}

int dt_flash_program(uint32_t at, const uint32_t *unit)
{
    NVMC_CONFIG = CONFIG_WRITE;
    *(volatile uint32_t *)(uintptr_t)(dt_flash + at) = *unit;
    BARRIER();
    return finish();
}
