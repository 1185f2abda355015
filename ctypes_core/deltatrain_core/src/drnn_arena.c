/*
 * Where everything lies in the caller's arena, from the model's dimensions alone.
 */
#include <string.h>

#include "drnn_history.h"

#define ALIGNMENT 8u

static int in_range(int value, int low, int high)
{
    return value >= low && value <= high;
}

/* The ranges within which NUMERICS.md, "Bounds", proves that no accumulator overflows. */
static int layer_is_supported(const drnn_layer_t *layer)
{
    return drnn_is_built_in(DRNN_CELLS, layer->cell) && in_range(layer->n_in, 1, DRNN_MAX_WIDTH) &&
           in_range(layer->n_hidden, 1, DRNN_MAX_WIDTH) && in_range(layer->x_frac_bits, 6, 14) &&
           in_range(layer->wx_frac_bits, 8, 16) && in_range(layer->wh_frac_bits, 10, 16) &&
           in_range(layer->c_frac_bits, 6, 14) && layer->theta_x >= 0 && layer->theta_h >= 0;
}

/*
 * Every layer for itself, and that each takes what the one below gives. The counters of MACs are 32 bits wide: they
 * hold the products of the longest sample with every entry active.
 */
static int layers_are_supported(const drnn_model_t *model)
{
    uint64_t macs = 0;
    for (uint32_t l = 0; l < model->n_layers; ++l) {
        const drnn_layer_t *layer = &model->layers[l];
        if (!layer_is_supported(layer) ||
            (l > 0 && (layer->n_in != layer[-1].n_hidden || layer->x_frac_bits != DRNN_H_FRAC_BITS))) {
            return 0;
        }
        macs += (uint64_t)model->max_steps * drnn_rows(layer) * drnn_width(layer);
    }
    return macs <= UINT32_MAX;
}

static int memory_is_supported(const drnn_model_t *model)
{
    if (!drnn_is_built_in(DRNN_MEMORIES, model->memory)) {
        return 0;
    }
    return drnn_memory_of(model) == DRNN_CHECKPOINTS ? in_range(model->segment_steps, 1, model->max_steps)
                                                     : model->segment_steps == 0;
}

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static uint32_t place(drnn_plan_t *plan, uint32_t count, uint32_t item_bytes)
{
    const uint32_t start = plan->total;
    plan->total = start + (count * item_bytes + ALIGNMENT - 1u) / ALIGNMENT * ALIGNMENT;
    return start;
}

/*
 * Scratch of a layer. Going back, M and v_hat are of no use any more, so that what is carried takes M's place and the
 * products of a step that of v_hat; but checkpoints need both again, and so have products alone in M's place.
 */
static void place_scratch(drnn_plan_t *plan, const drnn_model_t *model, uint32_t l)
{
    const drnn_layer_t *layer = &model->layers[l];
    drnn_layer_plan_t *regions = &plan->layers[l];
    const uint32_t n_hidden = layer->n_hidden;
    const uint32_t m_count = drnn_m_count(layer);
    const uint32_t n_dx = l > 0 ? layer->n_in : 0; /* nobody reads the first layer's */
    const uint32_t n_products = larger(n_hidden, n_dx);
    const int shares = drnn_memory_of(model) != DRNN_CHECKPOINTS;
    const int trains = drnn_memory_of(model) != DRNN_INFERENCE;

    regions->hidden = place(plan, n_hidden, sizeof(int16_t));
    const uint32_t start = plan->total;
    regions->m_acc = place(plan, shares ? m_count : larger(m_count, n_products), sizeof(int64_t));
    const uint32_t m_end = plan->total;
    plan->total = shares ? start : m_end;
    regions->dm_acc = place(plan, trains ? m_count : 0, sizeof(int32_t));
    regions->d_hidden = place(plan, trains ? n_hidden : 0, sizeof(int32_t));
    regions->d_h_hat = place(plan, trains ? n_hidden : 0, sizeof(int32_t));
    regions->d_cell = place(plan, trains && drnn_has_cell(layer) ? n_hidden : 0, sizeof(int32_t));
    regions->d_x_hat = place(plan, trains ? n_dx : 0, sizeof(int32_t));
    const uint32_t carried_end = plan->total;
    regions->products = shares ? place(plan, trains ? n_products : 0, sizeof(int64_t)) : regions->m_acc;
    const uint32_t products_end = plan->total;
    plan->total = larger(m_end, carried_end);
    regions->v_hat = place(plan, drnn_width(layer), sizeof(int16_t));
    plan->total = larger(plan->total, products_end);
}

