/*
 * Ticks of a board with a cycle counter on this PC, above a DWT as the ARMv7-M manual has it: it counts when DEMCR and
 * its own control register say so, keeps what it was, and begins anew after 2^32. Each look takes a few cycles.
 * Prints nothing and returns 0, or says what went wrong.
 */
#include <stdint.h>

/* In place of boards/common/cortex_m.h. */
#define CORTEX_M_H
#define REG(address) (*settle(address))
static volatile uint32_t *settle(uint32_t address);

#include "dwt.c"
#include "check.h"

#define TIMER_HZ 16000000u
#define CYCLES_A_LOOK 4u

static uint32_t demcr, control, cyccnt, timer;
static int is_absent;
static uint32_t n_looks;

static int counting(void)
{
    return !is_absent && (demcr & 0x01000000u) != 0 && (control & 1u) != 0;
}

static void pass(uint32_t cycles)
{
    timer += cycles / 4u;
    cyccnt += counting() ? cycles : 0;
}

static volatile uint32_t *settle(uint32_t address)
{
    static volatile uint32_t nothing;
    pass(CYCLES_A_LOOK);
    n_looks++;
    nothing = 0;
    switch (address) {
    case 0xE000EDFCu:
        return is_absent ? &nothing : &demcr;
    case 0xE0001000u:
        return is_absent ? &nothing : &control;
    case 0xE0001004u:
        return is_absent ? &nothing : &cyccnt;
    default:
        CHECK(!"a register of the counter");
        return &nothing;
    }
}

uint32_t dt_timer32(void)
{
    return timer;
}

uint32_t dt_timer_hz(void)
{
    return TIMER_HZ;
}

/* From power-up, or as a restart leaves it. */
static void start(int absent)
{
    is_absent = absent;
    counts = n_looks = 0;
    dt_cycles_start();
    CHECK(n_looks < 100);
    (void)dt_board_ticks();
}

/* What ticks say of so many cycles, but the looks at both ends. */
static uint64_t measured(uint32_t cycles)
{
    const uint64_t before = dt_board_ticks();
    pass(cycles);
    return dt_board_ticks() - before;
}

static int near(uint64_t ticks, uint64_t expected)
{
    return ticks >= expected && ticks <= expected + 10u * CYCLES_A_LOOK;
}

int main(void)
{
    /* It counts, whatever it stands at. */
    const uint32_t begins[] = {0, 1234567u, 0xFFFFFFF0u, 0xFFFFFFFFu};
    for (unsigned i = 0; i < 4; i++) {
        demcr = control = 0;
        cyccnt = begins[i];
        start(0);
        CHECK(dt_board_counter() == DT_COUNTER_CYCLES && dt_board_counter_hz() == DT_CPU_HZ);
        CHECK(near(measured(1000), 1000));
    }
    start(0); /* a restart, which leaves it running */
    CHECK(dt_board_counter() == DT_COUNTER_CYCLES);

    /* Once around within a call, as far as the watchdog lets one go, from anywhere. */
    const uint32_t lengths[] = {0, 5, 0x80000000u, 0xFFFFFF00u};
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned j = 0; j < 4; j++) {
            cyccnt = begins[i];
            CHECK(near(measured(lengths[j]), lengths[j]));
        }
    }
    /* Many times around, looked at in between. */
    const uint64_t began = dt_board_ticks();
    for (unsigned i = 0; i < 10; i++) {
        pass(0x70000000u);
        (void)dt_board_ticks();
    }
    CHECK(dt_board_ticks() - began - 10u * 0x70000000ull < 1000);
    /* More than once around between two commands: ticks do not go backwards. */
    const uint64_t asked = dt_board_ticks();
    pass(0xFFFFFFFFu);
    pass(0xFFFFFFF0u);
    CHECK(dt_board_ticks() >= asked);

    /* A debugger that leaves switches it off: it goes on with the next look. */
    demcr = 0;
    CHECK(near(measured(1000), 1000));
    demcr = control = 0;
    CHECK(near(measured(1000), 1000));

    /* While the processor sleeps, moments differ all the same. */
    const uint64_t moment = dt_board_moment();
    timer += 7;
    CHECK(moment >> 32 != dt_board_moment() >> 32);

    /* Where there is none, the timer counts, to 64 bits too. */
    demcr = control = cyccnt = 0;
    start(1);
    CHECK(dt_board_counter() == DT_COUNTER_TIMER && dt_board_counter_hz() == TIMER_HZ);
    CHECK(measured(4000) == 1000);
    timer = 0xFFFFFFF0u;
    const uint64_t wraps = dt_board_ticks() >> 32;
    CHECK(measured(4000) == 1000 && dt_board_ticks() >> 32 == wraps + 1u);
    return 0;
}
