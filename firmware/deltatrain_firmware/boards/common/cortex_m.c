/*
 * From reset to main on any Cortex-M, and what happens when the processor faults: the cause is kept in RAM that the
 * restart does not clear, the device restarts, and the next hello tells.
 *
 * The stack's end is guarded by what the processor has: on ARMv8-M a limit of the stack pointer; on ARMv7-M the MPU, which
 * makes DT_GUARD_BASE .. + 2^DT_GUARD_BITS fault. ARMv6-M has neither: what lies below RAM must fault by itself there, and
 * a fault whose frame cannot be stacked locks the processor up, which a real chip answers with a reset that tells nothing.
 *
 * The watchdog is SysTick, which beats every 2^24 cycles of the processor: a command may take DT_WATCHDOG_BEATS of these.
 * The last one keeps where the command was and restarts. Each beat feeds the chip's own watchdog, where a board names one
 * (DT_WATCHDOG_FEED, DT_WATCHDOG_KEY): that one bites when not even interrupts are served any more.
 */
#include "cortex_m.h"

#include "dt_board.h"
#include "dt_protocol.h"
#include "dt_start.h"

#define SYST_CSR REG(0xE000E010u)
#define SYST_RVR REG(0xE000E014u)
#define SYST_CVR REG(0xE000E018u)

#define SCB_AIRCR REG(0xE000ED0Cu)
#define SCB_SHCSR REG(0xE000ED24u)
#define SCB_CFSR REG(0xE000ED28u)
#define SCB_CPACR REG(0xE000ED88u)

#define MPU_CTRL REG(0xE000ED94u)
#define MPU_RNR REG(0xE000ED98u)
#define MPU_RBAR REG(0xE000ED9Cu)
#define MPU_RASR REG(0xE000EDA0u)

#define NVIC_ENABLE(irq) REG(0xE000E100u + 4u * ((irq) / 32u))
#define NVIC_DISABLE(irq) REG(0xE000E180u + 4u * ((irq) / 32u))
#define NVIC_UNPEND(irq) REG(0xE000E280u + 4u * ((irq) / 32u))
#define NVIC_BIT(irq) (1u << ((irq) % 32u))

#define SYST_ON 0x7u                     /* by the processor's clock, with its exception */
#define SYST_LONGEST (DT_BEAT_TICKS - 1u)

#define AIRCR_RESET 0x05FA0004u          /* the key, and SYSRESETREQ */
#define SHCSR_ENABLE_FAULTS 0x00070000u  /* memory management, bus and usage faults apart from the hard fault */
#define CPACR_FPU 0x00F00000u            /* full access to coprocessors 10 and 11: the FPU, and MVE */
#define CFSR_STACK_LIMIT 0x00100000u     /* ARMv8-M: the stack pointer reached its limit */
#define RASR_NO_ACCESS 0x10000001u
#define MPU_ENABLE_WITH_DEFAULT_MAP 0x5u

/* The last instruction of a function in assembly. */
#if __ARM_ARCH >= 7
#define GO_ON_IN(function) "b " #function "\n"
#else /* whose branches reach less far */
#define GO_ON_IN(function) "ldr r2, =" #function "\n bx r2\n"
#endif

#define FRAME_BYTES 32u                  /* r0-r3, r12, lr, pc, xpsr, as the processor stacks them */
#define FRAME_PC 6u

#define EXCEPTION_HARD 3u
#define EXCEPTION_MEMORY 4u
#define EXCEPTION_BUS 5u
#define EXCEPTION_USAGE 6u
#define EXCEPTION_SYSTICK 15
#define N_EXCEPTIONS 16

int main(void);
void dt_reset(void);
void dt_fault(void);
void dt_interrupt(void);
void dt_record_fault(const uint32_t *frame, uint32_t exception) __attribute__((used, noreturn));
void dt_beat(void);
void dt_count_beat(const uint32_t *frame) __attribute__((used));

static dt_last_fault_t last_fault __attribute__((section(".bss.dt_noinit")));
static volatile uint32_t beats_left; /* 0: as many as there may be */

