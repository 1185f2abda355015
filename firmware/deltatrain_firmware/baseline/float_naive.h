/*
 * Dense BPTT in float32, as one writes it by hand without this project: what `deltatrain bench` measures the trainer
 * against, on the same inputs. No part of the product. It runs on the PC and on every board that has the memory.
 *
 * Stacks of RNN, GRU (PyTorch's form) or LSTM, cross-entropy at the last frame, batch 1; a buffer for the whole
 * gradient, clipped at its exact norm. Matrices are row-major, a row an output. Gates stand in the order i, f, g, o and
 * r, z, n; biases, one an accumulator, in the order r, z, nx, nh for the GRU. The other two have one order.
 */
#ifndef FLOAT_NAIVE_H
#define FLOAT_NAIVE_H

#include <stdint.h>

enum float_cell { FLOAT_RNN = 0, FLOAT_GRU = 1, FLOAT_LSTM = 2 };

#define FLOAT_MAX_LAYERS 3

/* Rows of the weights, and accumulators, over n_hidden. */
#define FLOAT_GATES(cell) ((cell) == FLOAT_LSTM ? 4 : (cell) == FLOAT_GRU ? 3 : 1)
#define FLOAT_ACCUMULATORS(cell) ((cell) == FLOAT_LSTM ? 4 : (cell) == FLOAT_GRU ? 4 : 1)

/* Floats of memory that the parts of a network take, for samples of at most `steps` frames. */
#define FLOAT_UNIT_PARAMETERS(cell, n_columns) (FLOAT_GATES(cell) * (n_columns) + FLOAT_ACCUMULATORS(cell))
#define FLOAT_LAYER_PARAMETERS(cell, n_in, n_hidden) ((n_hidden) * FLOAT_UNIT_PARAMETERS(cell, (n_in) + (n_hidden)))
#define FLOAT_READOUT_PARAMETERS(n_hidden, n_outputs) ((n_outputs) * ((n_hidden) + 1))
#define FLOAT_CELL_HISTORY(cell, steps) ((cell) == FLOAT_LSTM ? 2 * (steps) + 1 : 0)
#define FLOAT_UNIT_HISTORY(cell, steps) ((FLOAT_ACCUMULATORS(cell) + 1) * (steps) + 1 + FLOAT_CELL_HISTORY(cell, steps))
#define FLOAT_LAYER_HISTORY(cell, n_hidden, steps) ((n_hidden) * FLOAT_UNIT_HISTORY(cell, steps))
#define FLOAT_SCRATCH(n_hidden, n_outputs) (3 * (n_hidden) + (n_outputs))

/* One layer: T frames, G rows and A accumulators times n_hidden. */
typedef struct {
    int32_t cell;           /* enum float_cell */
    int32_t n_in, n_hidden;
    float *weight_x;        /* [G n_hidden][n_in] */
    float *weight_h;        /* [G n_hidden][n_hidden] */
    float *bias;            /* [A n_hidden] */
    float *grad_x, *grad_h, *grad_bias; /* of the same shapes */
    float *gates;           /* [T][A n_hidden]: M_t, then the gates (GRU: and M_nh), then dM_t */
    float *hidden;          /* [T + 1][n_hidden]: h_0 = 0 first */
    float *cells;           /* LSTM: c [T + 1][n_hidden], c_0 = 0 first */
    float *tanh_cells;      /* LSTM: [T][n_hidden] */
    float *d_below;         /* [T][n_in]: dL/dx_t; NULL for the first layer, whose inputs nobody trains */
} float_layer_t;

/* A network: the caller sets sizes and cells, float_naive_place the rest. */
typedef struct {
    int32_t n_layers, n_outputs, max_steps;
    float_layer_t layers[FLOAT_MAX_LAYERS];
    int32_t n_parameters;
    float *parameters;      /* layer by layer weight_x, weight_h, bias; then the readout's weight and bias */
    float *gradient;        /* in the same order */
    float *readout_weight;  /* [n_outputs][n_hidden] */
    float *readout_bias;    /* [n_outputs] */
    float *grad_readout_weight, *grad_readout_bias;
    float *d_hidden;        /* [n_hidden]: dL/dh_t; these three as wide as the widest layer */
    float *d_before;        /* [n_hidden]: dL/dh_{t-1} */
    float *d_cell;          /* [n_hidden]: LSTM: dL/dc_t */
    float *logits;          /* [n_outputs]; in training, then their gradient */
} float_net_t;

/* Lay a network out in memory[]; NULL only counts. Returns the floats that it takes. The caller fills parameters. */
int32_t float_naive_place(float_net_t *net, float *memory);

/* Run x [steps][n_in] (steps <= max_steps); leaves the history and the logits. */
void float_naive_forward(float_net_t *net, const float *x, int32_t steps);

/* A step of SGD on a sample of class `label`, the gradient cut to norm `clip`. Returns the loss before it, in nats. */
float float_naive_train(float_net_t *net, const float *x, int32_t steps, int32_t label, float rate, float clip);

#endif
