/* What counter32.c asks of a board's drivers, and where a board has a cycle counter, dwt.c. */
#ifndef COUNTER32_H
#define COUNTER32_H

#include <stdint.h>

/* Brought by the board's drivers: a timer as it stands, 32 bits, upwards, that begins anew after the last. */
uint32_t dt_timer32(void);

/* Likewise, for dwt.c alone: ticks per second of that timer. */
uint32_t dt_timer_hz(void);

/* What is counted by: that timer, or of a board with dwt.c the processor's cycles where they count. */
uint32_t dt_counter32(void);

/* Brought by dwt.c; called by the drivers once the timer runs: start the cycle counter, and look whether it counts. */
void dt_cycles_start(void);

#endif
