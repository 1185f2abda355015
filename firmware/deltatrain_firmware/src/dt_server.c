#include "dt_server.h"

#include <string.h>

_Static_assert(sizeof(dt_request_t) == DT_HEADER_BYTES, "the request's head has no holes");
_Static_assert(sizeof(dt_reply_t) == DT_HEADER_BYTES, "the reply's head has no holes");
_Static_assert(sizeof(dt_hello_t) == 12, "a hello has the same size in every version");
_Static_assert(sizeof(dt_hello_reply_t) == 128, "the answer to a hello has no holes");
_Static_assert(sizeof(dt_tensor_t) == 12 && sizeof(dt_tensor_reply_t) == 8, "the tensor structs have no holes");
_Static_assert(sizeof(dt_challenge_t) == DT_CHALLENGE_BYTES && sizeof(dt_unlock_t) == DT_PROOF_BYTES,
               "the lock's structs are their arrays");
_Static_assert(sizeof(drnn_config_t) == 32, "the configuration has no holes");
_Static_assert(sizeof(dt_commit_reply_t) == 16, "the answer to a commit has no holes");
_Static_assert(sizeof(dt_outcome_t) == 16 + sizeof(drnn_result_t), "the outcome has no holes");
_Static_assert(sizeof(dt_statistics_t) % 8 == 0, "the statistics have no hole at their end");
_Static_assert(sizeof(dt_statistics_t) <= DT_MAX_PAYLOAD && sizeof(dt_hello_reply_t) <= DT_MAX_PAYLOAD,
               "the buffers hold every fixed reply");
_Static_assert(DT_MAX_PAYLOAD <= UINT16_MAX, "the hello announces the longest payload in 16 bits");

/* A handler writes at most DT_MAX_PAYLOAD bytes to `out` and returns their number, or a negative status. */
typedef int32_t (*handler_t)(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out);

typedef struct {
    uint8_t command;
    uint8_t locks;             /* enum dt_locks: those of a session that refuse it */
    uint16_t n_min, n_max;     /* bytes of payload that it takes */
    handler_t handler;
} entry_t;

/* What this session may not do: enum dt_locks. */
static uint8_t locks(const dt_server_t *server)
{
#ifdef DT_LOCK
    return server->lock.locks;
#else
    (void)server;
    return 0;
#endif
}

static uint16_t n_in(const dt_server_t *server)
{
    return server->model->layers[0].n_in;
}

static uint16_t n_hidden(const dt_server_t *server)
{
    return server->model->layers[server->model->n_layers - 1u].n_hidden;
}

/* Bytes of a frame's target. */
static uint32_t target_bytes(const dt_server_t *server)
{
    switch (server->model->readout) {
    case DRNN_FRAMES:
        return sizeof(uint16_t);
    case DRNN_REGRESSION:
        return server->model->n_outputs * (uint32_t)sizeof(int32_t);
    default:
        return 0;
    }
}

static int fits_buffers(const dt_server_t *server)
{
    return sizeof(dt_frames_t) + target_bytes(server) + 2u * n_in(server) <= DT_MAX_PAYLOAD
           && sizeof(dt_frames_reply_t) + 2u * n_hidden(server) <= DT_MAX_PAYLOAD
           && sizeof(dt_outcome_t) + 4u * server->model->n_outputs <= DT_MAX_PAYLOAD;
}

int dt_server_init(dt_server_t *server, const dt_platform_t *platform, const drnn_model_t *model, void *arena,
                   size_t arena_bytes)
{
    memset(server, 0, sizeof *server);
    server->platform = platform;
#ifdef DT_LOCK
    dt_lock_init(&server->lock, platform->key, platform->locks, platform->entropy);
#endif
    server->model = model;
    server->arena_bytes = (uint32_t)arena_bytes;
    server->init_error = (int16_t)drnn_init(&server->net, model, arena, arena_bytes);
    if (server->init_error == 0 && !fits_buffers(server)) {
        server->init_error = DT_ERR_BUFFER;
    }
#ifdef DT_STORE
    if (server->init_error == 0) {
        dt_store_load(&server->store, &server->net);
    }
#endif
    return server->init_error;
}

