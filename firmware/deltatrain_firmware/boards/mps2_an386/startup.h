/* Interrupt handlers that the vector table of this board names. */
#ifndef STARTUP_H
#define STARTUP_H

#include "dt_board.h"

/* Timer 0 passed zero: carries into the upper half of dt_board_ticks. */
void dt_timer0_wrapped(void);

#endif