static void place_layer(drnn_plan_t *plan, const drnn_model_t *model, uint32_t l)
{
    const drnn_layer_t *layer = &model->layers[l];
    drnn_layer_plan_t *regions = &plan->layers[l];
    const uint32_t width = drnn_width(layer);
    const uint32_t n_hidden = layer->n_hidden;
    const uint32_t m_count = drnn_m_count(layer);
    const uint32_t n_states = drnn_cell_of(layer) == DRNN_RNN ? 0 : n_hidden;
    const uint32_t steps = drnn_window(model);
    const int trains = drnn_memory_of(model) != DRNN_INFERENCE;
    const int by_segments = drnn_memory_of(model) == DRNN_CHECKPOINTS;
    const uint32_t n_segments = (model->max_steps + steps - 1u) / steps;
    const uint32_t n_last = by_segments ? n_hidden * (drnn_has_cell(layer) ? 2u : 1u) : 0;

    regions->weight = place(plan, width * drnn_rows(layer), sizeof(int16_t));
    regions->bias = place(plan, m_count, sizeof(int32_t));

    regions->gates = place(plan, steps * m_count, sizeof(int16_t));
    regions->states = place(plan, (1u + steps) * n_states, sizeof(int16_t));
    regions->event_mask = place(plan, (trains ? drnn_mask_rows(steps) : steps) * drnn_mask_words(layer), sizeof(uint32_t));
    regions->event_start = place(plan, steps, sizeof(uint32_t));
    regions->event_value = place(plan, drnn_max_events(model, layer), sizeof(int16_t));
    regions->checkpoints = place(plan, by_segments ? (n_segments - 1u) * (width + n_last) : 0, sizeof(int16_t));
    regions->last_states = place(plan, n_last, sizeof(int16_t));
    regions->gradient = place(plan, by_segments ? width * drnn_rows(layer) : 0, sizeof(int32_t));
    regions->delta_sum = place(plan, by_segments ? width : 0, sizeof(uint32_t));
    regions->raises = place(plan, by_segments ? DRNN_RAISES_COUNT : 0, sizeof(uint16_t));
    place_scratch(plan, model, l);
}

int drnn_plan(const drnn_model_t *model, drnn_plan_t *plan)
{
    if (model->abi_version != DRNN_ABI_VERSION || !in_range(model->n_layers, 1, DRNN_MAX_LAYERS) ||
        !drnn_is_built_in(DRNN_READOUTS, model->readout) ||
        !in_range(model->n_outputs, model->readout == DRNN_REGRESSION ? 1 : 2, DRNN_MAX_OUTPUTS) ||
        !in_range(model->max_steps, 1, DRNN_MAX_STEPS) ||
        !in_range(model->readout_frac_bits, 10, 15) || !memory_is_supported(model) || !layers_are_supported(model)) {
        return DRNN_ERR_MODEL;
    }
    const uint32_t n_outputs = model->n_outputs;
    const uint32_t n_hidden = model->layers[model->n_layers - 1].n_hidden;
    const int at_last = drnn_readout_of(model) == DRNN_LAST;
    const int trains = drnn_memory_of(model) != DRNN_INFERENCE;
    uint32_t longest = trains ? drnn_window(model) : 0; /* list: of the forward product an input may take two entries */

    memset(plan, 0, sizeof *plan);
    for (uint32_t l = 0; l < model->n_layers; ++l) {
        place_layer(plan, model, l);
        longest = larger(longest, drnn_width(&model->layers[l]) + model->layers[l].n_in);
    }
    plan->readout_weight = place(plan, n_outputs * n_hidden, sizeof(int16_t));
    plan->readout_bias = place(plan, n_outputs, sizeof(int32_t));
    plan->logits = place(plan, n_outputs, sizeof(int32_t));
    plan->d_logits = place(plan, n_outputs, sizeof(int32_t));
    plan->frames = place(plan, drnn_memory_of(model) == DRNN_CHECKPOINTS ? model->max_steps * model->layers[0].n_in : 0,
                         sizeof(int16_t));
    plan->d_outputs = place(plan, trains ? (at_last ? 1 : model->max_steps) * n_outputs : 0, sizeof(int16_t));
    plan->d_readout = place(plan, trains && !at_last ? n_outputs * (n_hidden + 1u) : 0, sizeof(int64_t));
    plan->entries = place(plan, longest, sizeof(drnn_entry_t));
    plan->replay_frame = place(plan, trains && model->replay != NULL ? model->layers[0].n_in : 0, sizeof(int16_t));
    plan->replay_target =
        place(plan, trains && model->replay != NULL && drnn_readout_of(model) == DRNN_REGRESSION ? n_outputs : 0, sizeof(int32_t));
    return DRNN_OK;
}

size_t drnn_arena_size(const drnn_model_t *model)
{
    drnn_plan_t plan;
    return drnn_plan(model, &plan) == DRNN_OK ? plan.total : 0;
}
