/* Who this board is: board.toml says it, and the build passes it on. */
#include "dt_board.h"

const char dt_board_name[] = DT_BOARD_NAME;
const uint32_t dt_board_counter_hz = DT_COUNTER_HZ;

#ifdef DT_LOCK
__attribute__((weak)) uint32_t dt_board_entropy(void)
{
    return 0;
}
#endif