static int32_t hello(dt_server_t *server, const dt_request_t *head, const uint8_t *payload, uint8_t *out)
{
    dt_hello_t asked;
    memcpy(&asked, payload, sizeof asked);
    if (asked.magic != DT_MAGIC) {
        return DT_ERR_COMMAND;
    }
    if (asked.version != DT_PROTOCOL_VERSION) {
        return DT_ERR_VERSION;
    }
    if (server->init_error != 0) {
        return server->init_error;
    }
    if (!server->booted) {
        server->booted = 1;
        server->boot_id = asked.nonce;
    }
    /* The hello of the open session once more, doubled on the line or sent again, changes nothing of it. */
    if (!server->session_open || asked.nonce != server->nonce) {
        server->session_open = 1;
        server->nonce = asked.nonce;
        server->sample_open = 0;
        server->has_last = 0;
        server->last_sequence = head->sequence;
#ifdef DT_LOCK
        dt_lock_session(&server->lock, asked.nonce);
#endif
    }

    const drnn_model_t *model = server->model;
    dt_hello_reply_t reply;
    memset(&reply, 0, sizeof reply);
    reply.nonce = asked.nonce;
    reply.version = DT_PROTOCOL_VERSION;
    reply.abi_version = DRNN_ABI_VERSION;
    reply.boot_id = server->boot_id;
    reply.step = server->net.config.step;
    reply.arena_bytes = server->arena_bytes;
    reply.counter_hz = server->platform->counter_hz;
    reply.max_payload = DT_MAX_PAYLOAD;
    reply.max_steps = model->max_steps;
    reply.n_layers = model->n_layers;
    reply.n_in = n_in(server);
    reply.n_hidden = n_hidden(server);
    reply.n_outputs = model->n_outputs;
    reply.cell = model->layers[0].cell;
    reply.readout = model->readout;
    reply.memory = model->memory;
    reply.locks = locks(server);
    reply.segment_steps = model->segment_steps;
    reply.event_budget = model->event_budget;
#ifdef DT_STORE
    reply.store = server->store.state;
    reply.commits = server->store.commits;
    reply.committed_step = server->store.step;
#endif
#ifdef DT_CPU_HZ
    reply.counter = server->platform->counter;
#endif
    reply.fault = server->platform->fault;
    reply.fault_address = server->platform->fault_address;
    memcpy(reply.hash, model->hash, sizeof reply.hash);
    for (size_t i = 0; i + 1 < sizeof reply.board && server->platform->board[i] != '\0'; i++) {
        reply.board[i] = server->platform->board[i];
    }
    memcpy(out, &reply, sizeof reply);
    return sizeof reply;
}

static int32_t get_config(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out)
{
    (void)payload;
    (void)n;
    memcpy(out, &server->net.config, sizeof server->net.config);
    return sizeof server->net.config;
}

static int32_t set_config(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out)
{
    drnn_config_t config;
    memcpy(&config, payload, sizeof config);
    server->sample_open = 0;
    const int error = drnn_configure(&server->net, &config);
    return error < 0 ? error : get_config(server, payload, n, out);
}

/* Find the part of a tensor that a request names. Returns 0, or a negative status. */
static int32_t locate(dt_server_t *server, const dt_tensor_t *asked, drnn_tensor_t *tensor)
{
    const int error = drnn_tensor(&server->net, asked->tensor, tensor);
    if (error < 0) {
        return error;
    }
    if (asked->count > tensor->count || asked->offset > tensor->count - asked->count) {
        return DRNN_ERR_TENSOR;
    }
    return 0;
}

static void put_tensor_reply(const drnn_tensor_t *tensor, uint8_t *out)
{
    dt_tensor_reply_t reply;
    memset(&reply, 0, sizeof reply);
    reply.total = tensor->count;
    reply.item_bytes = tensor->item_bytes;
    reply.writable = tensor->writable;
    memcpy(out, &reply, sizeof reply);
}

