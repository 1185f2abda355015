/*
 * One delta LSTM layer and a softmax readout at the last frame, trained by batch-1 SGD in float64: the equations of
 * deltatrain.reference for this one case, compiled because a study takes a million steps. tests/test_parity.py holds it
 * to the reference.
 *
 * Arrays are the caller's. Gates stand in the order i, f, g, o; n = n_in + n_hidden, G = 4 n_hidden.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    int32_t n_in, n_hidden, n_classes;
    double theta_x, theta_h;
    double *weight;         /* [n][G]: column j multiplies v_j = [x ; h]_j */
    double *bias;           /* [G] */
    double *readout_weight; /* [n_classes][n_hidden] */
    double *readout_bias;   /* [n_classes] */
    /* scratch, for samples of at most max_steps frames */
    double *delta;          /* [max_steps][n]: 0 where inactive */
    double *gates;          /* [max_steps][G]; going back, dM_t */
    double *cell;           /* [max_steps + 1][n_hidden]: c_0 = 0 first */
    double *tanh_cell;      /* [max_steps][n_hidden] */
    double *m;              /* [G] */
    double *v_hat;          /* [n] */
    double *hidden;         /* [n_hidden] */
    double *d_hidden, *d_h_hat, *d_cell; /* [n_hidden] */
    double *sums;           /* [G]: gradient of one column */
    double *logits;         /* [n_classes]; in training, then their gradient */
} float_lstm_t;

static double sigmoid(double x)
{
    return 0.5 * (1.0 + tanh(0.5 * x));
}

static double dot(const double *a, const double *b, int32_t count)
{
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (int32_t i = 0; i < count; ++i) {
        sum += a[i] * b[i];
    }
    return sum;
}

static void add_times(double *restrict sum, double factor, const double *restrict addend, int32_t count)
{
#pragma omp simd
    for (int32_t i = 0; i < count; ++i) {
        sum[i] += factor * addend[i];
    }
}

/* d = v - v_hat, sent where |d| >= theta and d != 0; M += W Delta. */
static void transmit(const float_lstm_t *net, double *delta, int32_t column, double v, double theta)
{
    const int32_t rows = 4 * net->n_hidden;
    const double d = v - net->v_hat[column];
    delta[column] = 0.0;
    if (fabs(d) >= theta && d != 0.0) {
        delta[column] = d;
        net->v_hat[column] = v;
        add_times(net->m, d, &net->weight[column * rows], rows);
    }
}

/* Runs a sample x [steps][n_in]; leaves the history, h_T and the logits. The class with the largest logit. */
int32_t float_lstm_forward(const float_lstm_t *net, const double *x, int32_t steps)
{
    const int32_t h = net->n_hidden;
    const int32_t n = net->n_in + h;
    memcpy(net->m, net->bias, 4 * (size_t)h * sizeof(double));
    memset(net->v_hat, 0, (size_t)n * sizeof(double));
    memset(net->hidden, 0, (size_t)h * sizeof(double));
    memset(net->cell, 0, (size_t)h * sizeof(double));
    for (int32_t t = 0; t < steps; ++t) {
        double *delta = &net->delta[t * n];
        for (int32_t j = 0; j < net->n_in; ++j) {
            transmit(net, delta, j, x[t * net->n_in + j], net->theta_x);
        }
        for (int32_t j = 0; j < h; ++j) {
            transmit(net, delta, net->n_in + j, net->hidden[j], net->theta_h);
        }
        double *gates = &net->gates[t * 4 * h];
        const double *c = &net->cell[t * h];
        double *c_new = &net->cell[(t + 1) * h];
        for (int32_t j = 0; j < h; ++j) {
            gates[j] = sigmoid(net->m[j]);
            gates[h + j] = sigmoid(net->m[h + j]);
            gates[2 * h + j] = tanh(net->m[2 * h + j]);
            gates[3 * h + j] = sigmoid(net->m[3 * h + j]);
            c_new[j] = gates[h + j] * c[j] + gates[j] * gates[2 * h + j];
            net->tanh_cell[t * h + j] = tanh(c_new[j]);
            net->hidden[j] = gates[3 * h + j] * net->tanh_cell[t * h + j];
        }
    }
    int32_t largest = 0;
    for (int32_t k = 0; k < net->n_classes; ++k) {
        net->logits[k] = net->readout_bias[k] + dot(&net->readout_weight[k * h], net->hidden, h);
        if (net->logits[k] > net->logits[largest]) {
            largest = k;
        }
    }
    return largest;
}

