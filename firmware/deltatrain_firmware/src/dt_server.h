/*
 * What the device does with each command. It knows neither board nor line: a request goes in, a reply comes out, so the
 * same file runs in the firmware, in a test on the PC and under a fuzzer. Every byte of a request is taken as hostile.
 */
#ifndef DT_SERVER_H
#define DT_SERVER_H

#include <stddef.h>
#include <stdint.h>

#include "drnn.h"
#include "dt_protocol.h"
#include "dt_store.h"

/* Built with a lock: the enum dt_locks of a session that has not shown the key. */
#ifdef DT_LOCK
#include "dt_lock.h"
#endif

/*
 * Longest payload that this device takes and gives, bytes. The default holds a frame, a hidden state and the outputs of
 * the widest model, though not its frame and the target of a wide regression at once; a board with little RAM may set
 * less. Models that do not fit are refused (DT_ERR_BUFFER).
 */
#ifndef DT_MAX_PAYLOAD
#define DT_MAX_PAYLOAD 2112
#endif

#define DT_REQUEST_BYTES (DT_HEADER_BYTES + DT_MAX_PAYLOAD + DT_CRC_BYTES)
#define DT_REPLY_BYTES (DT_HEADER_BYTES + DT_MAX_PAYLOAD + DT_CRC_BYTES)

/* RAM by purpose, bytes. */
typedef struct {
    uint32_t arena, link, stack, other;
    uint32_t stack_high_water;
} dt_memory_t;

/* What the server asks of its surroundings; the functions may not fail. */
typedef struct {
    const char *board;                     /* the target's name, below DT_BOARD_NAME_BYTES characters */
    uint32_t counter_hz;                   /* ticks per second */
    uint64_t (*ticks)(void);               /* never goes backwards */
    void (*memory)(dt_memory_t *memory);
#ifdef DT_CPU_HZ
    uint16_t counter;                      /* enum dt_counter: what ticks are; else those of a timer */
#endif
    uint16_t fault;                        /* enum dt_fault, of the restart before this run */
    uint32_t fault_address;
#ifdef DT_LOCK
    const uint8_t *key;                    /* [DT_KEY_BYTES], or NULL for none */
    uint8_t locks;                         /* enum dt_locks: what it locks */
    uint32_t entropy;                      /* unforeseeable, where the board has a source of it; else 0 */
    uint64_t (*moment)(void);              /* hardly met again */
#endif
} dt_platform_t;

/* The state of one device. Its fields are the server's own. */
typedef struct {
    const dt_platform_t *platform;
    const drnn_model_t *model;
    drnn_t net;
#ifdef DT_STORE
    dt_store_t store;
#endif
    uint32_t arena_bytes;
    int16_t init_error;                    /* why the model does not run: the answer to every hello */
    uint8_t session_open;
    uint8_t sample_open;                   /* frames may follow */
    uint8_t reply_kept;                    /* `reply` still answers the last command with an effect */
    uint8_t has_last;                      /* such a command was executed in this session */
    uint8_t last_sequence;
    uint32_t nonce;                        /* of the open session's hello */
    uint32_t last_crc;
    uint32_t last_length;                  /* of the kept reply */
    uint32_t boot_id;
    uint8_t booted;                        /* boot_id is set */
    uint64_t ticks_forward;                /* of the sample so far */
    dt_statistics_t totals;
#ifdef DT_LOCK
    dt_lock_t lock;
#endif
    _Alignas(8) uint8_t reply[DT_REPLY_BYTES];
    uint8_t refusal[DT_HEADER_BYTES + DT_CRC_BYTES];
} dt_server_t;

/* A reply without its CRC, for which `bytes` has room. Valid until the next call. */
typedef struct {
    uint8_t *bytes;
    uint32_t length;
} dt_answer_t;

/*
 * Take the model and an arena (8-byte aligned). Returns 0, or the error that every hello will then be answered with:
 * enum drnn_error or DT_ERR_BUFFER.
 */
int dt_server_init(dt_server_t *server, const dt_platform_t *platform, const drnn_model_t *model, void *arena,
                   size_t arena_bytes);

/*
 * Execute request[n] (header and payload, n >= DT_HEADER_BYTES, 4-byte aligned) with the given CRC, which tells a
 * repeated command from another one with the same number.
 */
dt_answer_t dt_server_handle(dt_server_t *server, const uint8_t *request, uint32_t n, uint32_t crc);

/* The answer to a frame that did not arrive: DT_ERR_FRAME or DT_ERR_OVERSIZE. */
dt_answer_t dt_server_damaged(dt_server_t *server, int16_t error);

#endif
