/*
 * Types and constants of the C core. The Python binding reads this very file (through cffi), as does the firmware:
 * it must stay plain C, with no other directives than the guard, these includes and `#define NAME number`.
 */
#ifndef DRNN_TYPES_H
#define DRNN_TYPES_H

#include <stddef.h>
#include <stdint.h>

#define DRNN_ABI_VERSION 5

/* Q-formats that no model may change; the others are chosen by `deltatrain quantize` and stand in the layer. */
#define DRNN_H_FRAC_BITS 14       /* hidden state and gates, range [-1, 1] */
#define DRNN_BIAS_FRAC_BITS 24    /* biases, int32, range [-128, 128) */
#define DRNN_LOGIT_FRAC_BITS 16   /* logits and other outputs, targets of a regression, and loss; int32 */
#define DRNN_V_MAX 16383          /* largest |x| and |h| as stored: one guard bit, so that a difference fits int16 */
#define DRNN_GRAD_GUARD_BITS 6    /* low-order bits that carried gradients keep below those of the loss gradient */
#define DRNN_DELTA_SUM 63487      /* of a column's |Delta| over a sample; what exceeds it is rounded for the gradient of W */

#define DRNN_MAX_STEPS 4096       /* the bounds of NUMERICS.md hold up to here */
#define DRNN_MAX_LAYERS 3         /* of recurrent layers, one upon the other */
#define DRNN_MAX_WIDTH 1024       /* of inputs and of hidden units */
#define DRNN_MAX_OUTPUTS 256      /* classes, or values of a regression */
#define DRNN_TARGET_MAX 1073741824 /* largest |target| of a regression: 16384 */
#define DRNN_REPLAY_SHIFT 7       /* a value of a stored exemplar is an input / 2^7, rounded, in int8 */
#define DRNN_HASH_BYTES 32

enum drnn_cell {
    DRNN_RNN = 0,
    DRNN_GRU = 1,
    DRNN_LSTM = 2
};

/* Where the readout reads, and its loss: the mean over the frames that have a target. */
enum drnn_readout {
    DRNN_LAST = 0,             /* a class at the last frame: cross-entropy */
    DRNN_FRAMES = 1,           /* a class at every frame: cross-entropy */
    DRNN_REGRESSION = 2        /* values at every frame: squared error, averaged over the outputs too */
};

/* How much of a sample's history is held at once. Both that train give the same words. */
enum drnn_memory {
    DRNN_HISTORY = 0,          /* all of it */
    DRNN_CHECKPOINTS = 1,      /* a segment's: going back, each is computed again from its checkpoint, twice; W's gradient is
                                  summed in a buffer */
    DRNN_INFERENCE = 2         /* a frame's: drnn_infer alone, no training */
};

/* Errors. Each code's text is in `drnn_error_text`. */
enum drnn_error {
    DRNN_OK = 0,
    DRNN_ERR_MODEL = -1,       /* the model's dimensions, formats, cell or ABI version are not supported */
    DRNN_ERR_ARENA = -2,       /* the arena is too small or not aligned to 8 bytes */
    DRNN_ERR_RANGE = -3,       /* an input exceeds DRNN_V_MAX, or a parameter its range */
    DRNN_ERR_LABEL = -4,       /* the label is not one of the model's classes */
    DRNN_ERR_TOO_LONG = -5,    /* the sample has more frames than the model's max_steps */
    DRNN_ERR_EMPTY = -6,       /* no frame was pushed, or none of them was given a target */
    DRNN_ERR_STATE = -7,       /* the call does not fit the state, e.g. a frame without drnn_begin */
    DRNN_ERR_TENSOR = -8,      /* no such tensor, or outside its elements, or not writable */
    DRNN_ERR_READOUT = -9,     /* the call does not fit the model's readout, e.g. a label for a regression */
    DRNN_ERR_REPLAY = -10,     /* the model keeps no exemplars */
    DRNN_ERR_EVENTS = -11,     /* the frame's events exceed the model's budget: the sample is dropped, and counted */
    DRNN_ERR_INFERENCE = -12,  /* the model was built for inference only */
    DRNN_ERR_IMAGE = -13,      /* no whole model file: its magic, length, CRC, alignment or a place in it is wrong */
    DRNN_ERR_VERSION = -14     /* the file is of another version of its format or of this library */
};

/* A positive real number m * 2^e with 32768 <= m <= 65535, or zero: m = e = 0. Learning rate, clip and step size. */
typedef struct {
    uint16_t m;
    int16_t e;
} drnn_scale_t;

