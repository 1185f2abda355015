/*
 * The lock of a device that was exported with a key: what a session may not do until it has proved that it knows the
 * key. No board, no line, no I/O. docs/LOCK.md says what it protects from, and what not.
 */
#ifndef DT_LOCK_H
#define DT_LOCK_H

#include <stdint.h>

#include "dt_protocol.h"

#define DT_KEY_BYTES 32
#define DT_UNLOCK_TRIES 10     /* wrong proofs in a row, after which the device must restart before it takes another */
#define DT_FOREIGN_REQUESTS 16 /* requests of other sessions that an unlocked one bears: their 16 bits may be guessed */

/* Its fields are the functions' own. */
typedef struct {
    const uint8_t *key;        /* [DT_KEY_BYTES], the caller's; NULL: nothing is ever locked */
    uint32_t entropy;          /* what nobody outside can know of this run, as far as the board has it */
    uint32_t nonce;            /* of the session */
    uint32_t n_challenges;     /* made since the device started */
    uint8_t all_locks;         /* enum dt_locks, of a session that has proved nothing */
    uint8_t locks;             /* of this one */
    uint8_t n_failures;        /* wrong proofs in a row */
    uint8_t n_foreign;         /* requests of other sessions in this one */
    uint8_t has_challenge;     /* one was made and no proof has come yet */
    uint8_t challenge[DT_CHALLENGE_BYTES];
} dt_lock_t;

/* Take the key (which must outlive the lock, or NULL), and what it locks: enum dt_locks. */
void dt_lock_init(dt_lock_t *lock, const uint8_t *key, uint8_t locks, uint32_t entropy);

/* A new session, which begins locked and without a challenge. */
void dt_lock_session(dt_lock_t *lock, uint32_t nonce);

/* A request that is not of this session; too many lock it. */
void dt_lock_foreign(dt_lock_t *lock);

/* The session's challenge; a new one only where the last has been answered, so that a lost reply may be asked again. */
void dt_lock_challenge(dt_lock_t *lock, uint64_t ticks, uint8_t challenge[DT_CHALLENGE_BYTES]);

/* Unlock the session, or DT_ERR_KEY. Right or wrong, the challenge is used up. */
int16_t dt_lock_unlock(dt_lock_t *lock, const uint8_t proof[DT_PROOF_BYTES]);

#endif
