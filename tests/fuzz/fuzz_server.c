/*
 * libFuzzer harness of the whole device: decoder, server, core. An input is a list of records, each made into a frame of
 * which session, sequence, length, fields, COBS and CRC are right unless the record says otherwise, so that inputs reach
 * the handlers. After every frame it is checked that nothing changed but what the command names. Layout of an input:
 *
 *     model and locks, flash, record, record, ...
 *
 * `flash`: when it fails. A record is its kind, how it departs, and the bytes that its payload asks for; missing ones are 0.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dt_flash.h"
#include "dt_frame.h"
#include "dt_hmac.h"
#include "dt_server.h"
#include "fuzz_models.h"

#define SENT_BYTES (2u * DT_REQUEST_BYTES + 8u)

/* How a record departs from a frame that the server takes. */
enum how {
    HOW_SEQUENCE = 3,          /* 0, 1: the next one; 2: the very frame sent last; 3: a byte of the input */
    HOW_SESSION = 4,           /* of another session */
    HOW_LENGTH = 24,           /* 0, 8: as the command takes; 16: a little off; 24: any */
    HOW_BENT = 32,             /* one bit of the frame is wrong */
    HOW_WILD = 64,             /* fields as the input has them */
    HOW_SPOILT = 128           /* two bytes of them are */
};

/* Kinds of records: the commands, and three more. */
static const uint8_t commands[] = {
    DT_CMD_HELLO,  DT_CMD_GET_CONFIG, DT_CMD_READ_TENSOR, DT_CMD_STATISTICS, DT_CMD_CHALLENGE, DT_CMD_SET_CONFIG,
    DT_CMD_WRITE_TENSOR, DT_CMD_RESET_WEIGHTS, DT_CMD_BEGIN, DT_CMD_FRAMES, DT_CMD_TRAIN, DT_CMD_INFER, DT_CMD_LEARN,
    DT_CMD_REPLAY, DT_CMD_COMMIT, DT_CMD_FORGET, DT_CMD_UNLOCK,
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])
enum { KIND_ANY_COMMAND = N_COMMANDS, KIND_RAW_BYTES, KIND_RESTART, N_KINDS };

typedef struct {
    const uint8_t *bytes;
    size_t left;
} input_t;

typedef struct {
    uint8_t bytes[SENT_BYTES];
    uint32_t n;
} wire_t;

/* What may change, as it was before a frame. */
typedef struct {
    drnn_t net;
    uint8_t *arena;
    uint8_t refusal[DT_HEADER_BYTES + DT_CRC_BYTES];
    uint8_t reply_crc[DT_CRC_BYTES];
    uint8_t sample_open;
    dt_store_t store;
    uint32_t n_flash;
    uint32_t nonce;
    uint8_t locks;
    uint8_t has_challenge;
} snapshot_t;

/* One device; buffers are the heap's, each of its exact size, so that the sanitizers see where it ends. */
typedef struct {
    const drnn_model_t *model;
    dt_server_t *server;
    uint8_t *arena, *request;
    size_t arena_bytes;
    dt_decoder_t decoder;
    snapshot_t before;
    uint32_t answer_bytes;     /* of the last answer */
    uint8_t *executed;         /* [DT_REQUEST_BYTES], the session's last command with an effect; 0 bytes: none yet */
    uint32_t executed_bytes;
    uint8_t *kept;             /* [DT_REPLY_BYTES], its reply */
    uint32_t kept_bytes;
    wire_t last_frame;
} device_t;

#define N_ARENAS (256u / (4u * FUZZ_N_MODELS)) /* the last is too small */

static device_t devices[FUZZ_N_MODELS];
static uint64_t clock_ticks;

#define REQUIRE(condition)                                                                                                \
    do {                                                                                                                  \
        if (!(condition)) {                                                                                               \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                      \
            abort();                                                                                                      \
        }                                                                                                                 \
    } while (0)

static uint64_t ticks(void)
{
    return ++clock_ticks;
}

static void memory(dt_memory_t *sizes)
{
    *sizes = (dt_memory_t){.arena = 1, .link = 2, .stack = 3, .other = 4, .stack_high_water = 2};
}

static const uint8_t key[DT_KEY_BYTES] = {1, 2, 3};