/*
 * One recurrent layer as generated into flash. A cell has G gates and A accumulators of n_hidden entries each:
 *
 *     LSTM  G = A = 4      accumulators i, f, g, o
 *     RNN   G = A = 1
 *     GRU   G = 3, A = 4   accumulators nx, r, z, nh; a column of x holds the weights of n, r, z and feeds nx, r, z, a
 *                          column of h those of r, z, n and feeds r, z, nh: both meet neighbouring accumulators
 */
typedef struct {
    uint8_t cell;              /* enum drnn_cell */
    int8_t x_frac_bits;        /* of the inputs, int16; of an upper layer DRNN_H_FRAC_BITS */
    int8_t wx_frac_bits;       /* of weights from inputs, int16 */
    int8_t wh_frac_bits;       /* of weights from hidden units, int16 */
    int8_t c_frac_bits;        /* LSTM: of the cell state c; GRU: of M_nh as kept for the way back; RNN: of nothing */
    uint16_t n_in;             /* of an upper layer: n_hidden of the one below */
    uint16_t n_hidden;
    int16_t theta_x;           /* default thresholds, as in drnn_config_t */
    int16_t theta_h;
    const int16_t *weight;     /* [n_in + n_hidden][G * n_hidden]: column j holds the weights that multiply v_j */
    const int32_t *bias;       /* [A * n_hidden], one per accumulator */
} drnn_layer_t;

/*
 * Exemplars of what a model must not forget, in flash: recordings as the first layer's events. A frame is
 * (n_in + 7) / 8 bytes of mask, input j in bit j % 8 of byte j / 8, then an int8 for each input whose bit is set,
 * ascending: its new value / 2^DRNN_REPLAY_SHIFT, -127 at least. Inputs without a bit stay as they were, at first 0.
 */
typedef struct {
    uint16_t n_exemplars;      /* 1 or more */
    uint32_t n_bytes;          /* of events */
    const uint8_t *events;     /* [n_bytes] */
    const uint32_t *start;     /* [n_exemplars]: where each begins in events */
    const uint16_t *n_steps;   /* [n_exemplars]: its frames */
    const uint8_t *label;      /* [n_exemplars]: its class; of a regression the output that is to be 1, others 0 */
} drnn_replay_t;

typedef struct {
    uint32_t abi_version;      /* DRNN_ABI_VERSION at generation */
    uint16_t n_layers;         /* 1 .. DRNN_MAX_LAYERS */
    uint16_t n_outputs;        /* classes, 2 or more; of a regression values, 1 or more */
    uint16_t max_steps;        /* longest sample, frames */
    uint8_t readout;           /* enum drnn_readout */
    int8_t readout_frac_bits;  /* of the readout's weights, int16 */
    uint8_t memory;            /* enum drnn_memory */
    uint16_t segment_steps;    /* DRNN_CHECKPOINTS: frames of a segment, 1 .. max_steps; else 0 */
    uint16_t event_budget;     /* events that the history holds, of each layer's frames * width, in 2^-16; 0: all of them */
    drnn_scale_t learning_rate;     /* defaults, as in drnn_config_t; that of beta is 0 */
    drnn_scale_t clip;
    const drnn_layer_t *layers;     /* [n_layers], from the input upwards */
    const int16_t *readout_weight;  /* [n_outputs][n_hidden of the last layer] */
    const int32_t *readout_bias;    /* [n_outputs] */
    const drnn_replay_t *replay;    /* exemplars, or NULL */
    uint8_t hash[DRNN_HASH_BYTES];  /* SHA-256 of the quantised model */
} drnn_model_t;

/* What may change at run time. */
typedef struct {
    drnn_scale_t learning_rate;  /* m * 2^e with -64 <= e <= -11, so below 32; or zero */
    drnn_scale_t clip;           /* C, -64 <= e <= 64: the step is scaled by min(1, C / B), B the gradient's bound */
    drnn_scale_t beta;           /* of the regulariser beta * sum |Delta h|; -64 <= e <= -16, so below 1; or zero */
    int16_t theta_x[DRNN_MAX_LAYERS]; /* per layer, of its inputs, in their format; 0 .. 32767; 0 beyond n_layers */
    int16_t theta_h[DRNN_MAX_LAYERS]; /* of its hidden units, Q1.14; likewise */
    uint32_t seed;               /* of stochastic rounding */
    uint32_t step;               /* number of the next training step; counts up, part of the random function */
} drnn_config_t;

