/*
 * Where everything lies in the caller's arena, from the model's dimensions alone.
 */
#include "drnn_internal.h"

#define ALIGNMENT 8u

static int in_range(int value, int low, int high)
{
    return value >= low && value <= high;
}

/* The ranges within which NUMERICS.md, "Bounds", proves that no accumulator overflows. */
static int layer_is_supported(const drnn_layer_t *layer)
{
    return layer->cell == DRNN_LSTM && in_range(layer->n_in, 1, DRNN_MAX_WIDTH) &&
           in_range(layer->n_hidden, 1, DRNN_MAX_WIDTH) && in_range(layer->x_frac_bits, 6, 14) &&
           in_range(layer->wx_frac_bits, 8, 16) && in_range(layer->wh_frac_bits, 10, 16) &&
           in_range(layer->c_frac_bits, 4, 14) && layer->theta_x >= 0 && layer->theta_h >= 0;
}

/* The counters of MACs are 32 bits wide: they hold the products of the longest sample with every entry active. */
static int macs_can_be_counted(const drnn_model_t *model)
{
    const drnn_layer_t *layer = &model->layers[0];
    return (uint64_t)model->max_steps * drnn_rows(layer) * drnn_width(layer) <= UINT32_MAX;
}

static uint32_t place(drnn_plan_t *plan, uint32_t count, uint32_t item_bytes)
{
    const uint32_t start = plan->total;
    plan->total = start + (count * item_bytes + ALIGNMENT - 1u) / ALIGNMENT * ALIGNMENT;
    return start;
}

int drnn_plan(const drnn_model_t *model, drnn_plan_t *plan)
{
    if (model->abi_version != DRNN_ABI_VERSION || model->n_layers != 1 ||
        !in_range(model->n_classes, 2, DRNN_MAX_CLASSES) || !in_range(model->max_steps, 1, DRNN_MAX_STEPS) ||
        !in_range(model->readout_frac_bits, 10, 15) || !layer_is_supported(&model->layers[0]) ||
        !macs_can_be_counted(model)) {
        return DRNN_ERR_MODEL;
    }
    const drnn_layer_t *layer = &model->layers[0];
    const uint32_t rows = drnn_rows(layer);
    const uint32_t width = drnn_width(layer);
    const uint32_t n_hidden = layer->n_hidden;
    const uint32_t n_classes = model->n_classes;
    const uint32_t steps = model->max_steps;

    plan->total = 0;
    plan->weight = place(plan, width * rows, sizeof(int16_t));
    plan->bias = place(plan, rows, sizeof(int32_t));
    plan->readout_weight = place(plan, n_classes * n_hidden, sizeof(int16_t));
    plan->readout_bias = place(plan, n_classes, sizeof(int32_t));

    plan->gates = place(plan, steps * rows, sizeof(int16_t));
    plan->cells = place(plan, steps * n_hidden, sizeof(int16_t));
    plan->event_mask = place(plan, steps * drnn_mask_words(layer), sizeof(uint32_t));
    plan->event_start = place(plan, steps, sizeof(uint32_t));
    plan->event_value = place(plan, steps * width, sizeof(int16_t));

    plan->m_acc = place(plan, rows, sizeof(int64_t));
    plan->v_hat = place(plan, width, sizeof(int16_t));
    plan->hidden = place(plan, n_hidden, sizeof(int16_t));
    plan->logits = place(plan, n_classes, sizeof(int32_t));
    plan->columns = place(plan, width, sizeof(uint16_t));
    plan->d_logits = place(plan, n_classes, sizeof(int32_t));
    plan->dm_acc = place(plan, rows, sizeof(int32_t));
    plan->d_hidden = place(plan, n_hidden, sizeof(int32_t));
    plan->d_v_hat = place(plan, n_hidden, sizeof(int32_t));
    plan->d_cell = place(plan, n_hidden, sizeof(int32_t));
    plan->column_steps = place(plan, steps, sizeof(uint16_t));
    plan->column_deltas = place(plan, steps, sizeof(int16_t));
    return DRNN_OK;
}

size_t drnn_arena_size(const drnn_model_t *model)
{
    drnn_plan_t plan;
    return drnn_plan(model, &plan) == DRNN_OK ? plan.total : 0;
}