/* By the locks of the device: enum dt_locks. */
#define PLATFORM(which)                                                                                                   \
    {.board = "fuzz", .counter_hz = 1000000, .ticks = ticks, .memory = memory, .key = (which) ? key : NULL, .locks = (which), \
     .moment = ticks}
static const dt_platform_t platforms[] = {PLATFORM(0), PLATFORM(1), PLATFORM(2), PLATFORM(3)};

/* ---- flash, whose every use is as the store promises */

#define FLASH_BYTES (DT_FLASH_PAGES * DT_FLASH_PAGE_BYTES)

_Alignas(8) uint8_t dt_flash[FLASH_BYTES];
static uint32_t n_flash, n_flash_works; /* uses so far, and after which of them it fails */

int dt_flash_open(void)
{
    return n_flash_works == 0 ? -1 : 0;
}

int dt_flash_erase(uint32_t page)
{
    REQUIRE(page < DT_FLASH_PAGES);
    if (n_flash++ >= n_flash_works) {
        return -1;
    }
    memset(dt_flash + page * DT_FLASH_PAGE_BYTES, 0xFF, DT_FLASH_PAGE_BYTES);
    return 0;
}

int dt_flash_program(uint32_t at, const uint32_t *unit)
{
    REQUIRE(at % DT_FLASH_WRITE_BYTES == 0 && at < FLASH_BYTES);
    for (uint32_t i = 0; i < DT_FLASH_WRITE_BYTES; i++) {
        REQUIRE(dt_flash[at + i] == 0xFF);
    }
    if (n_flash++ >= n_flash_works) {
        return -1;
    }
    memcpy(dt_flash + at, unit, DT_FLASH_WRITE_BYTES);
    return 0;
}

/* ---- the input as records */

static uint8_t take(input_t *input)
{
    if (input->left == 0) {
        return 0;
    }
    input->left--;
    return *input->bytes++;
}

static uint16_t take16(input_t *input)
{
    const uint8_t low = take(input);
    return (uint16_t)(low | take(input) << 8);
}

static void fill(input_t *input, uint8_t *bytes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        bytes[i] = take(input);
    }
}

/* ---- payloads; each returns its bytes, and reads from the input what it leaves open */

static uint32_t tensor_payload(const device_t *device, input_t *input, int writes, uint8_t *payload)
{
    const drnn_t *net = &device->server->net;
    dt_tensor_t asked = {.tensor = (uint16_t)(take(input) % (DRNN_T_PER_LAYER * net->model->n_layers + 1))};
    drnn_tensor_t tensor = {.count = 0, .item_bytes = 2};
    (void)drnn_tensor(net, asked.tensor, &tensor);
    asked.offset = take16(input) % (tensor.count + 2u);
    asked.count = take(input);
    if (asked.count > tensor.count - asked.offset && asked.offset <= tensor.count) {
        asked.count = tensor.count - asked.offset;
    }
    memcpy(payload, &asked, sizeof asked);
    const uint32_t room = DT_MAX_PAYLOAD - (uint32_t)sizeof asked;
    const uint32_t n = writes ? asked.count * tensor.item_bytes % room : 0;
    fill(input, payload + sizeof asked, n);
    return (uint32_t)sizeof asked + n;
}

static void mend_scale(drnn_scale_t *scale, int least_e, int largest_e)
{
    scale->m |= 0x8000u;
    scale->e = (int16_t)(least_e + (uint8_t)scale->e % (largest_e - least_e + 1));
}

static uint32_t config_payload(const device_t *device, input_t *input, uint8_t *payload)
{
    drnn_config_t config;
    fill(input, (uint8_t *)&config, sizeof config);
    mend_scale(&config.learning_rate, -40, -11);
    mend_scale(&config.clip, -64, 64);
    if (config.beta.m != 0) {
        mend_scale(&config.beta, -64, -16);
    } else {
        config.beta.e = 0;
    }
    for (uint32_t l = 0; l < DRNN_MAX_LAYERS; l++) {
        const int is_layer = l < device->model->n_layers;
        config.theta_x[l] = is_layer ? (int16_t)(config.theta_x[l] & INT16_MAX) : 0;
        config.theta_h[l] = is_layer ? (int16_t)(config.theta_h[l] & INT16_MAX) : 0;
    }
    memcpy(payload, &config, sizeof config);
    return sizeof config;
}

