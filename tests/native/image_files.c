/*
 * Reads model files from standard input, each behind its length (uint32), and uses each as far as the library allows: for
 * sanitizers to watch. Each lies in memory of exactly its own size. Prints how many were refused, and how many trained.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drnn.h"
#include "drnn_image.h"

#define MOST_ARENA_BYTES 10000000u /* what a changed dimension may ask for */

static int use(const drnn_model_t *model)
{
    static int16_t frame[DRNN_MAX_WIDTH];
    static int32_t values[DRNN_MAX_OUTPUTS];
    const size_t size = drnn_arena_size(model);
    drnn_t net;
    drnn_result_t result;
    if (size == 0 || size > MOST_ARENA_BYTES) {
        return 0;
    }
    void *arena = malloc(size);
    const int outcome = drnn_init(&net, model, arena, size);
    if (outcome == DRNN_OK) {
        for (int j = 0; j < DRNN_MAX_WIDTH; ++j) {
            frame[j] = (int16_t)(9000 - 17 * j);
        }
        drnn_begin(&net);
        for (int t = 0; t < 3 && drnn_push(&net, frame) > 0; ++t) {
            drnn_target_class(&net, 0);
            drnn_target_values(&net, values);
        }
        drnn_infer(&net, &result);
        drnn_train(&net, 1, &result);
        drnn_learn(&net, &result);
        drnn_replay(&net, &result);
    }
    free(arena);
    return outcome == DRNN_OK;
}

int main(void)
{
    uint32_t n;
    int n_refused = 0;
    int n_used = 0;
    while (fread(&n, sizeof n, 1, stdin) == 1) {
        drnn_model_t model;
        drnn_layer_t layers[DRNN_MAX_LAYERS];
        drnn_replay_t replay;
        void *bytes = malloc(n);
        if (fread(bytes, 1, n, stdin) != n) {
            return 1;
        }
        if (drnn_image_model(bytes, n, &model, layers, &replay) != DRNN_OK) {
            ++n_refused;
        } else {
            n_used += use(&model);
        }
        free(bytes);
    }
    printf("%d refused, %d used\n", n_refused, n_used);
    return 0;
}
