#include "dt_memory.h"

/* Defined by every board's linker script. */
extern uint32_t dt_stack_start[], dt_stack_end[];
extern uint8_t dt_ram_start[], dt_ram_end[];
extern uint8_t dt_arena_start[], dt_arena_end[];
extern uint8_t dt_link_start[], dt_link_end[];

/* The linker's symbols are addresses; only as integers may those of different objects be subtracted. */
static uint32_t span(const void *start, const void *end)
{
    return (uint32_t)((uintptr_t)end - (uintptr_t)start);
}

void dt_memory(dt_memory_t *memory)
{
    memory->arena = span(dt_arena_start, dt_arena_end);
    memory->link = span(dt_link_start, dt_link_end);
    memory->stack = span(dt_stack_start, dt_stack_end);
    memory->other = span(dt_ram_start, dt_ram_end) - memory->arena - memory->link - memory->stack;
    const volatile uint32_t *word = dt_stack_start;
    while (word != dt_stack_end && *word == DT_STACK_PAINT) {
        word++;
    }
    memory->stack_high_water = span((const void *)(uintptr_t)word, dt_stack_end);
}
