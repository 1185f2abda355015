/* Time of a training step of the float32 network on this computer; compiled together with float_naive.c. */
#include <string.h>

#include "bench_clock.h"
#include "float_naive.h"

/*
 * Numbers too small for a normal float32 count as 0 meanwhile, as in any program linked with -ffast-math: gradients of
 * early frames are such, and cost a hundredfold otherwise.
 */
#ifdef __SSE__
#define FLUSH_TO_ZERO 0x8040u

static unsigned int flush_to_zero(void)
{
    const unsigned int before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | FLUSH_TO_ZERO);
    return before;
}

static void put_back(unsigned int before)
{
    __builtin_ia32_ldmxcsr(before);
}
#else
static unsigned int flush_to_zero(void)
{
    return 0;
}

static void put_back(unsigned int before)
{
    (void)before;
}
#endif

/* Seconds that `repetitions` steps take, each from the parameters initial[n_parameters], which are put back untimed. */
double time_float(float_net_t *net, const float *initial, const float *x, int32_t steps, int32_t label, float rate,
                  float clip, int32_t repetitions)
{
    double total = 0.0;
    const unsigned int before = flush_to_zero();
    for (int32_t k = 0; k < repetitions; k++) {
        memcpy(net->parameters, initial, (size_t)net->n_parameters * sizeof(float));
        const double start = bench_clock();
        float_naive_train(net, x, steps, label, rate, clip);
        total += bench_clock() - start;
    }
    put_back(before);
    return total;
}
