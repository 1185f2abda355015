/*
 * What the store asks of a board's non-volatile memory, which it reads at `dt_flash`. Its size is that of [store] in
 * board.toml: DT_FLASH_PAGES pages of DT_FLASH_PAGE_BYTES, programmed in units of DT_FLASH_WRITE_BYTES, each once after
 * its page was erased. Addresses here count from its start. Nothing may wait without end: a flash that does not get ready
 * has failed.
 */
#ifndef DT_FLASH_H
#define DT_FLASH_H

#include <stdint.h>

/* The linker knows where it is. Not const: it changes while the program runs. */
extern uint8_t dt_flash[];

/* Called once, first. 0, or -1 when there is no such memory, as in an emulator that does not model it. */
int dt_flash_open(void);

/* Make all bytes of a page 0xFF. Returns 0, or -1. */
int dt_flash_erase(uint32_t page);

/* Program a unit, unit[DT_FLASH_WRITE_BYTES / 4], to `at`, a multiple of its size. Returns 0, or -1. */
int dt_flash_program(uint32_t at, const uint32_t *unit);

#endif
