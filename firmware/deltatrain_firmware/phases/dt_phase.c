#include "dt_phase.h"

#include "dt_board.h"

uint32_t dt_phase_ticks[DT_N_PHASES];
static uint32_t since;
static enum dt_phase now;

void dt_phase(enum dt_phase phase)
{
    const uint32_t ticks = (uint32_t)dt_board_ticks();
    dt_phase_ticks[now] += ticks - since;
    since = ticks;
    now = phase;
}
