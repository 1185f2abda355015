/* Who this board is: board.toml says it, and the build passes it on. */
#include "dt_board.h"

const char dt_board_name[] = DT_BOARD_NAME;

#ifndef DT_QEMU_COUNTER_HZ /* where there is another rate, the board's drivers tell which of the two it is */
uint32_t dt_board_counter_hz(void)
{
    return DT_COUNTER_HZ;
}
#endif

/* Of a board that has no source of it. */
__attribute__((weak)) uint32_t dt_board_entropy(void)
{
    return 0;
}