/* Cross-entropy of the logits, which become its gradient. */
static double cross_entropy(const float_lstm_t *net, int32_t largest, int32_t label)
{
    const double top = net->logits[largest];
    const double judged = net->logits[label];
    double sum = 0.0;
    for (int32_t k = 0; k < net->n_classes; ++k) {
        net->logits[k] = exp(net->logits[k] - top);
        sum += net->logits[k];
    }
    for (int32_t k = 0; k < net->n_classes; ++k) {
        net->logits[k] = net->logits[k] / sum - (k == label ? 1.0 : 0.0);
    }
    return log(sum) + top - judged;
}

/* dM_t in the gates' place; d_hidden [n_hidden] becomes dL/dh_{t-1}. */
static void step_back(const float_lstm_t *net, int32_t t, int32_t steps)
{
    const int32_t h = net->n_hidden;
    const int32_t n = net->n_in + h;
    double *g = &net->gates[t * 4 * h];
    for (int32_t j = 0; j < h; ++j) {
        const double in = g[j], forget = g[h + j], update = g[2 * h + j], out = g[3 * h + j];
        const double tanh_c = net->tanh_cell[t * h + j];
        const double d_c = net->d_cell[j] + net->d_hidden[j] * out * (1.0 - tanh_c * tanh_c);
        g[j] = d_c * update * in * (1.0 - in);
        g[h + j] = d_c * net->cell[t * h + j] * forget * (1.0 - forget);
        g[2 * h + j] = d_c * in * (1.0 - update * update);
        g[3 * h + j] = net->d_hidden[j] * tanh_c * out * (1.0 - out);
        net->d_cell[j] = d_c * forget;
    }
    if (t + 1 < steps) {
        add_times(g, 1.0, g + 4 * h, 4 * h);
    }
    for (int32_t j = 0; j < h; ++j) {
        net->d_hidden[j] = 0.0;
        if (t > 0 && net->delta[t * n + net->n_in + j] != 0.0) {
            const double d_delta = dot(&net->weight[(net->n_in + j) * 4 * h], g, 4 * h);
            net->d_hidden[j] = net->d_h_hat[j] + d_delta;
            net->d_h_hat[j] = -d_delta;
        }
    }
}

/* B >= the gradient's norm, the bias being one more column whose Delta is 1 at the first step. */
static double gradient_bound(const float_lstm_t *net, int32_t steps)
{
    const int32_t h = net->n_hidden;
    const int32_t n = net->n_in + h;
    double bound = sqrt(dot(net->logits, net->logits, net->n_classes)) * sqrt(dot(net->hidden, net->hidden, h) + 1.0);
    for (int32_t t = 0; t < steps; ++t) {
        const double *dm = &net->gates[t * 4 * h];
        const double *delta = &net->delta[t * n];
        bound += sqrt(dot(dm, dm, 4 * h)) * sqrt(dot(delta, delta, n) + (t == 0 ? 1.0 : 0.0));
    }
    return bound;
}

static void update(const float_lstm_t *net, int32_t steps, double rate)
{
    const int32_t h = net->n_hidden;
    const int32_t n = net->n_in + h;
    for (int32_t column = 0; column < n; ++column) {
        memset(net->sums, 0, 4 * (size_t)h * sizeof(double));
        for (int32_t t = 0; t < steps; ++t) {
            if (net->delta[t * n + column] != 0.0) {
                add_times(net->sums, net->delta[t * n + column], &net->gates[t * 4 * h], 4 * h);
            }
        }
        add_times(&net->weight[column * 4 * h], -rate, net->sums, 4 * h);
    }
    add_times(net->bias, -rate, net->gates, 4 * h); /* db = dM_1 */
    for (int32_t k = 0; k < net->n_classes; ++k) {
        add_times(&net->readout_weight[k * h], -rate * net->logits[k], net->hidden, h);
        net->readout_bias[k] -= rate * net->logits[k];
    }
}

/* One step of SGD on a sample; the loss before it. */
double float_lstm_train(const float_lstm_t *net, const double *x, int32_t steps, int32_t label, double learning_rate,
                        double clip)
{
    const int32_t h = net->n_hidden;
    const double loss = cross_entropy(net, float_lstm_forward(net, x, steps), label);
    memset(net->d_hidden, 0, (size_t)h * sizeof(double));
    memset(net->d_h_hat, 0, (size_t)h * sizeof(double));
    memset(net->d_cell, 0, (size_t)h * sizeof(double));
    for (int32_t k = 0; k < net->n_classes; ++k) {
        add_times(net->d_hidden, net->logits[k], &net->readout_weight[k * h], h);
    }
    for (int32_t t = steps - 1; t >= 0; --t) {
        step_back(net, t, steps);
    }
    const double bound = gradient_bound(net, steps);
    update(net, steps, bound > clip ? learning_rate * clip / bound : learning_rate);
    return loss;
}