static uint32_t target_payload(const drnn_model_t *model, input_t *input, uint8_t *payload)
{
    if (model->readout == DRNN_FRAMES) {
        const uint8_t byte = take(input);
        const uint16_t label = byte == UINT8_MAX ? DT_NO_CLASS : (uint16_t)(byte % model->n_outputs);
        memcpy(payload, &label, sizeof label);
        return sizeof label;
    }
    for (uint32_t k = 0; k < model->n_outputs; k++) {
        int32_t value = (int32_t)((uint32_t)take16(input) << 16) / 2;
        if (k == 0 && value == INT32_MIN / 2) {
            value = INT32_MIN; /* no target */
        }
        memcpy(payload + sizeof value * k, &value, sizeof value);
    }
    return (uint32_t)sizeof(int32_t) * model->n_outputs;
}

static uint32_t frames_payload(const device_t *device, input_t *input, uint8_t *payload)
{
    const drnn_model_t *model = device->model;
    const uint8_t bits = take(input);
    dt_frames_t asked = {.n_frames = (uint16_t)(1u + bits % 7u), .want_hidden = (bits >> 3) & 1u};
    asked.targets = model->readout == DRNN_LAST ? DT_TARGETS_NONE : (uint16_t)((bits >> 4) % 3u);
    memcpy(payload, &asked, sizeof asked);
    uint32_t n = sizeof asked;
    const uint32_t n_targets = asked.targets == DT_TARGETS_EACH ? asked.n_frames : asked.targets == DT_TARGETS_ONE;
    for (uint32_t i = 0; i < n_targets; i++) {
        n += target_payload(model, input, payload + n);
    }
    for (uint32_t i = 0; i < (uint32_t)asked.n_frames * model->layers[0].n_in; i++) {
        const int16_t x = (int16_t)(take16(input) & DRNN_V_MAX);
        const int16_t signed_x = (int16_t)(i % 2u ? x : -x);
        memcpy(payload + n, &signed_x, sizeof signed_x);
        n += (uint32_t)sizeof signed_x;
    }
    return n;
}

static void right_proof(const dt_server_t *server, uint8_t proof[DT_PROOF_BYTES])
{
    uint8_t question[DT_CHALLENGE_BYTES + sizeof(uint32_t)];
    memcpy(question, server->lock.challenge, DT_CHALLENGE_BYTES);
    memcpy(question + DT_CHALLENGE_BYTES, &server->lock.nonce, sizeof server->lock.nonce);
    dt_hmac(key, sizeof key, question, sizeof question, proof);
}

static uint32_t plausible_payload(device_t *device, input_t *input, uint8_t command, uint8_t *payload)
{
    switch (command) {
    case DT_CMD_HELLO: {
        const dt_hello_t hello = {DT_MAGIC, DT_PROTOCOL_VERSION, 0, take16(input)};
        memcpy(payload, &hello, sizeof hello);
        return sizeof hello;
    }
    case DT_CMD_READ_TENSOR:
    case DT_CMD_WRITE_TENSOR:
        return tensor_payload(device, input, command == DT_CMD_WRITE_TENSOR, payload);
    case DT_CMD_SET_CONFIG:
        return config_payload(device, input, payload);
    case DT_CMD_FRAMES:
        return frames_payload(device, input, payload);
    case DT_CMD_TRAIN: {
        const dt_train_t train = {(uint16_t)(take(input) % (device->model->n_outputs + 1u)), 0};
        memcpy(payload, &train, sizeof train);
        return sizeof train;
    }
    case DT_CMD_UNLOCK:
        right_proof(device->server, payload);
        payload[0] ^= take(input) % 4u == 3u;
        return DT_PROOF_BYTES;
    default:
        return 0;
    }
}

/* ---- frames */

static void gather(void *context, const uint8_t *bytes, uint32_t n)
{
    wire_t *wire = context;
    REQUIRE(wire->n + n <= sizeof wire->bytes);
    memcpy(wire->bytes + wire->n, bytes, n);
    wire->n += n;
}

