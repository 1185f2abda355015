/* Who this board is: board.toml says it, and the build passes it on. */
#include "dt_board.h"

const char dt_board_name[] = DT_BOARD_NAME;

/* Of a board whose counter has one rate. */
__attribute__((weak)) uint32_t dt_board_counter_hz(void)
{
    return DT_COUNTER_HZ;
}

/* Of a board that has no source of it. */
__attribute__((weak)) uint32_t dt_board_entropy(void)
{
    return 0;
}

/* Of a board whose counter goes on while the processor sleeps. */
__attribute__((weak)) uint64_t dt_board_moment(void)
{
    return dt_board_ticks();
}