/* The outcome of one sample. */
typedef struct {
    int32_t loss;              /* mean over the targets so far, Q16, without the regulariser; 0 without one */
    uint16_t predicted;        /* the largest output at the last frame, the first of equals */
    uint16_t n_steps;          /* frames of the sample */
    uint32_t active_x;         /* events: active inputs of the network, summed over the frames */
    uint32_t active_h;         /* active hidden units, likewise, as input of their own layer and of the one above */
    uint32_t macs_forward;     /* multiply-accumulates of W.Delta as executed */
    uint32_t macs_backward;    /* of W^T.dM as executed (the first layer's dx is not computed) */
    uint32_t macs_gradient;    /* of dM.Delta^T as executed */
    uint32_t columns_updated;  /* columns of W that had at least one event */
    uint32_t clipped;          /* 1 when the bound exceeded the clip */
    int32_t grad_exponent;     /* of the loss gradient: 2^grad_exponent times the int16 value */
    int32_t dm_exponent;       /* of the stored dM beyond the carried gradients' unit; the largest of the layers' */
    uint32_t bound_m;          /* the norm bound B: bound_m * 2^bound_e */
    int32_t bound_e;
    uint32_t saturated_h;      /* saturations in this sample, by tensor */
    uint32_t saturated_c;      /* LSTM: of c; GRU: of M_nh as kept */
    uint32_t saturated_grad;   /* carried gradients */
    uint32_t saturated_w;      /* weights and biases at the end of their range */
    uint32_t underflow_dm;     /* entries of dM that became 0 as int16, when stored or later, though they were not */
    uint32_t n_targets;        /* frames that were given a target */
    uint32_t n_wrong;          /* of these, where another class had the largest logit; of a regression 0 */
    uint64_t macs_recomputed;  /* multiply-accumulates done once more, of DRNN_CHECKPOINTS: W.Delta, W.v_hat, W^T.dM */
} drnn_result_t;

/*
 * Tensors a host may read; those up to DRNN_T_READOUT_BIAS it may write too. A tensor of layer l has the id
 * DRNN_T_PER_LAYER * l + the one that stands here; the readout's and the logits are the network's and have no other.
 */
enum drnn_tensor_id {
    DRNN_T_WEIGHT = 0,         /* int16 [n_in + n_hidden][G * n_hidden] */
    DRNN_T_BIAS = 1,           /* int32 [A * n_hidden] */
    DRNN_T_READOUT_WEIGHT = 2, /* int16 [n_outputs][n_hidden of the last layer] */
    DRNN_T_READOUT_BIAS = 3,   /* int32 [n_outputs] */
    DRNN_T_HIDDEN = 4,         /* int16 [n_hidden], after the last frame */
    DRNN_T_CELL = 5,           /* int16 [n_hidden], LSTM alone, after the last frame; at first an earlier sample's */
    DRNN_T_LOGITS = 6,         /* int32 [n_outputs], outputs of the frame last judged, in training the last one */
    DRNN_T_DM = 7,             /* int16 [n_steps][A * n_hidden], of the last training step; empty during a sample; of
                                  DRNN_CHECKPOINTS segment_steps at most, the first ones */
    DRNN_T_PER_LAYER = 8
};

typedef struct {
    void *data;
    uint32_t count;            /* elements */
    uint8_t item_bytes;        /* 2 or 4 */
    uint8_t writable;
} drnn_tensor_t;

/*
 * Where each region of a layer starts, in bytes from the arena's base. T = max_steps; S = steps whose history is held at
 * once: T, a segment, or 1.
 */