static int32_t read_tensor(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out)
{
    (void)n;
    dt_tensor_t asked;
    memcpy(&asked, payload, sizeof asked);
    drnn_tensor_t tensor;
    const int32_t error = locate(server, &asked, &tensor);
    if (error < 0) {
        return error;
    }
    if (asked.count > (DT_MAX_PAYLOAD - sizeof(dt_tensor_reply_t)) / tensor.item_bytes) {
        return DT_ERR_REPLY_SIZE;
    }
    put_tensor_reply(&tensor, out);
    const uint32_t n_bytes = asked.count * tensor.item_bytes;
    if (n_bytes != 0) {
        const uint8_t *elements = (const uint8_t *)tensor.data + (size_t)asked.offset * tensor.item_bytes;
        memcpy(out + sizeof(dt_tensor_reply_t), elements, n_bytes);
    }
    return (int32_t)(sizeof(dt_tensor_reply_t) + n_bytes);
}

static int32_t write_tensor(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out)
{
    dt_tensor_t asked;
    memcpy(&asked, payload, sizeof asked);
    drnn_tensor_t tensor;
    const int32_t error = locate(server, &asked, &tensor);
    if (error < 0) {
        return error;
    }
    if (!tensor.writable) {
        return DRNN_ERR_TENSOR;
    }
    const uint32_t n_bytes = n - (uint32_t)sizeof asked;
    if (n_bytes % tensor.item_bytes != 0 || n_bytes / tensor.item_bytes != asked.count) {
        return DT_ERR_LENGTH;
    }
    /* The running sums of an unfinished sample would no longer belong to the weights. */
    server->sample_open = 0;
    if (n_bytes != 0) {
        memcpy((uint8_t *)tensor.data + (size_t)asked.offset * tensor.item_bytes, payload + sizeof asked, n_bytes);
    }
    put_tensor_reply(&tensor, out);
    return sizeof(dt_tensor_reply_t);
}

static int32_t reset_weights(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out)
{
    (void)payload;
    (void)n;
    (void)out;
    server->sample_open = 0;
    return drnn_reset_weights(&server->net);
}

static int32_t begin(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out)
{
    (void)payload;
    (void)n;
    (void)out;
    const uint64_t start = server->platform->ticks();
    const int error = drnn_begin(&server->net);
    server->ticks_forward = server->platform->ticks() - start;
    server->totals.ticks_forward += server->ticks_forward;
    if (error < 0) {
        return error;
    }
    server->sample_open = 1;
    return 0;
}

static int in_range(const int16_t *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (x[i] > DRNN_V_MAX || x[i] < -DRNN_V_MAX) {
            return 0;
        }
    }
    return 1;
}

/* How many targets come with the frames. */
static uint32_t n_targets(const dt_frames_t *asked)
{
    return asked->targets == DT_TARGETS_EACH ? asked->n_frames : asked->targets == DT_TARGETS_ONE ? 1u : 0u;
}

static int is_target(const int32_t *values)
{
    return (uint32_t)values[0] != DT_NO_VALUE;
}

/* Whether the core will take the targets: 0, or a negative status. */
static int32_t check_targets(const dt_server_t *server, const uint8_t *targets, uint32_t n)
{
    const uint32_t n_outputs = server->model->n_outputs;
    if (server->model->readout == DRNN_REGRESSION) {
        const int32_t *values = (const int32_t *)(const void *)targets;
        for (uint32_t i = 0; i < n; i++, values += n_outputs) {
            for (uint32_t k = 0; k < n_outputs && is_target(values); k++) {
                if (values[k] > DRNN_TARGET_MAX || values[k] < -DRNN_TARGET_MAX) {
                    return DRNN_ERR_RANGE;
                }
            }
        }
        return 0;
    }
    const uint16_t *labels = (const uint16_t *)(const void *)targets;
    for (uint32_t i = 0; i < n; i++) {
        if (labels[i] >= n_outputs && labels[i] != DT_NO_CLASS) {
            return DRNN_ERR_LABEL;
        }
    }
    return 0;
}

