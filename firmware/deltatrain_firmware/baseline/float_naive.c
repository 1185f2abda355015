#include "float_naive.h"

#include <stddef.h>
#include <string.h>

#include "float_math.h"

static int32_t widest(const float_net_t *net)
{
    int32_t width = 0;
    for (int32_t l = 0; l < net->n_layers; l++) {
        width = net->layers[l].n_hidden > width ? net->layers[l].n_hidden : width;
    }
    return width;
}

/* The next `count` floats of memory, which may be NULL; *used grows by them. */
static float *take(float *memory, int32_t *used, int32_t count)
{
    float *place = memory == NULL ? NULL : memory + *used;
    *used += count;
    return place;
}

/* Parameters, or the gradient in the same order: `of` is 0 or 1. */
static void place_parameters(float_net_t *net, float *memory, int32_t *used, int of)
{
    for (int32_t l = 0; l < net->n_layers; l++) {
        float_layer_t *layer = &net->layers[l];
        const int32_t rows = FLOAT_GATES(layer->cell) * layer->n_hidden;
        float *x = take(memory, used, rows * layer->n_in);
        float *h = take(memory, used, rows * layer->n_hidden);
        float *bias = take(memory, used, FLOAT_ACCUMULATORS(layer->cell) * layer->n_hidden);
        *(of ? &layer->grad_x : &layer->weight_x) = x;
        *(of ? &layer->grad_h : &layer->weight_h) = h;
        *(of ? &layer->grad_bias : &layer->bias) = bias;
    }
    float *weight = take(memory, used, net->n_outputs * net->layers[net->n_layers - 1].n_hidden);
    float *bias = take(memory, used, net->n_outputs);
    *(of ? &net->grad_readout_weight : &net->readout_weight) = weight;
    *(of ? &net->grad_readout_bias : &net->readout_bias) = bias;
}

int32_t float_naive_place(float_net_t *net, float *memory)
{
    int32_t used = 0;
    const int32_t steps = net->max_steps;
    net->parameters = memory;
    place_parameters(net, memory, &used, 0);
    net->n_parameters = used;
    net->gradient = memory == NULL ? NULL : memory + used;
    place_parameters(net, memory, &used, 1);
    for (int32_t l = 0; l < net->n_layers; l++) {
        float_layer_t *layer = &net->layers[l];
        const int32_t h = layer->n_hidden;
        layer->gates = take(memory, &used, steps * FLOAT_ACCUMULATORS(layer->cell) * h);
        layer->hidden = take(memory, &used, (steps + 1) * h);
        if (layer->cell == FLOAT_LSTM) {
            layer->cells = take(memory, &used, (steps + 1) * h);
            layer->tanh_cells = take(memory, &used, steps * h);
        }
        layer->d_below = l == 0 ? NULL : take(memory, &used, steps * layer->n_in);
    }
    const int32_t width = widest(net);
    net->d_hidden = take(memory, &used, width);
    net->d_before = take(memory, &used, width);
    net->d_cell = take(memory, &used, width);
    net->logits = take(memory, &used, net->n_outputs);
    return used;
}

/* ---- products: w [rows][n] */

/* out += w v */
static void add_product(float *restrict out, const float *restrict w, const float *restrict v, int32_t rows, int32_t n)
{
    for (int32_t r = 0; r < rows; r++) {
        float sum = out[r];
        for (int32_t j = 0; j < n; j++) {
            sum += w[j] * v[j];
        }
        out[r] = sum;
        w += n;
    }
}

/* dw += dm v' */
static void add_outer(float *restrict dw, const float *restrict dm, const float *restrict v, int32_t rows, int32_t n)
{
    for (int32_t r = 0; r < rows; r++) {
        const float d = dm[r];
        for (int32_t j = 0; j < n; j++) {
            dw[j] += d * v[j];
        }
        dw += n;
    }
}

/* dw += dm v' and dv += w' dm, in one pass over both matrices */
static void add_gradients(float *restrict dw, float *restrict dv, const float *restrict w, const float *restrict dm,
                          const float *restrict v, int32_t rows, int32_t n)
{
    for (int32_t r = 0; r < rows; r++) {
        const float d = dm[r];
        for (int32_t j = 0; j < n; j++) {
            dw[j] += d * v[j];
            dv[j] += d * w[j];
        }
        dw += n;
        w += n;
    }
}

/* ---- forward */

static void forward_rnn(const float_layer_t *layer, const float *m, float *h_new)
{
    for (int32_t j = 0; j < layer->n_hidden; j++) {
        h_new[j] = float_tanh(m[j]);
    }
}

static void forward_gru(const float_layer_t *layer, float *m, const float *h_old, float *h_new)
{
    const int32_t h = layer->n_hidden;
    for (int32_t j = 0; j < h; j++) {
        const float r = float_sigmoid(m[j]);
        const float z = float_sigmoid(m[h + j]);
        const float n = float_tanh(m[2 * h + j] + r * m[3 * h + j]);
        h_new[j] = (1.0f - z) * n + z * h_old[j];
        m[j] = r;
        m[h + j] = z;
        m[2 * h + j] = n;
    }
}

