/*
 * What every start-up does before main, whatever the processor. In C that reads no variable before it is filled; the
 * stack is painted first, by a function that must be inlined: it paints all but the words in use.
 */
#ifndef DT_START_H
#define DT_START_H

#include <stdint.h>

#include "dt_memory.h"

extern uint32_t dt_stack_start[], dt_stack_end[];
extern uint32_t dt_data_start[], dt_data_end[], dt_zero_start[], dt_zero_end[];
extern const uint32_t dt_data_load[];

/*
 * The watchdog beats every 2^24 ticks of what counts its time, and ends a command that lasts for so many: 268 s at 16 MHz,
 * 67 s at 64 MHz.
 */
#define DT_BEAT_TICKS 0x1000000u
#ifndef DT_WATCHDOG_BEATS
#define DT_WATCHDOG_BEATS 256u
#endif

#define DT_FAULT_KEPT 0x464C5421u

/* A fault, in RAM that the restart does not clear. */
typedef struct {
    uint32_t kept;             /* DT_FAULT_KEPT when the rest is meant */
    uint32_t kind;             /* enum dt_fault */
    uint32_t address;
} dt_last_fault_t;

static inline __attribute__((always_inline)) void dt_start_memory(uint32_t *stack_pointer)
{
    for (volatile uint32_t *word = dt_stack_start; word < stack_pointer; word++) {
        *word = DT_STACK_PAINT;
    }
    const volatile uint32_t *from = dt_data_load;
    for (volatile uint32_t *word = dt_data_start; word < dt_data_end; word++) {
        *word = *from++;
    }
    for (volatile uint32_t *word = dt_zero_start; word < dt_zero_end; word++) {
        *word = 0;
    }
}

static inline void dt_keep_fault(dt_last_fault_t *fault, uint32_t kind, uint32_t address)
{
    fault->kept = DT_FAULT_KEPT;
    fault->kind = kind;
    fault->address = address;
}

/* What dt_board_fault tells; it is told once. */
static inline uint16_t dt_take_fault(dt_last_fault_t *fault, uint32_t *address)
{
    const int kept = fault->kept == DT_FAULT_KEPT;
    const uint16_t kind = kept ? (uint16_t)fault->kind : (uint16_t)DT_FAULT_NONE;
    *address = kept ? fault->address : 0;
    fault->kept = 0;
    return kind;
}

#endif