/* Give the frame just pushed the `i`th target. */
static int give_target(dt_server_t *server, const uint8_t *targets, uint32_t i)
{
    if (server->model->readout == DRNN_REGRESSION) {
        const int32_t *values = (const int32_t *)(const void *)targets + (size_t)i * server->model->n_outputs;
        return is_target(values) ? drnn_target_values(&server->net, values) : 0;
    }
    const uint16_t label = ((const uint16_t *)(const void *)targets)[i];
    return label != DT_NO_CLASS ? drnn_target_class(&server->net, label) : 0;
}

/* Whether targets and frames of the request, n_bytes, will all be accepted: 0, or a negative status. */
static int32_t check_frames(const dt_server_t *server, const dt_frames_t *asked, const uint8_t *targets,
                            uint32_t n_bytes)
{
    const uint32_t n_values = (uint32_t)asked->n_frames * n_in(server);
    if (asked->targets > DT_TARGETS_ONE) {
        return DT_ERR_LENGTH;
    }
    if (asked->targets != DT_TARGETS_NONE && target_bytes(server) == 0) {
        return DRNN_ERR_READOUT;
    }
    const uint32_t before = n_targets(asked) * target_bytes(server);
    if (asked->n_frames == 0 || n_bytes != before + 2u * n_values || asked->want_hidden > 1) {
        return DT_ERR_LENGTH;
    }
    if (asked->want_hidden && (locks(server) & DT_LOCK_TRAINING)) {
        return DT_ERR_LOCKED;  /* it reads the network's state */
    }
    if (!server->sample_open) {
        return DRNN_ERR_STATE;
    }
    if (server->net.n_steps + asked->n_frames > server->model->max_steps) {
        return DRNN_ERR_TOO_LONG;
    }
    if (asked->want_hidden
        && asked->n_frames > (DT_MAX_PAYLOAD - sizeof(dt_frames_reply_t)) / (2u * n_hidden(server))) {
        return DT_ERR_REPLY_SIZE;
    }
    if (!in_range((const int16_t *)(const void *)(targets + before), n_values)) {
        return DRNN_ERR_RANGE;
    }
    return check_targets(server, targets, n_targets(asked));
}

static int32_t frames(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out)
{
    dt_frames_t asked;
    memcpy(&asked, payload, sizeof asked);
    /* Aligned: the request is, the heads before it are 12 bytes, and a target is 2 or a multiple of 4. */
    const uint8_t *targets = payload + sizeof asked;
    const int32_t refused = check_frames(server, &asked, targets, n - (uint32_t)sizeof asked);
    if (refused < 0) {
        return refused;
    }
    const int16_t *x = (const int16_t *)(const void *)(targets + n_targets(&asked) * target_bytes(server));
    drnn_tensor_t hidden;
    const int id = DRNN_T_PER_LAYER * (server->model->n_layers - 1) + DRNN_T_HIDDEN; /* the last layer's */
    int error = drnn_tensor(&server->net, id, &hidden);
    uint8_t *out_hidden = out + sizeof(dt_frames_reply_t);
    const uint32_t hidden_bytes = 2u * n_hidden(server);
    for (uint32_t i = 0; i < asked.n_frames && error >= 0; i++) {
        const uint64_t start = server->platform->ticks();
        error = drnn_push(&server->net, x + (size_t)i * n_in(server));
        if (error >= 0 && asked.targets != DT_TARGETS_NONE) {
            error = give_target(server, targets, asked.targets == DT_TARGETS_EACH ? i : 0);
        }
        const uint64_t spent = server->platform->ticks() - start;
        server->ticks_forward += spent;
        server->totals.ticks_forward += spent;
        server->totals.frames++;
        if (asked.want_hidden) {
            memcpy(out_hidden, hidden.data, hidden_bytes);
            out_hidden += hidden_bytes;
        }
    }
    if (error < 0) {
        server->sample_open = 0;
        return error;
    }
    dt_frames_reply_t reply;
    memset(&reply, 0, sizeof reply);
    reply.n_steps = (uint16_t)server->net.n_steps;
    memcpy(out, &reply, sizeof reply);
    return (int32_t)(out_hidden - out);
}

