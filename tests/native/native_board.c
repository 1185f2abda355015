/*
 * A "board" that is this PC: the firmware's own loop and server behind a TCP socket, built with sanitizers. The
 * listening socket is inherited; its number stands in DT_LISTENER. One connection at a time; state outlives each.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dt_board.h"
#include "dt_memory.h"

const char dt_board_name[] = "native";

static int listener, connection = -1;
static uint64_t ticks;

uint32_t dt_board_counter_hz(void)
{
    return 1000000;
}

void dt_board_init(void)
{
    listener = atoi(getenv("DT_LISTENER"));
}

uint8_t dt_board_read(void)
{
    uint8_t byte;
    for (;;) {
        if (connection < 0) {
            connection = accept(listener, NULL, NULL);
            if (connection < 0) {
                exit(1);
            }
        }
        if (read(connection, &byte, 1) == 1) {
            return byte;
        }
        close(connection);
        connection = -1;
    }
}

void dt_board_write(const uint8_t *bytes, uint32_t n)
{
    while (n != 0) {
        const ssize_t sent = send(connection, bytes, n, MSG_NOSIGNAL);
        if (sent <= 0) {
            return;  /* the host is gone: what it does not read is lost, as on a wire */
        }
        bytes += sent;
        n -= (uint32_t)sent;
    }
}

/* One tick a call: what is measured is then the number of measured calls. */
void dt_board_watch(uint32_t working)
{
    (void)working;
}

uint64_t dt_board_ticks(void)
{
    return ++ticks;
}

uint64_t dt_board_moment(void)
{
    return dt_board_ticks();
}

uint16_t dt_board_fault(uint32_t *address)
{
    *address = 0;
    return DT_FAULT_NONE;
}

uint32_t dt_board_entropy(void)
{
    return 4711;
}

void dt_memory(dt_memory_t *memory)
{
    *memory = (dt_memory_t){.arena = 1, .link = 2, .stack = 3, .other = 4, .stack_high_water = 2};
}
