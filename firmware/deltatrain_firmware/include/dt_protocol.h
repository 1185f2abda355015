/*
 * The serial protocol in numbers: what PROTOCOL.md explains, and the only place where these numbers stand. The firmware
 * compiles this file; the host reads this very file (through cffi). So: plain C, no preprocessor beyond include guards
 * and `#define NAME number`, and the comment behind each `DT_ERR_` is the text that people see.
 *
 * Everything is little-endian. Every struct is laid out without holes: each field lies at a multiple of its own size.
 */
#ifndef DT_PROTOCOL_H
#define DT_PROTOCOL_H

#include <stdint.h>

#include "drnn_types.h"

#define DT_PROTOCOL_VERSION 5
#define DT_MAGIC 0x54446C65           /* in a hello, so that no other device takes it for its own */

/* A frame on the line: COBS(header, payload, CRC-32) and one zero byte. */
#define DT_HEADER_BYTES 4
#define DT_CRC_BYTES 4
#define DT_REPLY_FLAG 0x80            /* set in the command byte of a reply */
#define DT_BOARD_NAME_BYTES 32
#define DT_CHALLENGE_BYTES 16
#define DT_PROOF_BYTES 32

/* Targets that say that their frame has none: a class, and the first value of a regression (-2^31). */
#define DT_NO_CLASS 0xFFFF
#define DT_NO_VALUE 0x80000000

enum dt_command {
    DT_CMD_NONE = 0x00,               /* only as a reply: to a frame that did not arrive whole */
    DT_CMD_HELLO = 0x01,              /* open a session */
    DT_CMD_GET_CONFIG = 0x02,
    DT_CMD_READ_TENSOR = 0x03,
    DT_CMD_STATISTICS = 0x04,
    DT_CMD_CHALLENGE = 0x05,
    DT_CMD_PHASES = 0x06,
    DT_CMD_SET_CONFIG = 0x10,         /* from here on: commands with an effect, executed once each */
    DT_CMD_WRITE_TENSOR = 0x11,
    DT_CMD_RESET_WEIGHTS = 0x12,
    DT_CMD_BEGIN = 0x13,
    DT_CMD_FRAMES = 0x14,
    DT_CMD_TRAIN = 0x15,
    DT_CMD_INFER = 0x16,
    DT_CMD_LEARN = 0x17,
    DT_CMD_REPLAY = 0x18,
    DT_CMD_COMMIT = 0x19,
    DT_CMD_FORGET = 0x1A,
    DT_CMD_UNLOCK = 0x1B
};

/* Commands from this number on have an effect: their sequence number counts, and the last reply is kept. */
#define DT_FIRST_EFFECT 0x10

/* Status of a reply. The codes of enum drnn_error (-1 .. -63) are passed through. */
enum dt_status {
    DT_OK = 0,
    DT_ERR_FRAME = -64,               /* the frame arrived damaged (its CRC-32 or its COBS code is wrong) */
    DT_ERR_OVERSIZE = -65,            /* the frame is longer than the device's buffer */
    DT_ERR_COMMAND = -66,             /* the device does not know this command */
    DT_ERR_LENGTH = -67,              /* the payload's length does not fit the command */
    DT_ERR_VERSION = -68,             /* the device speaks another version of the protocol */
    DT_ERR_SESSION = -69,             /* no session is open, or it is another one: say hello first */
    DT_ERR_SEQUENCE = -70,            /* the sequence number is neither the next one nor the last one */
    DT_ERR_DUPLICATE = -71,           /* this command was executed already, and its reply is no longer kept */
    DT_ERR_REPLY_SIZE = -72,          /* the answer would not fit a reply; ask for less at once */
    DT_ERR_BUFFER = -73,              /* the model's frames, targets or outputs do not fit the board's buffers */
    DT_ERR_LOCKED = -74,              /* the device is locked, and this session has not shown that it knows the key */
    DT_ERR_KEY = -75,                 /* the proof is not that of the device's key, or its challenge is used up */
    DT_ERR_STORE = -76                /* the device has no non-volatile store, or writing it failed */
};

/* The head of every request; the payload follows. */
typedef struct {
    uint8_t command;                  /* enum dt_command */
    uint8_t sequence;                 /* numbers the commands */
    uint16_t session;                 /* low 16 bits of the hello's nonce */
} dt_request_t;

/* The head of every reply; the payload follows, none when the status is negative. */
typedef struct {
    uint8_t command;                  /* the request's, with DT_REPLY_FLAG */
    uint8_t sequence;                 /* the request's */
    int16_t status;                   /* 0 or above: done; else enum dt_status or enum drnn_error */
} dt_reply_t;