static int32_t put_outcome(dt_server_t *server, const drnn_result_t *result, uint64_t ticks, uint8_t *out)
{
    dt_outcome_t outcome;
    memset(&outcome, 0, sizeof outcome);
    outcome.ticks_forward = server->ticks_forward;
    outcome.ticks_call = ticks;
    outcome.result = *result;
    memcpy(out, &outcome, sizeof outcome);
    drnn_tensor_t logits;
    const int error = drnn_tensor(&server->net, DRNN_T_LOGITS, &logits);
    if (error < 0) {
        return error;
    }
    const uint32_t n_bytes = 4u * server->model->n_outputs;
    memcpy(out + sizeof outcome, logits.data, n_bytes);
    return (int32_t)(sizeof outcome + n_bytes);
}

static void add_to_totals(dt_statistics_t *totals, const drnn_result_t *result)
{
    totals->samples_trained++;
    totals->active_x += result->active_x;
    totals->active_h += result->active_h;
    totals->macs_forward += result->macs_forward;
    totals->macs_backward += result->macs_backward;
    totals->macs_gradient += result->macs_gradient;
    totals->macs_recomputed += result->macs_recomputed;
    totals->clipped += result->clipped;
    totals->saturated_h += result->saturated_h;
    totals->saturated_c += result->saturated_c;
    totals->saturated_grad += result->saturated_grad;
    totals->saturated_w += result->saturated_w;
    totals->underflow_dm += result->underflow_dm;
}

/* End the sample by a training step; `label` is NULL for a model whose targets came with the frames. */
static int32_t end_sample(dt_server_t *server, const uint16_t *label, uint8_t *out)
{
    if (!server->sample_open) {
        return DRNN_ERR_STATE;
    }
    drnn_result_t result;
    memset(&result, 0, sizeof result);
    const uint64_t start = server->platform->ticks();
    const int error = label == NULL ? drnn_learn(&server->net, &result) : drnn_train(&server->net, *label, &result);
    const uint64_t spent = server->platform->ticks() - start;
    if (error < 0) {
        return error;
    }
    server->sample_open = 0;
    server->totals.ticks_train += spent;
    add_to_totals(&server->totals, &result);
    return put_outcome(server, &result, spent, out);
}

static int32_t train(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out)
{
    (void)n;
    dt_train_t asked;
    memcpy(&asked, payload, sizeof asked);
    return end_sample(server, &asked.label, out);
}

static int32_t learn(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out)
{
    (void)payload;
    (void)n;
    return end_sample(server, NULL, out);
}

#if DRNN_REPLAY
static int32_t replay(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out)
{
    (void)payload;
    (void)n;
    drnn_result_t result;
    memset(&result, 0, sizeof result);
    const uint64_t start = server->platform->ticks();
    const int error = drnn_replay(&server->net, &result);
    const uint64_t spent = server->platform->ticks() - start;
    if (error == DRNN_ERR_EVENTS || error >= 0) {
        server->sample_open = 0;
    }
    if (error < 0) {
        return error;
    }
    server->ticks_forward = 0; /* the frames came from flash, and are part of the call */
    server->totals.frames += result.n_steps;
    server->totals.ticks_train += spent;
    add_to_totals(&server->totals, &result);
    return put_outcome(server, &result, spent, out);
}
#else
static int32_t replay(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out)
{
    (void)server;
    (void)payload;
    (void)n;
    (void)out;
    return DRNN_ERR_REPLAY;
}
#endif

static int32_t infer(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out)
{
    (void)payload;
    (void)n;
    if (!server->sample_open) {
        return DRNN_ERR_STATE;
    }
    drnn_result_t result;
    memset(&result, 0, sizeof result);
    const uint64_t start = server->platform->ticks();
    const int error = drnn_infer(&server->net, &result);
    const uint64_t spent = server->platform->ticks() - start;
    if (error < 0) {
        return error;
    }
    server->totals.ticks_infer += spent;
    server->totals.samples_inferred++;
    return put_outcome(server, &result, spent, out);
}

