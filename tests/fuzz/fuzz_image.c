/*
 * libFuzzer harness of model files: whatever is in one, it is refused, or the model runs and trains within its arena.
 * Layout of an input: the file, of which magic, versions, length and CRC are put right unless its first byte is odd.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drnn.h"
#include "drnn_image.h"

#define MOST_ARENA (1u << 20)
#define ALIGNMENT 8u
#define MOST_FRAMES 3u

#define REQUIRE(condition)                                                                                                \
    do {                                                                                                                  \
        if (!(condition)) {                                                                                               \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                      \
            abort();                                                                                                      \
        }                                                                                                                 \
    } while (0)

static void mend(uint8_t *file, size_t n)
{
    drnn_image_t head;
    memcpy(&head, file, sizeof head);
    head.magic = DRNN_IMAGE_MAGIC;
    head.version = DRNN_IMAGE_VERSION;
    head.abi_version = DRNN_ABI_VERSION;
    head.n_bytes = (uint32_t)n;
    memcpy(file, &head, sizeof head);
    head.crc = drnn_crc32(0, file + DRNN_IMAGE_CRC_START, n - DRNN_IMAGE_CRC_START);
    memcpy(file, &head, sizeof head);
}

/* A few frames and the end of the sample; how each call comes out is the model's affair. */
static void run(drnn_t *net)
{
    const drnn_model_t *model = net->model;
    int16_t *x = calloc(model->layers[0].n_in, sizeof *x);
    int32_t *values = calloc(model->n_outputs, sizeof *values);
    drnn_result_t result;
    x[0] = DRNN_V_MAX;
    REQUIRE(drnn_begin(net) == 0);
    for (uint32_t t = 0; t < MOST_FRAMES && drnn_push(net, x) >= 0; t++) {
        (void)drnn_target_class(net, 0);
        (void)drnn_target_values(net, values);
        x[0] = (int16_t)-x[0];
    }
    (void)drnn_infer(net, &result);
    (void)drnn_train(net, 0, &result);
    (void)drnn_learn(net, &result);
    (void)drnn_replay(net, &result);
    free(x);
    free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    uint8_t *file = aligned_alloc(ALIGNMENT, (n + ALIGNMENT - 1u) / ALIGNMENT * ALIGNMENT + ALIGNMENT);
    memcpy(file, bytes, n);
    if (n >= sizeof(drnn_image_t) && bytes[0] % 2u == 0) {
        mend(file, n);
    }
    drnn_model_t model;
    drnn_layer_t layers[DRNN_MAX_LAYERS];
    drnn_replay_t replay;
    const int outcome = drnn_image_model(file, n, &model, layers, &replay);
    REQUIRE(outcome <= 0);
    const size_t arena_bytes = outcome == 0 ? drnn_arena_size(&model) : 0;
    if (arena_bytes != 0 && arena_bytes <= MOST_ARENA) {
        uint8_t *arena = aligned_alloc(ALIGNMENT, arena_bytes);
        drnn_t net;
        if (drnn_init(&net, &model, arena, arena_bytes) == 0) {
            run(&net);
        }
        free(arena);
    }
    free(file);
    return 0;
}