/* DT_CMD_HELLO. These 12 bytes stay as they are in every version. */
typedef struct {
    uint32_t magic;                   /* DT_MAGIC */
    uint16_t version;                 /* DT_PROTOCOL_VERSION of the host */
    uint16_t reserved;                /* 0 */
    uint32_t nonce;                   /* names the session; drawn by the host */
} dt_hello_t;

/* Why the device restarted last, as far as it knows. */
enum dt_fault {
    DT_FAULT_NONE = 0,
    DT_FAULT_HARD = 1,                /* hard fault */
    DT_FAULT_MEMORY = 2,              /* memory management fault, e.g. the stack's guard */
    DT_FAULT_BUS = 3,                 /* bus fault */
    DT_FAULT_USAGE = 4,               /* usage fault */
    DT_FAULT_STACK = 5,               /* the stack ran over its end */
    DT_FAULT_OTHER = 6,               /* an interrupt that nothing expects */
    DT_FAULT_WATCHDOG = 7             /* a command took longer than the watchdog allows */
};

/* What a device's key locks; 0: nothing, or the session has been unlocked. */
enum dt_locks {
    DT_LOCK_TRAINING = 1,             /* reading and writing weights, configuration and training */
    DT_LOCK_INFERENCE = 2             /* samples that are only recognised */
};

/* What the ticks of a device's counter are, as far as it knows. */
enum dt_counter {
    DT_COUNTER_TIMER = 0,             /* of a timer: time, and whatever the target's own timer counts by */
    DT_COUNTER_CYCLES = 1             /* cycles of the processor */
};

/* The device's non-volatile store. */
enum dt_store {
    DT_STORE_NONE = 0,                /* it has none */
    DT_STORE_EMPTY = 1,               /* nothing is committed for this model: it started from the model in flash */
    DT_STORE_LOADED = 2               /* it started from what was committed, or has committed since */
};

/* Answer to DT_CMD_HELLO; its first 12 bytes stay as they are in every version. */
typedef struct {
    uint32_t nonce;                   /* the request's */
    uint16_t version;                 /* DT_PROTOCOL_VERSION of the device */
    uint16_t abi_version;             /* DRNN_ABI_VERSION */
    uint32_t boot_id;                 /* nonce of the first hello since the device started */
    uint32_t step;                    /* training steps so far: drnn_config_t.step */
    uint32_t arena_bytes;             /* size of the arena */
    uint32_t counter_hz;              /* ticks per second of the counter behind every `ticks` */
    uint16_t max_payload;             /* longest payload, of requests and of replies, bytes */
    uint16_t max_steps;               /* longest sample, frames */
    uint16_t n_layers;                /* recurrent layers */
    uint16_t n_in;                    /* inputs, values of a frame */
    uint16_t n_hidden;                /* of the last layer */
    uint16_t n_outputs;               /* classes, or values of a regression */
    uint8_t cell;                     /* enum drnn_cell, of the first layer */
    uint8_t readout;                  /* enum drnn_readout */
    uint16_t fault;                   /* enum dt_fault, of the restart before this run */
    uint32_t fault_address;           /* program counter at that fault, 0 when unknown */
    uint8_t memory;                   /* enum drnn_memory: how much of a sample's history is held at once */
    uint8_t locks;                    /* enum dt_locks, of this session */
    uint16_t segment_steps;           /* of DRNN_CHECKPOINTS: frames of a segment; else 0 */
    uint16_t event_budget;            /* events for which the history has room, in 2^-16 of all; 0: all */
    uint16_t store;                   /* enum dt_store */
    uint32_t commits;                 /* number of the last commit; counts up over the device's life; 0: none */
    uint32_t committed_step;          /* `step` at the last commit */
    uint16_t counter;                 /* enum dt_counter: what ticks are */
    uint16_t reserved;                /* 0 */
    uint8_t hash[DRNN_HASH_BYTES];    /* SHA-256 of the quantised model */
    char board[DT_BOARD_NAME_BYTES];  /* the target's name, padded with zeros */
} dt_hello_reply_t;

/* DT_CMD_READ_TENSOR, and the head of DT_CMD_WRITE_TENSOR, whose elements follow. */
typedef struct {
    uint16_t tensor;                  /* enum drnn_tensor_id + DRNN_T_PER_LAYER * layer */
    uint16_t reserved;                /* 0 */
    uint32_t offset;                  /* first element */
    uint32_t count;                   /* elements; reading none tells the tensor's size */
} dt_tensor_t;

/* Answer to both; when reading, the elements follow. */
typedef struct {
    uint32_t total;                   /* elements of the whole tensor */
    uint8_t item_bytes;               /* 2 (int16) or 4 (int32) */
    uint8_t writable;                 /* 1: WRITE_TENSOR may name it */
    uint16_t reserved;                /* 0 */
} dt_tensor_reply_t;