static void forward_lstm(const float_layer_t *layer, int32_t t, float *m, float *h_new)
{
    const int32_t h = layer->n_hidden;
    const float *c_old = &layer->cells[t * h];
    float *c_new = &layer->cells[(t + 1) * h];
    float *tanh_c = &layer->tanh_cells[t * h];
    for (int32_t j = 0; j < h; j++) {
        const float i = float_sigmoid(m[j]);
        const float f = float_sigmoid(m[h + j]);
        const float g = float_tanh(m[2 * h + j]);
        const float o = float_sigmoid(m[3 * h + j]);
        c_new[j] = f * c_old[j] + i * g;
        tanh_c[j] = float_tanh(c_new[j]);
        h_new[j] = o * tanh_c[j];
        m[j] = i;
        m[h + j] = f;
        m[2 * h + j] = g;
        m[3 * h + j] = o;
    }
}

static void forward_layer(const float_layer_t *layer, const float *x, int32_t steps)
{
    const int32_t h = layer->n_hidden;
    const int32_t accumulators = FLOAT_ACCUMULATORS(layer->cell) * h;
    memset(layer->hidden, 0, (size_t)h * sizeof(float));
    if (layer->cell == FLOAT_LSTM) {
        memset(layer->cells, 0, (size_t)h * sizeof(float));
    }
    for (int32_t t = 0; t < steps; t++) {
        float *m = &layer->gates[t * accumulators];
        const float *x_t = &x[t * layer->n_in];
        const float *h_old = &layer->hidden[t * h];
        float *h_new = &layer->hidden[(t + 1) * h];
        memcpy(m, layer->bias, (size_t)accumulators * sizeof(float));
        add_product(m, layer->weight_x, x_t, FLOAT_GATES(layer->cell) * h, layer->n_in);
        switch (layer->cell) {
        case FLOAT_LSTM:
            add_product(m, layer->weight_h, h_old, 4 * h, h);
            forward_lstm(layer, t, m, h_new);
            break;
        case FLOAT_GRU:
            add_product(m, layer->weight_h, h_old, 2 * h, h);
            add_product(&m[3 * h], &layer->weight_h[2 * h * h], h_old, h, h);
            forward_gru(layer, m, h_old, h_new);
            break;
        default:
            add_product(m, layer->weight_h, h_old, h, h);
            forward_rnn(layer, m, h_new);
        }
    }
}

/* What layer l + 1 reads, or the readout: h_1, h_2, ... */
static const float *outputs_of(const float_layer_t *layer)
{
    return &layer->hidden[layer->n_hidden];
}

void float_naive_forward(float_net_t *net, const float *x, int32_t steps)
{
    for (int32_t l = 0; l < net->n_layers; l++) {
        forward_layer(&net->layers[l], l == 0 ? x : outputs_of(&net->layers[l - 1]), steps);
    }
    const float_layer_t *top = &net->layers[net->n_layers - 1];
    memcpy(net->logits, net->readout_bias, (size_t)net->n_outputs * sizeof(float));
    add_product(net->logits, net->readout_weight, &top->hidden[steps * top->n_hidden], net->n_outputs, top->n_hidden);
}

/* ---- backward */

/* The loss of the logits, which become its gradient: p - 1 at the label. */
static float cross_entropy(float *logits, int32_t n, int32_t label)
{
    float top = logits[0];
    for (int32_t k = 1; k < n; k++) {
        top = logits[k] > top ? logits[k] : top;
    }
    const float judged = logits[label] - top;
    float sum = 0.0f;
    for (int32_t k = 0; k < n; k++) {
        logits[k] = float_exp(logits[k] - top);
        sum += logits[k];
    }
    for (int32_t k = 0; k < n; k++) {
        logits[k] /= sum;
    }
    logits[label] -= 1.0f;
    return float_log(sum) - judged;
}

/* These three: dM_t in the gates' place, from dL/dh_t; the cell's own way to dL/dh_{t-1} to d_before. */

static void backward_rnn(const float_layer_t *layer, float *m, const float *h_new, const float *d_hidden,
                         float *d_before)
{
    for (int32_t j = 0; j < layer->n_hidden; j++) {
        m[j] = d_hidden[j] * (1.0f - h_new[j] * h_new[j]);
        d_before[j] = 0.0f;
    }
}

static void backward_gru(const float_layer_t *layer, float *m, const float *h_old, const float *d_hidden,
                         float *d_before)
{
    const int32_t h = layer->n_hidden;
    for (int32_t j = 0; j < h; j++) {
        const float r = m[j], z = m[h + j], n = m[2 * h + j], m_nh = m[3 * h + j];
        const float d_n = d_hidden[j] * (1.0f - z) * (1.0f - n * n);
        m[j] = d_n * m_nh * r * (1.0f - r);
        m[h + j] = d_hidden[j] * (h_old[j] - n) * z * (1.0f - z);
        m[2 * h + j] = d_n;
        m[3 * h + j] = d_n * r;
        d_before[j] = d_hidden[j] * z;
    }
}

