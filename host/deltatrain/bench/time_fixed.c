/* Time of a training step of the C core on this computer; compiled together with its sources. */
#include "bench_clock.h"
#include "drnn.h"

/*
 * Seconds that `repetitions` steps on x [steps][n_in] take, each from the model's own weights, which are put back
 * untimed. Negative if the core refuses a call. *result is the last step's.
 */
double time_fixed(drnn_t *net, const int16_t *x, int32_t steps, int32_t n_in, int32_t label, int32_t repetitions,
                  drnn_result_t *result)
{
    double total = 0.0;
    for (int32_t k = 0; k < repetitions; k++) {
        int refused = drnn_reset_weights(net) < 0;
        const double start = bench_clock();
        refused |= drnn_begin(net) < 0;
        for (int32_t t = 0; t < steps; t++) {
            refused |= drnn_push(net, &x[t * n_in]) < 0;
        }
        refused |= drnn_train(net, (uint16_t)label, result) < 0;
        total += bench_clock() - start;
        if (refused) {
            return -1.0;
        }
    }
    return total;
}