static int32_t statistics(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out)
{
    (void)payload;
    (void)n;
    dt_memory_t memory;
    memset(&memory, 0, sizeof memory);
    server->platform->memory(&memory);
    server->totals.ram_arena = memory.arena;
    server->totals.ram_link = memory.link;
    server->totals.ram_stack = memory.stack;
    server->totals.ram_other = memory.other;
    server->totals.stack_high_water = memory.stack_high_water;
    server->totals.samples_refused = server->net.n_refused;
    server->totals.arena_used = (uint32_t)drnn_arena_size(server->model);
    memcpy(out, &server->totals, sizeof server->totals);
    return sizeof server->totals;
}

#ifdef DT_STORE
static int32_t commit(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out)
{
    (void)payload;
    (void)n;
    dt_commit_reply_t reply;
    const int error = dt_store_commit(&server->store, &server->net, &reply);
    if (error < 0) {
        return error;
    }
    memcpy(out, &reply, sizeof reply);
    return sizeof reply;
}

static int32_t forget(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out)
{
    (void)payload;
    (void)n;
    (void)out;
    return dt_store_forget(&server->store);
}
#endif

#ifdef DT_LOCK
static int32_t challenge(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out)
{
    (void)payload;
    (void)n;
    dt_lock_challenge(&server->lock, server->platform->moment(), out);
    return sizeof(dt_challenge_t);
}

static int32_t unlock(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out)
{
    (void)n;
    (void)out;
    return dt_lock_unlock(&server->lock, payload);
}
#endif

#ifdef DT_PHASE_H
static int32_t phases(dt_server_t *server, const uint8_t *payload, uint32_t n, uint8_t *out)
{
    (void)server;
    (void)payload;
    (void)n;
    memcpy(out, dt_phase_ticks, sizeof dt_phase_ticks);
    return sizeof dt_phase_ticks;
}
#endif

static const entry_t entries[] = {
    {DT_CMD_GET_CONFIG, DT_LOCK_TRAINING, 0, 0, get_config},
    {DT_CMD_READ_TENSOR, DT_LOCK_TRAINING, sizeof(dt_tensor_t), sizeof(dt_tensor_t), read_tensor},
    {DT_CMD_STATISTICS, 0, 0, 0, statistics},
    {DT_CMD_SET_CONFIG, DT_LOCK_TRAINING, sizeof(drnn_config_t), sizeof(drnn_config_t), set_config},
    {DT_CMD_WRITE_TENSOR, DT_LOCK_TRAINING, sizeof(dt_tensor_t), DT_MAX_PAYLOAD, write_tensor},
    {DT_CMD_RESET_WEIGHTS, DT_LOCK_TRAINING, 0, 0, reset_weights},
    {DT_CMD_BEGIN, DT_LOCK_INFERENCE, 0, 0, begin},
    {DT_CMD_FRAMES, DT_LOCK_INFERENCE, sizeof(dt_frames_t), DT_MAX_PAYLOAD, frames},
    {DT_CMD_TRAIN, DT_LOCK_TRAINING, sizeof(dt_train_t), sizeof(dt_train_t), train},
    {DT_CMD_INFER, DT_LOCK_INFERENCE, 0, 0, infer},
    {DT_CMD_LEARN, DT_LOCK_TRAINING, 0, 0, learn},
    {DT_CMD_REPLAY, DT_LOCK_TRAINING, 0, 0, replay},
#ifdef DT_STORE
    {DT_CMD_COMMIT, DT_LOCK_TRAINING, 0, 0, commit},
    {DT_CMD_FORGET, DT_LOCK_TRAINING, 0, 0, forget},
#endif
#ifdef DT_LOCK
    {DT_CMD_CHALLENGE, 0, 0, 0, challenge},
    {DT_CMD_UNLOCK, 0, sizeof(dt_unlock_t), sizeof(dt_unlock_t), unlock},
#endif
#ifdef DT_PHASE_H
    {DT_CMD_PHASES, 0, 0, 0, phases},
#endif
};

static const entry_t *find(uint8_t command)
{
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        if (entries[i].command == command) {
            return &entries[i];
        }
    }
    return NULL;
}

