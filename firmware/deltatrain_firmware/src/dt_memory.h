/* RAM by purpose, and how deep the stack has been. */
#ifndef DT_MEMORY_H
#define DT_MEMORY_H

#include "dt_server.h"

/* Start-up code fills the stack with this word, so that what was never used still holds it. */
#define DT_STACK_PAINT 0xA5C3A5C3u

/* Sizes from the linker script's symbols; the high-water mark from the paint. */
void dt_memory(dt_memory_t *memory);

#endif
