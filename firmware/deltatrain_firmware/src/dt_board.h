/*
 * What a board must provide: its C files and those that it takes from boards/common. docs/ADDING_A_BOARD.md. Its name
 * and, as a rule, the counter's rate come from its board.toml. Its linker script, boards/common/sections.ld as a rule,
 * places `.bss.dt_arena`, `.bss.dt_link` and the stack, and defines the symbols of dt_memory.c.
 */
#ifndef DT_BOARD_H
#define DT_BOARD_H

#include <stdint.h>

#include "dt_server.h"

/* The target's name, as in board.toml. */
extern const char dt_board_name[];

/* Ticks per second of dt_board_ticks; known after dt_board_init. */
uint32_t dt_board_counter_hz(void);

/* Of a board with DT_CPU_HZ, whose ticks may be cycles of its processor: enum dt_counter, which they are. Likewise. */
uint16_t dt_board_counter(void);

/* Start clocks, the serial line and the counter. Called once, before the rest. */
void dt_board_init(void);

/* The next byte from the line; sleeps until there is one. */
uint8_t dt_board_read(void);

/* Send bytes[n]; returns when the last one is on its way. */
void dt_board_write(const uint8_t *bytes, uint32_t n);

/* Ticks since dt_board_init; never goes backwards. */
uint64_t dt_board_ticks(void);

/* The watchdog: while `working`, 1 or 0, a command is executed, which may take so long and no longer. */
void dt_board_watch(uint32_t working);

/* Why the device restarted: enum dt_fault; DT_FAULT_NONE after power-up. *address is the program counter there. */
uint16_t dt_board_fault(uint32_t *address);

/*
 * 32 bits that nobody outside can foresee, from the chip's random generator; called once, of firmware with a lock. A board
 * without one need not provide it: dt_board.c has a 0.
 */
uint32_t dt_board_entropy(void);

/* Of firmware with a lock: a time that an outsider can hardly meet again. dt_board.c has dt_board_ticks. */
uint64_t dt_board_moment(void);

#endif