static void backward_lstm(const float_layer_t *layer, int32_t t, float *m, const float *d_hidden, float *d_cell,
                          float *d_before)
{
    const int32_t h = layer->n_hidden;
    const float *c_old = &layer->cells[t * h];
    const float *tanh_c = &layer->tanh_cells[t * h];
    for (int32_t j = 0; j < h; j++) {
        const float i = m[j], f = m[h + j], g = m[2 * h + j], o = m[3 * h + j];
        const float d_c = d_cell[j] + d_hidden[j] * o * (1.0f - tanh_c[j] * tanh_c[j]);
        m[j] = d_c * g * i * (1.0f - i);
        m[h + j] = d_c * c_old[j] * f * (1.0f - f);
        m[2 * h + j] = d_c * i * (1.0f - g * g);
        m[3 * h + j] = d_hidden[j] * tanh_c[j] * o * (1.0f - o);
        d_cell[j] = d_c * f;
        d_before[j] = 0.0f;
    }
}

static void add(float *restrict sum, const float *restrict addend, int32_t n)
{
    for (int32_t j = 0; j < n; j++) {
        sum[j] += addend[j];
    }
}

/* From dL/dh_T in net->d_hidden and what the layer above left in d_above [T][n_hidden] (NULL: nothing). */
static void backward_layer(float_net_t *net, const float_layer_t *layer, const float *x, int32_t steps,
                           const float *d_above)
{
    const int32_t h = layer->n_hidden;
    const int32_t accumulators = FLOAT_ACCUMULATORS(layer->cell) * h;
    float *d_hidden = net->d_hidden, *d_before = net->d_before;
    memset(net->d_cell, 0, (size_t)h * sizeof(float));
    for (int32_t t = steps - 1; t >= 0; t--) {
        float *m = &layer->gates[t * accumulators];
        const float *x_t = &x[t * layer->n_in];
        const float *h_old = &layer->hidden[t * h];
        if (d_above != NULL) {
            add(d_hidden, &d_above[t * h], h);
        }
        switch (layer->cell) {
        case FLOAT_LSTM:
            backward_lstm(layer, t, m, d_hidden, net->d_cell, d_before);
            add_gradients(layer->grad_h, d_before, layer->weight_h, m, h_old, 4 * h, h);
            break;
        case FLOAT_GRU:
            backward_gru(layer, m, h_old, d_hidden, d_before);
            add_gradients(layer->grad_h, d_before, layer->weight_h, m, h_old, 2 * h, h);
            add_gradients(&layer->grad_h[2 * h * h], d_before, &layer->weight_h[2 * h * h], &m[3 * h], h_old, h, h);
            break;
        default:
            backward_rnn(layer, m, &layer->hidden[(t + 1) * h], d_hidden, d_before);
            add_gradients(layer->grad_h, d_before, layer->weight_h, m, h_old, h, h);
        }
        const int32_t rows = FLOAT_GATES(layer->cell) * h;
        if (layer->d_below == NULL) {
            add_outer(layer->grad_x, m, x_t, rows, layer->n_in);
        } else {
            float *d_x = &layer->d_below[t * layer->n_in];
            memset(d_x, 0, (size_t)layer->n_in * sizeof(float));
            add_gradients(layer->grad_x, d_x, layer->weight_x, m, x_t, rows, layer->n_in);
        }
        add(layer->grad_bias, m, accumulators);
        float *swap = d_hidden;
        d_hidden = d_before;
        d_before = swap;
    }
}

static void backward(float_net_t *net, const float *x, int32_t steps)
{
    const float_layer_t *top = &net->layers[net->n_layers - 1];
    memset(net->gradient, 0, (size_t)net->n_parameters * sizeof(float));
    memset(net->d_hidden, 0, (size_t)widest(net) * sizeof(float));
    add_gradients(net->grad_readout_weight, net->d_hidden, net->readout_weight, net->logits,
                  &top->hidden[steps * top->n_hidden], net->n_outputs, top->n_hidden);
    add(net->grad_readout_bias, net->logits, net->n_outputs);
    for (int32_t l = net->n_layers - 1; l >= 0; l--) {
        const float *d_above = l == net->n_layers - 1 ? NULL : net->layers[l + 1].d_below;
        backward_layer(net, &net->layers[l], l == 0 ? x : outputs_of(&net->layers[l - 1]), steps, d_above);
        memset(net->d_hidden, 0, (size_t)widest(net) * sizeof(float));
    }
}

static void update(float_net_t *net, float rate, float clip)
{
    float squares = 0.0f;
    for (int32_t k = 0; k < net->n_parameters; k++) {
        squares += net->gradient[k] * net->gradient[k];
    }
    const float norm = float_sqrt(squares);
    const float step = norm > clip ? rate * clip / norm : rate;
    for (int32_t k = 0; k < net->n_parameters; k++) {
        net->parameters[k] -= step * net->gradient[k];
    }
}

float float_naive_train(float_net_t *net, const float *x, int32_t steps, int32_t label, float rate, float clip)
{
    float_naive_forward(net, x, steps);
    const float loss = cross_entropy(net->logits, net->n_outputs, label);
    backward(net, x, steps);
    update(net, rate, clip);
    return loss;
}