static void put_head(uint8_t *bytes, uint8_t command, uint8_t sequence, int32_t status)
{
    dt_reply_t head;
    head.command = (uint8_t)(command | DT_REPLY_FLAG);
    head.sequence = sequence;
    head.status = (int16_t)status;
    memcpy(bytes, &head, sizeof head);
}

/* An answer that leaves the kept reply alone: nothing was executed. */
static dt_answer_t refuse(dt_server_t *server, const dt_request_t *head, int32_t status)
{
    put_head(server->refusal, head->command, head->sequence, status);
    return (dt_answer_t){server->refusal, DT_HEADER_BYTES};
}

/* Finish the reply whose payload (`outcome` bytes, or a negative status) stands in the buffer. */
static dt_answer_t finish(dt_server_t *server, const dt_request_t *head, int32_t outcome)
{
    put_head(server->reply, head->command, head->sequence, outcome < 0 ? outcome : 0);
    return (dt_answer_t){server->reply, DT_HEADER_BYTES + (outcome < 0 ? 0u : (uint32_t)outcome)};
}

/* At most once: whether this command's number says that it is new. 0: execute; 1: repeat the reply; else a status. */
static int32_t check_sequence(const dt_server_t *server, const dt_request_t *head, uint32_t crc)
{
    if (server->has_last && head->sequence == server->last_sequence) {
        if (crc != server->last_crc) {
            return DT_ERR_SEQUENCE;
        }
        return server->reply_kept ? 1 : DT_ERR_DUPLICATE;
    }
    return head->sequence == (uint8_t)(server->last_sequence + 1u) ? 0 : DT_ERR_SEQUENCE;
}

dt_answer_t dt_server_handle(dt_server_t *server, const uint8_t *request, uint32_t n, uint32_t crc)
{
    dt_request_t head;
    memcpy(&head, request, sizeof head);
    const uint8_t *payload = request + DT_HEADER_BYTES;
    const uint32_t n_payload = n - DT_HEADER_BYTES;
    uint8_t *out = server->reply + DT_HEADER_BYTES;
    server->totals.requests++;

    if (head.command == DT_CMD_HELLO) {
        if (n_payload != sizeof(dt_hello_t)) {
            return refuse(server, &head, DT_ERR_LENGTH);
        }
        server->reply_kept = 0;
        return finish(server, &head, hello(server, &head, payload, out));
    }
    if (!server->session_open || head.session != (uint16_t)(server->nonce & 0xFFFFu)) {
#ifdef DT_LOCK
        dt_lock_foreign(&server->lock);
#endif
        return refuse(server, &head, DT_ERR_SESSION);
    }
    const entry_t *entry = find(head.command);
    if (entry == NULL) {
        return refuse(server, &head, DT_ERR_COMMAND);
    }
    if (head.command >= DT_FIRST_EFFECT) {
        const int32_t verdict = check_sequence(server, &head, crc);
        if (verdict != 0) {
            server->totals.repeated += verdict != DT_ERR_SEQUENCE;
            return verdict < 0 ? refuse(server, &head, verdict) : (dt_answer_t){server->reply, server->last_length};
        }
        server->has_last = 1;
        server->last_sequence = head.sequence;
        server->last_crc = crc;
    }
    int32_t outcome = DT_ERR_LENGTH;
    if (entry->locks & locks(server)) {
        outcome = DT_ERR_LOCKED;
    } else if (n_payload >= entry->n_min && n_payload <= entry->n_max) {
        outcome = entry->handler(server, payload, n_payload, out);
    }
    const dt_answer_t answer = finish(server, &head, outcome);
    server->reply_kept = head.command >= DT_FIRST_EFFECT;
    server->last_length = answer.length;
    return answer;
}

dt_answer_t dt_server_damaged(dt_server_t *server, int16_t error)
{
    const dt_request_t nothing = {DT_CMD_NONE, 0, 0};
    server->totals.damaged += error != DT_ERR_OVERSIZE;
    server->totals.oversize += error == DT_ERR_OVERSIZE;
    return refuse(server, &nothing, error);
}
