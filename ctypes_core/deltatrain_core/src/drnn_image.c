/*
 * A model as one file, read where it lies: everything in it is checked before anything points there.
 */
#include "drnn_image.h"

#include <string.h>

#include "drnn_internal.h"

_Static_assert(sizeof(drnn_image_t) == 108 && sizeof(drnn_image_layer_t) == 24, "the file has no holes");

#define ALIGNMENT 8u

/* CRC-32 of each half byte. */
static const uint32_t crc_table[16] = {
    0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
    0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
};

uint32_t drnn_crc32(uint32_t crc, const void *bytes, size_t n)
{
    const uint8_t *at = bytes;
    crc = ~crc;
    for (size_t i = 0; i < n; ++i) {
        crc ^= at[i];
        crc = (crc >> 4) ^ crc_table[crc & 15u];
        crc = (crc >> 4) ^ crc_table[crc & 15u];
    }
    return ~crc;
}

static uint32_t head_bytes(const drnn_image_t *image)
{
    return (uint32_t)(sizeof *image + image->n_layers * sizeof(drnn_image_layer_t));
}

/* Whether `count` items lie in the file behind its head; count * item_bytes < 2^32, for counts are bounded. */
static int lies_within(const drnn_image_t *image, uint32_t place, uint32_t count, uint32_t item_bytes)
{
    const uint32_t n = count * item_bytes;
    return place % ALIGNMENT == 0 && place >= head_bytes(image) && n <= image->n_bytes && place <= image->n_bytes - n;
}

/* Magic, version, length and CRC. */
static int check_file(const drnn_image_t *image, size_t n)
{
    if ((uintptr_t)image % ALIGNMENT != 0 || n < sizeof *image || image->magic != DRNN_IMAGE_MAGIC) {
        return DRNN_ERR_IMAGE;
    }
    if (image->version != DRNN_IMAGE_VERSION || image->abi_version != DRNN_ABI_VERSION) {
        return DRNN_ERR_VERSION;
    }
    if (image->n_bytes != n || image->n_bytes % ALIGNMENT != 0 ||
        drnn_crc32(0, (const uint8_t *)image + DRNN_IMAGE_CRC_START, n - DRNN_IMAGE_CRC_START) != image->crc) {
        return DRNN_ERR_IMAGE;
    }
    return DRNN_OK;
}

/* Dimensions that bound every product of sizes below; drnn_plan looks at the rest. */
static int layer_is_bounded(const drnn_image_layer_t *layer)
{
    return layer->cell <= DRNN_LSTM && layer->n_in <= DRNN_MAX_WIDTH && layer->n_hidden <= DRNN_MAX_WIDTH;
}

static int take_layer(const drnn_image_t *image, const drnn_image_layer_t *from, drnn_layer_t *layer)
{
    const uint8_t *base = (const uint8_t *)image;
    if (!layer_is_bounded(from)) {
        return DRNN_ERR_MODEL;
    }
    layer->cell = from->cell;
    layer->x_frac_bits = from->x_frac_bits;
    layer->wx_frac_bits = from->wx_frac_bits;
    layer->wh_frac_bits = from->wh_frac_bits;
    layer->c_frac_bits = from->c_frac_bits;
    layer->n_in = from->n_in;
    layer->n_hidden = from->n_hidden;
    layer->theta_x = from->theta_x;
    layer->theta_h = from->theta_h;
    if (!lies_within(image, from->weight, drnn_width(layer) * drnn_rows(layer), sizeof(int16_t)) ||
        !lies_within(image, from->bias, drnn_m_count(layer), sizeof(int32_t))) {
        return DRNN_ERR_IMAGE;
    }
    layer->weight = (const int16_t *)(const void *)(base + from->weight);
    layer->bias = (const int32_t *)(const void *)(base + from->bias);
    return DRNN_OK;
}

static int take_replay(const drnn_image_t *image, drnn_replay_t *replay)
{
    const uint8_t *base = (const uint8_t *)image;
    const uint32_t count = image->n_exemplars;
    if (!lies_within(image, image->replay_events, image->replay_bytes, sizeof(uint8_t)) ||
        !lies_within(image, image->replay_start, count, sizeof(uint32_t)) ||
        !lies_within(image, image->replay_steps, count, sizeof(uint16_t)) ||
        !lies_within(image, image->replay_label, count, sizeof(uint8_t))) {
        return DRNN_ERR_IMAGE;
    }
    replay->n_exemplars = image->n_exemplars;
    replay->n_bytes = image->replay_bytes;
    replay->events = base + image->replay_events;
    replay->start = (const uint32_t *)(const void *)(base + image->replay_start);
    replay->n_steps = (const uint16_t *)(const void *)(base + image->replay_steps);
    replay->label = base + image->replay_label;
    return DRNN_OK;
}

/* What stands in the head itself, and the readout's arrays. */
static int take_network(const drnn_image_t *image, drnn_model_t *model)
{
    const uint8_t *base = (const uint8_t *)image;
    const uint32_t n_hidden = model->layers[image->n_layers - 1].n_hidden;
    if (image->n_outputs > DRNN_MAX_OUTPUTS) {
        return DRNN_ERR_MODEL;
    }
    if (!lies_within(image, image->readout_weight, image->n_outputs * n_hidden, sizeof(int16_t)) ||
        !lies_within(image, image->readout_bias, image->n_outputs, sizeof(int32_t)) ||
        !lies_within(image, image->names, image->names_bytes, sizeof(uint8_t))) {
        return DRNN_ERR_IMAGE;
    }
    model->abi_version = image->abi_version;
    model->n_layers = image->n_layers;
    model->n_outputs = image->n_outputs;
    model->max_steps = image->max_steps;
    model->readout = image->readout;
    model->readout_frac_bits = image->readout_frac_bits;
    model->memory = image->memory;
    model->segment_steps = image->segment_steps;
    model->event_budget = image->event_budget;
    model->learning_rate = image->learning_rate;
    model->clip = image->clip;
    model->readout_weight = (const int16_t *)(const void *)(base + image->readout_weight);
    model->readout_bias = (const int32_t *)(const void *)(base + image->readout_bias);
    memcpy(model->hash, image->hash, DRNN_HASH_BYTES);
    return DRNN_OK;
}

int drnn_image_model(const void *bytes, size_t n, drnn_model_t *model, drnn_layer_t *layers, drnn_replay_t *replay)
{
    const drnn_image_t *image = bytes;
    const int is_file = check_file(image, n);
    if (is_file != DRNN_OK) {
        return is_file;
    }
    if (image->n_layers < 1 || image->n_layers > DRNN_MAX_LAYERS) {
        return DRNN_ERR_MODEL;
    }
    if (head_bytes(image) > n) {
        return DRNN_ERR_IMAGE;
    }
    const drnn_image_layer_t *from = (const drnn_image_layer_t *)(const void *)(image + 1);
    for (uint32_t l = 0; l < image->n_layers; ++l) {
        const int outcome = take_layer(image, &from[l], &layers[l]);
        if (outcome != DRNN_OK) {
            return outcome;
        }
    }
    model->layers = layers;
    const int outcome = take_network(image, model);
    if (outcome != DRNN_OK) {
        return outcome;
    }
    model->replay = image->n_exemplars == 0 ? NULL : replay;
    return model->replay == NULL ? DRNN_OK : take_replay(image, replay);
}
