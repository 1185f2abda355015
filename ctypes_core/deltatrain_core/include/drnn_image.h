/*
 * A model as one file, `.drnn`: what the host writes and a device uses where it lies, in flash or in a buffer. Everything
 * is little-endian; places are offsets from the file's first byte; each field lies at a multiple of its own size, each
 * array at a multiple of 8. The binding, the host and tests read this very file (through cffi).
 *
 *     drnn_image_t, drnn_image_layer_t [n_layers], then the arrays, in any order
 */
#ifndef DRNN_IMAGE_H
#define DRNN_IMAGE_H

#include "drnn_types.h"

#define DRNN_IMAGE_MAGIC 1313755716   /* "DRNN" */
#define DRNN_IMAGE_VERSION 1
#define DRNN_IMAGE_CRC_START 16       /* the CRC-32 (that of zlib) covers all bytes from here on */

/* The head of the file, 108 bytes. */
typedef struct {
    uint32_t magic;                   /* DRNN_IMAGE_MAGIC */
    uint16_t version;                 /* DRNN_IMAGE_VERSION */
    uint16_t abi_version;             /* DRNN_ABI_VERSION */
    uint32_t n_bytes;                 /* of the whole file, a multiple of 8 */
    uint32_t crc;                     /* of bytes DRNN_IMAGE_CRC_START .. n_bytes - 1 */
    uint16_t n_layers;                /* and so on, as in drnn_model_t */
    uint16_t n_outputs;
    uint16_t max_steps;
    uint8_t readout;                  /* enum drnn_readout */
    int8_t readout_frac_bits;
    uint8_t memory;                   /* enum drnn_memory */
    uint8_t reserved;                 /* 0 */
    uint16_t segment_steps;
    uint16_t event_budget;
    uint16_t n_exemplars;             /* 0: the model keeps none, and their places and bytes are 0 */
    drnn_scale_t learning_rate;
    drnn_scale_t clip;
    uint32_t readout_weight;          /* place of int16 [n_outputs][n_hidden of the last layer] */
    uint32_t readout_bias;            /* place of int32 [n_outputs] */
    uint32_t names;                   /* place of the outputs' names: UTF-8, each ended by a zero byte */
    uint32_t names_bytes;
    uint32_t replay_events;           /* place of uint8 [replay_bytes] */
    uint32_t replay_bytes;
    uint32_t replay_start;            /* place of uint32 [n_exemplars] */
    uint32_t replay_steps;            /* place of uint16 [n_exemplars] */
    uint32_t replay_label;            /* place of uint8 [n_exemplars] */
    uint8_t hash[DRNN_HASH_BYTES];    /* SHA-256 of the quantised model */
} drnn_image_t;

/* A recurrent layer, 24 bytes; as drnn_layer_t. */
typedef struct {
    uint8_t cell;                     /* enum drnn_cell */
    int8_t x_frac_bits;
    int8_t wx_frac_bits;
    int8_t wh_frac_bits;
    int8_t c_frac_bits;
    uint8_t reserved;                 /* 0 */
    uint16_t n_in;
    uint16_t n_hidden;
    int16_t theta_x;
    int16_t theta_h;
    uint16_t reserved_too;            /* 0 */
    uint32_t weight;                  /* place of int16 [n_in + n_hidden][G * n_hidden] */
    uint32_t bias;                    /* place of int32 [A * n_hidden] */
} drnn_image_layer_t;

#define DRNN_STATE_MAGIC 1397641796   /* "DRNS" */
#define DRNN_STATE_VERSION 1
#define DRNN_STATE_ALIGN 8            /* each tensor takes a multiple of this, zeros at its end */

/*
 * What training has made of a model, as a file of its own: this head of 80 bytes, then the trained tensors as they lie in
 * the arena: of each layer from the input upwards its weight and its bias, then the readout's weight and bias. It fits
 * the model of the same hash alone.
 */
typedef struct {
    uint32_t magic;                   /* DRNN_STATE_MAGIC */
    uint16_t version;                 /* DRNN_STATE_VERSION */
    uint16_t abi_version;             /* DRNN_ABI_VERSION */
    uint32_t n_bytes;                 /* of the whole file */
    uint32_t crc;                     /* as in drnn_image_t */
    uint8_t hash[DRNN_HASH_BYTES];    /* of the model, not of these weights */
    drnn_config_t config;             /* beyond n_layers the thresholds are 0 */
} drnn_state_t;

#endif
