/* The firmware's loop: a frame in, a command executed, a frame out. The model comes from `deltatrain export`. */
#include "dt_board.h"
#include "dt_frame.h"
#include "dt_memory.h"
#include "dt_model.h"
#include "dt_server.h"

#ifdef DT_LOCK
extern const uint8_t dt_key[DT_KEY_BYTES];  /* generated */
#endif

/* All that the link needs, in one place, so that the linker script can say how much RAM that is. */
typedef struct {
    dt_server_t server;
    dt_decoder_t decoder;
    _Alignas(8) uint8_t request[DT_REQUEST_BYTES];
} link_t;

static link_t link __attribute__((section(".bss.dt_link")));
static uint8_t arena[DT_ARENA_BYTES] __attribute__((section(".bss.dt_arena"), aligned(8)));

static void write_line(void *context, const uint8_t *bytes, uint32_t n)
{
    (void)context;
    dt_board_write(bytes, n);
}

int main(void)
{
    dt_board_init();
    dt_platform_t platform = {
        .board = dt_board_name,
        .counter_hz = dt_board_counter_hz(),
#ifdef DT_CPU_HZ
        .counter = dt_board_counter(),
#endif
        .ticks = dt_board_ticks,
        .memory = dt_memory,
    };
    platform.fault = dt_board_fault(&platform.fault_address);
#ifdef DT_LOCK
    platform.key = dt_key;
    platform.locks = DT_LOCK;
    platform.entropy = dt_board_entropy();
    platform.moment = dt_board_moment;
#endif
    /* An error is not lost: the server answers every hello with it. */
    (void)dt_server_init(&link.server, &platform, &dt_model, arena, sizeof arena);
    dt_decoder_init(&link.decoder, link.request, sizeof link.request);
    for (;;) {
        uint32_t crc = 0;
        const int32_t n = dt_decoder_push(&link.decoder, dt_board_read(), &crc);
        if (n == 0) {
            continue;
        }
        dt_board_watch(1);
        const dt_answer_t answer = n > 0 ? dt_server_handle(&link.server, link.request, (uint32_t)n, crc)
                                         : dt_server_damaged(&link.server, (int16_t)n);
        dt_frame_send(answer.bytes, answer.length, write_line, NULL);
        dt_board_watch(0);
    }
}
