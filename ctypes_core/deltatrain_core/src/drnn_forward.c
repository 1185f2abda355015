/*
 * Forward: in each layer delta encoding, W . Delta over the active columns, the cell.
 * Equations: DESIGN.md, "The mathematics"; formats: NUMERICS.md.
 */
#include <string.h>

#include "drnn_accumulators.h"
#include "drnn_encode.h"
#include "drnn_fixed.h"
#include "drnn_history.h"

void drnn_begin_layer(drnn_t *net, uint32_t l)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    memset(drnn_v_hat(net, l), 0, drnn_width(layer) * sizeof(int16_t));
    memset(drnn_hidden(net, l), 0, layer->n_hidden * sizeof(int16_t));
    if (drnn_cell_of(layer) != DRNN_RNN) {
        memset(drnn_states(net, l), 0, layer->n_hidden * sizeof(int16_t)); /* before the first step */
    }
    drnn_m_compute(net, l);
    net->n_events[l] = 0;
}

DRNN_RARE int drnn_begin(drnn_t *net)
{
    for (uint32_t l = 0; l < net->model->n_layers; ++l) {
        drnn_begin_layer(net, l);
    }
    memset(&net->result, 0, sizeof net->result);
    drnn_begin_targets(net);
    memcpy(net->theta_x, net->config.theta_x, sizeof net->theta_x);
    memcpy(net->theta_h, net->config.theta_h, sizeof net->theta_h);
    net->n_steps = 0;
    net->segment = 0;
    net->phase = DRNN_PHASE_SAMPLE;
    return DRNN_OK;
}

static void cell_forward(drnn_t *net, uint32_t l, uint32_t t)
{
    switch (drnn_cell_of(drnn_layer(net, l))) {
    case DRNN_LSTM:
        drnn_lstm_forward(net, l, t);
        break;
    case DRNN_GRU:
        drnn_gru_forward(net, l, t);
        break;
    default:
        drnn_rnn_forward(net, l, t);
        break;
    }
}

/* How many events drnn_encode would find. */
static uint32_t count_events(const int16_t *v, const int16_t *v_hat, uint32_t count, int32_t theta)
{
    uint32_t n_active = 0;
    for (uint32_t j = 0; j < count; ++j) {
        const int32_t delta = v[j] - v_hat[j];
        n_active += delta != 0 && drnn_magnitude(delta) >= (uint32_t)theta;
    }
    return n_active;
}

DRNN_RARE static uint32_t count_layer_events(const drnn_t *net, uint32_t l, const int16_t *x)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const int16_t *v_hat = drnn_v_hat(net, l);
    return count_events(x, v_hat, layer->n_in, net->theta_x[l]) +
           count_events(drnn_hidden(net, l), v_hat + layer->n_in, layer->n_hidden, net->theta_h[l]);
}

/* Whether the events of layer l's next step on x have room: the budget is asked only where not every entry has. */
static int events_fit(const drnn_t *net, uint32_t l, const int16_t *x)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t room = drnn_max_events(net->model, layer) - net->n_events[l];
    return drnn_width(layer) <= room || count_layer_events(net, l, x) <= room;
}

/* Step t of layer l on its inputs x [n_in]. */
static void step_layer(drnn_t *net, uint32_t l, uint32_t t, const int16_t *x)
{
    const drnn_layer_t *layer = drnn_layer(net, l);
    const uint32_t start = net->n_events[l]; /* events of the steps before */
    uint32_t *mask = drnn_event_mask_of(net, l, t);
    int16_t *v_hat = drnn_v_hat(net, l);
    const int16_t *weight = drnn_weight(net, l);
    const uint32_t rows = drnn_rows(layer);
    const drnn_encoded_t inputs = {weight, rows, 0, 0, drnn_x_shift(layer), net->theta_x[l]};
    const drnn_encoded_t hidden = {weight,       rows, layer->n_in, drnn_h_first(layer), drnn_h_shift(layer),
                                   net->theta_h[l]};
    drnn_events_t events = {mask, &drnn_event_value(net, l)[start], drnn_entries(net), 0};

    DRNN_PHASE(ENCODE);
    *drnn_event_start_of(net, l, t) = start;
    memset(mask, 0, drnn_mask_words(layer) * sizeof(uint32_t));
    const uint32_t n_x = drnn_encode(&events, &inputs, x, v_hat, layer->n_in);
    const uint32_t n_h = drnn_encode(&events, &hidden, drnn_hidden(net, l), v_hat + layer->n_in, layer->n_hidden);
    DRNN_PHASE(FORWARD);
    drnn_m_add(net, l, n_x, n_h, events.bits);
    DRNN_PHASE(ACTIVATIONS);
    cell_forward(net, l, t);
    DRNN_PHASE(OTHER);

    net->n_events[l] = start + n_x + n_h;
    net->result.active_x += l == 0 ? n_x : 0;
    net->result.active_h += l == 0 ? n_h : n_x + n_h;
    net->result.macs_forward += rows * (n_x + n_h);
}

int drnn_forward_step(drnn_t *net, uint32_t t, const int16_t *x)
{
    for (uint32_t l = 0; l < net->model->n_layers; ++l) {
        const int16_t *inputs = l == 0 ? x : drnn_hidden(net, l - 1);
        if (!events_fit(net, l, inputs)) {
            return DRNN_ERR_EVENTS;
        }
        step_layer(net, l, t, inputs);
    }
    return DRNN_OK;
}

/* The sample is dropped: nothing of it will be trained. */
static int refuse(drnn_t *net)
{
    ++net->n_refused;
    net->n_steps = 0;
    net->segment = 0;
    net->phase = DRNN_PHASE_IDLE;
    return DRNN_ERR_EVENTS;
}

static int input_is_valid(const int16_t *x, uint32_t count)
{
    for (uint32_t j = 0; j < count; ++j) {
        if (x[j] > DRNN_V_MAX || x[j] < -DRNN_V_MAX) {
            return 0;
        }
    }
    return 1;
}

int drnn_push(drnn_t *net, const int16_t *x)
{
    if (net->phase != DRNN_PHASE_SAMPLE) {
        return DRNN_ERR_STATE;
    }
    if (net->n_steps >= net->model->max_steps) {
        return DRNN_ERR_TOO_LONG;
    }
    if (!input_is_valid(x, drnn_layer(net, 0)->n_in)) {
        return DRNN_ERR_RANGE;
    }
    const uint32_t t = net->n_steps;
    if (t == drnn_first_step(net) + drnn_window(net->model)) {
        drnn_next_segment(net);
    }
    if (drnn_forward_step(net, t, x) != DRNN_OK) {
        return refuse(net);
    }
    if (drnn_memory_of(net->model) == DRNN_CHECKPOINTS) {
        const uint32_t n_in = drnn_layer(net, 0)->n_in;
        memcpy(drnn_frames(net) + t * n_in, x, n_in * sizeof(int16_t));
    }
    net->n_steps = t + 1;
    return (int)net->n_steps;
}
