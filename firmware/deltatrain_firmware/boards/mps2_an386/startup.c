/*
 * From reset to main on a Cortex-M with FPU, and what happens when the processor faults: the cause is kept in RAM that
 * the restart does not clear, the device restarts, and the next hello tells.
 */
#include "startup.h"

#include "dt_memory.h"
#include "dt_protocol.h"

#define REG(address) (*(volatile uint32_t *)(address))
#define SCB_AIRCR REG(0xE000ED0Cu)
#define SCB_SHCSR REG(0xE000ED24u)
#define SCB_CPACR REG(0xE000ED88u)

#define MPU_CTRL REG(0xE000ED94u)
#define MPU_RNR REG(0xE000ED98u)
#define MPU_RBAR REG(0xE000ED9Cu)
#define MPU_RASR REG(0xE000EDA0u)

#define AIRCR_RESET 0x05FA0004u          /* the key, and SYSRESETREQ */
#define SHCSR_ENABLE_FAULTS 0x00070000u  /* memory management, bus and usage faults apart from the hard fault */
#define CPACR_FPU 0x00F00000u            /* full access to coprocessors 10 and 11 */

/* Below the stack this board has reserved addresses that swallow writes: 256 MiB there are made to fault. */
#define GUARD_BASE 0x10000000u
#define RASR_NO_ACCESS_256_MIB (1u << 28 | 27u << 1 | 1u)
#define MPU_ENABLE_WITH_DEFAULT_MAP 0x5u

#define FAULT_KEPT 0x464C5421u
#define FRAME_BYTES 32u                  /* r0-r3, r12, lr, pc, xpsr, as the processor stacks them */
#define FRAME_PC 6u

#define EXCEPTION_HARD 3u
#define EXCEPTION_MEMORY 4u
#define EXCEPTION_BUS 5u
#define EXCEPTION_USAGE 6u

int main(void);
void dt_reset(void);
void dt_fault(void);
void dt_record_fault(const uint32_t *frame, uint32_t exception) __attribute__((used, noreturn));

extern uint32_t dt_stack_start[], dt_stack_end[];
extern uint32_t dt_data_start[], dt_data_end[], dt_zero_start[], dt_zero_end[];
extern const uint32_t dt_data_load[];

static struct {
    uint32_t kept;             /* FAULT_KEPT when the rest is meant */
    uint32_t kind;
    uint32_t address;
} last_fault __attribute__((section(".bss.dt_noinit")));

static void restart(void) __attribute__((noreturn));
static void restart(void)
{
    __asm__ volatile("dsb" ::: "memory");
    SCB_AIRCR = AIRCR_RESET;
    for (;;) {
    }
}

static uint32_t kind_of(uint32_t exception)
{
    switch (exception) {
    case EXCEPTION_HARD:
        return DT_FAULT_HARD;
    case EXCEPTION_MEMORY:
        return DT_FAULT_MEMORY;
    case EXCEPTION_BUS:
        return DT_FAULT_BUS;
    case EXCEPTION_USAGE:
        return DT_FAULT_USAGE;
    default:
        return DT_FAULT_OTHER;
    }
}

void dt_record_fault(const uint32_t *frame, uint32_t exception)
{
    /* A stack pointer outside the stack is itself the cause, and what it points to is not a frame. */
    const uintptr_t at = (uintptr_t)frame;
    const int inside = at >= (uintptr_t)dt_stack_start && at + FRAME_BYTES <= (uintptr_t)dt_stack_end;
    last_fault.kept = FAULT_KEPT;
    last_fault.kind = inside ? kind_of(exception) : DT_FAULT_STACK;
    last_fault.address = inside ? frame[FRAME_PC] : 0;
    restart();
}

/* The stack may be what failed: start it anew before any C code runs. */
__attribute__((naked)) void dt_fault(void)
{
    __asm__ volatile("mov r0, sp\n"
                     "mrs r1, ipsr\n"
                     "ldr r2, =dt_stack_end\n"
                     "mov sp, r2\n"
                     "b dt_record_fault\n");
}

uint16_t dt_board_fault(uint32_t *address)
{
    const int kept = last_fault.kept == FAULT_KEPT;
    const uint16_t kind = kept ? (uint16_t)last_fault.kind : (uint16_t)DT_FAULT_NONE;
    *address = kept ? last_fault.address : 0;
    last_fault.kept = 0;
    return kind;
}

static void guard_stack(void)
{
    MPU_RNR = 0;
    MPU_RBAR = GUARD_BASE;
    MPU_RASR = RASR_NO_ACCESS_256_MIB;
    MPU_CTRL = MPU_ENABLE_WITH_DEFAULT_MAP;
}

/* Without a stack frame of its own: it paints the whole stack but the words in use. */
static void paint_stack(void)
{
    uint32_t *stack_pointer;
    __asm__ volatile("mov %0, sp" : "=r"(stack_pointer));
    for (volatile uint32_t *word = dt_stack_start; word < stack_pointer; word++) {
        *word = DT_STACK_PAINT;
    }
}

void dt_reset(void)
{
    SCB_CPACR |= CPACR_FPU;
    SCB_SHCSR |= SHCSR_ENABLE_FAULTS;
    guard_stack();
    __asm__ volatile("dsb\n isb" ::: "memory");
    paint_stack();
    const volatile uint32_t *from = dt_data_load;
    for (volatile uint32_t *word = dt_data_start; word < dt_data_end; word++) {
        *word = *from++;
    }
    for (volatile uint32_t *word = dt_zero_start; word < dt_zero_end; word++) {
        *word = 0;
    }
    main();
    restart();
}

typedef union {
    uint32_t *stack_pointer;
    void (*handler)(void);
} vector_t;

static const vector_t vectors[16 + 32] __attribute__((section(".vectors"), used)) = {
    {.stack_pointer = dt_stack_end},
    {.handler = dt_reset},
    {.handler = dt_fault},  /* NMI */
    {.handler = dt_fault},  /* hard fault */
    {.handler = dt_fault},  /* memory management */
    {.handler = dt_fault},  /* bus fault */
    {.handler = dt_fault},  /* usage fault */
    {.handler = dt_fault}, {.handler = dt_fault}, {.handler = dt_fault}, {.handler = dt_fault},
    {.handler = dt_fault},  /* SVCall */
    {.handler = dt_fault}, {.handler = dt_fault},
    {.handler = dt_fault},  /* PendSV */
    {.handler = dt_fault},  /* SysTick */
    {.handler = dt_fault},  /* 0: UART 0 receive, which wakes the processor but is never taken */
    {.handler = dt_fault}, {.handler = dt_fault}, {.handler = dt_fault}, {.handler = dt_fault}, {.handler = dt_fault},
    {.handler = dt_fault}, {.handler = dt_fault},
    {.handler = dt_timer0_wrapped},  /* 8: timer 0 */
    {.handler = dt_fault}, {.handler = dt_fault}, {.handler = dt_fault}, {.handler = dt_fault}, {.handler = dt_fault},
    {.handler = dt_fault}, {.handler = dt_fault}, {.handler = dt_fault}, {.handler = dt_fault}, {.handler = dt_fault},
    {.handler = dt_fault}, {.handler = dt_fault}, {.handler = dt_fault}, {.handler = dt_fault}, {.handler = dt_fault},
    {.handler = dt_fault}, {.handler = dt_fault}, {.handler = dt_fault}, {.handler = dt_fault}, {.handler = dt_fault},
    {.handler = dt_fault}, {.handler = dt_fault}, {.handler = dt_fault},
};