static void make_frame(device_t *device, input_t *input, uint8_t kind, uint8_t how, wire_t *wire)
{
    static uint8_t body[DT_REQUEST_BYTES + 64u];
    const dt_server_t *server = device->server;
    dt_request_t head = {.command = kind < N_COMMANDS ? commands[kind] : take(input), .session = (uint16_t)server->nonce};
    head.sequence = (how & HOW_SEQUENCE) == HOW_SEQUENCE ? take(input) : (uint8_t)(server->last_sequence + 1u);
    head.session ^= (how & HOW_SESSION) != 0;
    uint8_t *payload = body + sizeof head;
    memset(payload, 0, sizeof body - sizeof head);
    uint32_t n = plausible_payload(device, input, head.command, payload);
    if ((how & HOW_LENGTH) == 16) {
        n += (uint32_t)(take(input) % 9u) - 4u;
    } else if ((how & HOW_LENGTH) == 24) {
        n = take16(input);
    }
    n %= DT_MAX_PAYLOAD + 5u;
    if (how & HOW_WILD) {
        fill(input, payload, n);
    } else if (how & HOW_SPOILT) {
        fill(input, payload + take(input) % DT_MAX_PAYLOAD, 2);
    }
    memcpy(body, &head, sizeof head);
    dt_frame_send(body, (uint32_t)sizeof head + n, gather, wire);
    if (how & HOW_BENT) {
        const uint32_t bit = take16(input) % (8u * wire->n);
        wire->bytes[bit / 8u] ^= (uint8_t)(1u << bit % 8u);
    }
}

/* ---- what may not happen */

static void remember(device_t *device)
{
    const dt_server_t *server = device->server;
    snapshot_t *before = &device->before;
    before->net = server->net;
    before->sample_open = server->sample_open;
    before->store = server->store;
    before->n_flash = n_flash;
    before->nonce = server->nonce;
    before->locks = server->lock.locks;
    before->has_challenge = server->lock.has_challenge;
    memcpy(before->arena, device->arena, device->arena_bytes);
    memcpy(before->refusal, server->refusal, sizeof before->refusal);
    memcpy(before->reply_crc, server->reply + DT_HEADER_BYTES + DT_MAX_PAYLOAD, DT_CRC_BYTES);
}

/* Bytes of the arena in [from, to) alone may have changed. */
static void require_arena(const device_t *device, size_t from, size_t to)
{
    const uint8_t *was = device->before.arena, *is = device->arena;
    REQUIRE(memcmp(was, is, from) == 0);
    REQUIRE(memcmp(was + to, is + to, device->arena_bytes - to) == 0);
}

static void require_untouched(const device_t *device)
{
    require_arena(device, 0, 0);
    REQUIRE(memcmp(&device->before.net, &device->server->net, sizeof(drnn_t)) == 0);
    REQUIRE(device->before.sample_open == device->server->sample_open);
    REQUIRE(memcmp(&device->before.store, &device->server->store, sizeof(dt_store_t)) == 0);
    REQUIRE(device->before.n_flash == n_flash);
}

static void require_config(const device_t *device, uint32_t steps)
{
    drnn_config_t expected = device->before.net.config;
    expected.step += steps;
    REQUIRE(memcmp(&expected, &device->server->net.config, sizeof expected) == 0);
}

static void require_weights(const device_t *device)
{
    for (int id = 0; id < DRNN_T_PER_LAYER * device->model->n_layers; id++) {
        drnn_tensor_t tensor;
        if (drnn_tensor(&device->server->net, id, &tensor) < 0 || !tensor.writable) {
            continue;
        }
        const size_t at = (size_t)((const uint8_t *)tensor.data - device->arena);
        REQUIRE(memcmp(device->before.arena + at, tensor.data, (size_t)tensor.count * tensor.item_bytes) == 0);
    }
}

/* Locks that refuse a command, told apart from the server's own table; whoever asks for hidden states reads, too. */
static uint8_t locks_of(const dt_request_t *head, const uint8_t *payload, uint32_t n)
{
    dt_frames_t asked;
    switch (head->command) {
    case DT_CMD_HELLO:
    case DT_CMD_STATISTICS:
    case DT_CMD_CHALLENGE:
    case DT_CMD_UNLOCK:
        return 0;
    case DT_CMD_FRAMES:
        memcpy(&asked, payload, sizeof asked);
        return n >= sizeof asked && asked.want_hidden ? DT_LOCK_INFERENCE | DT_LOCK_TRAINING : DT_LOCK_INFERENCE;
    case DT_CMD_BEGIN:
    case DT_CMD_INFER:
        return DT_LOCK_INFERENCE;
    default:
        return DT_LOCK_TRAINING;
    }
}

