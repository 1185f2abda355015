/*
 * From reset to main on a RISC-V in machine mode, and what happens at a trap: its cause is kept in RAM that the restart
 * does not clear, the device restarts, and the next hello tells. Every trap is a fault, for the one interrupt that is ever
 * taken is the watchdog: that of the machine timer, open while a command is executed.
 */
#include "dt_board.h"
#include "dt_protocol.h"
#include "dt_start.h"
#include "riscv.h"

#define FINISHER REG(DT_FINISHER_BASE)
#define FINISHER_RESET 0x7777u

#define COMPARE_LOWER REG(DT_TIMER_COMPARE_BASE)
#define COMPARE_UPPER REG(DT_TIMER_COMPARE_BASE + 4u)
#define MSTATUS_MIE 0x8u
#define CAUSE_TIMER 0x80000007u /* an interrupt, not an exception */

/* The first entry of the PMP: a power of two, for reading and executing alone, machine mode included, until reset. */
#define PMP_LOCKED_FLASH 0x9Du

enum cause {
    CAUSE_FETCH_ACCESS = 1,
    CAUSE_ILLEGAL = 2,
    CAUSE_BREAKPOINT = 3, /* what the compiler's trap is */
    CAUSE_LOAD_ALIGNMENT = 4,
    CAUSE_LOAD_ACCESS = 5,
    CAUSE_STORE_ALIGNMENT = 6,
    CAUSE_STORE_ACCESS = 7
};

int main(void);
void dt_reset(void);
void dt_trap(void);
void dt_start(void) __attribute__((used, noreturn));
void dt_record_fault(uintptr_t stack_pointer, uint32_t cause, uint32_t address) __attribute__((used, noreturn));

extern const uint8_t dt_flash_origin[], dt_flash_bytes[];

static dt_last_fault_t last_fault __attribute__((section(".bss.dt_noinit")));

static void restart(void) __attribute__((noreturn));
static void restart(void)
{
    FINISHER = FINISHER_RESET;
    for (;;) {
    }
}

static uint32_t kind_of(uint32_t cause)
{
    if (cause == CAUSE_TIMER) {
        return DT_FAULT_WATCHDOG;
    }
    switch (cause) {
    case CAUSE_FETCH_ACCESS:
    case CAUSE_LOAD_ACCESS:
    case CAUSE_STORE_ACCESS:
        return DT_FAULT_BUS;
    case CAUSE_ILLEGAL:
    case CAUSE_BREAKPOINT:
    case CAUSE_LOAD_ALIGNMENT:
    case CAUSE_STORE_ALIGNMENT:
        return DT_FAULT_USAGE;
    default:
        return DT_FAULT_OTHER;
    }
}

void dt_record_fault(uintptr_t stack_pointer, uint32_t cause, uint32_t address)
{
    /* A stack pointer outside the stack is itself the cause. */
    if (stack_pointer < (uintptr_t)dt_stack_start || stack_pointer > (uintptr_t)dt_stack_end) {
        dt_keep_fault(&last_fault, DT_FAULT_STACK, 0);
    } else {
        dt_keep_fault(&last_fault, kind_of(cause), address);
    }
    restart();
}

/* The stack may be what failed: start it anew before any C code runs. */
__attribute__((naked, aligned(4))) void dt_trap(void)
{
    __asm__ volatile(ZICSR
                     "mv a0, sp\n"
                     "csrr a1, mcause\n"
                     "csrr a2, mepc\n"
                     "la sp, dt_stack_end\n"
                     "j dt_record_fault\n");
}

/* Between commands the line's interrupt, which is never taken, ends the sleep; the timer's is taken within them. */
void dt_board_watch(uint32_t working)
{
    if (!working) {
        __asm__ volatile(ZICSR "csrc mstatus, %0\n csrw mie, %1" ::"r"(MSTATUS_MIE), "r"(MIE_EXTERNAL));
        return;
    }
    const uint64_t end = dt_board_ticks() + (uint64_t)DT_WATCHDOG_BEATS * DT_BEAT_TICKS;
    COMPARE_UPPER = UINT32_MAX; /* or half of the new time and half of the old one may be past */
    COMPARE_LOWER = (uint32_t)end;
    COMPARE_UPPER = (uint32_t)(end >> 32);
    __asm__ volatile(ZICSR "csrw mie, %1\n csrs mstatus, %0" ::"r"(MSTATUS_MIE), "r"(MIE_TIMER));
}

uint16_t dt_board_fault(uint32_t *address)
{
    return dt_take_fault(&last_fault, address);
}

/* What overflows the stack writes to flash, which stands below it. */
static void protect_flash(void)
{
    const uintptr_t range = ((uintptr_t)dt_flash_origin >> 2) | (((uintptr_t)dt_flash_bytes >> 3) - 1u);
    __asm__ volatile(ZICSR "csrw pmpaddr0, %0\n csrw pmpcfg0, %1" ::"r"(range), "r"(PMP_LOCKED_FLASH));
}

void dt_start(void)
{
    protect_flash();
    uint32_t *stack_pointer;
    __asm__ volatile("mv %0, sp" : "=r"(stack_pointer));
    dt_start_memory(stack_pointer);
    main();
    restart();
}

__attribute__((naked, section(".vectors"))) void dt_reset(void)
{
    __asm__ volatile(ZICSR
                     "la t0, dt_trap\n"
                     "csrw mtvec, t0\n"
                     "la sp, dt_stack_end\n"
                     "j dt_start\n");
}
