/*
 * The plain RNN: h_t = tanh M. One accumulator; in its place the history keeps tanh M.
 */
#include "drnn_accumulators.h"
#include "drnn_fixed.h"
#include "drnn_history.h"

void drnn_rnn_forward(drnn_t *net, uint32_t l, uint32_t t)
{
    const uint32_t n_hidden = drnn_layer(net, l)->n_hidden;
    int16_t *gates = drnn_gates_of(net, l, t);
    int16_t *h = drnn_hidden(net, l);

    drnn_m_tanhs(net, l, 0, n_hidden, gates);
    for (uint32_t k = 0; k < n_hidden; ++k) {
        h[k] = drnn_cut_hidden(gates[k], &net->result.saturated_h);
    }
}

void drnn_rnn_hidden(const drnn_t *net, uint32_t l, uint32_t t, int16_t *h)
{
    const uint32_t n_hidden = drnn_layer(net, l)->n_hidden;
    const int16_t *gates = drnn_gates_of(net, l, t);
    for (uint32_t k = 0; k < n_hidden; ++k) {
        h[k] = drnn_cut_hidden(gates[k], &(uint32_t){0});
    }
}

DRNN_RARE void drnn_rnn_backward(drnn_t *net, uint32_t l, uint32_t t)
{
    const uint32_t n_hidden = drnn_layer(net, l)->n_hidden;
    const int16_t *gates = drnn_gates_of(net, l, t);
    int32_t *d_hidden = drnn_d_hidden(net, l);
    uint32_t *saturated = &net->result.saturated_grad;

    for (uint32_t k = 0; k < n_hidden; ++k) {
        const int32_t tanh_m = gates[k];
        const int32_t d_m = drnn_mul_q28(d_hidden[k], DRNN_ONE_Q28 - tanh_m * tanh_m);
        d_hidden[k] = 0; /* h_{t-1} reaches step t through its deltas alone */
        drnn_add_to(&drnn_dm_acc(net, l)[k], d_m, saturated);
    }
}

int drnn_rnn_backward_small(drnn_t *net, uint32_t l, uint32_t t, drnn_dm_store_t *result)
{
    const uint32_t n_hidden = drnn_layer(net, l)->n_hidden;
    int16_t *gates = drnn_gates_of(net, l, t);
    int32_t *d_hidden = drnn_d_hidden(net, l);
    int32_t *dm = drnn_dm_acc(net, l);
    drnn_dm_store_t store = *result;
    for (uint32_t k = 0; k < n_hidden; ++k) {
        const int32_t d_m = drnn_small_mul_rest(d_hidden[k], gates[k]);
        d_hidden[k] = 0; /* h_{t-1} reaches step t through its deltas alone */
        drnn_store_dm(&store, dm[k] + d_m, &dm[k], &gates[k]);
    }
    *result = store;
    return 1;
}