static void require_locks(const device_t *device, const dt_request_t *head, const uint8_t *payload, uint32_t n,
                          int16_t status)
{
    const dt_lock_t *lock = &device->server->lock;
    if (locks_of(head, payload, n) & device->before.locks) {
        REQUIRE(status < 0);
        REQUIRE(status == DT_ERR_LOCKED || head->command == DT_CMD_FRAMES);
        require_untouched(device);
    } else {
        REQUIRE(status != DT_ERR_LOCKED);
    }
    int unlocks = 0;
    if (head->command == DT_CMD_UNLOCK && lock->key != NULL && device->before.has_challenge) {
        uint8_t proof[DT_PROOF_BYTES];
        right_proof(device->server, proof);
        unlocks = n == sizeof proof && memcmp(payload, proof, sizeof proof) == 0 && lock->n_failures < DT_UNLOCK_TRIES;
    }
    REQUIRE(head->command != DT_CMD_UNLOCK || (status >= 0) == unlocks);
    if (head->command == DT_CMD_HELLO) {
        const int is_new = status >= 0 && device->server->nonce != device->before.nonce;
        REQUIRE(!is_new || lock->locks == lock->all_locks);
        REQUIRE(status >= 0 || lock->locks == device->before.locks);
    } else {
        REQUIRE(lock->locks == (unlocks ? 0 : device->before.locks));
    }
}

/* What an executed command left unchanged; `status` is its reply's. */
static void require_only(const device_t *device, const dt_request_t *head, const uint8_t *payload, int16_t status)
{
    const int done = status >= 0;
    if (head->command != DT_CMD_COMMIT && head->command != DT_CMD_FORGET) {
        REQUIRE(device->before.n_flash == n_flash);
        REQUIRE(memcmp(&device->before.store, &device->server->store, sizeof(dt_store_t)) == 0);
    }
    switch (head->command) {
    case DT_CMD_HELLO:
        require_arena(device, 0, 0);
        REQUIRE(memcmp(&device->before.net, &device->server->net, sizeof(drnn_t)) == 0);
        break;
    case DT_CMD_SET_CONFIG:
        require_arena(device, 0, 0);
        if (done) {
            REQUIRE(memcmp(&device->server->net.config, payload, sizeof(drnn_config_t)) == 0);
        } else {
            require_config(device, 0);
        }
        break;
    case DT_CMD_WRITE_TENSOR: {
        dt_tensor_t asked;
        drnn_tensor_t tensor;
        require_config(device, 0);
        memcpy(&asked, payload, sizeof asked);
        if (!done) {
            require_arena(device, 0, 0);
            break;
        }
        REQUIRE(drnn_tensor(&device->server->net, asked.tensor, &tensor) == 0 && tensor.writable);
        const size_t at = (size_t)((const uint8_t *)tensor.data - device->arena) + (size_t)asked.offset * tensor.item_bytes;
        require_arena(device, at, at + (size_t)asked.count * tensor.item_bytes);
        break;
    }
    case DT_CMD_RESET_WEIGHTS:
        require_config(device, 0);
        break;
    case DT_CMD_COMMIT:
    case DT_CMD_FORGET:
        require_arena(device, 0, 0);
        REQUIRE(memcmp(&device->before.net, &device->server->net, sizeof(drnn_t)) == 0);
        break;
    case DT_CMD_TRAIN:
    case DT_CMD_LEARN:
    case DT_CMD_REPLAY:
        require_config(device, done);
        if (!done) {
            require_weights(device);
        }
        break;
    default:
        if (head->command < DT_FIRST_EFFECT) {
            require_untouched(device);
        }
        require_config(device, 0);
        require_weights(device);
        break;
    }
}

