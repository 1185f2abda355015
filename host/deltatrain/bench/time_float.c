/* Time of a training step of the float32 network on this computer; compiled together with float_naive.c. */
#include <string.h>

#include "bench_clock.h"
#include "float_naive.h"

/* Seconds that `repetitions` steps take, each from the parameters initial[n_parameters], which are put back untimed. */
double time_float(float_net_t *net, const float *initial, const float *x, int32_t steps, int32_t label, float rate,
                  float clip, int32_t repetitions)
{
    double total = 0.0;
    for (int32_t k = 0; k < repetitions; k++) {
        memcpy(net->parameters, initial, (size_t)net->n_parameters * sizeof(float));
        const double start = bench_clock();
        float_naive_train(net, x, steps, label, rate, clip);
        total += bench_clock() - start;
    }
    return total;
}
