/*
 * The firmware of the baseline: a board's start-up, line and counter around float_naive.c. Sizes and initial parameters
 * come from the generated float_case.h and .c.
 */
#include "baseline_link.h"
#include "dt_board.h"
#include "dt_frame.h"
#include "dt_memory.h"
#include "float_case.h"
#include "float_naive.h"

#include <string.h>

/* All that the line needs. */
typedef struct {
    dt_decoder_t decoder;
    _Alignas(8) uint8_t request[DT_REQUEST_BYTES];
    _Alignas(8) uint8_t reply[DT_REPLY_BYTES];
} link_t;

static link_t link __attribute__((section(".bss.dt_link")));
static float memory[CASE_FLOATS] __attribute__((section(".bss.dt_arena"), aligned(8)));
static float inputs[CASE_MAX_STEPS * CASE_N_IN] __attribute__((section(".bss.dt_arena"), aligned(8)));
static float_net_t net;
static int fits;           /* the macros that sized memory count as float_naive_place does: else no command is taken */

static void write_line(void *context, const uint8_t *bytes, uint32_t n)
{
    (void)context;
    dt_board_write(bytes, n);
}

static int32_t take_input(const uint8_t *payload, uint32_t n)
{
    baseline_input_t head;
    if (n < sizeof head) {
        return DT_ERR_LENGTH;
    }
    memcpy(&head, payload, sizeof head);
    const uint32_t bytes = n - (uint32_t)sizeof head;
    const uint32_t room = (uint32_t)(sizeof inputs / sizeof inputs[0]);
    if (bytes % sizeof(float) != 0 || head.offset > room || bytes / sizeof(float) > room - head.offset) {
        return DT_ERR_LENGTH;
    }
    memcpy(&inputs[head.offset], payload + sizeof head, bytes);
    return 0;
}

/* One step from the initial parameters; the bytes of the answer. */
static int32_t train(const uint8_t *payload, uint32_t n, uint8_t *answer)
{
    baseline_train_t order;
    if (n != sizeof order) {
        return DT_ERR_LENGTH;
    }
    memcpy(&order, payload, sizeof order);
    if (order.steps < 1 || order.steps > CASE_MAX_STEPS || order.label >= CASE_N_OUTPUTS) {
        return DT_ERR_LENGTH;
    }
    memcpy(net.parameters, case_parameters, sizeof case_parameters);
    const uint64_t start = dt_board_ticks();
    const float loss =
        float_naive_train(&net, inputs, (int32_t)order.steps, (int32_t)order.label, order.rate, order.clip);
    const uint64_t ticks = dt_board_ticks() - start;
    dt_memory_t used;
    dt_memory(&used);
    const baseline_trained_t trained = {
        .ticks = ticks,
        .loss = loss,
        .stack_high_water = used.stack_high_water,
        .counter_hz = dt_board_counter_hz(),
#ifdef DT_CPU_HZ
        .counter = dt_board_counter(),
#endif
    };
    memcpy(answer, &trained, sizeof trained);
    return (int32_t)sizeof trained;
}

static int32_t read_parameters(const uint8_t *payload, uint32_t n, uint8_t *answer)
{
    baseline_read_t part;
    if (n != sizeof part) {
        return DT_ERR_LENGTH;
    }
    memcpy(&part, payload, sizeof part);
    const uint32_t total = CASE_PARAMETERS;
    if (part.offset > total || part.count > total - part.offset || part.count > DT_MAX_PAYLOAD / sizeof(float)) {
        return DT_ERR_REPLY_SIZE;
    }
    memcpy(answer, &net.parameters[part.offset], part.count * sizeof(float));
    return (int32_t)(part.count * sizeof(float));
}

/* A command's answer: its bytes, or a negative status. */
static int32_t execute(const dt_request_t *request, const uint8_t *payload, uint32_t n, uint8_t *answer)
{
    if (!fits) {
        return DT_ERR_BUFFER;
    }
    switch (request->command) {
    case BASELINE_INPUT:
        return take_input(payload, n);
    case BASELINE_TRAIN:
        return train(payload, n, answer);
    case BASELINE_READ:
        return read_parameters(payload, n, answer);
    default:
        return DT_ERR_COMMAND;
    }
}

static void answer_frame(int32_t n)
{
    dt_request_t request = {0};
    int32_t outcome = n;
    if (n > 0) {
        memcpy(&request, link.request, sizeof request);
        outcome = execute(&request, link.request + DT_HEADER_BYTES, (uint32_t)n - DT_HEADER_BYTES,
                          link.reply + DT_HEADER_BYTES);
    }
    const dt_reply_t head = {
        .command = (uint8_t)(request.command | DT_REPLY_FLAG),
        .sequence = request.sequence,
        .status = (int16_t)(outcome < 0 ? outcome : 0),
    };
    memcpy(link.reply, &head, sizeof head);
    dt_frame_send(link.reply, DT_HEADER_BYTES + (outcome < 0 ? 0u : (uint32_t)outcome), write_line, NULL);
}

int main(void)
{
    dt_board_init();
    net = (float_net_t){.n_layers = CASE_N_LAYERS, .n_outputs = CASE_N_OUTPUTS, .max_steps = CASE_MAX_STEPS,
                        .layers = CASE_LAYERS};
    fits = float_naive_place(&net, NULL) == CASE_FLOATS;
    if (fits) {
        float_naive_place(&net, memory);
    }
    dt_decoder_init(&link.decoder, link.request, sizeof link.request);
    for (;;) {
        uint32_t crc = 0;
        const int32_t n = dt_decoder_push(&link.decoder, dt_board_read(), &crc);
        if (n != 0) {
            answer_frame(n);
        }
    }
}