static void require_answer(const device_t *device, const dt_answer_t *answer)
{
    const dt_server_t *server = device->server;
    dt_reply_t head;
    REQUIRE(answer->length >= DT_HEADER_BYTES);
    memcpy(&head, answer->bytes, sizeof head);
    REQUIRE((head.command & DT_REPLY_FLAG) != 0);
    REQUIRE(head.status >= 0 || answer->length == DT_HEADER_BYTES);
    if (answer->bytes == server->refusal) {
        REQUIRE(head.status < 0);
    } else {
        REQUIRE(answer->bytes == server->reply && answer->length <= DT_HEADER_BYTES + DT_MAX_PAYLOAD);
        REQUIRE(memcmp(device->before.refusal, server->refusal, sizeof server->refusal) == 0);
    }
    REQUIRE(memcmp(device->before.reply_crc, server->reply + DT_HEADER_BYTES + DT_MAX_PAYLOAD, DT_CRC_BYTES) == 0);
}

/* Send the answer as the firmware does; it must arrive as it left. */
static void send_answer(device_t *device, const dt_answer_t *answer)
{
    static wire_t wire;
    static uint8_t copy[DT_REPLY_BYTES], received[DT_REPLY_BYTES];
    memcpy(copy, answer->bytes, answer->length);
    device->answer_bytes = answer->length;
    wire.n = 0;
    dt_frame_send(answer->bytes, answer->length, gather, &wire);
    dt_decoder_t decoder;
    dt_decoder_init(&decoder, received, sizeof received);
    uint32_t crc;
    int32_t n = 0;
    for (uint32_t i = 0; i < wire.n; i++) {
        n = dt_decoder_push(&decoder, wire.bytes[i], &crc);
        REQUIRE(n == 0 || i == wire.n - 1u);
    }
    REQUIRE(n == (int32_t)answer->length && memcmp(received, copy, answer->length) == 0);
}

/* Keep what an executed command was and answered, where it comes again. */
static void keep(device_t *device, const dt_request_t *head, const uint8_t *request, uint32_t n, const dt_answer_t *answer)
{
    if (head->command == DT_CMD_HELLO) {
        device->executed_bytes = 0;
    } else if (head->command >= DT_FIRST_EFFECT) {
        memcpy(device->executed, request, n);
        device->executed_bytes = n;
        memcpy(device->kept, answer->bytes, answer->length);
        device->kept_bytes = answer->length;
    }
}

/* The firmware's loop for one byte. */
static void receive(device_t *device, uint8_t byte)
{
    static uint8_t copy[DT_REQUEST_BYTES];
    dt_server_t *server = device->server;
    uint32_t crc = 0;
    const int32_t n = dt_decoder_push(&device->decoder, byte, &crc);
    if (n == 0) {
        return;
    }
    remember(device);
    if (n < 0) {
        const dt_answer_t answer = dt_server_damaged(server, (int16_t)n);
        require_untouched(device);
        require_answer(device, &answer);
        send_answer(device, &answer);
        return;
    }
    memcpy(copy, device->request, (size_t)n);
    const int repeats = device->executed_bytes == (uint32_t)n && memcmp(copy, device->executed, (size_t)n) == 0;
    const dt_answer_t answer = dt_server_handle(server, device->request, (uint32_t)n, crc);
    REQUIRE(memcmp(copy, device->request, (size_t)n) == 0);
    require_answer(device, &answer);
    dt_request_t head;
    dt_reply_t reply;
    memcpy(&head, copy, sizeof head);
    memcpy(&reply, answer.bytes, sizeof reply);
    REQUIRE(reply.command == (head.command | DT_REPLY_FLAG) && reply.sequence == head.sequence);
    if (answer.bytes == server->refusal) {
        require_untouched(device);
    } else if (repeats) {
        require_untouched(device);
        REQUIRE(answer.length == device->kept_bytes && memcmp(answer.bytes, device->kept, answer.length) == 0);
    } else {
        require_only(device, &head, copy + sizeof head, reply.status);
        require_locks(device, &head, copy + sizeof head, (uint32_t)n - (uint32_t)sizeof head, reply.status);
        keep(device, &head, copy, (uint32_t)n, &answer);
    }
    send_answer(device, &answer);
}

/* ---- the harness */

