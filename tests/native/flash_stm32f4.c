/*
 * The driver of the STM32F4's flash on this PC, above a controller as RM0090, chapter 3, has it; no emulator at hand models
 * one. Whoever asks for a register first settles what was done to the one asked for before, and to the flash itself.
 * Prints nothing and returns 0, or says what went wrong.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

/* In place of boards/common/cortex_m.h. */
#define CORTEX_M_H
#define REG(address) (*settle(address))
#define BARRIER() ((void)0)
static volatile uint32_t *settle(uint32_t address);

#include "stm32f4_flash.c"
#include "check.h"

#define ORIGIN 0x080C0000u /* sectors 10 and 11; the linker puts dt_flash there */
#define SECTOR_BYTES 131072u
#define BYTES (2u * SECTOR_BYTES)

static uint32_t key, status, control = CR_LOCK;
static int keys_given, is_shut, is_absent, busy_for, is_stuck, is_protected;
static uint32_t cell, asked_for, shown;
static uint8_t before[BYTES];
static uint32_t n_erased, n_programmed;

/* All that a program may do to flash is write to it: words, when asked to, and from ones to zeros. */
static void settle_flash(void)
{
    for (uint32_t at = 0; at < BYTES; at += 4) {
        uint32_t old, now;
        memcpy(&old, before + at, 4);
        memcpy(&now, dt_flash + at, 4);
        if (old != now) {
            CHECK((control & (CR_PROGRAM | CR_ERASE_SECTOR)) == CR_PROGRAM && (control & 0x300u) == CR_WORDS);
            n_programmed++;
            now = is_protected ? old : old & now;
            status |= is_protected ? 0x10u : 0;
            memcpy(dt_flash + at, &now, 4);
            memcpy(before + at, &now, 4);
            busy_for = 3;
        }
    }
}

static void start_erasing(void)
{
    const uint32_t sector = control >> CR_SECTOR_SHIFT & 15u;
    CHECK((control & (CR_PROGRAM | CR_ERASE_SECTOR)) == CR_ERASE_SECTOR && (control & 0x300u) == CR_WORDS);
    CHECK(sector == 10 || sector == 11);
    n_erased++;
    if (is_protected) {
        status |= 0x10u;
        return;
    }
    memset(dt_flash + (sector - 10u) * SECTOR_BYTES, 0xFF, SECTOR_BYTES);
    memcpy(before, dt_flash, BYTES);
    busy_for = 1000;
}

static void settle_register(void)
{
    const uint32_t written = cell;
    if (asked_for == 0 || is_absent || written == shown) {
        return;
    }
    switch (asked_for) {
    case 0x40023C04u:
        is_shut |= written != (keys_given == 0 ? KEY_1 : KEY_2) || (control & CR_LOCK) == 0;
        keys_given = (keys_given + 1) % 2;
        if (keys_given == 0 && !is_shut) {
            control &= ~CR_LOCK;
        }
        break;
    case 0x40023C0Cu:
        status &= ~written;
        break;
    case 0x40023C10u:
        if ((control & CR_LOCK) != 0) {
            CHECK(written == CR_LOCK);
            break;
        }
        control = written & ~CR_START;
        if ((written & CR_START) != 0) {
            start_erasing();
        }
        break;
    default:
        CHECK(!"a register of the flash");
    }
}

static volatile uint32_t *settle(uint32_t address)
{
    settle_register();
    if (busy_for == 0) { /* what comes meanwhile is seen afterwards */
        settle_flash();
    }
    status &= ~SR_BUSY;
    if (busy_for != 0) {
        busy_for -= !is_stuck;
        status |= SR_BUSY;
    }
    asked_for = address;
    shown = is_absent ? 0 : address == 0x40023C0Cu ? status : address == 0x40023C10u ? control : key;
    cell = shown;
    return &cell;
}

int main(void)
{
    CHECK(mmap((void *)(uintptr_t)ORIGIN, BYTES, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == (void *)(uintptr_t)ORIGIN);
    CHECK(dt_flash == (uint8_t *)(uintptr_t)ORIGIN);
    is_absent = 1;
    CHECK(dt_flash_open() < 0);
    is_absent = 0;
    CHECK(dt_flash_open() == 0);

    for (uint32_t page = 0; page < 2; page++) {
        CHECK(dt_flash_erase(page) == 0 && (control & CR_LOCK) != 0);
    }
    CHECK(n_erased == 2);
    const uint32_t words[2] = {0x12345678u, 0xFFFF0000u};
    CHECK(dt_flash_program(SECTOR_BYTES + 8u, &words[0]) == 0 && dt_flash_program(BYTES - 4u, &words[1]) == 0);
    CHECK(n_programmed == 2 && (control & CR_LOCK) != 0);
    CHECK(memcmp(dt_flash + SECTOR_BYTES + 8u, &words[0], 4) == 0 && memcmp(dt_flash + BYTES - 4u, &words[1], 4) == 0);
    CHECK(dt_flash_erase(0) == 0 && memcmp(dt_flash + BYTES - 4u, &words[1], 4) == 0);
    CHECK(dt_flash_erase(1) == 0 && dt_flash[SECTOR_BYTES + 8u] == 0xFF);

    /* What goes wrong is told, and does not stay. */
    is_protected = 1;
    CHECK(dt_flash_erase(1) < 0 && dt_flash_program(0, &words[0]) < 0);
    is_protected = 0;
    CHECK(dt_flash_program(0, &words[0]) == 0);
    is_stuck = 1;
    CHECK(dt_flash_program(4, &words[0]) < 0 && dt_flash_erase(0) < 0);
    is_stuck = 0;
    busy_for = 0;
    CHECK(dt_flash_erase(0) == 0 && !is_shut);
    return 0;
}
