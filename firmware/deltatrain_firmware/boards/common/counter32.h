/* What counter32.c asks of a board's drivers. */
#ifndef COUNTER32_H
#define COUNTER32_H

#include <stdint.h>

/* The counter as it stands: 32 bits, upwards, that begin anew after the last. */
uint32_t dt_counter32(void);

#endif