typedef struct {
    /* trained parameters, laid out as in the model */
    uint32_t weight, bias;
    /* history of one sample */
    uint32_t gates;         /* int16 [S][A * n_hidden]: each gate in its accumulator's place; going back, dM there */
    uint32_t states;        /* int16 [1 + S][n_hidden]: LSTM c, GRU h, that before the first step too; RNN none */
    uint32_t event_mask;    /* uint32 [S][words]: bit j is set where v_j was active */
    uint32_t event_start;   /* uint32 [S]: where the values of step t start; later the cursor of the update */
    uint32_t event_value;   /* int16 [drnn_max_events]: the Delta of active entries, step after step */
    /* DRNN_CHECKPOINTS alone */
    uint32_t checkpoints;   /* int16 [segments - 1][n_in + n_hidden + states]: v_hat, h, LSTM c before each but the first */
    uint32_t last_states;   /* int16 [states]: h, LSTM c after the last frame */
    uint32_t gradient;      /* int32 [n_in + n_hidden][G * n_hidden]: of W */
    uint32_t delta_sum;     /* uint32 [n_in + n_hidden]: of a column's |Delta| over the sample */
    uint32_t raises;        /* uint16 [DRNN_RAISES_COUNT]: where dM's exponent grows, drnn_checkpoint.c */
    /* scratch; regions that are never in use at once share room: place_scratch in drnn_arena.c */
    uint32_t hidden;        /* int16 [n_hidden] */
    uint32_t m_acc;         /* int64 [A * n_hidden]: M (drnn_accumulators.h); later a column's sums */
    uint32_t v_hat;         /* int16 [n_in + n_hidden] */
    uint32_t products;      /* int64 [n_hidden, in an upper layer n_in at least]: going back, of a step */
    uint32_t dm_acc;        /* int32 [A * n_hidden]: dM, carried */
    uint32_t d_hidden;      /* int32 [n_hidden], carried, as the following */
    uint32_t d_h_hat;       /* int32 [n_hidden] */
    uint32_t d_cell;        /* int32 [n_hidden], LSTM only */
    uint32_t d_x_hat;       /* int32 [n_in], upper layers only */
} drnn_layer_plan_t;

/* The whole arena; `drnn_plan` computes it from the model alone. */
typedef struct {
    drnn_layer_plan_t layers[DRNN_MAX_LAYERS]; /* beyond n_layers: 0 */
    uint32_t readout_weight, readout_bias;     /* trained, laid out as in the model */
    /* scratch */
    uint32_t logits;        /* int32 [n_outputs] */
    uint32_t d_logits;      /* int32 [n_outputs]: of the frame last judged, in full */
    uint32_t frames;        /* int16 [T][n_in], DRNN_CHECKPOINTS: the sample's */
    uint32_t d_outputs;     /* int16 [T, DRNN_LAST: 1][n_outputs], in training: of each frame, scaled; 0 without a target */
    uint32_t d_readout;     /* int64 [n_outputs][n_hidden + 1], not DRNN_LAST: gradient of the readout, its bias last */
    uint32_t entries;       /* pairs of words [T, an n_in + n_in + n_hidden at least]: a product's list (drnn_kernels.h) */
    uint32_t replay_frame;  /* int16 [n_in], where there are exemplars: the frame being decoded */
    uint32_t replay_target; /* int32 [n_outputs], where there are and the readout is DRNN_REGRESSION */
    uint32_t total;
} drnn_plan_t;

enum drnn_phase {
    DRNN_PHASE_IDLE = 0,       /* no sample, or its history is consumed */
    DRNN_PHASE_SAMPLE = 1      /* between drnn_begin and drnn_train or drnn_learn */
};

/* The state of one network. Its fields are the library's own. */
typedef struct {
    const drnn_model_t *model;
    uint8_t *arena;
    drnn_plan_t plan;
    drnn_config_t config;
    int16_t theta_x[DRNN_MAX_LAYERS];     /* of the sample: those of `config` when it began */
    int16_t theta_h[DRNN_MAX_LAYERS];
    uint32_t phase;            /* enum drnn_phase */
    uint32_t n_steps;          /* frames of the sample so far */
    uint32_t segment;          /* number of the segment whose history is held; DRNN_HISTORY: 0 */
    uint32_t n_refused;        /* samples dropped because their events exceeded the budget, since drnn_init */
    uint8_t m_is_wide[DRNN_MAX_LAYERS];   /* whether M is held in 64 bits */
    uint32_t n_events[DRNN_MAX_LAYERS];   /* of the segment so far, of inputs and hidden units alike */
    uint32_t carried_bits[DRNN_MAX_LAYERS]; /* of the magnitudes of all that is carried back, or of one less */
    int32_t dm_exponent[DRNN_MAX_LAYERS]; /* of each layer's stored dM beyond the carried gradients' unit */
    int32_t d_shift;           /* by which the stored d_outputs were shortened */
    uint32_t n_judged;         /* frames of the sample up to the last that has a target */
    uint64_t loss_sum;         /* over the targets, Q16; of a regression Q32 */
    uint64_t readout_bound;    /* the readout's part of the norm bound */
    uint64_t layer_bound[DRNN_MAX_LAYERS];
    drnn_result_t result;
} drnn_t;

#endif
