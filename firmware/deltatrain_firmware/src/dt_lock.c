#include "dt_lock.h"

#include <string.h>

#include "dt_hmac.h"

_Static_assert(DT_PROOF_BYTES == DT_HASH_BYTES && DT_CHALLENGE_BYTES <= DT_HASH_BYTES, "both are made by the HMAC");

/* What a challenge is made of. Two are alike only if all of it is. */
typedef struct {
    uint64_t ticks;
    uint32_t nonce, n_challenges, entropy, reserved;
} fresh_t;

/* What a proof answers. */
typedef struct {
    uint8_t challenge[DT_CHALLENGE_BYTES];
    uint32_t nonce;
} question_t;

_Static_assert(sizeof(fresh_t) == 24 && sizeof(question_t) == 20, "no holes, and no challenge is ever a proof");

void dt_lock_init(dt_lock_t *lock, const uint8_t *key, uint8_t locks, uint32_t entropy)
{
    memset(lock, 0, sizeof *lock);
    lock->key = key;
    lock->all_locks = key == NULL ? 0 : locks;
    lock->locks = lock->all_locks;
    lock->entropy = entropy;
}

void dt_lock_session(dt_lock_t *lock, uint32_t nonce)
{
    lock->nonce = nonce;
    lock->locks = lock->all_locks;
    lock->has_challenge = 0;
    lock->n_foreign = 0;
}

void dt_lock_foreign(dt_lock_t *lock)
{
    if (lock->locks != lock->all_locks && ++lock->n_foreign >= DT_FOREIGN_REQUESTS) {
        dt_lock_session(lock, lock->nonce);
    }
}

void dt_lock_challenge(dt_lock_t *lock, uint64_t ticks, uint8_t challenge[DT_CHALLENGE_BYTES])
{
    if (!lock->has_challenge && lock->key != NULL) {
        const fresh_t fresh = {ticks, lock->nonce, lock->n_challenges++, lock->entropy, 0};
        uint8_t mac[DT_HASH_BYTES];
        dt_hmac(lock->key, DT_KEY_BYTES, (const uint8_t *)&fresh, sizeof fresh, mac);
        memcpy(lock->challenge, mac, sizeof lock->challenge);
        lock->has_challenge = 1;
    }
    memcpy(challenge, lock->challenge, sizeof lock->challenge);
}

int16_t dt_lock_unlock(dt_lock_t *lock, const uint8_t proof[DT_PROOF_BYTES])
{
    if (!lock->has_challenge || lock->n_failures >= DT_UNLOCK_TRIES) {
        return DT_ERR_KEY;
    }
    lock->has_challenge = 0;
    question_t question;
    memcpy(question.challenge, lock->challenge, sizeof question.challenge);
    question.nonce = lock->nonce;
    uint8_t right[DT_HASH_BYTES];
    dt_hmac(lock->key, DT_KEY_BYTES, (const uint8_t *)&question, sizeof question, right);
    if (!dt_equal(proof, right, DT_PROOF_BYTES)) {
        lock->n_failures++;
        return DT_ERR_KEY;
    }
    lock->n_failures = 0;
    lock->locks = 0;
    return 0;
}