static void make_device(device_t *device, const drnn_model_t *model)
{
    device->model = model;
    device->arena_bytes = drnn_arena_size(model);
    REQUIRE(device->arena_bytes != 0);
    device->server = malloc(sizeof *device->server);
    device->arena = aligned_alloc(8, device->arena_bytes);
    device->before.arena = malloc(device->arena_bytes);
    device->request = aligned_alloc(8, DT_REQUEST_BYTES);
    device->executed = malloc(DT_REQUEST_BYTES);
    device->kept = malloc(DT_REPLY_BYTES);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    _Static_assert(DT_REQUEST_BYTES % 8 == 0, "aligned_alloc takes multiples alone");
    for (uint32_t i = 0; i < FUZZ_N_MODELS; i++) {
        make_device(&devices[i], fuzz_models[i]);
    }
    return 0;
}

static void send_frame(device_t *device, const wire_t *wire)
{
    for (uint32_t i = 0; i < wire->n; i++) {
        receive(device, wire->bytes[i]);
    }
}

static void send_hello(device_t *device)
{
    input_t nothing = {NULL, 0};
    device->last_frame.n = 0;
    make_frame(device, &nothing, 0, 0, &device->last_frame);
    send_frame(device, &device->last_frame);
    REQUIRE(device->answer_bytes == DT_HEADER_BYTES + sizeof(dt_hello_reply_t));
}

static void start(device_t *device, const dt_platform_t *platform)
{
    REQUIRE(dt_server_init(device->server, platform, device->model, device->arena, device->arena_bytes) == 0);
    dt_decoder_init(&device->decoder, device->request, DT_REQUEST_BYTES);
    device->executed_bytes = 0;
    send_hello(device);
}

/* With too small an arena: every hello is answered with the reason, and nothing else is done. */
static void require_refusal(device_t *device, const dt_platform_t *platform)
{
    input_t nothing = {NULL, 0};
    REQUIRE(dt_server_init(device->server, platform, device->model, device->arena, device->arena_bytes - 1u) < 0);
    dt_decoder_init(&device->decoder, device->request, DT_REQUEST_BYTES);
    for (uint8_t kind = 0; kind < 2; kind++) { /* HELLO, GET_CONFIG */
        device->last_frame.n = 0;
        make_frame(device, &nothing, kind, 0, &device->last_frame);
        send_frame(device, &device->last_frame);
        REQUIRE(device->answer_bytes == DT_HEADER_BYTES);
    }
}

/* Lose the power, and a bit of the flash where the record says so; what was committed is there again, or what was in flash. */
static void restart(device_t *device, const dt_platform_t *platform, input_t *input, uint8_t how)
{
    const uint32_t commits = device->server->store.commits, step = device->server->store.step;
    if (how & HOW_BENT) {
        const uint32_t bit = (take16(input) | (uint32_t)take(input) << 16) % (8u * FLASH_BYTES);
        dt_flash[bit / 8u] ^= (uint8_t)(1u << bit % 8u);
    }
    start(device, platform);
    if (!(how & HOW_BENT) && n_flash < n_flash_works && commits != 0) {
        REQUIRE(device->server->store.commits == commits && device->server->net.config.step == step);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    input_t input = {bytes, n};
    const uint8_t first = take(&input), flash = take(&input);
    device_t *device = &devices[first % FUZZ_N_MODELS];
    const dt_platform_t *platform = &platforms[first / FUZZ_N_MODELS % 4u];
    clock_ticks = 0;
    n_flash = 0;
    n_flash_works = flash < 8u ? UINT32_MAX : 4u * (flash - 8u);
    memset(dt_flash, 0xFF, sizeof dt_flash);
    if (first / (4u * FUZZ_N_MODELS) == N_ARENAS - 1u) {
        require_refusal(device, platform);
        return 0;
    }
    start(device, platform);
    while (input.left != 0) {
        const uint8_t kind = take(&input) % N_KINDS;
        const uint8_t how = take(&input);
        if (kind == KIND_RAW_BYTES) {
            for (uint8_t i = how % 32u; i != 0; i--) {
                receive(device, take(&input));
            }
        } else if (kind == KIND_RESTART) {
            restart(device, platform, &input, how);
        } else if ((how & HOW_SEQUENCE) == 2) {
            send_frame(device, &device->last_frame);
        } else {
            device->last_frame.n = 0;
            make_frame(device, &input, kind, how, &device->last_frame);
            send_frame(device, &device->last_frame);
        }
    }
    send_hello(device); /* whatever came, it answers */
    return 0;
}