/* Keep why, and restart. Not inline: flash is dear. */
static void fail(uint32_t kind, uint32_t address) __attribute__((noreturn, noinline));
static void fail(uint32_t kind, uint32_t address)
{
    dt_keep_fault(&last_fault, kind, address);
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

/* A stack pointer outside the stack is itself the cause, and what it points to is not a frame. */
static int stack_overflowed(const uint32_t *frame)
{
#if __ARM_ARCH >= 8
    if ((SCB_CFSR & CFSR_STACK_LIMIT) != 0) {
        return 1;
    }
#endif
    const uintptr_t at = (uintptr_t)frame;
    return at < (uintptr_t)dt_stack_start || at + FRAME_BYTES > (uintptr_t)dt_stack_end;
}

void dt_record_fault(const uint32_t *frame, uint32_t exception)
{
    if (stack_overflowed(frame)) {
        fail(DT_FAULT_STACK, 0);
    }
    fail(kind_of(exception), frame[FRAME_PC]);
}

/* The stack may be what failed: start it anew before any C code runs. */
__attribute__((naked)) void dt_fault(void)
{
    __asm__ volatile("mov r0, sp\n"
                     "mrs r1, ipsr\n"
                     "ldr r2, =dt_stack_end\n"
                     "mov sp, r2\n" GO_ON_IN(dt_record_fault));
}

void dt_interrupt(void)
{
    uint32_t exception;
    __asm__ volatile("mrs %0, ipsr" : "=r"(exception));
    if (!dt_board_interrupt(exception - N_EXCEPTIONS)) {
        fail(DT_FAULT_OTHER, 0);
    }
}

void dt_count_beat(const uint32_t *frame)
{
#ifdef DT_WATCHDOG_FEED
    REG(DT_WATCHDOG_FEED) = DT_WATCHDOG_KEY;
#endif
    if (--beats_left == 0) {
        fail(DT_FAULT_WATCHDOG, frame[FRAME_PC]);
    }
}

/* Where the exception's frame begins is known only here; the function returns to where the exception came from. */
__attribute__((naked)) void dt_beat(void)
{
    __asm__ volatile("mov r0, sp\n" GO_ON_IN(dt_count_beat));
}

void dt_board_watch(uint32_t working)
{
    beats_left = working * DT_WATCHDOG_BEATS;
    SYST_CVR = 0; /* whatever is written: the next beat comes a whole one later */
    SYST_CSR = SYST_ON;
}

void dt_tell_watchdog(void)
{
    if (last_fault.kept != DT_FAULT_KEPT) {
        dt_keep_fault(&last_fault, DT_FAULT_WATCHDOG, 0);
    }
}

uint16_t dt_board_fault(uint32_t *address)
{
    return dt_take_fault(&last_fault, address);
}

void dt_interrupt_enable(uint32_t irq)
{
    NVIC_ENABLE(irq) = NVIC_BIT(irq);
}

/* With interrupts masked, a pending one still ends the sleep: nothing can slip in between the look and the wait. */
void dt_sleep(uint32_t irq, int (*ready)(void))
{
    __asm__ volatile("cpsid i" ::: "memory");
    NVIC_UNPEND(irq) = NVIC_BIT(irq);
    NVIC_ENABLE(irq) = NVIC_BIT(irq);
    if (!ready()) {
        __asm__ volatile("dsb\n wfi" ::: "memory");
    }
    NVIC_DISABLE(irq) = NVIC_BIT(irq);
    __asm__ volatile("cpsie i\n isb" ::: "memory");
}

static void prepare_processor(void)
{
    SYST_RVR = SYST_LONGEST;
#if __ARM_ARCH >= 7
    SCB_SHCSR |= SHCSR_ENABLE_FAULTS;
#endif
#ifdef __ARM_FP
    SCB_CPACR |= CPACR_FPU;
#endif
#if __ARM_ARCH >= 8
    __asm__ volatile("msr msplim, %0" ::"r"(dt_stack_start));
#elif __ARM_ARCH == 7
    MPU_RNR = 0;
    MPU_RBAR = DT_GUARD_BASE;
    MPU_RASR = RASR_NO_ACCESS | (DT_GUARD_BITS - 1u) << 1;
    MPU_CTRL = MPU_ENABLE_WITH_DEFAULT_MAP;
#endif
    __asm__ volatile("dsb\n isb" ::: "memory");
}

void dt_reset(void)
{
    prepare_processor();
    uint32_t *stack_pointer;
    __asm__ volatile("mov %0, sp" : "=r"(stack_pointer));
    dt_start_memory(stack_pointer);
    main();
    fail(DT_FAULT_OTHER, 0);
}

typedef union {
    uint32_t *stack_pointer;
    void (*handler)(void);
} vector_t;

static const vector_t vectors[N_EXCEPTIONS + DT_N_IRQ] __attribute__((section(".vectors"), used)) = {
    [0] = {.stack_pointer = dt_stack_end},
    [1] = {.handler = dt_reset},
    [2 ... EXCEPTION_SYSTICK - 1] = {.handler = dt_fault},
    [EXCEPTION_SYSTICK] = {.handler = dt_beat},
    [N_EXCEPTIONS ... N_EXCEPTIONS + DT_N_IRQ - 1] = {.handler = dt_interrupt},
};