/* Which targets come with frames, of a model that takes them. */
enum dt_targets {
    DT_TARGETS_NONE = 0,
    DT_TARGETS_EACH = 1,              /* one for each frame */
    DT_TARGETS_ONE = 2                /* one, the same for all frames of the request */
};

/*
 * DT_CMD_FRAMES; then the targets, each a uint16 (DRNN_FRAMES) or n_outputs int32 (DRNN_REGRESSION); then
 * n_frames * n_in int16, frame by frame. All are accepted, or none.
 */
typedef struct {
    uint16_t n_frames;                /* 1 or more */
    uint16_t want_hidden;             /* 1: the reply carries the last layer's h_t of each */
    uint16_t targets;                 /* enum dt_targets */
    uint16_t reserved;                /* 0 */
} dt_frames_t;

/* Answer; then n_frames * n_hidden int16, when asked for. */
typedef struct {
    uint16_t n_steps;                 /* frames of the sample so far */
    uint16_t reserved;                /* 0 */
} dt_frames_reply_t;

/* DT_CMD_TRAIN, of a model with the readout DRNN_LAST; DT_CMD_LEARN, of others, has no payload. */
typedef struct {
    uint16_t label;                   /* the sample's class, below n_outputs */
    uint16_t reserved;                /* 0 */
} dt_train_t;

/* Answer to DT_CMD_TRAIN, DT_CMD_LEARN, DT_CMD_REPLAY and DT_CMD_INFER; then n_outputs int32, Q(DRNN_LOGIT_FRAC_BITS): the outputs. */
typedef struct {
    uint64_t ticks_forward;           /* spent on the sample's frames: drnn_begin, drnn_push, drnn_target_... */
    uint64_t ticks_call;              /* spent in drnn_train, drnn_learn or drnn_infer */
    drnn_result_t result;             /* what the core tells */
} dt_outcome_t;

/* Answer to DT_CMD_CHALLENGE, the same until DT_CMD_UNLOCK has answered it, once. */
typedef struct {
    uint8_t challenge[DT_CHALLENGE_BYTES];
} dt_challenge_t;

/* DT_CMD_UNLOCK. */
typedef struct {
    uint8_t proof[DT_PROOF_BYTES];    /* HMAC-SHA-256 by the device's key of the challenge and the session's nonce */
} dt_unlock_t;

/* Answer to DT_CMD_COMMIT. */
typedef struct {
    uint32_t commits;                 /* number of this commit; counts up over the device's life */
    uint32_t step;                    /* training steps that it holds */
    uint32_t slot_erases;             /* times that its slot has been erased so far */
    uint32_t bytes;                   /* that it takes in the slot */
} dt_commit_reply_t;

/* Answer to DT_CMD_STATISTICS: totals since the device started. */
typedef struct {
    uint64_t frames;                  /* of every sample */
    uint64_t active_x;                /* events of the network's inputs in training steps */
    uint64_t active_h;                /* events of hidden units, likewise */
    uint64_t macs_forward;            /* multiply-accumulates of training steps, as drnn_result_t */
    uint64_t macs_backward;           /* likewise */
    uint64_t macs_gradient;           /* likewise */
    uint64_t macs_recomputed;         /* likewise */
    uint64_t samples_refused;         /* dropped, for their events exceeded the model's budget */
    uint64_t ticks_forward;           /* spent on frames: drnn_begin, drnn_push, drnn_target_... */
    uint64_t ticks_train;             /* in drnn_train and drnn_learn */
    uint64_t ticks_infer;             /* in drnn_infer */
    uint32_t samples_trained;         /* training steps */
    uint32_t samples_inferred;        /* INFER commands */
    uint32_t clipped;                 /* steps whose norm bound exceeded the clip */
    uint32_t saturated_h;             /* saturations in training steps, by tensor */
    uint32_t saturated_c;             /* likewise */
    uint32_t saturated_grad;          /* likewise */
    uint32_t saturated_w;             /* likewise */
    uint32_t underflow_dm;            /* entries of dM that became 0, in training steps */
    uint32_t requests;                /* whole frames received */
    uint32_t damaged;                 /* frames with a wrong CRC or COBS code */
    uint32_t oversize;                /* frames longer than the buffer */
    uint32_t repeated;                /* commands received again and not executed again */
    uint32_t ram_arena;               /* RAM by purpose, bytes; their sum is the firmware's RAM */
    uint32_t ram_link;                /* request and reply buffers with their state */
    uint32_t ram_stack;               /* reserved for the stack */
    uint32_t ram_other;               /* all else */
    uint32_t arena_used;              /* bytes of the arena that the model takes */
    uint32_t stack_high_water;        /* most bytes of stack in use so far */
} dt_statistics_t;

#endif
